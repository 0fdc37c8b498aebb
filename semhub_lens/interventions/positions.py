"""The columns of a forward pass that an intervention changes: absolute positions, independent of padding and KV cache.

In runs of this library (`residual_stream`, `logit_lens`, `generate`, ...), positions are indices into each prompt's own
tokens, BOS included. In your own runs (`model.run_with_hooks(tokens)`), they are indices into the tokens that you pass.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from semhub_lens.base.arguments import native
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.hooking import Window

Positions = slice | SupportsIndex | Sequence | np.ndarray | Tensor | str | None
"""None: all positions, generated tokens included. Otherwise a slice, an index (negative from the prompt's end), indices
`[k]` or for each prompt `[item k]`, a boolean mask `[pos]` or `[item pos]` over the prompt, a span's name, or
"generated" (every generated token). Indices and masks may be lists, ranges, arrays or tensors.
"""

GENERATED = "generated"


def as_positions(positions: Any) -> "slice | int | Tensor | str | None":
    """Positions in the form that runs take: any kind of list becomes a tensor, and a mask `[pos]` becomes its indices.

    Raises:
        SemhubError: neither whole numbers nor booleans; a mask of zeros and ones, which could also be indices.
    """
    if positions is None or isinstance(positions, str):
        return positions
    if isinstance(positions, slice):
        edges = (positions.start, positions.stop, positions.step)
        return slice(*(None if edge is None else whole_number(edge, "A slice's edge") for edge in edges))
    listed = _tensor(positions)
    if listed.dtype == torch.bool:
        return listed.nonzero()[:, 0] if listed.ndim == 1 else listed
    if not listed.ndim:
        return int(listed)
    _refuse_zeros_and_ones(listed)
    return listed


def _tensor(positions: Any) -> Tensor:
    """Whole numbers or booleans from any kind of list."""
    try:
        listed = (positions if isinstance(positions, Tensor) else torch.as_tensor(np.asarray(native(positions)))).cpu()
        fits = listed.ndim < 3 and not listed.is_complex() and (listed.dtype != torch.bool or listed.ndim > 0)
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits or (listed.is_floating_point() and listed.numel()):
        raise SemhubError(f"positions= takes whole numbers, a slice, a mask or a span's name, got {positions!r}.")
    return listed if listed.dtype == torch.bool else listed.long()


def _refuse_zeros_and_ones(listed: Int[Tensor, "*item k"]) -> None:
    """Refuse a list of only zeros and ones with repetitions: this looks like a mask, not like indices."""
    repeated = listed.shape[-1] > 2 or (listed.ndim == 1 and listed.unique().numel() < len(listed))
    if repeated and bool(((listed == 0) | (listed == 1)).all()):
        raise SemhubError(
            f"positions={listed.tolist()} looks like a mask of zeros and ones, but whole numbers are indices: pass "
            "mask.bool() for a mask, or each index only once."
        )


def ranks_of(positions: Any, window: Window, columns: int) -> Int[Tensor, "batch pos"]:
    """For every column, its rank among the positions from `as_positions`; -1 if it is not among them."""
    absolute = window.positions(columns)
    lengths = window.lengths[:, None]
    if not bool((absolute >= 0).any()):
        return absolute
    if positions is None:
        return torch.where(absolute >= 0, absolute, -1)
    if isinstance(positions, str) and positions == GENERATED:
        return torch.where(absolute >= lengths, absolute - lengths, -1)
    if isinstance(positions, slice):
        return _slice_ranks(positions, absolute, lengths)
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        return _mask_ranks(positions, absolute, window)
    return _index_ranks(_indices(positions, window), absolute)


def _slice_ranks(span: slice, absolute: Tensor, lengths: Tensor) -> Tensor:
    start = _edge(span.start or 0, lengths).clamp(min=0)
    step = 1 if span.step is None else span.step
    if step < 1:
        raise SemhubError(f"A slice of positions must run forwards, got step {span.step}.")
    offset = absolute - start
    inside = (offset >= 0) & (absolute >= 0) & (offset % step == 0)
    if span.stop is not None:
        inside &= absolute < _edge(span.stop, lengths)
    return torch.where(inside, offset // step, -1)


def _edge(edge: int, lengths: Tensor) -> Tensor:
    """Absolute position of a slice's limit; a negative one counts from the prompt's end."""
    return lengths + edge if edge < 0 else torch.full_like(lengths, edge)


def _mask_ranks(mask: Bool[Tensor, "item pos"], absolute: Tensor, window: Window) -> Tensor:
    rows = mask.cpu()[window.items]
    within = (absolute >= 0) & (absolute < rows.shape[1])
    column = absolute.clamp(0, rows.shape[1] - 1)
    return torch.where(within & rows.gather(1, column), (rows.long().cumsum(1) - 1).gather(1, column), -1)


def _indices(positions: int | Tensor | str, window: Window) -> list[Sequence[int]]:
    """Absolute indices of every row, in the order given."""
    rows = range(len(window.items))
    if isinstance(positions, str):
        return [_span(window.spans[row] if window.spans else {}, positions) for row in rows]
    listed = torch.as_tensor(positions).cpu()
    chosen = listed[window.items] if listed.ndim == 2 else listed.reshape(1, -1).expand(len(window.items), -1)
    chosen = torch.where(chosen < 0, chosen + window.lengths[:, None], chosen)
    return chosen.tolist()


def _span(spans: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    if name not in spans:
        raise SemhubError(
            f"No span {name!r} in the prompt (it has {sorted(spans) or 'none'}). Define spans with "
            "Prompt.from_text(..., spans=...). They work only in runs of this library (residual_stream, logit_lens, "
            "generate, ...)."
        )
    return spans[name]


def _index_ranks(indices: list[Sequence[int]], absolute: Tensor) -> Tensor:
    """Ranks from a table over positions; if a position occurs twice, the last rank counts."""
    counts, width = torch.tensor([len(row) for row in indices]), int(absolute.max()) + 1
    position = torch.tensor(list(chain.from_iterable(indices)), dtype=torch.long)
    row = torch.arange(len(indices)).repeat_interleave(counts)
    rank = torch.arange(len(position)) - (counts.cumsum(0) - counts)[row]
    run = (position >= 0) & (position < width)
    table = torch.full((len(indices) * width,), -1)
    table.scatter_reduce_(0, (row * width + position)[run], rank[run], "amax")
    return torch.where(absolute >= 0, table.view(-1, width).gather(1, absolute.clamp(min=0)), -1)


def require_each(
    vectors: Sequence[int], positions: Any, window: Window, columns: int, names: Sequence[str | None]
) -> None:
    """Refuse rows with another number of positions than of vectors; a row without any position is left as it is.

    Args:
        vectors: the number of vectors of each row.
        positions: positions from `as_positions`.
        window: the rows and their positions.
        columns: the number of columns.
        names: the text of each row, for the message.

    Raises:
        SemhubError: a row with another number.
    """
    counts = (ranks_of(positions, window, columns).amax(1) + 1).tolist()
    for count, wanted, name in zip(counts, vectors, names, strict=True):
        if count not in (0, wanted):
            raise SemhubError(
                f"{wanted} vectors were given, but {count} positions selected in the prompt {name!r}: pass one vector "
                "for each position, in their order. The last generated token is never run."
            )


def check_positions(positions: Any, prompts: Sequence[Prompt], new_tokens: int) -> None:
    """Raise a SemhubError for positions that no run of these prompts reaches; the last new token never runs."""
    reached = max(0, new_tokens - 1)
    if isinstance(positions, Tensor) and positions.ndim == 2 and len(positions) != len(prompts):
        raise SemhubError(f"Positions are given for {len(positions)} prompts, but there are {len(prompts)}.")
    if isinstance(positions, Tensor) and positions.dtype == torch.bool:
        _check_mask(positions, prompts)
    elif isinstance(positions, slice):
        _check_slice(positions, prompts, reached)
    elif isinstance(positions, Tensor) or not (positions is None or positions == GENERATED):
        _check_indices(positions, prompts, reached)


def _check_mask(mask: Tensor, prompts: Sequence[Prompt]) -> None:
    for row, prompt in zip(mask, prompts, strict=True):
        if bool(row[len(prompt) :].any()):
            last = int(row.nonzero().max())
            raise SemhubError(
                f"The mask includes position {last}, past the end: the prompt {prompt.text!r} has {len(prompt)} tokens."
            )


def _check_slice(span: slice, prompts: Sequence[Prompt], reached: int) -> None:
    longest = max(map(len, prompts))
    if not bool((ranks_of(span, whole(prompts, reached), longest + reached) >= 0).any()):
        raise SemhubError(
            f"{span} selects no position: the longest prompt has {longest} tokens, {reached} more are run."
        )


def whole(prompts: Sequence[Prompt], generated: int) -> Window:
    """The window of a run of whole prompts with tokens after them."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    spans = tuple(prompt.spans for prompt in prompts)
    return Window(torch.arange(len(prompts)), torch.zeros_like(lengths), lengths, spans, generated)


def _check_indices(positions: int | Tensor | str, prompts: Sequence[Prompt], reached: int) -> None:
    for prompt, indices in zip(prompts, _indices(positions, whole(prompts, reached)), strict=True):
        for position in indices:
            if not 0 <= position < len(prompt) + reached:
                raise SemhubError(
                    f"Position {position} is past the end: the prompt {prompt.text!r} has {len(prompt)} tokens"
                    + (f" and {reached} of the generated ones are run." if reached else ".")
                )
