"""What a user reads is plain English: no sentence is too long to read once, no word is worn out, odd or vague.

The linter is proselint, with words of our own added and rules for typesetting left out.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from proselint.checks import __register__ as proselint
from proselint.registry.checks import Check, CheckFlags, types
from proselint.tools import LintFile

import links

ROOT = Path(__file__).parent.parent
GENERATED = ["docs/models.md", "docs/results.md", "docs/results/verdicts.md"]
PAGES = {name: text for name, text in links.pages().items() if name.endswith(".md") and name not in GENERATED}
PAGES["docs/changelog.md"] = PAGES["docs/changelog.md"].partition("\n## 0.1.0")[0]
ERRORS = {"SemhubError", "Unfit", "Missing", "Stopped"}
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
ALLOWED = {
    "this very model": "a fixed phrase: no other model",
    "in a word's place": "no cliché: a word's position in a prompt",
    "go up go up": "a model's answer",
    "X x X": "a product of two names that stand in backticks",
}
LEFT_OUT = {
    "restricted": "words for children",
    "typography": "pages are written in plain ASCII",
    "uncomparables": "slow: nine tenths of the time",
    "weasel_words": "our own list has the word",
}
OURS = Check(
    check_type=types.PreferredFormsSimple(items=BANNED),
    path="semhub.worn_out",
    message="{1}: {0}",
    flags=CheckFlags(allow_quotes=True),
)
RULES = [OURS, *(rule for rule in proselint if rule.path_segments[0] not in LEFT_OUT)]
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
    """What the linter says of the prose, each with the words around it."""
    prose = "\n\n".join(paragraphs(text))
    for phrase in ALLOWED:
        prose = prose.replace(phrase, "X")
    page = LintFile("page", prose or "X")
    found = (
        (result, max(result.span[0] - 20, 0), result.span[1] + 20)
        for rule in RULES
        for result in rule.check_with_flags(page.content)
        if rule.flags.allow_quotes or not page.is_quoted_pos(result.span[0])
    )
    return [f"{result.message} (...{' '.join(page.content[low:high].split())}...)" for result, low, high in found]


@cache
def said():
    """By module, what the command line and errors say: help texts, and messages with a name for what is filled in."""
    found = {}
    for name, nodes in links.modules().items():
        calls = (node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS)
        values = [argument for call in calls for argument in call.args[:1]]
        values += [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "help"]
        found[name] = "\n\n".join(filter(None, map(written, values)))
    return {name: text for name, text in found.items() if text}


def written(node):
    """The text of a literal, a formatted literal or a sum of them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(written(value) or f"Q{id(value)}" for value in node.values)
    return f"{written(node.left)}{written(node.right)}" if isinstance(node, ast.BinOp) else ""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_plain_english(page):
    assert [*worn_out(PAGES[page]), *too_long(PAGES[page])] == []


@pytest.mark.parametrize("page", [*PAGES, *GENERATED])
def test_no_line_of_a_page_is_lost(page):
    """A line that starts with a percent sign is a comment of the page, so a wrapped "15 %" must not be cut."""
    assert re.findall(r"^%.*$", BLOCKS.sub("", (ROOT / page).read_text(encoding="utf-8")), flags=re.MULTILINE) == []


def test_what_the_command_line_and_errors_say_is_plain_english():
    assert len(said()) > 80
    assert {name: wrong for name, text in said().items() if (wrong := [*worn_out(text), *too_long(text)])} == {}


def told(docstring):
    """The prose of docstrings: no examples, lists of errors and listings; what is said of an argument stands alone."""
    text = re.sub(r"^ *>>> .*(\n.*\S)*|^\S+/\S+ {2,}.*$", "", docstring, flags=re.MULTILINE)
    text = re.sub(r"^Raises:\n(?: +\S.*\n?|\n(?= ))*", "\n", text, flags=re.MULTILINE)
    return re.sub(r"^(?:[A-Z]\w+:$| {4}[\w, *]+: )", "\n\n", text, flags=re.MULTILINE)


def test_docstrings_are_plain_english():
    rooms = {}
    for name, text in links.docstrings().items():
        rooms[name.split("/")[1]] = f"{rooms.get(name.split('/')[1], '')}\n\n{told(text)}"
    assert {room: wrong for room, text in rooms.items() if (wrong := [*worn_out(text), *too_long(text)])} == {}


def many(count):
    return " ".join(f"a{number}b" for number in range(count))


def test_of_a_docstring_the_prose_is_read():
    arguments = f"Args:\n    a: one.\n    b: {many(40)}.\n\nRaises:\n    SemhubError: {many(50)}.\n\n"
    text = told(f"What.\n\n{arguments}Example:\n    >>> very")
    (found,) = too_long(text)
    assert found.startswith("40 words") and worn_out(text) == []


def test_the_linter_finds_what_is_odd_and_takes_no_quotation():
    assert worn_out("The layer is very deep.") == ["very: leave it out (...The layer is very deep....)"]
    assert any("lexical illusion" in each for each in worn_out("It is is here."))
    assert worn_out('It says "the the" and `very`.') == []


def test_what_is_no_prose_is_not_read():
    code = f"```python\nvery = 1\n```\n| very | wide |\n\n`very` and [very](very.md) good. Long {many(38)} end."
    assert [found.split(" (")[0] for found in worn_out(code)] == ["very: leave it out"]
    assert [found.split(":")[0] for found in too_long(code)] == ["40 words"]
    assert too_long("- " + "word " * 20 + "end.\n- " + "word " * 20 + "end.") == []
