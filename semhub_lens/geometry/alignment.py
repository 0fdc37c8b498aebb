r"""Alignment of two sets of states beyond pairwise cosines: mutual nearest neighbours and debiased CKA, with nulls.

Both compare the geometry inside one set with that inside the other, so neither needs the sets to lie in one place.
They show that the items are arranged alike, not that equivalent states are near one another.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_lens.base.rng import derangement, generator

NEIGHBOURS = 10
TIED = 1e-5
"""States whose cosines all lie this close to 1 are told apart by rounding only."""


def mutual_neighbours(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], *, k: int = NEIGHBOURS
) -> Float[Tensor, " layer"]:
    r"""Share of an item's k nearest neighbours (cosine) that the two sets have in common (Huh et al. 2024).

    $$m_\ell = \operatorname{mean}_i \frac{|N_k(a_i) \cap N_k(b_i)|}{k}$$

    Independent sets share $k / (n - 1)$ of them. `k` is at most a third of the items. NaN where all states of a set
    point the same way (the same last token at the embedding layer): then nobody has neighbours.

    Example:
        >>> states = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
        >>> mutual_neighbours(states, states)
        tensor([1.])
    """
    k = fitting_k(a.shape[1], k)
    return torch.stack([_shared(_nearest(x, k), _nearest(y, k), k) for x, y in zip(a, b, strict=True)])


def fitting_k(items: int, k: int = NEIGHBOURS) -> int:
    """How many neighbours are looked at: k, but at most a third of the items, and at least one."""
    return max(1, min(k, items // 3))


def neighbours_null(
    a: Float[Tensor, "layer item d_model"],
    b: Float[Tensor, "layer item other"],
    *,
    seed: int,
    draws: int,
    k: int = NEIGHBOURS,
) -> Float[Tensor, "draw layer"]:
    """`mutual_neighbours` under pairings in which nobody keeps its partner."""
    k = fitting_k(a.shape[1], k)
    orders = _pairings(a.shape[1], seed, draws)
    layers = []
    for x, y in zip(a, b, strict=True):
        near_a, near_b = _nearest(x, k), _nearest(y, k)
        layers.append(torch.stack([_shared(near_a, near_b[order][:, order], k) for order in orders]))
    return torch.stack(layers, dim=1)


def debiased_cka(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"]
) -> Float[Tensor, " layer"]:
    """Linear CKA with the unbiased HSIC estimator (Song et al. 2012; Murphy et al. 2024).

    NaN below four items and for constant states. The biased estimator is far above 0 for independent states as soon as
    n is not much larger than d.
    """
    if a.shape[1] < 4:
        return torch.full((len(a),), torch.nan, dtype=torch.float32)
    return torch.stack([_cka(_gram(x), _gram(y)) for x, y in zip(a, b, strict=True)]).float()


def cka_null(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], *, seed: int, draws: int
) -> Float[Tensor, "draw layer"]:
    """`debiased_cka` under pairings in which nobody keeps its partner."""
    n = a.shape[1]
    if n < 4:
        return torch.full((draws, len(a)), torch.nan, dtype=torch.float32)
    orders = _pairings(n, seed, draws)
    layers = []
    for x, y in zip(a, b, strict=True):  # one layer's Gram matrices at a time
        k, m = _gram(x), _gram(y)
        hsic = torch.stack([_hsic(k, m[order][:, order]) for order in orders])
        layers.append((hsic / _scale(k, m)).float())
    return torch.stack(layers, dim=1)


def _pairings(n: int, seed: int, draws: int) -> list[Int[Tensor, " item"]]:
    """Pairings in which nobody keeps its partner, the same at every layer."""
    rng = generator(seed + 4)
    return [derangement(n, rng) for _ in range(draws)]


def _nearest(states: Float[Tensor, "item d_model"], k: int) -> Bool[Tensor, "item item"]:
    """Which items are among each item's k nearest others."""
    unit = normalize(states.float(), dim=-1)
    cosines = unit @ unit.T
    if cosines.min() > 1 - TIED:
        return torch.zeros_like(cosines, dtype=torch.bool)
    cosines.fill_diagonal_(-torch.inf)
    return torch.zeros_like(cosines, dtype=torch.bool).scatter_(1, cosines.topk(k, dim=1).indices, True)


def _shared(a: Tensor, b: Tensor, k: int) -> Tensor:
    if not a.any() or not b.any():
        return torch.tensor(torch.nan, dtype=torch.float32)
    return (a & b).sum(1).float().mean() / k


def _gram(states: Tensor) -> Tensor:
    centred = states.double() - states.double().mean(0)
    return (centred @ centred.T).fill_diagonal_(0)


def _scale(k: Tensor, m: Tensor) -> Tensor:
    squared = _hsic(k, k) * _hsic(m, m)
    return squared.sqrt() if squared > 1e-30 else torch.tensor(torch.nan, dtype=torch.float64)


def _cka(k: Tensor, m: Tensor) -> Tensor:
    return _hsic(k, m) / _scale(k, m)


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    product, cross = torch.vdot(k.flatten(), m.flatten()), k.sum(0) @ m.sum(0)
    return (product + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))
