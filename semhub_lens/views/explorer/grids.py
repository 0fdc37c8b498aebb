"""Other grids of numbers in the explorer's page: patches, cosines, sweeps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.results import Result, drawn, shows
from semhub_lens.base.shown_text import harmless
from semhub_lens.geometry.cosine import CosineResult
from semhub_lens.interventions.patch_results import ApproximatePatchResult, PatchResult
from semhub_lens.interventions.sweep_result import SweepResult
from semhub_lens.views.explorer.code import code_of_saved
from semhub_lens.views.explorer.packing import base64_of
from semhub_lens.views.explorer.page import whole
from semhub_lens.views.explorer.view import AROUND, ROW, TALLEST, View
from semhub_lens.views.patching import effects
from semhub_lens.views.scale import reach
from semhub_lens.views.stills import figure_still
from semhub_lens.views.style import number
from semhub_lens.views.sweep import change_reach

APPROXIMATE = "Extrapolated from gradients, not measured. "
ABOUT_PATCH = (
    "A cell is what the metric becomes when this place of the corrupted run gets the clean run's activation: 0 is the "
    "corrupted run, 1 the clean one. It shows what suffices at one place, not what the model uses."
)
ABOUT_COSINE = (
    "A cell is the cosine of the residual state with a reference state. Residual states all point in similar "
    "directions, so a high cosine alone shows little: compare with unrelated references."
)
ABOUT_SWEEP = (
    "A cell is the mean change from the clean run over the items, at one layer and strength of the intervention."
)


@checked
def grid_view(result: PatchResult | CosineResult | SweepResult) -> View:
    """The page of a grid.

    Example:
        >>> from semhub_lens.views.explorer.grids import grid_view
        >>> difference = shl.metric.logit_difference(tiny_model, " two", " five")
        >>> grid = shl.patch_grid(tiny_model, "three plus two", "five plus two", difference, progress=False)
        >>> grid_view(grid).title
        'Activation patching: resid_pre'
    """
    if isinstance(result, PatchResult):
        packed = _patches(result)
    else:
        packed = _cosines(result) if isinstance(result, CosineResult) else _sweep(result)
    height = min(AROUND + 94 + ROW * packed["layers"], TALLEST)
    page = whole(packed["title"], packed, code_of_saved("grid"))
    return View(packed["title"], page, f"{packed['title']}: {packed['size']}", height)


@shows(SweepResult)
@shows(CosineResult)
@shows(ApproximatePatchResult)
@shows(PatchResult)
def shown_grid(result: PatchResult | CosineResult | SweepResult) -> dict[str, str]:
    """A notebook's output for a grid."""
    view = grid_view(result)
    text = f'{view.text}\nNext: write_html(result, "grid.html") for the page, .to_frame() for the numbers, .save(path)'
    picture = figure_still(drawn(result))
    return {"text/html": view.frame(), "image/svg+xml": picture, "text/plain": text}


def _packed(
    title: str,
    about: str,
    result: Result,
    quantities: Sequence[dict[str, Any]],
    *,
    row: str,
    rows: Sequence[str],
    column: str,
    labels: Sequence[str],
    places: Sequence[str] = (),
    under: Sequence[str] | None = None,
    sheet: str = "",
    sheets: Sequence[str] = ("",),
    families: Sequence[str] = (),
) -> dict[str, Any]:
    several = " and ".join(f"{name}s" for name in sheet.split(" and "))
    first = f" × {len(sheets)} {several}" if len(sheets) > 1 else ""
    return {
        "title": harmless(title),
        "about": about,
        "note": harmless(result.provenance.line()),
        "size": f"{len(rows)} {row}s × {len(labels)} columns{first}",
        "row": row,
        "rows": [harmless(name) for name in rows],
        "column": column,
        "labels": [harmless(label) for label in labels],
        "places": list(places),
        "under": None if under is None else [harmless(label) for label in under],
        "sheet_name": sheet,
        "sheets": [harmless(name) for name in sheets],
        "families": [harmless(name) for name in families or [""] * len(sheets)],
        "layers": len(rows),
        "positions": len(labels),
        "quantities": quantities,
        "colour": quantities[0]["name"],
    }


def _quantity(
    name: str, label: str, values: Tensor, words: str = "", full: Sequence[float] = (), unit: str = ""
) -> dict[str, Any]:
    """Numbers [sheet layer pos]; `full` is the value of every sheet's strongest colour."""
    held = base64_of(values.float().contiguous().numpy())
    return {"name": name, "label": harmless(label), "unit": unit, "values": held, "words": words, "full": list(full)}


def _patches(result: PatchResult) -> dict[str, Any]:
    by_head = result.axes == ("layer", "head")
    per_head = result.axes == ("layer", "pos", "head")
    values, shown = (one.permute(2, 0, 1) if per_head else one[None] for one in (result.values, effects(result)[1]))
    layers, columns = values.shape[1:]
    label, _, full = effects(result)
    told = "blue: further from the clean run than the corrupted one, amber: towards the clean run (1)"
    words = "blue is less, amber is more" if label == "effect" else told
    strongest = _quantity(label.split()[0], label, shown, words, [full] * len(values))
    labels = [f"head {i}" for i in range(columns)] if by_head else list(result.labels)
    pairs = zip(result.labels, result.clean_labels, strict=True)
    under = [clean if clean != corrupted else "" for corrupted, clean in pairs]
    places = [f"position {b}" if a == b else f"position {b} from {a}" for a, b in result.positions]
    return _packed(
        f"{result.method}: {result.site}",
        (APPROXIMATE if isinstance(result, ApproximatePatchResult) else "") + ABOUT_PATCH,
        result,
        [strongest, _quantity("metric", result.metric, values)],
        row="block",
        rows=[str(i) for i in range(layers)],
        column="head" if by_head else "input",
        labels=labels,
        places=[""] * columns if by_head else places,
        under=under if not by_head and any(under) else None,
        sheet="head" if per_head else "",
        sheets=[f"head {i}" for i in range(len(values))] if per_head else [""],
    )


def _cosines(result: CosineResult) -> dict[str, Any]:
    layers, positions, _ = result.cosine.shape
    words = "blue points away from the reference, amber towards it"
    full = [reach(result.cosine, most=1.0)] * len(result.names)
    return _packed(
        "Cosine with reference states",
        ABOUT_COSINE,
        result,
        [_quantity("cosine", "cosine", result.cosine.permute(2, 0, 1), words, full)],
        row="layer",
        rows=["emb", *(str(i) for i in range(1, layers))],
        column="position",
        labels=[str(i) for i in range(positions)],
        places=[""] * positions,
        sheet="reference",
        sheets=result.names,
    )


def _sweep(result: SweepResult) -> dict[str, Any]:
    scores = list(dict.fromkeys([*(result.effects or result.names), *result.damage]))
    pairs = [(score, condition) for score in scores for condition in result.conditions]
    means = torch.stack([result.effect(score, condition).nanmean(-1) for score, condition in pairs])
    full = [change_reach(result, score) for score, _ in pairs]
    return _packed(
        "Steering sweep",
        ABOUT_SWEEP,
        result,
        [_quantity("change", "change from clean", means, "blue is less, amber is more", full)],
        row="layer",
        rows=[str(layer) for layer in result.layers],
        column="strength",
        labels=[number(strength, "g") for strength in result.strengths],
        places=[""] * len(result.strengths),
        sheet="score and condition",
        sheets=[f"{score}: {condition}" for score, condition in pairs],
        families=[score for score, _ in pairs],
    )
