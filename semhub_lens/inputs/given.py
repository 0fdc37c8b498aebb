"""The forms of prompts that functions accept."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from semhub_lens.inputs.prompts import Prompt

Messages = Sequence[Mapping[str, Any]]
"""A conversation: a list of `{"role": ..., "content": ...}`."""
Encoding = Mapping[str, Any]
"""Token ids as a tokenizer returns them: `input_ids`, and for a padded batch also `attention_mask`."""
OnePrompt = Annotated[
    str | Prompt | Int[Tensor, "..."] | Int[np.ndarray, "..."] | Sequence[int] | Encoding | Messages,
    "a prompt (a text, a Prompt, token ids or chat messages)",
]
"""One prompt: a text, a `Prompt`, one row of token ids, or a conversation."""
Prompts = Annotated[OnePrompt | Iterable[OnePrompt], "prompts (each a text, a Prompt, token ids or chat messages)"]
"""One prompt, an iterable of them (a list, a generator, a data set's `Column`), or a batch of ids `[batch, pos]`."""
