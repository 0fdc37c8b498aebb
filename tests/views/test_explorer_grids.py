"""Grids of numbers in the explorer's shell: cells, hover, pins, sheets and CSV are the result's numbers."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import samples
import semhub_lens as shl
from explored import PATCHED as LABELS
from explored import cells, in_chromium, patches, rgb
from semhub_lens.base.results import unnamed
from semhub_lens.geometry.cosine import CosineResult
from semhub_lens.views.stills import figure_still
from semhub_lens.views.style import number


@pytest.fixture(scope="module")
def heads():
    return patches(("layer", "pos", "head"), (5, 4, 3))


def shown_number(value):
    return f"{value:.2f}".replace("-", "−") if round(value, 2) else "0.00"


def number_in(title):
    """The number behind the colon, with a minus sign."""
    text = title.split(": ")[1]
    assert "-" not in text.split("e")[0]
    return float(text.replace("−", "-"))


def choose(tab, sheet):
    chosen = "document.querySelector('select')"
    tab.js(f"{chosen}.selectedIndex = {sheet}; {chosen}.dispatchEvent(new Event('change'))")
    tab.settle()


@in_chromium
def test_every_cell_shows_its_normalised_effect_of_the_chosen_head(heads, open_page):
    tab = open_page(heads)
    for head in (0, 2, 1):
        choose(tab, head)
        wanted = heads.normalised[..., head]
        found = cells(tab, "[c.textContent, getComputedStyle(c).backgroundColor]")
        assert len(found) == 20
        for (layer, pos), (text, colour) in found.items():
            value = float(wanted[layer, pos])
            assert text == shown_number(value)
            red, _, blue = rgb(colour)
            assert (red > blue) == (value > 0) or abs(value) < 0.02


@in_chromium
def test_hover_says_block_both_tokens_head_and_the_metric(heads, open_page):
    tab = open_page(heads, "#h=1")
    tab.hover("#c3-2")
    assert tab.js("document.querySelector('.where').textContent") == "block 3 · position 2 · ␣France ← ␣Spain · head 1"
    told = tab.js("document.querySelector('.facts').textContent")
    assert f"logit difference {float(heads.values[3, 2, 1]):#.3g}".replace("-", "−") in told
    assert f"normalised effect {float(heads.normalised[3, 2, 1]):#.3g}".replace("-", "−") in told
    tab.hover("#c3-3")
    assert "position 3 from 4" in tab.js("document.querySelector('.where').textContent")
    assert tab.js("[...document.querySelectorAll('.under')].map(u => u.textContent)") == ["␣Spain"]
    assert not tab.js("document.querySelector('main b b, main table b')")


@in_chromium
def test_a_pin_draws_the_column_through_the_blocks_and_the_row_through_the_columns(heads, open_page):
    tab = open_page(heads)
    tab.click("#c3-2")
    curves = tab.js("""[...document.querySelectorAll('.pin')].map(p => Object.fromEntries(
        [...p.querySelectorAll('g')].map(g => [g.dataset.sheet,
            [...g.querySelectorAll('title')].map(t => t.textContent)])
    ))""")
    assert len(curves) == 2
    for head in range(3):
        column = [number_in(title) for title in curves[0][str(head)]]
        assert column == pytest.approx(heads.normalised[:, 2, head].tolist(), rel=6e-3, abs=1e-6)
        row = [number_in(title) for title in curves[1][str(head)]]
        assert row == pytest.approx(heads.normalised[3, :, head].tolist(), rel=6e-3, abs=1e-6)


@in_chromium
def test_the_table_holds_every_number(heads, open_page):
    tab = open_page(heads)
    tab.js("""window.made = null; URL.createObjectURL = blob => { window.made = blob.text(); return "blob:null/x"; };
        HTMLAnchorElement.prototype.click = () => {};""")
    tab.js("[...document.querySelectorAll('button')].find(b => b.textContent === 'CSV').click()")
    rows = list(csv.DictReader(io.StringIO(tab.js("window.made"))))
    assert len(rows) == heads.values.numel()
    wanted = heads.values.permute(2, 0, 1).flatten().tolist()
    assert [float(row["metric"]) for row in rows] == pytest.approx(wanted)
    assert rows[-1]["head"] == "head 2" and rows[-1]["block"] == "4" and rows[-1]["column"] == LABELS[-1]


@in_chromium
def test_cosines_and_heads_of_all_positions_and_undefined_effects_have_pages(open_page):
    cosine = torch.rand((4, 3, 2), generator=torch.Generator().manual_seed(1)) * 2 - 1
    tab = open_page(CosineResult(cosine, ("red", "blue"), provenance=unnamed()), "#h=1")
    assert cells(tab, "c.textContent") == {
        (layer, pos): shown_number(float(cosine[layer, pos, 1])) for layer in range(4) for pos in range(3)
    }
    tab.hover("#c2-1")
    assert tab.js("document.querySelector('.where').textContent") == "layer 2 · position 1 · blue"
    assert tab.js("document.querySelector('header').textContent").endswith("4 layers × 3 columns × 2 references")
    assert tab.js("document.querySelector('.scroll').getAttribute('aria-label')").startswith(
        "Cosine with reference states, layers by positions."
    )
    tab = open_page(patches(("layer", "head"), (5, 4)))
    tab.hover("#c2-1")
    assert tab.js("document.querySelector('.where').textContent") == "block 2 · head 1"
    same = patches(("layer", "pos"), (5, 4))
    object.__setattr__(same, "clean", same.corrupted)
    tab = open_page(same)
    found = cells(tab, "c.textContent")
    assert found[2, 1] == shown_number(float(same.effect[2, 1])), "without a span the effect itself is shown"


@in_chromium
def test_a_sweep_shows_the_mean_change_of_each_score_and_condition(tiny_model, open_page):
    sweep = samples.sweep_result(tiny_model)
    tab = open_page(sweep)
    names = tab.js("[...document.querySelector('select').options].map(o => o.textContent)")
    assert len(names) == len(set(names)) and f"{sweep.names[0]}: {sweep.conditions[0]}" in names
    score, condition = names[-1].split(": ")
    choose(tab, len(names) - 1)
    mean = sweep.effect(score, condition).nanmean(-1)
    found = cells(tab, "c.textContent")
    assert len(found) == mean.numel()
    for (layer, pos), text in found.items():
        assert float(text.replace("−", "-")) == pytest.approx(float(mean[layer, pos]), abs=0.051)


@in_chromium
def test_numbers_and_names_on_the_axes_of_a_pin_do_not_run_into_each_other(open_page):
    long = patches(("layer", "pos"), (18, 4))
    object.__setattr__(long, "labels", tuple(f"␣a_rather_long_token_{i}" for i in range(4)))
    long.values[:] = long.corrupted + 2 * torch.linspace(-0.05, 1, 72).reshape(18, 4)
    tab = open_page(long, "#p=0,1&at=4,2")
    boxes = tab.js("""[...document.querySelectorAll('.pin svg')].map(s => [...s.querySelectorAll('text')].map(t =>
        (r => [r.left, r.top + 2, r.right, r.bottom - 2])(t.getBoundingClientRect())))""")
    assert len(boxes) == 3
    for found in boxes:
        for i, one in enumerate(found):
            for other in found[:i]:
                apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
                assert apart, (one, other)


@in_chromium
def test_strengths_have_a_minus_sign_on_screen_and_a_plain_one_in_the_table(tiny_model, open_page):
    sweep = samples.sweep_result(tiny_model)
    object.__setattr__(sweep, "strengths", tuple(-abs(one) for one in sweep.strengths))
    tab = open_page(sweep)
    shown = tab.js("[...document.querySelectorAll('.input bdi')].map(b => b.textContent)")
    assert shown == [f"−{abs(one):g}" for one in sweep.strengths]
    tab.js("""window.made = null; URL.createObjectURL = blob => { window.made = blob.text(); return "blob:null/x"; };
        HTMLAnchorElement.prototype.click = () => {};""")
    tab.js("[...document.querySelectorAll('button')].find(b => b.textContent === 'CSV').click()")
    rows = list(csv.DictReader(io.StringIO(tab.js("window.made"))))
    assert {float(row["column"]) for row in rows} == {*sweep.strengths}


def test_a_picture_of_one_head_or_reference_names_it(heads):
    cosine = CosineResult(torch.rand(4, 3, 2), ("red", "blue"), provenance=unnamed())
    for result, first, second in ((heads, "head 0", "head 1"), (cosine, "red", "blue")):
        figure = shl.figure(result)
        assert figure.layout.title.text.startswith(f"<b>{first} · ")
        assert f">{first} · " in figure_still(figure)
        data, layout = figure.layout.updatemenus[0].buttons[1].args
        assert layout["title.text"].startswith(f"<b>{second} · ") and data["z"][0] != figure.data[0].z


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (-0.5, ".2f", "−0.50"),
        (-0.001, ".2f", "0.00"),
        (0.5, ".2f", "0.50"),
        (-2e-7, ".3g", "−2e-07"),
        (-2.0, "g", "−2"),
    ],
)
def test_a_number_for_people_has_a_minus_sign_unless_it_is_rounded_to_zero(value, form, shown):
    assert number(value, form) == shown


@in_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_a_legend_of_several_rows_is_apart_from_axes_and_provenance(chrome, tmp_path, width):
    saved = Path(__file__).parents[2] / "notebooks" / "runs" / "multilingual.similarity.safetensors"
    tab = chrome.open(shl.write_html(shl.load_result(saved), tmp_path / "curves.html").as_uri(), width=width)
    tab.until("document.querySelector('.legend .traces')")
    tops = "s => [...document.querySelectorAll(s)].map(e => e.getBoundingClientRect()).map(r => [r.top, r.bottom])"
    legend, *titles = [tab.js(f"({tops})('{one}')") for one in (".legend .bg", ".xtitle, .x2title, .x3title, .x4title")]
    note = max(tab.js(f"({tops})('.annotation')"))
    ticks = max(bottom for _, bottom in tab.js(f"({tops})('.xtick text, .x3tick text')"))
    ((high, low),) = legend
    assert all(bottom <= high + 1 for _, bottom in titles[0]) and titles[0]
    assert low <= note[0] + 6
    assert ticks <= max(top for top, _ in titles[0]) + 3
    tab.close()


@in_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_the_ticks_and_titles_of_many_panels_are_apart(chrome, tmp_path, width):
    saved = Path(__file__).parents[2] / "notebooks" / "runs" / "multilingual.similarity.safetensors"
    run = shl.load_result(saved)
    many = replace(run, legs=tuple(run.legs[0] for _ in range(8)))
    tab = chrome.open(shl.write_html(many, tmp_path / "curves.html").as_uri(), width=width)
    tab.until("document.querySelector('.legend .traces')")
    found = "[...document.querySelectorAll('[class^=x][class$=tick] text, [class^=x][class$=title], .annotation-text')]"
    boxes = "map(e => e.getBoundingClientRect()).map(r => [r.left, r.top, r.right, r.bottom])"
    words = [box for box in tab.js(f"{found}.{boxes}") if any(box)]
    assert len(words) > 80
    for one, (left, top, right, bottom) in enumerate(words):
        for a, b, c, d in words[one + 1 :]:
            assert min(right, c) - max(left, a) < 1 or min(bottom, d) - max(top, b) < 3
    tab.close()


@in_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_a_pin_of_a_sweep_has_the_conditions_of_one_score_with_their_names(tiny_model, open_page, width):
    sweep = samples.sweep_result(tiny_model)
    tab = open_page(sweep, "#p=1&at=1,1", width=width)
    for sheet, score in ((0, sweep.names[0]), (len(sweep.conditions), sweep.names[1])):
        choose(tab, sheet)
        lines = tab.js("""[...document.querySelector('.pin').querySelectorAll('g')].map(g =>
            [Number(g.dataset.sheet), [...g.querySelectorAll('title')].map(t => t.textContent)])""")
        assert sorted(at for at, _ in lines) == [sheet + i for i in range(len(sweep.conditions))]
        for at, titles in lines:
            wanted = sweep.effect(score, sweep.conditions[at - sheet]).nanmean(-1)[:, 1].tolist()
            assert [number_in(f": {one.split(': ')[-1]}") for one in titles] == pytest.approx(wanted, rel=6e-3)
        named = tab.js("[...document.querySelector('.pin').querySelectorAll('.end')].map(t => t.textContent)")
        assert sweep.conditions[0] in named and {*named} <= {*sweep.conditions}
        assert f"the other conditions of {score}" in tab.js("document.querySelector('.pin').textContent")
    boxes = tab.js("""[...document.querySelectorAll('.pin')].map(p => [...p.querySelectorAll('svg text')].map(t =>
        (r => [r.left, r.top + 2, r.right, r.bottom - 2])(t.getBoundingClientRect())))""")
    edges = tab.js("[...document.querySelectorAll('.pin')].map(p => p.getBoundingClientRect().right)")
    for found, edge in zip(boxes, edges, strict=True):
        assert max(right for _, _, right, _ in found) <= edge
        for i, one in enumerate(found):
            for other in found[:i]:
                assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1], (
                    one,
                    other,
                )
    assert tab.js("(c => c.scrollWidth <= c.clientWidth)([...document.querySelectorAll('.corner')].at(-2))")


def test_panels_that_share_an_axis_have_its_numbers_once_in_a_picture(tiny_model):
    sweep = samples.sweep_result(tiny_model)
    texts = re.findall(r'text-anchor="end"[^>]*>([^<]*)<', figure_still(shl.figure(sweep)))
    rows = len(sweep.damage) + 1
    assert [texts.count(str(layer)) for layer in sweep.layers] == [rows] * len(sweep.layers)


def test_panels_of_curves_keep_their_numbers_in_a_picture(tiny_model):
    """A still draws each panel to its own numbers, so that none may go without them."""
    drawn = figure_still(shl.figure(samples.concepts(tiny_model)))
    panels = drawn.count('<svg x="')
    ticks = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end"[^>]*>[\d.e−]+<', drawn)
    assert panels > 1 and len({*ticks}) == panels
