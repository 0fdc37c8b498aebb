"""`LinearProbe`: a trained classifier as a probe, read at every layer and position of any run."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance, Result, check_finite, unnamed
from semhub_lens.model.capture import Capture
from semhub_lens.model.facts import Model
from semhub_lens.model.facts import provenance_of as describe
from semhub_lens.model.stacks import States
from semhub_lens.probes.fitting import ProbeSetup, Standard
from semhub_lens.probes.items import Key, Keys, check_classes, check_states, keys
from semhub_lens.probes.probe import items_of, unrelated


@dataclass(frozen=True, eq=False)
class LinearClassifier(Result):
    """A trained linear classifier for every layer: logits = `weights` (state - `mean`) + `bias`.

    `train_probe` makes it.
    """

    mean: Float[Tensor, "layer d_model"]
    weights: Float[Tensor, "layer label d_model"]
    """Weights for raw states: they include the scale of the training items."""
    bias: Float[Tensor, "layer label"]
    classes: tuple[Key, ...]
    items: int
    """The number of training items."""
    setup: ProbeSetup

    @checked
    def log_probs(self, states: Float[Tensor, "layer *rest d_model"]) -> Float[Tensor, "layer *rest label"]:
        """Log-probabilities of the classes for states of every layer, in nats.

        Args:
            states: residual states of this model.

        Raises:
            SemhubError: states with another number of layers or another width, NaN.

        Example:
            >>> states = residual_stream(tiny_model, ["two", "five", "two dog", "five dog"], progress=False)
            >>> classifier = train_probe(states, ["two", "five", "two", "five"])
            >>> classifier.log_probs(states).shape[1:]  # [layer item class]
            torch.Size([4, 2])
        """
        if (states.shape[0], states.shape[-1]) != tuple(self.mean.shape):
            raise SemhubError(
                f"Expected states of {self.mean.shape[0]} layers and width {self.mean.shape[1]}, got shape "
                f"{tuple(states.shape)}."
            )
        check_finite(states, "The states to classify")
        rows = states.detach().float().cpu().flatten(1, -2) - self.mean[:, None]
        logits = torch.einsum("lpd,lkd->lpk", rows, self.weights) + self.bias[:, None]
        return logits.log_softmax(-1).reshape(*states.shape[:-1], len(self.classes))

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and class: the bias and the norm of the weights."""
        index = pd.MultiIndex.from_product([range(len(self.mean)), self.classes], names=["layer", "class"])
        columns = {"bias": self.bias.flatten().numpy(), "norm": self.weights.norm(dim=-1).flatten().numpy()}
        return pd.DataFrame(columns, index).reset_index()


@checked
def train_probe(
    states: States,
    labels: Keys,
    *,
    setup: ProbeSetup | None = None,
    provenance: Provenance | None = None,
) -> LinearClassifier:
    r"""Train a linear classifier at every layer on all items, to use it in other runs.

    $\log p(k \mid h) = \log \operatorname{softmax}(W (h - m) + b)_k$, with the penalty of `ProbeSetup`. It is the
    classifier that `linear_probe` cross-validates; only `linear_probe` measures how well it predicts. Its
    log-probabilities depend on the regularisation and are not calibrated. It shows what can be decoded, not what the
    model uses.

    Args:
        states: residual states `[layer item d_model]` from `residual_stream`, in memory or in a folder.
        labels: one string or integer per item.
        setup: only `c` and `tol` matter here, because nothing is split or random.
        provenance: the origin of the states, stored in the result.

    Returns:
        The classifier: `.weights` of shape `[layer label d_model]` and `.classes`; attach it with `LinearProbe`.

    Raises:
        SemhubError: NaN states, unequal lengths, one class only.

    Example:
        >>> states = residual_stream(tiny_model, ["two", "five", "two dog", "five dog"], progress=False)
        >>> train_probe(states, ["two", "five", "two", "five"]).classes
        ('five', 'two')
    """
    setup = setup or ProbeSetup()
    check_states(states, "states")
    (items,), classes = items_of([states], [keys(labels, states.shape[1], "labels")], unrelated([states]))
    check_classes(items, classes, 1, "states")
    means, weights, biases = [], [], []
    for own in states:
        layer = own.detach().double().cpu().numpy()
        space = Standard(layer)
        (directions,), (bias,) = space.fit(space.place(layer), items.labels.numpy()[None], len(classes), setup)
        means.append(torch.as_tensor(space.mean).float())
        weights.append(torch.as_tensor(space.undo(directions)).float())
        biases.append(torch.as_tensor(bias).float())
    return LinearClassifier(
        mean=torch.stack(means),
        weights=torch.stack(weights),
        bias=torch.stack(biases),
        classes=classes,
        items=states.shape[1],
        setup=setup,
        provenance=provenance or unnamed(),
    )


@dataclass(frozen=True, eq=False)
class ClassResult(Result):
    """Log-probabilities of a linear classifier's classes over one run, in nats; `LinearProbe.result` makes it."""

    log_probs: Float[Tensor, "layer pos label"]
    classes: tuple[Key, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, position and class."""
        layers, positions, _ = self.log_probs.shape
        levels = [range(layers), range(positions), self.classes]
        index = pd.MultiIndex.from_product(levels, names=["layer", "pos", "class"])
        return pd.DataFrame({"log_prob": self.log_probs.flatten().numpy()}, index).reset_index()


@checked
class LinearProbe:
    """Probe that applies a trained classifier to every residual state of a run.

    At other kinds of positions than those of the training (for example last tokens), the classifier extrapolates: one
    class always wins, even if the text says nothing about it. It shows what can be decoded, not what the model uses.

    Args:
        model: any TransformerLens model.
        classifier: from `train_probe`, on states of this model.

    Raises:
        SemhubError: a classifier whose layers or width do not match the model's residual axis.

    Example:
        >>> states = residual_stream(tiny_model, ["two", "five", "two dog", "five dog"], progress=False)
        >>> probe = LinearProbe(tiny_model, train_probe(states, ["two", "five", "two", "five"]))
        >>> _ = tiny_model.run_with_hooks("five", fwd_hooks=probe.hooks)
        >>> probe.result().log_probs.shape[0] == tiny_model.cfg.n_layers + 1
        True
    """

    def __init__(self, model: Model, classifier: LinearClassifier) -> None:
        self._capture = Capture(model)
        expected = (len(self._capture.names), model.cfg.d_model)
        if tuple(classifier.mean.shape) != expected:
            raise SemhubError(
                f"The classifier has layers and width {tuple(classifier.mean.shape)}, but the model has {expected}: "
                "train it on states of this model."
            )
        self._model, self._classifier = model, classifier
        self.hooks: list[tuple[str, Any]] = self._capture.hooks

    @checked
    def result(self, row: int = 0) -> ClassResult:
        """Log-probabilities `[layer pos label]` for one `row` of the latest run.

        Raises:
            SemhubError: nothing ran yet, or no such row.
        """
        log_probs = self._classifier.log_probs(self._capture.result(row))
        return ClassResult(log_probs, self._classifier.classes, provenance=describe(self._model))
