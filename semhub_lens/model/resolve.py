"""What a user passes as prompts, turned into prompts that fit the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError, Unfit, is_index
from semhub_lens.inputs.framing import opens, require_alike, require_unpadded
from semhub_lens.inputs.given import Encoding, Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.facts import Model, require_media, require_model

ENCODED = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask", "offset_mapping", "length")


def as_prompts(model: Model, prompts: Prompts) -> list[Prompt]:
    """Turn what a user passes into prompts.

    One prompt is a text, a `Prompt`, token ids (a list, a tensor `[pos]` or `[1, pos]`) or chat messages
    (`Prompt.from_chat`). Several are a list of these, a tensor `[batch, pos]`, or what the tokenizer returns for them
    (`input_ids`, `attention_mask`), whose padding is left out. A batch without its mask is taken whole where no row is
    padded, and refused where that cannot be told.

    Raises:
        SemhubError: an empty list, an entry that is none of these, padding without a mask, ids that the model lacks.
    """
    require_model(model)
    built = _several(model, prompts)
    for prompt in built:
        _check_fits(model, prompt)
    return [prompt if prompt.bos is not None else _looked_at(model, prompt) for prompt in built]


def one_prompt(model: Model, prompt: Prompts, reader: str) -> Prompt:
    """The one prompt of what a user passes, for a function of this name.

    Raises:
        SemhubError: as `as_prompts`; several prompts.
    """
    listed = as_prompts(model, prompt)
    if len(listed) != 1:
        raise SemhubError(f"{reader} reads one prompt, got {len(listed)} ({shown(prompt)}); call it once for each.")
    return listed[0]


def _several(model: Model, prompts: Any) -> list[Prompt]:
    if isinstance(prompts, np.ndarray):
        prompts = torch.as_tensor(prompts)
    if isinstance(prompts, Tensor) and prompts.ndim == 2:
        if not len(prompts):
            raise SemhubError(f"The batch of token ids has no rows, got {shown(prompts)}; give at least one.")
        return _batch(model, prompts)
    if isinstance(prompts, Mapping):
        return _encoded(model, prompts)
    if isinstance(prompts, Sequence) and not isinstance(prompts, str | bytes) and not _is_one(prompts):
        if not prompts:
            raise SemhubError("The list of prompts is empty; give at least one text or Prompt.")
        if all(isinstance(row, list | tuple) and row and is_index(row[0]) for row in prompts):
            return _batch(model, prompts)
        return [_one(model, entry) for entry in prompts]
    return [_one(model, prompts)]


def _batch(model: Model, ids: Any) -> list[Prompt]:
    """Rows of token ids without their mask; those of one length may be padded."""
    rows = [Prompt.from_ids(row) for row in ids]
    if len({len(row) for row in rows}) == 1:
        require_alike(getattr(model, "tokenizer", None), [row.ids.tolist() for row in rows])
    return rows


def _is_one(entries: Sequence[Any]) -> bool:
    """Whether a list is one prompt: token ids, or messages."""
    first = entries[0] if len(entries) else None
    return is_index(first) or (isinstance(first, Mapping) and "input_ids" not in first)


def _one(model: Model, entry: Any) -> Prompt:
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
    """The rows of what a tokenizer returned."""
    if "input_ids" not in encoding or set(encoding) - set(ENCODED):
        raise SemhubError(
            f"A mapping gives token ids as a tokenizer returns them, input_ids and attention_mask, got "
            f"{shown(dict(encoding))}; pictures and sound go through Prompt.from_processor, chat messages are a list."
        )
    ids, mask = encoding["input_ids"], encoding.get("attention_mask")
    if mask is None:
        return _several(model, ids)
    nested = getattr(ids, "ndim", 1) == 2 or (not isinstance(ids, Tensor | np.ndarray) and not is_index(ids[0]))
    rows, masks = (ids, mask) if nested else ([ids], [mask])
    if len(rows) != len(masks) or not len(rows):
        raise SemhubError(f"attention_mask has {len(masks)} rows for {len(rows)} rows of input_ids; give one for each.")
    return [Prompt.from_ids(row, mask=own) for row, own in zip(rows, masks, strict=True)]


def _looked_at(model: Model, prompt: Prompt) -> Prompt:
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
                f"The embeddings {name!r} have {vectors.shape[1]} entries, the model's states {model.cfg.d_model}: "
                "they were made for another model."
            )
