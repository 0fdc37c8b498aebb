"""The fused lens kernel: everything a lens needs of one block of states, from one unembedding.

Logits exist for one layer and a few positions at a time; `[layer, pos, vocab]` never does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from semhub_lens.model.readout import Readout

BLOCK_ENTRIES = 1 << 24
"""Logits held at a time: 64 MiB of float32."""


@dataclass(frozen=True, eq=False)
class LensBlock:
    """What one pass of the kernel yields; a part that was not asked for is None."""

    top_ids: Int[Tensor, "layer pos k"] | None
    top_logprobs: Float[Tensor, "layer pos k"] | None
    targets: Float[Tensor, "layer pos target"] | None
    entropy: Float[Tensor, "layer pos"]
    kl_to_final: Float[Tensor, "layer pos"]
    mass: Float[Tensor, "layer pos lang"] | None


@torch.no_grad()
def reduce_logits(
    readout: Readout,
    states: Float[Tensor, "layer pos d_model"],
    *,
    top_k: int = 0,
    targets: Sequence[Sequence[tuple[int, ...]]] | None = None,
    table: Float[Tensor, "vocab lang"] | None = None,
    details: bool = True,
    progress: bool = False,
) -> LensBlock:
    """Read every state out once and reduce its distribution.

    Args:
        readout: maps states to logits.
        states: residual states at every layer; the last entry is the model's final state.
        top_k: how many most probable tokens to keep.
        targets: per position, sets of token ids whose probabilities are summed; equally many sets at every position.
        table: p(language | token).
        details: also entropy and KL, which cost two more passes over the vocabulary; without they are NaN.
        progress: show a progress bar.
    """
    layers, positions = states.shape[:2]
    step = max(1, BLOCK_ENTRIES // readout.d_vocab)
    blocks = [slice(start, start + step) for start in range(0, positions, step)]
    bar = tqdm(total=positions * layers, desc="reading out", unit="state", disable=not progress, leave=False)
    with bar:
        columns = []
        for block in blocks:
            final = states[-1, block] if details else None
            reader = _Block(readout, final, targets[block] if targets is not None else None, top_k, table)
            columns.append([reader.reduce(states[layer, block], layer, bar) for layer in range(layers)])
    parts = [[torch.stack(part) for part in zip(*column, strict=True)] for column in columns]
    top_ids, top_logprobs, chosen, entropy, kl, mass = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return LensBlock(
        top_ids if top_k else None,
        top_logprobs if top_k else None,
        chosen if targets is not None else None,
        entropy,
        kl,
        mass if table is not None else None,
    )


class _Block:
    """A few positions, with the final layer's distribution there, which every layer is compared with."""

    def __init__(
        self,
        readout: Readout,
        final: Tensor | None,
        targets: Sequence[Sequence[tuple[int, ...]]] | None,
        top_k: int,
        table: Tensor | None,
    ) -> None:
        self.readout, self.top_k = readout, top_k
        device = readout.device
        self.final, self.final_entropy = (None, None) if final is None else _distribution(readout, final)
        self.table = None if table is None else table.to(device)
        self.rows, self.ids, self.groups, self.shape = _flatten(targets or [], device)

    def reduce(self, states: Tensor, layer: int, bar: tqdm) -> tuple[Tensor, ...]:
        logits = self.readout(states, layer)
        weights, total, normaliser = _exponentials(logits)
        entropy = kl = torch.full_like(normaliser, torch.nan)
        if self.final is not None and self.final_entropy is not None:
            entropy = normaliser - _dot(weights, logits) / total
            kl = (normaliser - _dot(self.final, logits) - self.final_entropy).clamp(min=0)  # rounding
        top = logits.topk(self.top_k, dim=-1)
        mass = logits.new_zeros(len(logits), 0) if self.table is None else weights @ self.table / total[:, None]
        bar.update(len(logits))
        found = (top.indices, top.values - normaliser[:, None], self._targets(logits, normaliser), entropy, kl, mass)
        return tuple(tensor.cpu() for tensor in found)

    def _targets(self, logits: Tensor, normaliser: Tensor) -> Tensor:
        """Log of the summed probability of every target set, `[pos target]`."""
        count = self.shape[0] * self.shape[1]
        if count == 0:
            return logits.new_zeros(len(logits), 0)
        chosen = logits[self.rows, self.ids] - normaliser[self.rows]
        peak = chosen.new_full((count,), -torch.inf).scatter_reduce(0, self.groups, chosen, "amax")
        summed = chosen.new_zeros(count).scatter_add(0, self.groups, (chosen - peak[self.groups]).exp())
        return (summed.log() + peak).reshape(self.shape)


def _distribution(readout: Readout, final: Tensor) -> tuple[Tensor, Tensor]:
    """The final layer's probabilities and their entropy."""
    logits = readout(final, readout.n_layers)
    weights, total, normaliser = _exponentials(logits)
    probabilities = weights.div_(total[:, None])
    return probabilities, normaliser - _dot(probabilities, logits)


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(logits - max), its sum, and log sum exp of the logits.

    Logits more than 80 below the maximum count as 80 below: together they weigh under 1e-29, and denormal numbers,
    which early layers produce by the hundred thousand, would slow every later pass several times.
    """
    shift = logits.amax(-1, keepdim=True)
    weights = (logits - shift).clamp_(min=-80).exp_()
    total = weights.sum(-1)
    return weights, total, total.log() + shift[:, 0]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("pv,pv->p", a, b)


def _flatten(
    targets: Sequence[Sequence[tuple[int, ...]]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """Row, token id and (row, target) group of every id of every target set."""
    width = len(targets[0]) if targets else 0
    entries = [
        (row, token, row * width + column)
        for row, sets in enumerate(targets)
        for column, ids in enumerate(sets)
        for token in ids
    ]
    rows, ids, groups = torch.tensor(entries, dtype=torch.long, device=device).reshape(-1, 3).unbind(1)
    return rows, ids, groups, (len(targets), width)
