"""Readers for your own copies of licensed corpora and dictionaries: GALE Chinese-English, CC-CEDICT.

Neither is bundled.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import read_utf8, user_path

SIDES = {"zh": "source", "en": "translation"}
SUFFIXES = (".tdf", ".tsv", ".tab")
TRANSCRIPT, START, END = 7, 2, 3
_ENTRY = re.compile(r"(?P<traditional>\S+) (?P<simplified>\S+) \[+(?P<pinyin>[^\[\]]*)\]+ /(?P<glosses>.+)/\s*")
_ONE_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


@dataclass(frozen=True)
class _Segment:
    key: tuple[str, ...]
    text: str
    line: int


@checked
def read_gale(folder: str | Path) -> dict[str, list[str]]:
    """Parallel Chinese and English segments of an LDC GALE release; entries with the same index are translations.

    Expected layout, from LDC's public descriptions and not tested on a licensed copy::

        FOLDER/source/.../NAME.zho.su.tdf        or under FOLDER/data/
        FOLDER/translation/.../NAME.eng.su.tdf

    Two files belong together if their names are equal before `.zho`, `.cmn`, `.eng`, `.su`, `.qrtr` or the suffix. In a
    `.tdf` file, lines that start with `;;` are comments, and a first line that starts with `file;unicode` has the
    column names. The other lines are tab-separated: start and end in columns 3 and 4, the text in column 8. In a `.tsv`
    or `.tab` file, lines are `segment id <tab> text`. Both files must have the same number of segments, with equal
    times or ids in the same order. Pairs with an empty side are left out.

    Returns:
        `{"zh": [...], "en": [...]}`, like `texts.sentences()`.

    Raises:
        SemhubError: a folder or partner is missing, a line is malformed, or segments do not match (the message gives
            file and line).

    Example:
        >>> read_gale("gale")["en"][0]  # doctest: +SKIP
    """
    root = user_path(folder)
    base = root / "data" if (root / "data" / "source").is_dir() else root
    files = {code: _corpus_files(base / side) for code, side in SIDES.items()}
    alone = sorted(set(files["zh"]) ^ set(files["en"]))
    if alone:
        present = (files["zh"] | files["en"])[alone[0]]
        raise SemhubError(f"{present} has no partner: source/ and translation/ must contain the same names.")
    pairs = [pair for name in sorted(files["zh"]) for pair in _matched(files["zh"][name], files["en"][name])]
    if not pairs:
        raise SemhubError(f"No segments in {base}; expected tab-separated segments in source/ and translation/.")
    return {"zh": [chinese for chinese, _ in pairs], "en": [english for _, english in pairs]}


def _corpus_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise SemhubError(f"Expected the folder {folder}; a GALE release has source/ and translation/.")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    if not paths:
        raise SemhubError(f"Expected files {', '.join(SUFFIXES)} in {folder}, found none.")
    named: dict[str, Path] = {}
    for path in paths:
        name = re.split(r"\.(?:zho|cmn|eng|su|qrtr|tdf|tsv|tab)\b", path.name)[0]
        if name in named:
            raise SemhubError(f"{path} and {named[name]} both belong to {name!r}; expected one file on each side.")
        named[name] = path
    return named


def _matched(source: Path, translation: Path) -> list[tuple[str, str]]:
    chinese, english = _segments(source), _segments(translation)
    if len(chinese) != len(english):
        raise SemhubError(
            f"{source} has {len(chinese)} segments, {translation} has {len(english)}; expected equally many."
        )
    for a, b in zip(chinese, english, strict=True):
        if a.key != b.key:
            raise SemhubError(f"{source}:{a.line} is segment {a.key}, but {translation}:{b.line} is segment {b.key}.")
    return [(a.text, b.text) for a, b in zip(chinese, english, strict=True) if a.text and b.text]


def _segments(path: Path) -> list[_Segment]:
    segments = []
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        line, fields = line.rstrip("\r"), line.rstrip("\r").split("\t")
        if not line.strip() or (path.suffix == ".tdf" and (line.startswith(";;") or fields[0] == "file;unicode")):
            continue
        if path.suffix == ".tdf":
            if len(fields) <= TRANSCRIPT:
                raise SemhubError(f"{path}:{number}: expected at least {TRANSCRIPT + 1} columns, found {len(fields)}.")
            segments.append(_Segment((fields[START], fields[END]), fields[TRANSCRIPT].strip(), number))
        else:
            if len(fields) != 2 or not fields[0].strip():
                raise SemhubError(f"{path}:{number}: expected a segment id, a tab and a text, found {line!r}.")
            segments.append(_Segment((fields[0].strip(),), fields[1].strip(), number))
    return segments


@checked
def read_cedict(path: str | Path, *, traditional: bool = False) -> dict[str, tuple[str, ...]]:
    """English one-word glosses of Chinese words from a CC-CEDICT file, in the order of the file.

    Lines are `Traditional Simplified [pin1 yin1] /gloss/gloss/`; `#` starts a comment. Remarks in parentheses and a
    leading "to " are removed. Glosses of several words and notes such as "CL:" are left out, and then words without a
    gloss. Entries with the same spelling are joined. Source: https://www.mdbg.net, licence CC BY-SA 4.0.

    Args:
        path: the `.u8` text file.
        traditional: use the traditional spelling as key, not the simplified one.

    Returns:
        Word to glosses, like `texts.glossary("zh")`.

    Raises:
        SemhubError: no such file, no entry, or a malformed line (the message gives file and line).

    Example:
        >>> read_cedict("cedict_ts.u8")["水"]  # doctest: +SKIP
    """
    file = user_path(path)
    if not file.is_file():
        raise SemhubError(f"Expected a CC-CEDICT text file (cedict_ts.u8), found none at {file}.")
    glosses: dict[str, dict[str, None]] = {}
    for number, line in enumerate(read_utf8(file).split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise SemhubError(
                f"{file}:{number}: expected 'Traditional Simplified [pinyin] /gloss/gloss/', found {line!r}."
            )
        word = match["traditional" if traditional else "simplified"]
        glosses.setdefault(word, {}).update(dict.fromkeys(_one_word_glosses(match["glosses"])))
    if not glosses:
        raise SemhubError(f"No entries in {file}; expected lines such as '朋友 朋友 [peng2 you5] /friend/'.")
    return {word: tuple(entries) for word, entries in glosses.items() if entries}


def _one_word_glosses(text: str) -> list[str]:
    plain = re.sub(r"\([^()]*\)", " ", text)
    parts = (part.strip().removeprefix("to ").strip() for part in re.split(r"[/;]", plain))
    return [part for part in parts if _ONE_WORD.fullmatch(part)]
