"""What a lens keeps of the call that read it, so that its page can give the call as code."""

from collections.abc import Mapping
from typing import Any

from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.prompts import Prompt


def call_of(given: OnePrompt, prompt: Prompt | None, norm: str, own: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that a result does not show, as code; a bare name stands for an object of the user's.

    Args:
        given: the prompt as it came; a text is kept, for tokens alone the token ids of the result do.
        prompt: what was made of it, where that may hold more than tokens.
        norm: of the read-out.
        own: objects by the argument's name, kept where they are not empty.
    """
    found = {name: name for name, value in own.items() if value} | ({} if norm == "final" else {"norm": repr(norm)})
    if prompt is not None and (prompt.media is not None or prompt.embeddings):
        return found | {"prompt": "prompt"}
    return found | ({"prompt": repr(given)} if isinstance(given, str) else {})
