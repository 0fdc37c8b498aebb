"""Pictures and sound in a prompt: the tensors that a model gets in addition to token ids, and their positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError

ENTRY = "blocks.0.hook_resid_pre"
"""The hook point for embeddings; `hook_embed` never fires on a `HookedTransformer` that generates."""
ALONG_TOKENS = ("mm_token_type_ids", "token_type_ids")
"""Inputs with one entry per token; a model without a cache needs them for new tokens too."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of picture patches with one prompt position for each, row by row from the top left."""

    positions: tuple[int, ...]
    rows: int
    columns: int
    whole: bool = True
    """Whether the patches cover the whole picture, as the processor prepared it, or only a part."""

    def __post_init__(self) -> None:
        if self.rows * self.columns != len(self.positions) or not self.positions:
            raise SemhubError(
                f"A tile of {self.rows} rows and {self.columns} columns needs {self.rows * self.columns} positions, "
                f"got {len(self.positions)}."
            )

    def covered(self, mask: Bool[Tensor, "height width"], share: float = 0.5) -> tuple[int, ...]:
        """The prompt positions of the patches that a segment covers by more than `share`, row by row.

        Args:
            mask: the segment's pixels, `[y x]`, at any resolution, over the picture as the model sees it (with the same
                cropping and padding). A pixel across several patches counts in each with the part inside.
            share: a patch counts if more than this share of it is covered.

        Raises:
            SemhubError: a mask without pixels, a share outside 0 to 1, or a tile for only a part of a picture.

        Example:
            >>> from semhub_lens.inputs.media import Tile
            >>> upper = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]).bool()
            >>> Tile((5, 6, 7, 8), 2, 2).covered(upper)
            (5,)
        """
        if not self.whole:
            raise SemhubError(
                "A mask covers the whole picture, but this tile shows only a part; use the tile of the whole picture."
            )
        if not mask.numel() or not 0 <= share < 1:
            raise SemhubError(f"Expected a mask with pixels and a share from 0 to below 1, got {mask.shape}, {share}.")
        height, width = mask.shape
        down, across = _overlaps(self.rows, height), _overlaps(self.columns, width)
        inside = down @ mask.to(down.device, torch.long) @ across.T  # of height * width a patch, in whole numbers
        chosen = (inside > share * height * width).flatten().tolist()
        return tuple(position for position, within in zip(self.positions, chosen, strict=True) if within)


def _overlaps(cells: int, pixels: int) -> Int[Tensor, "cell pixel"]:
    """The overlap of each pixel with each of `cells` equal cells, in units of 1 / cells of a pixel."""
    cell, pixel = torch.arange(cells)[:, None] * pixels, torch.arange(pixels)[None] * cells
    return (torch.minimum(cell + pixels, pixel + cells) - torch.maximum(cell, pixel)).clamp(min=0)


@checked
@dataclass(frozen=True, eq=False)
class Media:
    """Tensors of one prompt's pictures and sound, as its processor made them.

    `Prompt.from_processor` makes it. You can also make it yourself for `Prompt.from_ids(ids, media=...)`.

    Example:
        >>> from semhub_lens.inputs.media import Media
        >>> Media({"pixel_values": torch.zeros(1, 3, 28, 28)}).signature
        (('pixel_values', (1, 3, 28, 28)),)
    """

    inputs: Mapping[str, Tensor]
    """Keyword arguments of the model; the first axis is that of a batch with one prompt."""
    tiles: Mapping[str, tuple[Tile, ...]] = field(default_factory=dict)
    """For each picture span, its rectangles of patches: several if the picture is read in parts. Positions that end a
    row or a part belong to none.
    """
    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """For each sound span, the second at which each position's frames start."""

    def __post_init__(self) -> None:
        if not self.inputs or not all(isinstance(value, Tensor) and value.ndim for value in self.inputs.values()):
            shown = {name: type(value).__name__ for name, value in self.inputs.items()}
            raise SemhubError(
                f"Media take tensors with a batch axis, named by the model's keyword arguments; got {shown or 'none'}."
            )
        for name, value in self.inputs.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise SemhubError(f"The media tensor {name!r} has NaN or infinite entries.")

    @property
    def signature(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes; prompts with equal signatures and lengths can run as one batch."""
        return tuple((name, tuple(value.shape)) for name, value in sorted(self.inputs.items()))


def joined(media: Sequence[Media | None]) -> dict[str, Tensor]:
    """The inputs of a batch of prompts with the same signature."""
    inputs = [entry.inputs for entry in media if entry is not None]
    return {name: torch.cat([entry[name] for entry in inputs]) for name in (inputs[0] if inputs else ())}


def extended(inputs: Mapping[str, Tensor], new_tokens: int) -> dict[str, Tensor]:
    """The inputs for prompts with additional text tokens at the end."""
    return {
        name: torch.nn.functional.pad(value, (0, new_tokens)) if name in ALONG_TOKENS else value
        for name, value in inputs.items()
    }


@dataclass(frozen=True, eq=False)
class Writes:
    """Embeddings of one prompt, and the positions at which they are written, at the input of block 0."""

    positions: Int[Tensor, " k"]
    vectors: Float[Tensor, "k d_model"]

    def __call__(self, activation: Tensor, hook: Any) -> Tensor:
        """A hook function for your own run: it writes into the pass with all positions; later passes use the cache."""
        if activation.shape[1] <= int(self.positions.max()):
            return activation
        out = activation.clone()
        self.write(out, slice(None), 0)
        return out

    def write(self, activation: Tensor, row: int | slice, start: int) -> None:
        """Write, in place, the part that is in the columns of a pass that starts at absolute position `start`."""
        columns = self.positions - start
        seen = (columns >= 0) & (columns < activation.shape[1])
        activation[row, columns[seen].to(activation.device)] = self.vectors[seen].to(activation)
