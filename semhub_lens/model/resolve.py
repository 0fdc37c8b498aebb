"""Turn user input into prompts that fit the model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semhub_lens.base.arguments import native, shown
from semhub_lens.base.errors import SemhubError, Unfit, is_index
from semhub_lens.base.processes import is_main, share
from semhub_lens.inputs.framing import opens, require_alike, require_unpadded
from semhub_lens.inputs.given import Encoding, Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.facts import Model, require_media, require_model

ENCODED = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask", "offset_mapping", "length")
AT_ONCE = 1 << 17
"""The largest number of prompts from an iterable of unknown length, which may be endless."""


def as_prompts(model: Model, prompts: Prompts) -> list[Prompt]:
    """Turn user input into prompts.

    One prompt is a text, a `Prompt`, token ids (a list, a tensor `[pos]` or `[1, pos]`) or chat messages
    (`Prompt.from_chat`). Several prompts are a list or another iterable of these (a generator, a data set's `Column`),
    a tensor `[batch, pos]`, or the output of a tokenizer (`input_ids`, `attention_mask`) without its padding. A batch
    without a mask is used whole if no row is padded, and refused if this is unclear.

    Raises:
        SemhubError: no prompts, an entry of another kind, padding without a mask, ids outside the vocabulary, or more
            than `AT_ONCE` prompts from an iterable without a length.
    """
    require_model(model)
    return [_fitting(model, prompt) for prompt in _several(model, prompts)]


def prompt_windows(model: Model, prompts: Prompts, size: int) -> Iterator[list[Prompt]]:
    """Prompts in their order, at most `size` at a time; each is read only when needed.

    Each process gets its share of the windows and skips the others without making their prompts.

    Raises:
        SemhubError: as for `as_prompts`, when the entry is reached; the message gives its number.
    """
    require_model(model)
    several: Any = prompts if _one_by_one(prompts) else as_prompts(model, prompts)
    entries = enumerate(several)
    windows, none = iter(lambda: list(islice(entries, size)), []), True
    for window in share(windows):
        yield [_numbered(model, entry, i) for i, entry in window]
        none = False
    if none and is_main():  # the first window is its own
        raise _nothing(prompts)


def prompt_count(prompts: Prompts) -> int | None:
    """The largest possible number of prompts, or None if it is unknown before they are read."""
    return (length_hint(prompts, 0) or None) if _one_by_one(prompts) else None


def _numbered(model: Model, entry: Any, number: int) -> Prompt:
    try:
        return _fitting(model, _one(model, entry))
    except SemhubError as error:
        raise type(error)(f"Item {number} (from 0): {error}") from error


def one_prompt(model: Model, prompt: Prompts, reader: str) -> Prompt:
    """The single prompt in user input, for a function with this name.

    Raises:
        SemhubError: as for `as_prompts`; several prompts.
    """
    listed = as_prompts(model, prompt)
    if len(listed) != 1:
        raise SemhubError(f"{reader} takes one prompt, got {len(listed)} ({shown(prompt)}); call it once for each.")
    return listed[0]


def _several(model: Model, prompts: Any) -> list[Prompt]:
    prompts = native(prompts)
    if isinstance(prompts, np.ndarray):
        prompts = torch.as_tensor(prompts)
    if isinstance(prompts, Tensor) and prompts.ndim == 2:
        if not len(prompts):
            raise SemhubError(f"The batch of token ids has no rows, got {shown(prompts)}; pass at least one.")
        return _batch(model, prompts)
    if isinstance(prompts, Mapping):
        return _encoded(model, prompts)
    if _one_by_one(prompts):
        counted = isinstance(prompts, Sequence) or length_hint(prompts, 0)
        listed = list(prompts if counted else islice(prompts, AT_ONCE + 1))
        if not listed:
            raise _nothing(prompts)
        if not counted and len(listed) > AT_ONCE:
            raise SemhubError(
                f"{type(prompts).__name__} has more than {AT_ONCE} prompts and an unknown length, so it may be "
                "endless: take a part, itertools.islice(prompts, n) or shl.Column(data, name, limit=n)."
            )
        return [_one(model, entry) for entry in listed]
    if _is_rows(prompts):
        return _batch(model, prompts)
    return [_one(model, prompts)]


def _one_by_one(prompts: Any) -> bool:
    """Whether every entry is a separate prompt, also for an iterator."""
    if hasattr(prompts, "columns"):
        raise SemhubError(
            f"A table ({type(prompts).__name__}) has several columns, and going through it would read their names: "
            f"give one of them, table[name], out of {shown(list(prompts.columns))}."
        )
    if isinstance(prompts, set | frozenset):
        raise SemhubError(
            f"A set has no order, so results could not be matched to prompts; pass a list, not {prompts!r}."
        )
    if isinstance(prompts, str | bytes | Mapping | Tensor | np.ndarray | Prompt) or not isinstance(prompts, Iterable):
        return False
    return not (isinstance(prompts, Sequence) and (_is_one(prompts) or _is_rows(prompts)))


def _is_rows(prompts: Any) -> bool:
    """Whether it is a list of rows of token ids."""
    listed = isinstance(prompts, Sequence) and not isinstance(prompts, str | bytes) and len(prompts)
    return bool(listed) and all(isinstance(row, list | tuple) and row and is_index(row[0]) for row in prompts)


def _nothing(prompts: Any) -> SemhubError:
    read = "" if isinstance(prompts, Sequence) else " (or was read before: a generator can be read once)"
    return SemhubError(f"The list of prompts is empty{read}; pass at least one text or Prompt.")


def _batch(model: Model, ids: Any) -> list[Prompt]:
    """Rows of token ids without a mask; rows of equal length may be padded."""
    rows = [Prompt.from_ids(row) for row in ids]
    if len({len(row) for row in rows}) == 1:
        require_alike(getattr(model, "tokenizer", None), [row.ids.tolist() for row in rows])
    return rows


def _is_one(entries: Sequence[Any]) -> bool:
    """Whether a list is one prompt: token ids, or messages."""
    first = entries[0] if len(entries) else None
    return is_index(first) or (isinstance(first, Mapping) and "input_ids" not in first)


def _one(model: Model, entry: Any) -> Prompt:
    entry = native(entry)
    if isinstance(entry, Prompt):
        return entry
    if isinstance(entry, str):
        return Prompt.from_text(model, entry)
    if isinstance(entry, Tensor | np.ndarray):
        return Prompt.from_ids(torch.as_tensor(entry))
    if isinstance(entry, Mapping):
        rows = _encoded(model, entry)
        if len(rows) == 1:
            return rows[0]
    elif isinstance(entry, Sequence) and not isinstance(entry, bytes) and _is_one(entry):
        if is_index(entry[0]):
            return Prompt.from_ids(entry)
        return Prompt.from_chat(model, entry)
    raise SemhubError(
        f"A prompt is a text, a Prompt, one row of token ids, or chat messages; got {type(entry).__name__}: "
        f"{shown(entry)}."
    )


def _encoded(model: Model, encoding: Encoding) -> list[Prompt]:
    """The rows of a tokenizer's output."""
    if "input_ids" not in encoding or set(encoding) - set(ENCODED):
        raise SemhubError(
            f"A mapping must be a tokenizer's output with input_ids and attention_mask, got {shown(dict(encoding))}. "
            "For pictures and sound use Prompt.from_processor; pass chat messages as a list. For a data set give the "
            f"column, shl.Column(data, name): one of {', '.join(map(str, encoding))[:80]}."
        )
    if _is_marked(encoding.get("token_type_ids", 0)):
        raise SemhubError(
            "token_type_ids mark a second text (a pair, as for BERT), but runs give a model one text and no types: the "
            "numbers would be others. Tokenise one text at a time, or leave them out for a model that has no types."
        )
    ids, mask = encoding["input_ids"], encoding.get("attention_mask")
    if mask is None:
        return _several(model, ids)
    if getattr(ids, "ndim", 1) == 0 or not hasattr(ids, "__len__") or not len(ids):
        raise SemhubError(f"The tokenizer's output has no list of token ids, but input_ids={shown(ids)}.")
    nested = getattr(ids, "ndim", 1) == 2 or (not isinstance(ids, Tensor | np.ndarray) and not is_index(ids[0]))
    rows, masks = (ids, mask) if nested else ([ids], [mask])
    if len(rows) != len(masks) or not len(rows):
        raise SemhubError(f"attention_mask has {len(masks)} rows for {len(rows)} rows of input_ids; pass one for each.")
    return [Prompt.from_ids(row, mask=own) for row, own in zip(rows, masks, strict=True)]


def _is_marked(types: Any) -> bool:
    """Whether any entry of nested lists or arrays is not zero."""
    if isinstance(types, list | tuple):
        return any(map(_is_marked, types))
    return bool(torch.as_tensor(native(types)).any())  # on whatever device it is


def _fitting(model: Model, prompt: Prompt) -> Prompt:
    """The prompt, if the model can read it, with its BOS detected."""
    _check_fits(model, prompt)
    if prompt.bos is not None:
        return prompt
    return replace(prompt, bos=opens(getattr(model, "tokenizer", None), int(model.cfg.d_vocab), int(prompt.ids[0])))


def _check_fits(model: Model, prompt: Prompt) -> None:
    vocabulary, context = int(model.cfg.d_vocab), int(model.cfg.n_ctx)
    outside = prompt.ids[(prompt.ids < 0) | (prompt.ids >= vocabulary)]
    if len(outside):
        raise SemhubError(f"Token id {int(outside[0])} is outside the model's vocabulary of {vocabulary}.")
    if len(prompt) > context:
        raise Unfit(f"The prompt has {len(prompt)} tokens, the model's context holds {context}; shorten it.")
    if prompt.text is None and prompt.media is None and getattr(model, "tokenizer", None) is not None:
        require_unpadded(model.tokenizer, prompt.ids.tolist())
    if prompt.media is not None:
        require_media(model)
    for name, vectors in prompt.embeddings.items():
        if vectors.shape[1] != int(model.cfg.d_model):
            raise SemhubError(
                f"The embeddings {name!r} have {vectors.shape[1]} entries, but the model's states have "
                f"{model.cfg.d_model}: they were made for another model."
            )
