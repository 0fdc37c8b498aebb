"""Text that would do something is shown as text, in every figure and in a page in a real browser."""

import html
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

import hostile
import models
import semhub_lens as shl
from browser import CHROMIUM, rendered
from semhub_lens.inputs.media import Tile
from semhub_lens.report.hub_page import HubPage
from semhub_lens.report.orchestration import Measured
from semhub_lens.views.page import page, write_page
from semhub_lens.views.sign_map import sign_map
from semhub_lens.views.style import escape

SHOWN = ("text", "ticktext", "name", "label", "hovertemplate", "customdata", "values", "title", "x", "y")


@pytest.fixture(scope="module")
def drawn():
    model = models.tiny()
    lens = hostile.lens(model)
    figures = [shl.figure(result) for result in (lens, *hostile.results(model))]
    figures.append(shl.picture_map(lens, [[[0, 0, 0]] * 2] * 2, Tile((0, 1), 1, 2)))
    figures.append(shl.sound_map(lens, [0, 1], [0.0, 0.1]))
    figures.append(sign_map(hostile.experiment(model).legs[0]))
    return figures


class Read(HTMLParser):
    """The elements of a page, and its text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.inside = [], "", ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text += data


def strings(value, key=""):
    """Every text of a figure that is shown, by where it stands."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from strings(entry, name if name in SHOWN else key)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from strings(entry, key)
    elif isinstance(value, str) and key:
        yield value


def test_no_figure_holds_markup_fields_or_controls_of_others(drawn):
    for figure in drawn:
        texts = list(strings(figure.to_plotly_json()))
        assert any("U+001B" in text for text in texts), figure.layout.title.text
        for text in texts:
            assert "<img" not in text and "<a " not in text and "</script" not in text, text
            assert "$" not in text and "%{x} &#36;" not in text and not set(text) & set(hostile.RAW), text


@pytest.mark.parametrize("text", ["$f(x)=\\frac{1}{2}$ y 50\\%", "%{y}", "a & b < c", "&lt;", "朋友 مرحبا 👨‍👩‍👧"])
def test_what_is_escaped_reads_as_it_was(text):
    assert html.unescape(escape(text)) == text
    assert "$" not in escape(text) and "%{" not in escape(text)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")
def test_in_a_browser_hostile_text_does_nothing_and_is_shown(drawn, tmp_path):
    result, text = hostile.experiment(models.tiny()), hostile.HOSTILE
    measured = Measured(results=[result], unmeasured={text: text}, running=text, coming=[text])
    page = HubPage(where=result.provenance, size=text, lenses=[*drawn, hostile.lens(models.tiny())])
    report = page.html(measured, stopped=text)
    assert not set(report.replace(get_plotlyjs(), "")) & set(hostile.RAW)
    read = Read()
    read.feed(rendered(write_page(report, tmp_path / "report.html")))
    for tag, attributes in read.tags:
        assert "data-owned" not in attributes and tag != "img" and "onerror" not in attributes
        assert not (attributes.get("href") or "").strip().lower().startswith("javascript")
    assert "{{ 7*7 }}" in read.text and "U+001B[2J" in read.text and "$x$" in read.text
    assert sum("main-svg" in (attributes.get("class") or "") for _, attributes in read.tags) > len(drawn)
    for figure in drawn:
        title = html.unescape(figure.layout.title.text.removeprefix("<b>").removesuffix("</b>"))
        assert title[:20] in read.text


def test_a_page_holds_no_control_and_its_title_is_text(drawn, tmp_path):
    written = shl.write_html(drawn[0], tmp_path / "lens.html").read_text(encoding="utf-8")
    assert "<img src=x" not in written and not set(written) & set("\x1b\x07\b\x9b\u202e\u2066")
    assert "<script>" not in page("<script>", "")
