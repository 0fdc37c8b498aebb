r"""Similarity of two data types: are states of equivalent inputs closer than states of unrelated inputs?

$$D_\ell = \operatorname{mean}_i \cos(a_i, b_i) - \operatorname{mean}_{i \ne j} \cos(a_i, b_j)$$

(Wu et al. 2025, Eq. 1.) Zero means no effect. `measures.MEASURES` lists the other measures.

This shows relative proximity, not identity: other directions may still separate the data types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.quantities import Quantities
from semhub_lens.base.results import Provenance, check_finite, unnamed
from semhub_lens.base.rng import generator
from semhub_lens.evidence.stats import LEVEL
from semhub_lens.geometry.measures import CHUNK, MEASURES, Draws, Pair
from semhub_lens.model.stacks import States, StateStack

ASK = {
    quantity: f"measures=[{name!r}]"
    for name, measure in MEASURES.items()
    for quantity in (*measure.quantities, *measure.null)
}
ROUNDING = 1e-6
"""Cosines that differ less are equal: where all states of one type are the same, so is D in every pairing."""
NULLS = {quantity for measure in MEASURES.values() for quantity in measure.null}


@dataclass(frozen=True, eq=False)
class SimilarityResult(Quantities):
    r"""Similarity of n pairs at every layer, in the requested measures; `similarity` makes it.

    - effect: `.matched` [layer item], $\cos(a_i, b_i)$; `.baseline`, `.spread` [layer], mean and standard deviation of
      the non-pairs' cosines; `.low`, `.high` [layer], 95 % bootstrap interval of D (pairs resampled; a resampled pair
      is never its own non-pair); `.null` [draw layer], D under randomly permuted pairings.
    - centred: `.centred` [layer item], like `adjusted`, after subtracting each data type's mean state.
    - retrieval: `.rank_ab`, `.rank_ba` [layer item], rank of the true partner among all candidates (0 = nearest; a tie
      counts against the partner), by centred cosine.
    - neighbours: `.neighbours` [layer], share of the k nearest neighbours that the two sets have in common;
      `.neighbours_null` [draw layer].
    - cka: `.cka` [layer], debiased linear CKA (0 expected for independent states); `.cka_null` [draw layer].
    """

    ask: ClassVar[Mapping[str, str]] = ASK

    @property
    def adjusted(self) -> Float[Tensor, "layer item"]:
        """Each pair's cosine minus the non-pairs' mean; its mean over items is D."""
        return self.matched - self.baseline[:, None]

    @property
    def effect(self) -> Float[Tensor, " layer"]:
        """D at every layer."""
        return self.adjusted.mean(1)

    @property
    def zscored(self) -> Float[Tensor, " layer"]:
        """D in units of the non-pairs' standard deviation; NaN if their cosines are all the same."""
        return torch.where(self.spread > ROUNDING, self.effect / self.spread, torch.nan)

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
        return 1 / self.rank_ab.shape[1]

    @property
    def p_value(self) -> Float[Tensor, " layer"]:
        """Share of permuted pairings with D at least as large (+1 in both counts)."""
        return (1 + (self.null >= self.effect - ROUNDING).sum(0)) / (1 + len(self.null))

    @property
    def p_value_max(self) -> Float[Tensor, " layer"]:
        """Like `p_value`, against the raw null's maximum over layers.

        It is valid for the claim "at some layer", but noisy layers dominate it.
        """
        return (1 + (self.null.amax(1, keepdim=True) >= self.effect - ROUNDING).sum(0)) / (1 + len(self.null))

    @property
    def measures(self) -> tuple[str, ...]:
        """The requested measures."""
        return tuple(name for name, measure in MEASURES.items() if measure.quantities.keys() <= self.measured.keys())

    @property
    def layers(self) -> int:
        """The number of residual layers, including the embedding."""
        return next(len(values) for name, values in self.measured.items() if name not in NULLS)

    @checked
    def curves(self, measure: str) -> dict[str, Float[Tensor, " layer"]]:
        """The curves of a measure by label, and the 95th percentile of its null.

        Args:
            measure: one of `measures`.

        Raises:
            SemhubError: an unknown measure, or one that was not asked for.
        """
        if measure not in MEASURES:
            raise SemhubError(f"Unknown measure {measure!r}; there are {', '.join(MEASURES)}.")
        entry = MEASURES[measure]
        curves = {label: self._curve(attribute) for label, attribute in entry.curves.items()}
        for null in entry.null:
            curves[f"{next(iter(curves))}, null 95 %"] = torch.quantile(self.measured[null], LEVEL, dim=0)
        return curves

    def _curve(self, attribute: str) -> Float[Tensor, " layer"]:
        values = torch.as_tensor(getattr(self, attribute))
        return values.expand(self.layers) if values.ndim == 0 else values if values.ndim == 1 else values.mean(1)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and item (or per layer, if nothing is per item); nulls by their 95th percentile."""
        columns = {
            f"{name}_95" if name in NULLS else name: torch.quantile(values, LEVEL, dim=0) if name in NULLS else values
            for name, values in self.measured.items()
        }
        if "effect" in self.measures:
            columns["adjusted"] = self.adjusted
        items = [values.shape[1] for values in columns.values() if values.ndim == 2][:1]
        index = pd.MultiIndex.from_product(
            [range(self.layers), *map(range, items)], names=["layer", "item"][: 1 + len(items)]
        )
        each = len(index) // self.layers
        flat = {
            name: (values if values.ndim == 2 else values.repeat_interleave(each)).flatten().numpy()
            for name, values in columns.items()
        }
        return pd.DataFrame(flat, index).reset_index()


@checked
def similarity(
    a: States,
    b: States,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    seed: int = 0,
    draws: int = 500,
    provenance: Provenance | None = None,
) -> SimilarityResult:
    r"""Compare states of paired inputs at every layer; item i of `a` belongs to item i of `b`.

    $$D_\ell = \operatorname{mean}_i \cos(a_i, b_i) - \operatorname{mean}_{i \ne j} \cos(a_i, b_j)$$

    (Wu et al. 2025, Eq. 1.) D shows relative proximity. It does not show that the two data types share a space: other
    directions may still separate them. Compare with layer 0, where only tokens can be shared.

    Args:
        a, b: residual states `[layer item d_model]` from `residual_stream`, with the same number of items, on any
            device or in a folder (a `StateStack`; a large one is read one layer at a time).
        measures: names in `geometry.measures.MEASURES`; only these are computed.
        seed: for the bootstrap and the permutations.
        draws: the number of permuted pairings; there are at least as many bootstrap samples.
        provenance: the origin of the states, stored in the result.

    Returns:
        The requested measures: cosines, and shares between 0 and 1.

    Raises:
        SemhubError: unequal shapes, fewer than three pairs, NaN states, a zero state, or an unknown measure.

    Example:
        >>> a = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
        >>> same = similarity(a, a, measures=["effect"])
        >>> bool((same.effect > 0.9).all()), len(same.curves("effect"))  # the effect's curve, and its null's
        (True, 2)
    """
    unknown = sorted(set(measures) - MEASURES.keys())
    if unknown or not measures or isinstance(measures, str):
        raise SemhubError(f"Expected measures among {list(MEASURES)}, got {measures!r}.")
    if draws < 1:
        raise SemhubError(f"draws= is the number of permuted pairings, at least 1, got {draws}.")
    generator(seed)
    _check(a, b)
    asked = {  # two measures may share a quantity
        quantity: measure
        for name in measures
        for quantity, measure in (*MEASURES[name].quantities.items(), *MEASURES[name].null.items())
    }
    draw, n = Draws(a.shape[1], seed, draws), a.shape[1]
    layers = max(1, CHUNK // (n * max(n, a.shape[2], b.shape[2])))  # one by one, where they are large
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(a), layers):
        some = slice(start, start + layers)
        pair = Pair(a=a[some].detach().cpu(), b=b[some].detach().cpu(), draw=draw)
        for quantity, measure in asked.items():
            parts.setdefault(quantity, []).append(measure(pair))
    measured = {name: torch.cat(part, dim=int(name in NULLS)) for name, part in parts.items()}
    return SimilarityResult(measured=measured, provenance=provenance or unnamed(seed))


def _check(a: Tensor | StateStack, b: Tensor | StateStack) -> None:
    if a.shape != b.shape:
        raise SemhubError(
            f"Unequal pairs: a has shape {tuple(a.shape)}, b {tuple(b.shape)}; expected the same [layer item d_model], "
            "item i of a paired with item i of b."
        )
    if a.shape[1] < 3:
        raise SemhubError(f"Similarity needs at least three pairs (two non-pairs each), got {a.shape[1]}.")
    for name, states in (("a", a), ("b", b)):
        for layer, own in enumerate(states):
            lengths = torch.linalg.vector_norm(own, torch.inf, dim=-1)  # squares could overflow, or vanish
            if not bool(lengths.isfinite().all()):  # so is every state of finite length, in one pass over the numbers
                check_finite(own, f"{name} at layer {layer}")
            zero = (lengths == 0).nonzero()
            if len(zero):
                raise SemhubError(
                    f"{name} has a zero state at [layer, item] = {[layer, int(zero[0])]}: its cosine is undefined."
                )
