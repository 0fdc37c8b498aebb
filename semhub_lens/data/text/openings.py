"""Neutral openings that can continue with a good or a bad sentiment, parallel in five languages.

The 45 openings were written for this library. They are about restaurants, films, products, trips, days, work and so on.
Each breaks off where either sentiment can follow; word order shifts this point slightly between languages. A base model
may continue in another language, so a prefix states the language before the opening.
"""

from dataclasses import dataclass

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.text.texts import BUNDLED, bundled_rows

LANGUAGE_PREFIXES = {
    "en": "The following text is written in English: ",
    "fr": "Le texte suivant est écrit en français : ",
    "es": "El siguiente texto está escrito en español: ",
    "de": "Der folgende Text ist auf Deutsch geschrieben: ",
    "zh": "以下文字是用中文写的：",
}
"""Prefixes that keep the continuation in the opening's language. They say nothing about its content."""


@dataclass(frozen=True)
class Opening:
    """The start of a short text."""

    text: str
    language: str
    context: str
    """Its topic, such as "restaurant"."""
    row: int
    """The key; translations of one opening have the same key."""

    @property
    def prompt(self) -> str:
        """Language prefix and text."""
        return LANGUAGE_PREFIXES[self.language] + self.text


@checked
def openings(language: str) -> list[Opening]:
    """The openings in one language.

    Raises:
        SemhubError: no openings in that language.

    Example:
        >>> from semhub_lens.data.text.openings import openings
        >>> openings("es")[0].prompt
        'El siguiente texto está escrito en español: Después de la primera cucharada de sopa, pensé que'
    """
    if language not in BUNDLED:
        raise SemhubError(f"No openings in {language!r}; there are {', '.join(BUNDLED)}.")
    rows = bundled_rows("continuations.tsv")
    return [Opening(row[language], language, row["context"], i) for i, row in enumerate(rows)]
