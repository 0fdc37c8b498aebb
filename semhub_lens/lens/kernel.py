"""The fused lens kernel: all quantities of one block of states, from one unembedding.

Logits exist for only one block of states at a time; a whole `[layer, pos, vocab]` never exists.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.progress import tqdm
from semhub_lens.lens.vocabulary_sums import Sums, highest, peaks, sums
from semhub_lens.model.readout import ColumnReadout, Readout

BLOCK_ENTRIES = 1 << 24
"""Logits in memory at a time, where a caller reduces them in steps of its own: 64 MiB of float32."""
Summed = TypeVar("Summed", Tensor, Sums)
PRODUCT_ENTRIES = 1 << 25
"""Logits of one product in the kernel: 128 MiB. With fewer rows, fetching the unembedding takes most of its time."""
TOGETHER = 4
"""Layers in one product, at least, where a text is long."""


@torch.no_grad()
def reduce_logits(
    readout: Readout,
    states: Float[Tensor, "layer pos d_model"],
    quantities: Sequence[str],
    *,
    top_k: int = 0,
    targets: Sequence[Sequence[tuple[int, ...]]] = (),
    common: Sequence[tuple[int, ...]] = (),
    table: Float[Tensor, "vocab lang"] | None = None,
    layers: Sequence[int] | None = None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Read every state out once and reduce its distribution to the quantities `[layer pos ...]`, by name.

    Args:
        readout: maps states to logits.
        states: residual states at every layer; the last entry is the model's final state.
        quantities: names in `QUANTITIES`; only these are computed.
        top_k: the number of most probable tokens, for "top_ids" and "top_logprobs".
        targets: for "targets": at each position, sets of token ids whose probabilities are summed; the same number of
            sets at every position, or none.
        common: for "targets": sets that are read at every position, after its own sets.
        table: p(language | token), for "mass".
        layers: the entries of `states` to read; None means all.
        progress: show a progress bar.

    Raises:
        SemhubError: an unknown quantity.

    Example:
        >>> states = residual_stream(tiny_model, ["three plus", "two plus two"], progress=False)  # items as positions
        >>> found = reduce_logits(shl.Readout(tiny_model), states, ["entropy"])
        >>> found["entropy"].shape == states.shape[:2]
        True
    """
    require_quantities(quantities)
    layers = list(range(len(states)) if layers is None else layers)
    shared = Shared(
        quantities=tuple(quantities),
        top_k=top_k,
        common=common,
        table=None if table is None else table.to(readout.device),
        device=readout.device,
    )
    reader = _Reader(readout, layers, last=len(states) - 1, with_final="kl_to_final" in quantities)
    positions, parts = states.shape[1], []
    bar = tqdm(total=positions * len(layers), desc="reading out", unit="state", disable=not progress, leave=False)
    with bar:
        for start in range(0, positions, reader.step):
            block = slice(start, start + reader.step)
            found: dict[int, list[Tensor]] = {}
            for layer, logit_block in reader.blocks(states[:, block], replace(shared, targets=targets[block])):
                found[layer] = [QUANTITIES[name](logit_block).to("cpu", copy=True) for name in quantities]
                bar.update(len(logit_block.logits) * layers.count(layer))
            parts.append([torch.stack([found[layer][number] for layer in layers]) for number in range(len(quantities))])
    return {name: torch.cat(part, dim=1) for name, part in zip(quantities, zip(*parts, strict=True), strict=True)}


class _Reader:
    """Reads blocks of positions: several layers in one product, since fetching the unembedding takes its time."""

    def __init__(self, readout: Readout, layers: Sequence[int], *, last: int, with_final: bool) -> None:
        self._readout, self._with_final = readout, with_final
        first = [last] if with_final or last in layers else []
        self._layers = [*first, *dict.fromkeys(layer for layer in layers if layer != last)]
        self._rows = max(1, PRODUCT_ENTRIES // readout.d_vocab)
        self.step = max(1, self._rows // max(1, min(len(self._layers), TOGETHER)))
        """Positions in a block."""
        self._memory = torch.empty(0, readout.d_vocab, device=readout.device)

    def blocks(self, states: Tensor, shared: "Shared") -> Iterator[tuple[int, "LogitBlock"]]:
        """Every layer and its logits, the last layer first; a block is valid until the next one is asked for."""
        positions, final, last = states.shape[1], None, None
        groups = self._grouped(positions)
        if len(self._memory) != (rows := positions * max(map(len, groups))):
            self._memory = self._memory.new_empty(rows, self._readout.d_vocab)
        for group in groups:
            memory = self._memory if final is None else self._memory[positions:]
            logits = self._readout(states[group], group, memory=memory)
            peak, best = peaks(logits)
            if self._with_final and final is None:
                kept = logits[0] if logits.data_ptr() == memory.data_ptr() else logits[0].clone()
                final = (kept, peak[0])
            summed = sums(
                logits,
                peak,
                spread="entropy" in shared.quantities,
                final=final,
                table=shared.table if "mass" in shared.quantities else None,
            )
            last = summed.layer(0) if final is not None and last is None else last
            for row, layer in enumerate(group):
                yield layer, LogitBlock(logits[row], best[row], summed.layer(row), last, shared)

    def _grouped(self, positions: int) -> list[list[int]]:
        """Layers that are read together; the first group has one more, which may stay as the final layer."""
        size = max(1, self._rows // positions)
        cuts = [0, *range(size + 1, len(self._layers), size), len(self._layers)]
        return [self._layers[start:end] for start, end in pairwise(cuts)]


def contrast_targets(
    readout: Readout,
    states: Float[Tensor, "layer pos d_model"],
    targets: Sequence[Sequence[tuple[int, ...]]] = (),
    common: Sequence[tuple[int, ...]] = (),
    *,
    progress: bool = False,
) -> Float[Tensor, "layer pos target"]:
    r"""The quantity "targets" minus its mean over a state's targets, from the targets' own columns.

    $$c_{\ell p w} = \log p_{\ell p}(w) - \operatorname{mean}_{w'} \log p_{\ell p}(w')$$

    The normaliser is the same for all words at one state, so it cancels. Arguments are those of `reduce_logits`.
    """
    ids = sorted({token for row in (*targets, common) for listed in row for token in listed})
    column = {token: place for place, token in enumerate(ids)}

    def placed(row: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return [tuple(column[token] for token in listed) for listed in row]

    few = reduce_logits(
        ColumnReadout(readout, ids),
        states,
        ["targets"],
        targets=[placed(row) for row in targets],
        common=placed(common),
        progress=progress,
    )["targets"]
    return few - few.mean(-1, keepdim=True)


def require_quantities(quantities: Sequence[str]) -> Sequence[str]:
    """The quantities; a SemhubError if one is unknown."""
    unknown = sorted(set(quantities) - QUANTITIES.keys())
    if unknown or not quantities:
        raise SemhubError(f"Expected quantities among {list(QUANTITIES)}, got {unknown or quantities}.")
    return quantities


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared:
    """Settings that all layers of a few positions share."""

    quantities: tuple[str, ...]
    top_k: int
    targets: Sequence[Sequence[tuple[int, ...]]] = ()
    common: Sequence[tuple[int, ...]]
    table: Float[Tensor, "vocab lang"] | None
    device: torch.device

    @cached_property
    def target_entries(self) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
        """Row, token id and (row, target) group of every id of every target set; the number of rows and targets."""
        width = len(self.targets[0]) if self.targets else 0
        entries = [
            (row, token, row * width + column)
            for row, sets in enumerate(self.targets)
            for column, ids in enumerate(sets)
            for token in ids
        ]
        columns = torch.tensor(entries, dtype=torch.long, device=self.device).reshape(-1, 3)
        rows, ids, groups = columns.unbind(1)
        return rows, ids, groups, (len(self.targets), width)

    @cached_property
    def common_entries(self) -> tuple[Int[Tensor, " entry"], Int[Tensor, " entry"]]:
        """Token id and set of every id of the sets that all positions share."""
        entries = [(token, number) for number, ids in enumerate(self.common) for token in ids]
        ids, groups = torch.tensor(entries, dtype=torch.long, device=self.device).reshape(-1, 2).unbind(1)
        return ids, groups


@dataclass(frozen=True, eq=False)
class LogitBlock:
    """The logits of a few positions at one layer, and numbers that most quantities need.

    `peak` is the maximum of each row, `total` the sum of exp(logits - peak), and `log_total` its log. A log-probability
    is logits - peak - log_total, in this order: with logits in the thousands, subtracting their log sum exp would lose
    the fourth digit. The memory of `logits` is used again for the next layers.
    """

    logits: Float[Tensor, "pos vocab"]
    best: Float[Tensor, "pos group"]
    """The highest logit of each group of token ids; see `peaks`."""
    sums: Sums
    last: Sums | None
    """Those of the final layer; None unless "kl_to_final" is measured."""
    shared: Shared

    @property
    def peak(self) -> Float[Tensor, "pos 1"]:
        """The highest logit of each row."""
        return self.sums.peak

    @cached_property
    def log_total(self) -> Float[Tensor, " pos"]:
        """Log of the sum of exp(logits - peak)."""
        return self.sums.total.log()

    @cached_property
    def top(self) -> tuple[Float[Tensor, "pos k"], Int[Tensor, "pos k"]]:
        """The highest logits and their token ids."""
        return highest(self.logits, self.best, self.shared.top_k)


def _entropy(block: LogitBlock) -> Float[Tensor, " pos"]:
    return block.log_total - _wanted(block.sums.spread) / block.sums.total


def _kl_to_final(block: LogitBlock) -> Float[Tensor, " pos"]:
    last = _wanted(block.last).total
    return (block.log_total - last.log() - _wanted(block.sums.cross) / last).clamp(min=0)  # rounding


def _wanted(summed: Summed | None) -> Summed:
    assert summed is not None  # the reader computes it where a quantity has its name
    return summed


def _targets(block: LogitBlock) -> Float[Tensor, "pos target"]:
    """Log of the summed probability of every target set."""
    shared, read = block.shared, []
    if shared.targets:
        rows, ids, groups, shape = shared.target_entries
        log_probs = block.logits[rows, ids] - block.peak[rows, 0] - block.log_total[rows]
        read.append(_log_sums(log_probs, groups, shape[0] * shape[1]).reshape(shape))
    if shared.common:
        ids, groups = shared.common_entries
        log_probs = block.logits[:, ids] - block.peak - block.log_total[:, None]
        read.append(_log_sums(log_probs, groups, len(shared.common)))
    if not read:
        raise SemhubError("The quantity 'targets' needs targets= or common=: sets of token ids.")
    return torch.cat(read, dim=-1)


def _log_sums(
    log_probs: Float[Tensor, "*pos entry"], groups: Int[Tensor, " entry"], count: int
) -> Float[Tensor, "*pos group"]:
    """Log of the summed probability of every group of entries."""
    index, shape = groups.expand_as(log_probs), (*log_probs.shape[:-1], count)
    peak = log_probs.new_full(shape, -torch.inf).scatter_reduce(-1, index, log_probs, "amax")
    summed = log_probs.new_zeros(shape).scatter_add(-1, index, (log_probs - peak.gather(-1, index)).exp())
    return summed.log() + peak


def _mass(block: LogitBlock) -> Float[Tensor, "pos lang"]:
    if block.shared.table is None:
        raise SemhubError("The quantity 'mass' needs table=: p(language | token).")
    return _wanted(block.sums.mass) / block.sums.total[:, None]


QUANTITIES: dict[str, Callable[[LogitBlock], Tensor]] = {
    "top_ids": lambda block: block.top[1],
    "top_logprobs": lambda block: block.top[0] - block.peak - block.log_total[:, None],
    "entropy": _entropy,
    "kl_to_final": _kl_to_final,
    "targets": _targets,
    "mass": _mass,
}
"""Every quantity, from one block of logits: `[pos]` or `[pos ...]`. To add one, write a function and add a line here.
"""
