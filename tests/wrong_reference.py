"""Right calls and wrong values of what the reference lists beside the names of `shl`.

As `wrong_methods`: the wrong values stand with their argument.
"""

import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from PIL import Image

import samples
import wrong_training
import wrong_values as wrong
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.semantics.logical_forms import semantic_items
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.model.facts import provenance_of
from wrong_methods import arguments_of
from wrong_values import ESC, HALF, INF, NAN, Of, folder, states, written

API = Path(__file__).parents[1] / "docs" / "api"
SEEDS = wrong.WRONG["seed"]
COUNTS = [*wrong.NO_COUNTS, None]
FLAGS = wrong.WRONG["flag"]
TEXTS = [None, 5, b"red"]
CODES = [None, 5, "xx", "", ESC, ["en"]]
SHARES = [-0.1, 1.1, "a", NAN, None, [0.5]]
LEVELS = [0.0, 1.0, *SHARES]
NOISE = bytes(range(128, 256)) * 4
"""Bytes that no text in UTF-8 and no file of a known format has."""


def noise(name: str) -> Of:
    return Of(lambda model: written(name, NOISE))


def empty(name: str) -> Of:
    return Of(lambda model: written(name, b""))


@cache
def bare() -> Path:
    path = folder() / "bare"
    path.mkdir(exist_ok=True)
    return path


FILES = [None, 5, b"a", "", "\0", "no-such-file", Of(lambda model: bare())]
"""No file, and a folder without any."""
SCRIPTS = [5, b"a", "", "no-such-folder", Of(lambda model: bare()), noise("noise.py")]


def items(count: int = 6) -> list[MediaItem]:
    names = [{"en": (word,)} for word in "abcdefgh"[:count]]
    return [MediaItem(name["en"][0], "photo", name["en"][0], name, "", wrong.pixels) for name in names]


NO_ITEMS = [None, 5, "a", [], [5], ["a"]]


def effect(*shape: int) -> torch.Tensor:
    return states(*(shape or (3, 24)))


def scores() -> dict:
    return {"matrix": states(3, 6, 4), "key": torch.tensor([0, 1, 2, 3, 0, 1])}


NO_KEYS = [None, "a", [0, 1], torch.zeros(5, dtype=torch.long), torch.tensor([0, 1, 2, 4, 0, 1]),
    torch.tensor([0, 1, 2, -1, 0, 1]), torch.zeros(6), torch.zeros(2, 3, dtype=torch.long)]  # fmt: skip
NO_MATRIX = [None, "a", [[[1.0]]], 5, states(6, 4)]
NO_EFFECT = [None, "a", [[1.0]], 5, states(24), states(2, 3, 24), states(3, 0)]
NO_DRAW = [None, 5, "a", [print]]
NO_GROUPS = [5, "a", [0] * 24, torch.zeros(24), torch.arange(23), torch.arange(24).reshape(4, 6), torch.arange(24) % 15]
NO_PAIRS = [None, "a", [[[1.0]]], 5, states(24, 8), states(2, 23, 8), states(3, 24, 8), states(2, 1, 8)]
PAIR = {"a": states(2, 24, 8), "b": states(2, 24, 8, seed=1)}
COCO = {"images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
    "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
    "categories": [{"id": 1, "name": "dog"}]}  # fmt: skip


@cache
def coco() -> Path:
    root = folder() / "coco"
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / "instances_all.json").write_text(json.dumps(COCO))
    captions = {"annotations": [{"image_id": 1, "caption": "A dog."}]}
    (root / "annotations" / "captions_all.json").write_text(json.dumps(captions))
    Image.new("RGB", (4, 4)).save(root / "a.png")
    return root


@cache
def sound() -> Path:
    import soundfile

    path = folder() / "sound.wav"
    soundfile.write(path, np.zeros(16), 16000)
    return path


@cache
def clips() -> Path:
    import soundfile

    root = folder() / "clips"
    root.mkdir(exist_ok=True)
    (root / "vggsound.csv").write_text("a,3,dog barking,test\n")
    soundfile.write(root / "a_000003.wav", np.zeros(16), 16000)
    return root


@cache
def gale() -> Path:
    root = folder() / "gale"
    for side, name, text in (("source", "a.zho.tsv", "狗"), ("translation", "a.eng.tsv", "dog")):
        (root / side).mkdir(parents=True, exist_ok=True)
        (root / side / name).write_text(f"1\t{text}\n", encoding="utf-8")
    return root


def spoilt_folder(name: str, files: dict) -> Of:
    """A folder whose files have bytes of no text."""

    def filled(model):
        for file, content in files.items():
            path = folder() / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder() / name

    return Of(filled)


def code_folder() -> Path:
    root = folder() / "code"
    root.mkdir(exist_ok=True)
    (root / "a.py").write_text(
        'def double(number):\n    """Return twice the number that is given."""\n    other = [number, number, 5, 7]\n'
        "    for i in range(other):\n        print(i, number)\n    return number + number\n\n\n"
        "value = 5\nprint(double(value))\n"
    )
    return root


def semantic():
    return semantic_items(1, seed=0)[0]


def leg_of(model):
    return wrong.leg(model)


def report_page(model):
    return wrong.saved_report(model)


LEG = Of(leg_of)
NO_LEG = [None, 5, "a", [], {"a": 1}]
HERE = Of(provenance_of)

# name -> (right arguments, wrong values of each)
ROWS = {
    "data.text.texts.glossary": ({"language": "fr"}, {"language": CODES}),
    "data.text.openings.openings": ({"language": "fr"}, {"language": CODES}),
    "data.numbers.number_words.number_words": (
        {"language": "fr", "number": 7}, {"language": CODES, "number": [-1, 100, 1.5, "a", NAN, True, None]},
    ),
    "data.numbers.probing.concept_items": ({}, {"cognates": FLAGS}),
    "data.numbers.probing.number_items": (
        {"numbers": [7]},
        {"numbers": [None, 5, "abc", [], [7, 7], [100], [-1], [1.5], ["a"], [None]],
         "label": ["nothing", None, 5, ""], "seed": [*wrong.NO_WHOLE, None]},
    ),
    "data.semantics.logical_forms.semantic_items": (
        {"n": 2, "seed": 0}, {"n": [*COUNTS, 100_001], "seed": [*wrong.NO_WHOLE, None]},
    ),
    "data.semantics.logical_forms.swapped": ({"item": semantic()}, {"item": NO_LEG}),
    "data.semantics.logical_forms.shuffled": (
        {"item": semantic(), "seed": 0}, {"item": NO_LEG, "seed": [*wrong.NO_WHOLE, None]},
    ),
    "data.semantics.logical_forms.read_cogs": (
        {"source": written("right.tsv", b"Emma slept .\tsleep . agent ( x _ 1 , Emma )\ttrain\n")},
        {"source": [*FILES, noise("cogs.tsv"), empty("empty.tsv"), Of(lambda m: written("two.tsv", b"a\tb\n")),
         spoilt_folder("cogs", {"a.tsv": NOISE})]},
    ),
    "data.semantics.roles.role_items": (
        {"n": 3, "seed": 0},
        {"n": [*COUNTS, 100_000], "seed": [*wrong.NO_WHOLE, None], "names": [5, "ab", [], ["a"], ["a", ""], [5, 6]],
         "determined": FLAGS},
    ),
    "data.code.list_literals.list_literals": ({"root": code_folder()}, {"root": SCRIPTS}),
    "data.code.arguments.split_arguments": ({"text": "a, b)"}, {"text": TEXTS}),
    "data.code.calls.call_arguments": ({"root": code_folder()}, {"root": SCRIPTS}),
    "data.code.calls.range_prompts": ({"root": code_folder()}, {"root": SCRIPTS}),
    "data.code.instructions.instruction_pairs": ({"root": code_folder()}, {"root": SCRIPTS, "comments": FLAGS}),
    "data.code.instructions.read_mbpp": (
        {"source": written("right.jsonl", b'{"text": "Add two.", "code": "a + b"}\n')},
        {"source": [*FILES, noise("mbpp.jsonl"), empty("empty.jsonl"), Of(lambda m: written("list.jsonl", b"[1]\n")),
         Of(lambda m: written("no.jsonl", b"{\n")), spoilt_folder("mbpp", {"a.jsonl": NOISE})]},
    ),
    "data.code.renaming.rename_shared": (
        {"program": "total = 1", "instruction": "Give the total."}, {"program": TEXTS, "instruction": TEXTS},
    ),
    "data.media.items.split_items": (
        {"items": items(8), "seed": 0},
        {"items": NO_ITEMS, "seed": SEEDS, **dict.fromkeys(("concepts", "styles", "repeats"), SHARES),
         "held_styles": [None, 5, "photo", [5], [None], ["photo"]], "held": [None, 5, "a", [5], [None]],
         "families": [5, "abcdefgh", ["a"], [None] * 8], "choosing": SHARES},
    ),
    "data.media.segments.composed_pictures": (
        {"items": items(), "n": 1, "seed": 0},
        {"items": NO_ITEMS, "n": COUNTS, "seed": SEEDS, "layouts": [None, 5, "rows", [], ["nothing"], [5]]},
    ),
    "data.media.segments.squared": (
        {"picture": Image.new("RGB", (4, 2))}, {"picture": [None, 5, "a.png", [1], wrong.pixels()]},
    ),
    "data.media.segments.squared_mask": (
        {"mask": np.ones((2, 4), dtype=bool)}, {"mask": [None, 5, "a", [[True]], np.ones(4), np.ones((2, 2, 2))]},
    ),
    "data.media.colours.colour_pictures": ({"shades": 1}, {"shades": COUNTS, "seed": SEEDS}),
    "data.media.colours.two_colour_pictures": (
        {"colours": ["red", "blue"], "n": 1, "seed": 0},
        {"colours": [None, 5, "red", [], ["red"], ["red", "red"], ["red", "nothing"], [5, 6]], "n": COUNTS,
         "seed": SEEDS},
    ),
    "data.text.corpora.read_texts": (
        {"source": written("texts.jsonl", b'{"text": "red"}\n')},
        {"source": [*FILES, noise("noise.txt"), noise("noise.jsonl"), noise("noise.parquet"), noise("noise.bin"),
         empty("empty.txt"), Of(lambda m: written("no.jsonl", b"{\n")), "no-such/data-set"],
         "limit": wrong.NO_COUNTS, "column": [None, 5, "", "nothing"]},
    ),
    "data.text.corpora.read_sentiments": (
        {"source": written("right.csv", b"text,label,language\nred,positive,en\n")},
        {"source": [*FILES, noise("noise.csv"), noise("noise.tsv"), noise("labelled.jsonl"), empty("empty.csv"),
         Of(lambda m: written("other.csv", b"text,label\nred,positive\n")), "no-such/data-set"],
         "limit": wrong.NO_COUNTS},
    ),
    "data.text.gale_cedict.read_gale": (
        {"folder": gale()},
        {"folder": [*FILES, spoilt_folder("noisy", {"source/a.zho.tsv": NOISE, "translation/a.eng.tsv": b"1\tdog\n"}),
         spoilt_folder("alone", {"source/a.zho.tsv": b"1\ta\n", "translation/b.eng.tsv": b"1\tb\n"})]},
    ),
    "data.text.gale_cedict.read_cedict": (
        {"path": written("right.u8", "狗 狗 [gou3] /dog/\n".encode())},
        {"path": [*FILES, noise("noise.u8"), empty("empty.u8")], "traditional": FLAGS},
    ),
    "data.media.vggsound.read_vggsound": (
        {"folder": clips()},
        {"folder": [*FILES, spoilt_folder("noisy clips", {"vggsound.csv": NOISE}),
         spoilt_folder("no clips", {"vggsound.csv": b"a,3,dog barking\n"})], "split": [5, "", "nothing", ESC]},
    ),
    "data.media.vggsound.label_words": ({"label": "dog"}, {"label": TEXTS}),
    "data.media.waves.read_wave": (
        {"path": sound()}, {"path": [*FILES, noise("noise.wav"), empty("empty.wav")], "to": COUNTS},
    ),
    "data.media.waves.resampled": (
        {"samples": np.zeros(16), "rate": 8000}, {"samples": [None, 5, "a", [1.0]], "rate": COUNTS, "to": COUNTS},
    ),
    **{
        f"data.media.coco.{name}": (
            {"path": coco()},
            {"path": [*FILES, noise("instances_noise.json"), Of(lambda m: written("instances_list.json", b"[]")),
             Of(lambda m: written("instances_none.json", b'{"images": [], "annotations": [], "categories": []}'))]},
        )
        for name in ("read_coco", "coco_segments", "coco_captions")
    },
    "data.media.coco.decoded": (
        {"segmentation": {"counts": [1, 2, 3], "size": [2, 3]}, "height": 2, "width": 3},
        {"segmentation": [None, 5, "a", {}, [5], [[1, 2]], [["a"] * 6], {"counts": [1], "size": [2, 3]},
         {"counts": 5, "size": [2, 3]}, {"counts": "~", "size": [2, 3]}, {"counts": [7, -1], "size": [2, 3]},
         {"counts": ["a"], "size": [2, 3]}, {"counts": [6], "size": 5}],
         "height": COUNTS, "width": COUNTS},
    ),
    "data.media.coco.run_lengths": ({"text": "23X1"}, {"text": [None, 5, [1], "~", b"\xff", "é", "P"]}),
    "evidence.legs.make_leg": (
        {"effect": effect(), "draw": sign_flips(effect()), "wording": samples.leg_text(), "provenance": HERE,
         "seed": 0, "curves": {}},
        {"effect": [*NO_EFFECT, states(1, 24), states(3, 15), wrong.spoilt(NAN, 3, 24)], "draw": NO_DRAW,
         "wording": NO_LEG, "provenance": [5, "a", {}], "seed": SEEDS,
         "curves": [None, 5, "a", [1], {"a": 5}, {1: states(3)}, {"a": states(4)}, {"a": states(3, 3)}],
         "controls": [5, "a", [1], {"a": 5}, {"a": states(3)}, {"a": states(3, 23)}, {"a": states(4, 24)}],
         "placebos": [5, "a", [1], {"a": effect()}, {"a": (states(3, 23), sign_flips(states(3, 23)), 1)},
         {"a": (5, print)}, {"a": (states(2, 24), sign_flips(states(2, 24)))}],
         "labels": [None, 5, "a" * 24, ["a"], [5] * 24], "grid": [None, 5, "abc", [(0, 1.0)], [5, 6, 7],
         [("a", 1.0)] * 3], "groups": NO_GROUPS},
    ),
    "evidence.depth.depth_shares": (
        {"results": [Of(samples.experiment)]}, {"results": [None, 5, "a", [5], [None]], "draws": COUNTS},
    ),
    "evidence.comparison.difference": ({"a": LEG, "b": LEG}, {"a": NO_LEG, "b": NO_LEG, "seed": SEEDS}),
    "evidence.comparison.same_items": ({"a": LEG, "b": LEG}, {"a": NO_LEG, "b": NO_LEG}),
    "evidence.comparison.nearest_entries": ({"ours": 3, "theirs": 6}, {"ours": [*COUNTS, 1], "theirs": [*COUNTS, 1]}),
    "evidence.stats.verdict": (
        {"effect": effect(), "draw": sign_flips(effect()), "seed": 0, "draws": 9},
        {"effect": [*NO_EFFECT, states(1, 24), states(3, 15), wrong.spoilt(NAN, 3, 24), wrong.spoilt(INF, 3, 24)],
         "draw": [*NO_DRAW, lambda items, rng: 5, lambda items, rng: torch.zeros(2)], "seed": SEEDS,
         "draws": [*COUNTS, 1], "baseline": FLAGS, "groups": NO_GROUPS},
    ),
    "evidence.stats.corrected_p": (
        {"mean": states(3), "null": states(9, 3), "row": 1},
        {"mean": [None, "a", [1.0], 5, states(4), states(3, 3)], "null": [None, "a", [[1.0]], states(3), states(9, 4),
         states(1, 3)], "row": [-1, 3, 1.5, "a", None, NAN], "first": [-1, 3, 1.5, "a", None, NAN]},
    ),
    "evidence.stats.bootstrap_mean": (
        {"values": effect(), "seed": 0}, {"values": NO_EFFECT, "seed": SEEDS, "draws": COUNTS, "level": LEVELS},
    ),
    "evidence.stats.grouped_bootstrap_mean": (
        {"values": effect(), "groups": torch.arange(24) % 4, "seed": 0},
        {"values": [*NO_EFFECT, states(3, 23)], "groups": [None, "a", [0] * 24, torch.zeros(5, dtype=torch.long),
         torch.zeros(4, 6, dtype=torch.long)], "seed": SEEDS, "draws": COUNTS, "level": LEVELS},
    ),
    "evidence.stats.paired_contrast": (
        {**scores(), "reference": states(3, 6)},
        {"matrix": [*NO_MATRIX, states(3, 6, 2)], "key": NO_KEYS, "reference": [None, "a", [[1.0]], states(3, 5),
         states(6), states(2, 6)]},
    ),
    **{
        f"evidence.stats.{name}": (scores(), {"matrix": NO_MATRIX, "key": NO_KEYS})
        for name in ("other_keys", "centred_contrast", "centred_keys", "permuted_keys")
    },
    "evidence.stats.sign_flips": ({"effect": effect()}, {"effect": NO_EFFECT[:-1]}),
    "geometry.alignment.mutual_neighbours": (PAIR, {"a": NO_PAIRS, "b": NO_PAIRS, "k": COUNTS}),
    "geometry.alignment.debiased_cka": (PAIR, {"a": NO_PAIRS[:-1], "b": NO_PAIRS[:-1]}),
    "geometry.alignment.neighbours_null": (
        {**PAIR, "seed": 0, "draws": 5}, {"a": NO_PAIRS, "b": NO_PAIRS, "seed": SEEDS, "draws": COUNTS, "k": COUNTS},
    ),
    "geometry.alignment.cka_null": (
        {**PAIR, "seed": 0, "draws": 5}, {"a": NO_PAIRS, "b": NO_PAIRS, "seed": SEEDS, "draws": COUNTS},
    ),
    "lens.trajectories.trajectories": (
        {"states": states(2, 5, 8), "anchors": states(4, 8), "anchor_names": ["a", "b", "c", "d"],
         "labels": list("abcde"), "provenance": HERE},
        {"states": [None, "a", 5, states(5, 8), states(2, 5, 7), states(2, 0, 8)],
         "anchors": [None, "a", 5, states(8), states(4, 7), states(1, 8), wrong.spoilt(NAN, 4, 8)],
         "anchor_names": [None, 5, "a", ["a"], [5] * 4], "labels": [None, 5, "a", ["a"], [5] * 5],
         "provenance": [5, "a", {}]},
    ),
    "report.record.read_report": (
        {"source": Of(report_page)},
        {"source": [*FILES, noise("noise.html"), empty("empty.html")], "results": [5, "a", [5], [None]]},
    ),
    "views.explorer.grids.grid_view": ({"result": Of(samples.cosine)}, {"result": [*NO_LEG, LEG]}),
    "views.stills.figure_still": ({"figure": go.Figure()}, {"figure": NO_LEG}),
    "views.sweep.sweep_figure": (
        {"result": Of(samples.sweep_result)},
        {"result": [*NO_LEG, LEG], "score": ["nothing", "", 5, ["a"]], "choice": [5, "a", {}]},
    ),
    "views.page.page": ({"title": "a", "body": "b"}, {"title": TEXTS, "body": TEXTS, "style": TEXTS}),
    "views.page.write_page": (
        {"document": "a", "path": folder() / "page.html"},
        {"document": [*TEXTS, HALF], "path": wrong.WRONG["new path"]},
    ),
    **wrong_training.ROWS,
}  # fmt: skip

LATER = {
    "base.results.draws": "a decorator, at the import of the user's own module",
    "experiments.registry.run": "`experiments.run` in `wrong_values`",
    "report.report.report": "in `wrong_values`",
    "report.results_page.results_page": "in `wrong_values`",
    "lens.kernel.reduce_logits": "the inner loop of every lens, whose arguments are tried",
    "model.agreement.reference_of": "by `load` and `check`, with the model that they have read",
    "model.agreement.disagreement": "as `reference_of`",
    "model.capture.residual_reads": "by `residual_stream`, whose arguments are tried",
}
"""What has no rows of its own, and who calls it."""


def listed() -> dict[str, Any]:
    """The functions with arguments that the reference lists beside the names of `shl`, without `semhub_lens.`."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in API.glob("*.md"))
    found = {name: function(name) for name in re.findall(r"autofunction:: semhub_lens\.(\w+\.\w+\.[\w.]+)", text)}
    return {name: thing for name, thing in found.items() if arguments_of(thing)}


def function(name: str) -> Any:
    module, _, key = name.rpartition(".")
    return getattr(import_module(f"semhub_lens.{module}"), key)


def made(value: Any, model: Any) -> Any:
    """The value, or its entries, where the model is needed to make them."""
    if isinstance(value, list):
        return [made(one, model) for one in value]
    return value.make(model) if isinstance(value, Of) else value
