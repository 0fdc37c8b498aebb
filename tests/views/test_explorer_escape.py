"""Escape closes what is open, from the inside out, and the keyboard goes back to where it came from."""

import numpy as np
import pytest

import semhub_lens as shl
from explored import LABELS, active, choose, in_chromium, patches, written
from planted_lens import planted_lens
from semhub_lens.inputs.media import Tile
from semhub_lens.views.media_maps import picture_map

pytestmark = in_chromium
OPEN = "document.querySelector('.panel').matches(':popover-open')"
ON_MAP = "document.activeElement.matches('.scroll')"
GRID = patches(("layer", "pos"), (5, 4))
PINS = "[...document.querySelectorAll('.pin')].map(p => p.dataset.pos ?? `layer ${p.dataset.layer}`)"


def focus(tab, selector):
    tab.js(f"document.querySelector({selector!r}).focus()")
    tab.settle()


@pytest.mark.parametrize("make", [lambda lens: lens, lambda lens: shl.compare(lens, lens), lambda _: GRID])
def test_a_cell_closes_and_the_map_keeps_the_keyboard(lens, make, open_page):
    tab = open_page(make(lens))
    focus(tab, ".scroll")
    tab.key("ArrowLeft")
    assert tab.js(OPEN) and active(tab)
    tab.key("Escape")
    assert not tab.js(OPEN) and not active(tab) and tab.js(ON_MAP)
    tab.key("ArrowLeft")
    assert tab.js(OPEN), "and opens again"


def test_a_cell_under_the_pointer_closes_wherever_the_keyboard_is_until_the_pointer_is_on_another(lens, open_page):
    tab = open_page(lens, "#p=2")
    for held in ("", ".find", ".close"):
        if held:
            focus(tab, held)
        tab.hover("#c3-2")
        assert tab.js(OPEN)
        tab.key("Escape")
        assert not tab.js(OPEN)
        assert not held or tab.js(f"document.activeElement.matches('{held}')")
        x, y = tab.middle("#c3-2")
        tab.move(x + 3, y + 2)
        assert not tab.js(OPEN), "a hand that trembles does not open it again"
        tab.hover("#c4-1")
        assert tab.js(OPEN)
        tab.move(4, 4)
    assert tab.js(PINS) == ["2"]


def test_a_search_closes_and_the_keyboard_is_back_on_the_map(lens, open_page):
    tab = open_page(lens)
    focus(tab, ".scroll")
    tab.key("ArrowLeft", "/")
    tab.write("sky")
    tab.key("Enter")
    assert tab.js("document.querySelector('.count').textContent").startswith("1 of ") and tab.js(OPEN)
    tab.key("Escape")
    assert tab.js("document.querySelector('.find').value") == "" and tab.js(ON_MAP)
    assert not tab.js(OPEN) and tab.js("document.querySelector('.count').textContent") == ""
    tab.settle()
    assert "q=" not in tab.js("new Promise(done => setTimeout(() => done(location.hash), 400))")
    tab.click(".find")
    tab.write("sky")
    tab.key("Escape")
    assert tab.js("document.querySelector('.find').value") == ""
    assert tab.js("document.activeElement.matches('.find')"), "who came with the mouse stays"


def test_a_step_of_the_search_closes_its_cell_and_keeps_what_was_found(lens, open_page):
    tab = open_page(lens, "#q=sky")
    focus(tab, "[aria-label=next]")
    tab.key("Enter")
    assert tab.js(OPEN)
    tab.key("Escape")
    assert not tab.js(OPEN) and tab.js("document.activeElement.getAttribute('aria-label')") == "next"
    assert tab.js("document.querySelector('.find').value") == "sky"


def test_pins_of_positions_and_layers_close_one_by_one(lens, open_page):
    tab = open_page(lens, "#p=2,5&r=3")
    assert sorted(tab.js(PINS)) == ["2", "5", "layer 3"]
    focus(tab, ".pin[data-pos='5'] .close")
    tab.key("Escape")
    assert sorted(tab.js(PINS)) == ["2", "layer 3"] and tab.js(ON_MAP)
    focus(tab, ".reading .close")
    tab.key("Escape")
    assert tab.js(PINS) == ["2"] and tab.js(ON_MAP)
    tab.key("Escape")
    assert tab.js(PINS) == ["2"], "on the map, pins stay"
    tab = open_page(GRID, "#p=1&at=2,1")
    focus(tab, ".pin .close")
    tab.key("Escape")
    assert tab.js("document.querySelectorAll('.pin').length") == 0 and tab.js(ON_MAP)


def test_who_wrote_a_token_closes_before_its_pin(lens, open_page):
    tab = open_page(lens.with_attribution(written(lens)), "#p=3")
    tab.click(".written summary")
    focus(tab, ".split")
    choose(tab, ".split", 4)
    tab.key("Escape")
    assert not tab.js("document.querySelector('.written').open") and tab.js(PINS) == ["3"]
    assert tab.js("document.activeElement.textContent") == "which blocks wrote it"
    tab.key("Escape")
    assert tab.js(PINS) == [] and tab.js(ON_MAP)


def test_the_code_of_a_view_closes(tiny_model, open_page):
    tab = open_page(shl.logit_lens(tiny_model, "three plus two", progress=False))
    tab.click("details.script summary")
    focus(tab, "pre.code")
    tab.key("Escape")
    assert not tab.js("document.querySelector('details.script').open")
    assert tab.js("document.activeElement.textContent") == "this view as code"
    tab.js("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    focus(tab, ".copy")
    tab.key("Enter")
    tab.until("document.querySelector('details.script').open")
    tab.key("Escape")
    assert not tab.js("document.querySelector('details.script').open") and tab.js(
        "document.activeElement.matches('.copy')"
    )


def test_a_patch_of_a_picture_closes_and_the_keyboard_stays_where_it_is(open_page):
    lens = planted_lens(["<bos>", *[f"image {i}" for i in range(6)], "␣two"], layers=3, k=2)
    tab = open_page(picture_map(lens, np.zeros((40, 60, 3), np.uint8), Tile((1, 2, 3, 4, 5, 6), 2, 3)))
    focus(tab, ".board")
    tab.key("ArrowRight")
    assert tab.js(OPEN)
    tab.key("Escape")
    assert not tab.js(OPEN) and tab.js("document.activeElement.matches('.board')")
    tab.hover(".patch[data-pos='5']")
    assert tab.js(OPEN)
    tab.key("Escape")
    assert not tab.js(OPEN)


def test_escape_with_another_key_is_the_browsers(open_page):
    tab = open_page(planted_lens(LABELS, layers=4, k=3))
    focus(tab, ".scroll")
    tab.key("ArrowLeft", "Control+Escape")
    assert tab.js(OPEN)
