"""Models whose states depend on the length of a pass: which passes differ, and passes that forget the last.

With a rotary scaling ("longrope", "dynamic") a state depends on the longest position of its pass. Hugging Face's
"dynamic" one also keeps the scale of the longest pass so far, so that a text would have other states after a longer
one. Both write the scale of the last pass into a buffer. With attention to the best k tokens, many tokens have the same
score, and which of these are taken depends on the length of the pass.
"""

from collections.abc import Mapping
from typing import Any

Model = Any
KEPT = "max_seq_len_cached"
"""Where a part of Hugging Face's keeps the longest length so far; some have one for each kind of layer."""


def rotaries(config: Any) -> list[Mapping[str, Any]]:
    """The rotary settings of a Hugging Face config's language model: one, or one for each kind of layer."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rope = getattr(text, "rope_parameters", None) or {}
    return [one for one in (rope, *rope.values()) if isinstance(one, Mapping) and "rope_type" in one]


def rope_differs(model: Model, shortest: int, longest: int) -> int | None:
    """Number of tokens at which the scaling of all rotary positions changes between passes of these lengths, if any."""
    config: Any = getattr(getattr(model, "original_model", None), "config", None)
    for rope in rotaries(config):
        dynamic = "dynamic" in rope["rope_type"]
        if dynamic or rope["rope_type"] == "longrope":
            text = config.get_text_config()
            own = "max_position_embeddings" if dynamic else "original_max_position_embeddings"
            limit = rope.get("original_max_position_embeddings") or getattr(text, own, None)
            if limit is not None and shortest < longest > limit and (shortest <= limit or dynamic):
                return limit
    return None


def length_effect(model: Model, shortest: int, longest: int) -> str | None:
    """Why states differ between passes of these lengths, if they do."""
    limit = rope_differs(model, shortest, longest)
    if limit is not None:
        return f"its rotary scaling changes at {limit} tokens"
    config: Any = getattr(getattr(model, "original_model", None), "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    best = getattr(text, "index_topk", None)
    if best is not None and shortest < longest > best:
        return f"it attends to the {best} best tokens, and passes of other lengths choose others"
    return None


def forget_lengths(model: Model) -> None:
    """Let the next pass find the scale of its own length, whatever ran before."""
    inner: Any = getattr(model, "original_model", None)
    kinds = [rope["rope_type"] for rope in rotaries(getattr(inner, "config", None))]
    if not any("dynamic" in kind or kind == "longrope" for kind in kinds):
        return
    for part in inner.modules():
        if KEPT not in vars(part) or not hasattr(part, "original_max_seq_len"):
            continue
        for name, original in list(part.named_buffers(recurse=False)):
            kind, found, _ = name.partition("original_inv_freq")
            if found:
                setattr(part, f"{kind}inv_freq", original.clone())
                setattr(part, f"{kind}{KEPT}", part.original_max_seq_len)
        setattr(part, KEPT, part.original_max_seq_len)
