"""Python files as text and syntax tree, with offsets in characters."""

import ast
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path

LINES_BEFORE, LONGEST_SNIPPET = 6, 500


def source_id() -> str:
    """Name of the corpus, with the Python version it belongs to."""
    return f"CPython {platform.python_version()} standard library"


@dataclass(frozen=True, eq=False)
class SourceFile:
    """One Python file."""

    name: str
    source: str
    tree: ast.Module

    @cached_property
    def lines(self) -> list[str]:
        """The lines with their ends, as Python counts lines."""
        return self.source.split("\n")

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line) + 1)
        return starts

    def offset(self, line: int, column: int) -> int:
        """Character offset of a line (from 1) and a column in bytes, as syntax trees count them."""
        return self._starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def start(self, node: ast.expr | ast.stmt) -> int:
        """Where a node starts."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Where a node ends."""
        return self.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def text(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node."""
        return self.source[self.start(node) : self.end(node)]

    def context(self, line: int) -> int:
        """The start of a snippet around `line`: a few lines before it."""
        return self._starts[max(1, line - LINES_BEFORE) - 1]


def source_files(root: str | Path | None = None) -> Iterator[SourceFile]:
    """Python files of a folder (not its subfolders) by name; None reads the standard library's top level.

    Files that are not valid UTF-8 or Python are left out: some of the library's are broken on purpose.

    Raises:
        SemhubError: no Python files in `root`.
    """
    folder = Path(sysconfig.get_paths()["stdlib"]) if root is None else user_path(root)
    paths = sorted(folder.glob("*.py"))
    if not paths:
        raise SemhubError(f"Expected a folder with Python files (*.py), found none in {folder}.")
    for path in paths:
        try:
            source = path.read_text(encoding="utf-8-sig")
            yield SourceFile(path.name, source, ast.parse(source))
        except (UnicodeDecodeError, SyntaxError):
            continue
