"""Legs of the hypothesis: one measured effect with its interval, its null and its verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.results import Provenance, Result
from semhub_lens.stats import NullDraw, Verdict, bootstrap_mean, null_curves, verdict

NULL_DRAWS = 500


@dataclass(frozen=True, eq=False)
class Leg(Result):
    """One effect over layers and items, positive as the hypothesis predicts."""

    title: str
    data_type: str
    """"languages", "arithmetic", "code", ..."""
    kind: str
    """"similarity" (Eq. 1), "readability" (Eq. 2), "language mass"."""
    claim: str
    """What a positive effect means, in plain words."""
    control: str
    """What the null exchanges."""
    unit: str
    effect: Float[Tensor, "layer item"]
    low: Float[Tensor, " layer"]
    high: Float[Tensor, " layer"]
    """95 % bootstrap interval of the mean."""
    null: Float[Tensor, "draw layer"]
    """Mean effect under effect-free pairings of all items."""
    curve_names: tuple[str, ...]
    curves: Float[Tensor, "curve layer"]
    """What lies behind the effect, for the figure."""
    curve_unit: str
    verdict: Verdict
    _nested: ClassVar[tuple[type, ...]] = (Provenance, Verdict)

    @property
    def mean(self) -> Float[Tensor, " layer"]:
        """Mean effect at every layer, over all items."""
        return self.effect.mean(1)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and item."""
        layers, items = self.effect.shape
        index = pd.MultiIndex.from_product([[self.title], range(layers), range(items)], names=["leg", "layer", "item"])
        return pd.DataFrame({"effect": self.effect.flatten().numpy()}, index).reset_index()


@dataclass(frozen=True, eq=False)
class ExperimentResult(Result):
    """All legs of one experiment."""

    id: str
    title: str
    legs: tuple[Leg, ...]
    notes: tuple[str, ...]
    """What was dropped, and what the numbers do not show."""
    _nested: ClassVar[tuple[type, ...]] = (Provenance, Leg, Verdict)

    def to_frame(self) -> pd.DataFrame:
        """One row per leg, layer and item."""
        return pd.concat([leg.to_frame() for leg in self.legs], ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """One row per leg: the verdict, on the half of the items that did not choose the layer."""
        rows = []
        for leg in self.legs:
            found = leg.verdict
            rows.append(
                {
                    "experiment": self.id,
                    "leg": leg.title,
                    "verdict": found.status,
                    "effect": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "null 95 %": found.threshold,
                    "layer": found.layer,
                    "embedding": float(leg.mean[0]),
                    "unit": leg.unit,
                    "items": found.items,
                }
            )
        return pd.DataFrame(rows)


def make_leg(
    effect: Float[Tensor, "layer item"],
    draw: NullDraw,
    *,
    title: str,
    data_type: str,
    kind: str,
    claim: str,
    control: str,
    unit: str,
    curves: Mapping[str, Float[Tensor, " layer"]],
    curve_unit: str,
    provenance: Provenance,
    seed: int,
) -> Leg:
    """Put interval, null and verdict to an effect (`stats.verdict` says how a leg is judged).

    Args:
        effect: every item's effect; positive as predicted.
        draw: mean effect per layer of given items under one effect-free pairing.
        title, data_type, kind, claim, control, unit, curve_unit: see `Leg`.
        curves: named mean curves behind the effect.
        provenance: of the model and the data.
        seed: for bootstrap, null and split.
    """
    interval = bootstrap_mean(effect, seed=seed)
    everything = torch.arange(effect.shape[1])
    return Leg(
        title,
        data_type,
        kind,
        claim,
        control,
        unit,
        effect,
        interval.low,
        interval.high,
        null_curves(draw, everything, seed=seed + 3, draws=NULL_DRAWS),
        tuple(curves),
        torch.stack(list(curves.values())),
        curve_unit,
        verdict(effect, draw, seed=seed, draws=NULL_DRAWS),
        provenance=provenance,
    )
