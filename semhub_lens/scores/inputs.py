"""Checks for all text scores: the texts, and the optional packages."""

from collections.abc import Sequence

from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.speller import require_characters


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """A text or several, as a list.

    Raises:
        SemhubError: no texts, an entry that is not a text, or half of a character in a text.
    """
    listed = [texts] if isinstance(texts, str) else list(texts)
    if not listed:
        raise SemhubError("The list of texts is empty; pass at least one text.")
    for entry in listed:
        if not isinstance(entry, str):
            raise SemhubError(f"A text to score must be a str, got {type(entry).__name__}.")
        require_characters(entry)
    return listed
