"""Pictures with known parts: composed of named pictures, with an exact mask for each.

A mask is a boolean array `[y x]`, row by row from the top left, like the pixels of a picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import optional
from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem

LAYOUTS = {"columns": ((0, 1), (0, 1)), "rows": ((0, 0), (1, 1)), "quadrants": ((0, 1), (2, 3))}
"""The place of each picture in a square of two by two."""
SIDE = 128
"""Pixels of a quarter's side."""
Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class SegmentedPicture:
    """A picture with labelled segments."""

    key: str
    labels: tuple[str, ...]
    """The things that it shows; the first is the label to read."""
    open: Callable[[], tuple[Any, Masks]]
    """Reads the picture (PIL) and a mask for each label, of the picture's size."""


@checked
def composed_pictures(
    items: Sequence[MediaItem], n: int, seed: int, *, layouts: Sequence[str] = ("columns", "rows")
) -> list[SegmentedPicture]:
    """Square pictures, each composed of pictures with different English names.

    In "columns", one picture fills the left half (twice, one above the other) and another the right half. In "rows",
    they fill the upper and the lower half. In "quadrants", four pictures fill a quarter each. Layout, partners and
    places are drawn with `seed`. The first label cycles through all names, so that names are equally frequent.

    Raises:
        SemhubError: an unknown layout, fewer names than a layout has places, or fewer than one picture.

    Example:
        >>> from semhub_lens.data.media.pictures import bundled_pictures
        >>> from semhub_lens.data.media.segments import composed_pictures
        >>> picture, masks = composed_pictures(bundled_pictures(), 3, seed=0)[0].open()
        >>> picture.size, [round(float(mask.mean()), 2) for mask in masks.values()]
        ((256, 256), [0.5, 0.5])
    """
    named = list({item.names["en"][0].casefold(): item for item in items}.values())
    places = [max(map(max, LAYOUTS[layout])) + 1 for layout in layouts if layout in LAYOUTS]
    if not layouts or len(places) < len(layouts) or len(named) < max(places):
        raise SemhubError(
            f"Layouts are {', '.join(LAYOUTS)}, and need a different name for each place; got {list(layouts)} and "
            f"{len(named)} names."
        )
    if n < 1:
        raise SemhubError(f"n= is the number of pictures, at least 1; got {n}.")
    rng = generator(seed)
    first = torch.randperm(len(named), generator=rng).tolist()
    made = []
    for i in range(n):
        own = first[i % len(named)]
        layout = layouts[int(torch.randint(len(layouts), (1,), generator=rng))]
        others = [k for k in torch.randperm(len(named), generator=rng).tolist() if k != own]
        chosen = [named[k] for k in (own, *others)][: max(map(max, LAYOUTS[layout])) + 1]
        order = torch.randperm(len(chosen), generator=rng).tolist()
        labels = tuple(item.names["en"][0] for item in chosen)
        key = f"{layout}: " + ", ".join(labels[k] for k in order)
        made.append(SegmentedPicture(key, labels, partial(_composed, layout, [chosen[k] for k in order], labels)))
    return made


def _composed(layout: str, items: Sequence[MediaItem], labels: Sequence[str]) -> tuple[Any, Masks]:
    image = optional("PIL.Image", "pillow", "vision")
    canvas = image.new("RGB", (2 * SIDE, 2 * SIDE), "white")
    masks = {label: np.zeros((2 * SIDE, 2 * SIDE), dtype=bool) for label in labels}
    parts = [squared(item.open()).resize((SIDE, SIDE)) for item in items]
    for row, listed in enumerate(LAYOUTS[layout]):
        for column, part in enumerate(listed):
            canvas.paste(parts[part], (column * SIDE, row * SIDE))
            mask = masks[items[part].names["en"][0]]
            mask[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = True
    return canvas, masks


@checked
def squared(picture: Any) -> Any:
    """A picture in the middle of a white square, so that no processor crops or stretches it.

    Raises:
        SemhubError: not a PIL image.

    Example:
        >>> from PIL import Image
        >>> from semhub_lens.data.media.segments import squared
        >>> squared(Image.new("RGB", (4, 2))).size
        (4, 4)
    """
    image = optional("PIL.Image", "pillow", "vision")
    if not isinstance(picture, image.Image):
        raise SemhubError(f"Expected a PIL image, such as PIL.Image.open(path); got {shown(picture)}.")
    square = image.new("RGB", (max(picture.size),) * 2, "white")
    square.paste(picture.convert("RGB"), tuple((max(picture.size) - side) // 2 for side in picture.size))
    return square


@checked
def squared_mask(mask: np.ndarray) -> np.ndarray:
    """The mask of a picture after `squared`.

    Raises:
        SemhubError: not one number for each row and column.

    Example:
        >>> squared_mask(np.ones((2, 4), dtype=bool)).shape
        (4, 4)
    """
    if mask.ndim != 2:
        raise SemhubError(f"A mask has one entry for each row and column, got the shape {mask.shape}.")
    side = max(mask.shape)
    top, left = ((side - length) // 2 for length in mask.shape)
    square = np.zeros((side, side), dtype=bool)
    square[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return square
