"""The arguments of a call, read from the text after the opening parenthesis."""

import re

from semhub_lens.base.arguments import checked

PIECE = re.compile(
    r"""
    (?P<triple>\"{3}|'{3})(?:\\.|.)*?(?P=triple)
    | (?P<quote>["'])(?!(?P=quote){2})(?:\\.|(?!(?P=quote))[^\\\n])*(?P=quote)
    | \#[^\n]*
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
"""A whole string, a comment, or one character."""
CLOSING = {"(": ")", "[": "]", "{": "}"}


@checked
def split_arguments(text: str) -> list[str] | None:
    """Arguments up to the parenthesis that closes the call; None if the text does not close it.

    Only commas outside brackets and strings count, and comments are ignored. A comma after the last argument adds none.
    The commas of a bare `lambda a, b: ...` count as commas between arguments.

    Example:
        >>> from semhub_lens.data.code.arguments import split_arguments
        >>> split_arguments("0, len(pair[1, 2])):")
        ['0', 'len(pair[1, 2])']
        >>> split_arguments("len(items")
    """
    pieces, open_brackets = [""], [")"]
    for match in PIECE.finditer(text):
        piece = match[0]
        if piece in ("'", '"'):  # of a string without an end
            return None
        if piece in CLOSING:
            open_brackets.append(CLOSING[piece])
        elif piece in CLOSING.values():
            if piece != open_brackets.pop():
                return None
            if not open_brackets:
                return _plain(pieces)
        if piece == "," and len(open_brackets) == 1:
            pieces.append("")
        elif not piece.startswith("#"):
            pieces[-1] += piece
    return None


def _plain(arguments: list[str]) -> list[str]:
    stripped = [argument.strip() for argument in arguments]
    return stripped if stripped[-1] else stripped[:-1]
