"""The page for every reader: keyboard, screen reader, colours that the system forces, paper, narrow screens."""

import io

import numpy as np
import pandas as pd
import pytest

import semhub_lens as shl
from explored import LABELS, active, cells, choose, contrast, in_chromium, patches, rgb, written
from planted_lens import planted_lens
from semhub_lens.inputs.media import Tile
from semhub_lens.views.media_maps import picture_map

pytestmark = in_chromium
FOCUSED = "(e => e.getAttribute('aria-label') || e.textContent)(document.activeElement)"


def focus(tab, selector):
    """Put the keyboard there, as Tab does."""
    tab.key("Tab")
    tab.js(f"document.querySelector({selector!r}).focus()")
    tab.settle()


def test_the_keyboard_keeps_its_place_in_the_pins(lens, open_page):
    tab = open_page(lens, "#p=2,5")
    focus(tab, ".scale")
    for pressed in ("true", "false"):
        tab.key("Enter")
        assert tab.js(FOCUSED) == "log scale"
        assert tab.js("document.activeElement.getAttribute('aria-pressed')") == pressed
    focus(tab, ".pin .close")
    tab.key("Enter")
    assert tab.js(FOCUSED) == "unpin position 5", "of the pins that are left"
    tab.key("Enter")
    assert tab.js("document.activeElement.getAttribute('role')") == "grid", "without pins, the map"


def test_the_keyboard_stays_at_the_choice_of_a_block(lens, open_page):
    tab = open_page(lens.with_attribution(written(lens)), "#p=3")
    tab.click(".written summary")
    focus(tab, ".split")
    choose(tab, ".split", 4)
    assert tab.js("document.activeElement.matches('.split')") and tab.js("document.activeElement.value") == "4"


def test_the_words_of_a_pinned_layer_are_no_stops_of_the_keyboard(lens, open_page):
    tab = open_page(lens, "#r=3")
    assert tab.js("document.querySelectorAll('.reading p button').length") == len(LABELS)
    assert tab.js("[...document.querySelectorAll('.reading button')].filter(b => b.tabIndex >= 0).length") == 1


def test_a_screen_reader_hears_the_number_of_a_grids_cell(open_page):
    heads = patches(("layer", "pos", "head"), (5, 4, 3))
    tab = open_page(heads, "#h=1&at=2,2")
    tab.js("document.querySelector('.scroll').focus()")
    tab.key("ArrowUp")
    said = tab.js("document.querySelector('[role=status]').textContent")
    value = float(heads.normalised[3, 2, 1])
    assert said.replace("-", "−").startswith(f"normalised effect {value:#.3g}".replace("-", "−"))
    assert "block 3" in said and "position 2" in said and "head 1" in said
    assert not tab.js("document.querySelector('.pin')")
    tab.key("Enter", "ArrowUp")
    shown = "[...document.querySelectorAll('.pin figcaption')].map(c => c.textContent.replace('×', ''))"
    assert tab.js(shown) == [f"normalised effect · {one} · head 1" for one in ("position 2 · ␣France", "block 4")]
    names = "[...document.querySelectorAll('.input')].map(b => b.getAttribute('aria-label'))"
    assert tab.js(names)[3] == "position 3 from 4, ␣<b>x</b>"
    tab = open_page(patches(("layer", "head"), (5, 4)))
    assert tab.js(names) == [f"head {i}" for i in range(4)]


def test_colours_that_the_system_forces_leave_the_maps_own(lens, open_page):
    tab = open_page(lens)
    before = cells(tab, "getComputedStyle(c).backgroundColor")
    tab.media(forced_colors="active", prefers_color_scheme="light")
    tab.settle()
    assert cells(tab, "getComputedStyle(c).backgroundColor") == before and len({*before.values()}) > 5
    assert tab.js("getComputedStyle(document.querySelector('.chip')).backgroundColor") == "rgb(33, 96, 186)"
    looks = tab.js("""[...document.querySelectorAll('[role=radio]')].map(b => getComputedStyle(b))
        .map(s => [s.color, s.backgroundColor])""")
    assert all(contrast(rgb(ink), rgb(ground)) > 7 for ink, ground in looks)
    assert len({ground for _, ground in looks}) == 2, "the chosen colour stands out"


@pytest.mark.parametrize("dark", [True, False])
def test_paper_holds_what_the_screen_held(open_page, dark):
    long = planted_lens([f"␣{i}" for i in range(12)], layers=40, k=3)
    tab = open_page(long, "#c=entropy", width=1280, height=500, dark=dark)
    on_screen = tab.js("document.querySelectorAll('.cell').length")
    assert on_screen < 40 * 12, "a short window has not all rows"
    tab.js("""addEventListener("beforeprint", () => { window.printed = {
        cells: document.querySelectorAll(".cell").length,
        right: Math.max(...[...document.querySelectorAll(".cell")].map(c => c.getBoundingClientRect().right)),
        edge: document.querySelector(".scroll").getBoundingClientRect().right,
        fills: [...document.querySelectorAll(".cell")].map(c => getComputedStyle(c).backgroundColor) }; })""")
    tab.print()
    found = tab.js("window.printed")
    assert found["cells"] == 40 * 12 and found["right"] <= found["edge"] + 1
    assert max(sum(rgb(fill)) for fill in found["fills"]) > 700, "light, whatever the screen is"
    assert tab.js("document.querySelector('main').style.width") == ""
    tab.settle()
    assert tab.js("document.querySelectorAll('.cell').length") == on_screen


def test_the_tables_of_two_unequal_prompts_hold_each_ones_own_positions(open_page, tmp_path):
    a = planted_lens(["<bos>", "␣El", "␣es"], layers=3, k=2)
    b = planted_lens(["<bos>", "␣The", "␣sky", "␣is"], layers=3, k=2, seed=4)
    tab = open_page(shl.compare(a, b, align="end"))
    tab.js("""window.made = []; URL.createObjectURL = blob => { window.made.push(blob.text()); return "blob:null/x"; };
        HTMLAnchorElement.prototype.click = () => {};""")
    tab.js("[...document.querySelectorAll('button')].find(b => b.textContent === 'CSV').click()")
    for side, text in zip((a, b), tab.js("Promise.all(window.made)"), strict=True):
        read, wanted = pd.read_csv(io.StringIO(text), keep_default_na=False), side.to_frame()
        for name in ("layer", "pos", "rank", "id", "token", "input"):
            assert read[name].tolist() == wanted[name].tolist()
    assert tab.js("[...document.querySelectorAll('.input')].map(i => i.getAttribute('aria-label'))") == [
        "no token here", "position 0, <bos>", "position 1, ␣El", "position 2, ␣es",
        "position 0, <bos>", "position 1, ␣The", "position 2, ␣sky", "position 3, ␣is",
    ]  # fmt: skip


def test_a_narrow_screen_leaves_the_map_its_room(lens, open_page):
    tab = open_page(lens, "#p=3&r=2", width=360, height=740)
    assert tab.js("document.documentElement.scrollWidth") <= 360
    assert tab.js("document.querySelector('.scroll').clientWidth") > 210
    inside = "(e, box) => e.getBoundingClientRect().right <= box.getBoundingClientRect().right"
    assert tab.js(f"[...document.querySelectorAll('.pin .close')].every(c => ({inside})(c, c.closest('.pin')))")
    assert tab.js("getComputedStyle(document.querySelector('.toolbar')).position") == "static"


def test_what_two_lenses_hold_of_a_cell_is_seen_whole_on_a_narrow_screen(lens, open_page):
    two = shl.compare(lens, planted_lens(LABELS, layers=6, k=4, seed=5))
    tab = open_page(two, width=360, height=740)
    tab.hover("#c3-0")
    panel = tab.js("(p => [p.scrollWidth, p.clientWidth])(document.querySelector('.panel'))")
    assert panel[0] <= panel[1] and tab.js("document.querySelectorAll('.panel table').length") == 2


def test_a_text_that_almost_fits_is_shown_whole(open_page):
    tab = open_page(planted_lens([f"␣{i}" for i in range(14)], layers=3, k=2), width=1280)
    assert tab.js("document.querySelectorAll('.input').length") == 14
    assert tab.js("document.querySelector('.overview').hidden")
    wide = tab.js("document.querySelector('.cell').getBoundingClientRect().width")
    assert 69 <= wide < 83


def test_typing_a_search_moves_nothing(lens, open_page):
    tab = open_page(lens)
    top = "document.querySelector('.scroll').getBoundingClientRect().top"
    before = tab.js(top)
    tab.js("document.querySelector('.find').focus()")
    for text in ("a", "zul", "xyz"):
        tab.write(text)
        assert tab.js(top) == before
    assert tab.js("document.querySelector('.count').textContent") == "not in any stored cell"


def test_the_axis_of_ranks_is_beside_the_overview(open_page):
    tab = open_page(planted_lens([f"␣{i}" for i in range(40)], layers=6, k=4), "#q=azul")
    axis = "document.querySelector('.axis')"
    assert tab.js(f"{axis}.textContent") == "rank · layer"
    assert tab.js(f"{axis}.scrollWidth <= {axis}.clientWidth")


def test_keys_with_another_one_held_are_the_browsers(lens, open_page):
    tab = open_page(lens, "#at=2,3")
    tab.js("document.querySelector('.scroll').focus()")
    tab.js("window.taken = []; addEventListener('keydown', e => taken.push(e.defaultPrevented))")
    for key, held in (("l", "ctrlKey"), ("ArrowLeft", "altKey"), ("ArrowUp", "metaKey")):
        pressed = f"{{key: '{key}', {held}: true, bubbles: true, cancelable: true}}"
        tab.js(f"document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {pressed}))")
    tab.settle()
    assert tab.js("taken") == [False, False, False]
    assert active(tab) == (2, 3) and not tab.js("document.querySelector('.reading')")
    tab.key("L")
    assert tab.js("document.querySelector('.reading').dataset.layer") == "2"


def test_a_page_says_how_it_is_used(lens, open_page):
    said = "document.querySelector('footer').textContent"
    assert all(
        word in open_page(lens).js(said)
        for word in ("Click a cell", "a layer's number", "Enter", "L pins", "Escape closes")
    )
    said_of_grid = open_page(patches(("layer", "pos"), (5, 4))).js(said)
    assert "Click a cell" in said_of_grid and "a layer's number" not in said_of_grid


def test_a_picture_is_seen_whole_on_a_narrow_screen(open_page):
    lens = planted_lens(["<bos>", *[f"image {i}" for i in range(6)], "␣two"], layers=3, k=2)
    page = picture_map(lens, np.zeros((40, 60, 3), np.uint8), Tile((1, 2, 3, 4, 5, 6), 2, 3))
    tab = open_page(page, width=360, height=740)
    box = "document.querySelector('.boardbox')"
    assert tab.js(f"{box}.scrollWidth <= {box}.clientWidth")
    tab.resize(1280, 800)
    tab.settle()
    assert tab.js("document.querySelector('.board').offsetWidth") == 380


def test_a_cells_tokens_are_seen_with_their_ids_however_long_they_are(open_page):
    words = {"en": ["internationalisation" * 4, "␣" + "D" * 90], "unknown": ["=" * 60, "天" * 60]}
    tab = open_page(planted_lens(["<bos>", "D" * 200, "مرحبا" * 30], layers=3, k=4, words=words))
    for pos in range(3):
        tab.hover(f"#c1-{pos}")
        edge = tab.js("document.querySelector('.panel').getBoundingClientRect().right")
        listed = "[...document.querySelectorAll('.panel .id, .panel .where .token')]"
        found = tab.js(f"{listed}.map(e => e.getBoundingClientRect().right)")
        assert len(found) == 5 and max(found) <= edge
