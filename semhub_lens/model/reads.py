"""The positions at which a prompt's states are read: one, or a mean over several."""

from collections.abc import Sequence
from typing import SupportsIndex

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError, is_index, whole_number
from semhub_lens.inputs.prompts import Prompt


def read_positions(prompt: Prompt, read: str | SupportsIndex) -> tuple[int, ...]:
    """The positions of `read` in one prompt.

    Raises:
        SemhubError: a position past the end or a span that the prompt lacks.
    """
    length = len(prompt)
    named = repr(prompt.text) if prompt.text is not None else f"of {length} token ids"
    if not isinstance(read, str) and not is_index(read):
        raise SemhubError(f"read= takes 'last', 'mean', 'raw_mean', a position or a span's name, got {read!r}.")
    if not isinstance(read, str):
        read = whole_number(read, "read=")
        if not -length <= read < length:
            raise SemhubError(f"Position {read} is past the end: the prompt {named} has {length} tokens.")
        return (read % length,)
    if read == "last":
        return (length - 1,)
    if read in ("mean", "raw_mean"):
        start = 1 if prompt.bos and length > 1 else 0
        return tuple(range(start, length))
    name, _, last = read.rpartition(":") if read.endswith(":last") else (read, "", "")
    if name not in prompt.spans:
        raise SemhubError(
            f"The prompt {named} has no span {name!r}; it has {sorted(prompt.spans) or 'none'}. read= takes "
            "'last', 'mean', 'raw_mean', a position, a span's name or 'NAME:last'."
        )
    return prompt.spans[name][-1:] if last else prompt.spans[name]


def spread(places: Sequence[int], count: int | None) -> list[int]:
    """The middles of `count` equal parts of the positions; all positions if there are no more, or for None.

    Example:
        >>> spread(range(1, 10), 3), spread([4, 5], None)
        ([2, 5, 8], [4, 5])
    """
    if count is None or count >= len(places):
        return list(places)
    return [places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count)]


class ReadOfBatch:
    """Each row's mean over the positions of one read, prepared once for all layers of a batch."""

    def __init__(
        self, positions: list[tuple[int, ...]], columns: int, read: str | SupportsIndex, device: torch.device
    ) -> None:
        self._unit = isinstance(read, str) and read not in ("last", "raw_mean") and not read.endswith(":last")
        self._columns = self._weights = None
        if max(map(len, positions)) == 1:
            self._columns = torch.tensor(positions, device=device)[:, 0]
            return
        self._weights = torch.zeros(len(positions), columns, dtype=torch.float32)
        for row, own in enumerate(positions):
            self._weights[row, list(own)] = 1 / len(own)
        self._weights = self._weights.to(device)

    def __call__(self, states: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch d_model"]:
        """The read of one layer's states, in float32 on their device."""
        if self._columns is not None:
            states = states[torch.arange(len(states), device=states.device), self._columns.to(states.device)]
        states = states.float()
        if self._unit:
            states = torch.nn.functional.normalize(states, dim=-1)
        if self._weights is None:
            return states
        return einsum(self._weights.to(states.device), states, "batch pos, batch pos d_model -> batch d_model")
