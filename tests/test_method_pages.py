"""The page of every experiment has its formula, items, effect, null, what it does not show, and the reference code."""

import re
from pathlib import Path

import pytest

from semhub_lens.experiments import EXPERIMENTS

PAGES = sorted((Path(__file__).parent.parent / "docs" / "methods").glob("*.md"))
PARTS = {
    "items": r"\*\*Items\*\*",
    "effect": r"\*\*Effect\*\*",
    "null": r"\*\*Null\*\*|\*\*Checks\*\*|\*\*\[Checks\]",
    "what it does not show": r"does not show",
}
"""What the section of an experiment has."""
OF_PAGE = {"formula": r"\$", "reference code": r"(?i)reference code", "limits": r"(do|does) not show"}


def section(experiment, pages):
    """The page of an experiment, and the part below the heading that names it."""
    for page in pages:
        found = re.search(rf"^##+ [^\n]*`?{re.escape(experiment)}`?\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        if found:
            return page, found[1]
    raise AssertionError(f"no page has a heading with {experiment}")


def lacking(experiment, pages):
    """The parts that page and section lack; where all share a limit, the page says it."""
    page, own = section(experiment, pages)
    shared = re.search(r"^## What (it|both|all) do(es)? not show", page, re.MULTILINE)
    wanted = {name: part for name, part in PARTS.items() if not (shared and name == "what it does not show")}
    missing = [name for name, part in wanted.items() if not re.search(part, own)]
    return missing + [name for name, part in OF_PAGE.items() if not re.search(part, page)]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_has_a_section_with_every_part(experiment):
    name = "The experiment probing" if experiment == "probing" else experiment
    assert lacking(name, [page.read_text(encoding="utf-8").replace("`probing`", "probing") for page in PAGES]) == []


def test_a_part_that_is_not_there_is_named():
    whole = "## `a.b`\n**Items** $x$ **Effect** **Null** It does not show c. Reference code: the same.\n"
    assert lacking("a.b", [whole]) == []
    assert lacking("a.b", [whole.replace("**Null**", "")]) == ["null"]
    assert lacking("a.b", [whole.replace("$x$", "")]) == ["formula"]
    assert lacking("a.b", [whole + "## `c.d`\n"]) == []
    assert lacking("c.d", [whole + "## `c.d`\n"]) == ["items", "effect", "null", "what it does not show"]
