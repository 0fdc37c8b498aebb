r"""Alignment of two sets of states beyond pairwise cosines: mutual nearest neighbours and debiased CKA, with nulls.

Both compare the geometry inside one set with that inside the other, so the sets need not be in the same place. They
show that the items are arranged in the same way, not that equivalent states are close together.

The contribution of each set is computed once and used for every pairing. For neighbours it is one list per item. For
CKA it is the U-centred Gram matrix (Székely & Rizzo 2014). Its inner product with a permuted one is the unbiased HSIC
without further terms:

$$\operatorname{HSIC}(K, M_\pi) = \frac{1}{n (n - 3)} \sum_{i \ne j} \tilde K_{ij} \tilde M_{\pi_i \pi_j}$$
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_lens.base.rng import derangement, generator

NEIGHBOURS = 10
TIED = 1e-5
"""States whose cosines are all this close to 1 differ only by rounding."""
ROWS = 1024
"""Items whose products with all others are computed at a time."""
GATHERED = 1 << 17
"""Entries of Gram matrices that are permuted at a time, so that they fit into a CPU's cache."""
TOGETHER = 8
"""Layers that are permuted together: one look-up finds an entry for all of them."""
CONSTANT = 1e-30
"""Product of the two sets' HSIC, each with itself, below which one of them is constant."""


def mutual_neighbours(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], *, k: int = NEIGHBOURS
) -> Float[Tensor, " layer"]:
    r"""Share of an item's k nearest neighbours (cosine) that the two sets have in common (Huh et al. 2024).

    $$m_\ell = \operatorname{mean}_i \frac{|N_k(a_i) \cap N_k(b_i)|}{k}$$

    Independent sets share $k / (n - 1)$ of them. `k` is at most a third of the items. The result is NaN if all states
    of a set have the same direction (the same last token at the embedding layer), because then neighbours are
    undefined.

    Example:
        >>> states = torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0))
        >>> mutual_neighbours(states, states)
        tensor([1.])
    """
    return common_neighbours(neighbour_lists(a, k), neighbour_lists(b, k), unpermuted(a.shape[1]))[0]


def fitting_k(items: int, k: int = NEIGHBOURS) -> int:
    """The number of neighbours: k, but at most a third of the items, and at least one."""
    return max(1, min(k, items // 3))


def neighbours_null(
    a: Float[Tensor, "layer item d_model"],
    b: Float[Tensor, "layer item other"],
    *,
    seed: int,
    draws: int,
    k: int = NEIGHBOURS,
) -> Float[Tensor, "draw layer"]:
    """`mutual_neighbours` under random pairings in which no item keeps its partner."""
    return common_neighbours(neighbour_lists(a, k), neighbour_lists(b, k), pairings(a.shape[1], seed, draws))


def debiased_cka(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"]
) -> Float[Tensor, " layer"]:
    """Linear CKA with the unbiased HSIC estimator (Song et al. 2012; Murphy et al. 2024).

    The result is NaN for fewer than four items and for constant states. The biased estimator is far above 0 for
    independent states unless n is much larger than d.
    """
    return permuted_cka(Grams.of(a, lower=True), Grams.of(b), unpermuted(a.shape[1]))[0]


def cka_null(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], *, seed: int, draws: int
) -> Float[Tensor, "draw layer"]:
    """`debiased_cka` under random pairings in which no item keeps its partner."""
    return permuted_cka(Grams.of(a, lower=True), Grams.of(b), pairings(a.shape[1], seed, draws))


def pairings(n: int, seed: int, draws: int) -> Int[Tensor, "draw item"]:
    """Random pairings in which no item keeps its partner, the same at every layer."""
    rng = generator(seed + 4)
    return torch.stack([derangement(n, rng) for _ in range(draws)])


def unpermuted(n: int) -> Int[Tensor, "1 item"]:
    """The pairing in which every item has its partner."""
    return torch.arange(n)[None]


def neighbour_lists(
    states: Float[Tensor, "layer item d_model"], k: int = NEIGHBOURS
) -> list[Int[Tensor, "item k"] | None]:
    """Every item's k nearest others (cosine), layer by layer; None if all states have the same direction."""
    return [_nearest(layer, fitting_k(states.shape[1], k)) for layer in states]


def _nearest(states: Float[Tensor, "item d_model"], k: int) -> Int[Tensor, "item k"] | None:
    unit = normalize(states.float(), dim=-1)
    nearest, lowest = [], 1.0
    for rows in torch.arange(len(unit)).split(ROWS):
        cosines = unit[rows] @ unit.T
        lowest = min(lowest, float(cosines.min()))
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        nearest.append(cosines.topk(k, dim=1).indices)
    return None if lowest > 1 - TIED else torch.cat(nearest)


def common_neighbours(
    a: list[Int[Tensor, "item k"] | None], b: list[Int[Tensor, "item k"] | None], orders: Int[Tensor, "draw item"]
) -> Float[Tensor, "draw layer"]:
    """Share of common neighbours if item i of `a` is paired with item `order[i]` of `b`."""
    draws, n = orders.shape
    shares = torch.full((draws, len(a)), torch.nan, dtype=torch.float32)
    for layer, (own, other) in enumerate(zip(a, b, strict=True)):
        if own is None or other is None:
            continue
        near = torch.zeros(n, n, dtype=torch.uint8).scatter_(1, other, 1).view(-1).numpy()
        lists = own.numpy()
        for draw, order in enumerate(orders.numpy()):
            places = np.take(order, lists, mode="clip")
            places += order[:, None] * n
            shares[draw, layer] = float(np.take(near, places, mode="clip").sum()) / lists.size
    return shares


@dataclass(frozen=True, eq=False)
class Grams:
    """U-centred Gram matrices of all layers of one set, each of norm 1, and the set's HSIC with itself."""

    values: Float[Tensor, "layer item other"]
    """Symmetric with a zero diagonal; with `lower`, twice the part below the diagonal and zeros above."""
    hsic: Float[Tensor, " layer"]

    @classmethod
    def of(cls, states: Float[Tensor, "layer item d_model"], *, lower: bool = False) -> "Grams":
        """The matrices of states; they are undefined for fewer than four items."""
        layers, n = states.shape[:2]
        values = torch.empty(layers, n, n, dtype=torch.float32)
        hsic = torch.full((layers,), torch.nan, dtype=torch.float64)
        if n > 3:
            for layer, gram in enumerate(values):
                hsic[layer] = _fill_gram(gram, states[layer], lower)
        return cls(values, hsic)


def _fill_gram(gram: Float[Tensor, "item item"], states: Float[Tensor, "item d_model"], lower: bool) -> float:
    """Write a U-centred Gram matrix of norm 1, and return the HSIC of the states with themselves."""
    n = len(states)
    centred = states.double()
    centred = centred - centred.mean(0)
    size = max(float(centred.norm()) / n**0.5, 1e-150)
    rows = (centred / size).float()
    exact = rows.double()
    sums = exact @ exact.sum(0) - exact.square().sum(1)  # of the rows of the Gram matrix without its diagonal
    shift = ((sums - sums.sum() / (2 * (n - 1))) / (n - 2)).float()
    square = 0.0
    for block in torch.arange(n).split(ROWS):
        first, last = int(block[0]), int(block[-1]) + 1
        part = gram[first:last]
        torch.mm(rows[first:last], rows.T, out=part)
        part.sub_(shift[first:last, None]).sub_(shift)
        part[torch.arange(len(block)), block] = 0
        square += float(part.square().sum(1).double().sum())
        if lower:
            part.tril_(first - 1).mul_(2)
    gram.div_(max(square, 1e-300) ** 0.5)
    return square * size**4 / (n * (n - 3))


def permuted_cka(lower: Grams, whole: Grams, orders: Int[Tensor, "draw item"]) -> Float[Tensor, "draw layer"]:
    """Debiased CKA if item i of one set (`lower`) is paired with item `order[i]` of the other."""
    draws, n = orders.shape
    found = torch.zeros(draws, len(whole.hsic), dtype=torch.float32)
    for layers in torch.arange(len(whole.hsic)).split(TOGETHER):
        entries, width = _side_by_side(whole.values[layers].flatten(1))
        step = max(1, GATHERED // (n * width))
        blocks = [(first, min(n, first + step)) for first in range(0, n, step)]
        weights = [_side_by_side(lower.values[layers, i:j, :j].flatten(1))[0] for i, j in blocks]
        weights = [torch.from_numpy(weight.view(np.float32).reshape(-1, width)) for weight in weights]
        for draw, order in enumerate(orders.numpy()):
            for (first, last), weight in zip(blocks, weights, strict=True):
                there = np.take(entries, (order[first:last, None] * n + order[:last]).ravel(), mode="clip")
                products = torch.from_numpy(there.view(np.float32).reshape(-1, width)).mul_(weight)
                found[draw, layers] += products.sum(0)[: len(layers)]
    found[:, ~(lower.hsic * whole.hsic > CONSTANT)] = torch.nan
    return found


def _side_by_side(values: Float[Tensor, "layer entry"]) -> tuple[np.ndarray, int]:
    """The entries, each with its values at all layers as one item of 4 to 32 bytes, which numpy indexes fastest."""
    width = 1 << (len(values) - 1).bit_length()
    padded = torch.nn.functional.pad(values, (0, 0, 0, width - len(values))) if width > len(values) else values
    return padded.T.contiguous().numpy().view(f"V{4 * width}")[:, 0], width
