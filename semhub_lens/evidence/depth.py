r"""The hub in one number: the share of depth at which every leg of a data type holds.

A leg **holds** at a layer if the effect, and the effect minus each control, have a lower bound above 0. The bounds are
those of the 95 % bootstrap interval over all items. With mean $m$ and lower bound $b$ of each of these, the leg's
strength at layer l is $s_\ell = \min m_\ell / (m_\ell - b_\ell)$, and it holds if $s_\ell > 1$. A leg with a failed
placebo holds at no layer. `docs/methods/depth.md` says what this hides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.results import Part
from semhub_lens.evidence.draws import DRAWS, grouped_weights, percentiles, require_draws
from semhub_lens.evidence.legs import ExperimentResult, Leg

NO_SHARE = ("patchscope",)
"""Kinds of legs that no share counts: they read what the lens already reads, and have no effect at the last entries."""
NO_DATA_TYPE = ("probing",)
"""The data type of legs that compare data types with each other."""


@dataclass(frozen=True, kw_only=True)
class DepthShare(Part):
    """The share of the depth at which every leg of one data type, or of one kind of its legs, holds."""

    data_type: str
    share: float
    """The fraction of the layers 1 to L at which every leg holds."""
    low: float
    high: float
    """The central 95 % of the shares of resampled items, widened to include the share itself."""
    peak: float | None
    """Depth (0 embedding, 1 last layer) at which the weakest leg is strongest; None if no layer holds."""
    peak_low: float | None
    peak_high: float | None
    """The central 95 % of the peaks of resampled items."""
    legs: int
    items: int
    """The number of items of the leg with the fewest."""
    weakest: str
    """The leg that holds at the fewest layers."""
    weakest_share: float
    left_out: tuple[str, ...]
    """Legs that do not count: sweeps of interventions, which are not measured at every layer, and patchscopes."""
    kind: str = ""
    """The only kind of legs that counts ("similarity", "readability", ...); empty for all kinds."""

    @property
    def name(self) -> str:
        """The data type or kind of legs, as printed."""
        return f"{self.data_type}, {self.kind}" if self.kind else self.data_type

    @property
    def printed(self) -> str:
        """The share, as printed."""
        return f"{self.share:.2f}"

    @property
    def interval(self) -> str:
        """Its interval, as printed."""
        return f"{self.low:.2f} to {self.high:.2f}"

    @property
    def at(self) -> str:
        """The depth of the peak, as printed; empty if no layer holds."""
        return "" if self.peak is None else f"{self.peak:.2f}"


@checked
def depth_shares(results: Sequence[ExperimentResult], *, draws: int = DRAWS) -> list[DepthShare]:
    """The share of depth of every data type in these experiments of one model, and of its kinds of legs.

    It hides differences in power between legs, and it depends on the number of items and legs.

    Args:
        results: experiments of one model.
        draws: samples of items. Legs on the same data are resampled together, others separately. Each margin $m - b$ is
            that of the original items.

    Raises:
        SemhubError: no draws.

    Example:
        >>> from semhub_lens.evidence.depth import depth_shares
        >>> depth_shares([])
        []
    """
    require_draws(draws)
    grouped: dict[str, list[tuple[str, Leg]]] = {}
    for result in results:
        for leg in result.legs:
            if leg.wording.data_type not in NO_DATA_TYPE:
                grouped.setdefault(leg.wording.data_type, []).append((f"{result.id}: {leg.title}", leg))
    return [share for data_type, named in grouped.items() for share in _shares(data_type, named, draws)]


def _shares(data_type: str, named: Sequence[tuple[str, Leg]], draws: int) -> list[DepthShare]:
    """The share of all legs, and of each kind if there are several."""
    measured = [(name, leg) for name, leg in named if not _is_left_out(leg)]
    left_out = tuple(name for name, leg in named if _is_left_out(leg))
    data = list(dict.fromkeys(_data(name, leg) for name, leg in measured))
    found = [_strengths(leg, draws, data.index(_data(name, leg))) for name, leg in measured]
    kinds = list(dict.fromkeys(leg.wording.kind for _, leg in measured))
    shares = []
    for kind in ["", *kinds] if len(kinds) > 1 else [""] * len(kinds):
        chosen = [i for i, (_, leg) in enumerate(measured) if kind in ("", leg.wording.kind)]
        some = [measured[i] for i in chosen], [found[i] for i in chosen]
        shares.append(_share(data_type, kind, *some, () if kind else left_out))
    return shares


def _is_left_out(leg: Leg) -> bool:
    return bool(leg.strengths) or leg.wording.kind in NO_SHARE


def _share(
    data_type: str,
    kind: str,
    measured: Sequence[tuple[str, Leg]],
    found: Sequence[tuple[Tensor, Tensor]],
    left_out: tuple[str, ...],
) -> DepthShare:
    own, drawn = (torch.stack([pair[which] for pair in found]) for which in (0, 1))  # [leg layer], [leg layer draw]
    holds = (own > 1).double().mean(1)
    strength, resampled = own.amin(0), drawn.amin(0)
    share, depth = float((strength > 1).double().mean()), len(strength)
    low, high = (float(edge) for edge in percentiles((resampled > 1).float().mean(0)[None]))
    peak_low, peak_high = (float(edge) for edge in percentiles((1 + resampled.argmax(0))[None].float() / depth))
    weakest = int(holds.argmin())
    return DepthShare(
        data_type=data_type,
        kind=kind,
        share=share,
        low=min(low, share),
        high=max(high, share),
        peak=(1 + int(strength.argmax())) / depth if share else None,
        peak_low=peak_low if share else None,
        peak_high=peak_high if share else None,
        legs=len(measured),
        items=min(leg.effect.shape[1] for _, leg in measured),
        weakest=measured[weakest][0],
        weakest_share=float(holds[weakest]),
        left_out=left_out,
    )


def _data(name: str, leg: Leg) -> tuple[str, int]:
    """The items of a leg; legs with equal items are resampled together."""
    return leg.provenance.data_hash or name, leg.effect.shape[1]


def _strengths(leg: Leg, draws: int, number: int) -> tuple[Float[Tensor, " layer"], Float[Tensor, "layer draw"]]:
    """Strength at the layers 1 to L, for the items and for resampled items."""
    rows = torch.cat([leg.effect[None], leg.controls[: len(leg.lower) - 1]])[:, 1:]
    weights = grouped_weights(leg.resampled, draws, leg.provenance.seed or 0)
    means, mean = rows @ weights.T / weights.sum(1), rows.mean(-1, keepdim=True)
    margin = (mean - leg.lower[:, 1:, None]).clamp(min=0)
    placebos = set(leg.control_names[len(leg.lower) - 1 :])
    scale = float(not any(check.name in placebos and not check.holds for check in leg.checks))
    own, drawn = (torch.nan_to_num(each / margin, nan=0.0).amin(0) * scale for each in (mean, means))
    return own[:, 0], drawn.roll(number, -1)  # rolled, so that the draws of other data are other ones
