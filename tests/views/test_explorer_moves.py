"""The map is moved: only what is on screen exists, in its order, and what is not new is left as it is."""

from explored import assert_blue, cells, in_chromium
from planted_lens import planted_lens

WATCHED = """(act => {
    const made = [];
    const watch = new MutationObserver(all => all.forEach(one => made.push(...one.addedNodes)));
    const parts = document.querySelectorAll('.scroll, .tokens, .shares');
    parts.forEach(part => watch.observe(part, {childList: true, subtree: true}));
    act();
    return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
        watch.takeRecords().forEach(one => made.push(...one.addedNodes));
        done(made.map(node => node.className));
    })));
})"""


@in_chromium
def test_only_visible_cells_exist_and_the_whole_text_is_one_picture(open_page):
    lens = planted_lens(["␣word"] * 300, layers=12, k=2)
    tab = open_page(lens)
    assert tab.js("document.querySelectorAll('.cell').length") < 12 * 25
    tab.js("document.querySelector('.scroll').scrollLeft = 1e9")
    tab.settle()
    shown, strings = cells(tab, "c.textContent"), lens.strings()
    assert (5, 299) in shown and (5, 0) not in shown
    assert all(text == strings[layer][pos][0] for (layer, pos), text in shown.items())
    tab.click("[data-colour=probability]")
    tab.click(".whole-text")
    assert tab.js("document.querySelectorAll('.cell').length") == 0
    assert_blue(tab, ".paint", lens)


@in_chromium
def test_the_overview_shows_every_token_and_is_dragged_to_move_the_map(open_page):
    lens = planted_lens(["␣word"] * 300, layers=12, k=2)
    tab = open_page(lens)
    tab.click("[data-colour=probability]")
    assert_blue(tab, ".whole", lens)
    middle = tab.middle(".frame")
    x, width = tab.js("(r => [r.left, r.width])(document.querySelector('.overview').getBoundingClientRect())")
    tab.drag(middle, [x + width * 0.75, middle[1]])
    tab.settle()
    first, last = min(cells(tab, "0"), key=lambda at: at[1])[1], max(cells(tab, "0"), key=lambda at: at[1])[1]
    assert first < 225 < last


@in_chromium
def test_scrolling_makes_what_comes_into_sight_and_recolouring_makes_nothing(open_page):
    tab = open_page(planted_lens(["␣word"] * 300, layers=12, k=2))
    tab.js("document.querySelector('.scroll').scrollLeft = 84 * 20")
    tab.settle()
    for by in (84, -84):
        made = tab.js(f"{WATCHED}(() => document.querySelector('.scroll').scrollLeft += {by})")
        assert sorted(made) == ["cell"] * 12 + ["input"]
    for name in ("entropy", "probability", "stays", "language"):
        assert tab.js(f"{WATCHED}(() => document.querySelector('[data-colour={name}]').click())") == []


@in_chromium
def test_cells_and_inputs_stand_in_reading_order_wherever_the_map_was_moved(open_page):
    tab = open_page(planted_lens(["␣word"] * 300, layers=4, k=2))
    for left in (84 * 50, 84 * 47, 84 * 60, 84 * 58, 0):
        tab.js(f"document.querySelector('.scroll').scrollLeft = {left}")
        tab.settle()
        rows = tab.js("[...document.querySelectorAll('.row')].map(r => [...r.children].map(c => +c.ariaColIndex))")
        inputs = tab.js("[...document.querySelectorAll('.input')].map(c => Number(c.dataset.pos))")
        assert len(rows) == 4 and all(row == list(range(row[0], row[-1] + 1)) for row in rows)
        assert inputs == list(range(inputs[0], inputs[-1] + 1)) and inputs[0] >= rows[0][0] - 1
        order = tab.js("[...document.querySelectorAll('.row')].map(r => r.getAttribute('aria-rowindex'))")
        assert order == ["1", "2", "3", "4"]


@in_chromium
def test_the_bars_follow_the_visible_tokens(open_page):
    tab = open_page(planted_lens(["␣word"] * 300, layers=3, k=2))
    label = "document.querySelector('.share').title"
    assert "tokens 0 to" in tab.js(label)
    before = tab.js("document.querySelector('.shares canvas').toDataURL()")
    tab.js("document.querySelector('.scroll').scrollLeft = 84 * 100")
    tab.settle()
    assert tab.js("document.querySelector('.shares canvas').toDataURL()") != before
    tab.js("new Promise(done => setTimeout(done, 400))")  # its words follow when the map stands still
    assert "tokens 100 to" in tab.js(label)


@in_chromium
def test_only_words_that_do_not_fit_are_cut(open_page):
    words = {"en": ["␣a", "␣incomprehensibilities"], "hi": ["नीला"]}
    tab = open_page(planted_lens(["␣x"] * 30, layers=3, k=1, words=words))
    cut = cells(
        tab, "[c.textContent, getComputedStyle(c.firstChild).overflow, c.firstChild.scrollWidth > c.clientWidth]"
    )
    kinds = {tuple(one) for one in cut.values()}
    assert kinds == {("␣a", "visible", False), ("␣incomprehensibilities", "hidden", True), ("नीला", "hidden", False)}
    tab.js("(s => { s.value = 100; s.dispatchEvent(new Event('input')); })(document.querySelector('.zoom'))")
    tab.settle()
    assert not any(over and shown != "hidden" for _, shown, over in cells(
        tab, "[c.textContent, getComputedStyle(c.firstChild).overflow, c.firstChild.scrollWidth > c.clientWidth]"
    ).values())  # fmt: skip


@in_chromium
def test_the_map_is_moved_without_being_drawn_anew(open_page):
    """The browser moves by itself only what has an opaque ground."""
    tab = open_page(planted_lens(["␣word"] * 300, layers=3, k=2))
    for dark in (False, True):
        tab.dark(dark)
        tab.settle()
        ground = tab.js("getComputedStyle(document.querySelector('.scroll')).backgroundColor")
        assert ground == tab.js("getComputedStyle(document.body).backgroundColor") and ground.startswith("rgb(")
