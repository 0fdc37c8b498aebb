"""Curves over layers: similarity, target words, translators, language mass, and the legs of an experiment."""

import math
import textwrap
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from semhub_lens.base.results import draws
from semhub_lens.evidence.legs import ExperimentResult, Leg
from semhub_lens.evidence.stats import bootstrap_mean, percentiles
from semhub_lens.geometry.measures import MEASURES
from semhub_lens.geometry.similarity import SimilarityResult
from semhub_lens.lens.language_mass import MassResult
from semhub_lens.lens.targets import TargetResult
from semhub_lens.model.translators import Translators
from semhub_lens.views.style import (
    GRID,
    NULL_COLOUR,
    PALETTE,
    VERDICT_COLOURS,
    band,
    escape,
    finish,
    layer_axis,
    number,
)

AXES = {"cosine": "pairs above non-pairs (cosine)", "share": "retrieval and alignment"}
"""Panels of the similarity figure by the axes of its measures, and their titles."""
BAND_HEIGHT, GAP, TOP, BOTTOM = 500, 86, 130, 110
"""Pixels: a band of effects and curves, the gap between rows, and the margins of a grid of legs."""


def _line(x: list[int], y: Tensor, colour: str, name: str, dash: str = "solid", **settings: object) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y.tolist(),
        mode="lines+markers",
        name=escape(name),
        line={"color": colour, "width": 2, "dash": dash},
        marker={"size": 4},
        hovertemplate=f"{escape(name)}<br>layer %{{x}}: %{{y:.4g}}<extra></extra>",
        **settings,
    )


def _null_band(x: list[int], null: Tensor, name: str = "null, 95 %", **settings: object) -> go.Scatter:
    low, high = percentiles(null.T)
    return band(x, low.tolist(), high.tolist(), NULL_COLOUR, name, 0.35, **settings)


@draws(SimilarityResult)
def similarity_figure(result: SimilarityResult) -> go.Figure:
    """D with its interval and null band, and the other measures: solid lines, with null or chance dashed."""
    x = list(range(result.layers))
    axes = [axis for axis in AXES if any(MEASURES[name].axis == axis for name in result.measures)]
    figure = make_subplots(1, len(axes), subplot_titles=[AXES[axis] for axis in axes], horizontal_spacing=0.09)
    if "effect" in result.measures:
        figure.add_trace(_null_band(x, result.null, "null of D, 95 %"), 1, 1)
        figure.add_trace(band(x, result.low.tolist(), result.high.tolist(), PALETTE[0], "D, 95 %"), 1, 1)
    for place, name in enumerate(result.measures):
        column = 1 + axes.index(MEASURES[name].axis)
        curves = list(result.curves(name).items())
        for label, curve in curves[:1] if name == "effect" else curves:  # the null of D is a band
            dash = "solid" if label == curves[0][0] else "dash"
            figure.add_trace(_line(x, curve, PALETTE[place % len(PALETTE)], label, dash), 1, column)
    finish(figure, title="Similarity of paired states", note=result.provenance.line(), height=430)
    figure.update_xaxes(**layer_axis(len(x)))
    return figure


@draws(TargetResult)
def target_figure(result: TargetResult) -> go.Figure:
    """Mean log-probability of each target over items, with intervals; the axis is scaled to the layers from 2 on."""
    layers, items, targets = result.log_probs.shape
    x = list(range(layers))
    figure = go.Figure()
    for target in range(targets):
        names = {result.name(item, target) for item in range(items)}
        name = names.pop() if len(names) == 1 else f"target {target}"
        colour = PALETTE[target % len(PALETTE)]
        if items > 1:
            interval = bootstrap_mean(result.log_probs[..., target], seed=0)
            figure.add_trace(
                band(
                    x, interval.low.tolist(), interval.high.tolist(), colour, f"{escape(name)}, 95 %", showlegend=False
                )
            )
        figure.add_trace(_line(x, result.log_probs[..., target].mean(1), colour, name))
    averaged = f", mean of {items} items" if items > 1 else ""
    finish(figure, title=f"Log-probability of targets{averaged}", note=result.provenance.line())
    figure.update_xaxes(**layer_axis(layers))
    figure.update_yaxes(title="log-probability (nats)", range=_range(result.log_probs.mean(1).T))
    return figure


@draws(Translators)
def translators_figure(result: Translators) -> go.Figure:
    """Held-out KL to the final distribution by layer and group: the plain lens dashed, the translated one solid."""
    figure, layers = go.Figure(), len(result.bias)
    for place, (group, means) in enumerate(result.by_group().items()):
        for name, curve, dash in zip(("plain", "translated"), means[:, :-1], ("dash", "solid"), strict=True):
            colour = PALETTE[place % len(PALETTE)]
            figure.add_trace(_line(list(range(layers)), curve, colour, f"{group}, {name}", dash))
    finish(figure, title=f"{escape(result.name)}: held-out KL", note=result.provenance.line())
    figure.update_xaxes(**layer_axis(layers))
    figure.update_yaxes(title="KL to the final distribution (nats)", type="log")
    return figure


@draws(MassResult)
def mass_figure(result: MassResult) -> go.Figure:
    """Probability mass per language over layers; languages that never reach 2 % are drawn together."""
    mass = result.mass
    x = list(range(len(mass)))
    figure = go.Figure()
    small = [i for i in range(mass.shape[1]) if float(mass[:, i].max()) < 0.02]
    shown = [i for i in range(mass.shape[1]) if i not in small]
    for place, i in enumerate(shown):
        name = result.languages[i]
        unknown = name == "unknown"
        colour = NULL_COLOUR if unknown else PALETTE[place % len(PALETTE)]
        figure.add_trace(_line(x, mass[:, i], colour, name, "dash" if unknown else "solid"))
    if small:
        figure.add_trace(
            _line(x, mass[:, small].sum(1), GRID, "others: " + ", ".join(result.languages[i] for i in small), "dot")
        )
    finish(figure, title=f"Language mass, {int(result.positions.sum())} positions", note=result.provenance.line())
    figure.update_xaxes(**layer_axis(len(x)))
    figure.update_yaxes(title="probability mass", rangemode="tozero")
    return figure


@draws(Leg)
def leg_figure(leg: Leg) -> go.Figure:
    """One leg: the effect with interval and null band, and the curves behind it."""
    return _legs_grid((leg,), leg.title, leg.provenance.line())


@draws(ExperimentResult)
def experiment_figure(result: ExperimentResult) -> go.Figure:
    """All legs of an experiment: effects above, the curves behind them below."""
    return _legs_grid(result.legs, f"{result.id}: {result.title}", result.provenance.line())


def _legs_grid(legs: tuple[Leg, ...], title: str, note: str) -> go.Figure:
    columns = min(4, len(legs))
    bands = math.ceil(len(legs) / columns)
    titles = [""] * (2 * bands * columns)
    for i, leg in enumerate(legs):
        row, column = divmod(i, columns)
        colour = VERDICT_COLOURS[leg.verdict.status]
        name = "<br>".join(textwrap.wrap(escape(leg.title).replace(": ", ":\n"), 30 if columns > 2 else 60))
        titles[2 * row * columns + column] = (
            f"{name}<br><span style='color:{colour}'><b>{leg.verdict.status}</b></span>"
        )
    plot_height = BAND_HEIGHT * bands - GAP
    figure = make_subplots(
        2 * bands,
        columns,
        subplot_titles=titles,
        vertical_spacing=GAP / plot_height,
        horizontal_spacing=0.05 if columns > 1 else 0.1,
        row_heights=[0.56, 0.44] * bands,
    )
    figure.update_annotations(font_size=12)
    figure.update_xaxes(showticklabels=True)
    named: set[str] = set()
    for i, leg in enumerate(legs):
        row, column = divmod(i, columns)
        parts = 9 if columns <= 2 else 6  # narrow panels have room for fewer ticks
        _add_leg(figure, leg, 2 * row + 1, column + 1, first=i == 0, first_column=column == 0, parts=parts)
        _add_curves(figure, leg, 2 * row + 2, column + 1, _curve_colours(legs, leg), named)
    figure.update_xaxes(tickangle=0)  # turned ticks would push the axis title into the panel below
    finish(figure, title=title, note=note, height=plot_height + TOP + BOTTOM, top=TOP, bottom=BOTTOM)
    return figure


def _add_leg(
    figure: go.Figure, leg: Leg, row: int, column: int, *, first: bool, first_column: bool, parts: int
) -> None:
    rows = _shown(leg)
    x = [leg.layers[i] for i in rows]
    for strength in sorted({*leg.strengths} - {leg.strength}):
        others = [i for i, value in enumerate(leg.strengths) if value == strength]
        thin = _line(
            [leg.layers[i] for i in others], leg.mean[others], GRID, f"effect at strength {number(strength, 'g')}"
        )
        figure.add_trace(thin.update(showlegend=False), row, column)
    figure.add_trace(_null_band(x, leg.null[:, rows], "null, 95 %", showlegend=first, legendgroup="null"), row, column)
    figure.add_trace(
        band(
            x,
            leg.low[rows].tolist(),
            leg.high[rows].tolist(),
            PALETTE[0],
            "effect, 95 %",
            showlegend=first,
            legendgroup="interval",
        ),
        row,
        column,
    )
    name = "effect" if leg.strength is None else f"effect at strength {number(leg.strength, 'g')}"
    line = _line(x, leg.mean[rows], PALETTE[0], name, showlegend=first, legendgroup="effect")
    figure.add_trace(line, row, column)
    cell: dict[str, Any] = {"row": row, "col": column}
    figure.add_hline(y=0, line={"color": NULL_COLOUR, "width": 1}, **cell)
    verdict = {"color": VERDICT_COLOURS[leg.verdict.status], "width": 1, "dash": "dot"}
    figure.add_vline(x=leg.layer, line=verdict, **cell)
    if (
        leg.wording.unit == "nats"
    ):  # the first layers' lens distributions differ by hundreds of nats and would flatten the rest
        figure.update_yaxes(range=_range(torch.stack([leg.low, leg.high, leg.mean])), row=row, col=column)
        figure.update_yaxes(range=_range(leg.curves), row=row + 1, col=column)
    axis = layer_axis(max(leg.layers) + 1, parts)
    figure.update_xaxes(tickvals=axis["tickvals"], ticktext=axis["ticktext"], row=row, col=column)
    figure.update_xaxes(**axis, row=row + 1, col=column)
    if first_column:
        figure.update_yaxes(title=f"effect ({escape(leg.wording.unit)})", row=row, col=column)
        figure.update_yaxes(title=escape(leg.wording.curve_unit), row=row + 1, col=column)


def _shown(leg: Leg) -> list[int]:
    """Rows of the chosen strength; all rows without interventions."""
    return [i for i in range(len(leg.layers)) if not leg.strengths or leg.strengths[i] == leg.strength]


def _curve_colours(legs: tuple[Leg, ...], leg: Leg) -> list[str]:
    """A colour for each curve of a leg: the same for the same name in all legs, if there are enough colours."""
    names = list(dict.fromkeys(name for one in legs for name in one.curve_names))
    numbers = range(len(leg.curve_names))
    if len(names) < len(PALETTE):
        numbers = [names.index(name) for name in leg.curve_names]
    return [PALETTE[(number + 1) % len(PALETTE)] for number in numbers]


def _add_curves(figure: go.Figure, leg: Leg, row: int, column: int, colours: list[str], named: set[str]) -> None:
    """The curves behind a leg's effect; each name is in the legend once."""
    rows = _shown(leg)
    for name, curve, colour in zip(leg.curve_names, leg.curves, colours, strict=True):
        group = f"{name} {colour}"
        line = _line([leg.layers[i] for i in rows], curve[rows], colour, name, legendgroup=group)
        figure.add_trace(line.update(showlegend=group not in named), row, column)
        named.add(group)


def _range(curves: Tensor) -> list[float] | None:
    """An axis range for the curves from layer 2 on, including 0; None, the default, without curves."""
    if not len(curves):
        return None
    later = curves[:, min(2, curves.shape[1] - 1) :]
    low, high = min(0.0, float(later.min())), max(0.0, float(later.max()))
    margin = 0.06 * (high - low)
    return [low - margin, high + margin]
