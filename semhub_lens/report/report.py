"""The hub report: every experiment of the library on one model, as one offline page."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_folder, user_path
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.segments import squared
from semhub_lens.data.media.sounds import bundled_sounds
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.verdict_row import VerdictRow
from semhub_lens.experiments.registry import EXPERIMENTS
from semhub_lens.inputs.modalities import AUDIO, IMAGE, modality_of
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.lens.logit_lens import LensResult, logit_lens
from semhub_lens.model.facts import Model
from semhub_lens.report.orchestration import INTERVENING, Plan, choose, reasons
from semhub_lens.report.templates import filled
from semhub_lens.views.explorer.page import shown
from semhub_lens.views.explorer.view import View
from semhub_lens.views.figure import figure
from semhub_lens.views.media_maps import picture_map
from semhub_lens.views.page import write_page
from semhub_lens.views.style import FONT, VERDICT_COLOURS

SHOWN = {
    IMAGE.name: lambda: squared(next(item for item in bundled_pictures() if item.concept == "dog").open()),
    AUDIO.name: lambda: next(item for item in bundled_sounds() if item.concept == "dog").open(),
}
"""A bundled item of each modality, for the page's glimpse."""
LENS_PROMPTS = ("El color del cielo es", "苹果是一种水果，天空的颜色是")
Shown = go.Figure | View | LensResult
LONG = "{names}: not measured here. A sweep takes some minutes; semhub report --steering includes them."


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
        SemhubError: an unknown experiment, one of `only` that nothing reads, no experiment that fits, or a path whose
            folder cannot be written.
    """
    chosen = choose(only, steering=steering)
    require_folder(user_path(path).parent)
    plan = Plan.of(str(model.cfg.model_name), model, chosen, readers)
    if only is not None and plan.unreadable:
        raise SemhubError(" ".join(reasons(plan.unreadable)))
    begun = time.time()
    lenses = [logit_lens(model, prompt, progress=False) for prompt in LENS_PROMPTS]
    glimpses = [drawn for reader in plan.readers.values() for drawn in glimpse(model, reader)]
    measured = plan.run(n=n, seed=seed, out=runs, progress=progress)
    page = render(measured.results, lenses, time.time() - begun, glimpses=glimpses, unmeasured=measured.unmeasured)
    return write_page(page, path), measured.results


def render(
    results: Sequence[ExperimentResult],
    lenses: Sequence[Shown],
    seconds: float,
    *,
    glimpses: Sequence[Shown] = (),
    unmeasured: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The page as HTML.

    Args:
        results: of experiments, at least one.
        lenses: the lens on some texts.
        seconds: how long measuring took.
        glimpses: the lens on a picture and a sound.
        unmeasured: ids of experiments without a result, and why.
    """
    rows = [row for result in results for row in result.rows()]
    settings = {name.replace("_", " "): value for name, value in asdict(results[0].provenance).items()}
    del settings["data"], settings["data hash"]
    return filled(
        "report.html",
        model=results[0].provenance.model,
        font=FONT,
        plotly=get_plotlyjs(),
        cards=_cards(rows),
        rows=rows,
        colours=VERDICT_COLOURS,
        missing=_missing(results, unmeasured),
        lenses=[_drawn(lens) for lens in lenses],
        glimpses=[_drawn(drawn) for drawn in glimpses],
        parts=[_part(result) for result in results],
        intervened=any(result.id.endswith(INTERVENING) for result in results),
        settings=settings | {"measuring took": f"{seconds:.0f} s"},
    )


def _missing(results: Sequence[ExperimentResult], unmeasured: Mapping[str, str]) -> list[str]:
    """What the page does not hold, and why."""
    known = {*unmeasured, *(result.id for result in results)}
    left = [name for name in EXPERIMENTS if name.endswith(INTERVENING) and name not in known]
    return [*([LONG.format(names=", ".join(left))] if left else []), *reasons(unmeasured)]


def glimpse(model: Model, reader: MediaReader) -> list[Shown]:
    """The lens on one bundled picture or clip, over the picture where its positions form a grid."""
    media = SHOWN[reader.modality]()
    prompt = reader.prompt(modality_of(reader.modality).question, media)
    lens = logit_lens(model, prompt, progress=False)
    tiles = [tile for tile in prompt.tiles if tile.whole]
    return [picture_map(lens, [media] * len(tiles), tiles)] if tiles else [lens]


def _drawn(drawn: Shown) -> str:
    if isinstance(drawn, LensResult):
        return shown(drawn)["text/html"]
    if isinstance(drawn, View):
        return drawn.frame()
    return drawn.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})


def _cards(rows: Sequence[VerdictRow]) -> dict[str, list[str]]:
    """For each data type a line for each kind of evidence."""
    grouped: dict[str, dict[str, list[VerdictRow]]] = {}
    for row in rows:
        grouped.setdefault(row.data_type, {}).setdefault(row.kind, []).append(row)
    return {name: [_line(kind, alike) for kind, alike in kinds.items()] for name, kinds in grouped.items()}


def _line(kind: str, rows: Sequence[VerdictRow]) -> str:
    layers = sorted({row.layer for row in rows if row.status == "supported"})
    ends = dict.fromkeys([*layers[:1], *layers[-1:]])
    at = f", at layer{'s' * (len(ends) > 1)} {'-'.join(map(str, ends))}" if layers else ""
    return f"{kind}: {sum(row.status == 'supported' for row in rows)} of {len(rows)} supported{at}"


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
