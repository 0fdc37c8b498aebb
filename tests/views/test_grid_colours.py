"""The colours of grids: symmetric round zero, as strong as the largest number, the same on page, figure and still."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch

import samples
import semhub_lens as shl
from explored import LABELS, cells, choose, in_chromium, patches, rgb
from planted_lens import planted_lens
from semhub_lens.base.results import unnamed
from semhub_lens.geometry.cosine import CosineResult
from semhub_lens.views.explorer.grids import grid_view
from semhub_lens.views.scale import AMBER, DIVERGING, UNKNOWN, reach
from semhub_lens.views.stills import figure_still
from semhub_lens.views.style import number

BLUE, ORANGE, WHITE = [29, 74, 165], [178, 88, 0], [255, 255, 255]


def grid_of(normalised, axes=("layer", "pos")):
    """A grid with these normalised effects, of one position a column."""
    found = patches(axes, (5, 4, 3)[: len(axes)])
    return replace(found, values=found.corrupted + (found.clean - found.corrupted) * normalised)


def effects(largest, shape=(5, 4)):
    """Random effects of which the largest is at cell (3, 1), and that of the other sign is half of it."""
    values = (torch.rand(shape, generator=torch.Generator().manual_seed(4)) - 0.5) * largest
    values[3, 1], values[2, 0] = largest, -largest / 2
    return values


def in_page(result):
    """The bounds of a grid's sheets in the data of its page."""
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', grid_view(result).document, re.S)
    return json.loads(data[1])["quantities"][0]["full"]


def in_still(result):
    """Texts and colours of a still."""
    nodes = list(ET.fromstring(figure_still(shl.figure(result))).iter())
    return [node.text for node in nodes], [node.get("fill") for node in nodes if node.tag.endswith("rect")]


def with_entropy(lens, entropy):
    return replace(lens, measured={**lens.measured, "entropy": entropy})


@pytest.mark.parametrize(
    ("values", "most", "wanted"),
    [
        ([0.0, -0.25, 0.125], 1.0, 0.25),
        ([0.5, -3.0], 1.0, 1.0),
        ([0.5, -3.0], float("inf"), 3.0),
        ([0.0, 0.0], 1.0, 1.0),
        ([0.0, float("nan")], 1.0, 1.0),
        ([float("nan")] * 2, float("inf"), 1.0),
        ([float("inf"), float("-inf"), float("nan"), -0.5], float("inf"), 0.5),
    ],
)
def test_the_scale_reaches_the_largest_finite_number(values, most, wanted):
    assert reach(torch.tensor(values), most) == wanted


HEADS = effects(0.06, (5, 4, 3))
RESULTS = {
    "small effects of heads": (grid_of(HEADS, ("layer", "pos", "head")), 0.06),
    "all positions at once": (grid_of(effects(-0.03), ("layer", "head")), 0.03),
    "gradients": (
        shl.ApproximatePatchResult(**{**vars(grid_of(effects(0.004)))}), 0.004
    ),
    "larger than the clean run": (grid_of(effects(1.7)), 1.0),
    "nothing": (grid_of(torch.zeros(5, 4)), 1.0),
    "one unknown": (grid_of(effects(0.5).index_fill(0, torch.tensor([0]), torch.nan)), 0.5),
    "equal runs": (replace(patches(("layer", "pos"), (5, 4)), values=effects(6.0) - 0.5, clean=-0.5), 6.0),
    "cosines": (CosineResult(effects(0.4, (5, 4, 2)), ("red", "blue"), provenance=unnamed()), 0.4),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_page_figure_and_still_have_one_bound(name):
    result, full = RESULTS[name]
    (heat,) = shl.figure(result).data
    assert {*in_page(result)} == {heat.zmax} == {-heat.zmin} and heat.zmax == pytest.approx(full, rel=1e-5)
    assert heat.colorscale == DIVERGING and DIVERGING[1] == (0.5, "#ffffff") and DIVERGING[2][1] == AMBER
    ends = [number(sign * heat.zmax, ".2g") for sign in (-1, 1)]
    assert [heat.colorbar.ticktext[i] for i in (0, -1)] == ends
    texts, colours = in_still(result)
    assert {*ends} <= {*texts}
    drawn = [one for one in colours if one.startswith("rgb")][:20]
    shown = torch.tensor(heat.z, dtype=torch.float64).flatten()
    wanted = [shade(value / heat.zmax) for value in shown.tolist() if value == value]
    assert torch.tensor([rgb(one) for one in drawn[: len(wanted)]]).sub(torch.tensor(wanted)).abs().max() <= 1
    assert UNKNOWN in colours, "a cell without a number is not white"


def shade(share):
    end = ORANGE if share > 0 else BLUE
    return [255 + (one - 255) * min(abs(share), 1) for one in end]


def test_all_heads_share_a_scale_and_every_score_of_a_sweep_has_its_own(tiny_model):
    heads = RESULTS["small effects of heads"][0]
    figure = shl.figure(heads)
    assert all("zmax" not in button.args[0] for button in figure.layout.updatemenus[0].buttons)
    sweep = samples.sweep_result(tiny_model)
    sweep.scores[:, :, :, 1] *= 100
    sweep.clean[1] *= 100
    axes = [shl.figure(sweep).layout[f"coloraxis{row}"] for row in (1, 2)]
    assert axes[1].cmax > 20 * axes[0].cmax
    assert {*in_page(sweep)} == {one.cmax for one in axes}
    for one, score in zip(axes, sweep.names, strict=True):
        means = [sweep.effect(score, condition).nanmean(-1).abs().max() for condition in sweep.conditions]
        assert one.cmax == pytest.approx(float(max(means)), rel=1e-6)
    wanted = {number(axes[0].cmax, ".2g"), number(axes[1].cmax, ".3g")}
    assert wanted <= {*in_still(sweep)[0]} and "e" not in "".join(wanted)


def test_a_grid_without_numbers_says_so_in_its_picture():
    unknown = grid_of(torch.full((5, 4), torch.nan))
    (heat,) = shl.figure(unknown).data
    assert (heat.zmin, heat.zmax) == (-1, 1) and in_page(unknown) == [1.0]
    assert "no cell has a number" in in_still(unknown)[0]


def test_no_change_is_white_in_the_picture_of_a_comparison(lens):
    other = with_entropy(lens, lens.entropy + torch.linspace(0, 4, lens.entropy.numel()).view_as(lens.entropy))
    figure = shl.figure(shl.compare(lens, other))
    (heat,) = figure.data
    assert heat.zmax == -heat.zmin
    buttons = figure.layout.updatemenus[0].buttons
    reached = {button.label: button.args[0]["zmax"][0] for button in buttons}
    assert reached["change of entropy (nats)"] == pytest.approx(4)
    assert "rgb(255, 255, 255)" in in_still(shl.compare(lens, other))[1]


@in_chromium
def test_the_strongest_cell_has_the_full_colour_and_the_legend_says_what_that_is(open_page):
    result, full = RESULTS["small effects of heads"]
    where = {head: int(HEADS[..., head].abs().argmax()) for head in range(3)}
    strongest = int(HEADS.abs().amax((0, 1)).argmax())
    tab = open_page(result)
    for head in (0, 1, 2):
        choose(tab, "select", f"s.options[{head}].value")
        tab.settle()
        assert tab.js("document.querySelector('.legend .entry').textContent") == "−0.060+0.060"
        found = cells(tab, "[c.textContent, getComputedStyle(c).backgroundColor]")
        for (layer, pos), (text, colour) in found.items():
            value = float(HEADS[layer, pos, head])
            assert max(abs(a - b) for a, b in zip(rgb(colour), shade(value / full), strict=True)) <= 1.5
            assert text == (number(value, ".3f") if round(value, 3) else "0.000")
        if head == strongest:
            assert rgb(found[divmod(where[head], 4)][1]) in (ORANGE, BLUE)


@in_chromium
def test_pages_of_zeros_and_of_unknown_effects_have_no_colour(open_page):
    for values, text in ((0.0, "0.00"), (torch.nan, "")):
        tab = open_page(grid_of(torch.full((5, 4), values)))
        found = cells(tab, "[c.textContent, getComputedStyle(c).backgroundColor]")
        assert [*found.values()] == [[text, "rgb(255, 255, 255)"]] * 20
        assert tab.js("document.querySelector('.legend .entry').textContent") == "−1.0+1.0"
    tab = open_page(RESULTS["larger than the clean run"][0])
    assert tab.js("document.querySelector('.legend .entry').textContent") == "−1.0+1.0 and more"


@in_chromium
def test_two_lenses_side_by_side_have_one_scale(open_page):
    one = planted_lens(LABELS, layers=6, k=4)
    two = with_entropy(one, 3 * one.entropy)
    tab = open_page(shl.compare(one, two), "#c=entropy")
    both = torch.cat([one.entropy.flatten(), two.entropy.flatten()]).sort().values
    full = float(both[int(0.95 * (len(both) - 1))])
    shown = tab.js("document.querySelector('.legend .entry').textContent")
    assert shown == f"0{full:.2g} nats and more"
    listed = "[...document.querySelectorAll('.cell')].map(c => [c.id, getComputedStyle(c).backgroundColor])"
    colours = dict(tab.js(listed))
    for prefix, lens in (("c", one), ("b", two)):
        for layer, pos in ((1, 2), (4, 3), (5, 6)):
            share = 0.04 + 0.96 * min(float(lens.entropy[layer, pos]) / full, 1)
            wanted = [255 + (part - 255) * share for part in ORANGE]
            assert max(abs(a - b) for a, b in zip(rgb(colours[f"{prefix}{layer}-{pos}"]), wanted, strict=True)) <= 1.5
