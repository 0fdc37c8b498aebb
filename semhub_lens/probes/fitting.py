"""The classifier: standardised states, L2-penalised logistic regression, held-out predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Part
from semhub_lens.probes.items import Items

Centre = Literal["none", "own"]

MAX_ITER = 2000
NEGLIGIBLE = 1e-10
"""Principal axes with a smaller share of the largest one's variance are left out."""


@checked
@dataclass(frozen=True)
class ProbeSetup(Part):
    r"""Settings of `linear_probe`: multinomial logistic regression with L-BFGS on standardised states.

    $$\min_{W, b}\; \tfrac1{2C} \lVert W \rVert^2 - \sum_i \log \operatorname{softmax}(W z_i + b)_{y_i}$$

    C is scikit-learn's. For two classes, scikit-learn fits only one row of weights, so C corresponds to 2 C there.

    Raises:
        SemhubError: fewer than two folds, a `c` that is not positive, negative `control_draws`, a `tol` not positive.
    """

    folds: int = 5
    """The number of parts in the cross-validation."""
    c: float = 0.01
    """C in the formula. It is small, because states have more coordinates than there are items."""
    control_draws: int = 5
    """How often the probe is fitted to shuffled labels."""
    tol: float = 1e-3
    """The solver stops when no entry of the gradient is larger, in coordinates with curvature about 1."""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise SemhubError(f"folds must be at least 2, got {self.folds}.")
        if not 0 < self.c < float("inf") or not 0 < self.tol < float("inf"):
            raise SemhubError(f"c and tol must be positive, got c={self.c}, tol={self.tol}.")
        if self.control_draws < 0:
            raise SemhubError(f"control_draws must not be negative, got {self.control_draws}.")


def check_centre(centre: str) -> None:
    """Raise a SemhubError for an unknown `centre`."""
    if centre not in ("none", "own"):
        raise SemhubError(f"centre must be 'none' or 'own', got {centre!r}.")


class Standard:
    """Coordinates in which a probe is fitted: the training part, standardised and rotated to its principal axes.

    The rotation loses nothing, because the penalised weights are in the span of the training items and the penalty does
    not change. It leaves no more coordinates than items, and a nearly diagonal curvature of the loss.
    """

    def __init__(self, train: Float[np.ndarray, "item d_model"]) -> None:
        from sklearn.preprocessing import StandardScaler  # takes a second, which most scripts need not wait

        scaler = StandardScaler().fit(train)
        self.mean, self.scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_)
        placed = (train - self.mean) / self.scale
        wide = len(train) < train.shape[1]
        squares, axes = np.linalg.eigh(placed @ placed.T if wide else placed.T @ placed)
        kept = squares > NEGLIGIBLE * squares.max()
        self.squares, axes = squares[kept], axes[:, kept]
        self.axes = placed.T @ (axes / np.sqrt(self.squares)) if wide else axes

    def place(
        self, states: Float[np.ndarray, "other d_model"], mean: Float[np.ndarray, " d_model"] | None = None
    ) -> Float[np.ndarray, "other feature"]:
        """Coordinates of states, with `mean` in place of the training part's mean."""
        return ((states - (self.mean if mean is None else mean)) / self.scale) @ self.axes

    def undo(self, weights: Float[np.ndarray, "label feature"]) -> Float[np.ndarray, "label d_model"]:
        """Weights that act on `states - mean`."""
        return weights @ self.axes.T / self.scale

    def fit(
        self,
        states: Float[np.ndarray, "item feature"],
        labelings: Int[np.ndarray, "draw item"],
        classes: int,
        setup: ProbeSetup,
    ) -> tuple[Float[np.ndarray, "draw label feature"], Float[np.ndarray, "draw label"]]:
        """Weights and bias of every class from the training part's coordinates, for each labeling of its items.

        A class without items (possible among shuffled labels) gets weights of zero and the bias minus infinity.
        """
        truth = np.eye(classes)[labelings]
        weights = _minimise(states, truth, self.squares, setup)
        return weights[..., :-1], np.where(truth.any(1), weights[..., -1], -np.inf)


def _minimise(
    states: Float[np.ndarray, "item feature"],
    truth: Float[np.ndarray, "draw item label"],
    squares: Float[np.ndarray, " feature"],
    setup: ProbeSetup,
) -> Float[np.ndarray, "draw label coordinate"]:
    """The minimum of the loss in `ProbeSetup` for each labeling; the last coordinate is the bias.

    scikit-learn's solver finds the same minimum, but needs up to a hundred steps for shuffled labels. In principal
    axes, the curvature is about `squares / classes + 1 / C` per coordinate. With each coordinate scaled to curvature 1,
    about fifteen steps are enough. All labelings are fitted in one sum of losses: a step costs more in the solver
    than in the sums.
    """
    draws, items, classes = truth.shape
    present = truth.any(1)
    known = present.sum(1)[None, :, None]
    curvature = np.append(squares, items)[:, None, None] / known
    penalty = np.append(np.full(len(squares), 1 / setup.c), 0.0)[:, None, None]  # the bias is free
    scale = 1 / np.sqrt(curvature + penalty)
    shape = (len(scale), draws, classes)
    inputs = np.column_stack([states, np.ones(items)])
    targets = truth.swapaxes(0, 1)
    barred = np.where(present, 0.0, -np.inf)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape) * scale
        logits = (inputs @ weights.reshape(len(scale), -1)).reshape(items, draws, classes) + barred
        logits -= logits.max(-1, keepdims=True)
        odds = np.exp(logits)  # by hand: scipy's log_softmax takes nearly three times as long
        total = odds.sum(-1, keepdims=True)
        surplus = odds / total - targets
        gradient = (inputs.T @ surplus.reshape(items, -1)).reshape(shape) + penalty * weights
        own = np.where(targets > 0, logits, 0.0).sum()
        value = (penalty * weights**2).sum() / 2 + np.log(total).sum() - own
        return float(value), (gradient * scale).ravel()

    options = {"maxiter": MAX_ITER, "gtol": setup.tol, "ftol": 1e-14}
    minimum = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options)
    steepest = float(np.abs(minimum.jac).max())
    if steepest > 10 * setup.tol:
        raise SemhubError(
            f"The probe did not converge ({minimum.message}; gradient {steepest:.1e}, tol {setup.tol:.1e}). Use a "
            "smaller c or a larger tol."
        )
    return (minimum.x.reshape(shape) * scale).transpose(1, 2, 0)


def out_of_fold(
    train: Items,
    fold: Int[Tensor, " item"],
    tests: Sequence[tuple[Items, Int[Tensor, " _"]]],
    labelings: Int[Tensor, "draw item"],
    classes: int,
    setup: ProbeSetup,
    centre: Centre,
) -> list[Int[Tensor, "draw layer _"]]:
    """Classes that probes predict for test items, each by the probe that was trained without the item's fold.

    `labelings` are alternative labels of the training items; a probe is fitted to each.
    """
    with threadpool_limits(1, user_api="blas"):  # the matrices are small: more threads wait for one another
        return _out_of_fold(train, fold, tests, labelings, classes, setup, centre)


def _out_of_fold(
    train: Items,
    fold: Tensor,
    tests: Sequence[tuple[Items, Tensor]],
    labelings: Tensor,
    classes: int,
    setup: ProbeSetup,
    centre: Centre,
) -> list[Tensor]:
    layers = len(train.states)
    out = [torch.empty(len(labelings), layers, len(blocks), dtype=torch.long) for _, blocks in tests]
    for layer in range(layers):
        own = _array(train, layer)
        others = [_array(items, layer) for items, _ in tests]
        for number in range(setup.folds):
            inside = (fold != number).numpy()
            space = Standard(own[inside])
            states = space.place(own[inside])
            held = [(blocks == number).numpy() for _, blocks in tests]
            placed = [
                space.place(other[rows], other[~rows].mean(0) if centre == "own" else None)
                for other, rows in zip(others, held, strict=True)
            ]
            weights, bias = space.fit(states, labelings.numpy()[:, inside], classes, setup)
            for predicted, rows, test in zip(out, held, placed, strict=True):
                scores = test @ weights.swapaxes(1, 2) + bias[:, None]
                predicted[:, layer, torch.as_tensor(rows)] = torch.as_tensor(scores.argmax(2))
    return out


def _array(items: Items, layer: int) -> Float[np.ndarray, "item d_model"]:
    return items.states[layer].detach().double().cpu().numpy()
