"""Pages of the lens on pictures and sound: what is shown is what was measured, in its place."""

import base64
import io
import math
import wave
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
import torch

from explored import BLUE, in_chromium, mixed, percent, probabilities, rgb
from planted_lens import planted_lens
from semhub_lens.inputs.media import Tile
from semhub_lens.views.explorer.media import picture_part, sound_part, wav
from semhub_lens.views.media_maps import picture_map, sound_map

TILE = Tile((1, 2, 3, 4, 5, 6), 2, 3)
LABELS = ["<bos>", *[f"image {i + 1}" for i in range(6)], "␣two"]
TIMES = (0.0, 0.1, 0.2, 0.35)
RATE = 8000
PATCHES = "[...document.querySelectorAll('.patch')]"


@pytest.fixture(scope="module")
def lens():
    return planted_lens(LABELS, layers=6, k=4)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def noise():
    """Silence, then noise from the second moment on."""
    heard = np.random.default_rng(0).uniform(-0.5, 0.5, round(0.45 * RATE)).astype(np.float32)
    heard[: round(0.2 * RATE)] = 0
    return heard, RATE


def slide(tab, layer, control=".layer"):
    tab.js(f"""(s => {{ s.value = "{layer}"; s.dispatchEvent(new Event("input")); }})
        (document.querySelector(".mediabar {control}"))""")
    tab.settle()


@in_chromium
def test_every_patch_shows_its_own_positions_token_at_every_layer(lens, pixels, open_page):
    tab = open_page(picture_map(lens, pixels, TILE, layer=1))
    strings = lens.strings()
    tab.click("[data-colour=probability]")
    assert tab.js("document.querySelector('.layername').textContent") == "layer 1 of 5"
    for layer in (1, 0, 2, 3, 4, 5):
        slide(tab, layer)
        shown = tab.js(
            f"{PATCHES}.map(p => [Number(p.dataset.pos), p.textContent, p.style.getPropertyValue('--colour')])"
        )
        assert [place for place, *_ in shown] == list(TILE.positions)
        for pos, text, colour in shown:
            assert text == strings[layer][pos][0]
            *channels, alpha = [float(part) for part in colour[5:-1].split(",")]
            over_white = [alpha * channel + (1 - alpha) * 255 for channel in channels]
            assert over_white == pytest.approx(mixed(BLUE, probabilities(lens)[layer][pos][0]), abs=2.5)
    assert tab.js("document.querySelector('.chosen').textContent") == "5"
    tab.js("document.querySelector('.layers').lastChild.click()")  # a layer's name in the map chooses it too
    tab.settle()
    assert tab.js(f"{PATCHES}.map(p => p.textContent)") == [strings[0][pos][0] for pos in TILE.positions]


@in_chromium
def test_patches_lie_row_by_row_over_the_pictures_own_pixels(lens, pixels, open_page):
    tab = open_page(picture_map(lens, pixels, TILE))
    boxes = tab.js(f"{PATCHES}.map(p => (r => [r.left, r.top, r.right, r.bottom])(p.getBoundingClientRect()))")
    image = "document.querySelector('.board img').getBoundingClientRect()"
    left, top, right, bottom = tab.js(f"(r => [r.left, r.top, r.right, r.bottom])({image})")
    assert (right - left) / (bottom - top) == pytest.approx(60 / 40, rel=0.01)
    for place, box in enumerate(boxes):
        row, column = divmod(place, 3)
        wanted = [left + (right - left) * column / 3, top + (bottom - top) * row / 2]
        assert box[:2] == pytest.approx(wanted, abs=0.6)
        assert [box[2] - box[0], box[3] - box[1]] == pytest.approx([(right - left) / 3, (bottom - top) / 2], abs=0.6)
    read = tab.js("""(image => {
        const pen = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
        pen.drawImage(image, 0, 0);
        return [...pen.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data];
    })(document.querySelector(".board img"))""")
    assert np.array_equal(np.array(read).reshape(40, 60, 4)[..., :3], pixels)


@in_chromium
def test_patches_have_the_maps_hover_pins_search_and_keys(lens, pixels, open_page):
    tab = open_page(picture_map(lens, pixels, TILE, layer=4))
    tab.hover(".patch[data-pos='5']")
    assert "layer 4 · position 5 · after image 5" in tab.js("document.querySelector('.where').textContent")
    shown = tab.js("[...document.querySelectorAll('.panel .p')].map(p => p.textContent)")
    assert shown == [percent(p) for p in probabilities(lens)[4][5]]
    tab.click(".patch[data-pos='5']")
    tab.click("#c3-2")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => Number(p.dataset.pos))") == [5, 2]
    assert tab.js(f"{PATCHES}.filter(p => p.classList.contains('pinned')).map(p => p.dataset.pos)") == ["2", "5"]
    word = lens.strings()[4][3][0]
    token = int(lens.top_ids[4, 3, 0])
    tab.js("document.querySelector('.find').focus()")
    tab.write(f"#{token}")
    held = [pos for pos in TILE.positions if token in lens.top_ids[4, pos].tolist()]
    assert tab.js(f"{PATCHES}.filter(p => p.classList.contains('hit')).map(p => Number(p.dataset.pos))") == held, word
    tab.js("document.querySelector('.board').focus()")
    tab.key("ArrowDown", "ArrowRight", "PageDown")
    assert tab.js("document.querySelector('.layername').textContent") == "layer 3 of 5"
    tab.key("ArrowLeft")
    assert "layer 3 · position 5" in tab.js("document.querySelector('.where').textContent")
    tab.key("Enter")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => Number(p.dataset.pos))") == [2]


@in_chromium
def test_several_pictures_stand_side_by_side_each_with_its_own_positions(lens, pixels, open_page):
    tiles = [Tile((1, 2), 1, 2), Tile((3, 4, 5, 6), 2, 2)]
    tab = open_page(picture_map(lens, [pixels, pixels[:, :40]], tiles), "#l=2")
    found = tab.js(
        "[...document.querySelectorAll('.board')].map(b => [...b.querySelectorAll('.patch')].map(p => p.textContent))"
    )
    assert found == [[lens.strings()[2][pos][0] for pos in tile.positions] for tile in tiles]
    before = tab.js("[...document.querySelectorAll('.board')].map(b => b.clientWidth)")
    slide(tab, 100, ".size")
    after = tab.js("[...document.querySelectorAll('.board')].map(b => b.clientWidth)")
    assert len(before) == 2 and all(wide >= narrow for wide, narrow in zip(after, before, strict=True))


@in_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_words_on_a_picture_stand_out_from_their_ground(lens, pixels, open_page, dark):
    tab = open_page(picture_map(lens, pixels, TILE), dark=dark)
    ink, ground = tab.js(
        "(s => [s.color, s.backgroundColor])(getComputedStyle(document.querySelector('.patch .token')))"
    )
    # The chip has 82 % of the paper's colour, so that at worst 18 % of anything is below it.
    assert "0.82" in ground
    assert (sum(rgb(ink)) < 200) != dark


def test_a_large_picture_is_made_smaller_and_a_part_of_it_keeps_its_mean():
    large = np.zeros((1200, 1800, 3), dtype=np.uint8)
    large[:, 900:] = 200
    part = picture_part(large, TILE, "Picture")
    assert len(part["source"]) < 20_000 and (part["width"], part["height"]) == (1800, 1200)


@in_chromium
def test_a_sound_is_drawn_at_its_seconds(lens, noise, open_page):
    tab = open_page(sound_map(lens, (1, 2, 3, 4), TIMES, noise, layer=3))
    strings = lens.strings()
    for layer in range(6):
        slide(tab, layer)
        runs = tab.js("""[...document.querySelectorAll('.run')].map(r => [r.textContent, Number(r.dataset.from),
            Number(r.dataset.to), parseFloat(r.style.left), parseFloat(r.style.width)])""")
        words = [text for text, start, end, *_ in runs for _ in range(start, end + 1)]
        assert words == [strings[layer][pos][0] for pos in (1, 2, 3, 4)]
        ends = (*TIMES[1:], 0.45)
        for _, start, end, left, width in runs:
            wanted = [100 * TIMES[start] / 0.45, 100 * (ends[end] - TIMES[start]) / 0.45]
            assert [left, width] == pytest.approx(wanted, abs=0.01)


@in_chromium
def test_a_waveform_is_as_high_as_the_sound_is_loud_and_it_plays(lens, noise, open_page):
    tab = open_page(sound_map(lens, (1, 2, 3, 4), TIMES, noise))
    inked = tab.js("""(c => {
        const { data, width } = c.getContext("2d").getImageData(0, 0, c.width, c.height - 4);
        const at = (x, y) => [...data.slice(4 * (y * width + x), 4 * (y * width + x) + 3)].join();
        return [0.05, 0.3].map(second => {
            const from = Math.floor(width * second / 0.45);
            let different = 0;
            for (let x = from; x < from + 20; x++)
                for (let y = 0; y < c.height - 4; y++) different += at(x, y) !== at(from, 0);
            return different / 20;
        });
    })(document.querySelector(".wave"))""")
    assert inked[0] <= 2 < 20 < inked[1]
    tab.click(".play")
    ended = tab.js("""new Promise(done => {
        const said = document.querySelector("output.note");
        const wait = () => said.textContent.startsWith("0.4") ? done(said.textContent) : setTimeout(wait, 20);
        wait();
    })""")
    assert ended.split(" s ")[1] == tab.js("[...document.querySelectorAll('.run')].at(-1).textContent")


@in_chromium
def test_a_moment_is_pinned_by_a_click_on_its_word_and_by_keys(lens, noise, open_page):
    tab = open_page(sound_map(lens, (1, 2, 3, 4), TIMES, noise, layer=3))
    tab.click(".run[data-from='0']")
    first = tab.js("Number(document.querySelector('.pin').dataset.pos)")
    assert first in (1, 2)
    tab.js("document.querySelector('.track').focus()")
    tab.key("End", "Enter")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => Number(p.dataset.pos))") == [first, 4]
    assert "layer 3 · position 4" in tab.js("document.querySelector('.where').textContent")


@in_chromium
def test_many_moments_share_words_and_a_sound_that_is_not_given_has_no_player(open_page):
    lens = planted_lens(["a"] * 1500, layers=3, k=2, words={"en": ["␣one", "␣two"]})
    tab = open_page(sound_map(lens, range(1500), [0.04 * i for i in range(1500)], layer=2))
    top = lens.top_ids[2, :, 0].tolist()
    assert tab.js("document.querySelectorAll('.run').length") == 1 + sum(a != b for a, b in pairwise(top))
    assert tab.js("document.querySelectorAll('.play').length") == 0


def test_a_wav_holds_the_samples(noise):
    with wave.open(io.BytesIO(wav(*noise))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2") / (2**15 - 1)
    assert np.abs(read - noise[0]).max() < 2**-15
    both = np.stack([noise[0], noise[0]], axis=1)
    part = sound_part((0, 1), (0.0, 0.2), (both, RATE), "Sound")
    assert base64.b64decode(part["source"]) == wav(*noise) and math.isclose(part["ends"][-1], 0.45)


def test_what_does_not_fit_is_said(lens, noise):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="positions up to 99"):
        picture_map(lens, pixels, Tile((99,), 1, 1))
    with pytest.raises(ValueError, match="Layer 9 is out of range"):
        picture_map(lens, pixels, TILE, layer=9)
    with pytest.raises(ValueError, match="height width channel"):
        picture_map(lens, pixels[..., 0], TILE)
    with pytest.raises(ValueError, match="a picture for each tile"):
        picture_map(lens, [pixels], [TILE, TILE])
    with pytest.raises(ValueError, match="a time for each position"):
        sound_map(lens, (1, 2), (0.0,))
    with pytest.raises(ValueError, match="must increase"):
        sound_map(lens, (1, 2), (0.1, 0.0))
    with pytest.raises(ValueError, match="samples, rate"):
        sound_map(lens, (1, 2), (0.0, 0.1), (noise[0], 0))


def test_a_view_shows_itself_in_a_notebook(lens):
    bundle = picture_map(lens, torch.zeros(4, 4, 3), TILE)._repr_mimebundle_()
    assert bundle["text/html"].startswith("<iframe sandbox=") and "2 x 3 patches" in bundle["text/plain"]


def test_the_still_of_a_view_has_the_words_of_every_place_the_first_row_on_top(lens):
    words = [row[0] for row in lens.strings()[1]]
    places = {"2": TILE.positions[3:], "1": TILE.positions[:3]}  # a map is written from its lowest row up
    drawn = picture_map(lens, torch.zeros(4, 4, 3), TILE, layer=1).picture
    shown = [node.text for node in ET.fromstring(drawn).iter() if node.tag.endswith("text")]
    assert "layer 1" in shown[0]
    assert shown[1:9] == [text for name, row in places.items() for text in (name, *(cut(words[p]) for p in row))]
    drawn = sound_map(lens, (1, 2), (0.0, 0.5), layer=1).picture
    shown = [node.text for node in ET.fromstring(drawn).iter() if node.tag.endswith("text")]
    assert shown[2:6] == [cut(words[1]), cut(words[2]), "0.00 s", "0.50 s"]


def cut(word):
    return word if len(word) <= 9 else word[:8] + "…"
