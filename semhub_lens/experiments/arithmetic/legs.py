"""Arithmetic: expressions in symbols and in words, and number words in the lens."""

from dataclasses import replace

import torch
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.data.numbers.arithmetic import Expression, number_word, products, sums
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, other_keys, paired_contrast
from semhub_lens.experiments.job import FEW, Job
from semhub_lens.experiments.legs_in_common import (
    NOT_RANDOM,
    LensItems,
    Preference,
    Stacks,
    measure_stacks,
    pair_stacks,
    preference_legs,
    similarity_legs,
)
from semhub_lens.experiments.sampling import sample
from semhub_lens.geometry.measures import cosine_matrix
from semhub_lens.interventions.direction import unembedding
from semhub_lens.lens.trajectories import TrajectoryResult, trajectories

NUMBER_WORDS = Preference(
    data_type="arithmetic",
    control="number words exchanged",
    over_own=("number word over digit", "the lens prefers the English number word over the digit that comes next"),
    over_wrong=("right word over wrong words", "the lens prefers the right number word over other number words"),
    own="digit",
    matched="its number word",
    wrong="other number words",
)
SAME_EXPRESSION = LegText(
    title="the same expression",
    data_type="arithmetic",
    kind="similarity",
    claim="an expression lies closer to its own words than to others",
    control="partners exchanged at random",
    unit="cosine",
    curve_unit="cosine / share",
)
SAME_RESULT = LegText(
    title="another expression of the same result",
    data_type="arithmetic",
    kind="similarity",
    claim="an expression lies closer to words of its result than of another",
    control="results exchanged at random",
    unit="cosine",
    curve_unit="cosine",
)


def run_similarity(job: Job) -> ExperimentResult:
    """Eq. 1 on "3+2" and "three plus two".

    One leg compares the exact pair with other pairs. Another compares expressions of the same result with those of
    other results.
    """
    legs: list[Leg] = []
    for name, every in (("sums", sums()), ("products", products())):
        items = [every[i] for i in sample(len(every), job.n, job.seed)]
        texts = {"symbols": [e.symbols for e in items], "words": [e.words for e in items]}
        provenance = job.provenance(f"generated {name}", texts)
        measured = measure_stacks(job, {f"{name}-{key}": listed for key, listed in texts.items()})["last"]
        stacks = pair_stacks(
            job.model, measured, f"{name}-symbols", f"{name}-words", {f"{name}-{k}": v for k, v in texts.items()}
        )
        text = replace(SAME_EXPRESSION, title=f"{name}: {SAME_EXPRESSION.title}")
        legs += similarity_legs(stacks, text, provenance, job.seed, labels=texts["symbols"])
        if (other := _same_result(name, items, stacks, provenance, job.seed)) is not None:
            legs.append(other)
    notes = (
        "Expressions that share an operand share words and digits: only the second leg of each kind is free of the "
        "exact overlap.",
    )
    return ExperimentResult(
        "arithmetic.similarity", "symbols against words", tuple(legs), notes, provenance=legs[0].provenance
    )


def _same_result(name: str, items: list[Expression], stacks: Stacks, provenance: Provenance, seed: int) -> Leg | None:
    """Other expressions of the same result (without the exact pairs), compared with those of different results."""
    results = torch.tensor([e.result for e in items])
    same = results[:, None] == results[None]
    exact = torch.eye(len(items), dtype=torch.bool)
    paired = (same & ~exact).any(1)
    if int(paired.sum()) < FEWEST_ITEMS:
        return None
    values = results[paired].unique()
    key = torch.searchsorted(values, results[paired])

    def contrast(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        matrix = cosine_matrix(a, b)
        others = torch.stack(
            [mean_where(matrix[:, paired], (results == value)[None] & ~exact[paired]) for value in values], -1
        )
        return others, mean_where(matrix, ~same)[:, paired], matrix

    others, different, matrix = contrast(stacks.a, stacks.b)
    effect, draw = paired_contrast(others, key, different)
    controls = {}
    if stacks.random is not None:
        random_others, random_different, _ = contrast(*stacks.random)
        controls["beyond random weights"] = effect - paired_contrast(random_others, key, random_different)[0]
    return make_leg(
        effect,
        draw,
        replace(SAME_RESULT, title=f"{name}: {SAME_RESULT.title}"),
        provenance=provenance,
        seed=seed,
        curves={
            "exact pair": matrix[:, exact].mean(1),
            "same result": mean_where(matrix, same & ~exact).nanmean(1),
            "different result": mean_where(matrix, ~same).mean(1),
        },
        controls=controls,
        labels=[e.symbols for e, chosen in zip(items, paired.tolist(), strict=True) if chosen],
    )


def mean_where(matrix: Tensor, mask: Tensor) -> Tensor:
    """Mean of each row's masked entries, `[layer item]`; NaN where a row has none."""
    return (matrix * mask).sum(-1) / mask.sum(-1)


def run_logit_lens(job: Job) -> ExperimentResult:
    """Eq. 2 on "5=3+": does the lens prefer the number word " two" to the digit "2", and to other number words?"""
    every = [*sums(), *products()] if job.paper else sums()
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    prompts = [f"{e.result}={e.first}{e.sign}" for e in items]
    key = torch.tensor([e.second - 1 for e in items])

    def measure(on: Job) -> LensItems:
        space, variants = (" ", "exact") if job.paper else ("", "all")
        words = [space + number_word(number) for number in range(1, 10)]
        log_probs = on.compared("missing", prompts, [[str(e.second)] for e in items], common=words, variants=variants)
        return LensItems(log_probs[..., 0], log_probs[..., 1:], key)

    provenance = job.provenance("generated sums and products" if job.paper else "generated sums", prompts, lens=FEW)
    random = measure(job.random()) if job.baseline else None
    labels = [f"{prompt}{e.second}" for prompt, e in zip(prompts, items, strict=True)]
    legs = preference_legs(measure(job), NUMBER_WORDS, provenance, job.seed, random=random, labels=labels)
    notes = ("The lens can prefer the right answer's word only where the model can add: compare the digit's curve.",)
    return ExperimentResult(
        "arithmetic.logit_lens", f"{len(items)} sums with the answer missing", legs, notes, provenance=provenance
    )


def run_trajectories(job: Job) -> ExperimentResult:
    """The path of the last state of "5=3+" through the layers, among the unembedding rows of digits and number words.

    Is it nearer to the right number word than to the wrong ones, and to the right digit than to the wrong ones?
    """
    every = sums()
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    prompts = [f"{e.result}={e.first}+" for e in items]
    labels = [f"{prompt}{e.second}" for prompt, e in zip(prompts, items, strict=True)]
    key = torch.tensor([e.second for e in items])
    provenance = job.provenance("generated sums", prompts)
    paths = _paths(job, prompts, labels, provenance)
    random = _paths(job.random(), prompts, labels, provenance) if job.baseline else None
    legs = []
    for name, rows in (("number word", slice(10, 20)), ("digit", slice(0, 10))):
        matrix = paths.cosine[..., rows]
        effect, draw = paired_contrast(matrix, key, other_keys(matrix, key))
        placebos = {}
        if random is not None:
            noise = random.cosine[..., rows]
            placebos[NOT_RANDOM] = paired_contrast(noise, key, other_keys(noise, key))
        text = LegText(
            title=f"nearer to the right {name}",
            data_type="arithmetic",
            kind="readability",
            claim=f"the state points more to the unembedding of the right {name} than of wrong ones",
            control=f"{name}s exchanged",
            unit="cosine",
            curve_unit="cosine with the unembedding",
        )
        curves = {
            f"right {name}": matrix[:, torch.arange(len(items)), key].mean(1),
            f"wrong {name}s": other_keys(matrix, key).mean(1),
        }
        legs.append(
            make_leg(
                effect,
                draw,
                text,
                provenance=provenance,
                seed=job.seed,
                curves=curves,
                placebos=placebos,
                labels=labels,
            )
        )
    notes = (
        "States (after the final norm) and anchors are unit vectors: the reference code scales only the states.",
        "The figure of the paths shows two dimensions of the states. The legs use all dimensions.",
    )
    title = f"paths of {len(items)} sums through the layers"
    return ExperimentResult("arithmetic.trajectories", title, tuple(legs), notes, (paths,), provenance=provenance)


def _paths(job: Job, prompts: list[str], labels: list[str], provenance: Provenance) -> TrajectoryResult:
    states = replace(job, settings=replace(job.settings, convention="corrected")).states(
        "paths", prompts
    )  # normed once, below
    names = [*map(str, range(10)), *(" " + number_word(number) for number in range(10))]
    rows = torch.stack([unembedding(job.model, name) for name in names])
    return trajectories(
        job.readout.normed(states).detach().float().cpu(),
        rows,
        anchor_names=[n.strip() for n in names],
        labels=labels,
        provenance=provenance,
    )
