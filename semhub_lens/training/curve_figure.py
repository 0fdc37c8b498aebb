"""The loss curve of a training, and the test results."""

import plotly.graph_objects as go

from semhub_lens.base.results import draws
from semhub_lens.training.evaluation import SpokeEvaluation
from semhub_lens.training.train import TrainingCurve
from semhub_lens.views.style import NULL_COLOUR, PALETTE, finish, rgba

SPLITS = ("choosing", "new_concept", "new_item", "new_style")
"""A split has the same colour in the figure of every training."""


@draws(TrainingCurve)
def training_figure(result: TrainingCurve) -> go.Figure:
    """Loss of every step, its running mean, and the loss on items outside the training."""
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


@draws(SpokeEvaluation)
def evaluation_figure(result: SpokeEvaluation) -> go.Figure:
    """Share of items whose name is among the top tokens, by split, with intervals and both chance levels."""
    splits = list(dict.fromkeys(result.splits))
    shown = ((5, "rank", PALETTE[0]), (1, "rank", PALETTE[1]), (5, "blind", NULL_COLOUR), (5, "mismatched", PALETTE[3]))
    figure = go.Figure()
    for place, (k, level, colour) in enumerate(shown):
        found = [result.accuracy(k, split, level=level) for split in splits]
        rows = [i + 0.24 - 0.16 * place for i in range(len(splits))]
        ends = [end for one in found for end in (float(one.low), float(one.high), 0)]
        gaps = [part for row in rows for part in (row, row, None)]  # the 0 above is not drawn
        figure.add_scatter(x=ends, y=gaps, mode="lines", line={"color": colour}, showlegend=False)
        means, name = [float(one.mean) for one in found], f"top {k}" + (f", {level}" if level != "rank" else "")
        figure.add_scatter(x=means, y=rows, mode="markers", marker={"color": colour, "size": 9}, name=name)
    figure.update_xaxes(title="share of items with the right name (line: 95 % over concepts)", range=[0, 1])
    figure.update_yaxes(tickvals=list(range(len(splits))), ticktext=[split.replace("_", " ") for split in splits])
    return finish(figure, title="What a spoke names", note=result.provenance.line())
