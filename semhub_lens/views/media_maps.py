"""The lens on a picture's patches and along a sound: what each of them reads as, layer by layer."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs import raw_media
from semhub_lens.inputs.media import Tile
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.lens import LONGEST, TOO_MANY, hover, layer_names, row_of, short
from semhub_lens.views.style import BLUES, MONO, WIDEST, escape, finish, rgba

WIDTH = 640
"""Pixels of the drawn picture."""
SOUND_WIDTH = 60
"""Pixels of a sound's position."""
SHADE = [[0.0, rgba("#ffffff", 0.05)], [1.0, rgba("#d9480f", 0.75)]]
"""From clear to opaque with the probability, so that the picture stays visible."""


def picture_map(result: LensResult, picture: Any, tile: Tile, *, layer: int | None = None) -> go.Figure:
    """Draw the most probable token of every patch over the picture; a slider moves through the layers.

    Patches are drawn row by row as `tile` places them. A token at a patch is what the lens reads there, not a label of
    what the patch shows: the model may have moved what it saw to other positions.

    Args:
        result: `logit_lens` of a prompt with that picture.
        picture: the picture as the model saw it (cropped and padded alike), PIL or an array [height width channel].
        tile: one of `prompt.media.tiles["image:0"]`.
        layer: the layer shown first; None is two thirds of the depth.

    Raises:
        SemhubError: a tile or layer outside the result, or an array that is no picture.

    Example:
        >>> from semhub_lens.inputs.media import Tile
        >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
        >>> white = torch.full((4, 4, 3), 255)
        >>> drawn = shl.picture_map(lens, white, Tile((0, 1, 2, 3), 2, 2), layer=1)
        >>> len(drawn.data[1].z)
        2
    """
    pixels = raw_media.pixels(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    layers, positions, _ = result.top_ids.shape
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or not pixels.size:
        raise SemhubError(f"A picture is an array [height width channel] with 3 or 4 channels, got {pixels.shape}.")
    if max(tile.positions) >= positions:
        raise SemhubError(f"The tile lies at positions up to {max(tile.positions)}, the lens has {positions}.")
    shown = round(2 * (layers - 1) / 3) if layer is None else row_of(result, layer)
    height, width = pixels.shape[:2]
    cells = [_patches(result, tile, at) for at in range(layers)]
    import plotly.express as px  # only pictures need it, and it is slow to import

    figure = px.imshow(pixels, binary_string=True)
    figure.add_trace(
        go.Heatmap(
            x=[(column + 0.5) * width / tile.columns - 0.5 for column in range(tile.columns)],
            y=[(row + 0.5) * height / tile.rows - 0.5 for row in range(tile.rows)],
            z=cells[shown]["z"][0],
            text=cells[shown]["text"][0],
            customdata=cells[shown]["customdata"][0],
            texttemplate="%{text}",
            textfont={"family": MONO, "size": max(6, min(13, round(95 / tile.columns)))},
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=SHADE,
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "probability"}, "thickness": 10},
        )
    )
    figure.update_layout(sliders=[_slider(layer_names(result), cells, shown)])
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5])
    figure.update_yaxes(visible=False, range=[height - 0.5, -0.5])
    finish(
        figure,
        title="What each patch reads as",
        note=result.provenance.line(),
        width=WIDTH + 120,
        height=round(WIDTH * height / width) + 210,
        top=60,
        bottom=150,
    )
    return figure


def _patches(result: LensResult, tile: Tile, layer: int) -> dict[str, list[Any]]:
    """What changes with the layer, as plotly restyles it."""
    strings = result.strings()
    rows = [tile.positions[row * tile.columns : (row + 1) * tile.columns] for row in range(tile.rows)]
    probability = result.top_logprobs[layer, :, 0].exp()
    return {
        "z": [[[float(probability[pos]) for pos in row] for row in rows]],
        "text": [[[escape(short(strings[layer][pos][0], LONGEST)) for pos in row] for row in rows]],
        "customdata": [[[hover(result, strings, layer, pos) for pos in row] for row in rows]],
    }


def _slider(names: Sequence[str], cells: Sequence[dict[str, list[Any]]], shown: int) -> dict[str, Any]:
    steps = [{"label": name, "method": "restyle", "args": [cell, [1]]} for name, cell in zip(names, cells, strict=True)]
    return {"active": shown, "steps": steps, "currentvalue": {"prefix": "layer "}, "pad": {"t": 8}, "len": 0.95}


def sound_map(result: LensResult, positions: Sequence[int], times: Sequence[float]) -> go.Figure:
    """Draw layers x seconds of a sound's positions, with the most probable token in each cell.

    Args:
        result: `logit_lens` of a prompt with that sound.
        positions: `prompt.spans["audio:0"]`.
        times: `prompt.media.times["audio:0"]`, in seconds.

    Raises:
        SemhubError: no positions, another number of times, or positions outside the result.

    Example:
        >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
        >>> list(shl.sound_map(lens, [1, 2], [0.0, 0.04]).data[0].x)
        [0.0, 0.04]
    """
    layers, count, _ = result.top_ids.shape
    if not positions or len(positions) != len(times) or max(positions) >= count:
        raise SemhubError(
            f"Expected a time for each position, all below {count}; got {len(positions)} positions up to "
            f"{max(positions, default=None)} and {len(times)} times."
        )
    strings = result.strings()
    probability = result.top_logprobs[..., 0].exp()
    fits = 190 + SOUND_WIDTH * len(positions) <= WIDEST
    figure = go.Figure(
        go.Heatmap(
            x=list(times),
            y=list(range(layers)),
            z=[[float(probability[layer, pos]) for pos in positions] for layer in range(layers)],
            text=[[escape(short(strings[layer][pos][0], LONGEST)) for pos in positions] for layer in range(layers)],
            customdata=[[hover(result, strings, layer, pos) for pos in positions] for layer in range(layers)],
            texttemplate="%{text}" if fits else None,
            textfont={"family": MONO, "size": 10},
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=BLUES,
            zmin=0,
            zmax=1,
            colorbar={"title": {"text": "probability"}, "thickness": 10},
        )
    )
    finish(
        figure,
        title="What each moment reads as",
        note=result.provenance.line(),
        width=max(760, 190 + SOUND_WIDTH * len(positions)),
        height=190 + 25 * layers,
        top=70,
        bottom=80,
    )
    figure.update_xaxes(title="seconds" + ("" if fits else TOO_MANY.format(len(positions))), showgrid=False)
    figure.update_yaxes(tickvals=list(range(layers)), ticktext=layer_names(result), title="layer", showgrid=False)
    return figure
