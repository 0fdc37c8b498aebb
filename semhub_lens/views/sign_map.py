"""The sign of a leg's effect, item by item."""

import plotly.graph_objects as go

from semhub_lens.base.arguments import checked
from semhub_lens.evidence.legs import Leg
from semhub_lens.views.style import PALETTE, escape, finish

SIGNS = ((0.0, PALETTE[1]), (0.5, "#f4f5f8"), (1.0, PALETTE[0]))
NAMES = {-1.0: "against", 0.0: "neither", 1.0: "as predicted"}


@checked
def sign_map(leg: Leg) -> go.Figure:
    """Heat map of the effect's sign, layers x items: which cells support the hypothesis, and which oppose it.

    It shows no sizes: an effect of a tenth of a nat looks like one of ten nats. Hover for the effect.

    Args:
        leg: a leg of an experiment; for a grid of interventions, the rows of the chosen strength are drawn.

    Returns:
        A plotly figure.

    Raises:
        SemhubError: not a leg.

    Example:
        >>> result = experiments.run("code.logit_lens_roles", model)  # doctest: +SKIP
        >>> shl.sign_map(result.legs[0])  # doctest: +SKIP
    """
    rows = [i for i in range(len(leg.layers)) if not leg.strengths or leg.strengths[i] == leg.strength]
    effect = leg.effect[rows]
    items = list(range(effect.shape[1]))
    labels = [escape(label) for label in leg.labels] or [f"item {i}" for i in items]
    y = [leg.layers[i] for i in rows]
    heat = go.Heatmap(
        z=effect.sign().tolist(),
        x=items,
        y=y,
        zmin=-1,
        zmax=1,
        colorscale=SIGNS,
        customdata=[[[labels[i], value] for i, value in enumerate(row)] for row in effect.tolist()],
        hovertemplate=(
            f"%{{customdata[0]}}<br>layer %{{y}}: %{{customdata[1]:.3g}} {escape(leg.wording.unit)}<extra></extra>"
        ),
        colorbar={"tickvals": list(NAMES), "ticktext": list(NAMES.values()), "thickness": 10, "len": 0.6},
        xgap=0.5,
        ygap=0.5,
    )
    figure = finish(
        go.Figure(heat), title=f"Sign of the effect: {leg.title}", note=leg.provenance.line(), height=200 + 20 * len(y)
    )
    figure.update_xaxes(title="item", showgrid=False)
    figure.update_yaxes(
        tickvals=y, ticktext=["emb" if layer == 0 else str(layer) for layer in y], title="layer", showgrid=False
    )
    return figure
