"""Pictures and sound in a prompt: what a model is given beside token ids, and where it lies among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

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

    def __post_init__(self) -> None:
        if self.rows * self.columns != len(self.positions) or not self.positions:
            raise ValueError(
                f"A tile of {self.rows} rows and {self.columns} columns needs {self.rows * self.columns} positions, "
                f"got {len(self.positions)}."
            )


@dataclass(frozen=True, eq=False)
class Media:
    """Tensors of one prompt's pictures and sound, as its processor made them.

    Build it with `Prompt.from_processor`, or by hand for `Prompt.from_ids(ids, media=...)`.

    Example:
        >>> from semhub_lens.media import Media
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
            raise ValueError(f"Media need tensors with a batch axis, by the model's keyword; got {shown or 'none'}.")
        for name, value in self.inputs.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise ValueError(f"The media tensor {name!r} holds NaN or infinite entries.")

    @property
    def signature(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes; prompts that share it and their length can run as one batch."""
        return tuple((name, tuple(value.shape)) for name, value in sorted(self.inputs.items()))


def joined(media: Sequence[Media | None]) -> dict[str, Tensor]:
    """The inputs of a batch of prompts of one signature."""
    given = [entry for entry in media if entry is not None]
    return {name: torch.cat([entry.inputs[name] for entry in given]) for name in (given[0].inputs if given else ())}


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
