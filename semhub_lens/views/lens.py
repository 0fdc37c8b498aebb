"""The logit-lens heat map: layers x tokens, the most probable token in each cell, its alternatives on hover."""

import math
import re

import plotly.graph_objects as go
import torch

from semhub_lens.base.results import draws
from semhub_lens.geometry.cosine import CosineResult
from semhub_lens.inputs.modalities import MODALITIES
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.style import AMBERS, BLUES, MONO, escape, finish

CELL_WIDTH, CELL_HEIGHT, LONGEST = 78, 25, 10


@draws(LensResult)
def lens_figure(result: LensResult) -> go.Figure:
    """Heat map of a `LensResult`; buttons colour the cells by probability, entropy or KL to the final layer."""
    strings = result.strings()
    probability = result.top_logprobs[..., 0].exp()
    layers, positions = probability.shape
    x, y = list(range(positions)), list(range(layers))
    figure = go.Figure(
        go.Heatmap(
            z=probability.tolist(),
            x=x,
            y=y,
            zmin=0,
            zmax=1,
            text=[[escape(short(cell[0])) for cell in row] for row in strings],
            texttemplate="%{text}",
            textfont={"family": MONO, "size": 11},
            customdata=[[hover(result, strings, layer, pos) for pos in x] for layer in y],
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=BLUES,
            xgap=1.5,
            ygap=1.5,
            colorbar={"title": {"text": "probability"}, "thickness": 10, "len": 0.9},
        )
    )
    figure.update_layout(updatemenus=[_buttons(result, probability)])
    label = re.sub(rf"(({'|'.join(MODALITIES)}) \d+)+", r"<\2>", "".join(result.labels)).replace("␣", " ")
    finish(
        figure,
        title=f"Logit lens: {short(label, 90)}",
        note=result.provenance.line(),
        width=max(760, 190 + CELL_WIDTH * positions),
        height=190 + CELL_HEIGHT * layers,
        top=95,
        bottom=80,
    )
    ticks = {"tickfont": {"family": MONO, "size": 11}, "showgrid": False}
    figure.update_xaxes(
        tickvals=x,
        ticktext=[escape(short(label, 14)) for label in result.labels],
        title="input token (the cell above predicts the next one)",
        **ticks,
    )
    figure.update_yaxes(tickvals=y, ticktext=["emb", *(str(i) for i in y[1:])], title="layer", **ticks)
    return figure


def _buttons(result: LensResult, probability: torch.Tensor) -> dict:
    views = (
        ("probability", probability, BLUES, 1.0),
        ("entropy (nats)", result.entropy, AMBERS, float(result.entropy.max())),
        ("KL to final (nats)", result.kl_to_final, AMBERS, float(torch.quantile(result.kl_to_final.flatten(), 0.9))),
    )
    buttons = [
        {
            "label": name,
            "method": "restyle",
            "args": [
                {"z": [values.tolist()], "zmin": 0, "zmax": top, "colorscale": [scale], "colorbar.title.text": name}
            ],
        }
        for name, values, scale, top in views
    ]
    return {
        "type": "buttons",
        "direction": "right",
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 8},
        "buttons": buttons,
    }


def hover(result: LensResult, strings: list[list[list[str]]], layer: int, pos: int) -> str:
    """The alternatives of a cell, as HTML."""
    rows = [
        f"{math.exp(logprob):7.1%}  {escape(text)}  <i>#{token}</i>"
        for text, logprob, token in zip(
            strings[layer][pos],
            result.top_logprobs[layer, pos].tolist(),
            result.top_ids[layer, pos].tolist(),
            strict=True,
        )
    ]
    name = "embedding" if layer == 0 else f"layer {layer}"
    head = f"<b>{name}, position {pos}: after {escape(result.labels[pos])}</b>"
    foot = (
        f"entropy {float(result.entropy[layer, pos]):.2f}, KL to final {float(result.kl_to_final[layer, pos]):.2f} nats"
    )
    return "<br>".join([head, *rows, foot])


def short(text: str, longest: int = LONGEST) -> str:
    """The text, cut to a length."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


@draws(CosineResult)
def cosine_figure(result: CosineResult) -> go.Figure:
    """Heat map of a `CosineResult`; buttons choose the reference."""
    layers, positions, count = result.cosine.shape
    figure = go.Figure(
        go.Heatmap(
            z=result.cosine[..., 0].tolist(),
            x=list(range(positions)),
            y=list(range(layers)),
            zmin=-1,
            zmax=1,
            colorscale="RdBu",
            reversescale=True,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "cosine"}, "thickness": 10},
            hovertemplate="layer %{y}, position %{x}: %{z:.3f}<extra></extra>",
        )
    )
    buttons = [
        {"label": escape(name), "method": "restyle", "args": [{"z": [result.cosine[..., i].tolist()]}]}
        for i, name in enumerate(result.names)
    ]
    if count > 1:
        figure.update_layout(
            updatemenus=[{"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}]
        )
    finish(
        figure,
        title=f"Cosine to {', '.join(result.names[:6])}",
        note=result.provenance.line(),
        height=160 + 22 * layers,
    )
    figure.update_xaxes(title="position")
    figure.update_yaxes(title="layer (0 = embedding)")
    return figure
