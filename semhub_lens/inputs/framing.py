"""The tokens around a text: those that a model expects before it, and padding, which is not text."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from semhub_lens.base.arguments import native, shown
from semhub_lens.base.errors import SemhubError, Unfit


def bos_id(tokenizer: Any, vocabulary: int) -> int | None:
    """The id of the tokenizer's BOS token; None if it has only a name for one.

    transformer-lens gives every tokenizer such a name. If the vocabulary lacks it, its id is that of the unknown token.
    """
    bos = tokenizer.bos_token_id
    if bos is None or bos >= vocabulary or tokenizer.convert_ids_to_tokens(bos) != str(tokenizer.bos_token):
        return None
    return int(bos)


def front(tokenizer: Any) -> tuple[int, ...]:
    """The special tokens that the tokenizer itself puts before a text."""
    whole, plain = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    starts = [i for i in range(len(whole)) if whole[i : i + len(plain)] == plain]
    return tuple(whole[: starts[0]]) if plain and starts else ()


def opening(tokenizer: Any, vocabulary: int, prepend_bos: bool | None, default: bool) -> tuple[int, ...]:
    """The tokens to put before a text: BOS, or the tokenizer's own special tokens (`[gMASK] <sop>`) if it has others.

    Raises:
        Unfit: BOS is requested, but there is none.
    """
    bos = bos_id(tokenizer, vocabulary)
    own = front(tokenizer) if prepend_bos is None else ()
    if own and bos not in own:
        return own
    if not (default if prepend_bos is None else prepend_bos):
        return ()
    if bos is None and (prepend_bos or tokenizer.bos_token_id is None):
        raise Unfit("prepend_bos=True, but the tokenizer has no BOS token; pass prepend_bos=False.")
    return own or (() if bos is None else (bos,))


def opens(tokenizer: Any, vocabulary: int, first: int) -> bool:
    """Whether a prompt with this first token starts like the tokenizer's texts."""
    return tokenizer is not None and first in (bos_id(tokenizer, vocabulary), *front(tokenizer)[:1])


def special_ids(tokenizer: Any) -> frozenset[int]:
    """All control tokens: BOS, padding, marks of turns, ...; the token for unknown words is not one of them."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    listed = frozenset(tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}
    return (
        listed
        if tokenizer.unk_token in (tokenizer.bos_token, tokenizer.eos_token)
        else listed - {tokenizer.unk_token_id}
    )


def require_unpadded(tokenizer: Any, ids: Sequence[int]) -> None:
    """Raise a SemhubError for ids that start or end with padding.

    A single end-of-text or BOS token may be intended even if it is also the padding token; the unknown token is text.
    """
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None or pad == tokenizer.unk_token_id:
        return
    bos, text = tokenizer.bos_token_id, [i for i, token in enumerate(ids) if token != pad] or [len(ids)]
    before, behind = text[0], len(ids) - 1 - text[-1]
    meant = 1 if pad in (bos, tokenizer.eos_token_id) else 0
    if before == 1 and bos not in (None, pad) and ids[1:2] == [bos]:
        meant = 0
    if before > meant or behind > meant:
        raise SemhubError(
            f"The token ids {'begin' if before > meant else 'end'} in padding ({tokenizer.pad_token!r}), which would "
            "be read as text: give the row's attention mask, Prompt.from_ids(ids, mask=mask). If it is meant, write it "
            "into a text for Prompt.from_text."
        )


def require_alike(tokenizer: Any, rows: Sequence[Sequence[int]]) -> None:
    """Raise a SemhubError if some, but not all, rows of a batch without mask start or end with the pad token.

    If the pad token is also end-of-text or BOS, a single one at the edge of a row may be either.
    """
    pad = getattr(tokenizer, "pad_token_id", None)
    edges = {(row[0] == pad, row[-1] == pad) for row in rows if len(row)}
    if pad is not None and len(edges) > 1:
        raise SemhubError(
            f"Some of these {len(rows)} rows of token ids begin or end in {tokenizer.pad_token!r} and some do not, so "
            "it is unclear which tokens are padding. Pass the batch with its mask, as the tokenizer returns it: "
            "{'input_ids': ids, 'attention_mask': mask}."
        )


def unpadded(ids: Tensor, mask: Any) -> range:
    """The positions of a padded row that its attention mask marks; they must be contiguous.

    Raises:
        SemhubError: a mask of another length, without ones, or with gaps.
    """
    try:
        marks = torch.as_tensor(native(mask))
    except (TypeError, ValueError, RuntimeError):
        marks = torch.empty(0)
    marks = marks[0] if marks.ndim == 2 and len(marks) == 1 else marks
    marked = marks.flatten().nonzero()[:, 0].tolist()
    fits = marks.shape == ids.shape and bool(((marks == 0) | (marks == 1)).all())
    if not fits or not marked or marked[-1] - marked[0] >= len(marked):
        raise SemhubError(
            f"mask= is the attention mask of one row of {len(ids)} token ids, with contiguous ones; got {shown(mask)}."
        )
    return range(marked[0], marked[-1] + 1)
