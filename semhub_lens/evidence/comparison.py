"""Two reports side by side: every leg of both, and the difference where both measured the same items."""

from dataclasses import dataclass, fields, replace

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Part, Provenance, Result
from semhub_lens.base.rng import generator
from semhub_lens.evidence.depth import DepthShare
from semhub_lens.evidence.draws import grouped_halves
from semhub_lens.evidence.legs import Leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, grouped_bootstrap_mean
from semhub_lens.evidence.verdict_row import VerdictRow, number


@dataclass(frozen=True, eq=False, kw_only=True)
class Difference(Part):
    """One leg of report a minus the same leg of report b, item by item."""

    paired_by: str
    """How the items were matched; empty if they differ, and then there are no numbers."""
    reason: str = ""
    """Why there is no difference, or none of the verdicts."""
    curve: Float[Tensor, "figure depth"] | None = None
    """Depth, mean difference, and its 95 % bootstrap interval over items; None for sweeps of interventions."""
    verdicts: tuple[float, float, float] | None = None
    """The effects at both chosen layers: difference, low, high, over the items that chose neither layer."""
    items: int = 0
    """The number of items behind `verdicts`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LegComparison(Part):
    """One leg of two reports."""

    rows: tuple[VerdictRow, VerdictRow]
    """The verdict in a and in b."""
    curves: tuple[Float[Tensor, "figure depth_a"], Float[Tensor, "figure depth_b"]]
    """For a and for b: depth (0 embedding, 1 last layer), mean effect, and its 95 % interval."""
    layers: tuple[int, int]
    """The last layer L of both models."""
    difference: Difference

    @property
    def depths(self) -> tuple[str, str]:
        """The depth of both chosen layers, as printed."""
        a, b = (f"{row.layer / last:.2f}" for row, last in zip(self.rows, self.layers, strict=True))
        return a, b

    @property
    def printed(self) -> tuple[str, str]:
        """The difference of the verdicts with its interval, as printed; empty if there is none."""
        if self.difference.verdicts is None:
            return "", ""
        mean, low, high = map(number, self.difference.verdicts)
        return mean, f"{low} to {high}"


@dataclass(frozen=True, eq=False)
class ReportComparison(Result):
    """Two reports side by side; `compare_reports` makes it."""

    names: tuple[str, str]
    legs: tuple[LegComparison, ...]
    shares: tuple[tuple[DepthShare, ...], tuple[DepthShare, ...]]
    """The share of depth of every data type, in a and in b."""
    only: tuple[str, ...]
    """Descriptions of what only one of the reports contains."""

    def to_frame(self) -> pd.DataFrame:
        """One row per leg."""
        rows = []
        for leg in self.legs:
            row: dict[str, object] = {"experiment": leg.rows[0].experiment, "leg": leg.rows[0].title}
            for side, own, last in zip("ab", leg.rows, leg.layers, strict=True):
                figures = {"verdict": own.status, "effect": own.estimate, "low": own.low, "high": own.high}
                row |= {f"{name}_{side}": value for name, value in (figures | {"depth": own.layer / last}).items()}
            figures = leg.difference.verdicts or (float("nan"),) * 3
            row |= dict(zip(("difference", "low", "high"), figures, strict=True))
            rows.append(row | {"paired by": leg.difference.paired_by, "items": leg.difference.items})
        return pd.DataFrame(rows)


@checked
def same_items(a: Leg, b: Leg) -> tuple[Int[Tensor, " item"] | None, str]:
    """The index in b of every item of a, with how they were matched; or None, with the reason.

    The items are the same if the data hash and the labels are equal. If the hashes differ, because they include tokens,
    items with equal labels are matched, provided that no label occurs twice and both legs have all of them.

    Example:
        >>> same_items(a.legs[0], b.legs[0])  # doctest: +SKIP
    """
    ours, theirs = a.effect.shape[1], b.effect.shape[1]
    hashes = (a.provenance.data_hash, b.provenance.data_hash)
    if ours == theirs and hashes[0] is not None and hashes[0] == hashes[1] and a.labels == b.labels:
        return torch.arange(ours), "the same data"
    if a.provenance.data != b.provenance.data:
        return None, f"other data: {a.provenance.data} and {b.provenance.data}"
    if not a.labels or len({*a.labels}) < ours or len({*b.labels}) < theirs:
        return None, f"other items: {ours} and {theirs}, which no labels tell apart"
    if {*a.labels} != {*b.labels}:
        return None, f"other items: {len({*a.labels} & {*b.labels})} in both of {ours} and {theirs}"
    place = {label: i for i, label in enumerate(b.labels)}
    return torch.tensor([place[label] for label in a.labels]), "the same labels"


@checked
def nearest_entries(ours: int, theirs: int) -> tuple[Int[Tensor, " depth"], Int[Tensor, " depth"]]:
    """For every entry of the shallower model, the nearest entry of the other by depth; of two equally near, the lower.

    Raises:
        SemhubError: a model with fewer than two entries.

    Example:
        >>> from semhub_lens.evidence.comparison import nearest_entries
        >>> [entries.tolist() for entries in nearest_entries(3, 6)]
        [[0, 1, 2], [0, 2, 5]]
    """
    if min(ours, theirs) < 2:
        raise SemhubError(f"A model has at least two residual entries, got {ours} and {theirs}.")
    fewer, more = min(ours, theirs) - 1, max(ours, theirs) - 1
    entries = torch.arange(fewer + 1)
    nearest = (entries[:, None] * more - torch.arange(more + 1) * fewer).abs().argmin(1)
    return (entries, nearest) if ours <= theirs else (nearest, entries)


@checked
def difference(a: Leg, b: Leg, *, seed: int = 0) -> Difference:
    r"""One leg of model a minus that of model b over the same items: the mean of $e^a_{\ell i} - e^b_{m(\ell) i}$.

    $m(\ell)$ is the nearest entry by depth (`nearest_entries`). The bootstrap draws the same items for both models. The
    difference of the verdicts compares the effects at each model's own chosen layer, over the items that chose neither
    layer.

    Raises:
        SemhubError: a seed of more than 64 bits.

    Example:
        >>> difference(a.legs[0], b.legs[0], seed=0)  # doctest: +SKIP
    """
    generator(seed)  # a wrong one is refused also where nothing is drawn
    order, why = same_items(a, b)
    if order is None:
        return Difference(paired_by="", reason=why)
    theirs = b.effect[:, order]
    groups = a.resampled if b.groups is None else b.groups[order]  # of equal items; an old file may have none
    found = Difference(paired_by=why, reason="the items that chose the layers are not known")
    if not a.strengths and not b.strengths:
        one, two = nearest_entries(len(a.effect), len(theirs))
        interval = grouped_bootstrap_mean(a.effect[one] - theirs[two], groups, seed=seed)
        depth = torch.arange(len(one)).float() / (len(one) - 1)
        found = replace(found, curve=torch.stack([depth, interval.mean, interval.low, interval.high]))
    reported = [_reported(leg) for leg in (a, b)]
    if reported[0] is None or reported[1] is None:
        return found
    both = reported[0][torch.isin(order[reported[0]], reported[1])]
    shared = len(groups[both].unique())
    if shared < FEWEST_ITEMS // 2:  # as in a verdict: the interval of fewer is too narrow
        units = "items" if shared == len(both) else "groups"
        few = f"the reporting halves have {shared or 'no'} {units} in common, fewer than {FEWEST_ITEMS // 2}"
        return replace(found, reason=few)
    left = (a.effect[a.verdict.row] - theirs[b.verdict.row])[None, both]
    interval = grouped_bootstrap_mean(left, groups[both], seed=seed)
    figures = (float(interval.mean), float(interval.low), float(interval.high))
    return replace(found, reason="", verdicts=figures, items=len(both))


def _reported(leg: Leg) -> Int[Tensor, " item"] | None:
    """The items that did not choose the layer; None if the split does not match the leg's seed."""
    _, report = grouped_halves(leg.resampled, leg.provenance.seed or 0)
    estimate = float(leg.effect[leg.verdict.row, report].mean())
    return report if abs(estimate - leg.verdict.estimate) < 1e-4 * (1 + abs(estimate)) else None


def side_by_side(a: Provenance, b: Provenance) -> Provenance:
    """Both provenances as one, without the data of a leg; values that differ are shown next to each other."""
    a, b = (replace(own, data=None, data_hash=None, notes=()) for own in (a, b))
    named = {field.name: (getattr(a, field.name), getattr(b, field.name)) for field in fields(Provenance)}
    return replace(a, **{k: f"{x} | {y}" for k, (x, y) in named.items() if x != y and isinstance(x, str)})
