r"""Similarity of two data types: are states of equivalent inputs closer than those of unrelated ones?

$$D_\ell = \operatorname{mean}_i \cos(a_i, b_i) - \operatorname{mean}_{i \ne j} \cos(a_i, b_j)$$

(Wu et al. 2025, Eq. 1.) Zero means no effect. With unit vectors the second mean is
$\bigl((\sum_i \hat a_i)\cdot(\sum_j \hat b_j) - \sum_i \hat a_i \cdot \hat b_i\bigr) / n(n-1)$, so no n x n matrix is
needed for it.

This shows relative proximity, not identity: states may also differ along directions that separate the data types.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance, Result, check_finite, unnamed
from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.stats import DRAWS, bootstrap_weights, percentiles
from semhub_lens.geometry.alignment import cka_null, debiased_cka, mutual_neighbours, neighbours_null

BLOCK = 1024
ALIGNMENT_DRAWS = 200
"""Permutations behind the nulls of CKA and mutual neighbours, which cost n^2 each."""


@dataclass(frozen=True, eq=False)
class SimilarityResult(Result):
    """Similarity of n pairs at every layer, in several measures, with bootstrap interval and permutation null."""

    matched: Float[Tensor, "layer item"]
    """cos(a_i, b_i)."""
    baseline: Float[Tensor, " layer"]
    """Mean cosine of the non-pairs."""
    spread: Float[Tensor, " layer"]
    """Standard deviation of the non-pairs' cosines."""
    low: Float[Tensor, " layer"]
    high: Float[Tensor, " layer"]
    """95 % bootstrap interval of D (pairs resampled; a resampled pair is never its own non-pair)."""
    null: Float[Tensor, "draw layer"]
    """D under randomly permuted pairings."""
    centred: Float[Tensor, "layer item"]
    """As `adjusted`, after subtracting each data type's mean state."""
    rank_ab: Int[Tensor, "layer item"]
    rank_ba: Int[Tensor, "layer item"]
    """Rank of the true partner among all candidates (0 = nearest, ties count against), by centred cosine."""
    cka: Float[Tensor, " layer"]
    """Debiased linear CKA (0 expected for independent states)."""
    cka_null: Float[Tensor, "permutation layer"]
    neighbours: Float[Tensor, " layer"]
    """Share of the k nearest neighbours that the two sets have in common."""
    neighbours_null: Float[Tensor, "permutation layer"]

    @property
    def adjusted(self) -> Float[Tensor, "layer item"]:
        """Each pair's cosine above the non-pairs' mean; its mean over items is D."""
        return self.matched - self.baseline[:, None]

    @property
    def effect(self) -> Float[Tensor, " layer"]:
        """D at every layer."""
        return self.adjusted.mean(1)

    @property
    def zscored(self) -> Float[Tensor, " layer"]:
        """D in units of the non-pairs' standard deviation."""
        return self.effect / self.spread

    @property
    def retrieval(self) -> Float[Tensor, " layer"]:
        """Share of items whose nearest candidate is the partner (R@1), averaged over both directions."""
        return ((self.rank_ab == 0).float().mean(1) + (self.rank_ba == 0).float().mean(1)) / 2

    @property
    def mrr(self) -> Float[Tensor, " layer"]:
        """Mean reciprocal rank of the partner, averaged over both directions."""
        return ((1 / (self.rank_ab + 1)).mean(1) + (1 / (self.rank_ba + 1)).mean(1)) / 2

    @property
    def chance(self) -> float:
        """R@1 expected of random states."""
        return 1 / self.matched.shape[1]

    @property
    def p_value(self) -> Float[Tensor, " layer"]:
        """Share of permuted pairings with D at least as large (+1 in both counts)."""
        return (1 + (self.null >= self.effect).sum(0)) / (1 + len(self.null))

    @property
    def p_value_max(self) -> Float[Tensor, " layer"]:
        """As `p_value`, against the raw null's maximum over layers.

        Valid for "at some layer" claims, dominated by noisy layers.
        """
        return (1 + (self.null.amax(1, keepdim=True) >= self.effect).sum(0)) / (1 + len(self.null))

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and item."""
        layers, items = self.matched.shape
        index = pd.MultiIndex.from_product([range(layers), range(items)], names=["layer", "item"])
        columns = {
            name: getattr(self, name).flatten().numpy()
            for name in ("matched", "adjusted", "centred", "rank_ab", "rank_ba")
        }
        return pd.DataFrame(columns, index).reset_index()


def similarity(
    a: Float[Tensor, "layer item d_model"],
    b: Float[Tensor, "layer item d_model"],
    *,
    seed: int = 0,
    draws: int = 500,
    provenance: Provenance | None = None,
) -> SimilarityResult:
    """Compare states of paired inputs at every layer; item i of `a` belongs to item i of `b`.

    Args:
        a, b: residual states from `residual_stream`, equally many items of two data types.
        seed: for the bootstrap and the permutations.
        draws: permuted pairings, and at least as many bootstrap samples.
        provenance: where the states come from, carried along.

    Raises:
        SemhubError: unequal shapes, fewer than three pairs, NaN states, a zero state.

    Example:
        >>> a = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
        >>> bool((similarity(a, a).effect > 0.9).all())
        True
    """
    _check(a, b)
    unit_a, unit_b = _unit(a), _unit(b)
    centred_a, centred_b = _unit(centre(a)), _unit(centre(b))
    matched = _cosines(unit_a, unit_b)
    centred = _cosines(centred_a, centred_b)
    low, high = _bootstrap(unit_a, unit_b, matched, seed, max(draws, DRAWS))
    return SimilarityResult(
        matched,
        baseline(unit_a, unit_b, matched),
        _spread(unit_a, unit_b, matched),
        low,
        high,
        permutation_null(unit_a, unit_b, matched, seed=seed, draws=draws),
        centred - baseline(centred_a, centred_b, centred)[:, None],
        _ranks(centred_a, centred_b),
        _ranks(centred_b, centred_a),
        debiased_cka(a, b),
        cka_null(a, b, seed=seed, draws=min(draws, ALIGNMENT_DRAWS)),
        mutual_neighbours(a, b),
        neighbours_null(a, b, seed=seed, draws=min(draws, ALIGNMENT_DRAWS)),
        provenance=provenance or unnamed(seed),
    )


def cosine_matrix(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer other d_model"]
) -> Float[Tensor, "layer item other"]:
    """Cosine of every item of `a` with every item of `b`; takes O(layer item other) memory."""
    return torch.einsum("lid,ljd->lij", _unit(a), _unit(b))


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise SemhubError(
            f"Unequal pairs: a has shape {tuple(a.shape)}, b {tuple(b.shape)}; expected the same [layer item d_model], "
            "item i of a paired with item i of b."
        )
    if a.shape[1] < 3:
        raise SemhubError(f"Similarity needs at least three pairs (two non-pairs each), got {a.shape[1]}.")
    check_finite(a, "a")
    check_finite(b, "b")
    for name, states in (("a", a), ("b", b)):
        zero = (states.norm(dim=-1) == 0).nonzero()
        if len(zero):
            raise SemhubError(
                f"{name} holds a zero state at [layer, item] = {zero[0].tolist()}: its cosine is undefined."
            )


def _unit(states: Tensor) -> Tensor:
    return normalize(states.float(), dim=-1)


def centre(states: Float[Tensor, "layer item d_model"]) -> Float[Tensor, "layer item d_model"]:
    """Subtract the mean state of the items, layer by layer."""
    return states.float() - states.float().mean(1, keepdim=True)


def _cosines(a: Tensor, b: Tensor) -> Float[Tensor, "layer item"]:
    return torch.einsum("lid,lid->li", a, b)


def baseline(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item d_model"], matched: Float[Tensor, "layer item"]
) -> Float[Tensor, " layer"]:
    """Mean cosine of all non-pairs of unit vectors, in closed form."""
    n = a.shape[1]
    total = torch.einsum("ld,ld->l", a.double().sum(1), b.double().sum(1))
    return ((total - matched.double().sum(1)) / (n * (n - 1))).float()


def _spread(a: Tensor, b: Tensor, matched: Tensor) -> Tensor:
    n = a.shape[1]
    gram_a, gram_b = (torch.einsum("lid,lie->lde", x.double(), x.double()) for x in (a, b))
    squares = (torch.einsum("lde,lde->l", gram_a, gram_b) - matched.double().square().sum(1)) / (n * (n - 1))
    mean = baseline(a, b, matched).double()
    return (squares - mean.square()).clamp(min=0).sqrt().float()


def _bootstrap(a: Tensor, b: Tensor, matched: Tensor, seed: int, draws: int) -> tuple[Tensor, Tensor]:
    """Interval of D over resampled pairs; copies of one pair are not each other's non-pairs."""
    n = a.shape[1]
    weights = bootstrap_weights(n, draws, seed)
    weights = weights[(weights > 0).sum(1) > 1]  # copies of a single pair have no non-pairs
    squared = weights.square()
    non_pairs = n * n - squared.sum(1)
    curves = []
    for x, y, m in zip(a, b, matched, strict=True):
        total = ((weights @ x) * (weights @ y)).sum(1)
        curves.append(weights @ m / n - (total - squared @ m) / non_pairs)
    return percentiles(torch.stack(curves))


def permutation_null(
    a: Float[Tensor, "layer item d_model"],
    b: Float[Tensor, "layer item d_model"],
    matched: Float[Tensor, "layer item"],
    *,
    seed: int,
    draws: int,
) -> Float[Tensor, "draw layer"]:
    """D of unit vectors under random pairings in which nobody keeps its partner; the same pairings at every layer."""
    n = a.shape[1]
    rng = generator(seed + 1)
    pairings = torch.stack([derangement(n, rng) for _ in range(draws)])
    total = matched.sum(1) + baseline(a, b, matched) * n * (n - 1)
    sums = torch.zeros(draws, len(a))
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        for layer, (x, y) in enumerate(zip(a, b, strict=True)):
            sums[:, layer] += (x[rows] @ y.T)[torch.arange(rows.stop - start), pairings[:, rows]].sum(1)
    return sums / n - (total - sums) / (n * (n - 1))


def _ranks(a: Tensor, b: Tensor) -> Int[Tensor, "layer item"]:
    """How many candidates of `b` lie at least as near to each item of `a` as its partner, the partner aside."""
    n = a.shape[1]
    ranks = torch.zeros(a.shape[:2], dtype=torch.long)
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        for layer, (x, y) in enumerate(zip(a, b, strict=True)):
            cosines = x[rows] @ y.T
            own = cosines[torch.arange(rows.stop - start), torch.arange(start, rows.stop)]
            ranks[layer, rows] = (cosines >= own[:, None]).sum(1) - 1
    return ranks
