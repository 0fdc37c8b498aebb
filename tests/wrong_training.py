"""Right calls and wrong values of the functions of the room `training`, which `wrong_reference` takes in."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import wrong_values as wrong
from planted_spokes import CHUNKS, NAMES, TEMPLATES, D, FakeEncoder, planted, training_set
from semhub_lens.data.media.items import MediaItem, Split
from semhub_lens.spokes.projector import Projector, Shape
from semhub_lens.training import recipes
from semhub_lens.training.corpora import speech
from semhub_lens.training.recipes import TrainingPlan
from semhub_lens.training.sampler import Sampler, TrainingSet, TrainingSettings
from wrong_values import ESC, HALF, INF, NAN, QUIET, Of, folder, spoilt, states

SEEDS, FLAGS = wrong.WRONG["seed"], wrong.WRONG["flag"]
SIZES = [0, -1, 1.5, "a", NAN, True, None]
PARTS = [None, 5, "a", [], {"a": 1}]
NO_FOLDERS = [5, b"a", "", "\0", "no-such-folder"]
STYLES = [None, 5, "", " ", "a\nb", ESC, HALF]
PLACES = [5, b"a", "", "\0", Of(lambda model: wrong.lexicon() / "inside")]
"""Folders that cannot be made."""


@cache
def corpora() -> Path:
    """A folder with a little of all that a training reads."""
    import soundfile

    root = folder() / "corpora"
    for name in ("empty", "emoji", "named", "stamps", "said/en"):
        (root / name).mkdir(parents=True)
    for name in ("emoji/1f436.png", "named/guinea_pig.png", "stamps/dog.png"):
        Image.new("RGB", (4, 4), "red").save(root / name)
    (root / "stamps" / "dog.txt").write_text("A dog.\n")
    (root / "plain").write_text("no folder, and no font")
    for name in ("said/en/dog.wav", "stamps/dog.ogg", "stamps/dog_desc.ogg"):
        soundfile.write(root / name, np.linspace(-0.5, 0.5, 8000), 16000)
    return root


def here(name: str) -> Of:
    return Of(lambda model: corpora() / name)


NO_STAMPS = [*NO_FOLDERS, here("empty"), here("plain")]
NO_FONT = [None, *NO_FOLDERS, here("empty"), here("plain")]


def named(*folders: str) -> list[Any]:
    """Wrong mappings from a style to a folder."""
    return [5, "a", [1], {1: "a"}, {"a": 5}, {"a": ""}, {"a": "no-such-folder"}, *(
        Of(lambda model, name=name: {"a": corpora() / name}) for name in ("empty", "plain", *folders)
    ), Of(lambda model: {"": corpora() / "named"}), Of(lambda model: {"a\nb": corpora() / "named"})]  # fmt: skip


def items(count: int = 6) -> list[MediaItem]:
    return [MediaItem(f"{i}", "plain", NAMES[i], {"en": (NAMES[i],)}, "", partial_of(i)) for i in range(count)]


def nameless() -> list[MediaItem]:
    return [MediaItem("key", "plain", "dog", {"en": (" ",)}, "", str)]


def partial_of(number: int) -> Any:
    return lambda: torch.full((CHUNKS, D), float(number))


NO_LISTS = [None, 5, "a", [5], ["a"], [None]]
NO_ITEMS = [*NO_LISTS, []]


def given() -> TrainingSet:
    return training_set(*planted(per_name=2))


def other_set() -> TrainingSet:
    return TrainingSet(torch.zeros(2, 1, CHUNKS, D + 1), [[("en", "dog")]] * 2, TEMPLATES, "image")


def settings(**changed: Any) -> TrainingSettings:
    return TrainingSettings(**{"steps": 1, "batch": 4, "warmup": 0, "candidates": 20} | changed)


def plan() -> TrainingPlan:
    features, labels = planted(per_name=2)
    listed = [MediaItem(f"{i}", "plain", NAMES[k], {"en": (NAMES[k],)}, "", str) for i, k in enumerate(labels)]
    split = Split(tuple(range(0, 20, 2)), tuple(range(1, 20, 2)), (), ())
    return TrainingPlan("image", "fake", listed, features[:, None].half(), split, TEMPLATES, {"plain": 20})


def projector(model: Any) -> Projector:
    return Projector(Shape(CHUNKS, D, int(model.cfg.d_model), hidden=8, embeddings=2), seed=1)


def sampler(model: Any) -> Sampler:
    return Sampler(model, given(), settings(pretraining=1), 2)


MODEL = Of(lambda model: model)
SIZED = {
    "hidden": SIZES, "embeddings": SIZES, "joint": FLAGS, "standardised": FLAGS, "codes": [*FLAGS, True],
    "rank": [-1, 1.5, "a", NAN, True, None, 3],
}  # fmt: skip
"""Codes come only after a pretraining, and a rank only with codes."""
NO_SETTINGS = [*PARTS, Of(lambda model: settings(regions=1)), Of(lambda model: settings(folds=2))]

# name -> (right arguments, wrong values of each)
ROWS = {
    "training.train.train": (
        {"model": MODEL, "training_set": given(), "settings": settings(), "hidden": 8, **QUIET},
        {"model": wrong.WRONG["model"], "training_set": PARTS, "settings": NO_SETTINGS, **SIZED,
         "folder": PLACES, "checks": [5, "a", [1], {"a": 5}, {1: given()}, {"a": other_set()}], "every": SIZES,
         "progress": FLAGS},
    ),
    "training.pretraining.pretrain": (
        {"projector": Of(projector), "sampler": Of(sampler), **QUIET},
        {"projector": PARTS, "sampler": PARTS, "without": [-1, 5, 1.5, "a", NAN, True], "progress": FLAGS},
    ),
    "training.features.features": (
        {"encoder": FakeEncoder(), "items": items(), "views": 1, **QUIET},
        {"encoder": PARTS, "items": NO_ITEMS, "views": SIZES, "folder": PLACES, "seed": SEEDS, "progress": FLAGS},
    ),
    "training.evaluation.evaluate": (
        {"model": MODEL, "projector": Of(projector), "features": states(6, CHUNKS, D), "items": items(),
         "splits": ["train"] * 6, "templates": {"en": "<image> plus"}, "modality": "image"},
        {"model": wrong.WRONG["model"], "projector": PARTS,
         "features": [None, "a", [[[1.0]]], 5, Of(lambda model: states(5, CHUNKS, D)), states(6, D),
            states(6, CHUNKS, D + 1), spoilt(NAN, 6, CHUNKS, D), spoilt(INF, 6, CHUNKS, D)],
         "items": [*NO_ITEMS, items(5)], "splits": [None, 5, "abcdef", ["train"], [5] * 6],
         "templates": [None, 5, "<image>", [], {}, {"fr": "<image> plus"}, {"en": "plus"}, {"en": 5},
            {"en": "<image> <image>"}],
         "modality": ["nothing", 5, "", ESC, None, "audio"], "seed": SEEDS},
    ),
    "training.recipes.vision_plan": (
        {"font": here("emoji"), "colours": False, "views": 1, **QUIET},
        {"font": NO_FONT, "stamps": NO_STAMPS, "more": named(), "named": named("emoji"), "colours": FLAGS,
         "grid": [*SIZES, 8], "views": SIZES, "cache": PLACES, "seed": SEEDS, "progress": FLAGS},
    ),
    "training.recipes.audio_plan": (
        {"words": 2, "languages": {"en": 1}, "views": 1, **QUIET},
        {"stamps": NO_STAMPS, "named": named("named"), "words": SIZES,
         "languages": [None, 5, "en", [], {}, ["en"], {"xx": 1}, {"en": 0}, {"en": -1}, {"en": "a"}, {1: 1}],
         "chunks": SIZES, "views": SIZES, "cache": PLACES, "seed": SEEDS, "progress": FLAGS},
    ),
    "training.recipes.run_plan": (
        {"model": MODEL, "plan": plan(), "out": folder() / "trained", "name": "mine", "settings": settings(),
         "hidden": 8, **QUIET},
        {"model": wrong.WRONG["model"], "plan": PARTS, "out": [None, *PLACES],
         "name": [None, 5, "", " ", "a/b", "../up", "a\nb", ESC, "x" * 300, "checkpoint", "Evaluation", HALF],
         "settings": NO_SETTINGS, **SIZED, "every": SIZES, "judge": [5, "a", torch.nn.Linear(2, 2)],
         "progress": FLAGS},
    ),
    "training.corpora.emoji.emoji_pictures": (
        {"source": here("emoji")}, {"source": NO_FONT, "style": STYLES},
    ),
    "training.corpora.stamps.read_stamps": (
        {"root": here("stamps")}, {"root": [None, *NO_STAMPS], "symbols": FLAGS},
    ),
    "training.corpora.stamps.stamp_pictures": (
        {"root": here("stamps")}, {"root": [None, *NO_STAMPS], "svg": FLAGS},
    ),
    "training.corpora.stamps.stamp_speech": (
        {"root": here("stamps")},
        {"root": [None, *NO_STAMPS], "languages": [None, 5, "en", [], ["xx"], [5], [ESC], [None]]},
    ),
    "training.corpora.stamps.stamp_sounds": ({"root": here("stamps")}, {"root": [None, *NO_STAMPS]}),
    "training.corpora.named.named_pictures": (
        {"folder": here("named"), "style": "a"},
        {"folder": [None, *NO_STAMPS, here("emoji")], "style": STYLES, "skip": [None, 5, "actions", [5], [None]]},
    ),
    "training.corpora.named.named_recordings": (
        {"folder": here("said"), "style": "a", "said": {"en": {"dog": ("dog", "dog")}}},
        {"folder": [None, *NO_STAMPS, here("named")], "style": STYLES,
         "said": [None, 5, "a", [], {}, {"en": 5}, {"en": {}}, {"en": {"dog": "dog"}}, {"en": {"dog": (1, 2)}},
            {"fr": {"dog": ("dog", "dog")}}]},
    ),
    "training.corpora.families.families": ({"items": items()}, {"items": [*NO_LISTS, Of(lambda model: nameless())]}),
    "training.corpora.speech.speak": (
        {"text": "dog"},
        {"text": [None, 5, b"dog", "", " ", HALF, "\0"], "voice": [None, 5, "", "xx", ESC, "en+nothing", HALF],
         "rate": [0, -1, 1.5, "a", NAN, True, None, 1 << 40], "pitch": [-1, 101, 1.5, "a", NAN, True, None]},
    ),
    "training.corpora.speech.spoken_words": (
        {"english": 2}, {"stamps": NO_STAMPS, "english": SIZES},
    ),
    "training.corpora.speech.speech_items": (
        {"words": {"en": [("dog", "dog", "A dog.")]}},
        {"words": [None, 5, "a", [], {}, {"en": 5}, {"en": ["dog"]}, {"en": [("dog", "dog")]}, {"en": [(1, 2, 3)]},
            {"xx": [("dog", "dog", "A dog.")]}],
         "variants": [None, 5, "m1", [], [5], [None]],
         "voices": [5, "en", [], {"en": 0}, {"en": -1}, {"en": 1.5}, {1: 1}]},
    ),
    "training.bundled_sounds.write_sounds": ({"folder": folder() / "sounds"}, {"folder": [None, *PLACES]}),
}  # fmt: skip


class Deaf:
    """An encoder that takes no time."""

    modality, name, d = "audio", "deaf", 3

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks

    def __call__(self, media: Any) -> torch.Tensor:
        return torch.zeros(len(list(media)), self.chunks, self.d)


def made_small(monkeypatch: Any) -> None:
    """Let the plans read few words, and encode nothing."""
    names = {"🐶": {"en": ("dog",), "fr": ("chien",)}, "🐱": {"en": ("cat",)}, "🏠": {"en": ("house",)}}
    monkeypatch.setattr(speech, "emoji_names", lambda: names)
    monkeypatch.setattr(speech, "concepts", lambda: {"en": ["dog", "cat"], "fr": ["chien", "chat"]})
    heard, seen = recipes.AudioEncoder, recipes.VisionEncoder
    monkeypatch.setattr(recipes, "AudioEncoder", lambda chunks: Deaf(chunks) if chunks > 0 else heard(chunks))
    monkeypatch.setattr(recipes, "VisionEncoder", lambda grid: Deaf(grid**2) if 0 < grid < 8 else seen(grid))
