"""Generated pictures of one colour, in many shades, with the colour's name; they need only Pillow."""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import optional
from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem

COLOURS = {
    "red": ((0.99, 1.01), (0.85, 1.0), (0.75, 1.0), ("rouge", "rojo", "rot", "红色")),
    "orange": ((0.065, 0.1), (0.9, 1.0), (0.95, 1.0), ("orange", "naranja", "orange", "橙色")),
    "yellow": ((0.145, 0.17), (0.85, 1.0), (0.92, 1.0), ("jaune", "amarillo", "gelb", "黄色")),
    "green": ((0.29, 0.4), (0.75, 1.0), (0.45, 0.85), ("vert", "verde", "grün", "绿色")),
    "blue": ((0.58, 0.66), (0.8, 1.0), (0.6, 1.0), ("bleu", "azul", "blau", "蓝色")),
    "purple": ((0.76, 0.8), (0.7, 1.0), (0.45, 0.75), ("violet", "morado", "lila", "紫色")),
    "pink": ((0.91, 0.95), (0.3, 0.5), (0.95, 1.0), ("rose", "rosa", "rosa", "粉色")),
    "brown": ((0.05, 0.08), (0.65, 0.85), (0.35, 0.5), ("marron", "marrón", "braun", "棕色")),
    "black": ((0.0, 1.0), (0.0, 0.2), (0.0, 0.08), ("noir", "negro", "schwarz", "黑色")),
    "white": ((0.0, 1.0), (0.0, 0.02), (0.96, 1.0), ("blanc", "blanco", "weiß", "白色")),
    "gray": ((0.0, 1.0), (0.0, 0.05), (0.4, 0.65), ("gris", "gris", "grau", "灰色")),
}
"""Ranges of hue, saturation and value, and the name in French, Spanish, German and Chinese."""
SIDE = 64


@checked
def colour_pictures(shades: int = 8, seed: int = 0) -> list[MediaItem]:
    """Pictures of one colour each, `shades` of every colour.

    Raises:
        SemhubError: fewer than one shade.

    Example:
        >>> from semhub_lens.data.media.colours import colour_pictures
        >>> len(colour_pictures(shades=2))
        22
    """
    if shades < 1:
        raise SemhubError(f"shades= is the number of pictures of each colour, at least 1; got {shades}.")
    rng = generator(seed)
    items = []
    for name, (hue, saturation, value, others) in COLOURS.items():
        names = {"en": (name,)} | {code: (word,) for code, word in zip(("fr", "es", "de", "zh"), others, strict=True)}
        for i in range(shades):
            hsv = [
                low + (high - low) * float(torch.rand(1, generator=rng, dtype=torch.float32))
                for low, high in (hue, saturation, value)
            ]
            rgb = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hsv[0] % 1, *hsv[1:]))
            items.append(MediaItem(f"colour:{name}:{i}", "colour", name, names, str(rgb), partial(_plain, rgb)))
    return items


def _plain(rgb: tuple[int, ...]) -> Any:
    return optional("PIL.Image", "pillow", "vision").new("RGB", (SIDE, SIDE), rgb)


@dataclass(frozen=True, eq=False)
class TwoColours:
    """A square picture of two colours, side by side."""

    left: str
    right: str
    open: Callable[[], Any]
    """Draws the picture (PIL)."""

    def mask(self, side: str) -> torch.Tensor:
        """The pixels `[y x]` of the "left" or the "right" half."""
        half = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        half[:, : SIDE // 2] = True
        return half if side == "left" else ~half


@checked
def two_colour_pictures(colours: Sequence[str], n: int, seed: int) -> list[TwoColours]:
    """Pictures whose two halves have different colours, in random shades.

    Raises:
        SemhubError: fewer than two colours, an unknown one, or fewer than one picture.

    Example:
        >>> from semhub_lens.data.media.colours import two_colour_pictures
        >>> picture = two_colour_pictures(["red", "blue"], 1, seed=0)[0]
        >>> sorted([picture.left, picture.right]), float(picture.mask("left")[:, :32].float().mean())
        (['blue', 'red'], 1.0)
    """
    if n < 1 or len(set(colours)) < 2 or not set(colours) <= COLOURS.keys():
        raise SemhubError(
            f"Expected at least one picture and two of the colours {', '.join(COLOURS)}; got n={n} and {list(colours)}."
        )
    rng = generator(seed)
    shades = [item for item in colour_pictures(seed=seed) if item.concept in colours]
    made = []
    for _ in range(n):
        order = torch.randperm(len(shades), generator=rng).tolist()
        left = shades[order[0]]
        right = next(shades[i] for i in order if shades[i].concept != left.concept)
        made.append(TwoColours(left.concept, right.concept, partial(_side_by_side, left.open, right.open)))
    return made


def _side_by_side(left: Callable[[], Any], right: Callable[[], Any]) -> Any:
    canvas = left()
    canvas.paste(right().crop((0, 0, SIDE // 2, SIDE)), (SIDE // 2, 0))
    return canvas
