"""The page of two lenses: both maps move together, and the difference shows the comparison's numbers."""

import re

import pytest
import torch

import semhub_lens as shl
from explored import LABELS, active, cells, every, in_chromium, rgb
from planted_lens import WORDS, planted_lens

HUES = {"en": (33, 96, 186)}


@pytest.fixture(scope="module")
def two(lens):
    return shl.compare(lens, planted_lens(LABELS, layers=6, k=4, seed=5), names=("clean", "<b>steered</b>"))


def shown(tab, prefix, value="c.textContent"):
    return {
        at: one
        for at, one in tab.js(
            f"[...document.querySelectorAll('.cell[id^={prefix}]')].map(c => "
            f"[c.id.slice(1).split('-').map(Number), {value}])"
        )
        for at in [tuple(at)]
    }


@in_chromium
def test_both_lenses_stand_side_by_side_under_their_names(two, open_page):
    tab = open_page(two)
    for prefix, side in zip("cb", (two.a, two.b), strict=True):
        found = shown(tab, prefix)
        assert found and all(text == side.strings()[layer][pos][0] for (layer, pos), text in found.items())
    assert tab.js("[...document.querySelectorAll('h2.name')].filter(h => h.offsetParent).map(h => h.textContent)") == [
        "A clean",
        "B <b>steered</b>",
    ]
    tops = tab.js(
        "[...document.querySelectorAll('.stage:not([hidden]) .scroll')].map(s => s.getBoundingClientRect().top)"
    )
    assert len(tops) == 2 and tops[0] == tops[1]


@in_chromium
def test_languages_have_one_hue_in_both(two, open_page):
    tab = open_page(two)
    tab.js("document.body.style.width = '3000px'")
    tab.resize(3000, 900)
    tab.settle()
    of = {text: name for name, texts in WORDS.items() for text in texts}
    strongest = {}
    for prefix, side in zip("cb", (two.a, two.b), strict=True):
        for at, colour in shown(tab, prefix, "getComputedStyle(c).backgroundColor").items():
            p = float(side.top_logprobs[at][0].exp())
            hue = [255 - (255 - one) / (0.05 + 0.95 * p**0.5) for one in rgb(colour)]
            if p > 0.3:
                strongest.setdefault(of[side.strings()[at[0]][at[1]][0]], []).append(hue)
    assert len(strongest) > 2
    for hues in strongest.values():
        assert torch.tensor(hues).std(0, correction=0).max() < 3


@in_chromium
def test_the_difference_shows_what_changed_as_the_comparison_says(two, open_page):
    tab = open_page(two)
    tab.click("[data-show=difference]")
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "changed"
    for at, (texts, colour) in shown(
        tab, "d", "[[...c.querySelectorAll('bdi')].map(b => b.textContent), getComputedStyle(c).backgroundColor]"
    ).items():
        was, now = (side.strings()[at[0]][at[1]][0] for side in (two.a, two.b))
        assert texts == ([now, was] if bool(two.changed[at]) else [now])
        assert (rgb(colour) == [255, 255, 255]) == (not bool(two.changed[at]))
    tab.click("[data-colour=replaced]")
    amber = torch.tensor([178.0, 88, 0])
    for at, colour in shown(tab, "d", "getComputedStyle(c).backgroundColor").items():
        assert rgb(colour) == pytest.approx((255 + (amber - 255) * two.replaced[at]).tolist(), abs=1)
    for name in ("entropy", "kl_to_final"):
        tab.click(f"[data-colour={name}]")
        change = two.change(name)
        for at, colour in shown(tab, "d", "getComputedStyle(c).backgroundColor").items():
            red, _, blue = rgb(colour)
            if abs(float(change[at])) > 0.05:
                assert (red > blue) == (float(change[at]) > 0)


@in_chromium
def test_moving_and_hovering_one_moves_the_other(open_page):
    long = [planted_lens(["␣word"] * 60, layers=5, k=3, seed=seed) for seed in (1, 2)]
    tab = open_page(shl.compare(*long))
    tab.js("document.querySelector('.scroll').scrollLeft = 900")
    tab.settle()
    tab.settle()
    lefts = "[...document.querySelectorAll('.stage:not([hidden]) .scroll')].map(s => s.scrollLeft)"
    assert tab.js(lefts) == [900, 900]
    assert {pos for _, pos in shown(tab, "c")} == {pos for _, pos in shown(tab, "b")}
    tab.hover("#b2-15")
    heads = tab.js("[...document.querySelectorAll('.panel .where')].map(p => p.textContent)")
    assert heads == [f"{name}layer 2 · position 15 · after ␣word" for name in "AB"]
    rows = tab.js("[...document.querySelectorAll('.panel .what')].map(c => c.textContent)")
    assert rows == [*long[0].strings()[2][15], *long[1].strings()[2][15]]
    rings = tab.js("[...document.querySelectorAll('.stage:not([hidden]) .ring')].map(r => [r.hidden, r.style.left])")
    assert rings[0] == rings[1] and not rings[0][0]
    tab.click("#b2-15")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => p.dataset.pos)") == ["15", "15"]
    tab.key("ArrowRight")
    assert tab.js("document.querySelectorAll('.scroll')[1].getAttribute('aria-activedescendant')") == "b2-16"


@in_chromium
def test_what_one_side_lacks_is_blank(open_page):
    a, b = planted_lens(["x", "y"], layers=3, k=2), planted_lens(["p", "x", "y"], layers=3, k=2, seed=2)
    both = shl.compare(a, b, align="end")
    tab = open_page(both)
    left = shown(tab, "c")
    assert {left[layer, 0] for layer in range(3)} == {""} and left[2, 1] == a.strings()[2][0][0]
    tab.hover("#c1-0")
    assert "no token here" in tab.js("document.querySelector('.panel').textContent")
    tab.click("[data-show=difference]")
    assert {shown(tab, "d")[layer, 0] for layer in range(3)} == {""}


@in_chromium
def test_a_page_of_two_opens_where_it_was_left(two, open_page):
    tab = open_page(two, "#s=difference&c=kl_to_final&at=2,3")
    assert tab.js("document.querySelector('[data-show=difference]').getAttribute('aria-pressed')") == "true"
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "kl_to_final"
    tab.click("[data-show=both]")
    assert len(shown(tab, "c")) and active(tab) == (2, 3)
    assert cells(tab, "0").keys() <= set(every(two.a))


def test_a_notebook_gets_both_in_a_frame(two):
    bundle = two._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"} and len(bundle["text/plain"].splitlines()) < 5
    assert "cells have another most probable token" in bundle["text/plain"]


@in_chromium
def test_prompts_of_unequal_length_keep_their_languages(open_page):
    """Columns without a token count for nothing in the shares, by which the colours are given out."""
    one, two = (planted_lens(LABELS[:n], layers=3, k=4, seed=n) for n in (2, 3))
    tab = open_page(shl.compare(one, two, align="end"))
    chips = tab.js("[...document.querySelectorAll('.legend .entry')].map(e => e.textContent)")
    assert chips[0] == "English" and {"Spanish", "Chinese", "Arabic"} <= {*chips}
    bars = tab.js("[...document.querySelectorAll('.share')].map(s => s.getAttribute('aria-label'))")
    assert len(bars) >= 6 and all("English" in bar or "Spanish" in bar for bar in bars[:6])
    assert not any("not measured" in bar or "NaN" in bar for bar in bars)


@pytest.fixture(scope="module")
def unequal():
    """Prompts of three and five tokens, aligned at the end."""
    a = planted_lens(["<bos>", "␣El", "␣es"], layers=4, k=3)
    b = planted_lens(["<bos>", "␣The", "␣sky", "␣here", "␣is"], layers=4, k=3, seed=4)
    return shl.compare(a, b, names=("es", "en"), align="end")


def share_of(lens, layer, language):
    """The mean probability of a language's stored tokens at a layer."""
    place = {token: i for i, (token, _) in enumerate(lens.vocabulary)}
    weights = lens.token_languages[:, lens.languages.index(language)]
    found = torch.tensor([[weights[place[i]] for i in ids] for ids in lens.top_ids[layer].tolist()])
    return float((found * lens.top_logprobs[layer].exp()).sum(1).mean())


@in_chromium
def test_shares_of_a_shorter_prompt_are_means_over_its_own_tokens(unequal, open_page):
    tab = open_page(unequal)
    for stage, lens in enumerate((unequal.a, unequal.b)):
        bars = f"document.querySelectorAll('.stage')[{stage}].querySelectorAll('.share')"
        named = tab.js(f"[...{bars}].map(b => b.getAttribute('aria-label'))")
        assert len(named) == 4
        for layer, words in zip((3, 2, 1, 0), named, strict=True):
            for code, name in (("en", "English"), ("es", "Spanish"), ("zh", "Chinese")):
                share = share_of(lens, layer, code)
                told = re.search(rf"{name} ([\d.]+) %", words)
                assert (float(told[1]) / 100 if told else 0) == pytest.approx(share, rel=0.02, abs=0.005)


@in_chromium
def test_both_prompts_are_named_and_their_tokens_stand_below_the_difference(unequal, open_page):
    tab = open_page(unequal, "#p=0,3")
    assert tab.js("document.querySelector('header').textContent") == (
        "Two lenses El es |  The sky here is3 | 5 tokens × 4 layers"
    )
    first, *_ = tab.js("[...document.querySelectorAll('.pin')].map(p => p.textContent)")
    assert first == "Ano token here×" and tab.js("document.querySelectorAll('.pin svg[role=img]').length") == 3
    tab.click("[data-show=difference]")
    inputs = "[...document.querySelectorAll('.stage:not([hidden]) .input')]"
    assert tab.js(f"{inputs}.map(i => [...i.querySelectorAll('bdi')].map(b => b.textContent))") == [
        ["<bos>"], ["␣The"], ["␣sky", "<bos>"], ["␣here", "␣El"], ["␣is", "␣es"],
    ]  # fmt: skip


@in_chromium
def test_one_prompt_is_named_once_and_one_token_is_one(open_page):
    one = planted_lens(["␣sky"], layers=3, k=2)
    header = "document.querySelector('header').textContent"
    assert open_page(one).js(header) == "Logit lens sky1 token × 3 layers"
    assert open_page(shl.compare(one, one)).js(header) == "Two lenses sky1 token × 3 layers"
