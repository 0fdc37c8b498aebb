"""Text from outside, made safe to display: characters that control a terminal or reverse lines are shown by name."""

import unicodedata

NAMED = ("Cc", "Cs", "Zl", "Zp")
"""Controls, lone surrogates (files cannot store them), and line and paragraph separators."""
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates of writing direction: they can also reverse the text after them."""


def harmless(text: str, kept: str = "") -> str:
    r"""The text with control characters shown by name; those in `kept` stay.

    Joiners and other marks that scripts need stay too.

    Example:
        >>> from semhub_lens.base.shown_text import harmless
        >>> harmless("red\x1b[31m dog\n", kept="\n")
        'redU+001B[31m dog\n'
    """
    if text.isprintable():  # most are, and pages hold many
        return text
    return "".join(
        f"U+{ord(char):04X}" if char not in kept and (char in TURNING or unicodedata.category(char) in NAMED) else char
        for char in text
    )
