"""Legs of the hypothesis: one measured effect with its interval, its null, its controls and its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Part, Provenance, Result
from semhub_lens.evidence.draws import NullDraw, grouped_halves, null_curves, told_apart
from semhub_lens.evidence.stats import Verdict, corrected_p, grouped_bootstrap_mean, verdict
from semhub_lens.evidence.verdict_row import VerdictRow

NULL_DRAWS = 500
COLUMNS = {"title": "leg", "status": "verdict", "estimate": "effect", "threshold": "null 95 %"}
"""Fields of a `VerdictRow` with another name in `ExperimentResult.summary`."""


@dataclass(frozen=True, kw_only=True)
class LegText(Part):
    """The description of a leg."""

    title: str
    data_type: str
    """"languages", "arithmetic", "code", ..."""
    kind: str
    """"similarity" (Eq. 1), "readability" (Eq. 2), "language mass", "causality", "probing", "patchscope"."""
    claim: str
    """What a positive effect means, in plain words."""
    control: str
    """The exchange that the null makes."""
    unit: str
    curve_unit: str


@dataclass(frozen=True)
class Check(Part):
    """One control of a leg, at the verdict's layer, on the reporting half."""

    name: str
    estimate: float
    """The effect minus the control; for a placebo, the placebo's own effect."""
    low: float
    high: float
    holds: bool
    """The 95 % interval of the effect minus the control is above 0; for a placebo, its own verdict is not *supported*.
    """


@dataclass(frozen=True, eq=False)
class Leg(Result):
    """One effect over layers and items; positive values are in the direction that the hypothesis predicts.

    `experiments.run` makes its legs.
    """

    wording: LegText
    effect: Float[Tensor, "layer item"]
    """One row per layer, or per cell of a grid of interventions (`layers`, `strengths`)."""
    low: Float[Tensor, " layer"]
    high: Float[Tensor, " layer"]
    """95 % bootstrap interval of the mean."""
    null: Float[Tensor, "draw layer"]
    """Mean effects of null draws over all items."""
    curve_names: tuple[str, ...]
    curves: Float[Tensor, "curve layer"]
    """The curves behind the effect, for the figure."""
    verdict: Verdict
    control_names: tuple[str, ...]
    controls: Float[Tensor, "control layer item"]
    """Per control, the effect minus the control's; per placebo, the placebo's own effect."""
    checks: tuple[Check, ...]
    labels: tuple[str, ...]
    """The items as texts; empty if they have none."""
    layers: tuple[int, ...]
    """The residual layer of every row."""
    strengths: tuple[float, ...]
    """The strength of every row of a grid of interventions; empty without interventions."""
    placebos: int = 0
    """The number of placebos, which are the last of the controls."""
    groups: Int[Tensor, " item"] | None = None
    """The group of every item, such as its concept; None if every item is one of its own."""

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Leg":
        """In files without the number of placebos, their names start with "absent"."""
        absent = sum(name.startswith("absent") for name in fields["control_names"])
        whole: dict[str, Any] = {"placebos": absent} | fields
        return cls(**whole)

    @property
    def title(self) -> str:
        """The leg's name."""
        return self.wording.title

    @property
    def mean(self) -> Float[Tensor, " layer"]:
        """Mean effect of every row, over all items."""
        return self.effect.mean(1)

    @property
    def layer(self) -> int:
        """The layer that one half of the items chose."""
        return self.layers[self.verdict.row]

    @property
    def strength(self) -> float | None:
        """The strength that one half of the items chose, for interventions."""
        return self.strengths[self.verdict.row] if self.strengths else None

    @property
    def p_value(self) -> float:
        """The share of null draws over all items that reach, at any row, the effect of the verdict's row."""
        return corrected_p(self.mean, self.null, self.verdict.row, first=int(not self.strengths))

    @property
    def resampled(self) -> Int[Tensor, " item"]:
        """The group of every item, which halves and bootstrap samples keep whole."""
        return torch.arange(self.effect.shape[1]) if self.groups is None else self.groups

    @cached_property
    def lower(self) -> Float[Tensor, "effect layer"]:
        """The lower 95 % bound over all items of the effect, and of the effect minus each control but placebos."""
        controls = self.controls[: len(self.controls) - self.placebos]
        seed = self.provenance.seed or 0
        lows = [grouped_bootstrap_mean(left, self.resampled, seed=seed).low for left in controls]
        return torch.stack([self.low, *lows])

    def to_frame(self) -> pd.DataFrame:
        """One row per layer (and strength) and item."""
        rows, items = self.effect.shape
        columns: dict[str, Any] = {"leg": self.title}
        index = pd.MultiIndex.from_product([range(rows), range(items)], names=["row", "item"])
        frame = pd.DataFrame({"effect": self.effect.flatten().numpy()}, index).reset_index()
        columns["layer"] = [self.layers[row] for row in frame.pop("row")]
        if self.strengths:
            columns["strength"] = [strength for strength in self.strengths for _ in range(items)]
        columns["item"] = frame.pop("item")
        if self.groups is not None:
            columns["group"] = pd.array(self.groups.tolist() * rows, dtype="Int64")
        if self.labels:
            columns["label"] = list(self.labels) * rows
        columns["effect"] = frame["effect"]
        for name, control in zip(self.control_names, self.controls, strict=True):
            columns[f"effect {name}"] = control.flatten().numpy()
        return pd.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class ExperimentResult(Result):
    """All legs of one experiment, as `experiments.run` measures them."""

    id: str
    title: str
    legs: tuple[Leg, ...]
    notes: tuple[str, ...]
    """Which items were dropped, and what the numbers do not show."""
    extras: tuple[Result, ...] = ()
    """Other results behind the legs (a transfer matrix, trajectories)."""

    def to_frame(self) -> pd.DataFrame:
        """One row per leg, layer (and strength) and item."""
        return pd.concat([leg.to_frame() for leg in self.legs], ignore_index=True)

    def rows(self) -> list[VerdictRow]:
        """The verdict of every leg as a row, as all tables print it."""
        return [verdict_row(self.id, leg) for leg in self.legs]

    def summary(self) -> pd.DataFrame:
        """One row per leg: the verdict, from the half of the items that did not choose the layer."""
        table = pd.DataFrame([asdict(row) for row in self.rows()])
        return table.astype({"embedding": float}).rename(columns=COLUMNS)


def verdict_row(experiment: str, leg: Leg) -> VerdictRow:
    """The verdict of one leg of an experiment as a row."""
    return VerdictRow(
        experiment=experiment,
        title=leg.title,
        data_type=leg.wording.data_type,
        kind=leg.wording.kind,
        status=leg.verdict.status,
        estimate=leg.verdict.estimate,
        low=leg.verdict.low,
        high=leg.verdict.high,
        threshold=leg.verdict.threshold,
        layer=leg.layer,
        strength=leg.strength,
        embedding=None if leg.strengths else float(leg.mean[0]),
        unit=leg.wording.unit,
        items=leg.verdict.items,
        holds=tuple(check.name for check in leg.checks if check.holds),
        fails=tuple(check.name for check in leg.checks if not check.holds),
    )


@checked
def make_leg(
    effect: Float[Tensor, "layer item"],
    draw: NullDraw,
    wording: LegText,
    *,
    provenance: Provenance,
    seed: int,
    curves: Mapping[str, Float[Tensor, " layer"]],
    controls: Mapping[str, Float[Tensor, "layer item"]] | None = None,
    placebos: Mapping[str, tuple[Float[Tensor, "layer item"], NullDraw]] | None = None,
    labels: Sequence[str] = (),
    grid: Sequence[tuple[int, float]] = (),
    groups: Int[Tensor, " item"] | None = None,
) -> Leg:
    """Make a leg from an effect: add interval, null, controls and verdict (`stats.verdict` has the rule).

    Args:
        effect: every item's effect; positive in the predicted direction.
        draw: the mean effect per layer of given items in one null draw.
        wording: the description of the leg.
        provenance: of the model and the data.
        seed: for bootstrap, null and split.
        curves: named mean curves behind the effect.
        controls: for each control on the same scale, the effect minus the control's, item by item.
        placebos: effects that should be absent, with their nulls, such as the same items on a random-weight model,
            whose scale differs.
        labels: the items as texts.
        grid: layer and strength of every row, for interventions; otherwise rows are the residual layers from the
            embedding.
        groups: the group of every item, if items belong together; see `verdict`.

    Raises:
        SemhubError: too few items, groups or layers, a NaN effect, or labels, a grid, groups, curves, controls or
            placebos that do not match the effect.

    Example:
        >>> from semhub_lens.evidence.legs import LegText, make_leg
        >>> from semhub_lens.evidence.stats import sign_flips
        >>> effect = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) + torch.tensor([[0], [0], [2]])
        >>> about = {"title": "pairs", "data_type": "languages", "kind": "similarity", "claim": "Pairs are closer."}
        >>> wording = LegText(**about, control="flipped signs", unit="cosine", curve_unit="cosine")
        >>> origin = logit_lens(tiny_model, "two", progress=False).provenance
        >>> leg = make_leg(effect, sign_flips(effect), wording, provenance=origin, seed=0, curves={})
        >>> leg.verdict.status, leg.verdict.row
        ('supported', 2)
    """
    rows, items = effect.shape
    if (labels and len(labels) != items) or (grid and len(grid) != rows):
        raise SemhubError(
            f"The effect has {rows} rows and {items} items, got {len(grid)} cells and {len(labels)} labels."
        )
    named = {**(controls or {}), **{name: values for name, (values, _) in (placebos or {}).items()}}
    wrong = {name: values for name, values in curves.items() if len(values) != rows}
    wrong |= {name: values for name, values in named.items() if values.shape != effect.shape}
    if wrong:
        name, values = next(iter(wrong.items()))
        raise SemhubError(f"{name!r} has the shape {tuple(values.shape)}, but the effect has the shape {rows, items}.")
    judged = verdict(effect, draw, seed=seed, draws=NULL_DRAWS, baseline=not grid, groups=groups)
    together = torch.arange(items) if groups is None else groups
    interval = grouped_bootstrap_mean(effect, together, seed=seed)
    controls = {name: told_apart(left, effect) for name, left in (controls or {}).items()}
    placebos = dict(placebos or {})
    kept = controls | {name: values for name, (values, _) in placebos.items()}
    checks = [_check(name, left[judged.row], seed, together) for name, left in controls.items()]
    checks += [_placebo(name, *entry, judged.row, seed, not grid, together) for name, entry in placebos.items()]
    return Leg(
        wording=wording,
        effect=effect,
        low=interval.low,
        high=interval.high,
        null=null_curves(draw, torch.arange(items), seed=seed + 3, draws=NULL_DRAWS),
        curve_names=tuple(curves),
        curves=torch.stack(list(curves.values())) if curves else torch.zeros(0, rows, dtype=torch.float32),
        verdict=judged,
        control_names=tuple(kept),
        controls=torch.stack(list(kept.values())) if kept else torch.zeros(0, rows, items, dtype=torch.float32),
        checks=tuple(checks),
        labels=tuple(labels),
        layers=tuple(layer for layer, _ in grid) if grid else tuple(range(rows)),
        strengths=tuple(float(strength) for _, strength in grid),
        placebos=len(placebos),
        groups=groups,
        provenance=provenance,
    )


def _check(name: str, left: Float[Tensor, " item"], seed: int, groups: Int[Tensor, " item"]) -> Check:
    _, report = grouped_halves(groups, seed)
    interval = grouped_bootstrap_mean(left[None, report], groups[report], seed=seed + 1)
    return Check(name, float(interval.mean), float(interval.low), float(interval.high), bool(interval.low > 0))


def _placebo(name: str, effect: Tensor, draw: NullDraw, row: int, seed: int, baseline: bool, groups: Tensor) -> Check:
    status = verdict(effect, draw, seed=seed, draws=NULL_DRAWS, baseline=baseline, groups=groups).status
    return replace(_check(name, effect[row], seed, groups), holds=status != "supported")


def describe(experiment: str, leg: Leg) -> dict[str, Any]:
    """The verdict of a leg as plain values for JSON: its row, and the numbers of its controls."""
    row = asdict(verdict_row(experiment, leg))
    return row | {"leg": row.pop("title"), "checks": [asdict(check) for check in leg.checks]}
