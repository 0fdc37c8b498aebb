"""From items to curves: bootstrap intervals, permutation nulls, and the verdict of a leg."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Part
from semhub_lens.base.rng import derangement
from semhub_lens.evidence.draws import (
    DRAWS,
    LEVEL,
    NullDraw,
    best_row,
    grouped_halves,
    grouped_weights,
    null_curves,
    percentiles,
    require_draws,
    require_effect,
    require_groups,
    require_keys,
    standardised,
    told_apart,
)

Status = Literal["supported", "opposite", "not supported"]
FEWEST_ITEMS = 16
"""With fewer items, the reporting half is too small for a percentile bootstrap (false positives above 4 %)."""


@dataclass(frozen=True, eq=False)
class Interval:
    """Percentile bootstrap interval of a mean over items, at every layer."""

    mean: Float[Tensor, " layer"]
    low: Float[Tensor, " layer"]
    high: Float[Tensor, " layer"]


@dataclass(frozen=True)
class Verdict(Part):
    """The verdict of one leg: the layer chosen on one half of the items, effect and interval on the other half."""

    status: Status
    row: int
    """The chosen row of the effect: the layer, or for a grid of interventions the cell."""
    estimate: float
    low: float
    high: float
    threshold: float
    """The threshold for the effect at that layer, on the reporting half: the null's mean plus its standard deviation
    times the 95th percentile of the standardised null's maximum over layers.
    """
    items: int
    """Items in the reporting half."""


@checked
def bootstrap_mean(
    values: Float[Tensor, "layer item"], *, seed: int, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Mean over items with its percentile bootstrap interval; a single item has none, so its ends are NaN.

    Raises:
        SemhubError: no items, no draws, or a level that is not between 0 and 1.

    Example:
        >>> interval = bootstrap_mean(torch.ones(1, 5), seed=0)
        >>> float(interval.low), float(interval.high)
        (1.0, 1.0)
    """
    return grouped_bootstrap_mean(values, torch.arange(values.shape[-1]), seed=seed, draws=draws, level=level)


@checked
def verdict(
    effect: Float[Tensor, "layer item"],
    draw: NullDraw,
    *,
    seed: int,
    draws: int = 500,
    baseline: bool = True,
    groups: Int[Tensor, " item"] | None = None,
) -> Verdict:
    r"""Judge a leg: choose the layer on one half of the items, and report the effect on the other half.

    Effects of different layers have different scales. So they are compared in units of the null,
    $z_\ell = (e_\ell - \mu_\ell) / \sigma_\ell$, with the null's mean and standard deviation at that layer. On one half
    of the items, the layer with the largest z is chosen, among those with a positive mean if there are any. Layer 0,
    the embedding, is a baseline and is never chosen. The verdict comes from the other half:

    - *supported*: the 95 % bootstrap interval is above 0, and z exceeds the 95th percentile of the standardised null's
      maximum over layers 1 to L;
    - *opposite*: the interval is below 0;
    - *not supported*: otherwise. This does not show that there is no effect.

    Args:
        effect: the effect of every item; positive in the predicted direction.
        draw: the mean effect per layer of given items in one null draw.
        seed: for the split, the bootstrap and the null.
        draws: the number of null draws.
        baseline: whether row 0 is a baseline that cannot be chosen (the embedding layer); False for a grid of
            interventions, whose rows are cells of layer and strength.
        groups: the group of every item, if items belong together, such as the words of one concept. Halves and
            bootstrap samples then contain whole groups. The null still draws single items.

    Raises:
        SemhubError: too few items, groups, layers or draws, a NaN effect, or a NaN null.

    Example:
        >>> effect = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) + torch.tensor([[0], [0], [2]])
        >>> verdict(effect, sign_flips(effect), seed=0).status
        'supported'
    """
    require_draws(draws, fewest=2)
    first = int(baseline)
    groups = torch.arange(effect.shape[1]) if groups is None else groups
    require_effect(effect, groups, first=first, fewest=FEWEST_ITEMS)
    choose, report = grouped_halves(groups, seed)
    null = null_curves(draw, choose, seed=seed + 2, draws=draws)
    layer = best_row(effect[:, choose].mean(1), null, first)
    interval = grouped_bootstrap_mean(effect[layer : layer + 1, report], groups[report], seed=seed + 1)
    centre, scale, standard = standardised(null_curves(draw, report, seed=seed + 3, draws=draws))
    highest = torch.quantile(standard[:, first:].amax(1), LEVEL)
    threshold = float(centre[layer] + (highest * scale[layer] if scale[layer] < torch.inf else 0))
    estimate, low, high = float(interval.mean), float(interval.low), float(interval.high)
    supported = low > 0 and estimate > threshold
    status: Status = "supported" if supported else "opposite" if high < 0 else "not supported"
    return Verdict(status, layer, estimate, low, high, threshold, len(report))


@checked
def corrected_p(mean: Float[Tensor, " layer"], null: Float[Tensor, "draw layer"], row: int, *, first: int = 1) -> float:
    r"""The share of null draws that reach, at any row, the effect of a given row (with 1 added to both counts).

    $p = (1 + \#\{\max_{\ell \ge f} z^{null}_\ell \ge z_r\}) / (1 + draws)$, with z in units of each row's null as in
    `verdict`.

    Args:
        mean: the effect of every row, over the items of the null.
        null: mean effects of null draws.
        row: the row r to judge.
        first: the first row f that could have been chosen.

    Raises:
        SemhubError: fewer than two draws, draws of other rows than the effect, or a row that it does not have.

    Example:
        >>> corrected_p(torch.tensor([0.0, 9.0]), torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0]]), 1)
        0.25
    """
    if len(null) < 2 or null.shape[1] != len(mean):
        shapes = f"{tuple(null.shape)} and {tuple(mean.shape)}"
        raise SemhubError(f"null= has at least two draws, and a column for each row of mean=; got the shapes {shapes}.")
    if not 0 <= first < len(mean) or not 0 <= row < len(mean):
        raise SemhubError(f"row= and first= are rows of the effect, 0 to {len(mean) - 1}; got {row} and {first}.")
    centre, scale, standard = standardised(null)
    reached = standard[:, first:].amax(1) >= (mean[row] - centre[row]) / scale[row]
    return (1 + int(reached.sum())) / (1 + len(null))


@checked
def paired_contrast(
    matrix: Float[Tensor, "layer item key"], key: Int[Tensor, " item"], reference: Float[Tensor, "layer item"]
) -> tuple[Float[Tensor, "layer item"], NullDraw]:
    r"""Each item's score for its own key minus a reference, and the null in which keys are exchanged.

    $e_{\ell i} = M_{\ell i k_i} - r_{\ell i}$. A null draw uses $M_{\ell i \pi(k_i)}$, where $\pi$ leaves no key in
    place. If M are cosines, item i is its own key, and r is the mean of the other keys, the mean effect is Eq. 1's D.

    Args:
        matrix: score of every item with every key.
        key: the index of each item's own key.
        reference: the reference for each score; `other_keys` gives the mean over the other keys.

    Raises:
        SemhubError: fewer than three keys (with two there is only one way to exchange them), a key that the matrix does
            not have, or a reference for other scores.
    """
    require_keys(matrix, key, reference)
    if matrix.shape[2] < 3:
        raise SemhubError(f"A permutation null needs at least three keys, got {matrix.shape[2]}.")

    def contrast(items: Tensor, keys: Tensor) -> Tensor:
        scores, others = matrix[:, items, keys], reference[:, items]
        return told_apart(scores - others, scores, others)

    def exchanged(items: Tensor, rng: torch.Generator) -> Tensor:
        return contrast(items, derangement(matrix.shape[2], rng)[key[items]]).mean(1)

    return contrast(torch.arange(matrix.shape[1]), key), exchanged


@checked
def other_keys(matrix: Float[Tensor, "layer item key"], key: Int[Tensor, " item"]) -> Float[Tensor, "layer item"]:
    """Mean score of each item with all keys except its own.

    Raises:
        SemhubError: a key that the matrix does not have.

    Example:
        >>> other_keys(torch.tensor([[[5.0, 1.0, 3.0]]]), torch.tensor([0]))
        tensor([[2.]])
    """
    require_keys(matrix, key)
    others = matrix.sum(2, dtype=torch.float64) - matrix[:, torch.arange(matrix.shape[1]), key]
    return (others / (matrix.shape[2] - 1)).to(matrix.dtype)  # exactly the score if all are equal


@checked
def centred_contrast(matrix: Float[Tensor, "layer item key"], key: Int[Tensor, " item"]) -> Float[Tensor, "layer item"]:
    r"""Each item's score for its own key minus its mean score for the others, with every key's score centred first.

    $$M'_{\ell i r} = M_{\ell i r} - \operatorname{mean}_g \operatorname{mean}_{i : k_i = g} M_{\ell i r}, \qquad
      e_{\ell i} = M'_{\ell i k_i} - \operatorname{mean}_{r \ne k_i} M'_{\ell i r}$$

    So a key that always scores high has no advantage. In the centring, every key g that occurs has the same weight,
    whatever its number of items. All items are included, also an item's own score. If all keys are equally frequent,
    centring does not change the mean of e. Otherwise, for scores that do not depend on the item's key, that mean is 0
    in expectation.

    Args:
        matrix: score of every item with every key.
        key: the index of each item's own key.

    Raises:
        SemhubError: a key that the matrix does not have.

    Example:
        >>> always = torch.tensor([5.0, 0.0, 0.0]).expand(1, 6, 3)
        >>> centred_contrast(always, torch.tensor([0, 0, 0, 1, 2, 2])).abs().max()
        tensor(0.)
    """
    centred = centred_keys(matrix, key)
    return told_apart(centred[:, torch.arange(matrix.shape[1]), key] - other_keys(centred, key), matrix.abs().amax(2))


@checked
def centred_keys(matrix: Float[Tensor, "layer item key"], key: Int[Tensor, " item"]) -> Float[Tensor, "layer item key"]:
    """Scores minus each key's mean score, in which every key that occurs has the same weight.

    Raises:
        SemhubError: a key that the matrix does not have.
    """
    require_keys(matrix, key)
    groups = torch.stack([matrix[:, key == one].mean(1, dtype=torch.float64) for one in key.unique()])
    return (matrix - groups.mean(0)[:, None]).to(matrix.dtype)


@checked
def permuted_keys(matrix: Float[Tensor, "layer item key"], key: Int[Tensor, " item"]) -> NullDraw:
    """The null of `centred_contrast`: keys are shuffled among the items.

    Use it for few keys with many items each: exchanging three whole keys (`paired_contrast`) has only two outcomes. The
    centring is repeated in every draw, with the shuffled keys and only from the given items.

    Args:
        matrix: score of every item with every key.
        key: the index of each item's own key.

    Raises:
        SemhubError: all items have the same key, so shuffling changes nothing; or a key that the matrix does not have.
    """
    require_keys(matrix, key)
    if len(key.unique()) < 2:
        raise SemhubError(f"Shuffling keys needs items of at least two keys, got {len(key)} items of one.")

    def shuffled(items: Tensor, rng: torch.Generator) -> Tensor:
        order = torch.randperm(len(items), generator=rng)
        return centred_contrast(matrix[:, items], key[items][order]).mean(1)

    return shuffled


@checked
def sign_flips(effect: Float[Tensor, "layer item"]) -> NullDraw:
    """The null in which an effect and its control are exchangeable.

    Each draw flips the sign of every item at random, equally at all layers.
    """

    def flipped(items: Tensor, rng: torch.Generator) -> Tensor:
        signs = torch.randint(2, (len(items),), generator=rng) * 2 - 1
        return (effect[:, items] * signs).mean(1)

    return flipped


@checked
def grouped_bootstrap_mean(
    values: Float[Tensor, "layer item"],
    groups: Int[Tensor, " item"],
    *,
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Mean over items with a percentile bootstrap interval over groups of items.

    Whole groups are drawn. Items of a group (one sentence in several languages) are not independent, so drawing single
    items would make the interval too narrow. A single group has no interval, so its ends are NaN.

    Raises:
        SemhubError: no items, another number of groups than of items, no draws, or a level that is not between 0 and 1.
    """
    require_draws(draws, level)
    if values.shape[-1] == 0:
        raise SemhubError("A bootstrap needs at least one item, got none.")
    require_groups(groups, values)
    weights = grouped_weights(groups, draws, seed)
    means = values @ weights.T / weights.sum(1)
    if len(groups.unique()) == 1:  # all samples are the same, which says nothing about its spread
        means = means * torch.nan
    return Interval(values.mean(-1), *percentiles(means, level))
