r"""Language adherence: the language of a text according to the identifier `py3langid`.

$$P(\ell \mid x) \propto \exp\bigl(\tfrac{1}{\sqrt{|x|}} \log P(\ell) \prod_g P(g \mid \ell)^{\log(1 + n_g(x))}\bigr)$$

This is naive Bayes over byte n-grams g, which occur $n_g$ times in a text of $|x|$ bytes. It measures form only: real
words of a language in random order count as that language. Texts of one or two words are identified badly.

Source: Lui and Baldwin 2012 (langid.py); py3langid's own model and calibration.
"""

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.text.texts import BUNDLED
from semhub_lens.scores.inputs import as_texts


@checked
def language_of(
    texts: str | Sequence[str], languages: Sequence[str] = BUNDLED, *, among: Literal["given", "all"] = "given"
) -> Float[Tensor, "item lang"]:
    r"""Return P(language | text) for each text.

    The score measures form, not meaning: random words of a language count as that language.

    Args:
        texts: the texts.
        languages: ISO 639-1 codes, the columns of the result.
        among: "given" considers only these languages, so every row sums to 1, and a text in another language counts as
            the nearest one. "all" considers the identifier's 140 languages, so a row sums to at most 1; close relatives
            (Galician, Cantonese, ...) then get part of the probability of short texts.

    Returns:
        Probabilities `[text language]`; a row of NaN for a text without a letter.

    Raises:
        SemhubError: no texts, a language that the identifier lacks or that is listed twice, or py3langid not installed.

    Example:
        >>> language_of(["The rain stopped.", "La lluvia paró."], ["en", "es"]).argmax(1)
        tensor([0, 1])
    """
    listed, columns = as_texts(texts), list(languages)
    identifier = _identifier()
    _check_languages(columns, identifier.labels)
    if among not in ("given", "all"):
        raise SemhubError(f"Unknown among={among!r}; expected 'given' or 'all'.")
    if among == "given":
        identifier = copy(identifier)  # shares the tables; the restriction stays in the copy
        identifier.set_languages(columns)
    rows = [_row(identifier, text, columns) for text in listed]
    return torch.tensor(rows, dtype=torch.float32)


def _row(identifier: Any, text: str, columns: list[str]) -> list[float]:
    if not any(character.isalpha() for character in text):
        return [float("nan")] * len(columns)
    probabilities = dict(identifier.rank(text))
    return [probabilities[language] for language in columns]


def _check_languages(columns: list[str], known: list[str]) -> None:
    if not columns or len(set(columns)) < len(columns):
        raise SemhubError(f"Expected one or more different languages, got {columns}.")
    unknown = [language for language in columns if language not in known]
    if unknown:
        raise SemhubError(
            f"The identifier does not know the language(s) {unknown}; it knows {', '.join(sorted(known))}."
        )


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """The identifier with all its languages, read once (half a second) and never restricted."""
    langid = optional("py3langid.langid", "py3langid", "scores")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
