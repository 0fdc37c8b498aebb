"""The logit-lens heat map: layers x tokens, the most probable token in each cell, its alternatives on hover."""

import math
import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import draws
from semhub_lens.geometry.cosine import CosineResult
from semhub_lens.inputs.modalities import MODALITIES
from semhub_lens.lens.comparison import LensComparison
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.scale import UNKNOWN, diverging, reach
from semhub_lens.views.style import AMBERS, BLUES, MONO, WIDEST, escape, finish, named, number

CELL_WIDTH, CELL_HEIGHT, LONGEST = 78, 25, 10
TOO_MANY = "; the cells of {} tokens are too narrow for text: hover"
"""A note under a heat map that a browser could not draw with columns of the usual width."""


NAMES = {"entropy": "entropy (nats)", "kl_to_final": "KL to final (nats)"}


@draws(LensResult)
def lens_figure(result: LensResult) -> go.Figure:
    """Heat map of a `LensResult`; buttons colour the cells by a measured quantity: probability, entropy, KL to final.

    Raises:
        SemhubError: neither log-probabilities of top tokens nor a quantity with one number per cell were measured.
    """
    colourings = _colourings(result)
    name, values, scale, top = colourings[0]
    strings = _strings(result)
    layers, positions = values.shape
    x, y = list(range(positions)), list(range(layers))
    fits = 190 + CELL_WIDTH * positions <= WIDEST
    named = x if fits else x[:: math.ceil(positions * CELL_WIDTH / WIDEST)]
    figure = go.Figure(
        go.Heatmap(
            z=values.tolist(),
            x=x,
            y=y,
            zmin=0,
            zmax=top,
            text=[[escape(short(cell[0])) if cell else "" for cell in row] for row in strings],
            texttemplate="%{text}" if fits else None,
            textfont={"family": MONO, "size": 11},
            customdata=[[hover(result, strings, layer, pos) for pos in x] for layer in y],
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=scale,
            xgap=1.5 if fits else 0,
            ygap=1.5,
            colorbar={"title": {"text": name}, "thickness": 10, "len": 0.9},
        )
    )
    figure.update_layout(updatemenus=[_buttons(colourings)])
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
        tickvals=named,
        ticktext=[escape(short(result.labels[pos], 14)) for pos in named],
        title="input token (the cell above predicts the next one)" + ("" if fits else TOO_MANY.format(positions)),
        **ticks,
    )
    figure.update_yaxes(tickvals=y, ticktext=layer_names(result), title="layer", **ticks)
    return figure


def _strings(result: LensResult) -> list[list[list[str]]]:
    """The texts of the most probable tokens; empty if they were not requested."""
    if "top_ids" in result.measured:
        return result.strings()
    layers, positions = next(iter(result.measured.values())).shape[:2]
    return [[[] for _ in range(positions)] for _ in range(layers)]


def _colourings(result: LensResult) -> list[tuple[str, Tensor, Any, float]]:
    """The possible colourings of the cells: name, values, colours and the value of the strongest colour."""
    colourings: list[tuple[str, Tensor, Any, float]] = []
    if "top_logprobs" in result.measured:
        colourings.append(("probability", result.top_logprobs[..., 0].exp(), BLUES, 1.0))
    for name, values in result.per_position().items():
        # KL has a few very large values in early layers, which would leave the rest pale.
        top = torch.quantile(values.flatten(), 0.9) if name == "kl_to_final" else values.max()
        colourings.append((NAMES.get(name, name), values, AMBERS, float(top)))
    if not colourings:
        raise SemhubError(
            f"A lens with only {', '.join(result.measured)} has nothing to colour cells by: also request "
            'quantities=["top_ids", "top_logprobs"].'
        )
    return colourings


def _buttons(colourings: Sequence[tuple[str, Tensor, Any, float]]) -> dict:
    buttons = [
        {
            "label": name,
            "method": "restyle",
            "args": [
                {"z": [values.tolist()], "zmin": 0, "zmax": top, "colorscale": [scale], "colorbar.title.text": name}
            ],
        }
        for name, values, scale, top in colourings
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
    measured, rows = result.measured, []
    for rank, text in enumerate(strings[layer][pos]):
        at = (layer, pos, rank)
        share = f"{math.exp(measured['top_logprobs'][at]):7.1%}  " if "top_logprobs" in measured else ""
        rows.append(f"{share}{escape(text)}  <i>#{int(measured['top_ids'][at])}</i>")
    entry = result.entries[layer]
    name = "embedding" if entry == 0 else f"layer {entry}"
    head = f"<b>{name}, position {pos}: after {escape(result.labels[pos])}</b>"
    numbers = []
    for name, values in result.per_position().items():
        label, _, unit = NAMES.get(name, name).partition(" (")
        numbers.append(f"{label} {number(float(values[layer, pos]), '.2f')} {unit.rstrip(')')}".rstrip())
    return "<br>".join([head, *rows, ", ".join(numbers)])


def layer_names(result: LensResult) -> list[str]:
    """The labels of a lens's layers on an axis."""
    return ["emb" if entry == 0 else str(entry) for entry in result.entries]


def row_of(result: LensResult, layer: int) -> int:
    """The row of a layer in a lens.

    Raises:
        SemhubError: the lens did not read this layer.
    """
    if layer not in result.entries:
        raise SemhubError(f"Layer {layer} is out of range: the lens has layers {', '.join(layer_names(result))}.")
    return result.entries.index(layer)


def short(text: str, longest: int = LONGEST) -> str:
    """The text, cut to a length."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


@draws(CosineResult)
def cosine_figure(result: CosineResult) -> go.Figure:
    """Heat map of a `CosineResult`; buttons choose the reference."""
    looks = [diverging(reach(result.cosine, most=1.0), "cosine")] * len(result.names)
    title = f"Cosine to {result.names[0]}" if len(result.names) == 1 else "Cosine to reference states"
    return position_map(result.cosine, result.names, looks, title=title, note=result.provenance.line())


@draws(LensComparison)
def comparison_figure(result: LensComparison) -> go.Figure:
    """Heat map of the changes from a to b; buttons choose the quantity."""
    a, b = (side.per_position().keys() for side in (result.a, result.b))
    changes = {f"change of {NAMES.get(name, name)}": result.change(name) for name in a if name in b}
    if not changes:
        changes = {"answer changed": result.changed}
    title = f"{result.names[0]} | {result.names[1]}"
    looks = [diverging(reach(values), "b less a") for values in changes.values()]
    values = torch.stack(list(changes.values()), -1)
    return position_map(values, list(changes), looks, title=title, note=result.provenance.line())


def position_map(
    values: Float[Tensor, "layer pos name"],
    names: Sequence[str],
    looks: Sequence[dict[str, Any]],
    *,
    title: str,
    note: str,
) -> go.Figure:
    """Heat map of layers x positions; buttons choose the name, with its settings of the colours."""
    layers, positions, count = values.shape
    heat = go.Heatmap(
        z=values[..., 0].tolist(),
        x=list(range(positions)),
        y=list(range(layers)),
        xgap=1,
        ygap=1,
        hovertemplate="layer %{y}, position %{x}: %{z:.3g}<extra></extra>",
        **looks[0],
    )
    figure = finish(go.Figure(heat), title=title, note=note, height=160 + 22 * layers)
    figure.update_layout(plot_bgcolor=UNKNOWN)
    buttons = [
        {
            "label": escape(name),
            "method": "update",
            "args": [
                {"z": [values[..., i].tolist()], **{setting: [value] for setting, value in looks[i].items()}},
                {"title.text": named(title, name)},
            ],
        }
        for i, name in enumerate(names)
    ]
    if count > 1:
        menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
        figure.update_layout(updatemenus=[menu], title_text=named(title, names[0]))
    figure.update_xaxes(title="position")
    figure.update_yaxes(title="layer (0 = embedding)")
    return figure
