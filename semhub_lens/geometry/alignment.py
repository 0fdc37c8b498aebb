r"""Alignment of two sets of states beyond pairwise cosines: mutual nearest neighbours and debiased CKA, with nulls.

Both compare the geometry inside one set with that inside the other, so the sets need not be in the same place. They
show that the items are arranged in the same way, not that equivalent states are close together.

The lists of neighbours are computed once and used for every pairing. CKA is in `geometry.shifted_cka`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.draws import require_draws
from semhub_lens.geometry.shifted_cka import cka_and_null, shifts

NEIGHBOURS = 10
TIED = 1e-5
"""States whose cosines are all this close to 1 differ only by rounding."""
ROWS = 256
"""Items whose products with others are computed at a time."""
GATHERED = 1 << 16
"""Numbers that are looked up at a time: what stays in a processor's cache."""
SQUARED = 1e-12, 1e12
"""Lengths between which float32 holds the squares of a state's entries."""


def unit(states: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
    """States at unit length, in float32; a state of zeros stays one.

    Example:
        >>> unit(torch.tensor([3e30, 4e30]))
        tensor([0.6000, 0.8000])
    """
    wide = states.float()
    lengths = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    if not bool(((lengths > SQUARED[0]) & (lengths < SQUARED[1])).all()):  # also of float64 that float32 cannot hold
        largest = torch.linalg.vector_norm(states, torch.inf, dim=-1, keepdim=True)
        wide = (states / largest.where(largest > 0, 1)).float()
        lengths = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / lengths.clamp(min=SQUARED[0])


@checked
def mutual_neighbours(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], *, k: int = NEIGHBOURS
) -> Float[Tensor, " layer"]:
    r"""Share of an item's k nearest neighbours (cosine) that the two sets have in common (Huh et al. 2024).

    $$m_\ell = \operatorname{mean}_i \frac{|N_k(a_i) \cap N_k(b_i)|}{k}$$

    Independent sets share $k / (n - 1)$ of them. `k` is at most a third of the items. Which of equally near items count
    depends on the order of the search, and this order differs between the sets. `a` is searched in the order of its
    items, `b` in one random order, the same in every call. The result is NaN if all states of a set have the same
    direction (the same last token at the embedding layer), because then neighbours are undefined.

    Raises:
        SemhubError: sets with other layers or items, fewer than two items, or a `k` below 1.

    Example:
        >>> states = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
        >>> mutual_neighbours(states, states)
        tensor([1.])
    """
    _require_pair(a, b, k)
    return common_neighbours(*both_neighbours(a, b, k), unpermuted(a.shape[1]))[0]


def fitting_k(items: int, k: int = NEIGHBOURS) -> int:
    """The number of neighbours: k, but at most a third of the items, and at least one."""
    return max(1, min(k, items // 3))


@checked
def neighbours_null(
    a: Float[Tensor, "layer item d_model"],
    b: Float[Tensor, "layer item other"],
    *,
    seed: int,
    draws: int,
    k: int = NEIGHBOURS,
) -> Float[Tensor, "draw layer"]:
    """`mutual_neighbours` under random pairings in which no item keeps its partner.

    Raises:
        SemhubError: as for `mutual_neighbours`, or no draws.

    Example:
        >>> states = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0))
        >>> bool((neighbours_null(states, states, seed=0, draws=20) < 0.5).all())
        True
    """
    _require_pair(a, b, k)
    require_draws(draws)
    return common_neighbours(*both_neighbours(a, b, k), pairings(a.shape[1], seed, draws))


@checked
def debiased_cka(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"]
) -> Float[Tensor, " layer"]:
    """Linear CKA with the unbiased HSIC estimator (Song et al. 2012; Murphy et al. 2024).

    The result is NaN for fewer than four items and for constant states. The biased estimator is far above 0 for
    independent states unless n is much larger than d.

    Raises:
        SemhubError: sets with other layers or items.

    Example:
        >>> states = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0))
        >>> round(float(debiased_cka(states, states)), 3)
        1.0
    """
    _require_pair(a, b)
    return cka_and_null(a, b, [])[0]


@checked
def cka_null(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], *, seed: int, draws: int
) -> Float[Tensor, "draw layer"]:
    r"""`debiased_cka` under random pairings in which no item keeps its partner.

    The items get a random order, and all partners move on by the same number of places. A random sample of these
    numbers, without 0, gives an exact permutation test, and a Fourier transform finds all of them at once. Fewer items
    than draws get several orders, and then the test is nearly exact.

    Raises:
        SemhubError: sets with other layers or items, fewer than two items, or no draws.

    Example:
        >>> states = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(0))
        >>> cka_null(states, states, seed=0, draws=20).shape  # [draw layer]
        torch.Size([20, 1])
    """
    _require_pair(a, b, fewest=2)
    require_draws(draws)
    return cka_and_null(a, b, shifts(a.shape[1], seed, draws))[1]


def _require_pair(a: Tensor, b: Tensor, k: int | None = None, fewest: int = 1) -> None:
    if a.shape[:2] != b.shape[:2] or a.shape[1] < (fewest if k is None else 2):
        raise SemhubError(
            "Alignment compares the same items at the same layers, [layer item d_model]; got the shapes "
            f"{tuple(a.shape)} and {tuple(b.shape)}."
        )
    if k is not None and k < 1:
        raise SemhubError(f"k= is the number of neighbours, at least 1; got {k}.")


def pairings(n: int, seed: int, draws: int) -> Int[Tensor, "draw item"]:
    """Random pairings in which no item keeps its partner, the same at every layer."""
    rng = generator(seed + 4)
    return torch.stack([derangement(n, rng) for _ in range(draws)])


def unpermuted(n: int) -> Int[Tensor, "1 item"]:
    """The pairing in which every item has its partner."""
    return torch.arange(n)[None]


Neighbours = list[Int[Tensor, "item k"] | None]
"""Every item's k nearest others (cosine), layer by layer; None if all states have the same direction."""


def both_neighbours(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], k: int = NEIGHBOURS
) -> tuple[Neighbours, Neighbours]:
    """The neighbours in both sets.

    Many states can be the same (one last token at the embedding layer). Which of equally near items are found depends
    on their order. If it were the same order in both sets, they would share neighbours without any relation. So `b` is
    searched in an order of its own.
    """
    n = a.shape[1]
    order = torch.randperm(n, generator=generator(0))
    own, other = (
        [_nearest(layer, fitting_k(n, k), places) for layer in states]
        for states, places in ((a, torch.arange(n)), (b, order))
    )
    return own, other


def _nearest(
    states: Float[Tensor, "item d_model"], k: int, order: Int[Tensor, " item"]
) -> Int[Tensor, "item k"] | None:
    nearest, lowest, units = [], 1.0, unit(states)[order]
    for rows in torch.arange(len(units)).split(ROWS):
        cosines = units[rows] @ units.T
        lowest = min(lowest, float(cosines.min()))
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        nearest.append(order[cosines.topk(k, dim=1).indices])
    return None if lowest > 1 - TIED else torch.cat(nearest)[order.argsort()]


def common_neighbours(a: Neighbours, b: Neighbours, orders: Int[Tensor, "draw item"]) -> Float[Tensor, "draw layer"]:
    """Share of common neighbours if item i of `a` is paired with item `order[i]` of `b`."""
    draws, n = orders.shape
    shares = torch.full((draws, len(a)), torch.nan, dtype=torch.float32)
    for layer, (own, other) in enumerate(zip(a, b, strict=True)):
        if own is None or other is None:
            continue
        near = torch.zeros(n, n, dtype=torch.uint8).scatter_(1, other, 1).flatten()
        for some in torch.arange(draws).split(max(1, GATHERED // own.numel())):
            partner = _places(orders[some].T, n)  # side by side: one look-up finds an item's partner in each pairing
            places = partner.index_select(0, own.flatten()).view(n, -1, len(some)).add_(partner[:, None] * n)
            common = near.index_select(0, places.flatten()).view(own.numel(), -1)
            shares[some, layer] = common.sum(0, dtype=torch.float32) / own.numel()
    return shares


def _places(orders: Int[Tensor, "*axes"], n: int) -> Int[Tensor, "*axes"]:
    """Indices that can number the entries of an n x n matrix, in 32 bits where these do: half as much to read."""
    return orders.to(torch.int32 if n * n < 1 << 31 else torch.int64).contiguous()
