"""The Python code of the pages runs, page by page, on the packaged model that every page shares.

A block that needs a download or a program has a comment before it: `<!-- not run: the reason -->`.
"""

import ast
import re
from pathlib import Path

import pytest

from semhub_lens.workbench.explorer import Explorer

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
PAGES = sorted(
    page for page in DOCS.rglob("*.md") if "_build" not in page.parts and "```python" in page.read_text("utf-8")
)


def blocks(page):
    """Line, code and the reason for not running it, of every block of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text[: found.start("code")].count("\n"), found["code"], found["reason"]) for found in BLOCK.finditer(text)]


def named(page):
    return str(page.relative_to(DOCS))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_python(page):
    found = blocks(page)
    assert len(found) == page.read_text(encoding="utf-8").count("```python\n")
    for _, code, _ in found:
        ast.parse(code)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if not all(reason for *_, reason in blocks(page))], ids=named)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, one_gemma, monkeypatch, tmp_path):
    monkeypatch.setattr("semhub_lens.load", lambda name, **settings: one_gemma)
    monkeypatch.chdir(tmp_path)
    names = {}
    for line, code, reason in blocks(page):
        if not reason:
            exec(compile("\n" * line + code, str(page), "exec"), names)
    for shown in names.values():
        if isinstance(shown, Explorer):
            shown.wait()  # it answers in a thread, on the model that the next page runs


def test_a_block_that_is_not_run_says_why(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: no network -->\n```python\nx\n```\n\n```python\ny\n```\n", encoding="utf-8")
    assert blocks(page) == [(2, "x\n", "no network"), (6, "y\n", None)]
