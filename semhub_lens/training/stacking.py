"""Stacking: codes learn from classifiers that have not seen the item.

A classifier is more certain about its training items than about new ones. So codes that learn only from training items
never see the uncertainty of later use. In stacked generalization (Wolpert 1992) the second level learns from
predictions for items that the first level did not see. Here the items of every name are split into folds, and each fold
has a classifier trained on all other folds. In every second step the codes learn from that classifier's shares for the
fold's items. In the other steps they learn from the classifier of all items, which is the one kept for use. The only
item of a name is never left out, because no other item could teach its name.
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
    """For each fold of a sampler's items, the classifier trained without it.

    Args:
        start: an untrained projector with codes, copied for every fold.
        sampler: draws the items; its settings give the number of folds.
        progress: whether to show bars.

    A resumed training trains these classifiers again, to the same weights.

    Raises:
        SemhubError: there are fewer than two folds, or the projector has no codes.
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
        """Shares of the codes for every item, from the classifier of its fold."""
        folds = self._fold[items].clamp(min=0).to(features.device)  # the only item of a name: all have seen it
        found: Tensor | None = None
        for fold, classifier in enumerate(self._classifiers):
            if (own := folds == fold).any():
                given = classifier.shares(features[own])
                found = given.new_zeros(len(features), *given.shape[1:]) if found is None else found
                found[own] = given
        assert found is not None  # a batch is never empty
        return found
