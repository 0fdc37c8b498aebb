r"""What `similarity` measures of two stacks of states: one table, and the closed forms behind it.

With unit vectors the mean cosine of all non-pairs is
$\bigl((\sum_i \hat a_i)\cdot(\sum_j \hat b_j) - \sum_i \hat a_i \cdot \hat b_i\bigr) / n(n-1)$, so no n x n matrix is
needed for it. Where one is needed, it exists for one layer, or one block of items, at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.stats import DRAWS, bootstrap_weights, percentiles
from semhub_lens.geometry.alignment import cka_null, debiased_cka, mutual_neighbours, neighbours_null

BLOCK = 1024
ALIGNMENT_DRAWS = 200
"""Permutations behind the nulls of CKA and mutual neighbours, which cost n^2 each."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """Two stacks of states, item i of `a` with item i of `b`, and what several measures need of them, made once."""

    a: Float[Tensor, "layer item d_model"]
    b: Float[Tensor, "layer item d_model"]
    seed: int
    draws: int

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
    def interval(self) -> tuple[Float[Tensor, " layer"], Float[Tensor, " layer"]]:
        """Interval of D over resampled pairs; copies of one pair are not each other's non-pairs."""
        n = self.a.shape[1]
        weights = bootstrap_weights(n, max(self.draws, DRAWS), self.seed)
        weights = weights[(weights > 0).sum(1) > 1]  # copies of a single pair have no non-pairs
        squared = weights.square()
        non_pairs = n * n - squared.sum(1)
        curves = []
        for x, y, m in zip(*self.units, self.matched, strict=True):
            total = ((weights @ x) * (weights @ y)).sum(1)
            curves.append(weights @ m / n - (total - squared @ m) / non_pairs)
        return percentiles(torch.stack(curves))

    @property
    def permutations(self) -> dict[str, int]:
        """Seed and number of permutations of an alignment measure's null."""
        return {"seed": self.seed, "draws": min(self.draws, ALIGNMENT_DRAWS)}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure of a `Pair`: what is kept of it, its null, and how tables and figures show it."""

    quantities: Mapping[str, Callable[[Pair], Tensor]]
    """What the result holds, by name: `[layer]` or `[layer item]`."""
    null: Mapping[str, Callable[[Pair], Tensor]] = field(default_factory=dict)
    """As `quantities`, under permuted pairings: `[draw layer]`, one name at most."""
    curves: Mapping[str, str]
    """Label to the result's attribute that is drawn (over items its mean); the null belongs to the first."""
    axis: Literal["cosine", "share"]
    """What the curves are read on."""
    behind_legs: bool = True
    """Whether the similarity legs of experiments show the curves behind their own effect."""


def unit(states: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
    """States at unit length, in float32."""
    return normalize(states.float(), dim=-1)


def centre(states: Float[Tensor, "layer item d_model"]) -> Float[Tensor, "layer item d_model"]:
    """Subtract the mean state of the items, layer by layer."""
    return states.float() - states.float().mean(1, keepdim=True)


def cosine_matrix(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer other d_model"]
) -> Float[Tensor, "layer item other"]:
    """Cosine of every item of `a` with every item of `b`; takes O(layer item other) memory."""
    return torch.einsum("lid,ljd->lij", unit(a), unit(b))


def _paired(a: Tensor, b: Tensor) -> Float[Tensor, "layer item"]:
    return torch.einsum("lid,lid->li", a, b)


def _baseline(a: Tensor, b: Tensor, matched: Tensor) -> Float[Tensor, " layer"]:
    """Mean cosine of all non-pairs of unit vectors, in closed form."""
    n = a.shape[1]
    total = torch.einsum("ld,ld->l", a.double().sum(1), b.double().sum(1))
    return ((total - matched.double().sum(1)) / (n * (n - 1))).float()


def _spread(pair: Pair) -> Float[Tensor, " layer"]:
    """Standard deviation of the non-pairs' cosines."""
    n, width = pair.a.shape[1:]
    squares = []
    for layer_a, layer_b in zip(*pair.units, strict=True):
        x, y = layer_a.double(), layer_b.double()
        squares.append((x @ y.T).square().sum() if n < width else ((x.T @ x) * (y.T @ y)).sum())
    mean_square = (torch.stack(squares) - pair.matched.double().square().sum(1)) / (n * (n - 1))
    mean = _baseline(*pair.units, pair.matched).double()
    return (mean_square - mean.square()).clamp(min=0).sqrt().float()


def _centred(pair: Pair) -> Float[Tensor, "layer item"]:
    """Each pair's cosine above the non-pairs' mean, after subtracting each data type's mean state."""
    cosines = _paired(*pair.centred_units)
    return cosines - _baseline(*pair.centred_units, cosines)[:, None]


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[int, Int[Tensor, " row"], Float[Tensor, "row item"]]]:
    """Layer, items of `a`, and their cosines with all items of `b`, for unit vectors."""
    for layer, (x, y) in enumerate(zip(a, b, strict=True)):
        for rows in torch.arange(a.shape[1]).split(BLOCK):
            yield layer, rows, x[rows] @ y.T


def _effect_null(pair: Pair) -> Float[Tensor, "draw layer"]:
    """D under random pairings in which nobody keeps its partner; the same pairings at every layer."""
    layers, n = pair.a.shape[:2]
    rng = generator(pair.seed + 1)
    pairings = torch.stack([derangement(n, rng) for _ in range(pair.draws)])
    total = pair.matched.sum(1) + _baseline(*pair.units, pair.matched) * n * (n - 1)
    sums = torch.zeros(pair.draws, layers, dtype=torch.float32)
    for layer, rows, cosines in _blocks(*pair.units):
        sums[:, layer] += cosines[torch.arange(len(rows)), pairings[:, rows]].sum(1)
    return sums / n - (total - sums) / (n * (n - 1))


def _ranks(a: Tensor, b: Tensor) -> Int[Tensor, "layer item"]:
    """How many candidates of `b` lie at least as near to each item of `a` as its partner, the partner aside."""
    ranks = torch.zeros(a.shape[:2], dtype=torch.long)
    for layer, rows, cosines in _blocks(a, b):
        own = cosines[torch.arange(len(rows)), rows]
        ranks[layer, rows] = (cosines >= own[:, None]).sum(1) - 1
    return ranks


MEASURES: dict[str, Measure] = {
    "effect": Measure(
        quantities={
            "matched": lambda pair: pair.matched,
            "baseline": lambda pair: _baseline(*pair.units, pair.matched),
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
            "rank_ab": lambda pair: _ranks(*pair.centred_units),
            "rank_ba": lambda pair: _ranks(*reversed(pair.centred_units)),
        },
        curves={"R@1": "retrieval", "R@1 by chance": "chance"},
        axis="share",
    ),
    "neighbours": Measure(
        quantities={"neighbours": lambda pair: mutual_neighbours(pair.a, pair.b)},
        null={"neighbours_null": lambda pair: neighbours_null(pair.a, pair.b, **pair.permutations)},
        curves={"mutual nearest neighbours": "neighbours"},
        axis="share",
    ),
    "cka": Measure(
        quantities={"cka": lambda pair: debiased_cka(pair.a, pair.b)},
        null={"cka_null": lambda pair: cka_null(pair.a, pair.b, **pair.permutations)},
        curves={"debiased CKA": "cka"},
        axis="share",
    ),
}
"""Every measure by name. A new one is an entry here: result, table, figure and the legs of experiments show it."""
