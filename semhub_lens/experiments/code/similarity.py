"""Code: programs and their instructions in words."""

from collections.abc import Sequence
from dataclasses import replace

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.files import user_path
from semhub_lens.data.code.instructions import InstructionPair, instruction_pairs, read_human_eval, read_mbpp
from semhub_lens.data.code.renaming import rename_shared
from semhub_lens.data.code.source_files import source_id
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.legs_in_common import MeasuredStates, measure_stacks, pair_stacks, similarity_legs
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.tokens import encode
from semhub_lens.model.facts import Model

LONGEST_PROGRAM = 96
"""Tokens."""
HUMAN_EVAL = "human_eval"
LEGS = (
    ("program", "mean", (False, True), "mean over tokens"),
    ("renamed", "mean", (True,), "shared names renamed, mean over tokens"),
    ("program", "last", (False,), "last token"),
)
"""Which program, how it is read, whether states are raw or mean-centred, and the title."""
SIMILARITY = LegText(
    title="",
    data_type="code",
    kind="similarity",
    claim="a program lies closer to its own instruction than to others",
    control="partners exchanged at random",
    unit="cosine",
    curve_unit="cosine / share",
)


def run_similarity(job: Job) -> ExperimentResult:
    """Eq. 1 on programs and their instructions: is a program closer to its own instruction than to others?

    In one leg, all names in the program that share a word with the instruction are replaced.
    """
    every, corpus = read_pairs(job.data)
    short = short_programs(job.model, every)
    pairs = [short[i] for i in sample(len(short), job.n, job.seed)]
    texts = {
        "instruction": [pair.instruction for pair in pairs],
        "program": [pair.program for pair in pairs],
        "renamed": [rename_shared(pair.program, pair.instruction) for pair in pairs],
    }
    provenance = job.provenance(corpus, texts)
    measured: dict[str, dict[str, MeasuredStates]] = {"mean": {}, "last": {}}
    for name in ("instruction", "program") if job.paper else texts:
        every_read = measure_stacks(job, {name: texts[name]}, ("mean",) if name == "renamed" else ("mean", "last"))
        for read, states in every_read.items():
            measured[read].update(states)
    legs: list[Leg] = []
    for program, read, centred, title in LEGS[-1:] if job.paper else LEGS:
        stacks = pair_stacks(job.model, measured[read], "instruction", program, texts)
        text, labels = replace(SIMILARITY, title=title), texts["instruction"]
        legs += similarity_legs(stacks, text, provenance, job.seed, labels=labels, centred=centred)
    changed = sum(a != b for a, b in zip(texts["program"], texts["renamed"], strict=True))
    notes = (
        f"{len(pairs)} of {len(short)} programs of up to {LONGEST_PROGRAM} tokens; {len(every) - len(short)} longer.",
        f"{changed} programs have names that share a word with their instruction. Renaming keeps keywords and "
        "synonyms, so a renamed program may still share words with its instruction.",
    )
    return ExperimentResult(
        "code.similarity", f"{len(pairs)} programs and instructions", tuple(legs), notes, provenance=provenance
    )


def read_pairs(data: str | None) -> tuple[list[InstructionPair], str]:
    """Programs with instructions, and the corpus's name.

    `data` is a folder of Python files (functions with a docstring), MBPP (a .jsonl file or a folder with one), or
    "human_eval". None takes the standard library. Functions with comments are left out: comments are natural language.

    Raises:
        SemhubError: `data` is none of these, or contains no pair.
    """
    if data is None:
        return instruction_pairs(comments=False), source_id()
    if data == HUMAN_EVAL:
        return read_human_eval(), "HumanEval"
    path = user_path(data)
    if path.suffix == ".jsonl" or (path.is_dir() and any(path.glob("*.jsonl"))):
        return read_mbpp(path), f"MBPP in {data}"
    if path.is_dir() and any(path.glob("*.py")):
        return instruction_pairs(path, comments=False), f"Python files in {data}"
    raise SemhubError(
        f"Cannot read programs from {data!r}: expected a folder with Python files (*.py), MBPP as a .jsonl file or a "
        f"folder with one, or {HUMAN_EVAL!r}."
    )


def short_programs(model: Model, pairs: Sequence[InstructionPair]) -> list[InstructionPair]:
    """The pairs whose program has at most `LONGEST_PROGRAM` tokens.

    Raises:
        Unfit: too few of them.
    """
    short = [pair for pair in pairs if len(encode(model.tokenizer, pair.program)) <= LONGEST_PROGRAM]
    if len(short) < FEWEST_ITEMS:
        raise Unfit(
            f"Only {len(short)} of {len(pairs)} programs have at most {LONGEST_PROGRAM} tokens, at least "
            f"{FEWEST_ITEMS} are needed; give more or shorter ones."
        )
    return short
