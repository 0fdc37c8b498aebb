"""Two reports side by side: effects of both models over depth, and their difference over the same items."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from semhub_lens.base.results import draws
from semhub_lens.evidence.comparison import LegComparison, ReportComparison
from semhub_lens.views.style import INK, NULL_COLOUR, PALETTE, band, escape, finish

COLUMNS, ROW, TOP, BOTTOM = 3, 330, 50, 100
"""Panels in a row; pixels of a row, and of the margins."""
LATER = 0.12
"""Axes in nats are scaled to the data from this depth on: lenses of the first layers differ by hundreds of nats."""


@draws(ReportComparison)
def comparison_figure(result: ReportComparison) -> go.Figure:
    """Every leg of both reports."""
    title = f"{result.names[0]} beside {result.names[1]}"
    return compared_figure(result.legs, result.names, title, result.provenance.line())


def compared_figure(
    legs: Sequence[LegComparison], names: tuple[str, str], title: str = "", note: str = ""
) -> go.Figure:
    """One panel per leg: both effects with intervals over depth, dotted lines at chosen layers, and the difference."""
    columns = min(COLUMNS, len(legs))
    rows = math.ceil(len(legs) / columns)
    titles = ["<br>".join(textwrap.wrap(escape(leg.rows[0].title), 44)) for leg in legs]
    plot = ROW * rows
    figure = make_subplots(
        rows, columns, subplot_titles=titles, vertical_spacing=86 / plot if rows > 1 else 0, horizontal_spacing=0.06
    )
    figure.update_annotations(font_size=12)
    for i, leg in enumerate(legs):
        row, column = divmod(i, columns)
        _panel(figure, leg, names, {"row": row + 1, "col": column + 1})
    top = TOP + 40 * bool(title)
    finish(figure, title=title, note=note, height=plot + top + BOTTOM, top=top, bottom=BOTTOM)
    figure.update_xaxes(range=[-0.02, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], showticklabels=True)
    figure.update_xaxes(title="depth", row=rows)
    return figure


def _panel(figure: go.Figure, leg: LegComparison, names: tuple[str, str], cell: dict[str, Any]) -> None:
    lines: list[tuple[str, Tensor, str, str]] = [
        (name, curve, colour, "solid") for name, curve, colour in zip(names, leg.curves, PALETTE[:2], strict=True)
    ]
    if leg.difference.curve is not None:
        lines.append(("difference, same items", leg.difference.curve, INK, "dot"))
    for name, (depth, mean, low, high), colour, dash in lines:
        group = {"legendgroup": name, "showlegend": False}
        figure.add_trace(band(depth.tolist(), low.tolist(), high.tolist(), colour, escape(name), 0.16, **group), **cell)
        line = {"color": colour, "width": 2, "dash": dash}
        shown = f"{escape(name)}<br>depth %{{x:.2f}}: %{{y:.4g}}<extra></extra>"
        trace = go.Scatter(
            x=depth.tolist(), y=mean.tolist(), mode="lines", name=escape(name), line=line, hovertemplate=shown
        )
        figure.add_trace(trace.update(legendgroup=name, showlegend=not _named(figure, name)), **cell)
    figure.add_hline(y=0, line={"color": NULL_COLOUR, "width": 1}, **cell)
    for row, last, colour in zip(leg.rows, leg.layers, PALETTE, strict=False):
        figure.add_vline(x=row.layer / last, line={"color": colour, "width": 1, "dash": "dot"}, **cell)
    if leg.rows[0].unit == "nats":
        kept = [value for _, curve, *_ in lines for value in curve[1:, curve[0] >= LATER].flatten().tolist()]
        low, high = min([0.0, *kept]), max([0.0, *kept])
        figure.update_yaxes(range=[low - 0.06 * (high - low), high + 0.06 * (high - low)], **cell)
    figure.update_yaxes(title=escape(leg.rows[0].unit) if cell["col"] == 1 else None, **cell)


def _named(figure: go.Figure, name: str) -> bool:
    traces: Any = figure.data
    return any(trace.showlegend and trace.name == escape(name) for trace in traces)
