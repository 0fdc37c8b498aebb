"""Patchscopes: the most probable word for each state in the reading prompt, by entry."""

import math

import plotly.graph_objects as go

from semhub_lens.base.results import draws
from semhub_lens.interventions.patchscope import PatchscopeResult
from semhub_lens.views.lens import short
from semhub_lens.views.style import BLUES, MONO, WIDEST, escape, finish

CELL_WIDTH, CELL_HEIGHT = 84, 22


@draws(PatchscopeResult)
def patchscope_figure(result: PatchscopeResult) -> go.Figure:
    """Heat map of the most probable word of every cell and item, coloured by its log-probability."""
    shape = cells, items = result.best.shape
    words = [[escape(short(result.words[word])) for word in row] for row in result.best.tolist()]
    texts = result.texts or [[""] * items] * cells
    hover = [[f"<br>{escape(text)}" if text else "" for text in row] for row in texts]
    unit = "log p above mean" if result.contrast else "log p"
    same = all(own == target for own, target in result.cells)
    figure = go.Figure(
        go.Heatmap(
            z=result.log_probs.amax(-1).tolist(),
            text=words,
            texttemplate="%{text}",
            customdata=hover,
            x=list(range(items)),
            y=list(range(cells)),
            colorscale=BLUES,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": unit}, "thickness": 10},
            hovertemplate=f"%{{text}}, {unit} %{{z:.3g}}%{{customdata}}<extra></extra>",
        )
    )
    finish(
        figure,
        title=f"Patchscope: the most probable of {len(result.words)} words, {items} items",
        note=result.provenance.line(),
        width=max(760, 190 + CELL_WIDTH * shape[1]),
        height=230 + CELL_HEIGHT * cells,
        bottom=120,
    )
    step = math.ceil(CELL_WIDTH * items / WIDEST)
    figure.update_xaxes(
        tickvals=list(range(0, items, step)),
        ticktext=[escape(short(label)) for label in result.labels[::step]],
        title="item",
        tickfont={"family": MONO, "size": 11},
        showgrid=False,
    )
    figure.update_yaxes(
        tickvals=list(range(cells)),
        ticktext=[str(own) if same else f"{own} → {target}" for own, target in result.cells],
        title="entry" if same else "source → target entry",
        showgrid=False,
    )
    return figure
