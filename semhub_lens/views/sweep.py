"""Heat maps of a steering sweep, layer x strength: effect and damage of every condition side by side."""

from typing import Any

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.results import draws
from semhub_lens.interventions.sweep_result import RANDOM, Choice, SweepResult
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.views.scale import UNKNOWN, diverging, reach
from semhub_lens.views.style import AMBERS, INK, PALETTE, escape, finish, number

PANEL_HEIGHT, TOP, BOTTOM = 240, 110, 90


@draws(SweepResult)
@checked
def sweep_figure(result: SweepResult, score: str | None = None, choice: Choice | None = None) -> go.Figure:
    """Mean change of a score per cell (top) and of each damage score (below), one column per condition.

    All maps in a row have the same colours. A ring marks the cell that half of the items chose.

    Args:
        result: the sweep.
        score: the effect to draw; None means the first one.
        choice: the cell to mark; None chooses one without a damage budget if there are enough items.

    Example:
        >>> sweep_figure(found, score="good over bad")  # doctest: +SKIP
    """
    chosen_score = (result.effects or result.names)[0] if score is None else score
    if choice is None and result.clean.shape[1] >= 4:
        choice = result.choose(chosen_score, seed=result.provenance.seed or 0)
    conditions = [name for name in result.conditions if not name.startswith(RANDOM + " ")]
    rows = [chosen_score, *(name for name in result.damage if name != chosen_score)]
    figure = make_subplots(
        len(rows),
        len(conditions),
        subplot_titles=[escape(title) for title in conditions],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.1 if len(rows) > 1 else 0,
    )
    for row, name in enumerate(rows, start=1):
        for column, condition in enumerate(conditions, start=1):
            figure.add_trace(_map(result, name, condition, row), row, column)
            if choice is not None:
                figure.add_trace(_mark(result, choice), row, column)
        figure.update_layout({f"coloraxis{row}": _colours(result, name, row, len(rows))})
    items = result.clean.shape[1]
    height = PANEL_HEIGHT * len(rows) + TOP + BOTTOM
    title = f"Steering: {chosen_score}, change from the clean run, mean of {items} items"
    finish(figure, title=title, note=result.provenance.line(), height=height, top=TOP, bottom=BOTTOM)
    figure.update_layout(plot_bgcolor=UNKNOWN)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    figure.update_xaxes(title="strength", row=len(rows))
    figure.update_yaxes(title="layer", col=1)
    return figure


@draws(SteeringVector)
def vector_figure(vector: SteeringVector) -> go.Figure:
    """Norm of a steering vector's direction at each of its layers."""
    x = [str(layer) for layer in vector.layers]
    figure = go.Figure(go.Bar(x=x, y=vector.directions.norm(dim=1).tolist(), marker={"color": PALETTE[0]}, width=0.5))
    finish(figure, title=f"Steering vector: {vector.name}", note=vector.provenance.line(), height=360)
    figure.update_xaxes(title="layer", type="category")
    figure.update_yaxes(title="norm of the direction", rangemode="tozero")
    return figure


def _means(result: SweepResult, score: str, condition: str) -> Float[Tensor, "layer strength"]:
    return result.effect(score, condition).nanmean(-1)


def change_reach(result: SweepResult, score: str) -> float:
    """The mean change with the strongest colour: one scale for all conditions of a score."""
    return reach(torch.stack([_means(result, score, condition) for condition in result.conditions]))


def _labels(result: SweepResult) -> tuple[list[str], list[str]]:
    return [number(strength, "g") for strength in result.strengths], [str(layer) for layer in result.layers]


def _map(result: SweepResult, score: str, condition: str, row: int) -> go.Heatmap:
    x, y = _labels(result)
    what = f"{escape(condition)}<br>layer %{{y}}, strength %{{x}}<br>{escape(score)}: %{{z:+.4g}}<extra></extra>"
    values = _means(result, score, condition)
    return go.Heatmap(z=values.tolist(), x=x, y=y, coloraxis=f"coloraxis{row}", hovertemplate=what, xgap=1.5, ygap=1.5)


def _mark(result: SweepResult, choice: Choice) -> go.Scatter:
    return go.Scatter(
        x=[number(choice.strength, "g")],
        y=[str(choice.layer)],
        mode="markers",
        marker={"symbol": "circle", "size": 11, "color": "white", "line": {"color": INK, "width": 2.5}},
        name="chosen on half of the items",
        showlegend=False,
        hoverinfo="skip",
    )


def _colours(result: SweepResult, score: str, row: int, rows: int) -> dict[str, Any]:
    """Diverging colours around no change; from zero up for damage that only rises."""
    means = torch.stack([_means(result, score, condition) for condition in result.conditions])
    axis = diverging(change_reach(result, score), escape(score), "c")
    axis["colorbar"] |= {"title": {"text": escape(score), "side": "right"}}
    axis["colorbar"] |= {"len": 0.9 / rows, "y": 1 - (row - 0.5) / rows}
    if score in result.damage and not bool((means < 0).any()):
        axis |= {"cmin": 0, "colorscale": [list(stop) for stop in AMBERS]}
    return axis
