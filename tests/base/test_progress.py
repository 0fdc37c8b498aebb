"""The bar of a notebook is a text of its own that goes; on a terminal it is tqdm's."""

import sys
from types import SimpleNamespace

import pytest

from semhub_lens.base import progress


@pytest.fixture
def shown(monkeypatch):
    """What a kernel's displays hold, in the order of their making; they begin at once."""
    places = []

    def display(data, raw, display_id):
        assert raw and display_id
        place = SimpleNamespace(held=[data])
        place.update = lambda data, raw: place.held.append(data)
        places.append(place)
        return place

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr(progress, "SOON", 0)
    return places


def test_in_a_notebook_bars_are_texts_that_change_and_go_and_nothing_is_pink(shown, capsys):
    with progress.tqdm(total=2, desc="outer", mininterval=0, leave=False) as outer:
        for _ in progress.tqdm(range(3), desc="inner", mininterval=0, leave=False):
            outer.update()
    assert capsys.readouterr().err == ""
    for place, name in zip(shown, ("outer", "inner"), strict=True):
        lines = [one["text/plain"] for one in place.held]
        assert lines[0].startswith(f"{name}:   0%") and any("100%" in line for line in lines)
        assert place.held[-1] == {"text/html": "", "text/plain": ""}


def test_in_a_notebook_a_bar_that_stays_keeps_its_last_line(shown):
    list(progress.tqdm(range(3), desc="kept"))
    (place,) = shown
    assert place.held[-1]["text/plain"].startswith("kept: 100%")


def test_in_a_notebook_short_work_shows_nothing(shown, monkeypatch):
    monkeypatch.setattr(progress, "SOON", 1e9)
    list(progress.tqdm(range(3), mininterval=0, leave=False))
    assert not shown


@pytest.mark.parametrize("ipython", [None, SimpleNamespace(get_ipython=lambda: None)], ids=["absent", "no kernel"])
def test_on_a_terminal_it_is_tqdms_own(ipython, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    list(progress.tqdm(range(3), desc="here"))
    assert "here: 100%" in capsys.readouterr().err
