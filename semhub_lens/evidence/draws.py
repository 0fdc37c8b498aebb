"""Bootstrap samples, null draws, and the split into halves.

Seeds are explicit and set a local generator; the caller's random state does not change.
"""

from collections.abc import Callable
from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.rng import generator

NullDraw = Callable[[Int[Tensor, " item"], torch.Generator], Float[Tensor, " layer"]]
"""`(items, generator) -> mean effect per layer` of the items in one null draw: a pairing without a real effect."""

LEVEL = 0.95
DRAWS = 1000
ROUNDING = 1e-6
"""Scores that differ by less than this share of their size (eight times the precision of float32) count as equal."""


def require_draws(draws: int, level: float = LEVEL, fewest: int = 1) -> None:
    """Refuse a number of draws or a level that gives no interval.

    Raises:
        SemhubError: too few draws, or a level that is not between 0 and 1.
    """
    if draws < fewest:
        raise SemhubError(f"draws= is a number of random draws, at least {fewest}; got {draws}.")
    if not 0 < level < 1:
        raise SemhubError(f"level= is the share of draws in the interval, between 0 and 1; got {level}.")


def require_keys(
    matrix: Float[Tensor, "layer item key"],
    key: Int[Tensor, " item"],
    reference: Float[Tensor, "layer item"] | None = None,
) -> None:
    """Refuse keys that the scores do not have, or a reference of another shape.

    Raises:
        SemhubError: another number of keys than of items, an unknown key, or another shape.
    """
    layers, items, keys = matrix.shape
    if len(key) != items or key.is_floating_point() or bool(((key < 0) | (key >= keys)).any()):
        found = f" from {key.min()} to {key.max()}" if len(key) else ""
        raise SemhubError(
            f"key= has one whole number from 0 to {keys - 1} for each of {items} items; got {shown(key)}{found}."
        )
    if reference is not None and reference.shape != (layers, items):
        raise SemhubError(
            f"reference= has one number for each layer and item, {layers, items}; got {shown(reference)}."
        )


def require_groups(groups: Int[Tensor, " item"], values: Float[Tensor, "layer item"]) -> None:
    """Refuse groups that are not those of these items.

    Raises:
        SemhubError: another number of groups than of items.
    """
    if groups.shape != values.shape[-1:]:
        raise SemhubError(f"groups= has one entry for each item; got {shown(groups)} for {shown(values)}.")


def require_effect(
    effect: Float[Tensor, "layer item"], groups: Int[Tensor, " item"], *, first: int, fewest: int
) -> None:
    """Refuse an effect that has no verdict: it needs a row from `first` on, and `fewest` groups of items.

    Raises:
        SemhubError: too few items, groups or layers, or a NaN effect.
    """
    layers, items = effect.shape
    if layers <= first:
        raise SemhubError(f"A verdict needs layer 0 and at least one more, got an effect of the shape {layers, items}.")
    if lost := int((~torch.isfinite(effect)).sum()):
        raise SemhubError(f"The effect has {lost} NaN or infinite entries; drop these items first.")
    require_groups(groups, effect)
    if (count := len(groups.unique())) < fewest:
        units = "items" if count == items else "groups"
        raise SemhubError(
            f"A verdict needs at least {fewest} {units}, because half choose the layer; got {count} in an effect "
            f"of the shape {layers, items}."
        )


def told_apart(effect: Float[Tensor, "*shape"], *scores: Tensor) -> Float[Tensor, "*shape"]:
    """An effect, 0 where it is no larger than the rounding of the scores that it is the difference of.

    Example:
        >>> from semhub_lens.evidence.draws import told_apart
        >>> told_apart(torch.tensor([1e-6, 1e-4, torch.nan]), torch.tensor(-9.0))
        tensor([0.0000e+00, 1.0000e-04,        nan])
    """
    size = reduce(torch.maximum, [one.abs() for one in scores])
    return effect.masked_fill(effect.abs() < ROUNDING * size, 0)


def bootstrap_weights(items: int, draws: int, seed: int) -> Float[Tensor, "draw item"]:
    """How often each item occurs in each bootstrap sample of `items` items."""
    chosen = torch.randint(items, (draws, items), generator=generator(seed))
    return torch.zeros(draws, items, dtype=torch.float32).scatter_add_(
        1, chosen, torch.ones(draws, items, dtype=torch.float32)
    )


def grouped_weights(groups: Int[Tensor, " item"], draws: int, seed: int) -> Float[Tensor, "draw item"]:
    """How often each item occurs in each bootstrap sample of whole groups."""
    distinct, member = groups.unique(return_inverse=True)
    return bootstrap_weights(len(distinct), draws, seed)[:, member]


def percentiles(
    draws: Float[Tensor, "layer draw"], level: float = LEVEL
) -> tuple[Float[Tensor, " layer"], Float[Tensor, " layer"]]:
    """The central interval that contains `level` of the draws."""
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype)
    low, high = torch.quantile(draws, edges, dim=-1)
    return low, high


def null_curves(draw: NullDraw, items: Int[Tensor, " item"], *, seed: int, draws: int) -> Float[Tensor, "draw layer"]:
    """Mean effect per layer in `draws` null draws.

    Raises:
        SemhubError: `draw` does not return one number for each layer, or another number of layers in another draw.
    """
    rng = generator(seed)
    curves = [draw(items, rng) for _ in range(draws)]
    for curve in curves:
        if not isinstance(curve, Tensor) or curve.ndim != 1 or curve.shape != curves[0].shape:
            raise SemhubError(f"draw= is a function that returns one number a layer; it returned {shown(curve)}.")
    return torch.stack(curves)


def halves(items: int, seed: int) -> tuple[Int[Tensor, " choose"], Int[Tensor, " report"]]:
    """Split items at random: one half to choose a layer, the other to report on."""
    order = torch.randperm(items, generator=generator(seed))
    return order[: items // 2].sort().values, order[items // 2 :].sort().values


def grouped_halves(groups: Int[Tensor, " item"], seed: int) -> tuple[Int[Tensor, " choose"], Int[Tensor, " report"]]:
    """Split items like `halves`, with every group in one half; the groups are counted, not their items."""
    distinct, member = groups.unique(return_inverse=True)
    choose, report = (torch.isin(member, half).nonzero()[:, 0] for half in halves(len(distinct), seed))
    return choose, report


def standardised(null: Float[Tensor, "draw layer"]) -> tuple[Tensor, Tensor, Tensor]:
    """Null mean and standard deviation at every layer, and the draws in these units (0 if there is no spread)."""
    if not torch.isfinite(null).all():
        raise SemhubError("The null has NaN or infinite draws: drop the items or keys with such scores first.")
    centre, scale = null.mean(0), null.std(0)
    scale = torch.where(scale > 1e-9, scale, torch.inf)
    return centre, scale, (null - centre) / scale


def best_row(mean: Tensor, null: Tensor, first: int) -> int:
    """The row with the largest effect in units of its null, from `first` on; a positive one if there is any.

    Raises:
        SemhubError: a null of another number of rows.
    """
    if null.shape[1] != len(mean):
        raise SemhubError(
            f"draw= is a function that returns {len(mean)} numbers, one a row; it returned {null.shape[1]}."
        )
    centre, scale, _ = standardised(null)
    z = (mean - centre) / scale
    allowed = torch.arange(len(mean)) >= first
    if bool((mean[first:] > 0).any()):
        allowed &= mean > 0
    return int(z.masked_fill(~allowed, -torch.inf).argmax())
