"""Makes what the notebooks show: `python tests/notebooks.py` runs them, or those named, and stores their outputs.

Outputs are stored light: of each a picture and a few words, no page and no script. `python tests/notebooks.py runs`
measures the saved runs (`notebooks/runs`) that the last notebook reads, or those named. `python tests/notebooks.py
figures` draws these runs for the results page.
"""

import sys
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import plotly.graph_objects as go
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

import models
import semhub_lens as shl
from semhub_lens.views.stills import figure_still

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUNS = FOLDER / "runs"
FIGURES = ROOT / "docs" / "_static" / "runs"
ITEMS = 32
"""Of each saved run; docs/results.md has the full sizes."""
LEGS = {
    "multilingual.similarity": ("French, mean over tokens, mean-centred", "Chinese, mean over tokens, mean-centred"),
    "arithmetic.logit_lens": ("number word over digit", "right word over wrong words"),
    "code.similarity": ("mean over tokens, mean-centred", "shared names renamed, mean over tokens, mean-centred"),
    "code.logit_lens_list": ('"and" over "or", "not", more than elsewhere', '"and" over the next token'),
    "semantics.logit_lens": ("gold role over other roles", "gold role over other roles, clefts only"),
    "audio.similarity": ("sound's positions and name, mean-centred", "last token, mean-centred"),
}
"""The two legs of each run that are kept: the figures of the paper."""
DRAWS = 100
SHARED = "import functools, semhub_lens as shl\nshl.load = functools.cache(shl.load)"
PICTURES = ("image/svg+xml", "image/png")
PLOTLY = "application/vnd.plotly.v1+json"
HEAVY = ("<script", "<iframe", "<svg")
LONGEST = 20_000
"""Characters of a table that is kept as HTML."""


def executed(*paths):
    """Notebooks after a run from top to bottom, in their own folder and one kernel, with every output.

    Several share the model, which the first of them loads.
    """
    listed = [nbformat.read(path, as_version=4) for path in paths]
    whole = new_notebook()
    whole.cells = [new_code_cell(SHARED)] * (len(listed) > 1) + [cell for each in listed for cell in each.cells]
    where = {"metadata": {"path": str(paths[0].parent)}}
    NotebookClient(whole, timeout=600, kernel_name="python3", resources=where).execute()
    return listed


def lightened(notebook):
    """The notebook without what a code host does not show: pages, scripts, progress bars, the times of cells."""
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.outputs = [kept for output in cell.outputs if (kept := light(output))]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def light(output):
    """One output with its picture, or a small table, and its text; None for an empty one."""
    if "data" not in output:
        return output
    data, output.metadata = output.data, {}
    kept = {kind: data[kind] for kind in PICTURES if kind in data}
    if PLOTLY in data and not kept:  # a figure of the reader's own, as the library draws a still of its figures
        kept = {PICTURES[0]: figure_still(go.Figure(plain(data[PLOTLY])))}
        data = {}
    table = str(data.get("text/html", ""))
    if table and not kept and len(table) < LONGEST and not any(tag in table for tag in HEAVY):
        kept["text/html"] = table
    kept |= {kind: data[kind] for kind in ("text/plain",) if kind in data}
    output.data = {kind: value.replace(sys.prefix, "PYTHON") for kind, value in kept.items()}  # no path of this machine
    return output if output.data else None


def plain(value):
    """A figure's data as lists and numbers; plotly packs arrays in base64, which a `Figure` does not read back."""
    if isinstance(value, dict) and "bdata" in value:
        array = np.frombuffer(b64decode(value["bdata"]), dtype=value["dtype"])
        return array.reshape([int(n) for n in str(value.get("shape", array.size)).split(",")]).tolist()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def measured(name):
    """One experiment on Gemma 3 270M, with the legs of `LEGS`."""
    model = models.gemma("bridge")
    spoke = {"vision": "vision-gemma-3-270m", "audio": "audio-gemma-3-270m"}.get(name.partition(".")[0])
    reader = shl.spokes.load(spoke, model) if spoke else None
    settings = {"n": ITEMS, "baseline": False, "reader": reader, "progress": False}
    result = shl.experiments.run(name, model, **settings)
    return shortened(result, LEGS[name])


def shortened(result, titles):
    """Some legs of a result; of their null, which only the figure's band still needs, the first 100 of 500 draws."""
    legs = {leg.title: replace(leg, null=leg.null[:DRAWS].clone()) for leg in result.legs}
    return replace(result, legs=tuple(legs[title] for title in titles), extras=())


def drawn(name):
    """A saved run as a still picture."""
    return figure_still(shl.figure(shl.load_result(RUNS / f"{name}.safetensors")))


def main(arguments):
    """Run and store what is named."""
    if arguments == ["figures"]:
        for name in LEGS:
            (FIGURES / f"{name}.svg").write_text(drawn(name), encoding="utf-8")
        return
    if arguments[:1] == ["runs"]:
        RUNS.mkdir(exist_ok=True)
        for name in arguments[1:] or LEGS:
            print(measured(name).save(RUNS / f"{name}.safetensors"))
        return
    for path in map(Path, arguments or NOTEBOOKS):
        nbformat.write(lightened(*executed(path)), path)
        print(path, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
