"""What a page saves: the part on screen as PNG and SVG, from a file without a server."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from itertools import count

import numpy as np
import pytest
from PIL import Image, ImageColor

import semhub_lens as shl
from explored import LABELS, cells, in_chromium, rgb
from planted_lens import planted_lens
from semhub_lens.inputs.media import Tile
from semhub_lens.views.media_maps import picture_map, sound_map

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


def test_a_drawing_has_the_ink_of_the_screen_the_pins_and_the_room_of_the_bars(lens, open_page, saved):
    tab = open_page(lens, "#p=2,5&q=azul")
    path = saved(tab, "SVG")
    words, boxes = drawn(path)
    inks = {(float(t.get("x")), float(t.get("y"))): t.get("fill") for t in ElementTree.parse(path).iter(f"{SVG}text")}
    page = cells(tab, "getComputedStyle(c).color")
    cell_boxes = grid(boxes, 6, len(LABELS))
    for at, box in cell_boxes.items():
        (ink,) = (inks[x, y] for x, y, _ in words if inside([(x, y, "")], box))
        assert list(ImageColor.getrgb(ink)) == rgb(page[at])
    dark = [box for box in boxes if box["fill"] == "#1b2330"]
    assert [box["x"] for box in dark] == [cell_boxes[0, pos]["x"] for pos in (2, 5)]
    labels = [ink for (x, y), ink in inks.items() if any(inside([(x, y, "")], box) for box in dark)]
    assert labels == ["#ffffff", "#ffffff"]
    rooms = [box for box in boxes if box["fill"] == "#f4f6f9" and box["height"] == 23]
    assert len(rooms) == 6 and {box["width"] for box in rooms} == {130}


def test_a_picture_is_saved_with_the_colours_and_words_of_its_patches(open_page, saved):
    lens = planted_lens(["<bos>", *[f"image {i}" for i in range(6)], "␣two"], layers=6, k=4)
    red = np.full((40, 60, 3), (200, 60, 40), np.uint8)
    tab = open_page(picture_map(lens, red, Tile((1, 2, 3, 4, 5, 6), 2, 3)), "#l=4&p=2")
    path = saved(tab, "SVG")
    (image,) = ElementTree.parse(path).iter(f"{SVG}image")
    left, top, width, height = (float(image.get(name)) for name in ("x", "y", "width", "height"))
    assert image.get("href").startswith("data:image/png") and width / height == pytest.approx(1.5, rel=0.01)
    words, _ = drawn(path)
    with Image.open(saved(tab, "PNG")) as opened:
        png = opened.convert("RGB")
    screen_path = path.parent / "screen.png"
    tab.picture(screen_path)
    screen = Image.open(screen_path).convert("RGB")
    for place in range(6):
        x, y = left + (place % 3) * width / 3, top + (place // 3) * height / 2
        patch = {"x": x, "y": y, "width": width / 3, "height": height / 2}
        assert inside(words, patch) == [lens.strings()[4][place + 1][0]]
        box = f"document.querySelectorAll('.patch')[{place}].getBoundingClientRect()"
        there = tab.js(f"(r => [r.left + 6, r.top + 6])({box})")
        assert png.getpixel((round(2 * x + 12), round(2 * y + 12))) == pytest.approx(
            screen.getpixel(tuple(map(round, there))), abs=3
        )
    assert any(text == "Picture · layer 4" for *_, text in words)


TIMES, ENDS = (0.0, 0.1, 0.2, 0.35), (0.1, 0.2, 0.35, 0.45)


@pytest.fixture(scope="module")
def heard():
    """A lens on four moments of a sound: silence, then noise from the third moment on; two moments read alike."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 3600).astype(np.float32)
    sound[:1600] = 0
    lens = planted_lens(["<bos>", *["audio 1"] * 4, "␣two"], layers=4, k=3)
    lens.measured["top_ids"][3, 2] = lens.top_ids[3, 1]
    return lens, sound_map(lens, (1, 2, 3, 4), TIMES, (sound, 8000), layer=3)


def test_a_sound_is_saved_with_its_waveform_its_colours_and_its_words(heard, open_page, saved):
    lens, page = heard
    tab = open_page(page, "#p=3&c=probability")
    path = saved(tab, "SVG")
    words, boxes = drawn(path)
    wide = tab.js("document.querySelector('.track').clientWidth")
    (left,) = {box["x"] for box in boxes if box["height"] == 88 and box["x"] < 20}
    moments = sorted((box for box in boxes if box["height"] == 88), key=lambda box: box["x"])
    for box, start, end in zip(moments, TIMES, ENDS, strict=True):
        assert box["x"] == pytest.approx(left + wide * start / 0.45, abs=0.1)
        assert box["width"] == pytest.approx(wide * (end - start) / 0.45 - 1, abs=0.1)
    pixels = tab.js("""(c => [...c.getContext("2d").getImageData(0, 2, c.width, 1).data])
        (document.querySelector(".wave"))""")
    for box in moments:
        x = round(box["x"] - left + 3)
        assert rgb(box["fill"]) == pixels[4 * x : 4 * x + 3]
    strings = [lens.strings()[3][pos][0] for pos in (1, 2, 3, 4)]
    assert strings[0] == strings[1], "they share one word"
    lanes = sorted((box for box in boxes if box["height"] == 26 and box["width"] > 2), key=lambda box: box["x"])
    assert [inside(words, lane) for lane in lanes[:3]] == [[strings[0]], [strings[2]], [strings[3]]]
    assert {"0 s", "0.4 s", "Sound · layer 3"} <= {text for *_, text in words}
    (wave,) = [one.get("d") for one in ElementTree.parse(path).iter(f"{SVG}path")]
    heights = [float(one) for one in re.findall(r"v([\d.]+)", wave)]
    assert len(heights) == wide and set(heights[: int(wide * 0.2 / 0.45) - 1]) == {1} and max(heights) > 60
    with Image.open(saved(tab, "PNG")) as image:
        assert image.width == 2 * round(wide + 32)
        assert list(image.convert("RGB").getpixel((round(2 * (left + 3)), round(2 * moments[0]["y"] + 6)))) == (
            pytest.approx(rgb(moments[0]["fill"]), abs=2)
        )


def test_the_table_says_where_in_a_sound_or_a_picture_a_position_is(heard, open_page, saved):
    _, page = heard
    rows = list(csv.DictReader(saved(open_page(page), "CSV").read_text(encoding="utf-8").splitlines()))
    found = {int(row["pos"]): (row["part"], row["start"], row["end"]) for row in rows}
    assert found == {0: ("", "", ""), 5: ("", "", "")} | {
        pos: ("Sound", f"{start:g}", f"{end:g}") for pos, start, end in zip((1, 2, 3, 4), TIMES, ENDS, strict=True)
    }
    lens = planted_lens(["<bos>", *[f"image {i}" for i in range(6)], "␣two"], layers=3, k=2)
    seen = picture_map(lens, np.zeros((40, 60, 3), np.uint8), Tile((1, 2, 3, 4, 5, 6), 2, 3))
    rows = list(csv.DictReader(saved(open_page(seen), "CSV").read_text(encoding="utf-8").splitlines()))
    places = {int(row["pos"]): (row["row"], row["column"]) for row in rows if row["part"] == "Picture"}
    assert places == {1 + i: (str(i // 3), str(i % 3)) for i in range(6)}
