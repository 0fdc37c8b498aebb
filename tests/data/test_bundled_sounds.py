"""The bundled clips: one for each named thing, readable, with their notice; and VGGSound folders."""

from importlib.resources import files

import numpy as np
import pytest
import soundfile
import torch

from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.sounds import VOICE, animal_sounds, animals, bundled_sounds
from semhub_lens.data.media.vggsound import label_words, read_vggsound
from semhub_lens.data.media.waves import read_wave, resampled
from semhub_lens.data.text.texts import bundled_rows
from semhub_lens.geometry.measures import centre, cosine_matrix
from semhub_lens.spokes.encoders import AudioEncoder
from semhub_lens.training.bundled_sounds import write_sounds
from semhub_lens.training.corpora.speech import HELD, speak

FOLDER = files("semhub_lens.data") / "bundled" / "sounds"


def test_every_clip_opens_as_16_kilohertz_mono_is_heard_and_is_its_own():
    items = {item.concept: item for item in [*bundled_sounds(), *animal_sounds()]}
    assert len(items) == len({item.content for item in items.values()}) == 113
    for name, item in items.items():
        stored = soundfile.info(str(FOLDER / f"{name}.flac"))
        assert (stored.channels, stored.samplerate, stored.format) == (1, 16000, "FLAC")
        samples, rate = item.open()
        assert rate == 16000 and samples.dtype == np.float32 and samples.ndim == 1
        assert 0.2 < len(samples) / rate < 1.5 and np.abs(samples).max() == pytest.approx(0.3, abs=1e-3)
        assert item.style == VOICE and VOICE.split("+")[1] in HELD


def test_the_sounds_are_the_pictures_with_their_names():
    sounds, pictures = bundled_sounds(), bundled_pictures()
    assert [item.key for item in sounds] == [item.key for item in pictures]
    assert [item.names for item in sounds] == [item.names for item in pictures]


def test_animals_of_both_classes_are_enough_to_steer():
    classes, spoken = animals(), animal_sounds()
    assert all(item.key == f"{classes[item.concept]}:{item.concept}" for item in spoken)
    mammals = [item.concept for item in spoken if classes[item.concept] == "mammal"]
    assert len(mammals) == len(spoken) - len(mammals) == 24 and {"dog", "whale"} <= set(mammals)
    assert {classes[name] for name in ("shark", "bee", "owl", "snake")} == {"fish", "insect", "bird", "reptile"}
    assert len(classes) == len(bundled_rows("sounds/animals.tsv")), "no animal is listed twice"


def test_the_folder_is_small_and_holds_what_its_table_says():
    rows = bundled_rows("sounds/sounds.tsv")
    expected = {f"{row['en']}.flac" for row in rows} | {"sounds.tsv", "animals.tsv", "NOTICE"}
    assert {entry.name for entry in FOLDER.iterdir()} == expected
    assert {row["voice"] for row in rows} == {VOICE}
    assert sum((FOLDER / name).stat().st_size for name in expected) < 1_200_000
    assert "eSpeak NG" in (FOLDER / "NOTICE").read_text()


def test_the_clips_can_be_made_again(tmp_path, monkeypatch):
    from semhub_lens.training import bundled_sounds as sounds

    rows = {name: sounds.bundled_rows(name) for name in ("sounds/sounds.tsv",)}
    monkeypatch.setattr(sounds, "bundled_rows", lambda name: rows[name][:6])
    for path in write_sounds(tmp_path):
        again, kept = (soundfile.read(str(file))[0] for file in (path, FOLDER / path.name))
        assert len(again) == pytest.approx(len(kept), rel=0.05)
        size = 2 ** int(np.log2(min(len(again), len(kept))))
        spectra = [np.abs(np.fft.rfft(part[:size]))[: size // 4] for part in (again, kept)]
        assert np.corrcoef(*spectra)[0, 1] > 0.6
    assert len(list(tmp_path.iterdir())) == 6


def test_resampling_keeps_a_tone_where_it_was(tmp_path):
    for rate in (8000, 22050, 48000):
        tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
        found = resampled(tone, rate)
        assert len(found) == 16000 and np.abs(np.fft.rfft(found)).argmax() == 440
    left = np.stack([tone, np.zeros_like(tone)], axis=1)
    soundfile.write(tmp_path / "a.wav", left, 48000)
    samples, rate = read_wave(tmp_path / "a.wav")
    assert rate == 16000 and np.abs(samples).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("written", "message"), [(None, "No sound file at"), (b"no sound", "cannot be read as sound"), (0, "no samples")]
)
def test_files_that_hold_no_sound_are_refused(tmp_path, written, message):
    path = tmp_path / "a.wav"
    if isinstance(written, bytes):
        path.write_bytes(written)
    elif written == 0:
        soundfile.write(path, np.zeros(0), 16000)
    with pytest.raises(ValueError, match=message):
        read_wave(path)


LIST = """# YouTube ID, start seconds, label, train/test split.
--aaa,30,"playing violin, fiddle",test
b_b_b,1,dog barking,train
gone1,7,cat purring,test
cccc,120,people  cheering,test
"""


def folder(root, text=LIST, clips=("--aaa_000030.wav", "b_b_b_1.flac", "sub/cccc_000120.wav")):
    (root / "vggsound.csv").write_text(text)
    for number, name in enumerate(clips):
        (root / name).parent.mkdir(exist_ok=True)
        tone = np.sin(np.arange(8000) * (number + 1) / 10).astype(np.float32)
        soundfile.write(root / name, tone, 8000)
    return root


def test_a_vggsound_folder_gives_the_clips_that_are_there(tmp_path):
    items = read_vggsound(folder(tmp_path))
    assert [item.key for item in items] == ["--aaa_000030", "b_b_b_1", "cccc_000120"]
    assert [item.names["en"][0] for item in items] == ["playing violin, fiddle", "dog barking", "people cheering"]
    assert [item.style for item in items] == ["test", "train", "test"]
    samples, rate = items[0].open()
    assert (len(samples), rate) == (16000, 16000)
    assert [item.key for item in read_vggsound(tmp_path, split="train")] == ["b_b_b_1"]
    assert len({item.content for item in items}) == 3


def test_a_list_may_have_a_header_and_no_split(tmp_path):
    items = read_vggsound(folder(tmp_path, "id,start,label\nb_b_b,1,dog barking\n"))
    assert [(item.key, item.style) for item in items] == [("b_b_b_1", "clip")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1\n", r"vggsound\.csv:1: expected id,start,label"),
        ("a,x,dog\n", "expected id,start,label"),
        ("a,1,dog,test\na,1,cat,test\n", "is the same clip as line 1"),
        ("a,1,etc\n", "a text label"),
        ("a,1,playing violin, fiddle,test\n", "in quotes if it has commas"),
        ("a,1,dog,test\n", r"None of the 1 lines .* such as a_000001\.wav"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_vggsound(folder(tmp_path, text))


def test_a_folder_without_its_list_or_with_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected one \.csv .* found none"):
        read_vggsound(tmp_path)
    with pytest.raises(ValueError, match="has no split 'val'; it has test, train"):
        read_vggsound(folder(tmp_path), split="val")
    (tmp_path / "other.csv").write_text("")
    with pytest.raises(ValueError, match=r"found other\.csv, vggsound\.csv"):
        read_vggsound(tmp_path)


def test_the_words_of_a_label_are_its_content_words():
    assert label_words("Playing violin, fiddle") == ("playing", "violin", "fiddle")
    assert label_words("sea waves and the sea") == ("sea", "waves")
    assert label_words("") == ()


def test_clips_say_their_words():
    """Whisper's encoder finds most mammals again in another voice; by chance it would find one of 24."""
    said = [item for item in animal_sounds() if item.key.startswith("mammal")]
    encoder = AudioEncoder()
    own = encoder([item.open() for item in said]).flatten(1)
    other = encoder([speak(item.concept, "en+f2", rate=150) for item in said]).flatten(1)
    matrix = cosine_matrix(centre(own[None]), centre(other[None]))[0]
    assert float((matrix.argmax(1) == torch.arange(24)).float().mean()) > 0.5
