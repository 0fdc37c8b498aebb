"""The lens on a picture's patches and along a sound: the most probable token of each, layer by layer."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.media import Tile
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.media import picture_part, sound_part
from semhub_lens.views.explorer.page import document
from semhub_lens.views.explorer.stills import media_still
from semhub_lens.views.explorer.view import AROUND, ROW, View
from semhub_lens.views.lens import row_of

ROOM = 460
"""Pixels of a notebook's frame for the picture or sound above the map."""


@checked
def picture_map(result: LensResult, picture: Any, tile: Tile | Sequence[Tile], *, layer: int | None = None) -> View:
    """Show the most probable token of every patch over the picture, with a slider for layers, above the whole lens.

    Colours, pins, search and hover are those of the lens's own page. `tile` gives the place of the patches. A token at
    a patch is what the lens reads there, not a label of the patch's content: the model may have moved information to
    other positions.

    Args:
        result: `logit_lens` of a prompt with that picture.
        picture: the picture as the model saw it (with the same cropping and padding), PIL or an array [height width
            channel]; for several tiles, a list with one picture for each.
        tile: one of `prompt.media.tiles["image:0"]`, or a list of them.
        layer: the layer to show first; None means two thirds of the depth.

    Returns:
        A page: a notebook shows it, and `write_html` writes it.

    Raises:
        SemhubError: a tile or layer outside the result, an array that is not a picture, or unequal numbers of pictures
            and tiles.

    Example:
        >>> from semhub_lens.inputs.media import Tile
        >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
        >>> white = torch.full((4, 4, 3), 255)
        >>> shl.picture_map(lens, white, Tile((0, 1, 2, 3), 2, 2), layer=1).title
        'What each patch reads as'
    """
    pictures, tiles = ([picture], [tile]) if isinstance(tile, Tile) else (list(picture), list(tile))
    if len(pictures) != len(tiles) or not tiles:
        raise SemhubError(f"Expected a picture for each tile, got {len(pictures)} pictures and {len(tiles)} tiles.")
    positions = len(result.labels)
    for one in tiles:
        if max(one.positions) >= positions:
            raise SemhubError(
                f"The tile has positions up to {max(one.positions)}, but the lens has {positions} positions."
            )
    names = ["Picture"] if len(tiles) == 1 else [f"Picture {i}" for i in range(1, len(tiles) + 1)]
    parts = [picture_part(*each) for each in zip(pictures, tiles, names, strict=True)]
    patches = " + ".join(f"{one.rows} x {one.columns}" for one in tiles)
    return _view(result, parts, layer, "What each patch reads as", f"{patches} patches")


@checked
def sound_map(
    result: LensResult,
    positions: Sequence[int],
    times: Sequence[float],
    sound: tuple[Any, int] | None = None,
    *,
    layer: int | None = None,
) -> View:
    """Show the most probable token of every moment along a sound, with a slider for layers, above the whole lens.

    If the sound is given, the page draws its waveform and plays it. Neighbouring moments with the same word are joined.
    A word is what the lens reads at that moment, not a transcript.

    Args:
        result: `logit_lens` of a prompt with that sound.
        positions: `prompt.spans["audio:0"]`.
        times: `prompt.media.times["audio:0"]`, in seconds.
        sound: (samples, rate), samples [time] or [time channel].
        layer: the layer to show first; None means two thirds of the depth.

    Returns:
        A page: a notebook shows it, and `write_html` writes it.

    Raises:
        SemhubError: no positions, another number of times, times that do not increase, positions or a layer outside the
            result, or not a sound.

    Example:
        >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
        >>> shl.sound_map(lens, [1, 2], [0.0, 0.04]).title
        'What each moment reads as'
    """
    count = len(result.labels)
    if not len(positions) or len(positions) != len(times) or not 0 <= min(positions) <= max(positions) < count:
        raise SemhubError(
            f"Expected a time for each position, all below {count}; got {len(positions)} positions up to "
            f"{max(positions, default=None)} and {len(times)} times."
        )
    if times[0] < 0 or any(later <= earlier for earlier, later in pairwise(times)):
        raise SemhubError(f"The times of a sound's positions must increase, in seconds; got {list(times)[:20]}.")
    part = sound_part(positions, times, sound, "Sound")
    return _view(result, [part], layer, "What each moment reads as", f"{len(positions)} positions")


def _view(result: LensResult, parts: list[dict[str, Any]], layer: int | None, title: str, what: str) -> View:
    layers = next(iter(result.measured.values())).shape[0]
    shown = round(2 * (layers - 1) / 3) if layer is None else row_of(result, layer)
    page = document(result, {"layer": shown, "parts": parts})
    height, picture = AROUND + ROOM + ROW * min(layers, 12), media_still(result, parts[0], shown)
    return View(title, page, f"{title}: {what}, {layers} layers", height, picture)
