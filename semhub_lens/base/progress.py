"""The progress display of long work: one line with the current step, the speed and the time left."""

import importlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text
from tqdm import std

from semhub_lens.base.processes import is_main
from semhub_lens.base.shown_text import harmless

with warnings.catch_warnings():  # in a kernel without ipywidgets its first import warns, in pink
    warnings.filterwarnings("ignore", message="IProgress not found")
    importlib.import_module("tqdm.auto")

SOON = 0.5
"""Seconds of work that a notebook shows no line for."""


class tqdm(std.tqdm):
    """A bar on the terminal; in a notebook a line of text, which needs no extension and is no error in pink.

    Nothing is written to a log file, or by a process of a launch that is not the first.
    """

    def status_printer(self, file: Any) -> Callable[[str], None]:
        """What writes the line, whenever it changes."""
        if not is_main() or not (_in_notebook() or file.isatty()):
            self.fp = file = _Nowhere()
        elif _in_notebook():
            self.fp = file = _Line()
        return super().status_printer(file)


class _Nowhere:
    """Takes a line and shows none."""

    def write(self, text: str) -> None:
        """Forget the text."""

    def flush(self) -> None:
        """Nothing waits."""


class _Line:
    """A text in the output of a notebook's cell, changed in place; where it ends empty, nothing of it is seen."""

    def __init__(self) -> None:
        self._place: Any = None
        self._since = time.monotonic()

    def write(self, text: str) -> None:
        """Show a line; what begins otherwise moves a terminal's cursor."""
        if not text.startswith("\r"):
            return
        line = text.strip()
        shown = {"text/plain": line} if line else {"text/html": "", "text/plain": ""}
        if self._place is not None:
            self._place.update(shown, raw=True)
        elif line and time.monotonic() - self._since >= SOON:
            display = importlib.import_module("IPython.display").display
            self._place = display(shown, raw=True, display_id=True)

    def flush(self) -> None:
        """Everything is written at once."""


def _in_notebook() -> bool:
    """Whether this runs in a kernel; IPython on a terminal is none."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.0f}/s")


def display(*, shown: bool = True, size: bool = False) -> Progress:
    """A display with a counter (in bytes with `size`); it disappears from the terminal at the end.

    Example:
        >>> with display(shown=False) as bar:
        ...     task = bar.add_task("reading", total=10)
        ...     bar.advance(task, 10)
    """
    counted = (DownloadColumn(), TransferSpeedColumn()) if size else (MofNCompleteColumn(), _Rate())
    return _line(BarColumn(20), *counted, TimeRemainingColumn(), shown=shown)


def display_in_words(*, shown: bool = True) -> Progress:
    """A display for steps of different lengths: each task has the text fields `rate` and `left`.

    Example:
        >>> with display_in_words(shown=False) as bar:
        ...     task = bar.add_task("probing", total=3, rate="2 items/s", left="4 min left")
    """
    words = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("rate", "left"))
    return _line(BarColumn(16), *words, shown=shown)


def _line(*columns: ProgressColumn, shown: bool) -> Progress:
    console = Console(stderr=True, markup=False)
    name = TextColumn("{task.description}", markup=False)
    return Progress(name, *columns, console=console, transient=True, disable=not shown)


@contextmanager
def no_other_bars() -> Iterator[None]:
    """Keep the progress bars of transformers off the terminal while the context is open."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def duration(seconds: int | float) -> str:
    """A duration in words.

    Example:
        >>> duration(42), duration(200)
        ('less than a minute', '3 min')
    """
    return "less than a minute" if seconds < 60 else f"{seconds / 60:.0f} min"


def said(text: str, *, shown: bool = True) -> None:
    """Print lines next to the display, unchanged; long lines are not broken."""
    if shown:
        Console(stderr=True, markup=False).print(Text(harmless(text, kept="\n")), soft_wrap=True)
