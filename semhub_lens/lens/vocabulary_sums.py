"""Sums over the vocabulary, piece by piece, while a piece of the logits is in a processor's cache.

Every sum passes over the logits several times. From main memory this takes longer than the matrix product that made
them. So each piece goes through all steps before the next one is computed, and its memory is used again.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = -80.0
"""In exponentials, logits that are further below the peak count as this far below it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sums:
    r"""Sums of each row of logits, in float64; $g_v$ is a logit minus `peak`, the highest one of its row.

    In the exponentials, logits more than 80 below the highest one of their piece count as 80 below it. Their
    probability is under 1e-29. Otherwise early layers would produce hundreds of thousands of denormal numbers, which
    slow every later step several times.
    """

    peak: Float[Tensor, "*layer pos 1"]
    total: Float[Tensor, "*layer pos"]
    r"""$\sum_v e^{g_v}$"""
    spread: Float[Tensor, "*layer pos"] | None
    r"""$\sum_v e^{g_v} g_v$; None if it was not wanted, like the next two."""
    cross: Float[Tensor, "*layer pos"] | None
    r"""$\sum_v e^{f_v} (g_v - f_v)$, with the gaps $f_v$ of the first layer that was read."""
    mass: Float[Tensor, "*layer pos lang"] | None
    r"""$\sum_v e^{g_v} t_v$, with the rows $t_v$ of a table."""

    def layer(self, row: int) -> "Sums":
        """The sums of one layer."""

        def of(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[row]

        some = {"spread": of(self.spread), "cross": of(self.cross), "mass": of(self.mass)}
        return Sums(peak=self.peak[row], total=self.total[row], **some)


class RunningSums:
    """Sums of the pieces so far: each with the highest logit of its own piece, brought together at the end.

    Args:
        spread: sum what the entropy needs.
        cross: sum what the divergence from the first layer needs.
        table: p(language | token), for the mass of each language.
    """

    def __init__(self, *, spread: bool, cross: bool, table: Float[Tensor, "vocab lang"] | None) -> None:
        self._spread, self._cross, self._table = spread, cross, table
        self._peaks: list[Tensor] = []
        self._found: dict[str, list[Tensor]] = {"total": [], "spread": [], "cross": []}
        self._mass: Tensor | None = None
        self._highest: Tensor | None = None
        self._memory = torch.empty(0)

    def add(self, logits: Float[Tensor, "layer pos id"], peak: Float[Tensor, "layer pos 1"], start: int) -> None:
        """Sum the next piece, whose first token id is `start`; its logits are overwritten."""
        peak = peak.clamp(min=torch.finfo(peak.dtype).min)  # a piece may be forbidden as a whole
        gaps, work = logits.sub_(peak), self._work(logits)
        self._peaks.append(peak)
        if self._cross:
            ahead = gaps[:1].clamp(min=FLOOR).exp_()
            self._found["cross"].append(torch.sub(gaps, gaps[:1], out=work).mul_(ahead).sum(-1))
        torch.exp(gaps.clamp_(min=FLOOR), out=work)
        self._found["total"].append(work.sum(-1))
        if self._table is not None:
            self._add_mass(work @ self._table[start : start + logits.shape[-1]], peak)
        if self._spread:
            self._found["spread"].append(work.mul_(gaps).sum(-1))

    def _work(self, logits: Tensor) -> Tensor:
        """Memory of the size of a piece."""
        if self._memory.numel() < logits.numel() or self._memory.device != logits.device:
            self._memory = logits.new_empty(logits.numel())
        return self._memory[: logits.numel()].view_as(logits)

    def _add_mass(self, mass: Float[Tensor, "layer pos lang"], peak: Float[Tensor, "layer pos 1"]) -> None:
        """Masses are many, so they are added at once, relative to the highest logit so far."""
        if self._mass is None or self._highest is None:
            self._mass, self._highest = mass, peak
            return
        highest = torch.maximum(self._highest, peak)
        self._mass = self._mass * (self._highest - highest).exp() + mass * (peak - highest).exp()
        self._highest = highest

    def result(self) -> Sums:
        """The sums of all pieces, on the CPU."""
        own = torch.cat(self._peaks, dim=-1).cpu().double()
        peak = own.amax(-1, keepdim=True)
        below = own - peak
        scale = below.exp()
        total, spread, cross = (self._stacked(name) for name in ("total", "spread", "cross"))
        assert total is not None  # every piece has one
        if spread is not None:
            spread = (scale * (spread + below * total)).sum(-1)
        if cross is not None:
            cross = (scale[:1] * (cross + total[:1] * (below - below[:1]))).sum(-1)
        mass = None if self._mass is None else self._mass.cpu().double()
        return Sums(peak=peak, total=(scale * total).sum(-1), spread=spread, cross=cross, mass=mass)

    def _stacked(self, name: str) -> Float[Tensor, "layer pos piece"] | None:
        return torch.stack(self._found[name], dim=-1).cpu().double() if self._found[name] else None
