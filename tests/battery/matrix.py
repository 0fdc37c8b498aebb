"""Measure every family on the installed line and write its columns of docs/models.md: `python tests/battery/matrix.py`.

Columns of the other line stay as they are. Names given as arguments measure and write these families alone.
"""

import os
import re
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
sys.path.insert(0, str(Path(__file__).parent.parent))

import models
from battery.families import FAMILIES, kind_of, outcomes, save

PAGE = Path(__file__).parent.parent.parent / "docs" / "models.md"
LINE = "3.9" if models.HOOKED_LINE else "4.x"
COLUMNS = ["3.9 HookedTransformer", "3.9 bridge", "4.x bridge"]
TEXT = """# Model families

This page says what works on which family of Hugging Face models. Each family was tested with a tiny random model,
loaded with `shl.load(folder)`. `make families TL=3` and `make families TL=4` measure and write the table
(`tests/battery/matrix.py`).

- **right** means that five things are as in Hugging Face's model. The residual stream is its hidden states. A batch
  gives the same as each row alone. The logit lens of the last layer is its log-probabilities. Greedy continuations are
  the same, in a batch and alone, with and without a cache. A cell of `patch_grid` is a run with that one state
  replaced. Brackets name what runs changed to be right, as in `provenance.notes`.
- **refused**: you get an error with the reason, and no number. "transformer-lens has none" means that it has no
  conversion or adapter for the family.
- **transformer-lens's fault**: the installed transformer-lens cannot represent the model, or computes it wrongly.
  `load` detects this and refuses the model.

A real model of a family may have options that its tiny model lacks. So `load` also compares every text model with
Hugging Face's own.

{versions}

{table}
"""


def cell(found: dict[str, str]) -> str:
    """One word for a family, with what is not plainly right."""
    load = re.split(" (?:To continue,|Take|Use) ", found.pop("load"))[0]
    if re.search("is not currently supported|Could not determine supported architecture", load):
        return "refused: transformer-lens has none"
    if load != "right":
        reason = load.removeprefix("refused: ")
        fault = reason.startswith(("transformer-lens", "HookedTransformer"))
        return f"transformer-lens's fault: {short(reason)}" if fault else short(load)
    notes = sorted({text.removeprefix("right").strip() for text in found.values() if text.startswith("right")} - {""})
    rest: dict[str, list[str]] = {}
    for name, text in found.items():
        if not text.startswith("right"):
            rest.setdefault(short(text), []).append(f"`{name}`")
    return "; ".join([" ".join(["right", *notes]), *(f"{', '.join(names)} {text}" for text, names in rest.items())])


def short(text: str) -> str:
    """The first sentence or so, without what a table cannot hold."""
    text = re.sub(r" \(/[^)]*\)", "", re.sub(r"'/[^']*'", "it", " ".join(text.split()))).replace("|", "/")
    return text if len(text) <= 160 else text[:157] + "..."


def measured(names: list[str]) -> dict[str, dict[str, str]]:
    """Cells by family and column of this line."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                save(name, Path(folder))
            except Exception as error:  # the installed transformers may lack it, or name its options otherwise
                print(name, "cannot be made:", error, flush=True)
                continue
            for backend in models.BACKENDS:
                column = f"{LINE} {'bridge' if backend == 'bridge' else 'HookedTransformer'}"
                found.setdefault(name, {})[column] = cell(outcomes(Path(folder), backend))
        print(name, found[name], flush=True)
    return found


def written(page: str, found: dict[str, dict[str, str]]) -> str:
    """The page with the cells of this line; those of the other line are kept."""
    known = {
        cells[0]: dict(zip(COLUMNS, cells[2:], strict=True))
        for line in page.splitlines()
        if line.startswith("| ") and len(cells := line.strip("| ").split(" | ")) == 2 + len(COLUMNS)
    }
    head = ["family", "classes", *COLUMNS]
    rows = [f"| {' | '.join(head)} |", f"|{len(head) * '---|'}"]
    for name in FAMILIES:
        cells = known.get(name, {}) | found.get(name, {})
        rows.append(f"| {' | '.join([name, kind_of(name), *(cells.get(c, 'not measured') for c in COLUMNS)])} |")
    lines = dict(re.findall(r"^- (\S+): (transformer-lens .*)$", page, re.MULTILINE))
    lines[LINE] = ", ".join(f"{name} {version(name)}" for name in ("transformer-lens", "transformers", "torch"))
    return TEXT.format(versions="\n".join(f"- {k}: {lines[k]}" for k in sorted(lines)), table="\n".join(rows))


def main(names: list[str]) -> None:
    """Measure and write."""
    warnings.filterwarnings("ignore")
    found = measured(names or FAMILIES)
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "", found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
