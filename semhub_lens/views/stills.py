"""A plotly figure as one small SVG, drawn without a browser; and a notebook's output for any result.

It draws curves, bands, bars, heat maps and tables, with the figure's own colours, axes and titles, but without hover.
"""

import html
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.colors import sample_colorscale

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Result, drawn, shows
from semhub_lens.base.shown_text import harmless
from semhub_lens.views.style import GRID, INK, MUTED, NARROWEST, PALETTE, number

Number = int | float

WIDTH, FONT = 860, "Inter, Helvetica Neue, Arial, Noto Sans, Noto Sans CJK SC, Noto Sans Arabic, sans-serif"
ROOM, BELOW, TABLE_ROW, LONGEST, RAMP = 64, 90, 18, 90, 120
TICK = 12
"""The smallest number of pixels for a tick."""
MOST = 4000
"""The largest number of cells in a heat map; a larger one is not drawn."""


@shows(Result)
def shown_figure(result: Result) -> dict[str, Any]:
    """A notebook's output for a result without its own page: the plotly figure, a picture, and a few lines of text."""
    try:
        figure = drawn(result)
    except SemhubError as error:
        text = f"{result!r}\n{error}"
        return {"text/plain": text, "text/html": f"<pre>{html.escape(harmless(text, kept=chr(10)))}</pre>"}
    picture = figure_still(figure)
    interactive = figure._repr_mimebundle_()
    if "colab" not in str(pio.renderers.default):  # what else is HTML there needs a script that an earlier output holds
        wide = picture.replace("<svg ", f'<svg style="min-width:{NARROWEST}px" ', 1)
        interactive["text/html"] = f'<div style="overflow-x:auto">{wide}</div>'
    return {
        **interactive,
        "image/svg+xml": picture,
        "text/plain": repr(result),
    }


@checked
def figure_still(figure: go.Figure) -> str:
    """The figure as SVG text.

    Example:
        >>> from semhub_lens.views.stills import figure_still
        >>> figure_still(figure(logit_lens(tiny_model, "two", progress=False)))[:4]
        '<svg'
    """
    layout: Any = figure.layout
    data: Any = figure.data
    tables = [trace for trace in data if trace.type == "table"]
    height = min(int(layout.height or 460), 900)
    if tables:
        height = 60 + TABLE_ROW * sum(1 + max(map(len, trace.cells["values"])) for trace in tables)
    parts = [_text(16, 24, _plain(layout.title.text or ""), size=15, weight="bold", longest=105)]
    for trace in tables:
        parts += _table(trace)
    panels: dict[tuple[str, str], list[Any]] = {}
    for trace in data:
        if trace.type in ("scatter", "bar", "heatmap"):
            panels.setdefault((trace.xaxis or "x", trace.yaxis or "y"), []).append(trace)
    for (x, y), traces in panels.items():
        parts += _panel(layout, x, y, traces, height)
    parts += _ramps(layout, [t for t in data if t.type == "heatmap" and t.showscale is not False], height)
    lines = [(i, t) for i, t in enumerate(data) if t.type in ("scatter", "bar") and t.showlegend is not False]
    parts += _legend({t.name: _colour(t, i) for i, t in lines if t.name}, height)
    parts += [_annotation(one, height) for one in layout.annotations if (one.xref, one.yref) == ("paper", "paper")]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="{FONT}" font-size="11"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        f"{''.join(parts)}</svg>"
    )


def _panel(layout: Any, x_name: str, y_name: str, traces: list[Any], height: int) -> Iterable[str]:
    """One pair of axes with its traces and lines across."""
    across, up = layout[x_name.replace("x", "xaxis")], layout[y_name.replace("y", "yaxis")]
    left, right = across.domain or (0, 1)
    low, high = up.domain or (0, 1)
    box = (ROOM + left * (WIDTH - ROOM - 20), ROOM + (1 - high) * (height - ROOM - BELOW),
           ROOM + right * (WIDTH - ROOM - 20), ROOM + (1 - low) * (height - ROOM - BELOW))  # fmt: skip
    cells = any(trace.type == "heatmap" for trace in traces)
    scale_x = _Scale(across, [v for t in traces for v in _values(t.x)], box[0], box[2], cells)
    bars = any(trace.type == "bar" for trace in traces)
    scale_y = _Scale(up, [v for t in traces for v in _values(t.y)] + [0] * bars, box[3], box[1], cells)
    x, y, wide, tall = (round(v, 1) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1]))
    if layout.plot_bgcolor not in (None, "white"):
        yield _rect(x, y, wide, tall, html.escape(layout.plot_bgcolor))
    yield from _axes(scale_x, scale_y, box, across.title.text or "", up.title.text or "")
    yield f'<svg x="{x}" y="{y}" width="{wide}" height="{tall}" viewBox="{x} {y} {wide} {tall}">'  # cuts at the axes
    for i, trace in enumerate(traces):
        if trace.type == "heatmap":
            yield from _cells(trace, scale_x, scale_y, layout[trace.coloraxis] if trace.coloraxis else trace)
        else:
            yield from (_curve if trace.type == "scatter" else _bars)(trace, scale_x, scale_y, _colour(trace, i))
    for line in layout.shapes:
        down, along = (line.xref, line.yref) == (x_name, f"{y_name} domain"), line.yref == y_name
        if line.type == "line" and (down or (along and line.xref == f"{x_name} domain")):
            path = f"M{scale_x(line.x0):.1f} {y}v{tall}" if down else f"M{x} {scale_y(line.y0):.1f}h{wide}"
            dash = "2 3" if line.line.dash == "dot" else ""
            yield f'<path d="{path}" stroke="{html.escape(line.line.color)}" stroke-dasharray="{dash}"/>'
    yield "</svg>"


class _Scale:
    """From a value to pixels: numbers, or categories in their order."""

    def __init__(self, axis: Any, values: list[Any], start: Number, end: Number, cells: bool) -> None:
        self.names = list(dict.fromkeys(v for v in values if isinstance(v, str)))
        self.start, self.end = start, end
        numbers = range(len(self.names)) if self.names else [v for v in values if _finite(v)] or [0, 1]
        low, high = float(min(numbers)), float(max(numbers))
        if axis.range and all(_finite(v) for v in axis.range):
            low, high = map(float, axis.range)
        pad = 0.5 if self.names or cells else 0.04 * (high - low) or 0.5
        self.low, self.high = low - pad, high + pad
        ticks, bare = self._ticks(axis, low, high, float(cells)), bool(self.names) and axis.showticklabels is False
        self.ticks = [(value, "" if bare else name) for value, name in ticks]

    def __call__(self, value: Any) -> float:
        number = self.names.index(value) if self.names else float(value)
        return self.start + (number - self.low) / (self.high - self.low) * (self.end - self.start)

    def _ticks(self, axis: Any, low: float, high: float, least: float) -> list[tuple[Any, str]]:
        if self.names:
            every = math.ceil(len(self.names) / 14)
            return [(name, name) for name in self.names[::every]]
        if axis.tickvals is not None:
            texts = axis.ticktext if axis.ticktext is not None else [number(v, "g") for v in axis.tickvals]
            pairs = list(zip(axis.tickvals, texts, strict=False))
            return pairs[:: math.ceil(len(pairs) * TICK / abs(self.end - self.start))]
        step = 10 ** math.floor(math.log10((high - low) or 1))
        step = next(step * f for f in (0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / (step * f) <= 7)
        step = max(step, least)
        first = math.ceil(low / step)
        return [(i * step, number(i * step, "g")) for i in range(first, math.floor(high / step) + 1)]


def _axes(x: _Scale, y: _Scale, box: tuple[Number, ...], x_title: str, y_title: str) -> Iterable[str]:
    left, top, right, bottom = box
    for value, name in y.ticks:
        yield f'<path d="M{left:.1f} {y(value):.1f}H{right:.1f}" stroke="{GRID}"/>'
        yield _text(left - 6, y(value) + 4, _plain(str(name))[:12], anchor="end", fill=MUTED, size=10)
    room, below = max(10, int((right - left) / max(1, len(x.ticks)) / 7)), bottom + 14
    for value, name in x.ticks:
        for i, line in enumerate(str(name).split("<br>")[:2]):
            below = max(below, bottom + 14 + 12 * i)
            yield _text(x(value), bottom + 14 + 12 * i, _plain(line)[:room], anchor="middle", fill=MUTED)
    yield _text((left + right) / 2, below + 16, _plain(x_title), anchor="middle", fill=MUTED)
    yield _text(left - 44, top - 6, _plain(y_title), fill=MUTED)


def _curve(trace: Any, x: _Scale, y: _Scale, colour: str) -> Iterable[str]:
    points = [(x(a), y(b)) if _finite(b) else None for a, b in zip(_values(trace.x), _values(trace.y), strict=True)]
    pieces, down = [], False
    for point in points:
        if point:
            pieces.append(f"{'L' if down else 'M'}{point[0]:.1f} {point[1]:.1f}")
        down = point is not None
    path = "".join(pieces)
    if trace.fill == "toself":
        yield f'<path d="{path}Z" fill="{trace.fillcolor or colour}" stroke="none"/>'
        return
    mode = trace.mode or "lines"
    if "lines" in mode and trace.line.width != 0:
        dash = {"dot": "2 3", "dash": "7 4", "dashdot": "7 3 2 3"}.get(trace.line.dash or "", "")
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
    if "markers" in mode:
        for point in points:
            if point:
                yield f'<circle cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="3" fill="{colour}"/>'


def _bars(trace: Any, x: _Scale, y: _Scale, colour: str) -> Iterable[str]:
    if trace.orientation == "h":
        return
    width = max(2.0, 0.6 * abs(x.end - x.start) / (x.high - x.low))
    for a, b in zip(_values(trace.x), _values(trace.y), strict=True):
        if _finite(b):
            top, base = min(y(b), y(0)), max(y(b), y(0))
            yield _rect(x(a) - width / 2, top, width, base - top, colour)


def _cells(trace: Any, x: _Scale, y: _Scale, look: Any) -> Iterable[str]:
    z = np.array(trace.z, dtype=float)
    rows, columns = (_values(one) or list(range(n)) for one, n in zip((trace.y, trace.x), z.shape, strict=True))
    if z.size > MOST or not np.isfinite(z).any():
        why = "too large for a picture: see the page" if z.size > MOST else "no cell has a number"
        yield _text((x.start + x.end) / 2, (y.start + y.end) / 2, why, anchor="middle")
        return
    low, high = _ends(trace, look)
    share = np.clip((z - low) / ((high - low) or 1), 0, 1)
    wide, tall = abs(x.end - x.start) / (x.high - x.low), abs(y.end - y.start) / (y.high - y.low)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if _finite(z[i, j]):
                (fill,) = _sampled(look, [float(share[i, j])])
                yield _rect(x(column) - wide / 2, y(row) - tall / 2, wide - 1, tall - 1, fill)


def _ends(trace: Any, look: Any) -> tuple[float, float]:
    """The values at the two ends of a heat map's scale."""
    low, high = (look.zmin, look.zmax) if look is trace else (look.cmin, look.cmax)
    if low is None or high is None:
        values = [float(value) for row in trace.z for value in row if _finite(value)]
        return (min(values), max(values)) if values else (0.0, 1.0)
    return float(low), float(high)


def _ramps(layout: Any, maps: list[Any], height: int) -> Iterable[str]:
    """The scales of the heat maps in one row below the axes, each with its name and its ends in numbers."""
    looks = {trace.coloraxis or id(trace): (trace, layout[trace.coloraxis or "coloraxis"]) for trace in maps}
    x = 16.0
    for trace, axis in looks.values():
        look = axis if trace.coloraxis else trace
        ends = look.colorbar.ticktext or [number(end, ".3g") for end in _ends(trace, look)]
        name, low, high = (_plain(str(one)) for one in (look.colorbar.title.text or "", ends[0], ends[-1]))
        left = x + 20 + 6.2 * len(name + low)
        yield _text(x, height - 22, name, fill=MUTED)
        yield _text(left - 6, height - 22, low, anchor="end")
        for step, colour in enumerate(_sampled(look, np.linspace(0, 1, RAMP // 4))):
            yield _rect(left + 4 * step, height - 31, 4, 10, colour)
        yield _text(left + RAMP + 6, height - 22, high)
        x = left + RAMP + 30 + 6.2 * len(high)


def _sampled(look: Any, shares: Iterable[float]) -> list[str]:
    """The colours at shares of a scale."""
    scale = [list(stop) for stop in look.colorscale] if look.colorscale else "RdBu_r"
    return [
        str(one) for one in sample_colorscale(scale, [1 - share if look.reversescale else share for share in shares])
    ]


def _annotation(one: Any, height: int) -> str:
    """A panel's title, or the line of provenance below the axes."""
    text, x = _plain(one.text or ""), ROOM + float(one.x) * (WIDTH - ROOM - 20)
    if (one.yshift or 0) < 0:
        return _text(16, height - 6, text, fill=MUTED, size=8, longest=190)
    anchor = "start" if one.xanchor == "left" else "middle"
    return _text(x, ROOM + (1 - float(one.y)) * (height - ROOM - BELOW) - 18, text, anchor=anchor, weight="bold")


def _table(trace: Any) -> Iterable[str]:
    columns = trace.cells["values"]
    for i, (head, cells) in enumerate(zip(trace.header["values"], columns, strict=True)):
        x = 16 + i * (WIDTH - 32) / len(columns)
        longest = int(LONGEST * 1.3 / len(columns))
        for row, value in enumerate((head, *cells)):
            weight = "bold" if row == 0 else "normal"
            yield _text(x, 50 + TABLE_ROW * row, _plain(str(value))[:longest], weight=weight)


def _legend(named: dict[str, str], height: int) -> Iterable[str]:
    x, y = 16.0, height - 34.0
    for name, colour in list(named.items())[:24]:
        text = _plain(name)[:40]
        if x + 30 + 6.2 * len(text) > WIDTH:
            x, y = 16.0, y + 14
        yield _rect(x, y - 8, 14, 4, colour)
        yield _text(x + 19, y, text)
        x += 34 + 6.2 * len(text)


def _colour(trace: Any, place: int) -> str:
    if getattr(trace, "fill", None) == "toself" and trace.fillcolor:
        return html.escape(trace.fillcolor)
    for part in (getattr(trace, "line", None), getattr(trace, "marker", None)):
        colour = getattr(part, "color", None)
        if isinstance(colour, str):
            return html.escape(colour)
    return PALETTE[place % len(PALETTE)]


def _values(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def _plain(text: str) -> str:
    """A figure's text without its few tags, with the characters that `style.escape` replaced."""
    return html.unescape(re.sub(r"</?(b|i|br|sub|sup|span)\b[^>]*>", " ", text)).strip()


def _text(
    x: Number,
    y: Number,
    text: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    size: int = 11,
    weight: str = "normal",
    longest: int = LONGEST,
) -> str:
    look = f'text-anchor="{anchor}" fill="{fill}" font-size="{size}" font-weight="{weight}"'
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{html.escape(shown)}</text>'


def _rect(x: Number, y: Number, width: Number, height: Number, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0.5):.1f}" fill="{fill}"/>'
    )
