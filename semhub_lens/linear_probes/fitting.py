"""The classifier: standardised states, L2-penalised logistic regression, predictions out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from semhub_lens.linear_probes.items import Items

Centre = Literal["none", "own"]

MAX_ITER = 2000


@dataclass(frozen=True)
class ProbeSetup:
    r"""How a linear probe is fitted: multinomial logistic regression by L-BFGS on standardised states.

    $$\min_{W, b}\; \tfrac12 \lVert W \rVert^2 - C \sum_i \log \operatorname{softmax}(W z_i + b)_{y_i}$$

    Raises:
        ValueError: fewer than two folds, a `c` that is not positive, negative `control_draws`, a `tol` not positive.
    """

    folds: int = 5
    """Parts of the cross-validation."""
    c: float = 0.01
    """C above. Small, because states have more coordinates than there are items."""
    control_draws: int = 5
    """Times that the probe is fitted anew on shuffled labels."""
    tol: float = 1e-4
    """Largest gradient of the mean loss at which the solver stops."""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}.")
        if not 0 < self.c < float("inf") or not 0 < self.tol < float("inf"):
            raise ValueError(f"c and tol must be positive, got c={self.c}, tol={self.tol}.")
        if self.control_draws < 0:
            raise ValueError(f"control_draws must not be negative, got {self.control_draws}.")


def check_centre(centre: str) -> None:
    """Raise a ValueError for an unknown `centre`."""
    if centre not in ("none", "own"):
        raise ValueError(f"centre must be 'none' or 'own', got {centre!r}.")


class Standard:
    """Coordinates in which a probe is fitted: the training part has mean 0 and, per coordinate, variance 1.

    With more coordinates than items they are rotated into the span of the training items. Nothing is lost: the
    penalised weights lie in that span, and a rotation leaves the penalty as it is.
    """

    def __init__(self, train: Float[np.ndarray, "item d_model"]) -> None:
        scaler = StandardScaler().fit(train)
        self.mean, self.scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
        self.basis = np.linalg.qr(((train - self.mean) / self.scale).T)[0] if len(train) < train.shape[1] else None

    def place(
        self, states: Float[np.ndarray, "other d_model"], mean: Float[np.ndarray, " d_model"] | None = None
    ) -> Float[np.ndarray, "other feature"]:
        """Coordinates of states; `mean` in place of the training part's."""
        placed = (states - (self.mean if mean is None else mean)) / self.scale
        return placed if self.basis is None else placed @ self.basis

    def undo(self, weights: Float[np.ndarray, "label feature"]) -> Float[np.ndarray, "label d_model"]:
        """Weights that act on `states - mean`."""
        return (weights if self.basis is None else weights @ self.basis.T) / self.scale


def fit(
    states: Float[np.ndarray, "item feature"], labels: Int[np.ndarray, " item"], classes: int, setup: ProbeSetup
) -> tuple[Float[np.ndarray, "label feature"], Float[np.ndarray, " label"]]:
    """Weights and bias of every class; a class without items gets the bias minus infinity."""
    weights, bias = np.zeros((classes, states.shape[1])), np.full(classes, -np.inf)
    present = np.unique(labels)
    if len(present) == 1:  # can happen to shuffled labels
        bias[present] = 0
        return weights, bias
    model = LogisticRegression(C=setup.c, solver="lbfgs", tol=setup.tol, max_iter=MAX_ITER).fit(states, labels)
    coefficients, intercepts = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(present) == 2:  # scikit-learn gives one row: the difference of the two
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights[present], bias[present] = coefficients, intercepts
    return weights, bias


def out_of_fold(
    train: Items,
    fold: Int[Tensor, " item"],
    tests: Sequence[tuple[Items, Int[Tensor, " other"]]],
    labelings: Int[Tensor, "draw item"],
    classes: int,
    setup: ProbeSetup,
    centre: Centre,
) -> list[Int[Tensor, "draw layer other"]]:
    """Classes that probes predict for test items, each by the probe whose training part lacks the item's fold.

    `labelings` are alternative labels of the training items; a probe is fitted for each.
    """
    layers = len(train.states)
    out = [torch.empty(len(labelings), layers, len(where), dtype=torch.long) for _, where in tests]
    for layer in range(layers):
        own = _array(train, layer)
        others = [_array(items, layer) for items, _ in tests]
        for number in range(setup.folds):
            inside = (fold != number).numpy()
            space = Standard(own[inside])
            states = space.place(own[inside])
            held = [(where == number).numpy() for _, where in tests]
            placed = [
                space.place(other[rows], other[~rows].mean(0) if centre == "own" else None)
                for other, rows in zip(others, held, strict=True)
            ]
            for draw, labels in enumerate(labelings.numpy()):
                weights, bias = fit(states, labels[inside], classes, setup)
                for found, rows, test in zip(out, held, placed, strict=True):
                    found[draw, layer, torch.as_tensor(rows)] = torch.as_tensor((test @ weights.T + bias).argmax(1))
    return out


def _array(items: Items, layer: int) -> Float[np.ndarray, "item d_model"]:
    return items.states[layer].detach().double().cpu().numpy()
