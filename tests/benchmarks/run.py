"""Run the benchmarks: `python tests/benchmarks/run.py [lens] [similarity] ... [--out bench.json]`.

Peer, floor and library run in the same process, in turn. Without names everything runs that is not `ALONE`.
"""

import importlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
import typer

from benchmarks.table import products_a_second, show

SCRIPTS = Path(__file__).parent
NAMES = sorted(p.stem for p in SCRIPTS.glob("*.py") if "def measure(" in p.read_text() and p.stem != "run")


def machine() -> dict[str, str | float]:
    """What the figures were measured on."""
    named = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": named[0].partition(": ")[2] if named else platform.machine(),
        "threads": torch.get_num_threads(),
        "gflop_s": round(products_a_second() / 1e9),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformer-lens", "transformers", "semhub-lens")},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def main(chosen: Annotated[list[str] | None, typer.Argument()] = None, out: Path = Path("bench.json")) -> None:
    """Measure what was named, or everything; print the table and write it as JSON, so far after each of them."""
    if unknown := set(chosen or []) - set(NAMES):
        raise SystemExit(f"Unknown benchmark {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}.")
    listed = {name: importlib.import_module(f"benchmarks.{name}") for name in chosen or NAMES}
    where = machine()
    print("; ".join(f"{name} {value}" for name, value in where.items()) + "\n")
    rows = []
    for name, module in listed.items():
        if chosen or not getattr(module, "ALONE", False):
            new = module.measure()
            rows += new
            print(f"{name}\n{show(new)}", file=sys.stderr, flush=True)
            out.write_text(json.dumps({"machine": where, "rows": [row.as_dict() for row in rows]}, indent=1) + "\n")
    print(show(rows))


if __name__ == "__main__":
    typer.run(main)
