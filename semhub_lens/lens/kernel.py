"""The fused lens kernel: all quantities of one block of states, from one unembedding.

Logits exist for only one block of states at a time; a whole `[layer, pos, vocab]` never exists.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.progress import tqdm
from semhub_lens.model.readout import ColumnReadout, Readout

BLOCK_ENTRIES = 1 << 24
"""Logits in memory at a time: 64 MiB of float32."""
CACHED_ENTRIES = 1 << 20
"""Numbers summed at a time: 4 MiB, which fit into a CPU's cache."""

SUMMED_IDS = 4096
"""Token ids in one matrix product: over a whole vocabulary, its float32 sums would lose the fourth digit."""


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
    """
    require_quantities(quantities)
    positions = states.shape[1]
    layers = range(len(states)) if layers is None else layers
    step = max(1, BLOCK_ENTRIES // readout.d_vocab)
    parts: dict[str, list[Tensor]] = {name: [] for name in quantities}
    bar = tqdm(total=positions * len(layers), desc="reading out", unit="state", disable=not progress, leave=False)
    with bar:
        for start in range(0, positions, step):
            block = slice(start, start + step)
            shared = Shared(
                readout=readout,
                final_states=states[-1, block],
                top_k=top_k,
                targets=targets[block],
                common=common,
                table=None if table is None else table.to(readout.device),
            )
            rows: dict[str, list[Tensor]] = {name: [torch.empty(0)] * len(layers) for name in quantities}
            for places in _batched(layers, max(1, step // len(shared.final_states))):
                together = [layers[place] for place in places]
                for place, logits in zip(places, readout(states[together, block], together), strict=True):
                    reduced = LogitBlock(logits, shared)
                    shared.last = reduced if layers[place] == len(states) - 1 == readout.n_layers else None
                    for name, row in rows.items():
                        row[place] = QUANTITIES[name](reduced).cpu()
                    bar.update(len(logits))
            for name, row in rows.items():
                parts[name].append(torch.stack(row))
    return {name: torch.cat(part, dim=1) for name, part in parts.items()}


def _batched(layers: Sequence[int], size: int) -> list[list[int]]:
    """Places of layers that are read together: fetching the unembedding takes most of a short product's time.

    They go from the last layer down, because all others are compared with it.
    """
    down = sorted(range(len(layers)), key=lambda place: -layers[place])
    return [down[start : start + size] for start in range(0, len(down), size)]


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


@dataclass(eq=False, kw_only=True)
class Shared:
    """Shared by all layers of a few positions: settings, and the final layer's distribution there."""

    readout: Readout
    final_states: Float[Tensor, "pos d_model"]
    top_k: int
    targets: Sequence[Sequence[tuple[int, ...]]]
    common: Sequence[tuple[int, ...]]
    table: Float[Tensor, "vocab lang"] | None
    last: "LogitBlock | None" = None
    """The final layer, while it is the one that is reduced."""

    @cached_property
    def final(self) -> tuple[Float[Tensor, "pos vocab"], Float[Tensor, "pos vocab"], Float[Tensor, " pos"]]:
        """The final layer's probabilities, its logits minus their row's maximum, and log sum exp of these."""
        last = self.last or LogitBlock(self.readout(self.final_states, self.readout.n_layers), self)
        return last.weights / last.total[:, None], last.gaps.clone(), last.log_total

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
        columns = torch.tensor(entries, dtype=torch.long, device=self.readout.device).reshape(-1, 3)
        rows, ids, groups = columns.unbind(1)
        return rows, ids, groups, (len(self.targets), width)

    @cached_property
    def common_entries(self) -> tuple[Int[Tensor, " entry"], Int[Tensor, " entry"]]:
        """Token id and set of every id of the sets that all positions share."""
        entries = [(token, number) for number, ids in enumerate(self.common) for token in ids]
        ids, groups = torch.tensor(entries, dtype=torch.long, device=self.readout.device).reshape(-1, 2).unbind(1)
        return ids, groups


class LogitBlock:
    """The logits of a few positions at one layer, and numbers that most quantities need.

    `peak` is the maximum of each row, `gaps` are logits - peak, `weights` are exp(gaps), `total` is their sum, and
    `log_total` its log. A log-probability is gaps - log_total: with logits in the thousands, subtracting their log sum
    exp would lose the fourth digit. The gaps take the place of the given logits in memory.

    In the weights, logits more than 80 below the peak count as 80 below it; their total probability is under 1e-29.
    Otherwise early layers would produce hundreds of thousands of denormal numbers, which slow every later pass several
    times.
    """

    def __init__(self, logits: Float[Tensor, "pos vocab"], shared: Shared) -> None:
        self.shared = shared
        self.peak: Float[Tensor, "pos 1"] = logits.amax(-1, keepdim=True)
        self.gaps: Float[Tensor, "pos vocab"] = logits.sub_(self.peak)
        self.weights: Float[Tensor, "pos vocab"] = self.gaps.clamp(min=-80).exp_()
        self.total: Float[Tensor, " pos"] = self.weights.sum(-1)
        self.log_total: Float[Tensor, " pos"] = self.total.log()

    @property
    def logits(self) -> Float[Tensor, "pos vocab"]:
        """The logits themselves."""
        return self.gaps + self.peak

    @cached_property
    def top(self) -> tuple[Float[Tensor, "pos k"], Int[Tensor, "pos k"]]:
        """The highest logits, less their peak, and their token ids."""
        values, ids = self.gaps.topk(self.shared.top_k, dim=-1)
        return values, ids

    def weighted_sum(
        self, weights: Float[Tensor, "pos vocab"], less: Float[Tensor, "pos vocab"] | None = None
    ) -> Float[Tensor, " pos"]:
        """Sum over the vocabulary of weights * (gaps - less).

        Products are summed pairwise by `sum`: the dot product of BLAS adds 262,144 numbers in sequence and has errors
        of up to a thousandth.
        """
        sums = []
        step = max(1, CACHED_ENTRIES // weights.shape[1])
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            gaps, factors = self.gaps[part], weights[part]
            products = gaps * factors if less is None else (gaps - less[part]).mul_(factors)
            sums.append(products.sum(-1))
        return torch.cat(sums)


def _entropy(block: LogitBlock) -> Float[Tensor, " pos"]:
    return block.log_total - block.weighted_sum(block.weights) / block.total


def _kl_to_final(block: LogitBlock) -> Float[Tensor, " pos"]:
    probabilities, logits, log_total = block.shared.final
    rest = block.log_total - log_total
    return (rest - block.weighted_sum(probabilities, less=logits)).clamp(min=0)  # rounding


def _targets(block: LogitBlock) -> Float[Tensor, "pos target"]:
    """Log of the summed probability of every target set."""
    shared, read = block.shared, []
    if shared.targets:
        rows, ids, groups, shape = shared.target_entries
        log_probs = block.gaps[rows, ids] - block.log_total[rows]
        read.append(_log_sums(log_probs, groups, shape[0] * shape[1]).reshape(shape))
    if shared.common:
        ids, groups = shared.common_entries
        log_probs = block.gaps[:, ids] - block.log_total[:, None]
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
    parts = zip(block.weights.split(SUMMED_IDS, dim=1), block.shared.table.split(SUMMED_IDS), strict=True)
    return torch.stack([weights @ table for weights, table in parts]).sum(0) / block.total[:, None]


QUANTITIES: dict[str, Callable[[LogitBlock], Tensor]] = {
    "top_ids": lambda block: block.top[1],
    "top_logprobs": lambda block: block.top[0] - block.log_total[:, None],
    "entropy": _entropy,
    "kl_to_final": _kl_to_final,
    "targets": _targets,
    "mass": _mass,
}
"""Every quantity, from one block of logits: `[pos]` or `[pos ...]`. To add one, write a function and add a line here.
"""
