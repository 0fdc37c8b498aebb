"""Trajectories: paths through the layers in the plane of the anchors."""

import plotly.graph_objects as go

from semhub_lens.base.results import draws
from semhub_lens.lens.trajectories import TrajectoryResult
from semhub_lens.views.style import escape, finish

MOST_PATHS = 60
"""The largest number of drawn paths; more would hide each other. The mean path is over all items."""


@draws(TrajectoryResult)
def trajectory_figure(result: TrajectoryResult) -> go.Figure:
    """The items' paths (thin, coloured by layer), their mean (thick), and the anchors by name."""
    items = result.path.shape[1]
    figure = go.Figure()
    for item in range(min(items, MOST_PATHS)):
        figure.add_trace(_path(result.path[:, item], result.labels[item], thin=True, first=item == 0))
    figure.add_trace(_path(result.path.mean(1), f"mean of {items}", thin=False, first=True))
    figure.add_trace(
        go.Scatter(
            x=result.anchors[:, 0].tolist(),
            y=result.anchors[:, 1].tolist(),
            mode="text",
            text=[f"<b>{escape(name)}</b>" for name in result.anchor_names],
            textfont={"size": 14, "color": "#7a1f3d"},
            name="anchors (unembedding)",
            hoverinfo="text",
        )
    )
    first, second = (f"{float(share):.0%} of the anchors' variance" for share in result.explained)
    finish(figure, title=f"Paths of {items} items through the layers", note=result.provenance.line(), height=640)
    figure.update_xaxes(title=f"first axis ({first})")
    figure.update_yaxes(title=f"second axis ({second})", scaleanchor="x")
    return figure


def _path(points, name: str, *, thin: bool, first: bool) -> go.Scatter:
    layers = list(range(len(points)))
    return go.Scatter(
        x=points[:, 0].tolist(),
        y=points[:, 1].tolist(),
        mode="lines+markers",
        line={"color": "rgba(120,120,120,.25)" if thin else "#222222", "width": 1 if thin else 3},
        marker={
            "color": layers,
            "colorscale": "Viridis",
            "size": 4 if thin else 8,
            "opacity": 0.5 if thin else 1,
            "showscale": not thin,
            "colorbar": {"title": "layer"},
        },
        name="items" if thin else escape(name),
        legendgroup="items" if thin else "mean",
        showlegend=first,
        customdata=layers,
        hovertemplate=f"{escape(name)}<br>layer %{{customdata}}<extra></extra>",
    )
