"""The progress display of long work: one line with the current step, the speed and the time left."""

from collections.abc import Iterator
from contextlib import contextmanager

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

from semhub_lens.base.shown_text import harmless


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
