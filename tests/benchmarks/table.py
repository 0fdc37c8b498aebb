"""A row of the table of ratios, and how it is printed."""

import resource
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One task, done by a peer and by this library."""

    name: str
    peer: float
    """Seconds the peer takes."""
    ours: float
    """Seconds this library takes."""
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster this library is."""
        return self.peer / self.ours


def show(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| task | peer, s | semhub_lens, s | ratio | note |", "|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.peer:.2f} | {r.ours:.2f} | {r.ratio:.1f} | {r.note} |" for r in rows]
    return "\n".join(lines)


def as_transformer_lens_makes_it(model: Any) -> Any:
    """The model with its weights laid out as TransformerLens leaves them: `semhub_lens.load` helps the peer too."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    return model


def timed(task: Callable[[], object], repeats: int = 1) -> float:
    """Fewest seconds of `repeats` runs: the one that other processes disturbed least."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
    return min(found)


def extra_memory(task: Callable[[], object]) -> float:
    """Peak of resident memory during the task above that before it, in MB (Linux; sampled every 2 ms)."""
    page = resource.getpagesize()
    statm = Path("/proc/self/statm")

    def resident() -> int:
        return int(statm.read_text().split()[1]) * page

    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        task()
    finally:
        done.set()
        watcher.join()
    return max(0, peak[0] - before) / 1e6
