"""What a notebook shows of every result: HTML that needs no extension, a picture, a few words, no raw tensors."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import plotly.graph_objects as go
import pytest

import hostile
import semhub_lens as shl
from explored import LABELS, in_chromium, patches
from planted_lens import WORDS, planted_lens
from samples import SAMPLES
from semhub_lens.views.explorer.stills import comparison_still, lens_still
from semhub_lens.views.stills import figure_still


def test_both_lines_of_a_tick_are_in_the_picture():
    figure = go.Figure(go.Heatmap(z=[[0.0, 1.0]]))
    figure.update_xaxes(tickvals=[0, 1], ticktext=["one", "corrupted<br>clean"], title="token")
    nodes = [node for node in ET.fromstring(figure_still(figure)).iter() if node.tag.endswith("text")]
    height = {node.text: float(node.get("y")) for node in nodes}
    assert height["one"] == height["corrupted"] < height["clean"] < height["token"]


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_result_shows_itself_without_an_extension_and_without_raw_tensors(tiny_model, name):
    bundle = SAMPLES[name](tiny_model)._repr_mimebundle_()
    text = bundle["text/plain"]
    assert "tensor(" not in text and len(text) < 2500 and len(text.splitlines()) <= 40
    assert len(bundle["text/html"]) < 400_000 and not re.search(r'(src|href)="https?:', bundle["text/html"])
    if name not in ("HostCheck", "AttributionResult"):  # a table, and what only the page of its lens draws
        picture = ET.fromstring(bundle["image/svg+xml"])
        assert picture.tag.endswith("svg") and len(bundle["image/svg+xml"]) < 200_000
        assert len(list(picture.iter())) > 3, "the picture is not empty"


def words_of(svg):
    return [node.text for node in ET.fromstring(svg).iter() if node.tag.endswith("text")]


def test_the_picture_of_a_lens_has_the_last_tokens_and_the_colours_of_their_languages():
    lens = planted_lens(LABELS * 3, layers=5, k=3)
    svg = lens_still(lens)
    texts = words_of(svg)
    strings = lens.strings()
    for layer in range(5):
        for pos in range(len(LABELS) * 3 - 14, len(LABELS) * 3):
            word = strings[layer][pos][0]
            assert word in texts or f"{word[:8]}…" in texts
    rects = [node.get("fill") for node in ET.fromstring(svg).iter() if node.tag.endswith("rect")][1:]
    assert len(rects) == 5 * 14
    sure = {"en": (33, 96, 186)}
    of = {text: name for name, words in WORDS.items() for text in words}
    for i, fill in enumerate(rects):
        layer, pos = i // 14, len(LABELS) * 3 - 14 + i % 14
        name = of[strings[layer][pos][0]]
        if name in sure:
            share = 0.05 + 0.95 * float(lens.top_logprobs[layer, pos, 0].exp()) ** 0.5
            wanted = [255 + (one - 255) * share for one in sure[name]]
            assert [int(fill[k : k + 2], 16) for k in (1, 3, 5)] == pytest.approx(wanted, abs=1)


def test_the_picture_of_two_lenses_is_coloured_where_the_answer_changed():
    lens, other = planted_lens(LABELS[:3], layers=5, k=3), planted_lens(LABELS[:2], layers=5, k=3, seed=1)
    svg = comparison_still(shl.compare(lens, other, align="end"))
    fills = [node.get("fill") for node in ET.fromstring(svg).iter() if node.tag.endswith("rect")][1:]
    one, two = lens.strings(), other.strings()
    for layer in range(5):
        assert fills[3 * layer] == "#ffffff", "the second lens has no such position"
        for pos in (1, 2):
            word = two[layer][pos - 1][0]
            assert word in words_of(svg) or f"{word[:8]}…" in words_of(svg)
            assert (fills[3 * layer + pos] == "#ffffff") == (word == one[layer][pos][0])
    same = comparison_still(shl.compare(lens, lens))
    assert {node.get("fill") for node in ET.fromstring(same).iter() if node.tag.endswith("rect")} == {"#ffffff"}


def test_the_picture_of_an_evaluation_has_its_shares_at_their_places(tiny_model):
    figure = shl.figure(SAMPLES["SpokeEvaluation"](tiny_model))  # ranks 0 and 3; one and two more by the chance levels
    shares = {trace.name: list(trace.x) for trace in figure.data if trace.mode == "markers"}
    assert shares == {"top 5": [1, 1], "top 1": [1, 0], "top 5, blind": [1, 1], "top 5, mismatched": [1, 0]}
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', figure_still(figure))]
    assert len(dots) == 8 and len({*dots}) == 2 and dots[3] == dots[7] == min(dots)


def test_a_picture_holds_hostile_text_as_text(tiny_model):
    lens = hostile.lens(tiny_model)
    pictures = [lens_still(lens), comparison_still(shl.compare(lens, lens, names=(hostile.HOSTILE, "b")))]
    pictures += [figure_still(shl.figure(result)) for result in hostile.results(tiny_model)]
    for svg in pictures:
        ET.fromstring(svg)
        assert "<img" not in svg and "<script" not in svg and "<a " not in svg and not set(svg) & set(hostile.RAW)


def test_a_picture_draws_the_figures_own_curve(tiny_model):
    found = shl.target_lens(tiny_model, ["three plus"], [["two"]], progress=False)
    figure = shl.figure(found)
    (trace,) = [one for one in figure.data if one.mode == "lines+markers"]
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', figure_still(figure))]
    y = [float(v) for v in trace.y]
    assert len(heights) == len(y)
    span = max(y) - min(y)
    drawn = [(max(heights) - h) / (max(heights) - min(heights)) for h in heights]
    assert drawn == pytest.approx([(v - min(y)) / span for v in y], abs=0.01)


def test_jupyterlab_takes_the_html_before_the_picture_and_that_before_the_text():
    static = Path(sys.prefix) / "share/jupyter/lab/static"
    scripts = [file.read_text(encoding="utf-8") for file in static.glob("jlab_core.*.js")]
    if not scripts:
        pytest.skip("JupyterLab is not installed")
    ranks = dict(re.findall(r'mimeTypes:\["([a-z/+]+)"[^]]*\],defaultRank:(\d+)', "".join(scripts)))
    assert int(ranks["text/html"]) < int(ranks["image/svg+xml"]) < int(ranks["text/plain"])  # the lowest is shown


@in_chromium
def test_nbconverts_page_shows_a_lens_and_a_curve(tiny_model, chrome, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    exporter = pytest.importorskip("nbconvert").HTMLExporter(template_name="basic")
    lens = planted_lens(LABELS, layers=6, k=4)
    curve = shl.target_lens(tiny_model, ["three plus"], [["two"]], progress=False)
    cells = []
    for result in (lens, curve):
        data = {name: value for name, value in result._repr_mimebundle_().items() if not name.startswith("application")}
        output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
        cells.append(nbformat.v4.new_code_cell("result", outputs=[output], execution_count=1))
    body, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    tab = chrome.open(path.as_uri())
    assert tab.js("document.querySelectorAll('svg path').length") > 2, "the curve"
    assert tab.in_frame("document.querySelectorAll('.cell').length") == 6 * len(LABELS)
    assert "tensor(" not in tab.js("document.body.textContent")
    tab.close()


def test_curves_are_cut_at_their_axes_and_lines_across_a_panel_are_drawn():
    figure = go.Figure(go.Scatter(x=[0, 1, 2], y=[-500, 0, 1]), {"yaxis": {"range": [0, 1]}})
    figure.add_vline(x=1, line={"color": "#123456", "dash": "dot"})
    figure.add_hline(y=0.5, line={"color": "#654321"})
    (panel,) = [node for node in ET.fromstring(figure_still(figure)) if node.tag.endswith("svg")]
    x, y, wide, tall = (panel.get(name) for name in ("x", "y", "width", "height"))
    assert panel.get("viewBox") == f"{x} {y} {wide} {tall}"
    lines = {node.get("stroke"): node.get("d") for node in panel if node.get("stroke") in ("#123456", "#654321")}
    middle = float(x) + float(wide) / 2, float(y) + float(tall) / 2
    assert lines == {"#123456": f"M{middle[0]:.1f} {y}v{tall}", "#654321": f"M{x} {middle[1]:.1f}h{wide}"}


@in_chromium
def test_words_of_a_picture_stay_in_their_cells(chrome, tmp_path):
    words = {
        "zh": ["天空的颜色是蓝色的吗", "一天"],
        "hi": ["हिन्दुस्तानी भाषाएँ", "आसमान"],
        "en": ["␣internationalisation", "␣sky"],
    }
    path = tmp_path / "still.svg"
    path.write_text(
        lens_still(planted_lens(["天空的颜色是蓝色的吗"] * 4, layers=6, k=3, words=words)), encoding="utf-8"
    )
    tab = chrome.open(path.as_uri())
    wide = tab.js("[...document.querySelectorAll('text')].map(t => [t.textContent, t.getBBox()])"
                  ".map(([text, box]) => [text, box.x, box.x + box.width])")  # fmt: skip
    cells = [(text, left, right) for text, left, right in wide if text[0] in "天一हआ␣"]
    assert len(cells) == 28 and any("…" in text for text, *_ in cells)
    assert all(right - left < 78 for _, left, right in cells), cells
    assert max(right for *_, right in wide) <= tab.js("document.documentElement.width.baseVal.value")
    tab.close()


def test_a_picture_of_a_grid_names_both_tokens_of_a_column_and_one_of_languages_its_prompt():
    grid = patches(("layer", "pos"), (5, 4))
    assert {"␣France", "␣Spain"} <= {*words_of(figure_still(shl.figure(grid)))}
    words = {name: WORDS[name] for name in ("en", "es", "zh", "ar")}
    title, *_ = words_of(lens_still(planted_lens(["␣The", "␣sky"], layers=5, k=3, words=words)))
    assert title.endswith(" The sky") and "blue en" in title
