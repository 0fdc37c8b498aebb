"""Logits of given token ids, picked while pieces of the logits pass."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

Sets = Sequence[tuple[int, ...]]


class TargetLogits:
    """The logits of sets of token ids: at each position its own sets, then sets that all positions share.

    Args:
        own: the sets of each position; the same number at every position, or none.
        common: the sets of all positions.
        layers: the number of layers.
        positions: the number of positions.
        device: where the logits are.
    """

    def __init__(self, own: Sequence[Sets], common: Sets, *, layers: int, positions: int, device: torch.device) -> None:
        self._width, self._common_width = len(own[0]) if own else 0, len(common)
        listed = [
            (token, row, row * self._width + column)
            for row, sets in enumerate(own)
            for column, ids in enumerate(sets)
            for token in ids
        ]
        self._own_ids, self._rows, self._groups = _columns(listed, 3, device)
        shared = [(token, column) for column, ids in enumerate(common) for token in ids]
        self._common_ids, self._common_groups = _columns(shared, 2, device)
        self._own_order, self._common_order = self._own_ids.tolist(), self._common_ids.tolist()
        self._own = torch.empty(layers, len(listed), dtype=torch.float32, device=device)
        self._common = torch.empty(layers, positions, len(shared), dtype=torch.float32, device=device)

    def add(self, logits: Float[Tensor, "layer pos id"], start: int) -> None:
        """Pick from the next piece, whose first token id is `start`."""
        if len(some := _within(self._own_order, start, logits.shape[-1])):
            at = slice(some.start, some.stop)
            self._own[:, at] = logits[:, self._rows[at], self._own_ids[at] - start]
        if len(some := _within(self._common_order, start, logits.shape[-1])):
            at = slice(some.start, some.stop)
            self._common[:, :, at] = logits[:, :, self._common_ids[at] - start]

    def log_sums(self, row: int, base: Float[Tensor, "pos 1"]) -> Float[Tensor, "pos target"]:
        """Log of the sum of exp(logits - base) of every set, at one layer; `base` is the normaliser's logarithm."""
        read, positions = [], len(base)
        own, common, rows, groups, common_groups = self._fetched
        if self._width:
            gaps = own[row].double() - base[rows, 0]
            read.append(_log_sums(gaps, groups, positions * self._width).reshape(positions, self._width))
        if self._common_width:
            gaps = common[row].double() - base
            read.append(_log_sums(gaps, common_groups, self._common_width))
        return torch.cat(read, dim=-1)

    @cached_property
    def _fetched(self) -> tuple[Tensor, ...]:
        """What was picked, and its places, on the CPU: once, after the last piece."""
        return tuple(each.cpu() for each in (self._own, self._common, self._rows, self._groups, self._common_groups))


def _columns(listed: Sequence[tuple[int, ...]], width: int, device: torch.device) -> tuple[Int[Tensor, " entry"], ...]:
    """Entries in the order of their token ids, by column."""
    return torch.tensor(sorted(listed), dtype=torch.long, device=device).reshape(-1, width).unbind(1)


def _within(ids: Sequence[int], start: int, width: int) -> range:
    """The entries whose ids are in a piece."""
    return range(bisect_left(ids, start), bisect_left(ids, start + width))


def _log_sums(
    log_probs: Float[Tensor, "*pos entry"], groups: Int[Tensor, " entry"], count: int
) -> Float[Tensor, "*pos group"]:
    """Log of the summed probability of every group of entries."""
    index, shape = groups.expand_as(log_probs), (*log_probs.shape[:-1], count)
    peak = log_probs.new_full(shape, -torch.inf).scatter_reduce(-1, index, log_probs, "amax")
    summed = log_probs.new_zeros(shape).scatter_add(-1, index, (log_probs - peak.gather(-1, index)).exp())
    return summed.log() + peak
