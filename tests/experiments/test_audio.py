"""Experiments on sound: planted names and answers are found, exchanged ones and noise are not."""

from dataclasses import replace

import pytest
import soundfile
import torch

import multimodal as made
import semhub_lens as shl
from hearing import Planted, checks, clip
from jobs import job_on
from semhub_lens.data.media.items import MediaItem
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.media import audio, audio_steering
from semhub_lens.experiments.media.audio import SOUNDS, labelled_in
from semhub_lens.inputs.readers import ProcessorReader

NAMES = "zero one two three four five six seven eight nine plus minus equals red blue green dog cat house".split()  # noqa: SIM905
FRENCH = dict(zip(NAMES, [*NAMES[1:-3], "chat", "perro", "house", "dog"], strict=True)) | {"zero": "zero"}


@pytest.fixture
def items(monkeypatch):
    """One planted clip for each name."""
    listed = [clip(name, fr=FRENCH[name]) for name in NAMES]
    monkeypatch.setattr(audio, "bundled_sounds", lambda: listed)
    return listed


SHIFTED = dict(zip(NAMES, NAMES[7:] + NAMES[:7], strict=True))


def job(model, **settings):
    return job_on(model, len(NAMES), progress=False, **settings)


def test_planted_embeddings_lie_near_their_names_and_exchanged_ones_do_not(tiny_model, items):
    found = audio.run_similarity(job(tiny_model, reader=Planted(tiny_model, "W_E")))
    leg = found.legs[0]
    assert [one.wording.data_type for one in found.legs] == ["audio"] * 4 and found.id == "audio.similarity"
    assert leg.verdict.status == "supported" and leg.title == "sound's positions and name"
    assert checks(leg)["beyond noise in place of the sound"]
    wrong = audio.run_similarity(job(tiny_model, reader=Planted(tiny_model, "W_E", SHIFTED)))
    assert wrong.legs[0].verdict.status != "supported" and wrong.legs[1].verdict.status != "supported"
    assert any("adapter" in note for note in found.notes) and "planted" in found.provenance.data


def test_planted_names_are_read_at_the_sounds_positions_and_exchanged_ones_are_not(tiny_model, items):
    found = audio.run_logit_lens(job(tiny_model, reader=Planted(tiny_model)))
    english, french = found.legs
    assert english.title == "English names at the sound's positions" and english.verdict.status == "supported"
    held = checks(english)
    assert held[SOUNDS.not_noise] and NOT_RANDOM in held
    assert float(english.mean[0]) > 10 * abs(float(french.mean[0])), "nothing was planted in French"
    wrong = audio.run_logit_lens(job(tiny_model, reader=Planted(tiny_model, others=SHIFTED), baseline=False))
    assert wrong.legs[0].verdict.status != "supported"


def test_names_planted_in_french_are_found_in_french(tiny_model, items):
    found = audio.run_logit_lens(job(tiny_model, reader=Planted(tiny_model, others=FRENCH), baseline=False))
    english, french = found.legs
    assert french.verdict.status == "supported" and float(french.mean[0]) > 10 * abs(float(english.mean[0]))
    assert "French: 18 of 19 sounds" in " ".join(found.notes), "zero is spelt as in English"


def test_labels_are_compared_only_with_labels_that_share_no_word(tiny_model):
    listed = [clip(name) for name in ("dog cat", "cat house", "red blue", "unknown", "dog and cat", "red blue")]
    found = labelled_in(job(tiny_model), listed, "en")
    assert found.names == ["dog cat", "cat house", "red blue", "dog and cat"] and len(found.items) == 5
    assert found.words[3] == ("dog", "cat") and found.key.tolist() == [0, 1, 2, 3, 2]
    assert found.apart.int().tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]]
    assert not found.compared, "most have one other name to be compared with"


def test_the_effect_of_a_label_is_that_of_a_loop(tiny_model, monkeypatch):
    pairs = [f"{a} {b}" for a, b in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)]
    listed = [MediaItem(p, "planted", p, {"en": (p,)}, p, lambda p=p: p.split()[0]) for p in pairs]
    monkeypatch.setattr(audio, "bundled_sounds", lambda: listed)
    reader = Planted(tiny_model)
    (leg,) = audio.run_logit_lens(job(tiny_model, reader=reader, baseline=False)).legs
    item = 4
    prompt = reader.prompt(SOUNDS.question, NAMES[item])
    read = shl.target_lens(
        tiny_model, [prompt], [[p.split() for p in pairs]] * 2, read_at=[[1, 2]], quantities=(), progress=False
    ).log_probs.exp()
    logs = read.mean(1).log()
    others = [j for j, pair in enumerate(pairs) if not set(pair.split()) & set(pairs[item].split())]
    expected = logs[:, item] - logs[:, others].mean(1)
    assert len(others) == len(pairs) - 3
    torch.testing.assert_close(leg.effect[:, leg.labels.index(pairs[item])], expected, atol=1e-4, rtol=1e-4)


def test_a_finished_run_is_saved_and_read_again(tiny_model, items, tmp_path, monkeypatch):
    def once():
        return shl.experiments.run(
            "audio.logit_lens", tiny_model, reader=Planted(tiny_model), baseline=False, out=tmp_path, progress=False
        )

    first = once()
    monkeypatch.setattr(audio, "bundled_sounds", list)  # a second measurement would find no items
    assert torch.equal(once().legs[0].effect, first.legs[0].effect)
    assert (tmp_path / "audio.logit_lens" / "items.parquet").is_file()


@pytest.mark.parametrize("run", [audio.run_similarity, audio.run_logit_lens, audio_steering.run_steering])
def test_sound_needs_ears_and_enough_items(tiny_model, items, run, monkeypatch):
    with pytest.raises(ValueError, match=r"needs reader=\.\.\. for audio, got none"):
        run(job(tiny_model))
    few = job_on(tiny_model, 15, progress=False, reader=Planted(tiny_model))
    monkeypatch.setattr(audio_steering, "YES", "one")
    monkeypatch.setattr(audio_steering, "NO", "two")
    with pytest.raises(ValueError, match="needs at least 16"):
        run(few)


def test_a_tokenizer_that_knows_no_names_is_said_to(tiny_model, monkeypatch):
    monkeypatch.setattr(audio, "bundled_sounds", lambda: [clip(f"unknown{'x' * i}") for i in range(20)])
    with pytest.raises(ValueError, match="Too few names for this tokenizer"):
        audio.run_logit_lens(job(tiny_model, reader=Planted(tiny_model)))


KNOWN = ["dog", "cat", "house", "red", "blue", "What", "Yes", "No"]


@pytest.fixture(scope="module")
def ears():
    return made.bridge("qwen2_audio")


@pytest.fixture
def folder(tmp_path):
    """A VGGSound folder of noise whose labels the tiny tokenizer knows."""
    pairs = [f"{a} {b}" for i, a in enumerate(KNOWN) for b in KNOWN[i + 1 : i + 4]]
    lines = [f"clip{i},{i},{pair},test" for i, pair in enumerate([*pairs, *pairs[:4]])]
    (tmp_path / "vggsound.csv").write_text("\n".join(lines))
    for i in range(len(lines)):
        soundfile.write(tmp_path / f"clip{i}_{i:06d}.wav", made.sound(i, 0.32), 16000)
    return tmp_path


def test_both_readings_run_on_a_multimodal_model_and_a_users_folder(ears, folder, monkeypatch):
    monkeypatch.setattr(audio, "SCENES", replace(SOUNDS, question="<audio> What is this ?"))  # words that it knows
    reader = ProcessorReader(made.processor("qwen2_audio"), "audio")
    one = job_on(ears, 17, progress=False, reader=reader, data=str(folder))
    wanted = audio.run_logit_lens(one)
    assert len(wanted.legs) == 1 and wanted.legs[0].verdict.status != "supported", "noise has no name"
    assert "VGGSound folder" in wanted.provenance.data and "Qwen2AudioProcessor" in wanted.provenance.data
    alike = audio.run_similarity(job_on(ears, 16, progress=False, reader=reader, data=str(folder), baseline=False))
    assert len(alike.legs) == 4 and all(torch.isfinite(leg.effect).all() for leg in alike.legs)
    with pytest.raises(ValueError, match="16 mammals with a one-token name"):
        audio_steering.run_steering(one)
