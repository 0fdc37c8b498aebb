"""Concept patching: probability of the words by first patched layer."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from semhub_lens.base.results import draws
from semhub_lens.evidence.stats import bootstrap_mean
from semhub_lens.interventions.concepts import ConceptPatchResult
from semhub_lens.views.style import PALETTE, band, escape, finish, layer_axis


@draws(ConceptPatchResult)
def concept_figure(result: ConceptPatchResult) -> go.Figure:
    """Mean probability of every word with its 95 % bootstrap interval, one panel for each condition."""
    conditions = result.conditions()
    x = list(result.layers)
    figure = make_subplots(1, len(conditions), subplot_titles=[escape(name) for name in conditions], shared_yaxes=True)
    for column, values in enumerate(conditions.values(), start=1):
        for i, name in enumerate(result.names):
            interval = bootstrap_mean(values[..., i].exp(), seed=0)
            colour, low, high = PALETTE[i % len(PALETTE)], interval.low.tolist(), interval.high.tolist()
            figure.add_trace(band(x, low, high, colour, f"{escape(name)}, 95 %", showlegend=False), 1, column)
            line = go.Scatter(
                x=x,
                y=interval.mean.tolist(),
                mode="lines+markers",
                name=escape(name),
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colour, "width": 2},
                marker={"size": 4},
                hovertemplate=f"{escape(name)}<br>from layer %{{x}}: %{{y:.3g}}<extra></extra>",
            )
            figure.add_trace(line, 1, column)
    title = f"Concept patching, mean of {len(result.items)} items"
    finish(figure, title=title, note=result.provenance.line(), height=480, bottom=130)
    figure.update_xaxes(**layer_axis(max(x) + 1))
    figure.update_xaxes(title_text="patched from layer")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="probability", col=1)
    return figure
