r"""`compare`: two lenses cell by cell, of two prompts, of two models, or before and after an intervention.

At each layer and aligned column, with the stored tokens $T_a$, $T_b$ of a cell:

$$\text{changed} = [\,\arg\max p_a \neq \arg\max p_b\,],\qquad
\text{replaced} = 1 - \frac{|T_a \cap T_b|}{\min(|T_a|, |T_b|)},\qquad
\Delta q = q_b - q_a$$
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Result
from semhub_lens.lens.logit_lens import LensResult

Align = Literal["start", "end"] | Sequence[tuple[Sequence[int], Sequence[int]]]
"""The alignment of unequal prompts: at the first token, at the last token, or by pairs of spans. A pair has the
positions in one prompt and those in the other (`Prompt.spans`). Spans, and the parts between them, are aligned at their
ends.
"""
NOTHING = -1
"""The value for a missing position or token on one side."""


@dataclass(frozen=True, eq=False)
class LensComparison(Result):
    """Two lenses side by side, with positions aligned in columns; missing values are NaN, or -1 for positions.

    `compare` makes it.
    """

    a: LensResult
    b: LensResult
    names: tuple[str, str]
    columns: tuple[tuple[int, int], ...]
    """For every column, the position in a's prompt and in b's; -1 if a side has none."""

    def __repr__(self) -> str:
        changed = self.changed
        known = ~changed.isnan()
        counted = f"{int(changed[known].sum())} of {int(known.sum())} cells have another most probable token"
        what = counted if "top_ids" in self.a.measured.keys() & self.b.measured.keys() else "no tokens stored in both"
        lines = [f"{self.names[0]} | {self.names[1]}: {len(changed)} layers x {len(self.columns)} columns, {what}"]
        lines.append('Next: write_html(comparison, "two.html") for the page, .to_frame() for the numbers, .save(path)')
        return "\n".join([*lines, self.provenance.line()])

    @property
    def changed(self) -> Float[Tensor, "layer column"]:
        """1 if the most probable token differs between a and b, else 0."""
        a, b = self.sides()
        if not {"top_ids"} <= a.measured.keys() & b.measured.keys():
            return torch.full((len(a.entries), len(self.columns)), torch.nan)
        return torch.where(self._held(), (a.top_ids[..., 0] != b.top_ids[..., 0]).float(), torch.nan)

    @property
    def replaced(self) -> Float[Tensor, "layer column"]:
        """Share of the stored tokens of a cell that are not stored in the other."""
        a, b = (side.top_ids for side in self.sides())
        kept = (a[..., :, None] == b[..., None, :]).flatten(-2).sum(-1)
        return torch.where(self._held(), 1 - kept / min(a.shape[-1], b.shape[-1]), torch.nan)

    @checked
    def change(self, quantity: str) -> Float[Tensor, "layer column"]:
        """A quantity with one number per cell, b minus a, in nats.

        Args:
            quantity: "entropy" or "kl_to_final".

        Raises:
            SemhubError: not measured in both.
        """
        a, b = (side.per_position() for side in self.sides())
        if quantity not in a.keys() & b.keys():
            both = ", ".join(sorted(a.keys() & b.keys())) or "none"
            raise SemhubError(f"{quantity!r} is not one number per cell in both lenses; both have: {both}.")
        return b[quantity] - a[quantity]

    def sides(self) -> tuple[LensResult, LensResult]:
        """Both lenses with a row for every column; blank if a side has no position."""
        return _laid_out(self.a, [one for one, _ in self.columns]), _laid_out(self.b, [two for _, two in self.columns])

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and column."""
        a, b = self.sides()
        index = pd.MultiIndex.from_product([a.entries, range(len(self.columns))], names=["layer", "column"])
        frame = pd.DataFrame(index=index).reset_index()
        for name, side, at in zip("ab", (a, b), zip(*self.columns, strict=True), strict=True):
            frame[f"pos_{name}"] = [at[column] for column in frame["column"]]
            frame[f"input_{name}"] = [side.labels[column] for column in frame["column"]]
            if "top_ids" in side.measured:
                frame[f"token_{name}"] = [cell[0] for row in side.strings() for cell in row]
        frame["layer_b"] = [b.entries[a.entries.index(layer)] for layer in frame["layer"]]
        if {"top_ids"} <= a.measured.keys() & b.measured.keys():
            frame["changed"], frame["replaced"] = self.changed.flatten().numpy(), self.replaced.flatten().numpy()
        for name in a.per_position().keys() & b.per_position().keys():
            frame[f"change of {name}"] = self.change(name).flatten().numpy()
        return frame

    def _held(self) -> Tensor:
        return torch.tensor([NOTHING not in pair for pair in self.columns]).expand(len(self.a.entries), -1)


@checked
def compare(
    a: LensResult, b: LensResult, *, names: tuple[str, str] = ("a", "b"), align: Align = "start"
) -> LensComparison:
    r"""Compare two lenses cell by cell.

    For each cell, `.changed` is 1 if the most probable tokens differ, `.replaced` is
    $1 - |T_a \cap T_b| / \min(|T_a|, |T_b|)$ over the stored tokens, and `.change(q)` is $q_b - q_a$. A difference
    shows that two runs predict differently, not why.

    Args:
        a, b: from `logit_lens`, with the same vocabulary and the same number of layers: two prompts, two models, before
            and after an intervention, or two norms. For models of unequal depth, choose layers with
            `logit_lens(layers=)`; they are paired in order.
        names: the names on the page.
        align: the alignment of unequal prompts; see `Align`. "start" needs prompts of equal length.

    Returns:
        The comparison, with positions aligned in columns; its figure shows both lenses and their difference.

    Raises:
        SemhubError: different vocabularies, unequal numbers of layers, prompts of unequal length with "start", or spans
            that overlap or go past the end.

    Example:
        >>> clean = logit_lens(tiny_model, "three plus two", progress=False)
        >>> hooks = shl.at(1, shl.hooks.add(8 * torch.ones(tiny_model.cfg.d_model)))
        >>> two = compare(clean, logit_lens(tiny_model, "three plus two", hooks=hooks, progress=False))
        >>> two.changed[0].sum(), two.change("entropy").shape  # layer 0 is below the edit
        (tensor(0.), torch.Size([4, 4]))
    """
    _require_one_vocabulary(a, b)
    if len(a.entries) != len(b.entries):
        raise SemhubError(
            f"The lenses have {len(a.entries)} and {len(b.entries)} layers: read the same number of each with "
            "logit_lens(..., layers=[...]); they are paired in order."
        )
    columns = _columns(len(a.labels), len(b.labels), align)
    return LensComparison(a, b, (str(names[0]), str(names[1])), columns, provenance=b.provenance)


def _require_one_vocabulary(a: LensResult, b: LensResult) -> None:
    """Check that both have the same text for every shared id. Without a shared id, the unembeddings must be equal."""
    known, other = dict(a.vocabulary), dict(b.vocabulary)
    shared = known.keys() & other.keys()
    wrong = next((i for i in sorted(shared) if known[i] != other[i]), None)
    if wrong is not None:
        raise SemhubError(
            f"The lenses have different vocabularies: token {wrong} is {known[wrong]!r} in a ({a.provenance.model}) "
            f"and {other[wrong]!r} in b ({b.provenance.model}). Compare models that share a tokenizer."
        )
    if not shared and a.provenance.unembedding != b.provenance.unembedding:
        raise SemhubError(
            "The lenses have no token in common, so it is unclear whether their vocabularies are the same. Read a "
            "larger top_k, or the same prompt with both models."
        )


def _columns(a: int, b: int, align: Align) -> tuple[tuple[int, int], ...]:
    if isinstance(align, str):
        if align not in ("start", "end"):
            raise SemhubError(f"align= takes 'start', 'end' or pairs of spans, got {align!r}.")
        if align == "start" and a != b:
            raise SemhubError(
                f"The prompts have {a} and {b} tokens. Say how to align them: align='end' (last token next to last "
                "token), or align=[(span in a, span in b), ...] with positions, as in Prompt.spans."
            )
        return tuple(_ending_together(range(a), range(b)))
    columns: list[tuple[int, int]] = []
    done = [0, 0]
    for pair in align:
        spans = [sorted(int(position) for position in span) for span in pair]
        for i, (span, length) in enumerate(zip(spans, (a, b), strict=True)):
            if not span or span[0] < done[i] or span[-1] >= length:
                raise SemhubError(
                    f"Spans must be in order, without overlap and within the prompt of {length} tokens; got {span} for "
                    f"{'ab'[i]}, after {done[i]} tokens are taken."
                )
        columns += _ending_together(*(range(done[i], spans[i][0]) for i in (0, 1)))
        columns += _ending_together(*(range(spans[i][0], spans[i][-1] + 1) for i in (0, 1)))
        done = [spans[0][-1] + 1, spans[1][-1] + 1]
    return tuple(columns + _ending_together(range(done[0], a), range(done[1], b)))


def _ending_together(one: range, two: range) -> list[tuple[int, int]]:
    width = max(len(one), len(two))
    first, second = ([NOTHING] * (width - len(side)) + list(side) for side in (one, two))
    return list(zip(first, second, strict=True))


def _laid_out(lens: LensResult, places: Sequence[int]) -> LensResult:
    """The lens with a position for every column, blank if there is none."""
    if list(places) == list(range(len(lens.labels))):
        return lens
    at = torch.tensor(places)
    gap = at < 0

    def laid(values: Tensor) -> Tensor:
        out = values[:, at.clamp(min=0)].clone()
        out[:, gap] = torch.nan if out.is_floating_point() else NOTHING
        return out

    languages = lens.token_languages
    if languages is not None:
        languages = torch.cat([languages, torch.zeros(1, languages.shape[1])])
    return replace(
        lens,
        token_ids=torch.where(gap, NOTHING, lens.token_ids[at.clamp(min=0)]),
        labels=tuple("" if place < 0 else lens.labels[place] for place in places),
        vocabulary=(*lens.vocabulary, (NOTHING, "")) if lens.vocabulary else (),
        token_languages=languages,
        attributions=tuple(
            replace(one, position=places.index(one.position)) for one in lens.attributions if one.position in places
        ),
        measured={name: laid(values) for name, values in lens.measured.items()},
        curve_ids=None if lens.curve_ids is None else laid(lens.curve_ids[None])[0],
        curve_logprobs=None if lens.curve_logprobs is None else laid(lens.curve_logprobs),
    )
