"""The loss curve of a training."""

import plotly.graph_objects as go

from semhub_lens.base.results import draws
from semhub_lens.training.train import TrainingCurve
from semhub_lens.views.style import NULL_COLOUR, PALETTE, finish, rgba

SPLITS = ("choosing", "new_concept", "new_item", "new_style")
"""A split has the same colour in the figure of every training."""


@draws(TrainingCurve)
def training_figure(result: TrainingCurve) -> go.Figure:
    """Loss of every step, its running mean, and the loss on items that were not trained on."""
    steps = list(range(1, len(result.losses) + 1))
    figure = go.Figure()
    faint = {"color": rgba(NULL_COLOUR, 0.5), "width": 1}
    figure.add_scatter(x=steps, y=result.losses.tolist(), mode="lines", line=faint, name="each step")
    smooth = result.smooth.tolist()
    figure.add_scatter(x=steps, y=smooth, mode="lines", line={"color": PALETTE[0]}, name=f"mean of {result.window}")
    order = list(dict.fromkeys((*SPLITS, *result.checks)))
    for split, points in result.checks.items():
        x, y = zip(*points, strict=True)
        line = {"color": PALETTE[(1 + order.index(split)) % len(PALETTE)]}
        figure.add_scatter(x=x, y=y, mode="lines+markers", line=line, name=split.replace("_", " "))
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss (nats a token)")
    return finish(figure, title="Training of a projector", note=result.provenance.line())
