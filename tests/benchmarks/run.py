"""Run the benchmarks and print their ratios: `python tests/benchmarks/run.py [patching] [generation] ...`.

Every peer is timed in the same process as this library, one after the other.
"""

import importlib
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from benchmarks.table import show

SCRIPTS = Path(__file__).parent
NAMES = sorted(p.stem for p in SCRIPTS.glob("*.py") if "def measure(" in p.read_text() and p.stem != "run")


def main(chosen: list[str]) -> None:
    """Measure what was named, or everything."""
    if unknown := set(chosen) - set(NAMES):
        raise SystemExit(f"Unknown benchmark {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}.")
    print(
        f"{torch.get_num_threads()} threads, {platform.machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, transformer-lens {version('transformer-lens')}, transformers {version('transformers')}\n"
    )
    rows = [row for name in chosen or NAMES for row in importlib.import_module(f"benchmarks.{name}").measure()]
    print(show(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
