"""Held-out predictions: accuracy, interval, chance, controls, and the peak layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Part
from semhub_lens.base.rng import generator
from semhub_lens.evidence.draws import grouped_halves
from semhub_lens.evidence.stats import Interval, grouped_bootstrap_mean
from semhub_lens.probes.fitting import Centre, ProbeSetup, out_of_fold
from semhub_lens.probes.items import Items, Key, follow, shuffled, shuffled_in_folds, split


@dataclass(frozen=True)
class Peak:
    """The best layer, chosen on one half of the groups, and its accuracy on the other half: `Predictions.peak`."""

    layer: int
    accuracy: float
    low: float
    high: float
    """95 % bootstrap interval over the groups of the reporting half."""
    chance: float
    """Share of the largest class in the reporting half."""
    items: int
    """Items in the reporting half."""


@dataclass(frozen=True, eq=False)
class Predictions(Part):
    """Predictions for the items of one data type at every layer, each by a probe that did not see the item.

    `linear_probe` makes them (`.within`, `.across`), and `transfer_matrix`.

    Example:
        >>> own, order = torch.tensor([0, 1] * 4), torch.arange(8)
        >>> seen = Predictions(torch.stack([1 - own, own]), own, order, torch.full((1, 2), 0.5))
        >>> seen.accuracy, seen.peak(seed=0).layer
        (tensor([0., 1.]), 1)
        >>> seen.interval(seed=0).low, seen.permuted(order, torch.Generator().manual_seed(0)).shape
        (tensor([0., 1.]), torch.Size([2]))
        >>> len(seen.to_frame(["cat", "dog"]))  # one row per layer and item
        16
    """

    predicted: Int[Tensor, "layer item"]
    """Index of the predicted class."""
    labels: Int[Tensor, " item"]
    """Index of the item's own class."""
    groups: Int[Tensor, " item"]
    """Code of the item's group; a group in several data types has the same code."""
    control: Float[Tensor, "draw layer"]
    """Accuracy of probes trained on shuffled labels."""

    @property
    def correct(self) -> Float[Tensor, "layer item"]:
        """1 if the predicted class is the item's own, else 0."""
        return (self.predicted == self.labels).float()

    @property
    def accuracy(self) -> Float[Tensor, " layer"]:
        """Share of items whose class is predicted."""
        return self.correct.mean(1)

    @property
    def chance(self) -> float:
        """Share of the largest class: the accuracy of the best constant guess."""
        return float(self.labels.bincount().max()) / len(self.labels)

    @property
    def above_chance(self) -> Float[Tensor, "layer item"]:
        """`correct` minus `chance`: the effect of a leg, with `permuted` as its null."""
        return self.correct - self.chance

    @property
    def selectivity(self) -> Float[Tensor, " layer"]:
        """Accuracy minus the mean accuracy of probes trained on shuffled labels; NaN without control draws."""
        return self.accuracy - self.control.mean(0)

    def permuted(self, items: Int[Tensor, " item"], rng: torch.Generator) -> Float[Tensor, " layer"]:
        """Mean of `above_chance` over some items with labels exchanged between their groups: one draw of a null.

        Args:
            items: indices of the items.
            rng: for the draw.
        """
        labels = shuffled(self.labels[items], self.groups[items], rng)
        return (self.predicted[:, items] == labels).float().mean(1) - self.chance

    @checked
    def interval(self, seed: int = 0) -> Interval:
        """Accuracy with its 95 % bootstrap interval over groups; the fitted probes are kept.

        Args:
            seed: for the bootstrap.

        Raises:
            SemhubError: a seed that is not a whole number.
        """
        return grouped_bootstrap_mean(self.correct, self.groups, seed=seed)

    @checked
    def peak(self, seed: int = 0) -> Peak:
        """Choose the layer with the highest accuracy on one half of the groups, and report it on the other half.

        Layer 0, the embedding, is a baseline and is never chosen. Of equally good layers, the first is chosen.

        Args:
            seed: for the halves and the bootstrap.

        Raises:
            SemhubError: a single layer or a single group.
        """
        count = len(self.groups.unique())
        if len(self.predicted) < 2 or count < 2:
            raise SemhubError(
                f"A peak needs a layer above the embedding and two groups, got {len(self.predicted)} layers and "
                f"{count} groups."
            )
        chosen, kept = grouped_halves(self.groups, seed)
        layer = 1 + int(self.correct[1:, chosen].mean(1).argmax())
        score = grouped_bootstrap_mean(self.correct[layer : layer + 1, kept], self.groups[kept], seed=seed + 1)
        chance = float(self.labels[kept].bincount().max()) / len(kept)
        return Peak(layer, float(score.mean), float(score.low), float(score.high), chance, len(kept))

    @checked
    def to_frame(self, classes: Sequence[Key]) -> pd.DataFrame:
        """One row per layer and item.

        Args:
            classes: the name of every class.

        Raises:
            SemhubError: fewer names than classes.
        """
        layers, items = self.predicted.shape
        names = dict(enumerate(classes))
        highest = int(max(self.labels.max(), self.predicted.max()))
        if highest >= len(names):
            raise SemhubError(
                f"classes= names {len(names)} classes {list(classes)}, but class {highest} (from 0) occurs."
            )
        index = pd.MultiIndex.from_product([range(layers), range(items)], names=["layer", "item"])
        columns = {
            "group": self.groups.repeat(layers).numpy(),
            "label": [names[code] for code in self.labels.tolist()] * layers,
            "predicted": [names[code] for code in self.predicted.flatten().tolist()],
            "correct": self.correct.flatten().bool().numpy(),
        }
        return pd.DataFrame(columns, index).reset_index()


def probe_types(
    train: Items, tests: Sequence[Items], classes: int, *, setup: ProbeSetup, centre: Centre, seed: int
) -> list[Predictions]:
    """Train on one data type and predict the items of each of `tests`, which may include the training type."""
    fold = split(train, setup.folds, seed)
    rng = generator(seed + 1)
    draws = [shuffled_in_folds(train.labels, train.groups, fold, rng) for _ in range(setup.control_draws)]
    placed = [(test, follow(test.groups, train.groups, fold, setup.folds, seed + 2)) for test in tests]
    if centre == "own" and any(len(types.unique()) < 2 for _, types in placed):
        raise SemhubError("centre='own' needs test items outside each fold for their mean; pass at least two groups.")
    predictions = out_of_fold(train, fold, placed, torch.stack([train.labels, *draws]), classes, setup, centre)
    results = []
    for test, predicted in zip(tests, predictions, strict=True):
        # a shuffled item of the training type is scored by its shuffled label, as in any cross-validation
        truth = torch.stack(draws)[:, None] if draws and test is train else test.labels
        control = (predicted[1:] == truth).float().mean(2)
        results.append(Predictions(predicted[0].clone(), test.labels.clone(), test.groups.clone(), control))
    return results
