"""A row of the table, how its sides are timed in turn, and how it is printed."""

import os
import resource
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

ROUNDS, TRIES = 5, 20
QUIET = 0.1
"""Share of one processor that others may use while a side is timed."""


@dataclass(frozen=True)
class Side:
    """What one side took: medians over the rounds, in seconds."""

    wall: float
    cpu: float

    def times(self, factor: float) -> "Side":
        """The same for more of the same work."""
        return Side(self.wall * factor, self.cpu * factor)


@dataclass(frozen=True)
class Row:
    """One task, done by this library, by a peer, and by the bare operations that no way of doing it can leave out."""

    name: str
    ours: Side
    peer: Side | None = None
    floor: Side | None = None
    bar: str = ""
    memory: float | None = None
    """Peak of this library above what was there before, in MB."""
    note: str = ""

    @property
    def faster(self) -> float | None:
        """How many times faster than the peer, by the clock."""
        return None if self.peer is None else self.peer.wall / self.ours.wall

    @property
    def over_floor(self) -> float | None:
        """How many times the floor, by the clock."""
        return None if self.floor is None else self.ours.wall / self.floor.wall

    def as_dict(self) -> dict[str, Any]:
        """For the file."""
        return {**asdict(self), "faster": self.faster, "over_floor": self.over_floor}


def show(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; seconds by the clock, processor seconds in brackets."""
    lines = [
        "| task | ours, s | peer, s | faster | floor, s | of floor | bar | extra memory, MB | note |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        cells = (r.ours, r.peer, r.faster, r.floor, r.over_floor, r.bar, r.memory, r.note)
        lines.append(f"| {r.name} | {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _cell(value: Side | float | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, Side):
        return f"{value.wall:.3g} ({value.cpu:.3g})"
    return value if isinstance(value, str) else f"{value:.3g}"


def in_turn(
    sides: Mapping[str, Callable[[], object]], rounds: int = ROUNDS, measure: Callable | None = None
) -> dict[str, Side]:
    """Run the sides in turn, once to warm up and then `rounds` times; medians of each.

    A run beside which other processes used the processors is measured again.
    """
    measure, found = measure or once, {name: [] for name in sides}
    for task in sides.values():
        task()
    for _ in range(rounds):
        for name, task in sides.items():
            found[name].append(_undisturbed(task, measure))
    medians = {name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in found.items()}
    return {name: Side(wall, cpu) for name, (wall, cpu) in medians.items()}


def _undisturbed(task: Callable[[], object], measure: Callable) -> tuple[float, float]:
    for _ in range(TRIES):
        wall, cpu, others = measure(task)
        if others <= QUIET * wall + 0.05:  # processor time is counted in hundredths of a second
            return wall, cpu
    raise SystemExit(f"Other processes took the processors in each of {TRIES} runs: stop them and measure again.")


def once(task: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds by the clock, processor seconds of this process, and those of all others meanwhile."""
    busy, cpu, wall = _busy(), time.process_time(), time.perf_counter()
    task()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, _busy() - busy - cpu


def _busy() -> float:
    """Processor seconds of all processes since the machine started (Linux; elsewhere only this one's)."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return time.process_time()
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def as_transformer_lens_makes_it(model: Any) -> Any:
    """The model with its weights laid out as TransformerLens leaves them: `semhub_lens.load` helps the peer too."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    return model


def products_a_second(device: str = "cpu", dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Floating-point operations a second of a large matrix product: what seconds of this table are worth."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / in_turn({"product": lambda: a @ a}, 3)["product"].wall


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
