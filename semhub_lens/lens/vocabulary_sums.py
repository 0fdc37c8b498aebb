"""Sums over the vocabulary, in pieces that stay in a processor's cache.

Every sum passes over all logits several times. From main memory this takes longer than the matrix product that made
them; so a piece of the logits goes through all steps before the next one is fetched.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

CACHED_ENTRIES = 1 << 18
"""Logits in a piece on a CPU: 1 MiB, so that a piece and its exponentials fit into the cache of a core."""
SUMMED_IDS = 4096
"""Token ids in a piece: over a whole vocabulary, float32 sums of products would lose the fourth digit."""
DEVICE_ENTRIES = 1 << 24
"""Logits in a piece on other devices, where each step has a start-up time."""
GROUPED = 64
"""Token ids in a group, of which only the highest logit is compared first."""
FLOOR = -80.0
"""In exponentials, logits that are further below the peak count as this far below it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sums:
    r"""Sums of each row of logits; $g_v$ is a logit minus `peak`, the highest one of its row.

    In the exponentials, gaps below -80 count as -80: their probability is under 1e-29. Otherwise early layers would
    produce hundreds of thousands of denormal numbers, which slow every later step several times.
    """

    peak: Float[Tensor, "*layer pos 1"]
    total: Float[Tensor, "*layer pos"]
    r"""$\sum_v e^{g_v}$"""
    spread: Float[Tensor, "*layer pos"] | None
    r"""$\sum_v e^{g_v} g_v$; None if it was not wanted, like the next two."""
    cross: Float[Tensor, "*layer pos"] | None
    r"""$\sum_v e^{f_v} (g_v - f_v)$, with the gaps $f_v$ of the final layer."""
    mass: Float[Tensor, "*layer pos lang"] | None
    r"""$\sum_v e^{g_v} t_v$, with the rows $t_v$ of a table."""

    def layer(self, row: int) -> "Sums":
        """The sums of one layer."""

        def of(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[row]

        some = {"spread": of(self.spread), "cross": of(self.cross), "mass": of(self.mass)}
        return Sums(peak=self.peak[row], total=self.total[row], **some)


def peaks(
    logits: Float[Tensor, "layer pos vocab"],
) -> tuple[Float[Tensor, "layer pos 1"], Float[Tensor, "layer pos group"]]:
    """The highest logit of each row, and of each of its groups; group i has the ids i, i + groups, i + 2 groups, ...

    The last ids, fewer than `GROUPED`, are in no group.
    """
    groups = logits.shape[-1] // GROUPED
    best = logits[..., : groups * GROUPED].unflatten(-1, (GROUPED, groups)).amax(-2) if groups else logits[..., :0]
    rest = torch.cat([best, logits[..., groups * GROUPED :]], dim=-1)
    return rest.amax(-1, keepdim=True), best


def highest(
    logits: Float[Tensor, "pos vocab"], best: Float[Tensor, "pos group"], k: int
) -> tuple[Float[Tensor, "pos k"], Int[Tensor, "pos k"]]:
    """The k highest logits of each row and their token ids: they are in the k best groups, or in no group."""
    groups = best.shape[-1]
    if groups < 2 * k:
        values, ids = logits.topk(k, dim=-1)
        return values, ids
    chosen = best.topk(k, dim=-1).indices
    members = chosen[:, :, None] + groups * torch.arange(GROUPED, device=logits.device)
    rest = torch.arange(groups * GROUPED, logits.shape[-1], device=logits.device)
    candidates = torch.cat([members.flatten(1), rest.expand(len(logits), -1)], dim=1)
    values, places = logits.gather(1, candidates).topk(k, dim=-1)
    return values, candidates.gather(1, places)


def sums(
    logits: Float[Tensor, "layer pos vocab"],
    peak: Float[Tensor, "layer pos 1"],
    *,
    spread: bool = False,
    final: tuple[Float[Tensor, "pos vocab"], Float[Tensor, "pos 1"]] | None = None,
    table: Float[Tensor, "vocab lang"] | None = None,
) -> Sums:
    """The sums that are wanted: `cross` with the logits and peaks of the `final` layer, `mass` with a `table`.

    The sums of pieces are added pairwise.
    """
    layers, positions, vocab = logits.shape
    rows, columns = _piece(logits)
    pieces = -(-vocab // columns)
    total, spreads, crosses = (logits.new_empty(layers, positions, pieces) for _ in range(3))
    masses = None if table is None else logits.new_zeros(layers, positions, table.shape[1])
    for at in (slice(start, start + rows) for start in range(0, positions, rows)):
        for piece in range(pieces):
            ids = slice(piece * columns, (piece + 1) * columns)
            gaps = logits[:, at, ids] - peak[:, at]
            if final is not None:
                ahead = final[0][at, ids] - final[1][at]
                behind = gaps - ahead
                crosses[:, at, piece] = behind.mul_(ahead.clamp_(min=FLOOR).exp_()).sum(-1)
            weights = gaps.clamp_(min=FLOOR).exp()
            total[:, at, piece] = weights.sum(-1)
            if table is not None and masses is not None:
                masses[:, at] += _products(weights, table[ids])
            if spread:
                spreads[:, at, piece] = weights.mul_(gaps).sum(-1)
    return Sums(
        peak=peak,
        total=total.sum(-1),
        spread=spreads.sum(-1) if spread else None,
        cross=None if final is None else crosses.sum(-1),
        mass=masses,
    )


def _piece(logits: Float[Tensor, "layer pos vocab"]) -> tuple[int, int]:
    """Positions and token ids in a piece."""
    layers, _, vocab = logits.shape
    on_cpu = logits.device.type == "cpu"
    columns = min(vocab, SUMMED_IDS) if on_cpu else vocab
    return max(1, (CACHED_ENTRIES if on_cpu else DEVICE_ENTRIES) // (layers * columns)), columns


def _products(
    weights: Float[Tensor, "layer pos id"], table: Float[Tensor, "id lang"]
) -> Float[Tensor, "layer pos lang"]:
    parts = zip(weights.split(SUMMED_IDS, dim=-1), table.split(SUMMED_IDS), strict=True)
    return torch.stack([some @ rows for some, rows in parts]).sum(0)
