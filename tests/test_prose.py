"""Pages are plain English: no sentence is too long to read once, no word is worn out, odd or vague.

The changelog and the generated tables keep what was true of their day; the reference comes from docstrings.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = {"docs/results.md", "docs/results/verdicts.md", "docs/models.md", "docs/changelog.md"}
PAGES = {
    str(page.relative_to(ROOT)): page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "_build" not in page.parts and str(page.relative_to(ROOT)) not in GENERATED and page.parent.name != "api"
}
LONGEST = 30
"""Words of a sentence. Long ones hold two ideas."""
BANNED = {
    "aforementioned": "name it",
    "as well as": "and",
    "basically": "leave it out",
    "best practice": "say what to do",
    "cutting-edge": "say what is new",
    "delve": "look at",
    "due to the fact": "because",
    "easily": "leave it out",
    "facilitate": "help, let",
    "furthermore": "also",
    "hangs off": "uses, is built on",
    "hitherto": "so far",
    "in order to": "to",
    "in the event that": "if",
    "it is important to note": "leave it out",
    "just works": "say what works",
    "leverage": "use",
    "moreover": "also",
    "obviously": "leave it out",
    "please note": "leave it out",
    "powerful": "say what it does",
    "seamless": "say what works",
    "simply": "leave it out",
    "state-of-the-art": "name the rival and the number",
    "subsequently": "then",
    "thereof": "of it",
    "utilise": "use",
    "utilize": "use",
    "very": "leave it out",
    "whereby": "by which",
    "wherein": "where",
}
ALLOWED = {"this very model": "a fixed phrase: no other model"}
BLOCKS = re.compile(r"^(`{3,}|:{3,}).*?^\1\s*$|<!--.*?-->|^\$\$.*?\$\$$", re.DOTALL | re.MULTILINE)
ENDS = re.compile(r"(?<=[.!?:])[\"')*]*\s+(?=[\"'(*\[`$A-Z0-9])|(?<=;)\s+")


def paragraphs(text):
    """Prose without code, tables, formulas, pictures and markup; an item of a list is a paragraph."""
    text = BLOCKS.sub("\n", text)
    text = re.sub(r"^#+ .*$|^\|.*$|^!\[.*$|^\([\w-]+\)=$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ *(?:[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\{[\w:]+\}`~?([^`]*)`", r"\1", text)
    text = re.sub(r"!?\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`|\$[^$]+\$|\[[-.\d, ]+\]", "X", text)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences(text):
    """Sentences; a semicolon ends one too, and a colon before a capital."""
    return [found for part in paragraphs(text) for found in ENDS.split(part)]


def words(sentence):
    return re.findall(r"[^\W_][\w'.-]*", re.sub(r"\([^()]*\)", "", sentence))


def too_long(text):
    return [f"{len(words(found))} words: {found}" for found in sentences(text) if len(words(found)) > LONGEST]


def worn_out(text):
    prose = "\n".join(paragraphs(text)).lower()
    for phrase in ALLOWED:
        prose = prose.replace(phrase, "")
    return [f"{word}: {better}" for word, better in BANNED.items() if re.search(rf"\b{re.escape(word)}\b", prose)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_plain_english(page):
    text = PAGES[page].read_text(encoding="utf-8")
    assert [*worn_out(text), *too_long(text)] == []


def test_what_is_no_prose_is_not_read():
    code = "```python\nvery = 1\n```\n| very | wide |\n\n`very` and [very](very.md) good. Long " + "word " * 38 + "end."
    assert worn_out(code) == ["very: leave it out"]
    assert [found.split(":")[0] for found in too_long(code)] == ["40 words"]
    assert too_long("- " + "word " * 20 + "end.\n- " + "word " * 20 + "end.") == []
