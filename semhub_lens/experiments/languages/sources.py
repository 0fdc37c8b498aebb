"""Sources that `data=` accepts: the paper's corpora, or your own texts, in place of the bundled items.

Running text is given as `CODE=SOURCE`: a language code, then a file, folder or data set that `read_texts` accepts.
`cedict=FILE` gives a CC-CEDICT file. Commas separate several entries, such as
`zh=wikimedia/wikipedia:20231101.zh,cedict=cedict_ts.u8`.
"""

from collections.abc import Mapping, Sequence

from semhub_lens.base.errors import SemhubError
from semhub_lens.data.text.corpora import read_texts
from semhub_lens.data.text.gale_cedict import read_cedict, read_gale
from semhub_lens.data.text.texts import glossary, passages, sentences

LONGEST = 400
"""Characters read of each text; the bundled stories are about as long."""
TEXTS = 200
"""Number of texts read from a source."""


def parallel(data: str | None) -> tuple[dict[str, list[str]], str]:
    """Parallel sentences by language, and the data's name: bundled, or from a GALE folder (Chinese and English)."""
    if data is None:
        return sentences(), "bundled sentences"
    return read_gale(data), f"GALE, {data}"


def running(
    data: str | None, codes: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, Mapping[str, tuple[str, ...]]], str]:
    """Texts and glossaries by language, and the data's name: the bundled stories, or the user's own texts.

    Raises:
        SemhubError: an entry that is not `CODE=SOURCE`, an unknown code, or a source that cannot be read.
    """
    named = parse(data, (*codes, "cedict"))
    texts = {code: passages()[code] for code in codes} if not set(named) - {"cedict"} else {}
    texts |= own_texts(named)
    glossaries: dict[str, Mapping[str, tuple[str, ...]]] = {code: glossary(code) for code in texts}
    if "cedict" in named:
        glossaries["zh"] = read_cedict(named["cedict"])
    return texts, glossaries, "bundled passages" if data is None else str(data)


def plain(data: str | None, codes: Sequence[str]) -> tuple[dict[str, list[str]], str]:
    """Texts by language without glossaries: the bundled sentences, or the user's own texts."""
    if data is None:
        return {code: sentences()[code] for code in codes}, "bundled sentences"
    return own_texts(parse(data, codes)), str(data)


def own_texts(named: Mapping[str, str]) -> dict[str, list[str]]:
    """The beginnings of the texts in the sources, each cut at a space or the end of a sentence."""
    return {
        code: [shortened(text) for text in read_texts(source, limit=TEXTS)]
        for code, source in named.items()
        if code != "cedict"
    }


def shortened(text: str) -> str:
    """At most `LONGEST` characters of a text, cut after the last space or full stop if there is one.

    Example:
        >>> from semhub_lens.experiments.languages.sources import shortened
        >>> shortened("word " * 200)[-5:], len(shortened("word " * 200))
        (' word', 399)
    """
    if len(text) <= LONGEST:
        return text
    cut = text[:LONGEST]
    end = max(cut.rfind(mark) for mark in (" ", "。", "，"))
    return (cut[: end + 1] if end > 0 else cut).rstrip(" ")


def parse(data: str | None, known: Sequence[str]) -> dict[str, str]:
    """`CODE=SOURCE` entries, separated by commas.

    Example:
        >>> from semhub_lens.experiments.languages.sources import parse
        >>> parse("zh=owner/name:zh,cedict=cedict_ts.u8", ("zh", "cedict"))
        {'zh': 'owner/name:zh', 'cedict': 'cedict_ts.u8'}
    """
    if data is None:
        return {}
    sources = {}
    for entry in data.split(","):
        name, equals, source = entry.strip().partition("=")
        if not equals or not source or name not in known:
            raise SemhubError(
                f"data={data!r}: expected entries CODE=SOURCE separated by commas, CODE one of {', '.join(known)}; got "
                f"{entry.strip()!r}."
            )
        sources[name] = source
    return sources
