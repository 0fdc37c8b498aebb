"""Classifiers that have not seen the item: what codes learn from.

A classifier is surer of what it was trained on than of anything new, so codes that are learned behind it never meet the
doubt that they are shown later. In stacked generalization (Wolpert 1992) the second level learns from predictions for
items that the first level did not see. Here the items of every name are dealt out to folds; for each fold a classifier
learns from all others, and in every second step the codes are learned on the shares that it gives to that fold's items.
In the other steps they learn behind the classifier of all items, which is the one that is kept for use. The only item
of a name is never left out: nothing could be right about it.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.spokes.projector import Projector
from semhub_lens.training.pretraining import pretrain
from semhub_lens.training.sampler import Sampler


class OutOfFold:
    """For each fold of a sampler's items the classifier that was trained without it.

    Args:
        start: an untrained projector with codes, copied for every fold.
        sampler: its settings hold the number of folds.
        progress: whether to show bars.

    A killed training that goes on trains these classifiers again, to the same weights.

    Raises:
        SemhubError: fewer than two folds, or a projector without codes.
    """

    def __init__(self, start: Projector, sampler: Sampler, *, progress: bool = True) -> None:
        folds = sampler.settings.folds
        if folds < 2 or not start.shape.codes:
            raise SemhubError(f"Stacking needs at least 2 folds and a projector with codes, got folds={folds}.")
        self._fold = sampler.fold
        self._classifiers: Sequence[Projector] = [deepcopy(start) for _ in range(folds)]
        for fold, classifier in enumerate(self._classifiers):
            pretrain(classifier, sampler, without=fold, progress=progress)

    @torch.no_grad()
    def shares(
        self, features: Float[Tensor, "batch chunk d"], items: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *chunk code"]:
        """Shares of the codes, for every item by the classifier of its fold."""
        folds = self._fold[items].clamp(min=0).to(features.device)  # the only item of a name: all have seen it
        found: Tensor | None = None
        for fold, classifier in enumerate(self._classifiers):
            if (own := folds == fold).any():
                given = classifier.shares(features[own])
                found = given.new_zeros(len(features), *given.shape[1:]) if found is None else found
                found[own] = given
        assert found is not None  # a batch is never empty
        return found
