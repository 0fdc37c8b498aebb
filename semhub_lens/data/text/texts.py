"""Bundled parallel texts and glossaries, written for this library (MIT like the code).

`sentences` are 160 everyday sentences and `passages` are 30 short stories, both in English, French, Spanish, German and
Chinese. Rows with the same index are translations. `glossary` has one-word English glosses of words in these texts, the
best one first. `concepts` are 72 everyday nouns in the five languages, one word each.
"""

import csv
from importlib.resources import files

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError

BUNDLED = ("en", "fr", "es", "de", "zh")


def sentences() -> dict[str, list[str]]:
    """Parallel sentences by language; entries with the same index are translations.

    Example:
        >>> from semhub_lens.data.text.texts import sentences
        >>> {code: len(column) for code, column in sentences().items()}
        {'en': 160, 'fr': 160, 'es': 160, 'de': 160, 'zh': 160}
    """
    return _columns("sentences.tsv")


def passages() -> dict[str, list[str]]:
    """Parallel passages of three to five sentences by language.

    Example:
        >>> sorted(passages()), len(passages()["en"]) == len(passages()["zh"])
        (['de', 'en', 'es', 'fr', 'zh'], True)
    """
    return _columns("passages.tsv")


def concepts() -> dict[str, list[str]]:
    """Nouns by language; entries with the same index are names of the same concept.

    Example:
        >>> nouns = concepts()
        >>> nouns["fr"][nouns["en"].index("dog")]
        'chien'
    """
    return _columns("nouns.tsv")


@checked
def glossary(language: str) -> dict[str, tuple[str, ...]]:
    """English one-word glosses of words in `language`, the best first.

    Raises:
        SemhubError: no glossary for that language.

    Example:
        >>> "dog" in glossary("fr")["chien"]
        True
    """
    rows = [row for row in bundled_rows("glosses.tsv") if row["lang"] == language]
    if not rows:
        raise SemhubError(f"No bundled glossary for {language!r}; there are fr, es, de and zh.")
    return {row["word"]: tuple(row["gloss"].split("|")) for row in rows}


def _columns(name: str) -> dict[str, list[str]]:
    rows = bundled_rows(name)
    return {code: [row[code] for row in rows] for code in BUNDLED}


def bundled_rows(name: str) -> list[dict[str, str]]:
    """The rows of a bundled table by column."""
    with (files("semhub_lens.data") / "bundled" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
