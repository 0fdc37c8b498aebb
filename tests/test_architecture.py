"""The documentation is true of the code: the drawn plan, the paths and names it mentions, the pages of the reference.

`python tests/test_architecture.py` draws the plan anew in docs/architecture.md.
"""

import ast
import re
import textwrap
from pathlib import Path

import pytest

import semhub_lens as shl
import test_layering as layering

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ARCHITECTURE = DOCS / "architecture.md"
PLAN = re.compile(r"(?<=```text\n)base\n.*?(?=```)", re.DOTALL)
"""The drawn plan: the fenced text that begins with the lowest room."""
HISTORY = {"changelog.md", "results.md"}
"""Pages that speak of other versions, or that a command writes."""
PAGES = sorted(p for p in DOCS.rglob("*.md") if p.name not in HISTORY and "_build" not in p.parts)
PAGES.insert(0, ROOT / "README.md")
LONGEST_LINE = 120
IN_BACKTICKS = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PATH = re.compile(r"(?:semhub_lens|tests|docs|notebooks)/[\w./]*|Makefile|pyproject\.toml|conftest\.py")
MODULE = re.compile(r"semhub_lens(?:\.[a-z_]+)+(?:\.\w+)*")
DIRECTIVE = re.compile(r"\.\. (?:auto\w+|py:module|py:data):: semhub_lens\.([\w.]+)")


def drawn_plan(imports):
    """Every room, lowest first, and the rooms whose modules its own modules import."""
    width = max(map(len, layering.ORDER)) + 3
    lines = []
    for room in (name for name in layering.ORDER if not name.startswith("__")):
        used = {
            layering.room(target)
            for module, found in imports.items()
            if layering.room(module) == room
            for target in found
        }
        listed = [name for name in layering.ROOMS if name in used - {room}] + ["the package"] * ("__init__" in used)
        head = f"{room.ljust(width)}<- " if listed else room
        lines.append(
            textwrap.fill(", ".join(listed), 78, initial_indent=head, subsequent_indent=" " * len(head)) or room
        )
    return "\n".join(lines) + "\n"


def real_imports():
    return {name: layering.targets(ast.parse(p.read_text(encoding="utf-8"))) for name, p in layering.files().items()}


def missing_paths(text):
    """Paths in backticks that do not exist, and `path::name` whose file does not hold the name.

    A part in capitals (`semhub_lens/data/DOMAIN.py`) stands for a name that the reader chooses.
    """
    for code in IN_BACKTICKS.findall(text):
        path, _, name = code.partition("::")
        if not PATH.fullmatch(path) or any(part.isupper() for part in re.split(r"[/._]", path)):
            continue
        if not (ROOT / path).exists():
            yield path
        elif name and not re.search(rf"\b{re.escape(name)}\b", (ROOT / path).read_text(encoding="utf-8")):
            yield code


def missing_modules(text):
    """Dotted names in backticks whose module is not in the package, or does not hold the name that follows."""
    for code in IN_BACKTICKS.findall(text):
        dotted = code.removeprefix("~")
        if MODULE.fullmatch(dotted) and not _is_there(dotted.split(".")[1:]):
            yield dotted


def _is_there(parts):
    module = layering.FOLDER
    while parts and (module / parts[0]).is_dir():
        module, parts = module / parts[0], parts[1:]
    if not parts:
        return True
    file = module / f"{parts[0]}.py"
    if not file.is_file():
        return re.search(rf"\b{parts[0]}\b", (module / "__init__.py").read_text(encoding="utf-8")) is not None
    text = file.read_text(encoding="utf-8")
    return all(re.search(rf"\b{part}\b", text) for part in parts[1:])


def long_lines(text):
    """Lines of prose that are too long to read in an editor; code, tables and pictures may be as wide as they are."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in prose.splitlines() if not line.lstrip().startswith(("|", "!["))]
    return [line for line in lines if len(line) > LONGEST_LINE]


def documented():
    pages = (DOCS / "api").glob("*.md")
    return {name for page in pages for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))}


def test_the_drawn_plan_is_that_of_the_imports():
    right = drawn_plan(real_imports())
    found = PLAN.search(ARCHITECTURE.read_text(encoding="utf-8"))
    assert found and found[0] == right, (
        f"docs/architecture.md must show this plan; `python tests/test_architecture.py` writes it:\n{right}"
    )


def test_the_plan_shows_imports_of_whatever_depth_once_and_in_order():
    plan = drawn_plan({"lens.kernel": {"model.readout", "base.errors", "lens.targets"}, "lens.targets": {"base.rng"}})
    assert re.search(r"^lens +<- base, model$", plan, re.MULTILINE)
    assert plan.splitlines()[0] == "base"
    assert re.search(r"^cli +<- the package$", drawn_plan({"cli.main": {"__init__"}}), re.MULTILINE)


@pytest.mark.parametrize("room", layering.ROOMS)
def test_every_room_has_a_row_that_says_what_it_holds_and_what_never(room):
    rows = [line for line in ARCHITECTURE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{room}` |")]
    assert len(rows) == 1 and all(cell.strip() for cell in rows[0].strip("|").split("|"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    assert [*missing_paths(text), *missing_modules(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_read_in_an_editor(page):
    assert long_lines(page.read_text(encoding="utf-8")) == []
    assert long_lines(f"{121 * 'x'}\n```\n{122 * 'y'}\n```\n| {130 * 'z'}") == [121 * "x"]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`semhub_lens/lens/kernel.py`, `semhub_lens/lens`, `tests/data/test_DOMAIN.py`, `lens/x.py`", []),
        ("`semhub_lens/lens/kernel.py::QUANTITIES`", []),
        ("`semhub_lens/lens/kernels.py`", ["semhub_lens/lens/kernels.py"]),
        ("`semhub_lens/lens/kernel.py::QUALITIES`", ["semhub_lens/lens/kernel.py::QUALITIES"]),
        ("{py:obj}`~semhub_lens.model.hooking.Window`, `semhub_lens.residual_stream`", []),
        ("{py:obj}`~semhub_lens.hook_points.Window`", ["semhub_lens.hook_points.Window"]),
        ("`semhub_lens.model.hooking.Windows`", ["semhub_lens.model.hooking.Windows"]),
    ],
)
def test_a_name_that_is_not_there_is_noticed(text, missing):
    assert [*missing_paths(text), *missing_modules(text)] == missing


def test_every_public_name_is_in_the_reference():
    package = ast.parse((layering.FOLDER / "__init__.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(n.value) for n in package.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"
    )
    assert set(names) - documented() == set()


def test_a_tab_offers_what_one_begins_with():
    offered, public = set(dir(shl)), set(shl.__all__)
    assert {"load", "logit_lens", "similarity", "load_result", "Prompt", "Readout"} < offered < public
    returned = {name for name in public - offered if issubclass(getattr(shl, name), shl.Result)}
    assert offered | returned == public, "only results are left out: functions make them"


def test_the_reference_has_a_page_for_every_room_in_the_order_of_the_plan():
    """The command line alone has none: `semhub --help` is its reference."""
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    listed = re.search(r"```\{toctree\}\n:maxdepth: 1\n\n(.*?)\n```", index, re.DOTALL)
    assert listed and listed[1].split() == [room for room in layering.ROOMS if room != "cli"]
    assert {page.stem for page in (DOCS / "api").glob("*.md")} == {"index", *listed[1].split()}


def main():
    """Draw the plan in docs/architecture.md from the imports."""
    text, plan = ARCHITECTURE.read_text(encoding="utf-8"), drawn_plan(real_imports())
    ARCHITECTURE.write_text(PLAN.sub(lambda _: plan, text), encoding="utf-8")
    print(plan, end="")


if __name__ == "__main__":
    main()
