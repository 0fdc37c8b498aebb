"""The result of a steering sweep: every score of every item in every cell, and the choice of a cell."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Result
from semhub_lens.evidence.draws import halves
from semhub_lens.evidence.stats import bootstrap_mean

STEERED, RANDOM, FLIPPED = "steered", "random", "flipped"
UNRELATED, LAST = "unrelated", "last layer"


@dataclass(frozen=True)
class Mean:
    """Mean over the reporting items with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A layer and a strength that half of the items chose, and the effects on the other half: `SweepResult.choose`."""

    score: str
    layer: int
    strength: float
    effect: Mean
    """Steered minus clean."""
    contrast: Mean | None
    """Steered minus the mean over random directions; None without random directions."""
    controls: tuple[tuple[str, Mean], ...]
    """Every control's own effect: control minus clean."""
    damage: tuple[tuple[str, Mean], ...]
    """Rise of every damage score over the clean run."""
    budget: float | None
    within_budget: bool | None
    """Whether the chosen damage stays within the budget on the reporting half too; None without a budget."""
    items: int
    """Items in the reporting half."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SweepResult(Result):
    """Scores of items with an intervention, over layers and strengths, with its controls; higher damage is worse.

    `sweep` makes it. Its example also reads `effect`, `contrast` and `choose`.
    """

    conditions: tuple[str, ...]
    """"steered", "random" ("random 2", ...), "flipped", "unrelated", "last layer"; those that were measured."""
    layers: tuple[int, ...]
    """Residual entries. For the condition "last layer", the origin of the vector; it is added at the last entry."""
    strengths: tuple[float, ...]
    names: tuple[str, ...]
    """The scores."""
    damage: tuple[str, ...]
    """The scores that measure damage."""
    clean: Float[Tensor, "score item"]
    scores: Float[Tensor, "condition layer strength score item"]
    norms: Float[Tensor, "layer item"]
    """Norm of the direction; the added vector has strength times this norm."""

    @property
    def effects(self) -> tuple[str, ...]:
        """Scores that are not damage."""
        return tuple(name for name in self.names if name not in self.damage)

    @checked
    def effect(self, score: str, condition: str = STEERED) -> Float[Tensor, "layer strength item"]:
        """The effect of a condition: its score minus the clean score; "random" is the mean over the random directions.

        Args:
            score: one of `names`.
            condition: one of `conditions`.

        Raises:
            SemhubError: unknown score or condition.
        """
        row = self._score(score)
        return self.scores[self._rows(condition), :, :, row].mean(0) - self.clean[row]

    @checked
    def contrast(self, score: str, control: str = RANDOM) -> Float[Tensor, "layer strength item"]:
        """Steered minus a control, item by item.

        Args:
            score: one of `names`.
            control: one of `conditions`.

        Raises:
            SemhubError: unknown score, or a control that was not measured.
        """
        return self.effect(score) - self.effect(score, control)

    @checked
    def choose(self, score: str, *, damage: str | None = None, budget: float | None = None, seed: int = 0) -> Choice:
        """Choose layer and strength on one half of the items, and report the effect on the other half.

        The choice is the cell with the largest mean contrast with the random directions (without them, the largest mean
        effect), among the cells whose mean rise in damage is within the budget.

        Args:
            score: one of `effects`.
            damage, budget: a score of `damage`, and the largest mean rise to accept; None does not look at damage.
            seed: for the halves and the bootstrap.

        Raises:
            SemhubError: fewer than 4 items, NaN in the scores, only one of damage and budget, or no cell within the
                budget.
        """
        if (damage is None) != (budget is None):
            raise SemhubError(f"Pass damage= and budget= together, got {damage!r} and {budget!r}.")
        items = self.clean.shape[1]
        if items < 4:
            raise SemhubError(f"Choosing on one half and reporting the other needs at least 4 items, got {items}.")
        merit = self.contrast(score) if RANDOM in self.conditions else self.effect(score)
        used = {score: merit} if damage is None else {score: merit, damage: self.effect(damage)}
        if not all(bool(torch.isfinite(values).all()) for values in used.values()):
            raise SemhubError(
                f"NaN or infinite values in {' or '.join(used)}: make the measure return a number in every run, or "
                "drop these items."
            )
        choosing, reporting = halves(items, seed)
        chosen = self._best(merit[..., choosing].mean(-1), choosing, damage, budget)
        return self._report(score, chosen, reporting, damage, budget, seed)

    def to_frame(self) -> pd.DataFrame:
        """One row per condition, layer, strength and item, one column per score; the clean run has no layer."""
        axes = {"condition": self.conditions, "layer": self.layers, "strength": self.strengths}
        index = pd.MultiIndex.from_product([*axes.values(), range(self.clean.shape[1])], names=[*axes, "item"])
        rows = rearrange(self.scores, "condition layer strength score item -> (condition layer strength item) score")
        steered = pd.DataFrame(rows.numpy(), index, columns=list(self.names)).reset_index()
        clean = pd.DataFrame(self.clean.T.numpy(), columns=list(self.names))
        head: dict[str, Any] = {"condition": "clean", "layer": pd.NA, "strength": 0.0, "item": range(len(clean))}
        for column, (name, values) in enumerate(head.items()):
            clean.insert(column, name, values)
        kinds = {"layer": "Int64"}
        return pd.concat([clean.astype(kinds), steered.astype(kinds)], ignore_index=True)

    def _score(self, name: str) -> int:
        if name not in self.names:
            raise SemhubError(f"Unknown score {name!r}; there are {', '.join(self.names)}.")
        return self.names.index(name)

    def _rows(self, condition: str) -> list[int]:
        rows = [i for i, name in enumerate(self.conditions) if name == condition]
        if condition == RANDOM:
            rows = [i for i, name in enumerate(self.conditions) if name.startswith(RANDOM)]
        if not rows:
            raise SemhubError(f"The condition {condition!r} was not measured; there are {', '.join(self.conditions)}.")
        return rows

    def _best(
        self,
        merit: Float[Tensor, "layer strength"],
        items: Int[Tensor, " item"],
        damage: str | None,
        budget: float | None,
    ) -> tuple[int, int]:
        if damage is not None and budget is not None:
            rise = self.effect(damage)[..., items].mean(-1)
            if not bool((rise <= budget).any()):
                raise SemhubError(
                    f"No cell keeps {damage!r} within {budget:g}: the smallest rise is {float(rise.min()):.3g}. "
                    "Measure smaller strengths, or allow more."
                )
            merit = merit.masked_fill(rise > budget, -torch.inf)
        layer, strength = divmod(int(merit.argmax()), len(self.strengths))
        return layer, strength

    def _report(
        self,
        score: str,
        cell: tuple[int, int],
        items: Int[Tensor, " item"],
        damage: str | None,
        budget: float | None,
        seed: int,
    ) -> Choice:
        def mean(values: Float[Tensor, "layer strength item"]) -> Mean:
            interval = bootstrap_mean(values[cell][None, items], seed=seed + 1)
            return Mean(float(interval.mean), float(interval.low), float(interval.high))

        row = self._score(score)
        alone = dict(zip(self.conditions, self.scores[:, :, :, row] - self.clean[row], strict=True))
        judged = self.damage if damage is None else dict.fromkeys((*self.damage, damage))
        rises = {name: mean(self.effect(name)) for name in judged}
        return Choice(
            score=score,
            layer=self.layers[cell[0]],
            strength=self.strengths[cell[1]],
            effect=mean(alone[STEERED]),
            contrast=mean(self.contrast(score)) if RANDOM in self.conditions else None,
            controls=tuple((name, mean(effect)) for name, effect in alone.items() if name != STEERED),
            damage=tuple(rises.items()),
            budget=budget,
            within_budget=None if damage is None or budget is None else rises[damage].mean <= budget,
            items=len(items),
        )
