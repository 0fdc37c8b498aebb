"""The arguments of a lens: checked, and kept as code that its page can show."""

from collections.abc import Mapping, Sequence
from typing import Any

from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.prompts import Prompt


def call_of(given: OnePrompt, prompt: Prompt | None, norm: str, own: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that a result does not show, as code; a bare name is an object of the user's.

    Args:
        given: the prompt as the user gave it. A text is kept; for tokens alone, the result's token ids are enough.
        prompt: the resolved prompt, if it may hold more than tokens.
        norm: the norm of the read-out.
        own: objects by argument name; empty ones are left out.
    """
    found = {name: name for name, value in own.items() if value} | ({} if norm == "final" else {"norm": repr(norm)})
    if prompt is not None and (prompt.media is not None or prompt.embeddings):
        return found | {"prompt": "prompt"}
    return found | ({"prompt": repr(given)} if isinstance(given, str) else {})


def entries_to_read(layers: Sequence[int], last: int) -> tuple[int, ...]:
    """Residual entries in their order, including the last."""
    wanted = [whole_number(layer, "A layer") for layer in layers]
    beyond = [layer for layer in wanted if not -last - 1 <= layer <= last]
    if beyond or not wanted:
        raise SemhubError(f"layers= takes residual entries 0 to {last} (negative from the end), got {_few(beyond)}.")
    return tuple(sorted({layer % (last + 1) for layer in wanted} | {last}))


def _few(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} and {len(numbers) - 1} others" if len(numbers) > 6 else str(list(numbers))


def tokens_to_keep(top_k: int | None, d_vocab: int) -> int:
    """The number of tokens to keep."""
    if top_k is None:
        return min(10, d_vocab)
    if not 1 <= top_k <= d_vocab:
        raise SemhubError(f"top_k must be between 1 and the vocabulary's {d_vocab}, got {top_k}.")
    return top_k
