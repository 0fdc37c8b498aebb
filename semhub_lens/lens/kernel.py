"""The fused lens kernel: all quantities of a block of states, from one unembedding.

Logits exist only for some token ids at a time; a whole `[layer, pos, vocab]` never exists.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.progress import tqdm
from semhub_lens.lens.highest_logits import RunningHighest, group_peaks
from semhub_lens.lens.target_logits import Sets, TargetLogits
from semhub_lens.lens.vocabulary_sums import RunningSums, Sums
from semhub_lens.model.readout import ColumnReadout, Readout

BLOCK_ENTRIES = 1 << 24
"""Logits in memory at a time, where a caller reduces them in steps of its own: 64 MiB of float32."""
Summed = TypeVar("Summed", Tensor, Sums)
PIECE_ENTRIES = 1 << 21
"""Logits in a piece on a CPU: 8 MiB, so that a piece and its exponentials stay in a cache that cores share."""
DEVICE_ENTRIES = 1 << 24
"""Logits in a piece on other devices, where each step has a start-up time."""
WHOLE_ENTRIES = 1 << 25
"""Logits in memory at a time where a read-out has no pieces: 128 MiB."""
COLUMNS = (2048, 4096)
"""Token ids in a piece, at least and at most. Products of fewer are slow, and sums over more lose digits."""


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
    if "targets" in quantities and not (targets or common):
        raise SemhubError("The quantity 'targets' needs targets= or common=: sets of token ids.")
    if "mass" in quantities and table is None:
        raise SemhubError("The quantity 'mass' needs table=: p(language | token).")
    layers = list(range(len(states)) if layers is None else layers)
    shared = Shared(
        quantities=tuple(quantities),
        top_k=top_k,
        common=common if "targets" in quantities else (),
        table=table.to(readout.device) if table is not None and "mass" in quantities else None,
    )
    reader = _Reader(readout, layers, shared, last=len(states) - 1)
    positions, parts = states.shape[1], []
    bar = tqdm(total=positions * len(layers), desc="reading out", unit="state", disable=not progress, leave=False)
    with bar:
        for start in range(0, positions, reader.step):
            block = slice(start, start + reader.step)
            own = targets[block] if "targets" in quantities else ()
            found: dict[int, list[Tensor]] = {}
            for layer, logit_block in reader.blocks(states[:, block], own):
                found[layer] = [_plain(QUANTITIES[name](logit_block)) for name in quantities]
            parts.append([torch.stack([found[layer][number] for layer in layers]) for number in range(len(quantities))])
            bar.update(len(layers) * states[0, block].shape[0])
    return {name: torch.cat(part, dim=1) for name, part in zip(quantities, zip(*parts, strict=True), strict=True)}


def _plain(values: Tensor) -> Tensor:
    """A quantity as it is kept: on the CPU, in memory of its own, in float32 where it was summed in float64."""
    return values.to("cpu", torch.float32 if values.dtype == torch.float64 else values.dtype, copy=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Shared:
    """Settings that all layers and positions share."""

    quantities: tuple[str, ...]
    top_k: int
    common: Sets
    table: Float[Tensor, "vocab lang"] | None


class _Reader:
    """Reads blocks of positions: all layers together, some columns of the unembedding at a time."""

    def __init__(self, readout: Readout, layers: Sequence[int], shared: Shared, *, last: int) -> None:
        self._readout, self._shared, self._with_final = readout, shared, "kl_to_final" in shared.quantities
        first = [last] if self._with_final or last in layers else []
        self._layers = [*first, *dict.fromkeys(layer for layer in layers if layer != last)]
        vocab = readout.d_vocab
        self._entries = PIECE_ENTRIES if readout.device.type == "cpu" else DEVICE_ENTRIES
        rows = self._entries // min(vocab, COLUMNS[0]) if readout.in_pieces else WHOLE_ENTRIES // vocab
        self.step = max(1, rows // max(1, len(self._layers)))
        """Positions in a block."""

    def blocks(self, states: Tensor, own: Sequence[Sets]) -> Iterator[tuple[int, "LogitBlock"]]:
        """Every layer and what its logits were reduced to, the last layer first."""
        states = states[self._layers]
        shape, device, shared = states.shape[:2], self._readout.device, self._shared
        spread, cross = "entropy" in shared.quantities, self._with_final
        sums = RunningSums(spread=spread, cross=cross, table=shared.table)
        highest = RunningHighest(shape.numel(), shared.top_k, device)
        picked = TargetLogits(own, shared.common, layers=shape[0], positions=shape[1], device=device)
        for start, logits in self._readout.pieces(states, self._layers, columns=self._columns(shape.numel())):
            rows = logits.flatten(0, 1)
            best = group_peaks(rows)
            highest.add(rows, best, start)
            picked.add(logits, start)
            sums.add(logits, best.amax(-1).view(*shape, 1), start)
        summed = sums.result()
        values, ids = (found.cpu().unflatten(0, shape) for found in highest.result())
        for row, layer in enumerate(self._layers):
            yield (
                layer,
                LogitBlock(
                    readout=self._readout,
                    states=states[row],
                    layer=layer,
                    sums=summed.layer(row),
                    last=summed.layer(0) if cross else None,
                    top=(values[row], ids[row]),
                    picked=picked,
                    row=row,
                ),
            )

    def _columns(self, rows: int) -> int:
        """Token ids in a piece: a whole number of groups, so that fewer numbers are compared."""
        fitting = self._entries // rows // COLUMNS[0] * COLUMNS[0]
        return min(max(fitting, COLUMNS[0]), COLUMNS[1])


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
class LogitBlock:
    """What the logits of a few positions at one layer were reduced to, and numbers that most quantities need.

    A log-probability is logits - peak - log_total, in this order: with logits in the thousands, subtracting their log
    sum exp would lose the fourth digit.
    """

    readout: Readout
    states: Float[Tensor, "pos d_model"]
    layer: int
    sums: Sums
    last: Sums | None
    """Those of the final layer; None unless "kl_to_final" is measured."""
    top: tuple[Float[Tensor, "pos k"], Int[Tensor, "pos k"]]
    """The highest logits and their token ids."""
    picked: TargetLogits
    row: int
    """The place of the layer among the logits that were picked."""

    @property
    def peak(self) -> Float[Tensor, "pos 1"]:
        """The highest logit of each row."""
        return self.sums.peak

    @cached_property
    def log_total(self) -> Float[Tensor, " pos"]:
        """Log of the sum of exp(logits - peak)."""
        return self.sums.total.log()

    @cached_property
    def logits(self) -> Float[Tensor, "pos vocab"]:
        """The whole logits, for quantities of your own: another product, and memory for all of them."""
        return self.readout(self.states, self.layer)


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
    return block.picked.log_sums(block.row, block.peak) - block.log_total[:, None]


def _mass(block: LogitBlock) -> Float[Tensor, "pos lang"]:
    return _wanted(block.sums.mass) / block.sums.total[:, None]


QUANTITIES: dict[str, Callable[[LogitBlock], Tensor]] = {
    "top_ids": lambda block: block.top[1],
    "top_logprobs": lambda block: block.top[0].double() - block.peak - block.log_total[:, None],
    "entropy": _entropy,
    "kl_to_final": _kl_to_final,
    "targets": _targets,
    "mass": _mass,
}
"""Every quantity, from one block of logits: `[pos]` or `[pos ...]`. To add one, write a function and add a line here.
"""
