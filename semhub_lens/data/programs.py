"""Real Python programs: list literals in the standard library of the running Python.

The files differ a little between Python versions; a result's data hash and id tell which were read.
"""

import ast
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_SNIPPET, FEWEST, MOST = 500, 3, 12


@dataclass(frozen=True)
class ListLiteral:
    """A snippet of a program that ends with a list literal."""

    snippet: str
    commas: tuple[int, ...]
    """Character offsets in `snippet` of the commas between the list's elements."""
    origin: str


def source_id() -> str:
    """Name of the corpus, with the Python version it belongs to."""
    return f"CPython {platform.python_version()} standard library"


def list_literals(root: Path | None = None) -> list[ListLiteral]:
    """List literals of 3 to 12 plain elements (names, attributes, constants), each with the lines before it.

    Args:
        root: folder of Python files (not its subfolders); None reads the standard library's top level.

    Raises:
        ValueError: no Python files, or none with a list literal, in `root`.
    """
    folder = Path(sysconfig.get_paths()["stdlib"]) if root is None else Path(root)
    found: dict[str, ListLiteral] = {}
    for path in sorted(folder.glob("*.py")):
        for literal in _literals(path):
            found.setdefault(literal.snippet, literal)
    if not found:
        raise ValueError(f"No list literals found: {folder} holds {len(list(folder.glob('*.py')))} Python files.")
    return list(found.values())


def _literals(path: Path) -> Iterator[ListLiteral]:
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (UnicodeDecodeError, SyntaxError):  # some files of the library's own tests are broken on purpose
        return
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = source.splitlines()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.List)
            and isinstance(node.ctx, ast.Load)
            and FEWEST <= len(node.elts) <= MOST
            and _plain(node)
        ):
            yield from _snippet(source, lines, starts, node, path.name)


def _plain(node: ast.List) -> bool:
    return all(
        isinstance(e, ast.Name | ast.Attribute) or (isinstance(e, ast.Constant) and isinstance(e.value, str | int))
        for e in node.elts
    )


def _snippet(source: str, lines: list[str], starts: list[int], node: ast.List, name: str) -> Iterator[ListLiteral]:
    def offset(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    end = offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
    first = max(1, node.lineno - 6)
    begin = starts[first - 1]
    ends = [offset(e.end_lineno or e.lineno, e.end_col_offset or 0) for e in node.elts]
    commas = [source.find(",", at) for at in ends[:-1]]
    between = [source[a:b] for a, b in zip(ends[:-1], commas, strict=True)]
    if end - begin <= LONGEST_SNIPPET and not any("#" in text or "\n" in text for text in between):
        yield ListLiteral(source[begin:end], tuple(c - begin for c in commas), f"{name}:{node.lineno}")
