"""Programs without the words of their instruction: a control for shared spelling."""

import keyword
import re
from collections.abc import Iterator

from semhub_lens.base.arguments import checked

STEM = 4
"""Letters: `parse` and `parsing` count as one word."""
_IDENTIFIER = re.compile(r"(?<!\w)(?![rbfuRBFU]{1,2}[\"'])[A-Za-z_]\w*", re.ASCII)
"""Not the letters before a string."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@checked
def rename_shared(program: str, instruction: str) -> str:
    """Replace every name of a program that shares a word with its instruction by `v1`, `v2`, ....

    A name is replaced by the same new name everywhere, also in strings and comments; keywords stay. Two words are
    shared if their first four letters are equal. So some other words are replaced too, and synonyms stay.

    Example:
        >>> from semhub_lens.data.code.renaming import rename_shared
        >>> rename_shared("def parse_url(text): return split(text)", "Parsing the given URL.")
        'def v1(text): return split(text)'
    """
    stems = set(word_stems(instruction))
    free = (name for name in _fresh_names() if name not in program)
    names: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        name = match[0]
        if keyword.iskeyword(name) or stems.isdisjoint(word_stems(name)):
            return name
        if name not in names:
            names[name] = next(free)
        return names[name]

    return _IDENTIFIER.sub(renamed, program)


def word_stems(text: str) -> list[str]:
    """First letters of the words of a text, or of the parts of `snake_case` and `camelCase` names."""
    return [word.lower()[:STEM] for word in _WORD.findall(text)]


def _fresh_names() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"v{number}"
