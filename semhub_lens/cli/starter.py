"""A starter script or notebook for the user's own model and data."""

import json
from pathlib import Path

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_file, user_path, write_aside
from semhub_lens.model.packaged import PACKAGED

CELL = "# %%"
SCRIPT = """\
# %% [markdown]
# Are texts that mean the same close together in this model, and what does it predict at each layer?
# Run the cells in order and change what you like. The guides of semhub_lens explain what the numbers do not show.
# %%
{reading}import semhub_lens as shl
{source}
MODEL = {model!r}  # a packaged model, a folder, a GGUF file or a hub name
model = shl.load(MODEL)
print(shl.check(model))  # what was verified
# %% [markdown]
# Pairs: two texts that mean the same.
# %%
{pairs}
left, right = (list(side) for side in zip(*pairs, strict=True))
print(len(pairs), "pairs, such as", pairs[0])
# %% [markdown]
# What would the model predict at every layer of the first text? Open lens.html.
# %%
lens = shl.logit_lens(model, left[0], top_k=5)
shl.write_html(lens, "lens.html")
print(lens)
lens  # a notebook draws it
# %% [markdown]
# In each layer, how often is the nearest text the other text of the pair? Open similarity.html for more.
# %%
states = [shl.residual_stream(model, side, read="mean") for side in (left, right)]
similarity = shl.similarity(*states)
shl.write_html(similarity, "similarity.html")
for layer, share in enumerate(similarity.retrieval.tolist()):  # layer 0 is the embedding
    print(f"layer {{layer}}: {{share:.2f}} (chance {{similarity.chance:.2f}})")
similarity  # a notebook draws it
# %% [markdown]
# The direction from the left side to the right one: what does it change, and what does it cost?
# A random direction of the same norm is the control.
# %%
entry = model.cfg.n_layers // 2
direction = shl.direction.prompts(model, right, left, entry)
random = shl.direction.random_like(direction, seed=0)
steer, control = (shl.at(entry, shl.hooks.add(vector, strength=1.0)) for vector in (direction, random))
for name, hooks in {{"plain": [], "steered": steer, "random direction": control}}.items():
    print(name, shl.generate(model, left[:2], hooks=hooks, max_new_tokens=12).texts)
print("damage in nats:", float(shl.kl_to_clean(model, left[:8], steer).mean()))
"""
BUNDLED = """\
columns = sentences()  # bundled; put your own pairs here
pairs = list(zip(columns["en"], columns["es"], strict=True))[:32]"""
OWN = """\
DATA = {data!r}  # two columns separated by a tab
lines = Path(DATA).read_text(encoding="utf-8-sig").splitlines()
pairs = [tuple(line.split("\\t")[:2]) for line in lines if "\\t" in line]"""


def starter(path: str | Path, model: str, data: str | Path | None) -> Path:
    """Write the script (.py) or notebook (.ipynb).

    Raises:
        SemhubError: the name ends differently, the file exists, the place cannot be written, or the data lacks two
            columns.
    """
    target = user_path(path)
    if target.suffix not in (".py", ".ipynb"):
        raise SemhubError(
            f"A starter is a script or a notebook: give a name that ends in .py or .ipynb, not {str(path)!r}."
        )
    if target.exists():
        raise SemhubError(f"{target} already exists. Give another name.")
    require_file(target)
    source, pairs, reading = "from semhub_lens.data.text.texts import sentences\n", BUNDLED, ""
    if data is not None:
        _require_pairs(user_path(data))
        data = _found_from(target, data)
        source, pairs, reading = "", OWN.format(data=data), "from pathlib import Path\n\n"
    if model not in PACKAGED and user_path(model).exists():
        model = _found_from(target, model)
    text = SCRIPT.format(model=model, source=source, pairs=pairs, reading=reading)
    whole = text if target.suffix == ".py" else _notebook(text)
    return write_aside(target, lambda aside: aside.write_text(whole, encoding="utf-8"))


def _found_from(target: Path, path: str | Path) -> str:
    """A path as the starter finds it: a notebook runs in its own folder, which may be another one than this."""
    place = user_path(path)
    return str(place if target.resolve().parent == Path.cwd() else place.resolve())


def _require_pairs(data: Path) -> None:
    try:
        rows = [line for line in data.read_text(encoding="utf-8").splitlines() if "\t" in line]
    except (OSError, UnicodeDecodeError) as error:
        raise SemhubError(f"--data takes a text file with two columns, but {data} cannot be read: {error}.") from error
    if len(rows) < 3:
        raise SemhubError(
            f"--data takes at least three lines, each two texts separated by a tab; {data} has {len(rows)}."
        )


def _notebook(script: str) -> str:
    cells = []
    for part in script.split(CELL)[1:]:
        head, _, body = part.partition("\n")
        lines = body.rstrip().splitlines(keepends=True)
        if "markdown" in head:
            cells.append(
                {"cell_type": "markdown", "metadata": {}, "source": [line.removeprefix("# ") for line in lines]}
            )
        else:
            cells.append({"cell_type": "code", "metadata": {}, "source": lines, "outputs": [], "execution_count": None})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
