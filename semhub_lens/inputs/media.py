"""Pictures and sound in a prompt: what a model is given beside token ids, and where it lies among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError

ENTRY = "blocks.0.hook_resid_pre"
"""Where embeddings are written; on a `HookedTransformer` that generates, `hook_embed` never fires."""
ALONG_TOKENS = ("mm_token_type_ids", "token_type_ids")
"""Inputs with one entry a token; a model that runs without a cache needs them for new tokens too."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of picture patches, one prompt position each, row by row from the top left."""

    positions: tuple[int, ...]
    rows: int
    columns: int
    whole: bool = True
    """Whether the patches lie over the whole picture, as the processor prepared it; a part of one does not."""

    def __post_init__(self) -> None:
        if self.rows * self.columns != len(self.positions) or not self.positions:
            raise SemhubError(
                f"A tile of {self.rows} rows and {self.columns} columns needs {self.rows * self.columns} positions, "
                f"got {len(self.positions)}."
            )

    def covered(self, mask: Bool[Tensor, "height width"], share: float = 0.5) -> tuple[int, ...]:
        """The prompt positions of the patches of which a segment covers more than `share`, row by row.

        Args:
            mask: the segment's pixels, `[y x]`, over the picture as the model sees it (cropped and padded alike), at
                any resolution. A pixel that lies across patches counts in each for the part inside.
            share: a patch of which exactly this share is covered does not count.

        Raises:
            SemhubError: a mask without pixels, a share outside 0 to 1, or a tile of a part of a picture.

        Example:
            >>> from semhub_lens.inputs.media import Tile
            >>> upper = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]).bool()
            >>> Tile((5, 6, 7, 8), 2, 2).covered(upper)
            (5,)
        """
        if not self.whole:
            raise SemhubError("A mask is of the whole picture, but this tile shows a part; use the tile of the whole.")
        if not mask.numel() or not 0 <= share < 1:
            raise SemhubError(f"Expected a mask with pixels and a share from 0 to below 1, got {mask.shape}, {share}.")
        height, width = mask.shape
        down, across = _overlaps(self.rows, height), _overlaps(self.columns, width)
        inside = down @ mask.to(down.device, torch.long) @ across.T  # of height * width a patch, in whole numbers
        chosen = (inside > share * height * width).flatten().tolist()
        return tuple(position for position, within in zip(self.positions, chosen, strict=True) if within)


def _overlaps(cells: int, pixels: int) -> Int[Tensor, "cell pixel"]:
    """How much of each pixel lies in each of equal cells, in parts of 1 / cells of a pixel."""
    cell, pixel = torch.arange(cells)[:, None] * pixels, torch.arange(pixels)[None] * cells
    return (torch.minimum(cell + pixels, pixel + cells) - torch.maximum(cell, pixel)).clamp(min=0)


@checked
@dataclass(frozen=True, eq=False)
class Media:
    """Tensors of one prompt's pictures and sound, as its processor made them.

    Build it with `Prompt.from_processor`, or by hand for `Prompt.from_ids(ids, media=...)`.

    Example:
        >>> from semhub_lens.inputs.media import Media
        >>> Media({"pixel_values": torch.zeros(1, 3, 28, 28)}).signature
        (('pixel_values', (1, 3, 28, 28)),)
    """

    inputs: Mapping[str, Tensor]
    """Keyword arguments of the model, the first axis as in a batch of one prompt."""
    tiles: Mapping[str, tuple[Tile, ...]] = field(default_factory=dict)
    """Per picture span its rectangles of patches: several where the picture is read in parts. Positions that end a row
    or a part belong to none."""
    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Per sound span, the second at which each position's frames begin."""

    def __post_init__(self) -> None:
        if not self.inputs or not all(isinstance(value, Tensor) and value.ndim for value in self.inputs.values()):
            shown = {name: type(value).__name__ for name, value in self.inputs.items()}
            raise SemhubError(f"Media need tensors with a batch axis, by the model's keyword; got {shown or 'none'}.")
        for name, value in self.inputs.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise SemhubError(f"The media tensor {name!r} holds NaN or infinite entries.")

    @property
    def signature(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes; prompts that share it and their length can run as one batch."""
        return tuple((name, tuple(value.shape)) for name, value in sorted(self.inputs.items()))


def joined(media: Sequence[Media | None]) -> dict[str, Tensor]:
    """The inputs of a batch of prompts of one signature."""
    inputs = [entry.inputs for entry in media if entry is not None]
    return {name: torch.cat([entry[name] for entry in inputs]) for name in (inputs[0] if inputs else ())}


def extended(inputs: Mapping[str, Tensor], new_tokens: int) -> dict[str, Tensor]:
    """The inputs for prompts with text tokens behind them."""
    return {
        name: torch.nn.functional.pad(value, (0, new_tokens)) if name in ALONG_TOKENS else value
        for name, value in inputs.items()
    }


@dataclass(frozen=True, eq=False)
class Writes:
    """Embeddings of one prompt, and the positions they are written over at the input of block 0."""

    positions: Int[Tensor, " k"]
    vectors: Float[Tensor, "k d_model"]

    def __call__(self, activation: Tensor, hook: Any) -> Tensor:
        """As a hook function of your own run: write into a pass that holds all positions; later ones are cached."""
        if activation.shape[1] <= int(self.positions.max()):
            return activation
        out = activation.clone()
        self.write(out, slice(None), 0)
        return out

    def write(self, activation: Tensor, row: int | slice, start: int) -> None:
        """Write, in place, what lies in the columns of a pass that begins at absolute position `start`."""
        columns = self.positions - start
        seen = (columns >= 0) & (columns < activation.shape[1])
        activation[row, columns[seen].to(activation.device)] = self.vectors[seen].to(activation)
