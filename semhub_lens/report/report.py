"""The hub report: every experiment of the library on one model, as one offline page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from plotly.offline import get_plotlyjs
from tqdm.auto import tqdm

from semhub_lens import experiments
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_folder
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.segments import squared
from semhub_lens.data.media.sounds import bundled_sounds
from semhub_lens.evidence.legs import ExperimentResult, Leg
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.lens.logit_lens import logit_lens
from semhub_lens.model.facts import Model
from semhub_lens.model.untrained import untrained
from semhub_lens.spokes import fitting
from semhub_lens.views.figure import figure
from semhub_lens.views.media_maps import picture_map
from semhub_lens.views.page import write_page
from semhub_lens.views.style import FONT, VERDICT_COLOURS

SHOWN = "dog"
SEEN, HEARD = "<image> This is a picture of a", "<audio> The word is"
LENS_PROMPTS = ("El color del cielo es", "苹果是一种水果，天空的颜色是")
UNREAD = "{names}: not run, because {reason}."
INTERVENING = (".steering", ".patching")
"""How the ids of experiments end that change states: a grid of runs for each item."""
LONG = "Causality, {names}: not run here, because a sweep takes some minutes; semhub report --steering includes them."


def report(
    model: Model,
    path: str | Path = "semhub_report.html",
    *,
    n: int | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    steering: bool = False,
    runs: str | Path | None = None,
    readers: Sequence[MediaReader] | None = None,
    progress: bool = True,
) -> tuple[Path, list[ExperimentResult]]:
    """Run the experiments on a model and write the page.

    Args:
        model: any TransformerLens model with a tokenizer.
        path: the HTML file; it appears only when complete and needs no network.
        n: items per experiment; None takes each experiment's default.
        seed: for items, bootstrap, nulls and splits.
        only: ids of experiments; None runs all but those that intervene, on pictures and sound where a reader is there.
        steering: run the steering sweeps and `vision.patching` as well, up to ten minutes each on two cores.
        runs: folder of saved runs: finished ones there are read, killed ones go on; None keeps nothing.
        readers: what reads pictures and sound; None takes the packaged spokes of the model (extras `vision`, `audio`).
        progress: show progress bars.

    Returns:
        The page's path and the results.

    Raises:
        SemhubError: unknown experiment, too few items, or a path whose folder cannot be written.
    """
    default = [name for name in experiments.EXPERIMENTS if steering or not name.endswith(INTERVENING)]
    chosen = default if only is None else list(only)
    unknown = [name for name in chosen if name not in experiments.EXPERIMENTS]
    if unknown or not chosen:
        raise SemhubError(
            f"Unknown experiments {unknown or '(empty list)'}; there are {', '.join(experiments.EXPERIMENTS)}."
        )
    require_folder(Path(path).parent)
    given, missing = fitting(model) if readers is None else ({reader.modality: reader for reader in readers}, {})
    unread = experiments.unreadable([experiments.EXPERIMENTS[name] for name in chosen], given, missing)
    if only is not None and unread:
        raise SemhubError(" ".join(UNREAD.format(names=name, reason=reason) for name, reason in unread.items()))
    begun = time.time()
    lenses = [figure(logit_lens(model, prompt, progress=False)) for prompt in LENS_PROMPTS]
    glimpses = [drawn for reader in given.values() for drawn in glimpse(model, reader)]
    random = untrained(model, seed=seed)
    found = []
    able = [name for name in chosen if name not in unread]
    for name in (bar := tqdm(able, desc="report", unit="experiment", disable=not progress)):
        bar.set_postfix_str(name)
        reader = given.get(experiments.EXPERIMENTS[name].modality)
        result = experiments.run(
            name, model, n=n, seed=seed, baseline=random, out=runs, reader=reader, progress=progress
        )
        found.append(result)
    page = render(found, lenses, time.time() - begun, glimpses=glimpses, unread=unread)
    return write_page(page, path), found


def render(
    found: Sequence[ExperimentResult],
    lenses: Sequence[go.Figure],
    seconds: float,
    *,
    glimpses: Sequence[go.Figure] = (),
    unread: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page as HTML.

    Args:
        found: results of experiments, at least one.
        lenses: the lens on some texts.
        seconds: how long measuring took.
        glimpses: the lens on a picture and a sound.
        unread: experiments on pictures or sound that were not run, and why.
    """
    legs = [leg for result in found for leg in result.legs]
    statuses = [leg.verdict.status for leg in legs]
    environment = Environment(
        loader=PackageLoader("semhub_lens.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    provenance = found[0].provenance
    settings = [
        (name.replace("_", " "), value)
        for name, value in asdict(provenance).items()
        if name not in ("data", "data_hash")
    ]
    return environment.get_template("report.html").render(
        model=provenance.model,
        font=FONT,
        plotly=get_plotlyjs(),
        supported=statuses.count("supported"),
        opposite=statuses.count("opposite"),
        total=len(legs),
        cards=_cards(legs),
        rows=[_row(result.id, leg) for result in found for leg in result.legs],
        missing=_missing(found, unread),
        lenses=[_drawn(lens) for lens in lenses],
        glimpses=[_drawn(drawn) for drawn in glimpses],
        parts=[_part(result) for result in found],
        settings=[*settings, ("measuring took", f"{seconds:.0f} s")],
    )


def _missing(found: Sequence[ExperimentResult], unread: Mapping[str, str]) -> list[str]:
    """What the page does not hold, and why."""
    ids = {result.id for result in found}
    left = [name for name in experiments.EXPERIMENTS if name.endswith(INTERVENING) and name not in {*ids, *unread}]
    lines = [LONG.format(names=", ".join(left))] if left else []
    for reason in dict.fromkeys(unread.values()):
        names = [name for name, why in unread.items() if why == reason]
        lines.append(UNREAD.format(names=", ".join(names), reason=reason.rstrip(".")))
    return lines


def glimpse(model: Model, reader: MediaReader) -> list[go.Figure]:
    """The lens on one bundled picture or clip, as a picture map where its positions form a grid."""
    if reader.modality == "audio":
        sound = next(item for item in bundled_sounds() if item.concept == SHOWN)
        return [figure(logit_lens(model, reader.prompt(HEARD, sound.open()), progress=False))]
    picture = squared(next(item for item in bundled_pictures() if item.concept == SHOWN).open())
    prompt = reader.prompt(SEEN, picture)
    lens = logit_lens(model, prompt, progress=False)
    return [*(picture_map(lens, picture, tile) for tile in prompt.tiles if tile.whole), figure(lens)]


def _drawn(drawn: go.Figure) -> str:
    return drawn.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})


def _cards(legs: Sequence[Leg]) -> list[dict[str, Any]]:
    cards = []
    for data_type in dict.fromkeys(leg.wording.data_type for leg in legs):
        lines = []
        for kind in dict.fromkeys(leg.wording.kind for leg in legs if leg.wording.data_type == data_type):
            chosen = [leg for leg in legs if (leg.wording.data_type, leg.wording.kind) == (data_type, kind)]
            held = [leg for leg in chosen if leg.verdict.status == "supported"]
            layers = sorted({leg.layer for leg in held})
            at_layers = (
                f", at layers {layers[0]}-{layers[-1]}"
                if len(layers) > 1
                else f", at layer {layers[0]}"
                if layers
                else ""
            )
            lines.append(f"{kind}: {len(held)} of {len(chosen)} supported{at_layers}")
        cards.append({"data_type": data_type, "lines": lines})
    return cards


def _row(experiment: str, leg: Leg) -> dict[str, Any]:
    found = leg.verdict
    return {
        "experiment": experiment,
        "title": leg.title,
        "status": found.status,
        "colour": VERDICT_COLOURS[found.status],
        "estimate": _number(found.estimate),
        "interval": f"{_number(found.low)} to {_number(found.high)}",
        "threshold": _number(found.threshold),
        "layer": leg.layer if leg.strength is None else f"{leg.layer}, strength {leg.strength:g}",
        "embedding": "" if leg.strengths else _number(float(leg.mean[0])),
        "holds": "; ".join(check.name for check in leg.checks if check.holds),
        "held": f"{sum(check.holds for check in leg.checks)} of {len(leg.checks)}" if leg.checks else "",
        "fails": "; ".join(check.name for check in leg.checks if not check.holds),
        "unit": leg.wording.unit,
        "count": found.items,
    }


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _part(result: ExperimentResult) -> dict[str, Any]:
    claims = dict.fromkeys(
        f"A positive effect means: {leg.wording.claim}. Null: {leg.wording.control}." for leg in result.legs
    )
    return {
        "id": result.id,
        "title": result.title,
        "claims": claims,
        "figure": "".join(_drawn(figure(shown)) for shown in (result, *result.extras)),
        "notes": result.notes,
    }
