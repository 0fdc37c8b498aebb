"""The style of all figures: colours, fonts, margins and the provenance line."""

import html
import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from semhub_lens.base.shown_text import harmless

FONT = "Inter, 'Helvetica Neue', Arial, 'Noto Sans', 'Noto Sans CJK SC', 'Noto Sans Arabic', sans-serif"
MONO = "'JetBrains Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Noto Sans Mono CJK SC', 'Noto Sans Arabic', monospace"
WIDEST = 32_000
"""The largest side in pixels: no browser draws a canvas larger than 32,767."""
NARROWEST = 680
"""The smallest width of a figure on a page, in pixels; a narrower page scrolls it."""
LEGEND_ROW, LEGEND_ENTRY, LEGEND_LETTER = 29, 46, 5.6
"""Pixels of a legend: height of a row, width of an entry without its name, and of a letter."""
INK, MUTED, GRID = "#1b2330", "#6b7688", "#e7eaf0"
PALETTE = (
    "#2757b8",
    "#d1495b",
    "#2a9d6f",
    "#e0912f",
    "#7b4bb0",
    "#14859c",
    "#8a5a3b",
    "#5b6677",
    "#b0418f",
    "#7a9a01",
    "#3d3d8f",
    "#a33b20",
)
NULL_COLOUR = "#9aa3b2"
BLUES = ((0.0, "#fbfcfe"), (0.25, "#cfdef5"), (0.5, "#8fb3ea"), (0.75, "#4a7fd6"), (1.0, "#1d4aa5"))
AMBERS = ((0.0, "#fffdf8"), (0.25, "#fbe6bd"), (0.5, "#f3c165"), (0.75, "#e0912f"), (1.0, "#9c5206"))
VERDICT_COLOURS = {"supported": "#1b7f54", "opposite": "#c0392b", "not supported": "#626c7e", "not measured": "#6d7789"}


def escape(text: str) -> str:
    """Show a text literally in a figure: plotly reads `<b>` and `&lt;` as markup, `%{` as a field and `$` as TeX."""
    return html.escape(harmless(text), quote=False).replace("%{", "&#37;{").replace("$", "&#36;")


def number(value: int | float, form: str) -> str:
    """A number for people: with a minus sign, and without a sign if it is rounded to 0."""
    text = f"{value:{form}}"
    if not text.startswith("-"):
        return text
    return f"−{text[1:]}" if re.search("[1-9a-z]", text.partition("e")[0]) else text[1:]


def named(title: str, part: str) -> str:
    """A figure's title behind the part of the result that it draws; a picture may cut its end off."""
    return f"<b>{escape(part)} · {escape(title)}</b>"


def rgba(colour: str, alpha: float) -> str:
    """A hex colour with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def finish(
    figure: go.Figure,
    *,
    title: str,
    note: str = "",
    width: int | None = None,
    height: int = 460,
    top: int = 70,
    bottom: int = 105,
) -> go.Figure:
    """Apply title, fonts, margins and the provenance line, and limit the size so that browsers can draw the figure."""
    more = max(0, 68 + LEGEND_ROW * _legend_rows(figure, width or NARROWEST) - bottom)
    height, bottom = height + more, bottom + more
    width, height = None if width is None else min(width, WIDEST), min(height, WIDEST)
    figure.update_layout(
        template="none",
        title={"text": f"<b>{escape(title)}</b>", "x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 16}},
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        width=width,
        height=height,
        margin={"l": 70, "r": 30, "t": top, "b": bottom},
        hoverlabel={
            "bgcolor": "white",
            "bordercolor": GRID,
            "font": {"family": MONO, "size": 12, "color": INK},
            "align": "left",
        },
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 26 / height,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 11},
        },
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, ticks="")
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, ticks="")
    if note:
        figure.add_annotation(
            text=escape(note),
            xref="paper",
            yref="paper",
            x=0,
            y=0,
            yshift=6 - bottom,
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 9, "color": MUTED},
            align="left",
        )
    return figure


def _legend_rows(figure: go.Figure, width: int) -> int:
    """How many rows the legend needs; its place below the axes has to be as high."""
    traces: Any = figure.data
    rows, left = 0, 0.0
    for trace in traces:
        if trace.name and trace.showlegend is not False and trace.type != "heatmap":
            entry = LEGEND_ENTRY + LEGEND_LETTER * len(html.unescape(trace.name))
            rows, left = (rows, left - entry) if left >= entry else (rows + 1, width - 100 - entry)
    return rows if rows and len(traces) > 1 else 0


def layer_axis(layers: int, parts: int = 9) -> dict:
    """Axis of the layers: 0 is the embedding; some `parts` steps from tick to tick."""
    step = max(1, layers // parts)
    ticks = list(range(0, layers, step))
    return {
        "tickvals": ticks,
        "ticktext": ["emb" if t == 0 else str(t) for t in ticks],
        "title": {"text": "layer", "standoff": 6},
    }


def band(
    x: Sequence[int] | Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    colour: str,
    name: str,
    alpha: float = 0.18,
    **settings: object,
) -> go.Scatter:
    """A filled band between two curves."""
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        mode="lines",
        fill="toself",
        fillcolor=rgba(colour, alpha),
        line={"width": 0},
        hoverinfo="skip",
        name=name,
        **settings,
    )
