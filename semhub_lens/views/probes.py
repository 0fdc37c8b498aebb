"""Linear probes: accuracy over layers, the transfer matrix, the directions, and classes in a run."""

import math

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor
from torch.nn.functional import normalize

from semhub_lens.base.results import draws
from semhub_lens.probes.attached import ClassResult, LinearClassifier
from semhub_lens.probes.predictions import Predictions
from semhub_lens.probes.probe import ProbeResult
from semhub_lens.probes.transfer import TransferResult
from semhub_lens.views.lens import position_map
from semhub_lens.views.scale import diverging, reach
from semhub_lens.views.style import BLUES, NULL_COLOUR, PALETTE, band, escape, finish, layer_axis

ACCURACY_RANGE = [0, 1.03]


@draws(ProbeResult)
def probe_figure(result: ProbeResult) -> go.Figure:
    """Accuracy, and transfer if measured, with intervals, the range on shuffled labels, and chance."""
    figure = go.Figure()
    parts = [("accuracy", result.within)] + ([("transfer", result.across)] if result.across else [])
    for (name, predictions), colour in zip(parts, PALETTE, strict=False):
        _add_curve(figure, predictions, name, colour, result.seed)
    for (name, predictions), colour in zip(parts, PALETTE, strict=False):
        _add_control(figure, predictions, name, colour)
    title = f"Linear probe: {len(result.classes)} classes, {len(result.within.labels)} items"
    finish(figure, title=title, note=result.provenance.line())
    figure.update_xaxes(**layer_axis(len(result.accuracy)))
    figure.update_yaxes(title="accuracy", range=ACCURACY_RANGE)
    return figure


def _line(y: Tensor, colour: str, name: str, dash: str = "solid", **settings: object) -> go.Scatter:
    return go.Scatter(
        x=list(range(len(y))),
        y=y.tolist(),
        mode="lines",
        name=escape(name),
        line={"color": colour, "width": 2 if dash == "solid" else 1, "dash": dash},
        hovertemplate=f"{escape(name)}<br>layer %{{x}}: %{{y:.3f}}<extra></extra>",
        **settings,
    )


def _add_curve(figure: go.Figure, predictions: Predictions, name: str, colour: str, seed: int) -> None:
    interval = predictions.interval(seed)
    x = list(range(len(interval.mean)))
    figure.add_trace(band(x, interval.low.tolist(), interval.high.tolist(), colour, f"{name}, 95 %"))
    figure.add_trace(_line(interval.mean, colour, name))


def _add_control(figure: go.Figure, predictions: Predictions, name: str, colour: str) -> None:
    layers = len(predictions.predicted)
    if len(predictions.control):
        low, high = predictions.control.amin(0).tolist(), predictions.control.amax(0).tolist()
        label = f"{name}, labels shuffled (range of {len(predictions.control)})"
        figure.add_trace(band(list(range(layers)), low, high, NULL_COLOUR, label, 0.35))
    figure.add_trace(
        _line(torch.full((layers,), predictions.chance, dtype=torch.float32), colour, f"{name} by chance", "dash")
    )


@draws(TransferResult)
def transfer_figure(result: TransferResult) -> go.Figure:
    """Heat map of accuracy at each cell's peak layer, the probe for the type, and one panel for each trained type."""
    count = len(result.types)
    columns = min(4, max(2, count))
    bands = math.ceil(count / columns)
    half = columns // 2
    head: list[dict | None] = [None] * columns
    head[0], head[half] = {"colspan": half}, {"colspan": columns - half}
    titles = ["accuracy at the peak layer, on the half that did not choose it", "which type is it?"]
    titles += [f"trained on {escape(name)}" for name in result.types]
    figure = make_subplots(
        1 + bands,
        columns,
        specs=[head, *[[{}] * columns for _ in range(bands)]],
        subplot_titles=titles,
        row_heights=[1.3, *[1.0] * bands],
        horizontal_spacing=0.06,
        vertical_spacing=0.34 / (1 + bands),
    )
    figure.update_annotations(font_size=12)
    figure.add_trace(_peaks(result), 1, 1)
    _panel(figure, [("which type", result.type_probe)], 1, half + 1, ["#5b6677"], first=True)
    colours = [PALETTE[i % len(PALETTE)] for i in range(count)]
    for i, row in enumerate(result.cells):
        named = [(f"tested on {name}", cell) for name, cell in zip(result.types, row, strict=True)]
        _panel(figure, named, 2 + i // columns, 1 + i % columns, colours, first=i == 0)
    title = f"Transfer of linear probes: {len(result.classes)} classes, centre={result.centre}"
    finish(figure, title=title, note=result.provenance.line(), height=420 + 270 * bands, top=90, bottom=130)
    figure.update_xaxes(title={"text": "tested on", "standoff": 4}, row=1, col=1)
    figure.update_yaxes(title="trained on", autorange="reversed", row=1, col=1)
    return figure


def _peaks(result: TransferResult) -> go.Heatmap:
    peaks = result.peaks
    hover = [[f"[{p.low:.2f}, {p.high:.2f}]<br>chance {p.chance:.2f}, {p.items} items" for p in row] for row in peaks]
    names = [escape(name) for name in result.types]
    return go.Heatmap(
        z=[[peak.accuracy for peak in row] for row in peaks],
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        colorscale=[list(stop) for stop in BLUES],
        showscale=False,
        xgap=1,
        ygap=1,
        text=[[f"{peak.accuracy:.2f}<br>L{peak.layer}" for peak in row] for row in peaks],
        texttemplate="%{text}",
        customdata=hover,
        hovertemplate="trained on %{y}, tested on %{x}<br>%{text}<br>%{customdata}<extra></extra>",
    )


def _panel(
    figure: go.Figure,
    named: list[tuple[str, Predictions]],
    row: int,
    column: int,
    colours: list[str],
    *,
    first: bool,
) -> None:
    x = list(range(len(named[0][1].predicted)))
    shuffled = torch.cat([predictions.control for _, predictions in named])
    if len(shuffled):
        low, high = shuffled.amin(0).tolist(), shuffled.amax(0).tolist()
        shown = {"showlegend": first and row == 1, "legendgroup": "shuffled"}
        figure.add_trace(band(x, low, high, NULL_COLOUR, "labels shuffled", 0.35, **shown), row, column)
    for (name, predictions), colour in zip(named, colours, strict=True):
        line = _line(predictions.accuracy, colour, name, showlegend=first, legendgroup=name)
        figure.add_trace(line, row, column)
    chance = torch.full((len(x),), max(predictions.chance for _, predictions in named), dtype=torch.float32)
    shown = {"showlegend": first and row == 1, "legendgroup": "chance"}
    figure.add_trace(_line(chance, NULL_COLOUR, "chance", "dash", **shown), row, column)
    figure.update_xaxes(**layer_axis(len(x)), row=row, col=column)
    figure.update_yaxes(range=ACCURACY_RANGE, row=row, col=column)


@draws(LinearClassifier)
def classifier_figure(result: LinearClassifier) -> go.Figure:
    """The similarity of the classes' weights at two layers: mean cosine over classes."""
    unit = normalize(result.weights, dim=-1)
    same = torch.einsum("lkd,mkd->lmk", unit, unit).mean(-1)
    layers = list(range(len(same)))
    heat = go.Heatmap(
        z=same.tolist(),
        x=layers,
        y=layers,
        hovertemplate="layers %{y} and %{x}: %{z:.3f}<extra></extra>",
        **diverging(reach(same, most=1.0), "cosine"),
    )
    title = f"Classifier of {len(result.classes)} classes: directions at two layers"
    figure = finish(go.Figure(heat), title=title, note=result.provenance.line(), height=520)
    figure.update_xaxes(**layer_axis(len(layers)))
    figure.update_yaxes(title="layer (0 = embedding)")
    return figure


@draws(ClassResult)
def class_figure(result: ClassResult) -> go.Figure:
    """Heat map of a class's probability at every layer and position; buttons choose the class."""
    names = [str(name) for name in result.classes]
    bar = {"title": {"text": "probability"}, "thickness": 10}
    look = {"zmin": 0, "zmax": 1, "colorscale": [list(stop) for stop in BLUES], "colorbar": bar}
    title = f"Class by linear probe: {', '.join(names[:6])}"
    looks = [look] * len(names)
    return position_map(result.log_probs.exp(), names, looks, title=title, note=result.provenance.line())
