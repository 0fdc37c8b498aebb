"""In a real JupyterLab: what a result shows without plotly and widgets there, and that the explorer answers."""

from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import torch

import models
import semhub_lens as shl
from chrome import Chrome, until
from explored import cells, in_chromium, percent, probabilities
from lab import PINK, Lab

pytest.importorskip("jupyterlab")
pytestmark = [pytest.mark.slow, in_chromium]
TEXT, OTHER = "three plus two", "red dog plus cat"
MODEL = "import semhub_lens as shl, models\nmodel = models.tiny(models.BACKENDS[-1])"
LENS = f"lens = shl.logit_lens(model, {TEXT!r})\nlens.save('lens.safetensors')\nlens"
CURVE = "shl.target_lens(model, ['three plus'], [['two']])"
EXPLORER = "explorer = shl.explore(model)\nexplorer"
CELLS = [MODEL, EXPLORER, "explorer.result.save('explored.safetensors')", "'one more'"]
ROOT = "[...document.querySelectorAll('.jp-OutputArea-output *')].find(n => n.shadowRoot?.querySelector('.ask'))"
SHOWN = "Object.fromEntries([...document.querySelectorAll('.cell')].map(c => [c.id, c.textContent]))"


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    browser = Chrome(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.close()


def words(lens):
    """What stands in the cells of a lens."""
    layers, positions = lens.entropy.shape
    strings = lens.strings()
    return {(layer, pos): strings[layer][pos][0] for layer in range(layers) for pos in range(positions)}


def drawn(tab):
    """What the only frame of a page shows in its cells, once it is there."""
    found = until(lambda: tab.in_frame(SHOWN))
    return {tuple(int(i) for i in name[1:].split("-")): text for name, text in found.items()}


def kinds(tab, cell):
    """What is shown of a cell's outputs."""
    found = f"document.querySelectorAll('.jp-CodeCell')[{cell}].querySelectorAll('.jp-OutputArea-output')"
    return tab.js(f"[...{found}].map(n => n.dataset.mimeType)")


def stayed(tab, lab):
    """Nothing failed in the page, and nothing was asked of another machine."""
    asked = tab.requests() + [event["url"].replace("ws:", "http:") for event in tab.events("Network.webSocketCreated")]
    assert len(asked) > 20 and [url for url in asked if not url.startswith((lab.address, "data:", "blob:"))] == []
    assert not tab.faults()


def assert_measured_here(lens, text):
    """The kernel's lens is that of the same model in this process."""
    here = shl.logit_lens(models.tiny(models.BACKENDS[-1]), text, progress=False)
    assert lens.labels == here.labels and torch.equal(lens.top_ids, here.top_ids)
    assert torch.allclose(lens.top_logprobs, here.top_logprobs, atol=1e-4)


def test_the_server_has_neither_plotly_nor_this_package_and_asks_for_its_token(lab):
    code = "import importlib.util as u; print([n for n in ('plotly', 'semhub_lens', 'anywidget') if u.find_spec(n)])"
    assert lab.command(lab.python, "-c", code) == "[]\n"
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{lab.address}api/contents")


def test_results_show_themselves_where_jupyterlab_has_neither_plotly_nor_widgets(lab, chrome):
    lab.write("results.ipynb", MODEL, LENS, CURVE, EXPLORER, "import sys\nprint('x', file=sys.stderr)")
    tab = lab.open(chrome, "results.ipynb")
    lab.run(tab, 0, 1, 2, 3)
    assert [{*kinds(tab, cell)} for cell in range(4)] == [set(), {"text/html"}, {"text/html"}, {"text/html"}]
    lens = shl.load_result(lab.notebooks / "lens.safetensors")
    assert_measured_here(lens, TEXT)
    assert drawn(tab) == words(lens)
    outputs = tab.js("[...document.querySelectorAll('.jp-OutputArea-output')].map(n => n.textContent)")
    assert not any(f in "".join(outputs) for f in ("tensor(", "object at", "reading out"))
    assert tab.js("document.querySelectorAll('.jp-OutputArea-output svg path').length") > 2  # the curve
    assert outputs[-1].startswith("The form needs the package anywidget where Jupyter itself runs.")
    assert tab.js(f"document.querySelectorAll({PINK!r}).length") == 0
    lab.run(tab, 4)
    assert tab.js(f"document.querySelectorAll({PINK!r}).length") == 1  # so it looks where there is something
    stayed(tab, lab)
    lab.save(tab)
    tab.close()
    lab.command(lab.python, "-m", "jupyter", "nbconvert", "--to", "html", "--template", "basic", "results.ipynb")
    page = chrome.open((lab.notebooks / "results.html").as_uri())
    assert drawn(page) == words(lens)
    page.close()


def form(tab):
    """Wait for the explorer, and look only there from now on."""
    tab.until(ROOT)
    tab.js(f"window.root = {ROOT}.shadowRoot; null")
    tab.root = "root"


def enter(tab, text):
    """Type it as the prompt, once the page has come to rest and a click meets the field."""

    def clicked():
        tab.click(".ask")
        return tab.js("root.activeElement?.matches('.ask')")

    until(clicked)
    tab.js("root.activeElement.select()")
    tab.key(*text)


def answered(tab, text):
    """Wait until the explorer has answered, with the lens of this text."""
    tab.until("root.querySelector('.status').textContent.match(/^[0-9.]+ s$/)")
    labels = tab.js("[...root.querySelectorAll('.input bdi')].map(n => n.textContent)")
    return "".join(labels).replace("␣", " ") == f"<bos>{text}"


@pytest.fixture
def explorer(lab, chrome):
    """A notebook whose explorer has its form, after what the guide says was done."""
    lab.write("explorer.ipynb", *CELLS)
    tab = lab.open(chrome, "explorer.ipynb")
    lab.run(tab, 0, 1)
    assert kinds(tab, 1) == ["text/html"]
    lab.save(tab)
    tab.close()
    lab.follow_the_guide("labextensions")
    tab = lab.open(chrome, "explorer.ipynb")  # its kernel is the same
    lab.run(tab, 1)
    form(tab)
    return tab


def test_the_explorer_answers_what_is_typed_and_the_notebook_gets_no_key_of_it(lab, chrome, explorer):
    enter(explorer, OTHER)
    until(lambda: answered(explorer, OTHER))
    lab.run(explorer, 2)
    lens = shl.load_result(lab.notebooks / "explored.safetensors")
    assert_measured_here(lens, OTHER)
    assert cells(explorer, "c.textContent") == words(lens)
    explorer.hover("#c3-2")
    shown = explorer.js("[...root.querySelectorAll('.panel tr')].map(r => [...r.children].map(c => c.textContent))")
    top = zip(lens.strings()[3][2], probabilities(lens)[3][2], strict=True)
    assert [(row[0], row[2]) for row in shown] == [(text, percent(p)) for text, p in top]
    assert explorer.js(f"document.querySelectorAll({PINK!r}).length") == 0
    stayed(explorer, lab)
    lab.save(explorer)
    explorer.close()
    again = lab.open(chrome, "explorer.ipynb")
    form(again)
    assert cells(again, "c.textContent") == words(lens)
    again.click("#c2-1")  # where nothing can be typed
    again.key("ArrowUp", "ArrowRight", *"ddaxb")  # JupyterLab would delete a cell, add two and cut one
    assert again.js("root.querySelector('.scroll').getAttribute('aria-activedescendant')") == "c3-2"
    enter(again, TEXT)
    until(lambda: answered(again, TEXT))
    dirty = "jupyterapp.shell.currentWidget.context.model.dirty"
    again.js(f"{dirty} = true")
    again.key("Control+s")  # saving alone gets through
    again.until(f"!{dirty}")
    assert [cell.source for cell in lab.saved("explorer.ipynb").cells] == CELLS
    again.close()
