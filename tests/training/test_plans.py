"""What a spoke is trained and tested on: families of concepts, held-out pictures, folders of files, mixed pairs."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem, split_items
from semhub_lens.training.corpora.emoji import emoji_pictures
from semhub_lens.training.corpora.families import families, names_one_of, words
from semhub_lens.training.corpora.named import named_pictures, named_recordings
from semhub_lens.training.sampler import Sampler, TrainingSet, TrainingSettings


def item(key, style, concept, **names):
    return MediaItem(key, style, concept, {"en": (concept,)} | names, "", str)


def dogs(styles=("photo", "emoji")):
    return [item(f"{s}:{c}", s, c) for c in map("thing{:03d}".format, range(40)) for s in styles]


def test_names_that_begin_alike_or_translate_alike_are_one_family():
    concepts = ["airplane", "airplane arrival", "headstone", "tombstone", "bear", "polar bear", "keys", "key ring"]
    items = [item(c, "s", c) for c in concepts]
    items[2] = item("h", "s", "headstone", de=("Grabstein",))
    items[3] = item("t", "s", "tombstone", de=("Grabstein",))
    a, b, c, d, bear, polar, keys, ring = families(items)
    assert a == b and c == d and keys == ring
    assert len({a, c, bear, polar, keys}) == 5
    assert names_one_of(items[5], [words("bear")]) and not names_one_of(items[4], [words("polar bear")])
    assert names_one_of(item("x", "s", "two bears"), [words("bear")])
    assert words("Cherries with leaves") == ("cherry",)


def test_a_family_is_trained_whole_or_not_at_all():
    items = dogs()
    groups = [one.concept[:-1] for one in items]
    split = split_items(items, seed=2, concepts=0.5, families=groups)
    trained = {items[i].concept[:-1] for i in (*split.train, *split.new_item, *split.new_style)}
    unseen = {items[i].concept[:-1] for i in split.new_concept}
    assert trained | unseen == set(groups) and not trained & unseen
    assert len(unseen) == 2


def test_concepts_to_choose_by_are_apart_from_those_reported():
    items = dogs()
    split = split_items(items, seed=2, concepts=0.5, choosing=0.5)
    plain = split_items(items, seed=2, concepts=0.5)
    apart, reported = ({items[i].concept for i in part} for part in (split.choosing, split.new_concept))
    assert len(apart) == len(reported) == 10 and not apart & reported
    assert sorted((*split.choosing, *split.new_concept)) == sorted(plain.new_concept)
    assert split.train == plain.train


def test_held_items_are_tested_by_what_is_left_of_their_concept():
    items = [item("emoji:a", "emoji", "a"), item("photo:a", "photo", "a"), item("emoji:b", "emoji", "b")]
    items += [item("emoji:c", "emoji", "c"), item("emoji:c2", "emoji", "c")]
    split = split_items(items, seed=0, concepts=0.0, styles=0.0, repeats=0.0, held=("emoji:a", "emoji:b", "emoji:c"))
    assert split.train == (1, 4)
    assert (split.new_style, split.new_concept, split.new_item) == ((0,), (2,), (3,))


def test_files_are_named_by_what_they_show(tmp_path):
    for name in ("animals/guinea_pig.jpg", "animals/red_fox-02.png", "actions/run.jpg", "animals/x2y.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(path) if path.suffix != ".txt" else path.write_text("no picture")
    found = {one.key: one for one in named_pictures(tmp_path, "drawing", skip=("actions",))}
    assert set(found) == {"drawing:animals/guinea_pig.jpg", "drawing:animals/red_fox-02.png"}
    fox = found["drawing:animals/red_fox-02.png"]
    assert fox.concept == "fox" and fox.names == {"en": ("fox", "red fox")} and fox.open().size == (4, 4)
    with pytest.raises(ValueError, match="no pictures below"):
        named_pictures(tmp_path / "nowhere", "drawing")


def test_recordings_are_named_by_what_they_say(tmp_path):
    said = {"en": {"guinea pig": ("guinea pig", "guinea pig"), "dog": ("dog", "dog")}, "de": {"hund": ("Hund", "dog")}}
    for name in ("en/guinea_pig_2.wav", "en/dog.flac", "de/hund.wav", "de/dog.wav", "en/cat.wav", "fr/dog.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.linspace(-0.5, 0.5, 800), 16000)
    (tmp_path / "en" / "dog.txt").write_text("no sound")
    found = {one.key: one for one in named_recordings(tmp_path, "anna", said)}
    assert set(found) == {"anna:en:guinea_pig_2.wav", "anna:en:dog.flac", "anna:de:hund.wav"}
    hund = found["anna:de:hund.wav"]
    assert (hund.style, hund.concept, hund.names) == ("anna", "dog", {"de": ("Hund",)})
    samples, rate = hund.open()
    assert rate == 16000 and np.allclose(samples, np.linspace(-0.5, 0.5, 800), atol=1e-4)
    with pytest.raises(ValueError, match=r"no recordings of words below .*nowhere. Expected .*en/guinea pig.wav"):
        named_recordings(tmp_path / "nowhere", "anna", said)


@pytest.mark.parametrize("name", ["1f436.png", "1F436.png", "1f436.webp", "2600-fe0f.png"])
def test_emoji_folders_of_several_makers_are_read(tmp_path, name):
    Image.new("RGB", (4, 4), "red").save(tmp_path / name)
    (found,) = emoji_pictures(tmp_path, "maker")
    assert found.concept == ("sun" if name.startswith("2600") else "dog") and found.key.startswith("maker:")
    assert found.open().size == (4, 4)


def test_mixed_pairs_lie_between_two_items_and_take_the_name_of_the_nearer_more_often():
    points = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    own = TrainingSet(points, [[("en", "zero")], [("en", "one")]], {"en": ("<image> a",)}, "image")
    sampler = Sampler.__new__(Sampler)
    sampler.settings = TrainingSettings(batch=20000, mixup=1.0)
    items = torch.tensor([0, 1] * 10000)
    mixed, named = sampler._mixed(own.features[items, 0], items, generator(0))
    flat = mixed.flatten()
    assert float(flat.min()) >= 0 and float(flat.max()) <= 1
    for low in (0.0, 0.25, 0.5, 0.75):  # of the pairs at x, the share x is named "one"
        inside = (flat >= low) & (flat < low + 0.25)
        assert float(named[inside].float().mean()) == pytest.approx(float(flat[inside].mean()), abs=0.03)
    sharp = dataclasses.replace(sampler.settings, mixup=0.05)
    sampler.settings = sharp
    mixed, _ = sampler._mixed(own.features[items, 0], items, generator(0))
    assert Counter((mixed.flatten() - 0.5).abs().gt(0.45).tolist())[True] > 16000
