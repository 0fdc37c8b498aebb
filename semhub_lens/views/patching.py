"""The heat map of a patching grid: layers x tokens (or heads), coloured by the normalised effect."""

import math

import plotly.graph_objects as go
from torch import Tensor

from semhub_lens.base.results import draws
from semhub_lens.interventions.patch_results import PatchResult
from semhub_lens.views.lens import short
from semhub_lens.views.scale import UNKNOWN, diverging, reach
from semhub_lens.views.style import MONO, WIDEST, escape, finish, named, number

CELL_WIDTH, CELL_HEIGHT = 44, 22


def effects(result: PatchResult) -> tuple[str, Tensor, float]:
    """What the colours show: its name, its values, and the value of the strongest colour.

    Where the clean and the corrupted run score the same, no share of their difference exists, and the effect is shown.
    """
    if result.clean == result.corrupted:
        return "effect", result.effect, reach(result.effect)
    return "normalised effect", result.normalised, reach(result.normalised, most=1.0)


@draws(PatchResult)
def patch_figure(result: PatchResult) -> go.Figure:
    """Heat map of a `PatchResult`; with heads and positions, buttons choose the head, and all heads share one scale."""
    (name, shown, full), values = effects(result), result.values
    per_head = result.axes == ("layer", "pos", "head")
    views = [(shown[..., i], values[..., i]) for i in range(values.shape[-1])] if per_head else [(shown, values)]
    layers, columns = views[0][0].shape
    figure = go.Figure(
        go.Heatmap(
            z=views[0][0].tolist(),
            customdata=_hover(result, views[0][1]),
            x=list(range(columns)),
            y=list(range(layers)),
            xgap=1,
            ygap=1,
            hovertemplate=f"%{{customdata}}<br>{name} %{{z:.3g}}<extra></extra>",
            **diverging(full, "effect"),
        )
    )
    ends = "" if name == "effect" else " (0 = corrupted, 1 = clean)"
    title = f"{result.method}: {result.site}, {result.metric}{ends}"
    finish(
        figure,
        title=title,
        note=result.provenance.line(),
        width=max(760, 190 + CELL_WIDTH * columns),
        height=230 + CELL_HEIGHT * layers,
        top=95 if per_head else 70,
        bottom=120,
    )
    figure.update_layout(plot_bgcolor=UNKNOWN)
    if per_head:
        figure.update_layout(updatemenus=[_head_buttons(result, views, title)], title_text=named(title, "head 0"))
    by_head = result.axes == ("layer", "head")
    ticks = [f"{i}" for i in range(columns)] if by_head else [_tick(result, i) for i in range(columns)]
    step = math.ceil(CELL_WIDTH * columns / WIDEST)
    figure.update_xaxes(
        tickvals=list(range(0, columns, step)),
        ticktext=ticks[::step],
        title="head" if by_head else "token of the corrupted prompt (below it the clean one, where it differs)",
        tickfont={"family": MONO, "size": 11},
        showgrid=False,
    )
    figure.update_yaxes(title="block", showgrid=False)
    return figure


def _tick(result: PatchResult, column: int) -> str:
    corrupted, clean = (escape(short(side[column])) for side in (result.labels, result.clean_labels))
    return corrupted if corrupted == clean else f"{corrupted}<br>{clean}"


def _hover(result: PatchResult, values: Tensor) -> list[list[str]]:
    tokens = [
        f"position {corrupted}: {escape(label)} ← {escape(clean_label)} (position {clean})"
        for (clean, corrupted), label, clean_label in zip(
            result.positions, result.labels, result.clean_labels, strict=True
        )
    ]
    names = [f"head {i}, all positions" for i in range(values.shape[1])] if result.axes == ("layer", "head") else tokens
    metric = escape(result.metric)
    return [
        [
            f"<b>block {layer}, {name}</b><br>{metric} {number(value, '.4g')}"
            for name, value in zip(names, row, strict=True)
        ]
        for layer, row in enumerate(values.tolist())
    ]


def _head_buttons(result: PatchResult, views: list[tuple[Tensor, Tensor]], title: str) -> dict:
    buttons = [
        {
            "label": f"head {i}",
            "method": "update",
            "args": [
                {"z": [z.tolist()], "customdata": [_hover(result, values)]},
                {"title.text": named(title, f"head {i}")},
            ],
        }
        for i, (z, values) in enumerate(views)
    ]
    return {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
