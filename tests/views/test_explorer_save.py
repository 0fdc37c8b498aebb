"""What a page saves: the part on screen as PNG and SVG, from a file without a server."""

import xml.etree.ElementTree as ElementTree
from itertools import count

import pytest
from PIL import Image

import semhub_lens as shl
from explored import LABELS, cells, in_chromium, rgb
from planted_lens import planted_lens

pytestmark = in_chromium
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def saved(chrome, tmp_path):
    """Clicks a button of the page and gives the file that the browser then has."""
    folders = count()

    def save(tab, kind, name=None):
        folder = tmp_path / f"saved{next(folders)}"
        chrome.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        tab.js(f"[...document.querySelectorAll('.saves button')].find(b => b.textContent === '{kind}').click()")
        path = folder / (name or f"lens.{kind.lower()}")
        for _ in range(500):
            tab.settle()
            if path.exists() and path.stat().st_size:
                break
        return path

    return save


def drawn(path):
    """The words and the coloured boxes of a drawing, as they lie."""
    root = ElementTree.parse(path).getroot()
    words = [(float(t.get("x")), float(t.get("y")), t.text) for t in root.iter(f"{SVG}text")]
    boxes = [
        {**{n: float(b.get(n)) for n in ("x", "y", "width", "height")}, "fill": b.get("fill")}
        for b in root.iter(f"{SVG}rect")
        if b.get("x")
    ]
    return words, boxes


def grid(boxes, layers, positions, height=23):
    """The boxes of the cells, by layer and position: those of full height that begin where columns do."""
    tall = [box for box in boxes if box["height"] == height]
    columns = sorted({box["x"] for box in tall})[:positions]
    rows = sorted({box["y"] for box in tall}, reverse=True)
    found = {(rows.index(box["y"]), columns.index(box["x"])): box for box in tall if box["x"] in columns}
    assert len(rows) == layers and len(found) == layers * positions
    return found


def inside(words, box):
    return [text for x, y, text in words if 0 <= x - box["x"] < box["width"] and 0 <= y - box["y"] < box["height"]]


def test_a_drawing_holds_the_words_and_colours_of_the_cells(lens, open_page, saved):
    tab = open_page(lens)
    for name in ("language", "entropy"):
        tab.click(f"[data-colour={name}]")
        words, boxes = drawn(saved(tab, "SVG"))
        page = cells(tab, "[c.textContent, getComputedStyle(c).backgroundColor]")
        for (layer, pos), box in grid(boxes, 6, len(LABELS)).items():
            assert inside(words, box) == [lens.strings()[layer][pos][0]] == [page[layer, pos][0]]
            assert rgb(box["fill"]) == rgb(page[layer, pos][1])
        texts = [text for *_, text in words]
        assert set(LABELS) <= {*texts} and {"emb", "1", "5"} <= {*texts}
        assert {"layer", "input", "share of probability"} <= {*texts}
        assert "".join(tab.js("document.querySelector('.legend .words').textContent")) in texts


@pytest.mark.parametrize("dark", [False, True])
def test_a_picture_has_the_pixels_of_the_drawing(lens, open_page, saved, dark):
    tab = open_page(lens, dark=dark)
    words, boxes = drawn(saved(tab, "SVG"))
    with Image.open(saved(tab, "PNG")) as opened:
        image = opened.convert("RGB")
    assert image.getpixel((2, 2)) == ((18, 22, 28) if dark else (255, 255, 255))
    for box in grid(boxes, 6, len(LABELS)).values():
        x, y, right, low = (
            round(2 * v) for v in (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])
        )
        assert list(image.getpixel((right - 3, y + 3))) == pytest.approx(rgb(box["fill"]), abs=1)
        if inside(words, box):  # its word is there, in ink that stands out
            light = image.crop((x + 6, y + 2, right - 2, low - 2)).convert("L").getextrema()
            assert light[1] - light[0] > 60


def test_only_what_is_on_screen_is_in_the_picture(open_page, saved):
    labels = [f"␣{i}" for i in range(60)]
    tab = open_page(planted_lens(labels, layers=3, k=2), "#x=20")
    words, boxes = drawn(saved(tab, "SVG"))
    first, last = tab.js(
        "(s => [s.scrollLeft / 84, (s.scrollLeft + s.clientWidth) / 84])(document.querySelector('.scroll'))"
    )
    shown = [text for *_, text in words if text in labels]
    assert shown == labels[round(first) : round(last + 0.49)] and 5 < len(shown) < 20
    tab.js("document.querySelector('.whole-text').click()")
    tab.settle()
    words, boxes = drawn(saved(tab, "SVG"))
    assert len(grid(boxes, 3, 60)) == 180 and not {*labels} & {text for *_, text in words}


def test_two_lenses_and_their_difference_are_saved_as_they_are_shown(open_page, saved):
    one, two = (planted_lens(["x", "y", "z"], layers=4, k=3, seed=seed) for seed in (1, 2))
    pair = shl.compare(one, two, names=("clean", "changed"))
    tab = open_page(pair)
    words, _ = drawn(saved(tab, "SVG"))
    assert [text for *_, text in words if text[:2] in ("A:", "B:")] == ["A: clean", "B: changed"]
    for lens in (one, two):
        assert {word[0] for row in lens.strings() for word in row} <= {text for *_, text in words}
    tab.click("[data-show=difference]")
    words, boxes = drawn(saved(tab, "SVG"))
    for (layer, pos), box in grid(boxes, 4, 3).items():
        now, was = (lens.strings()[layer][pos][0] for lens in (two, one))
        assert inside(words, box) == ([now, was] if now != was else [now])


def test_the_table_arrives_as_a_file(lens, open_page, saved):
    tab = open_page(lens)
    assert (
        saved(tab, "CSV")
        .read_text(encoding="utf-8")
        .splitlines()[0]
        .startswith("layer,pos,input,rank,id,token,probability")
    )


def test_text_from_the_right_is_drawn_from_the_right(open_page, saved):
    lens = planted_lens(["x"], layers=2, k=2, words={"ar": ["␣بيت", "␣لون"]})
    root = ElementTree.parse(saved(open_page(lens), "SVG")).getroot()
    sides = {(t.get("direction"), t.get("text-anchor")) for t in root.iter(f"{SVG}text") if t.text in ("␣بيت", "␣لون")}
    assert sides == {("rtl", "end")}  # its left edge stands where that of other words does
