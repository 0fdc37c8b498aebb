"""Figures of the lens on pictures and sound: what is drawn is what was measured, in its place."""

import html

import numpy as np
import pytest
import torch

import semhub_lens as shl
from semhub_lens.inputs.media import Tile
from semhub_lens.views.media_maps import picture_map, sound_map

TILE = Tile((1, 2, 3, 4, 5, 6), 2, 3)


@pytest.fixture
def lens(tiny_model):
    return shl.logit_lens(tiny_model, "three plus two is five dog cat", top_k=3, progress=False)


def shown_text(cell):
    """A cell's text without its escapes and, where it was cut, its ellipsis."""
    found = html.unescape(cell)
    assert len(found) >= 1
    return found.removesuffix("…")


def test_every_patch_shows_its_own_positions_token_at_every_layer(lens):
    drawn = picture_map(lens, np.zeros((40, 60, 3), dtype=np.uint8), TILE, layer=1)
    strings, steps = lens.strings(), drawn.layout.sliders[0].steps
    assert len(steps) == len(strings) and drawn.layout.sliders[0].active == 1
    for layer, step in enumerate(steps):
        z, text = step.args[0]["z"][0], step.args[0]["text"][0]
        for row in range(2):
            for column in range(3):
                position = TILE.positions[3 * row + column]
                assert strings[layer][position][0].startswith(shown_text(text[row][column]))
                assert z[row][column] == pytest.approx(float(lens.top_logprobs[layer, position, 0].exp()), abs=1e-6)
    heat = drawn.data[1]
    assert [list(row) for row in heat.text] == steps[1].args[0]["text"][0]
    assert list(heat.x) == [9.5, 29.5, 49.5] and list(heat.y) == [9.5, 29.5]
    assert drawn.layout.yaxis.range[0] > drawn.layout.yaxis.range[1], "the first row is at the top"


def test_tokens_are_escaped(lens):
    drawn = picture_map(lens, np.zeros((4, 4, 3), dtype=np.uint8), TILE)
    assert "<script>" not in drawn.to_json()


def test_a_sound_is_drawn_at_its_seconds(lens):
    drawn = sound_map(lens, (2, 3), (0.0, 0.08)).data[0]
    assert list(drawn.x) == [0.0, 0.08]
    expected = lens.top_logprobs[:, [2, 3], 0].exp()
    torch.testing.assert_close(torch.tensor(drawn.z), expected, atol=1e-6, rtol=0)
    for row, strings in zip(drawn.text, lens.strings(), strict=True):
        assert [strings[at][0].startswith(shown_text(text)) for at, text in zip((2, 3), row, strict=True)] == [True] * 2


def test_what_does_not_fit_is_said(lens):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="positions up to 99"):
        picture_map(lens, pixels, Tile((99,), 1, 1))
    with pytest.raises(ValueError, match="Layer 9 is out of range"):
        picture_map(lens, pixels, TILE, layer=9)
    with pytest.raises(ValueError, match="height width channel"):
        picture_map(lens, pixels[..., 0], TILE)
    with pytest.raises(ValueError, match="a time for each position"):
        sound_map(lens, (1, 2), (0.0,))
