"""Prompts and their continuations, as a table."""

import plotly.graph_objects as go

from semhub_lens.base.results import draws
from semhub_lens.model.generation import Generation
from semhub_lens.views.style import escape, finish


@draws(Generation)
def generation_figure(result: Generation) -> go.Figure:
    """One row for each prompt."""
    cells = [[escape(text) for text in column] for column in (result.prompts, result.texts)]
    table = go.Table(
        header={"values": ["<b>prompt</b>", "<b>continuation</b>"], "align": "left"},
        cells={"values": cells, "align": "left"},
        columnwidth=[1, 2],
    )
    return finish(
        go.Figure(table), title="Generation", note=result.provenance.line(), height=160 + 40 * len(result.texts)
    )
