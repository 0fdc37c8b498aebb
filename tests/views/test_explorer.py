"""The page of a lens shows the result's numbers: cells, hover, colours, shares, pins, search."""

import dataclasses
import math
import re

import pytest
import torch

import semhub_lens as shl
from explored import BLUE, LABELS, active, cells, every, in_chromium, mixed, percent, probabilities, rgb
from planted_lens import WORDS, planted_lens
from semhub_lens.views.explorer.packing import probability_codes

ENGLISH, SPANISH, GREY = (33, 96, 186), (222, 120, 0), (122, 131, 146)


@pytest.mark.parametrize("p", [1.0, 0.9999, 0.99949, 0.5, 0.12345, 0.0999999, 1e-4, 3.14159e-9, 2e-44])
def test_a_packed_probability_keeps_three_digits(p):
    (code,) = probability_codes(torch.tensor([math.log(p)])).tolist()
    value = (100 + code % 900) / 100 * 10.0 ** -(code // 900)
    assert f"{value:.2e}" == f"{math.exp(float(torch.tensor(math.log(p)))):.2e}"


def test_a_probability_that_is_none_or_too_small_has_a_code_of_its_own():
    codes = probability_codes(torch.tensor([math.nan, -math.inf, -900.0, 1e-7]))
    assert codes.tolist() == [65534, 65535, 65535, 0]


@in_chromium
def test_every_cell_shows_its_most_probable_token_in_its_own_column(lens, open_page):
    tab = open_page(lens)
    shown = cells(tab, "c.textContent")
    assert shown == {(layer, pos): lens.strings()[layer][pos][0] for layer, pos in every(lens)}
    left = cells(tab, "c.getBoundingClientRect().left")
    top = cells(tab, "c.getBoundingClientRect().top")
    assert len({left[0, pos] for pos in range(len(LABELS))}) == len(LABELS)
    assert all(left[layer, pos] == left[0, pos] and top[layer, pos] == top[layer, 0] for layer, pos in every(lens))
    assert [top[layer, 0] for layer in range(6)] == sorted((top[layer, 0] for layer in range(6)), reverse=True)
    inputs = tab.js(
        "[...document.querySelectorAll('.input')].map(c => [c.textContent, c.getBoundingClientRect().left])"
    )
    assert inputs == [[label, left[0, pos]] for pos, label in enumerate(LABELS)]


@in_chromium
def test_special_characters_are_named_apart_from_text_and_every_token_has_its_own_direction(open_page):
    words = {"unknown": ["␣مرحبا", "U+200B", "<0xE4>", "a↵b"]}
    tab = open_page(planted_lens(LABELS, words=words, k=4))
    found = cells(tab, "[c.textContent, [...c.querySelectorAll('.named')].map(n => n.textContent), c.firstChild.dir, "
                       "getComputedStyle(c.firstChild).unicodeBidi]")  # fmt: skip
    named = {"␣مرحبا": ["␣"], "U+200B": ["U+200B"], "<0xE4>": ["<0xE4>"], "a↵b": ["↵"]}
    assert {text for text, *_ in found.values()} == set(named)
    assert all(one == [text, named[text], "auto", "isolate"] for one in found.values() for text in one[:1])


@in_chromium
def test_hovering_a_cell_lists_its_tokens_with_id_probability_and_language(lens, open_page):
    tab = open_page(lens)
    tab.hover("#c4-5")
    rows = tab.js("[...document.querySelectorAll('.panel tr')].map(r => [...r.children].map(c => c.textContent))")
    bars = tab.js("[...document.querySelectorAll('.panel .bar')].map(b => parseFloat(b.style.width))")
    language = {i: name for (i, _), name in zip(lens.vocabulary, (n for n, w in WORDS.items() for _ in w), strict=True)}
    words = {"en": "English", "es": "Spanish", "zh": "Chinese", "ar": "Arabic", "unknown": "unknown"}
    for rank, (row, bar) in enumerate(zip(rows, bars, strict=True)):
        token, p = int(lens.top_ids[4, 5, rank]), probabilities(lens)[4][5][rank]
        assert row == [lens.strings()[4][5][rank], "", percent(p), words[language[token]], f"#{token}"]
        assert bar == pytest.approx(100 * p, rel=6e-3)
    assert len(rows) == 4
    facts = tab.js("document.querySelector('.facts').textContent")
    assert f"entropy {float(lens.entropy[4, 5]):#.3g} nats" in facts
    assert f"KL to final {float(lens.kl_to_final[4, 5]):#.3g} nats" in facts
    assert "layer 4 · position 5 · after 天" in tab.js("document.querySelector('.where').textContent")


@in_chromium
def test_the_language_view_comes_first_and_its_hue_is_the_language_its_strength_the_probability(lens, open_page):
    tab = open_page(lens)
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "language"
    legend = tab.js("document.querySelector('.legend').textContent")
    assert all(name in legend for name in ("English", "Spanish", "Chinese", "Arabic", "unknown or shared"))
    colours = cells(tab, "getComputedStyle(c).backgroundColor")
    of = {text: name for name, texts in WORDS.items() for text in texts}
    hues = {"en": ENGLISH, "unknown": GREY}
    for (layer, pos), shown in colours.items():
        name, p = of[lens.strings()[layer][pos][0]], probabilities(lens)[layer][pos][0]
        if name in hues:
            assert rgb(shown) == pytest.approx(mixed(hues[name], p), abs=1.5)
    strongest = {of[lens.strings()[layer][pos][0]]: rgb(colours[layer, pos]) for layer, pos in every(lens)}
    assert len({tuple(colour) for colour in strongest.values()}) == len(strongest)


@in_chromium
def test_a_token_that_no_language_has_half_of_is_grey_and_says_which_share_it(open_page):
    lens = planted_lens(["a"], words={"en": ["de"], "es": []}, layers=2, k=1)
    table = shl.LanguageTable(("en", "es", "pt"), torch.tensor([[0.45, 0.35, 0.2]] * 20), "planted")
    tab = open_page(lens.with_languages(table))
    assert rgb(cells(tab, "getComputedStyle(c).backgroundColor")[1, 0]) == list(GREY)
    tab.hover("#c1-0")
    assert tab.js("document.querySelector('.whose').textContent") == "English 45 %, Spanish 35 %, Portuguese 20 %"


@in_chromium
def test_the_buttons_recolour_by_probability_entropy_kl_and_where_the_answer_stays(lens, open_page):
    tab = open_page(lens)
    tab.click("[data-colour=probability]")
    for (layer, pos), shown in cells(tab, "getComputedStyle(c).backgroundColor").items():
        assert rgb(shown) == pytest.approx(mixed(BLUE, probabilities(lens)[layer][pos][0]), abs=1.5)
    for name in ("entropy", "kl_to_final"):
        tab.click(f"[data-colour={name}]")
        shown = cells(tab, "getComputedStyle(c).backgroundColor")
        blue = [rgb(shown[at])[2] for at in sorted(every(lens), key=lambda at: float(getattr(lens, name)[at]))]
        assert blue == sorted(blue, reverse=True) and blue[0] > 200 > 30 > blue[-1]
    tab.click("[data-colour=stays]")
    shown = cells(tab, "getComputedStyle(c).backgroundColor")
    top = lens.top_ids[..., 0].tolist()
    for pos in range(len(LABELS)):
        stays = max([layer + 1 for layer in range(6) if top[layer][pos] != top[-1][pos]], default=0)
        assert len({shown[layer, pos] for layer in range(stays, 6)}) == 1
        again = [(255, 255, 255) if top[layer][pos] != top[-1][pos] else (226, 229, 236) for layer in range(stays)]
        assert [tuple(rgb(shown[layer, pos])) for layer in range(stays)] == again
        assert tuple(rgb(shown[5, pos])) not in {(255, 255, 255), (226, 229, 236)}


@in_chromium
def test_the_bars_beside_the_map_are_the_visible_tokens_shares_of_languages(lens, open_page):
    tab = open_page(lens)
    shown = tab.js("[...document.querySelectorAll('.share')].map(b => b.getAttribute('aria-label'))")
    p = lens.top_logprobs.exp().double()
    place = {token: i for i, (token, _) in enumerate(lens.vocabulary)}
    rows = torch.tensor([place[i] for i in lens.top_ids.flatten().tolist()]).view(lens.top_ids.shape)
    mass = (p[..., None] * lens.token_languages[rows]).sum(2).mean(1)
    names = {"en": "English", "es": "Spanish", "zh": "Chinese", "ar": "Arabic", "unknown": "unknown"}
    for layer, text in enumerate(reversed(shown)):
        told = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+) %", text.split(": ")[1])}
        for code, share in zip(lens.languages, mass[layer].tolist(), strict=True):
            assert told.get(names[code], 0) == pytest.approx(100 * share, abs=0.51)


@in_chromium
def test_the_bars_are_as_wide_as_the_shares(lens, open_page):
    tab = open_page(lens)
    rows = tab.js("""(c => {
        const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        return [...Array(6).keys()].map(row => Object.entries([...Array(c.width).keys()].reduce((found, x) => {
            const at = 4 * ((24 * (5 - row) + 12) * c.width + x), colour = data.slice(at, at + 4).join();
            return {...found, [colour]: (found[colour] ?? 0) + 1 / c.width};
        }, {})));
    })(document.querySelector(".shares canvas"))""")
    place = {token: i for i, (token, _) in enumerate(lens.vocabulary)}
    entries = torch.tensor([place[i] for i in lens.top_ids.flatten().tolist()]).view(lens.top_ids.shape)
    mass = (lens.top_logprobs.exp()[..., None] * lens.token_languages[entries]).sum(2).mean(1)
    for layer, found in enumerate(map(dict, rows)):
        for name, colour in (("en", ENGLISH), ("unknown", GREY)):
            share = float(mass[layer, lens.languages.index(name)])
            assert found.get(",".join(map(str, (*colour, 255))), 0) == pytest.approx(share, abs=0.013)
        assert found.get("0,0,0,0", 0) == pytest.approx(1 - float(mass[layer].sum()), abs=0.013)


@in_chromium
def test_a_click_pins_a_position_and_draws_every_stored_token_by_its_id(lens, open_page):
    tab = open_page(lens)
    tab.click("#c2-3")
    tab.click("#c5-6")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => Number(p.dataset.pos))") == [3, 6]
    drawn = tab.js("""Object.fromEntries([...document.querySelectorAll('.pin[data-pos="3"] g')].map(g => [g.dataset.id,
        [...g.querySelectorAll('title')].map(t => t.textContent)]))""")
    wanted = {}
    for layer in range(6):
        for rank, token in enumerate(lens.top_ids[layer, 3].tolist()):
            where = "embedding" if layer == 0 else f"layer {layer}"
            text, p = lens.strings()[layer][3][rank], probabilities(lens)[layer][3][rank]
            wanted.setdefault(str(token), []).append(f"{text} #{token}, {where}: {percent(p)}")
    assert drawn == wanted
    tab.click("#c0-3")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => Number(p.dataset.pos))") == [6]


def with_curves(lens):
    """Two whole curves at every position: of the final token and of another that is stored there."""
    layers, positions = lens.entropy.shape
    ids = lens.top_ids[-1, :, :2].clone()
    ids[1, 1] = -1
    draw = torch.Generator().manual_seed(5)
    curves = -9 * torch.rand((layers, positions, 2), generator=draw)
    for layer, pos in every(lens):
        for curve, token in enumerate(ids[pos].tolist()):
            stored = (lens.top_ids[layer, pos] == token).nonzero()
            curves[layer, pos, curve] = lens.top_logprobs[layer, pos, stored[0, 0]] if len(stored) else -9.0 - curve
    return dataclasses.replace(lens, curve_ids=ids, curve_logprobs=curves.masked_fill(ids == -1, torch.nan))


def known(lens, tokens, layer, pos):
    """The summed probability of tokens in a cell, of the stored ones and of whole curves; None if none is known."""
    read = dict(zip(lens.top_ids[layer, pos].tolist(), probabilities(lens)[layer][pos], strict=True))
    if lens.curve_ids is not None:
        curves = lens.curve_logprobs[layer, pos].double().exp().tolist()
        read |= {t: p for t, p in zip(lens.curve_ids[pos].tolist(), curves, strict=True) if t >= 0}
    held = [read[token] for token in tokens if token in read]
    return sum(held) if held else None


@in_chromium
def test_the_curve_of_a_token_that_leads_is_whole(lens, open_page):
    found = with_curves(lens)
    tab = open_page(found, "#p=1,3")
    for pos in (1, 3):
        titles = tab.js(f"""Object.fromEntries([...document.querySelectorAll('.pin[data-pos="{pos}"] g')].map(
            g => [g.dataset.id, [...g.querySelectorAll('title')].map(t => t.textContent.split(': ')[1])]))""")
        for token, shown in titles.items():
            read = [known(found, [int(token)], layer, pos) for layer in range(6)]
            assert shown == [percent(p) for p in read if p is not None]
        assert tab.js(f"document.querySelector('.pin[data-pos=\"{pos}\"] li').textContent").startswith(
            found.strings()[-1][pos][0] + f" #{found.top_ids[-1, pos, 0]}"
        )
        whole = [token for token in found.curve_ids[pos].tolist() if token >= 0]
        assert len(whole) == (1 if pos == 1 else 2)
        assert all(len(titles[str(token)]) == 6 for token in whole) and any(len(t) < 6 for t in titles.values())


@in_chromium
def test_typed_words_are_one_curve_for_all_their_spellings_and_colour_the_map(lens, open_page):
    found = with_curves(lens)
    listed = dict(found.vocabulary)
    groups = {word: [i for i, text in listed.items() if text.strip("␣").lower() == word] for word in ("azul", "blue")}
    tab = open_page(found, "#p=3&c=found&q=azul%2C+blue")
    assert len(groups["blue"]) == 3 and tab.js("document.querySelector('.find').value") == "azul, blue"
    for word, tokens in groups.items():
        drawn = tab.js(f"""[...document.querySelectorAll('g[data-id="typed {word}"] title')].map(t => t.textContent)""")
        read = [(layer, known(found, tokens, layer, 3)) for layer in range(6)]
        assert drawn == [
            f"{word} ({len(tokens)} tokens), {f'layer {layer}' if layer else 'embedding'}: {percent(p)}"
            for layer, p in read
            if p is not None
        ]
    colours = cells(tab, "getComputedStyle(c).backgroundColor")
    for layer, pos in every(found):
        p = known(found, groups["azul"] + groups["blue"], layer, pos)
        wanted = mixed(BLUE, p) if p else [255, 255, 255]
        assert rgb(colours[layer, pos]) == pytest.approx(wanted, abs=1.5)
    ranks = tab.js("[...document.querySelectorAll('.layers > div')].map(row => row.dataset.rank ?? null)")
    held = set(groups["azul"] + groups["blue"])
    for layer, rank in enumerate(reversed(ranks)):
        places = [r for row in found.top_ids[layer].tolist() for r, token in enumerate(row) if token in held]
        assert rank == (str(min(places) + 1) if places else None)


@in_chromium
def test_a_layers_name_pins_the_text_as_that_layer_reads_it(lens, open_page):
    tab = open_page(lens, "#r=0")
    tab.click(".layers > :nth-child(2)")
    words = "[...f.querySelectorAll('p button')]"
    read = f"[...document.querySelectorAll('.reading')].map(f => [f.dataset.layer, ...{words}"
    texts = {layer: [row[0] for row in lens.strings()[layer]] for layer in (0, 4)}
    assert tab.js(f"{read}.map(b => b.textContent)])") == [["0", *texts[0]], ["4", *texts[4]]]
    own = cells(tab, "getComputedStyle(c).backgroundColor")
    shown = tab.js(f"{read}.map(b => getComputedStyle(b).backgroundColor)])")
    assert shown[1][1:] == [own[4, pos] for pos in range(len(LABELS))]
    tab.click('.reading[data-layer="4"] p button[data-pos="2"]')
    assert tab.js("document.querySelector('.pins .pin[data-pos]').dataset.pos") == "2"
    tab.js("document.querySelector('.scroll').focus()")
    tab.key("ArrowUp", "l")  # the layer that the keyboard stands on: the last one
    assert tab.js("[...document.querySelectorAll('.reading')].map(f => f.dataset.layer)") == ["0", "4", "5"]
    tab.click('.reading[data-layer="0"] .close')
    tab.js("new Promise(done => setTimeout(done, 400))")
    assert "r=4%2C5" in tab.js("location.hash")


@in_chromium
@pytest.mark.parametrize("typed", ["azul", "AZUL", "#{id}"])
def test_a_search_lights_up_the_cells_that_hold_the_word_and_steps_through_them(lens, open_page, typed):
    listed = dict(lens.vocabulary)
    wanted = [i for i, text in listed.items() if text.strip("␣") == "azul"]
    wanted = wanted[:1] if "id" in typed else wanted
    tab = open_page(lens)
    tab.js("document.querySelector('.find').focus()")
    tab.write(typed.format(id=wanted[0]))
    held = [at for at in every(lens) if set(wanted) & set(lens.top_ids[at].tolist())]
    assert {at for at, hit in cells(tab, "c.classList.contains('hit')").items() if hit} == set(held)
    assert tab.js("document.querySelector('.count').textContent") == f"{len(held)} cells"
    visited = []
    for _ in held:
        tab.key("Enter")
        visited.append(active(tab))
    assert visited == sorted(held, key=lambda at: (at[1], at[0]))


@in_chromium
def test_what_nothing_holds_is_said(lens, open_page):
    tab = open_page(lens)
    tab.js("document.querySelector('.find').focus()")
    tab.write("zebra")
    assert tab.js("document.querySelector('.count').textContent") == "not in any stored cell"
    assert not any(cells(tab, "c.classList.contains('hit')").values())


@in_chromium
def test_tokens_of_one_script_have_no_bars_and_their_inputs_stand_below_the_map(open_page):
    lens = planted_lens(LABELS, words={"en": WORDS["en"]}, layers=4, k=3, languages=False)
    tab = open_page(lens)
    assert tab.js("document.querySelectorAll('.share').length") == 0
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "probability"
    below = "document.querySelector('.tokens').getBoundingClientRect()"
    above = "document.querySelector('.scroll').getBoundingClientRect()"
    assert tab.js(f"{below}.left === {above}.left && {below}.width === {above}.width && {below}.top >= {above}.bottom")
