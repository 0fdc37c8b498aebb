"""The notebooks: what every one of them has, what is stored of it, and that it runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import notebooks
import semhub_lens as shl
import test_prose as prose
from lines import HOOKED_LINE

ROOT = Path(__file__).parent.parent
NAMES = (
    "1_logit_lens",
    "2_languages_and_similarity",
    "3_steering_and_patching",
    "4_compose_your_own_hooks",
    "5_pictures_and_sound",
    "6_your_own_model_and_data",
    "7_the_paper",
)
LONGEST_FUNCTION, LARGEST = 3, 400_000
"""Lines of a function, its first one included; bytes of a notebook."""
every_notebook = pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs_of(notebook):
    return [output for cell in code_of(notebook) for output in cell.outputs]


def long_functions(source):
    tree = ast.parse(re.sub(r"%pip.*", "pass", source))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef)]
    return [node for node in found if node.end_lineno - node.lineno >= LONGEST_FUNCTION]


def test_the_notebooks_are_the_seven():
    assert tuple(path.stem for path in notebooks.NOTEBOOKS) == NAMES


@every_notebook
def test_a_notebook_asks_says_what_it_does_not_show_and_ends_with_an_exercise(path):
    cells = read(path).cells
    assert 10 <= len(cells) <= 20
    first, start, last = cells[0].source, cells[1].source, cells[-1].source
    assert first.startswith(f"# {path.stem[0]}. ") and "**Question.**" in first
    assert re.search(r"takes about .* (second|minute)s? on two cores", " ".join(first.split()))
    assert cells[1].cell_type == "code" and "import semhub_lens as shl" in start
    assert "%pip install" in start and "Colab" in start
    assert "## What this does not show" in last and "## Exercise" in last


@every_notebook
@pytest.mark.parametrize("folder, printed", [("semhub_lens/semhub_lens", "\n"), ("semhub_lens", "")])
def test_the_first_cell_installs_what_is_not_there(path, folder, printed, tmp_path):
    """In Colab, the clone is a folder of the package's name next to the notebook; `find_spec` finds it."""
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "__init__.py").write_text("")
    start = code_of(read(path))[0].source.partition("import semhub_lens")[0].replace("%pip", "print() #")
    bare = [sys.executable, "-ES", "-c", start]
    assert subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == printed


@every_notebook
def test_the_code_of_a_notebook_is_short_and_its_words_are_plain(path):
    notebook = read(path)
    assert [node.lineno for cell in code_of(notebook) for node in long_functions(cell.source)] == []
    assert max(len(cell.source.splitlines()) for cell in code_of(notebook)) <= 16
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert [*prose.worn_out(text), *prose.too_long(text)] == []


def test_a_long_function_is_noticed():
    assert long_functions("def f(x):\n    y = x\n    return y\n") == []
    assert len(long_functions("def f(x):\n    y = x\n    y += 1\n    return y\n")) == 1


@every_notebook
def test_what_is_stored_of_a_notebook_is_light_and_shows_pictures(path):
    notebook = read(path)
    assert path.stat().st_size < LARGEST
    ran = [cell.execution_count for cell in code_of(notebook)]
    assert ran == list(range(1, len(ran) + 1)), "stored by one run from top to bottom: python tests/notebooks.py"
    shown = outputs_of(notebook)
    assert [output for output in shown if output.output_type == "error" or output.get("name") == "stderr"] == []
    kinds = [{*output.get("data", {})} for output in shown]
    assert sum(bool(kind & {*notebooks.PICTURES}) for kind in kinds) >= 3
    assert {kind for found in kinds for kind in found} <= {*notebooks.PICTURES, "text/html", "text/plain"}
    tables = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert not [table for table in tables if any(tag in table for tag in notebooks.HEAVY)]


@pytest.mark.parametrize("name", notebooks.LEGS)
def test_a_saved_run_is_there_and_has_the_legs_of_the_paper(name):
    run = shl.load_result(notebooks.RUNS / f"{name}.safetensors")
    assert run.id == name and tuple(leg.title for leg in run.legs) == notebooks.LEGS[name]


@pytest.mark.parametrize("name", notebooks.LEGS)
def test_the_results_page_shows_the_saved_run_as_it_is_drawn_today(name):
    page = (notebooks.ROOT / "docs" / "results" / "index.md").read_text(encoding="utf-8")
    assert f"(../_static/runs/{name}.svg)" in page
    stored = (notebooks.FIGURES / f"{name}.svg").read_text(encoding="utf-8")
    assert stored == notebooks.drawn(name), "draw it again: python tests/notebooks.py figures"


def test_a_lens_is_stored_as_its_picture_a_figure_as_its_still_and_a_small_table_as_it_is(tiny_model):
    lens = shl.logit_lens(tiny_model, "three plus two", progress=False)
    (kept,) = [notebooks.light(new_output("display_data", lens._repr_mimebundle_()))]
    assert {*kept.data} == {"image/svg+xml", "text/plain"}
    figure = shl.figure(lens)
    drawn = {notebooks.PLOTLY: figure.to_dict(), "text/html": "<div><script>", "text/plain": "Figure(...)"}
    assert {*notebooks.light(new_output("display_data", drawn)).data} == {"image/svg+xml"}
    table = lens.to_frame().head(2)
    kept = notebooks.light(new_output("display_data", {"text/html": table.to_html(), "text/plain": repr(table)}))
    assert {*kept.data} == {"text/html", "text/plain"}
    assert notebooks.light(new_output("display_data", {"text/html": "<iframe>"})) is None


def shows_its_figures(notebook):
    shown = outputs_of(notebook)
    assert [output.text for output in shown if output.get("name") == "stderr"] == []
    drawn = [output for output in shown if {*notebooks.PICTURES, notebooks.PLOTLY} & {*output.get("data", {})}]
    assert len(drawn) >= 3


@pytest.mark.real
@pytest.mark.slow
@every_notebook
def test_every_notebook_runs_and_shows_its_figures(path):
    shows_its_figures(*notebooks.executed(path))


@pytest.mark.notebook
@pytest.mark.real
@pytest.mark.slow
def test_on_the_other_line_all_notebooks_run_in_one_kernel():
    """That each stands for itself is tested on the first line; here they load one model, to save time."""
    if HOOKED_LINE:
        pytest.skip("each runs alone")
    for notebook in notebooks.executed(*notebooks.NOTEBOOKS):
        shows_its_figures(notebook)


@pytest.mark.slow
def test_without_ipywidgets_nothing_is_pink_and_no_bar_stays():
    """Not even where it loads; the first cell of the notebook hides that package."""
    hidden = f"import sys\nsys.modules['ipywidgets'] = None\nsys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}"
    load = "import semhub_lens as shl, models\nfrom semhub_lens.base import progress\nprogress.SOON = 0"
    lens = "shl.logit_lens(models.tiny('bridge'), 'three plus two')"
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in (hidden, load, lens)])
    notebooks.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    bar, result = outputs_of(notebook)
    assert bar.data == {"text/html": "", "text/plain": ""} and "srcdoc" in result.data["text/html"]


def test_notebooks_of_one_kernel_share_the_model_and_keep_their_outputs(tmp_path, monkeypatch):
    """A module of the name `stand_in` plays the package, so that no model is loaded."""
    monkeypatch.setattr(notebooks, "SHARED", notebooks.SHARED.replace("semhub_lens", "stand_in"))
    load = "import stand_in as shl\nmodel = shl.load('nothing')\nprint(model)"
    for name in "ab":
        nbformat.write(new_notebook(cells=[new_code_cell(load), new_code_cell(f"print({name!r})")]), tmp_path / name)
    (tmp_path / "stand_in.py").write_text("def load(name):\n    print('loading', name)\n    return 'a model'\n")
    first, second = notebooks.executed(tmp_path / "a", tmp_path / "b")
    printed = [["".join(output.text for output in cell.outputs) for cell in each.cells] for each in (first, second)]
    assert printed == [["loading nothing\na model\n", "a\n"], ["a model\n", "b\n"]]
