"""Text to display: text from outside made safe, and the fields of a result in one line.

Characters that control a terminal or reverse lines are shown by name.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import is_dataclass
from textwrap import shorten
from typing import Any

from torch import Tensor

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


def told(fields: Mapping[str, Any]) -> str:
    """The fields of a result in one line, without empty ones."""
    return ", ".join(_told(name, value) for name, value in fields.items() if not _is_empty(value))


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, dict | tuple | list | str) and not value)


def _told(name: str, value: Any) -> str:
    """A short description: the shape of a tensor, each tensor of a mapping, the size of a collection."""
    if isinstance(value, Tensor):
        return f"{name} [{' '.join(map(str, value.shape))}]"
    if isinstance(value, dict) and all(isinstance(entry, Tensor) for entry in value.values()):
        return ", ".join(_told(str(key), entry) for key, entry in value.items())
    if isinstance(value, dict | tuple | list):
        return f"{name} ({len(value)})"
    if isinstance(value, str):
        return f"{name} {shorten(value, 60, placeholder='…')!r}"
    if isinstance(value, float):
        return f"{name} {value:.4g}"
    return f"{name} {type(value).__name__ if is_dataclass(value) else value}"
