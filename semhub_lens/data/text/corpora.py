"""Running texts and labelled texts from your own files or from Hugging Face `datasets`."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import in_utf8, user_path
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.text.texts import bundled_rows

TEXT_SUFFIXES = (".txt", ".jsonl", ".parquet")
LABELLED_SUFFIXES = (".jsonl", ".csv", ".tsv")
LABELS = ("positive", "negative", "neutral")
LANGUAGES = {
    "arabic": "ar",
    "chinese": "zh",
    "english": "en",
    "french": "fr",
    "german": "de",
    "hindi": "hi",
    "indonesian": "id",
    "italian": "it",
    "japanese": "ja",
    "malay": "ms",
    "portuguese": "pt",
    "spanish": "es",
}
"""Language names of the multilingual-sentiments collection; codes are not changed."""
_HUB_NAME = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?", flags=re.ASCII
)


@dataclass(frozen=True)
class SentimentText:
    """A text with its sentiment."""

    text: str
    label: str
    """positive, negative or neutral."""
    language: str

    @property
    def positive(self) -> bool:
        """Whether the label is positive."""
        return self.label == "positive"


@checked
def read_texts(source: str | Path, *, limit: int | None = None, column: str = "text") -> list[str]:
    """Texts from a file, a folder or a Hugging Face data set; empty ones are left out.

    Args:
        source: a .txt file (one text per line), a .jsonl or .parquet file with a column of texts, a folder of such
            files (read in the order of their names), or a data set as `owner/name:config` (streamed, its `train`
            split), such as `wikimedia/wikipedia:20231101.fr` or `allenai/c4:zh`. An existing path is read as a path.
        limit: the largest number of texts to read; needed for a data set, which may be endless.
        column: the column with the text.

    Raises:
        SemhubError: nothing found, no texts, a malformed line (the message gives file and line), or a data set that
            cannot be loaded.

    Example:
        >>> read_texts("wikimedia/wikipedia:20231101.fr", limit=100)  # doctest: +SKIP
    """
    _check_limit(limit)
    path = user_path(source)
    if path.exists():
        texts = _clean(text for file in _files(path, TEXT_SUFFIXES) for text in _file_texts(file, column))
    else:
        rows, _ = _streamed(str(source), limit)
        texts = _clean(_field(row, column, f"{source}, row {i}") for i, row in enumerate(rows))
    listed = list(islice(texts, limit))
    if not listed:
        raise SemhubError(f"No texts in {source}. Give a file or a data set with text in it.")
    return listed


@checked
def read_sentiments(source: str | Path, *, limit: int | None = None) -> list[SentimentText]:
    """Labelled texts from a file, a folder or a Hugging Face data set.

    Columns are `text`, `label` and `language` (or `lang`). Labels are positive, negative or neutral. In a data set,
    they may be numbers if the data set has names for them. Languages are codes, or English names as in
    multilingual-sentiments.

    Args:
        source: a .jsonl, .csv or .tsv file, a folder of such files, or a data set as `owner/name:config@revision`,
            such as `tyqiangz/multilingual-sentiments:all`. If `datasets` refuses one for its loading script, try
            `@refs/convert/parquet`.
        limit: the largest number of rows to read; needed for a data set.

    Raises:
        SemhubError: nothing found, a row without these columns or with another label (the message gives its place), or
            a data set that cannot be loaded.

    Example:
        >>> read_sentiments("reviews.csv")  # doctest: +SKIP
    """
    _check_limit(limit)
    path = user_path(source)
    if path.exists():
        rows = (entry for file in _files(path, LABELLED_SUFFIXES) for entry in _labelled_rows(file))
        names = None
    else:
        streamed, names = _streamed(str(source), limit)
        rows = ((row, f"{source}, row {i}") for i, row in enumerate(streamed))
    labelled = [_labelled(row, line_name, names) for row, line_name in islice(rows, limit)]
    if not labelled:
        raise SemhubError(f"No rows in {source}; expected columns text, label and language.")
    return labelled


def sentiments() -> list[SentimentText]:
    """The bundled sentences with a sentiment: 248 in English, 84 each in French, Spanish, German and Chinese.

    In each language, half are positive and half negative. They were written for this library. Topics differ between
    languages, so that a classifier cannot memorise translations.

    Example:
        >>> sum(text.language == "fr" for text in sentiments())
        84
    """
    return [SentimentText(row["text"], row["label"], row["lang"]) for row in bundled_rows("sentiment.tsv")]


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise SemhubError(f"limit = {limit}; expected a positive number, or None for everything.")


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(file for file in path.iterdir() if file.suffix in suffixes) if path.is_dir() else [path]
    if not files or files[0].suffix not in suffixes:
        raise SemhubError(f"Expected a file {', '.join(suffixes)} or a folder with such files, got {path}.")
    return files


def _clean(texts: Iterable[str]) -> Iterator[str]:
    return (stripped for text in texts if (stripped := text.strip()))


def _field(row: Any, column: str, line_name: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        got = sorted(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise SemhubError(f"{line_name}: expected a text in {column!r}, found {got}.")
    return row[column]


def _file_texts(file: Path, column: str) -> Iterator[str]:
    if file.suffix == ".txt":
        yield from _lines(file)
    elif file.suffix == ".jsonl":
        yield from (_field(row, column, line_name) for row, line_name in _json_rows(file))
    else:
        with _parquet(file) as table:
            if column not in table.schema_arrow.names:
                raise SemhubError(f"{file}: expected a column {column!r}, found {table.schema_arrow.names}.")
            for i, batch in enumerate(table.iter_batches(columns=[column])):
                yield from (_field(row, column, f"{file}, batch {i}") for row in batch.to_pylist())


def _lines(file: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a file in UTF-8, without the mark that some editors write at its start."""
    with in_utf8(file), file.open(encoding="utf-8-sig", newline=newline) as lines:
        yield from lines


def _parquet(file: Path) -> Any:
    try:
        return optional("pyarrow.parquet", "pyarrow", "data").ParquetFile(file)
    except ValueError as error:  # of pyarrow
        if isinstance(error, SemhubError):
            raise
        raise SemhubError(f"{file} cannot be read as parquet: {error}.") from error


def _json_rows(file: Path) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            try:
                yield json.loads(line), f"{file}:{number}"
            except json.JSONDecodeError as error:
                raise SemhubError(f"{file}:{number}: expected a JSON object: {error}.") from error


def _labelled_rows(file: Path) -> Iterator[tuple[Any, str]]:
    if file.suffix == ".jsonl":
        yield from _json_rows(file)
        return
    tabs = file.suffix == ".tsv"
    rows = csv.DictReader(
        _lines(file, newline=""), delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    )
    for row in rows:
        yield row, f"{file}:{rows.line_num}"


def _labelled(row: Any, line_name: str, names: list[str] | None) -> SentimentText:
    text = _field(row, "text", line_name).strip()
    language = _field(row, "language" if "language" in row else "lang", line_name).strip()
    label = row.get("label")
    if names is not None and isinstance(label, int) and 0 <= label < len(names):
        label = names[label]
    if not text or not language or label not in LABELS:
        raise SemhubError(f"{line_name}: expected a text, a language and a label among {', '.join(LABELS)}, got {row}.")
    return SentimentText(text, label, LANGUAGES.get(language.lower(), language))


def _streamed(source: str, limit: int | None) -> tuple[Iterable[Any], list[str] | None]:
    """Rows of a data set, and the names of its labels if it has any."""
    match = _HUB_NAME.fullmatch(source)
    if match is None or source.endswith(TEXT_SUFFIXES + LABELLED_SUFFIXES):
        raise SemhubError(
            f"Expected a file or folder, or a data set as owner/name:config; found nothing at {source!r}."
        )
    if limit is None:
        raise SemhubError(f"{source!r} is not a path here, so it is read as a data set: pass a limit.")
    datasets = optional("datasets", "datasets", "data")
    try:
        data = datasets.load_dataset(
            match["name"], match["config"], split="train", streaming=True, revision=match["revision"]
        )
    except (OSError, ValueError, RuntimeError) as error:  # no network, no such name, a loading script
        raise SemhubError(f"{source!r} is not a path here, and as a data set it cannot be loaded: {error}") from error
    features = data.features or {}
    return data, getattr(features.get("label"), "names", None)
