"""`Column`: one column of a data set as prompts, read row by row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Any

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError


@checked
@dataclass(frozen=True, eq=False)
class Column:
    """One column of a data set, for any function that takes prompts; rows are read only when needed.

    It can be read several times if the data set can. Each item is one row of the data set. So empty texts are refused,
    not skipped; remove them with `data.filter(lambda row: row["text"].strip())`.

    Args:
        rows: a `datasets.Dataset` or `IterableDataset` (streamed or not), or any iterable of mappings.
        name: the column with texts, token ids, or chat messages.
        limit: the largest number of rows to read; None reads all.

    Raises:
        SemhubError: several splits, no rows, a missing column, or a limit below 1.

    Example:
        >>> rows = [{"text": "three plus two"}, {"text": "five"}]
        >>> list(Column(rows, "text", limit=1))
        ['three plus two']
    """

    rows: Any
    name: str = "text"
    limit: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.rows, Mapping):
            names = ", ".join(map(str, self.rows))
            raise SemhubError(
                f"Expected the rows of one data set, got a mapping of {names or 'nothing'}: choose one of them."
            )
        if isinstance(self.rows, str | bytes) or not hasattr(self.rows, "__iter__"):
            raise SemhubError(f"Expected a data set or an iterable of its rows, got {shown(self.rows)}.")
        if self.limit is not None and self.limit < 1:
            raise SemhubError(f"limit= is the largest number of rows to read, at least 1, got {self.limit}.")
        if self._known is not None and self.name not in self._known:
            raise self._missing(self._known, "The data set")

    @property
    def _known(self) -> list[str] | None:
        """Names of the columns, if they are known before the data set is read."""
        return getattr(self.rows, "column_names", None)

    def _missing(self, known: Any, where: str) -> SemhubError:
        return SemhubError(f"{where} has no column {self.name!r}; it has {', '.join(map(str, known)) or 'none'}.")

    def __iter__(self) -> Iterator[Any]:
        rows = self.rows
        if self._known is not None and hasattr(rows, "select_columns"):
            rows = rows.select_columns([self.name])  # pictures in other columns need not be decoded
        for number, row in enumerate(islice(rows, self.limit)):
            if not isinstance(row, Mapping):
                raise SemhubError(f"Row {number} is not a mapping of columns, got {shown(row)}.")
            if self.name not in row:
                raise self._missing(row, f"Row {number}")
            yield row[self.name]

    def __length_hint__(self) -> int:
        """The largest possible number of prompts; 0 if unknown."""
        rows = length_hint(self.rows, 0)
        return min(rows or self.limit, self.limit) if self.limit else rows
