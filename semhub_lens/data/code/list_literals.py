"""List literals in real Python programs, such as those of the standard library of the running Python.

The files differ slightly between Python versions; a result's data hash and id identify them.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.code.source_files import LONGEST_SNIPPET, SourceFile, source_files, source_id

FEWEST, MOST = 3, 12


@dataclass(frozen=True)
class ListLiteral:
    """A snippet of a program that ends with a list literal."""

    snippet: str
    commas: tuple[int, ...]
    """Character offsets in `snippet` of the commas between the list's elements."""
    origin: str


@checked
def list_literals(root: str | Path | None = None) -> list[ListLiteral]:
    """List literals of 3 to 12 plain elements (names, attributes, constants), each with the lines before it.

    Args:
        root: folder of Python files (not its subfolders); None reads the standard library's top level.

    Raises:
        SemhubError: no Python files, or none with a list literal, in `root`.

    Example:
        >>> list_literals("my_package")  # doctest: +SKIP
    """
    literals: dict[str, ListLiteral] = {}
    for file in source_files(root):
        for literal in _literals(file):
            literals.setdefault(literal.snippet, literal)
    if not literals:
        raise SemhubError(f"No list literals found in the Python files of {root or source_id()}.")
    return list(literals.values())


def _literals(file: SourceFile) -> Iterator[ListLiteral]:
    for node in ast.walk(file.tree):
        if (
            isinstance(node, ast.List)
            and isinstance(node.ctx, ast.Load)
            and FEWEST <= len(node.elts) <= MOST
            and _plain(node)
        ):
            yield from _snippet(file, node)


def _plain(node: ast.List) -> bool:
    return all(
        isinstance(e, ast.Name | ast.Attribute) or (isinstance(e, ast.Constant) and isinstance(e.value, str | int))
        for e in node.elts
    )


def _snippet(file: SourceFile, node: ast.List) -> Iterator[ListLiteral]:
    begin, end = file.context(node.lineno), file.end(node)
    ends = [file.end(e) for e in node.elts]
    commas = [file.source.find(",", at) for at in ends[:-1]]
    between = [file.source[a:b] for a, b in zip(ends[:-1], commas, strict=True)]
    if end - begin <= LONGEST_SNIPPET and not any("#" in text or "\n" in text for text in between):
        yield ListLiteral(file.source[begin:end], tuple(c - begin for c in commas), f"{file.name}:{node.lineno}")
