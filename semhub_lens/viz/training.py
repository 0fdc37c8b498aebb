"""The loss curve of a training."""

import plotly.graph_objects as go

from semhub_lens.spokes.training import TrainingCurve
from semhub_lens.viz.style import NULL_COLOUR, PALETTE, finish, rgba


def training_figure(result: TrainingCurve) -> go.Figure:
    """Loss of every step, its running mean, and the loss on items that were not trained on."""
    steps = list(range(1, len(result.losses) + 1))
    figure = go.Figure()
    faint = {"color": rgba(NULL_COLOUR, 0.5), "width": 1}
    figure.add_scatter(x=steps, y=result.losses.tolist(), mode="lines", line=faint, name="each step")
    smooth = result.smooth.tolist()
    figure.add_scatter(x=steps, y=smooth, mode="lines", line={"color": PALETTE[0]}, name=f"mean of {result.window}")
    for colour, (split, points) in zip(PALETTE[1:], result.checks.items(), strict=False):
        x, y = zip(*points, strict=True)
        figure.add_scatter(x=x, y=y, mode="lines+markers", line={"color": colour}, name=split.replace("_", " "))
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="loss (nats a token)")
    return finish(figure, title="Training of a projector", note=result.provenance.line())
