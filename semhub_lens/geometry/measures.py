r"""The measures of `similarity` for two stacks of states: one table, and their closed forms.

For unit vectors, the mean cosine of all non-pairs is
$\bigl((\sum_i \hat a_i)\cdot(\sum_j \hat b_j) - \sum_i \hat a_i \cdot \hat b_i\bigr) / n(n-1)$, so it needs no n x n
matrix. Other measures make such a matrix for one layer, or one block of items, at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.draws import DRAWS, bootstrap_weights, percentiles
from semhub_lens.geometry.alignment import (
    both_neighbours,
    common_neighbours,
    pairings,
    unit,
    unpermuted,
)
from semhub_lens.geometry.shifted_cka import Shifts, cka_and_null, shifts

BLOCK = 1024
"""Items whose cosines with all others exist at a time."""
CHUNK = 1 << 23
"""Entries of one kind that a `Pair` may compute for each stack (32 MiB), unless one layer needs more."""
ALIGNMENT_DRAWS = 200
"""Permutations behind the nulls of CKA and mutual neighbours, which cost n^2 each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """Two stacks of states, item i of `a` with item i of `b`, and quantities that several measures share."""

    a: Float[Tensor, "layer item d_model"]
    b: Float[Tensor, "layer item d_model"]
    draw: "Draws"

    @cached_property
    def units(self) -> tuple[Float[Tensor, "layer item d_model"], Float[Tensor, "layer item d_model"]]:
        """The states at unit length."""
        return unit(self.a), unit(self.b)

    @cached_property
    def centred_units(self) -> tuple[Float[Tensor, "layer item d_model"], Float[Tensor, "layer item d_model"]]:
        """The states minus each data type's mean state, at unit length."""
        return unit(centre(self.a)), unit(centre(self.b))

    @cached_property
    def matched(self) -> Float[Tensor, "layer item"]:
        """Cosine of every pair."""
        return _paired(*self.units)

    @cached_property
    def baseline(self) -> Float[Tensor, " layer"]:
        """Mean cosine of all non-pairs, in double precision."""
        return _baseline(*self.units, self.matched)

    @cached_property
    def interval(self) -> tuple[Float[Tensor, " layer"], Float[Tensor, " layer"]]:
        """Interval of D over resampled pairs; copies of one pair are not each other's non-pairs."""
        n, width = self.a.shape[1:]
        weights = self.draw.weights
        squared = weights.square()
        non_pairs = n * n - squared.sum(1)
        curves = []
        for layer, (x, y, m) in enumerate(zip(*self.units, self.matched, strict=True)):
            if self.cosines is not None and n < 2 * width:
                total = ((weights @ self.cosines[layer]) * weights).sum(1)
            else:
                total = ((weights @ x) * (weights @ y)).sum(1)
            curves.append(weights @ m / n - (total - squared @ m) / non_pairs)
        return percentiles(torch.stack(curves))

    @cached_property
    def cosines(self) -> Float[Tensor, "layer item other"] | None:
        """All cosines at once, if they are few."""
        return self.units[0] @ self.units[1].mT if self.a.shape[1] <= BLOCK else None

    @cached_property
    def ranks(self) -> tuple[Int[Tensor, "layer item"], Int[Tensor, "layer item"]]:
        """The number of other candidates that are at least as near to each item as its partner."""
        return _ranks(*self.centred_units)

    @cached_property
    def neighbours(self) -> tuple[list, list]:
        """Nearest neighbours within each stack."""
        return both_neighbours(self.a, self.b)

    @cached_property
    def cka(self) -> tuple[Float[Tensor, " layer"], Float[Tensor, "draw layer"]]:
        """Debiased CKA and its null: one pass over the Gram matrices finds both."""
        return cka_and_null(self.a, self.b, self.draw.shifts)


@dataclass(frozen=True, eq=False)
class Draws:
    """The random draws that all layers share, made once."""

    items: int
    seed: int
    draws: int

    @cached_property
    def weights(self) -> Float[Tensor, "draw item"]:
        """How often each pair occurs in each bootstrap sample; copies of a single pair have no non-pairs."""
        weights = bootstrap_weights(self.items, max(self.draws, DRAWS), self.seed)
        return weights[(weights > 0).sum(1) > 1]

    @cached_property
    def pairings(self) -> Int[Tensor, "draw item"]:
        """Random pairings in which no item keeps its partner."""
        rng = generator(self.seed + 1)
        return torch.stack([derangement(self.items, rng) for _ in range(self.draws)])

    @cached_property
    def alignment(self) -> Int[Tensor, "draw item"]:
        """The same, for the null of mutual neighbours."""
        return pairings(self.items, self.seed, min(self.draws, ALIGNMENT_DRAWS))

    @cached_property
    def shifts(self) -> Shifts:
        """The same, for the null of CKA: partners that all move on by some places in a random order."""
        return shifts(self.items, self.seed, min(self.draws, ALIGNMENT_DRAWS))

    @property
    def own(self) -> Int[Tensor, "1 item"]:
        """Every item with its partner."""
        return unpermuted(self.items)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of a `Pair`: its quantities, its null, and its display in tables and figures."""

    quantities: Mapping[str, Callable[[Pair], Tensor]]
    """The quantities in the result, by name: `[layer]` or `[layer item]`."""
    null: Mapping[str, Callable[[Pair], Tensor]] = field(default_factory=dict)
    """The same under permuted pairings: `[draw layer]`, at most one name."""
    curves: Mapping[str, str]
    """From label to the attribute of the result to draw (its mean over items); the null belongs to the first."""
    axis: Literal["cosine", "share"]
    """The axis of the curves."""
    behind_legs: bool = True
    """Whether the similarity legs of experiments show the curves behind their own effect."""


def centre(states: Float[Tensor, "layer item d_model"]) -> Float[Tensor, "layer item d_model"]:
    """Subtract the mean state of the items, layer by layer."""
    wide = states if states.dtype == torch.float64 else states.float()  # which may be too large for float32
    return wide - wide.mean(1, keepdim=True)


def cosine_matrix(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer other d_model"]
) -> Float[Tensor, "layer item other"]:
    """Cosine of every item of `a` with every item of `b`; takes O(layer item other) memory."""
    return torch.einsum("lid,ljd->lij", unit(a), unit(b))


def _paired(a: Tensor, b: Tensor) -> Float[Tensor, "layer item"]:
    return torch.einsum("lid,lid->li", a, b)


def _baseline(a: Tensor, b: Tensor, matched: Tensor) -> Float[Tensor, " layer"]:
    """Mean cosine of all non-pairs of unit vectors, in closed form and double precision."""
    n = a.shape[1]
    total = [x.double().sum(0) @ y.double().sum(0) for x, y in zip(a, b, strict=True)]
    return (torch.stack(total) - matched.double().sum(1)) / (n * (n - 1))


def _spread(pair: Pair) -> Float[Tensor, " layer"]:
    """Standard deviation of the non-pairs' cosines."""
    n, width = pair.a.shape[1:]
    if n < width and pair.cosines is not None:
        gaps = (pair.cosines - pair.baseline.float()[:, None, None]).square_()
        gaps.diagonal(dim1=1, dim2=2).zero_()
        return (gaps.sum(2).double().sum(1) / (n * (n - 1))).sqrt().float()
    squares = []
    for layer_a, layer_b in zip(*pair.units, strict=True):
        x, y = layer_a.double(), layer_b.double()
        squares.append(((x.T @ x) * (y.T @ y)).sum())
    mean_square = (torch.stack(squares) - pair.matched.double().square().sum(1)) / (n * (n - 1))
    return (mean_square - pair.baseline.square()).clamp(min=0).sqrt().float()


def _centred(pair: Pair) -> Float[Tensor, "layer item"]:
    """Each pair's cosine minus the non-pairs' mean, after subtracting each data type's mean state."""
    cosines = _paired(*pair.centred_units)
    return cosines - _baseline(*pair.centred_units, cosines).float()[:, None]


def _blocks(
    a: Tensor, b: Tensor, whole: Tensor | None = None
) -> Iterator[tuple[int, Int[Tensor, " row"], Float[Tensor, "row item"]]]:
    """Layer, items of `a`, and their cosines with all items of `b`, for unit vectors."""
    for layer, (x, y) in enumerate(zip(a, b, strict=True)):
        for rows in torch.arange(a.shape[1]).split(BLOCK):
            yield layer, rows, x[rows] @ y.T if whole is None else whole[layer, rows]


def _effect_null(pair: Pair) -> Float[Tensor, "draw layer"]:
    """D under random pairings in which no item keeps its partner; the same pairings at every layer."""
    layers, n = pair.a.shape[:2]
    wrong = pair.draw.pairings
    total = pair.matched.sum(1) + pair.baseline.float() * n * (n - 1)
    sums = torch.zeros(len(wrong), layers, dtype=torch.float32)
    for layer, rows, cosines in _blocks(*pair.units, pair.cosines):
        places = wrong[:, rows] + torch.arange(len(rows)) * n
        sums[:, layer] += cosines.flatten().index_select(0, places.flatten()).view(places.shape).sum(1)
    return sums / n - (total - sums) / (n * (n - 1))


def _ranks(a: Tensor, b: Tensor) -> tuple[Int[Tensor, "layer item"], Int[Tensor, "layer item"]]:
    """Ranks in both directions from the same cosines, a tile of items at a time."""
    layers, n = a.shape[:2]
    ranks = torch.full((2, layers, n), -1, dtype=torch.long)  # the partner itself is counted below
    blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
    tiles = sorted(product(blocks, blocks), key=lambda tile: tile[0] != tile[1])  # first those that hold the partners
    for layer, (x, y) in enumerate(zip(a, b, strict=True)):
        own = torch.empty(n, dtype=torch.float32)
        for rows, columns in tiles:
            cosines = x[rows] @ y[columns].T
            if rows == columns:
                own[rows] = cosines.diagonal()
            ranks[0, layer, rows] += (cosines >= own[rows, None]).sum(1)
            ranks[1, layer, columns] += (cosines >= own[columns]).sum(0)
    return ranks[0], ranks[1]


MEASURES: dict[str, Measure] = {
    "effect": Measure(
        quantities={
            "matched": lambda pair: pair.matched,
            "baseline": lambda pair: pair.baseline.float(),
            "spread": _spread,
            "low": lambda pair: pair.interval[0],
            "high": lambda pair: pair.interval[1],
        },
        null={"null": _effect_null},
        curves={"D": "effect"},
        axis="cosine",
        behind_legs=False,  # it is the legs' own effect
    ),
    "centred": Measure(
        quantities={"centred": _centred},
        curves={"D, mean-centred": "centred"},
        axis="cosine",
    ),
    "retrieval": Measure(
        quantities={
            "rank_ab": lambda pair: pair.ranks[0],
            "rank_ba": lambda pair: pair.ranks[1],
        },
        curves={"R@1": "retrieval", "R@1 by chance": "chance"},
        axis="share",
    ),
    "neighbours": Measure(
        quantities={"neighbours": lambda pair: common_neighbours(*pair.neighbours, pair.draw.own)[0]},
        null={"neighbours_null": lambda pair: common_neighbours(*pair.neighbours, pair.draw.alignment)},
        curves={"mutual nearest neighbours": "neighbours"},
        axis="share",
    ),
    "cka": Measure(
        quantities={"cka": lambda pair: pair.cka[0]},
        null={"cka_null": lambda pair: pair.cka[1]},
        curves={"debiased CKA": "cka"},
        axis="share",
    ),
}
"""Every measure by name. To add one, add an entry: result, table, figure and the legs of experiments then show it."""
