"""JupyterLab in Chromium: its server knows neither plotly nor this package, its kernel is where both are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import models
import semhub_lens as shl
from browser import CHROMIUM
from chrome import Chrome

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")]
TEXT, OTHER = "three plus two", "five plus dog"
TESTS = Path(__file__).resolve().parents[1]
CELLS = (
    f"import models, semhub_lens as shl\nmodel = models.tiny({models.BACKENDS[-1]!r})\n"
    f"lens = shl.logit_lens(model, {TEXT!r}, progress=False)\nlens",
    f"explorer = shl.explore(model, {TEXT!r})\nexplorer",
)
CONFIG = """
c.LabApp.labextensions_path = [{extensions!r}]
c.LabApp.extra_labextensions_path = []
c.LabApp.expose_app_in_browser = True
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.ServerApp.port = 0
c.ServerApp.root_dir = {root!r}
c.ServerApp.open_browser = False
c.ServerApp.allow_root = True
c.IdentityProvider.token = ""
"""
ROOT = "[...document.querySelectorAll('.jp-OutputArea *')].map(e => e.shadowRoot).find(r => r?.querySelector('.ask'))"


def environment(home):
    """Of the server: no plotly and no semhub_lens to import, only widgets as extensions, no settings of a user."""
    hidden, kernel, extensions = home / "hidden", home / "data" / "kernels" / "project", home / "labextensions"
    for folder in (hidden, kernel, home / "config", home / "notebooks", extensions / "@jupyter-widgets"):
        folder.mkdir(parents=True)
    for name in ("plotly", "semhub_lens"):
        (hidden / f"{name}.py").write_text("raise ImportError('not in the environment of the server')\n")
    installed = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    for name in ("anywidget", "@jupyter-widgets/jupyterlab-manager"):
        (extensions / name).symlink_to(installed / name)
    where = {"extensions": str(extensions), "root": str(home / "notebooks")}
    (home / "config" / "jupyter_lab_config.py").write_text(CONFIG.format(**where))
    own = {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "project", "language": "python", "env": own}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    cells = [new_code_cell(source) for source in CELLS]
    kernelspec = {"name": "project", "display_name": "project", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), home / "notebooks" / "a.ipynb")
    places = {f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in ("config", "data", "runtime")}
    return {**os.environ, **places, "HOME": str(home), "PYTHONPATH": str(hidden)}


@pytest.fixture
def lab(tmp_path):
    """The address of a running JupyterLab."""
    settings = environment(tmp_path)
    for name in ("plotly", "semhub_lens"):
        found = subprocess.run(
            [sys.executable, "-c", f"import {name}"], env=settings, capture_output=True, cwd=tmp_path
        )
        assert b"not in the environment" in found.stderr
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab"], env=settings, cwd=tmp_path, stdout=log, stderr=log)
    try:
        while not (listed := [*(tmp_path / "runtime").glob("jpserver-*.json")]):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                server.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        yield json.loads(listed[0].read_text())["url"]
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture
def chrome(tmp_path):
    browser = Chrome(tmp_path / "profile")
    yield browser
    browser.close()


def until(tab, condition):
    """Wait in the page until something holds."""
    found = tab.js(f"""new Promise(done => {{
        let tries = 0;
        const look = () => {{
            let found = null;
            try {{ found = {condition}; }} catch {{ }}
            if (found || (tries += 1) > 1500) done(found ?? null); else setTimeout(look, 100);
        }};
        look();
    }})""")
    assert found, f"never: {condition}; the notebook shows {tab.js('document.body.innerText')[-2000:]}"
    return found


def cells(lens):
    """The first word of every cell, by its name on the page."""
    words = lens.strings()
    return {f"c{layer}-{pos}": row[pos][0] for layer, row in enumerate(words) for pos in range(len(row))}


def test_jupyterlab_shows_a_lens_and_its_explorer_answers(lab, chrome):
    model = models.tiny(models.BACKENDS[-1])
    tab = chrome.open(f"{lab}lab/tree/a.ipynb", width=1400, height=1400)
    extensions = "JSON.parse(document.getElementById('jupyter-config-data').textContent).federated_extensions"
    assert tab.js(f"{extensions}.map(e => e.name).sort()") == ["@jupyter-widgets/jupyterlab-manager", "anywidget"]
    until(tab, "document.querySelectorAll('.jp-NotebookPanel .jp-CodeCell').length >= 2")
    until(tab, "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'")
    tab.js("jupyterapp.commands.execute('notebook:run-all-cells')")

    until(tab, "document.querySelector('.jp-OutputArea iframe')")
    lens = shl.logit_lens(model, TEXT, progress=False)
    shown = "Object.fromEntries([...document.querySelectorAll('.cell')].map(c => [c.id, c.textContent]))"
    until(tab, f"({ROOT})?.querySelector('.cell')")
    assert tab.in_frame(shown) == cells(lens)
    assert not tab.js("document.querySelector('.jp-OutputArea [data-mime-type*=\"stderr\"]')")

    inside = f"({ROOT})"
    wide = f"Object.fromEntries([...{inside}.querySelectorAll('.cell')].map(c => [c.id, c.textContent]))"
    assert tab.js(wide) == cells(lens)
    tab.js(f"(e => {{ e.focus(); e.select(); }})({inside}.querySelector('.ask'))")
    tab.write(OTHER)
    count = len(shl.Prompt.from_text(model, OTHER))
    until(tab, f"{inside}.querySelector('.input[data-pos=\"{count - 1}\"]').textContent.includes('dog')")
    answered = shl.logit_lens(model, OTHER, progress=False)
    assert tab.js(wide) == cells(answered)
    until(tab, f"/^[0-9.]+ s$/.test({inside}.querySelector('.status').textContent)")

    tab.js(f"{inside}.querySelector('.input[data-pos=\"3\"]').click()")
    until(tab, f"{inside}.querySelector('.written summary')")
    tab.js(f"{inside}.querySelector('.written summary').click()")
    told = until(tab, f"{inside}.querySelector('.written svg') && {inside}.querySelector('.written').textContent")
    wrote = shl.direct_attribution(model, OTHER, token=int(answered.top_ids[-1, 3, 0]), position=3)
    assert f"logit {float(wrote.logits[0]):.2f}" in told
    assert all(url.startswith((lab, "data:", "blob:")) for url in tab.requests())
