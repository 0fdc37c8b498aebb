"""Pixels and samples come to one scale, or are refused with what to do."""

import numpy as np
import pytest
import torch

import multimodal as made
from semhub_lens import Prompt
from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.raw_media import pixels, samples
from semhub_lens.spokes import encoders

WAVE = np.sin(np.linspace(0, 900, 5120)).astype(np.float32)


def heard(wave):
    return Prompt.from_processor(made.processor("qwen2_audio"), text="<audio> What ?", audio=wave).media.inputs


@pytest.mark.parametrize(
    ("same", "error"),
    [
        ((WAVE * 32767).astype(np.int16), 1e-3),
        ((WAVE.astype(np.float64) * (2**31 - 1)).astype(np.int32), 1e-6),
        (np.rint(WAVE * 127 + 128).astype(np.uint8), 2e-2),
        (torch.from_numpy((WAVE * 32767).astype(np.int16)), 1e-3),
        (torch.from_numpy(WAVE).bfloat16(), 1e-2),
        (WAVE.tolist(), 1e-6),
    ],
    ids=["16 bits", "32 bits", "8-bit picture", "a tensor", "bfloat16", "a list"],
)
def test_integer_samples_have_the_full_scale_of_their_type(same, error):
    assert samples(same).dtype == np.float32 and np.abs(samples(same) - WAVE).max() < error
    assert np.abs(encoders.sound((same, 16_000))[0] - WAVE).max() < error
    if error < 1e-2 and not isinstance(same, list):  # a list is several sounds there
        assert (heard(WAVE)["input_features"] - heard(same)["input_features"]).abs().max() < 0.05


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        ((WAVE * 32767).astype(np.int64), r"type int64 have no known full scale.*numpy\.int16"),
        (WAVE * 32767, r"these reach 32\d*: divide them by the full scale.*32768"),
        (WAVE > 0, "array of numbers"),
        ([[1.0], [1.0, 2.0]], "array of numbers"),
        (WAVE * np.nan, "finite samples"),
    ],
    ids=["int64", "floats of 16 bits", "booleans", "ragged", "nan"],
)
def test_samples_of_unknown_scale_are_refused(wave, message):
    for read in (samples, lambda w: encoders.sound((w, 16_000)), *([] if isinstance(wave, list) else [heard])):
        with pytest.raises(SemhubError, match=message):
            read(wave)


def test_channels_before_time_are_refused():
    with pytest.raises(SemhubError, match=r"\[time channel\], got shape \(2, 5120\)"):
        encoders.sound((np.stack([WAVE, WAVE]), 16_000))
    assert np.allclose(encoders.sound((np.stack([WAVE, WAVE], 1), 16_000))[0], WAVE)


@pytest.mark.parametrize("family", ["qwen2_audio", "glmasr", "audioflamingo3"])
def test_a_sound_that_the_processor_cuts_is_refused(family):
    def times(seconds, count=1):
        waves = [made.sound(i, seconds) for i in range(count)]
        text = "<audio> " * count + "What ?"
        return Prompt.from_processor(made.processor(family), text=text, audio=waves).media.times

    for seconds in (0.16, 0.315, 0.32):
        assert times(seconds)["audio:0"][-1] < seconds
    for seconds in (0.37, 0.64):
        with pytest.raises(SemhubError, match=rf"reads 0\.32 of the {seconds:.2f} seconds .* shorten the sound"):
            times(seconds)


GREY = (np.arange(28 * 28 * 3) % 256).astype(np.uint8).reshape(28, 28, 3)


@pytest.mark.parametrize(
    "same",
    [GREY / 255, (GREY / 255).astype(np.float32), GREY.astype(np.float64), GREY.astype(np.int64), torch.tensor(GREY)],
    ids=["0 to 1", "float32", "0 to 255", "int64", "a tensor"],
)
def test_pictures_of_one_scale_are_one_picture(same):
    assert np.array_equal(pixels(same), GREY) and pixels(same).dtype == np.uint8
    assert np.array_equal(np.asarray(encoders.picture(same)), GREY)
    llava = made.processor("llava")
    seen = [
        Prompt.from_processor(llava, text="<image> What ?", images=one).media.inputs["pixel_values"]
        for one in (GREY, same)
    ]
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    "bad",
    [GREY - 128.0, GREY.astype(np.uint16) * 256, GREY / 0.5, np.full((2, 2, 3), np.nan)],
    ids=["normalised", "16 bits", "too large", "nan"],
)
def test_pictures_of_another_scale_are_refused(bad):
    llava = made.processor("llava")
    for read in (pixels, encoders.picture, lambda p: Prompt.from_processor(llava, text="<image> What ?", images=p)):
        with pytest.raises(SemhubError, match=r"integers from 0 to 255 or floats from 0 to 1; these are"):
            read(bad)
    with pytest.raises(SemhubError, match=r"\[height width channel\]"):
        encoders.picture(np.moveaxis(GREY, 2, 0))
