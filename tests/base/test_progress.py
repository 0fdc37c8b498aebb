"""Bars show on a terminal, in the first process of a launch, and nowhere else."""

import io

import pytest

from semhub_lens.base import progress
from semhub_lens.base.progress import tqdm


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("screen", "first", "wanted", "shown"),
    [
        (Terminal, True, True, True), (Terminal, False, True, False), (io.StringIO, True, True, False),
        (Terminal, True, False, False),
    ],
)  # fmt: skip
def test_a_bar_shows_in_the_first_process_and_not_in_a_log_file(screen, first, wanted, shown, monkeypatch):
    monkeypatch.setattr(progress, "is_main", lambda: first)
    screen = screen()
    assert list(tqdm(range(3), file=screen, disable=not wanted, leave=True)) == [0, 1, 2]
    assert ("3/3" in screen.getvalue()) is shown
    assert shown or not screen.getvalue()
