"""Right calls of every public function, and wrong values for every kind of argument.

A row is a function, one of its arguments and a wrong value for it; the other arguments are right. `KINDS` says of which
kind an argument is, by its name, or by `function.argument` where it differs.
"""

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import models
import multimodal
import samples
import semhub_lens as shl
from semhub_lens import direction, hooks, metric, spokes, steering_scores
from semhub_lens.base.results import Result
from semhub_lens.base.rng import generator
from semhub_lens.inputs.media import Tile
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.report.report import report
from semhub_lens.report.results_page import results_page

NAN, INF = float("nan"), float("inf")
QUIET = {"progress": False}
TEXT, OTHER = "three plus two", "four plus two"
ESC = "\x1b[2J\x07"
HALF = "red \ud800"
LONG = 100_000


class Of:
    """A value that is made for the model when it is needed."""

    def __init__(self, make):
        self.make = make


def states(*shape, seed=0):
    return torch.randn(shape or (2, 24, 32), generator=generator(seed), dtype=torch.float32)


def spoilt(value, *shape):
    made = states(*shape)
    made[..., 1] = value
    return made


@cache
def lens(model):
    return shl.logit_lens(model, TEXT, top_k=2, progress=False)


def measure(edits):
    return {"a": torch.zeros(2)}


def pixels():
    return np.full((4, 4, 3), 255, dtype=np.uint8)


def prompt(model, text=TEXT, **settings):
    return shl.Prompt.from_text(model, text, **settings)


def ids(*tokens):
    return shl.Prompt.from_ids(list(tokens))


@cache
def many():
    return ids(*[4] * LONG)


@cache
def folder():
    return Path(tempfile.mkdtemp())


def written(name, content):
    path = folder() / name
    path.write_bytes(content)
    return path


def saved_vector(model):
    path = folder() / "vector.safetensors"
    return SteeringVector.make(model, "v", {1: torch.ones(32)}).save(path) if not path.exists() else path


def saved_translators(model):
    path = folder() / "translators.safetensors"
    return samples.translators(model).save(path) if not path.exists() else path


def saved_states(model):
    return shl.residual_stream(model, [TEXT], out=folder() / "states", **QUIET).folder


def saved_report(model):
    page = folder() / "report.html"
    return page if page.exists() else samples.saved_report(model, page)[0]


def host():
    path = folder() / "host"
    if not path.exists():
        models.tiny_llama().save_pretrained(path)
        models.tiny_tokenizer().save_pretrained(path)
    return path


def lexicon():
    return written("lexicon.json", b'{"red": 3}')


def words():
    return shl.SentimentFrame(" is", ("red",), ("blue",))


def shape():
    return spokes.Shape(chunks=1, d_in=4, d_model=32)


def card():
    return spokes.Card("name", "image", "made", "tiny", "0", "0", {})


@cache
def eyes():
    return multimodal.processor("llava")


class Sighted:
    """An encoder of what it is given."""

    modality, name, chunks, d = "image", "made", 1, 4

    def __call__(self, media):
        return torch.stack(list(media))


def encoder():
    return Sighted()


def projector_file():
    path = folder() / "projector.safetensors"
    return path if path.exists() else spokes.save_projector(spokes.Projector(shape()), card(), path)


def concepts(model):
    one, two = (prompt(model, f"{word} plus red", spans={"word": word}) for word in ("two", "five"))
    return {"source_prompts": [one, two], "target_prompts": [two, one], "words": [["two", "five"], ["five", "two"]]}


def two_words(model):
    return metric.logit_difference(model, " two", " five")


def grid(model):
    return {"model": model, "clean": TEXT, "corrupted": OTHER, "metric": two_words(model)}


@cache
def classifier(model):
    return samples.classifier(model)


@cache
def leg(model):
    return samples.leg(model)


def labels():
    return ["a", "b"] * 12


# name -> (function, its right arguments)
GOOD = {
    "Capture": (shl.Capture, lambda m: {"model": m, "layers": [0]}),
    "Column": (shl.Column, lambda m: {"rows": [{"text": TEXT}]}),
    "Controls": (shl.Controls, lambda m: {}),
    "CosineTo": (shl.CosineTo, lambda m: {"model": m, "references": states(4, 2, 32), "names": ["a", "b"]}),
    "LanguageTable": (
        shl.LanguageTable, lambda m: {"languages": ("en",), "weights": torch.ones(69, 1), "source": "made"},
    ),
    "LinearProbe": (shl.LinearProbe, lambda m: {"model": m, "classifier": classifier(m)}),
    "LogitLens": (shl.LogitLens, lambda m: {"model": m}),
    "Media": (shl.Media, lambda m: {"inputs": {"pixel_values": torch.zeros(1, 3, 4, 4)}}),
    "ProbeSetup": (shl.ProbeSetup, lambda m: {}),
    "Prompt": (shl.Prompt, lambda m: {"ids": torch.tensor([1, 4])}),
    "Prompt.from_ids": (shl.Prompt.from_ids, lambda m: {"ids": [1, 4], "spans": {"a": [1]}}),
    "Prompt.from_text": (shl.Prompt.from_text, lambda m: {"model": m, "text": TEXT, "spans": {"a": "plus"}}),
    "Prompt.from_processor": (shl.Prompt.from_processor, None),
    "Prompt.from_chat": (
        shl.Prompt.from_chat,
        lambda m: {
            "model": m, "messages": [{"role": "user", "content": TEXT}], "template": "{{ messages[0].content }}",
        },
    ),
    "Readout": (shl.Readout, lambda m: {"model": m}),
    "SentenceEncoder": (shl.SentenceEncoder, None),
    "SentimentClassifier": (shl.SentimentClassifier, None),
    "SentimentFrame": (shl.SentimentFrame, lambda m: {"frame": " is", "good": ("red",), "bad": ("blue",)}),
    "SteeringVector.make": (
        SteeringVector.make, lambda m: {"model": m, "name": "v", "directions": {1: torch.ones(32)}},
    ),
    "SteeringVector.from_tensor": (
        SteeringVector.from_tensor, lambda m: {"model": m, "source": torch.ones(32), "layer": 1},
    ),
    "SteeringVector.load": (SteeringVector.load, lambda m: {"path": saved_vector(m), "model": m}),
    "TranslatorSetup": (shl.TranslatorSetup, lambda m: {}),
    "Translators.from_tuned_lens": (shl.Translators.from_tuned_lens, None),
    "Translators.load": (shl.Translators.load, lambda m: {"path": saved_translators(m), "model": m}),
    "Translators.packaged": (shl.Translators.packaged, None),
    "adding": (shl.adding, lambda m: {"model": m}),
    "at": (shl.at, lambda m: {"layers": [1], "fn": hooks.add(torch.ones(32))}),
    "attribution_grid": (shl.attribution_grid, grid),
    "calibrate": (
        shl.calibrate,
        lambda m: {
            "model": m, "measure": lambda edits: {"a": torch.ones(2)}, "direction": torch.ones(32), "layer": 1,
            "budget": 0.1,
        },
    ),
    "check": (shl.check, lambda m: {"model": m}),
    "compare": (shl.compare, lambda m: {"a": lens(m), "b": lens(m)}),
    "compare_reports": (shl.compare_reports, lambda m: {"a": saved_report(m), "b": saved_report(m)}),
    "concept_patch": (
        shl.concept_patch, lambda m: {"model": m, **concepts(m), "names": ("x", "y"), "seed": 0, **QUIET},
    ),
    "continuation_perplexity": (
        shl.continuation_perplexity, lambda m: {"model": m, "prompts": [TEXT], "continuations": ["two"], **QUIET},
    ),
    "direct_attribution": (shl.direct_attribution, lambda m: {"model": m, "prompt": TEXT}),
    "direction.mean_difference": (direction.mean_difference, lambda m: {"a": states(2, 32), "b": states(3, 32)}),
    "direction.prompts": (
        direction.prompts, lambda m: {"model": m, "plus": ["two"], "minus": ["five"], "layer": 1},
    ),
    "direction.random_like": (direction.random_like, lambda m: {"direction": torch.ones(32), "seed": 0}),
    "direction.rescaled": (direction.rescaled, lambda m: {"direction": torch.ones(32), "like": torch.ones(32)}),
    "direction.unembedding": (direction.unembedding, lambda m: {"model": m, "plus": " two", "minus": " five"}),
    "direction.words": (direction.words, lambda m: {"model": m, "plus": "two", "minus": "five", "layer": 1}),
    "experiments.run": (shl.experiments.run, None),
    "experiments.unreadable": (
        shl.experiments.unreadable,
        lambda m: {"chosen": list(shl.experiments.EXPERIMENTS.values()), "readers": {}, "missing": {}},
    ),
    "Explorer": (shl.Explorer, lambda m: {"model": m, "widget": SimpleNamespace(observe=lambda *a, **s: 0, asked={})}),
    "explore": (shl.explore, lambda m: {"model": m}),
    "figure": (shl.figure, lambda m: {"result": lens(m)}),
    "generate": (shl.generate, lambda m: {"model": m, "prompts": [TEXT], "max_new_tokens": 1, **QUIET}),
    "hooks.at": (hooks.at, lambda m: {"layers": [1], "fn": hooks.add(torch.ones(32))}),
    "hooks.add": (hooks.add, lambda m: {"direction": torch.ones(32)}),
    "hooks.patch": (hooks.patch, lambda m: {"source": states(2, 32)}),
    "hooks.project_out": (hooks.project_out, lambda m: {"direction": torch.ones(32)}),
    "hooks.replace": (hooks.replace, lambda m: {"state": torch.ones(32)}),
    "hooks.swap": (hooks.swap, lambda m: {"a": torch.ones(32), "b": torch.arange(32.0)}),
    "kl_to_clean": (
        shl.kl_to_clean, lambda m: {"model": m, "prompts": [TEXT], "hooks": shl.at(1, hooks.add(torch.ones(32))),
        **QUIET},
    ),
    "language_mass": (
        shl.language_mass, lambda m: {"model": m, "prompts": [TEXT], "table": shl.script_table(m), **QUIET},
    ),
    "language_of": (shl.language_of, lambda m: {"texts": ["The rain stopped."], "languages": ["en", "es"]}),
    "language_table": (shl.language_table, lambda m: {"model": m, "languages": ["en"], "words": 9, **QUIET}),
    "lexicon_sentiment": (shl.lexicon_sentiment, lambda m: {"texts": ["red"], "lexicon_path": lexicon()}),
    "likelihood_sentiment": (
        shl.likelihood_sentiment, lambda m: {"model": m, "texts": ["dog"], "language": "en", "frame": words(), **QUIET},
    ),
    "linear_probe": (shl.linear_probe, lambda m: {"states": states(), "labels": labels()}),
    "load": (shl.load, None),
    "load_result": (shl.load_result, lambda m: {"path": saved_vector(m)}),
    "logit_lens": (shl.logit_lens, lambda m: {"model": m, "prompt": TEXT, **QUIET}),
    "metric.kl": (metric.kl, lambda m: {"model": m, "prompt": TEXT}),
    "metric.of_logits": (metric.of_logits, lambda m: {"function": lambda logits: logits[0, -1, 5]}),
    "metric.log_prob": (metric.log_prob, lambda m: {"model": m, "word": " two"}),
    "metric.logit_difference": (metric.logit_difference, lambda m: {"model": m, "right": " two", "wrong": " five"}),
    "metric.read_position": (metric.read_position, lambda m: {"prompt": prompt(m), "read": "last"}),
    "open_states": (shl.open_states, lambda m: {"folder": saved_states(m)}),
    "patch_grid": (shl.patch_grid, lambda m: {**grid(m), **QUIET}),
    "patchscope": (
        shl.patchscope,
        lambda m: {"model": m, "source": [TEXT], "words": ["two", "five"], "reading": OTHER, "slot": -1, **QUIET},
    ),
    "picture_map": (
        shl.picture_map, lambda m: {"result": lens(m), "picture": pixels(), "tile": Tile((0, 1, 2, 3), 2, 2)},
    ),
    "printable": (shl.printable, lambda m: {"tokenizer": m.tokenizer, "ids": [1, 4]}),
    "reading_prompt": (shl.reading_prompt, lambda m: {"model": m}),
    "relevance": (shl.relevance, None),
    "report.report": (report, None),
    "report.results_page": (results_page, None),
    "residual_names": (shl.residual_names, lambda m: {"model": m}),
    "residual_stream": (shl.residual_stream, lambda m: {"model": m, "prompts": [TEXT], **QUIET}),
    "script_table": (shl.script_table, lambda m: {"model": m}),
    "sentiment": (shl.sentiment, None),
    "sign_map": (shl.sign_map, lambda m: {"leg": leg(m)}),
    "similarity": (shl.similarity, lambda m: {"a": states(), "b": states(seed=1), "draws": 5}),
    "sound_map": (shl.sound_map, lambda m: {"result": lens(m), "positions": [0, 1], "times": [0.0, 1.0]}),
    "spokes.AudioEncoder": (spokes.AudioEncoder, None),
    "spokes.Card": (spokes.Card, None),
    "spokes.Projector": (spokes.Projector, lambda m: {"shape": shape()}),
    "spokes.Shape": (spokes.Shape, lambda m: {"chunks": 1, "d_in": 4, "d_model": 32}),
    "spokes.Spoke": (spokes.Spoke, None),
    "spokes.VisionEncoder": (spokes.VisionEncoder, None),
    "spokes.available": (spokes.available, lambda m: {}),
    "spokes.fitting": (spokes.fitting, lambda m: {"model": m}),
    "spokes.load": (spokes.load, None),
    "spokes.load_projector": (spokes.load_projector, lambda m: {"path": projector_file()}),
    "spokes.reader_for": (spokes.reader_for, None),
    "spokes.save_projector": (
        spokes.save_projector,
        lambda m: {"projector": spokes.Projector(shape()), "card": card(), "path": folder() / "p.safetensors"},
    ),
    "steering_scores.continuations": (
        steering_scores.continuations, lambda m: {"model": m, "prompts": [TEXT], "score": measure, **QUIET},
    ),
    "steering_scores.damage": (
        steering_scores.damage, lambda m: {"model": m, "texts": [TEXT], "items": 2, **QUIET},
    ),
    "steering_scores.next_token": (
        steering_scores.next_token, lambda m: {"model": m, "prompts": [TEXT], "targets": {"2": "two"}, **QUIET},
    ),
    "steering_scores.together": (steering_scores.together, lambda m: {}),
    "sweep": (
        shl.sweep,
        lambda m: {
            "model": m, "measure": measure, "direction": lambda layer: torch.ones(32), "layers": [1],
            "strengths": [1.0], **QUIET,
        },
    ),
    "target_lens": (shl.target_lens, lambda m: {"model": m, "prompts": [TEXT], "targets": ["two"], **QUIET}),
    "token_strip": (shl.token_strip, lambda m: {"result": lens(m), "layer": 1}),
    "train_probe": (shl.train_probe, lambda m: {"states": states(), "labels": labels()}),
    "train_translators": (
        shl.train_translators,
        lambda m: {"model": m, "texts": [TEXT] * 8, "setup": shl.TranslatorSetup(steps=1), **QUIET},
    ),
    "transfer_matrix": (
        shl.transfer_matrix,
        lambda m: {
            "stacks": {"x": states(), "y": states(seed=1)}, "labels": {"x": labels(), "y": labels()}, "groups": "rows",
        },
    ),
    "translation_items": (shl.translation_items, None),
    "translation_prompt": (
        shl.translation_prompt,
        lambda m: {"model": m, "word": "two", "pair": ("en", "fr"), "examples": [("one", "un")]},
    ),
    "untrained": (shl.untrained, lambda m: {"model": m, "seed": 0}),
    "word_tokens": (shl.word_tokens, lambda m: {"tokenizer": m.tokenizer, "word": "two"}),
    "write_html": (shl.write_html, lambda m: {"result": lens(m), "path": folder() / "lens.html"}),
}  # fmt: skip
"""None in place of the arguments: what needs a package, a corpus or a network; only its own rows are tried."""

# what stands in for them where a row needs only the argument that is wrong
STUBS = {
    "experiments.run": lambda m: {"experiment": "arithmetic.logit_lens", "model": m, "n": 16, **QUIET},
    "Prompt.from_processor": lambda m: {"processor": eyes(), "text": "<image> What ?", "images": pixels()},
    "SentimentClassifier": lambda m: {},
    "load": lambda m: {"name": host()},
    "relevance": lambda m: {"prompts": ["a"], "continuations": ["b"]},
    "report.report": lambda m: {"model": m, "path": folder() / "page.html", "only": ["probing"], **QUIET},
    "report.results_page": lambda m: {
        "models": [str(host())], "path": folder() / "page.md", "runs": folder(), "only": ["probing"], **QUIET,
    },
    "sentiment": lambda m: {"texts": ["a"], "language": "en"},
    "spokes.AudioEncoder": lambda m: {},
    "spokes.Card": lambda m: dict(zip(("name", "modality", "encoder", "model", "weights", "vocabulary"), "abcdef",
    strict=True)) | {"settings": {}},
    "spokes.Spoke": lambda m: {"model": m, "encoder": encoder(), "projector": spokes.Projector(shape())},
    "spokes.VisionEncoder": lambda m: {},
    "spokes.load": lambda m: {"name": "image"},
    "spokes.reader_for": lambda m: {"model": m, "modality": "image"},
    "Translators.from_tuned_lens": lambda m: {"model": m, "source": folder()},
    "translation_items": lambda m: {"model": m, "sources": [("en", "fr")], "target": ("de", "es"), "n": 4, "seed": 0},
}  # fmt: skip

EMPTY_TEXTS = ["", " \n"]
NO_TEXTS = [None, 5, b"red"]
NO_NUMBERS = ["a", None, NAN, INF, -INF, [1.0]]
NO_COUNTS = [0, -1, 1.5, "a", NAN, True]
NO_WHOLE = [1.5, "a", NAN, True]
LAYERS = ["a", 1.5, -1, 99, NAN]
PATHS = [None, 5, b"a", "", " ", Of(lambda m: folder() / "nothing" / "here.safetensors"), Of(lambda m: folder())]

NO_IDS = [[69], [-1], [1.5], [True], torch.tensor([69]), torch.tensor([1.5]), torch.tensor(5), torch.ones(3).bool(),
    torch.zeros(1, 1, 2, dtype=torch.long), {"input_ids": [1, 4], "attention_mask": [1]}, {"input_ids": [[1.5]]},
    {"input_ids": [1], "pixel_values": [2]}]  # fmt: skip
NO_CHAT = [[{"role": "user"}], [{"role": 5, "content": "red"}], [{}]]

WRONG = {
    "model": [None, "gemma-3-270m", 5, Of(lambda m: models.tiny_llama()), Of(lambda m: torch.nn.Linear(2, 2))],
    "tokenized": [Of(lambda m: SimpleNamespace(tokenizer=None, cfg=m.cfg, run_with_hooks=print))],
    "prompts": [
        None, 5, b"red", [], *EMPTY_TEXTS, ["red", ""], [None], {"a": "red"}, HALF, ["red", HALF], *NO_IDS, *NO_CHAT,
        ["red", 5], [[1, 4], [1, 69]], torch.tensor([[1, 4], [1, 69]]), torch.zeros(0, 2, dtype=torch.long),
        Of(lambda m: ids(1, 69)), Of(lambda m: ids(1, -1)), Of(lambda m: many())
    ],
    "prompt": [
        None, 5, b"red", ["red", "dog"], *EMPTY_TEXTS, HALF, *NO_IDS, *NO_CHAT, torch.tensor([[1, 4], [1, 5]]),
        [[1, 4], [1, 5]], Of(lambda m: ids(1, 69)), Of(lambda m: many()),
    ],
    "text": [*NO_TEXTS, *EMPTY_TEXTS, HALF],
    "texts": [None, 5, b"red", [], [5], ["red", None], HALF], "long text": [None, 5, "", Of(lambda m: "two " * LONG)],
    "name": [None, 5, b"a"],
    "word": [*NO_TEXTS, "", "\ud800", "red house", ESC],
    "target": [None, 1.5, "", [], "\ud800", "red house", 69, -1, ESC, [["two"]][0] + [None], {"two": 1}],
    "read": [None, 1.5, True, 99, -99, "nothing", ESC, "\ud800", b"last", NAN],
    "one read": [None, 1.5, True, 99, -99, "nothing", ESC, "\ud800", "mean", NAN],
    "read_at": [None, 1.5, 99, -99, "nothing", ESC, [[99]], [[0], [0]], [["a"]], [[]], [0.5]],
    "hooks": [
        None, 5, "blocks.0.hook_resid_pre", [5], [("blocks.0.hook_resid_pre", 3)], [(1, print)], [("nothing", print)],
        [("blocks.99.hook_resid_pre", print)], [(ESC, print)],
    ],
    "positions": [1.5, True, [0.5], ["a"], {"a": 1}, [[[0]]], slice(0.5), NAN, b"a"],
    "pairs": [5, "ab", [], [0], [(0,)], [(0, 99)], [("a", 0)], [(0.5, 0)], [(0, 1, 2)]],
    "layer": LAYERS, "optional layer": LAYERS,
    "blocks": ["a", [99], [-1], ["a"], [1.5], [None], 1.5, NAN],
    "layers": ["a", [], [99], [-1], ["a"], [1.5], [None], 1.5, NAN],
    "any layers": ["a", [], [-1], ["a"], [1.5], [None], 1.5, None],
    "count": [*NO_COUNTS, None], "optional count": NO_COUNTS, "fold": [1, *NO_COUNTS],
    "seed": [*NO_WHOLE, None, 1 << 70], "natural": [-1, *NO_WHOLE, None],
    "budget": [0, -1, *NO_NUMBERS], "strength": NO_NUMBERS, "temperature": [-1, *NO_NUMBERS],
    "flag": ["yes", 1.5, None, []], "optional flag": ["yes", 1.5, []],
    "choice": ["nothing", 5, "", ESC, None, ["a"]], "optional choice": ["nothing", 5, "", ESC, ["a"]],
    "vector": [None, "a", [1.0] * 32, 5, states(0), spoilt(NAN, 32), spoilt(INF, 32), states(2, 2, 2)],
    "plain vector": [None, "a", [1.0] * 32, 5, states(0), spoilt(NAN, 32), torch.zeros(32)],
    "rows": [None, "a", [[1.0]], states(0, 32), spoilt(NAN, 2, 32), states(32), states(2, 7)],
    "states": [None, "a", [[[1.0]]], 5, states(2, 0, 32), spoilt(NAN), spoilt(INF), states(24, 32)],
    "pair of states": [states(2, 23, 32), states(2, 24, 31)],
    "labels": [None, 5, "ab" * 12, [], ["a"] * 24, ["a", "b"], [1.5] * 24, ["a", 1] * 12, [["a"]] * 24],
    "groups": [5, [], ["a"], [1.5] * 24, ["a"] * 24],
    "metric": [None, 5, "kl", [print]], "function": [None, 5, "a"], "optional function": [5, "a"],
    "measure": [None, 5, "a"], "result": [None, 5, "a", {"a": 1}],
    "optional part": [5, "a", []], "part": [None, 5, "a", []],
    "path": PATHS, "new path": [None, 5, b"a", "", Of(lambda m: folder()), Of(lambda m: lexicon() / "inside.html")],
    "ids": [None, 5, "abc", [], [1.5], ["a"], [[1, 4]], [None], torch.tensor([[1, 4], [1, 5]]), torch.tensor([NAN])],
    "tokens": [None, 5, "abc", [1.5], ["a"], [None]],
    "tensor of ids": [None, 5, "abc", [1], torch.tensor([], dtype=torch.long), torch.tensor([[1, 4]])],
    "names": [5, [5], ["a"], ["a", "b", "c"]], "tokenizer": [5, "gemma"],
    "languages": [None, 5, [], ["xx"], ["en", "en"], [5], [ESC], "en"],
    "language": [None, 5, "xx", "", ESC], "mapping": [5, "a", [1], {1: 2}],
    "spans": [5, "a", {"a": 3}, {1: "red"}, {"a": "absent"}, {"a": ""}, {"a": (0, 99)}, {"last": "plus"}, {"a": (2,
    1)}],
    "span positions": [5, "a", {"a": 3}, {"a": ["x"]}, {"a": [2]}, {"a": []}, {"a": [-1]}, {"last": [1]}, {"a": [0.5]}],
    "embeddings": [5, "a", {"a": 3}, {"a": states(3, 32)}, {"b": states(1, 32)}, {"a": spoilt(NAN, 1, 32)}],
    "mask": [5, "ab", [1], [1, 1, 1], [0, 0], [2, 3], [[1, 1], [1, 1]]],
    "anything": [],
}  # fmt: skip

KINDS = {
    "all_positions": "flag", "baseline": "anything", "batch": "count", "bos": "optional flag", "budget": "budget",
    "by_head": "blocks",
    "centre": "choice", "common": "targets", "convention": "choice", "d_in": "count", "d_model": "count",
    "data": "anything", "direction": "vector", "draws": "count", "first_token": "flag", "fn": "function",
    "hooks": "hooks",
    "hidden": "count", "joint": "flag", "labels": "labels", "language": "language", "languages": "languages",
    "layer": "layer", "layers": "layers", "leg": "result", "lexicon_path": "path", "max_new_tokens": "count",
    "max_tokens": "count", "measure": "measure", "metric": "metric", "model": "model", "n": "count", "name": "name",
    "norm": "choice", "out": "anything", "path": "path", "plain": "flag", "positions": "positions", "progress": "flag",
    "prompt": "prompt", "prompts": "prompts", "provenance": "optional part", "read": "one read", "read_at": "read_at",
    "readout": "optional part", "recipe": "optional function", "reader": "anything", "reference": "anything",
    "result": "result", "score": "function", "seed": "seed", "setup": "optional part", "shape": "part",
    "site": "choice", "standardised": "flag", "start": "budget", "strength": "strength", "table": "part",
    "temperature": "temperature", "text": "text", "texts": "texts", "tokenizer": "tokenizer", "tolerance": "budget",
    "variants": "choice", "word": "word", "words": "count", "plus": "word", "minus": "word", "clean": "prompt",
    "corrupted": "prompt", "states": "states", "groups": "groups", "each": "choice", "top_k": "optional count",
    "quantities": "choices", "targets": "targets", "media": "optional part", "embeddings": "embeddings",
    "spans": "spans", "span": "choice", "source_span": "optional choice", "whole": "flag", "names": "names",
    "test": "test", "a": "vector", "b": "vector", "ids": "ids", "mask": "mask", "right": "target", "wrong": "target",
    "show_special": "flag", "use_cache": "optional flag", "prepend_bos": "optional flag", "backend": "choice",
    "quantity": "choice", "unknown": "choice", "among": "choice", "source": "anything", "frame": "anything",
    "any_model": "flag", "unrelated": "optional function", "flipped": "flag", "last_layer": "flag", "random": "natural",
    "damage": "choices", "store": "optional part", "strengths": "strengths", "experiment": "choice", "check": "flag",
    "verify": "flag",
    "device_map": "device map",
    "device": "device", "dtype": "choice", "continuations": "continuations", "classifier": "optional part",
    "encoder": "optional part", "sampling_rate": "optional count", "images": "anything", "audio": "anything",
    "processor": "anything", "missing": "mapping", "readers": "mapping", "chosen": "chosen", "card": "part",
    "projector": "part", "chunks": "count", "grid": "count", "codes": "natural", "rank": "natural", "modality": "name",
    "vocabulary": "name", "weights": "name", "settings": "mapping", "scale": "anything", "spoke": "anything",
    "template": "anything", "translator": "optional function", "folds": "fold", "c": "budget", "tol": "budget",
    "control_draws": "natural",
    "shots": "natural", "inputs": "inputs", "tiles": "mapping", "times": "mapping", "controls": "optional part",
    "grids": "mapping", "good": "words", "bad": "words", "directions": "directions", "references": "references",
    "items": "count", "margins": "margins", "measures": "measures", "layer_of_result": "layer", "picture": "picture",
    "tile": "part", "like": "vector", "pair": "languages of a pair", "examples": "examples",
    "sources": "pairs of languages",
    "target": "languages of a pair", "state": "vector", "source_positions": "source positions", "stacks": "stacks",
    "source_prompts": "sources of concepts", "target_prompts": "prompts", "sentences": "anything",
    "trained_on": "language",
    "parts": "measure", "widget": "part", "align": "align", "position": "position", "contrast": "flag",
    "sound": "sound", "token": "asked tokens", "messages": "messages", "ending": "optional choice",
    "thinking": "choice", "function": "function",
    "steps": "count", "learning_rate": "budget", "weight_decay": "temperature", "candidates": "fold",
    "held_states": "count", "every": "count", "patience": "count", "half": "flag", "folder": "folder",
    "rows": "data set", "limit": "optional count",
    "reading": "optional prompt", "slot": "one read", "source_entries": "entries", "target_entries": "entries",
    "new_tokens": "natural", "kind": "choice", "full": "flag", "steering": "flag", "only": "ids of experiments",
    "runs": "runs", "jobs": "count", "models": "model names",
    # where one name means different things
    "patchscope.source": "prompts or states", "patchscope.words": "candidates",
    "reading_prompt.words": "words to repeat",
    "open_states.folder": "path",
    "TranslatorSetup.rank": "optional count", "TranslatorSetup.states": "count",
    "Translators.load.model": "optional model",
    "Translators.from_tuned_lens.source": "path", "train_translators.texts": "prompts",
    "compare.a": "result", "compare.b": "result", "compare.names": "two names",
    "compare_reports.a": "report", "compare_reports.b": "report", "compare_reports.path": "optional new path",
    "explore.prompt": "name",
    "Explorer.table": "optional part", "explore.table": "optional part", "picture_map.tile": "tiles of a picture",
    "LanguageTable.languages": "names", "LanguageTable.weights": "table", "LanguageTable.source": "name",
    "LanguageTable.names": "names", "Controls.seed": "seed", "Capture.site": "choice", "LinearProbe.classifier": "part",
    "Prompt.from_chat.settings": "names of a template", "Prompt.from_chat.template": "template",
    "metric.of_logits.name": "optional name",
    "Prompt.ids": "tensor of ids", "Prompt.spans": "span positions", "Prompt.text": "optional text",
    "Prompt.controls": "places", "Prompt.embeddings": "embeddings", "Prompt.from_ids.spans": "span positions",
    "Readout.dtype": "choice", "SentimentFrame.frame": "name", "SteeringVector.from_tensor.source": "source",
    "SteeringVector.from_tensor.layer": "layers", "SteeringVector.load.model": "optional model",
    "at.layers": "any layers",
    "hooks.at.layers": "any layers",
    "attribution_grid.positions": "pairs", "patch_grid.positions": "pairs", "concept_patch.words": "rows of targets",
    "direction.prompts.plus": "prompts", "direction.prompts.minus": "prompts", "direction.mean_difference.a": "rows",
    "direction.mean_difference.b": "rows", "direction.unembedding.minus": "optional word",
    "direction.rescaled.direction": "plain vector", "direction.words.plus": "text", "direction.words.minus": "text",
    "direction.random_like.direction": "any vector", "direction.rescaled.like": "any vector",
    "experiments.run.norm": "optional choice",
    "hooks.patch.source": "source states", "hooks.swap.a": "plain vector",
    "hooks.swap.b": "plain vector", "hooks.project_out.direction": "plain vector",
    "likelihood_sentiment.frame": "optional part", "likelihood_sentiment.language": "name",
    "linear_probe.seed": "seed", "load.name": "model name", "load.dtype": "choice", "logit_lens.table": "optional part",
    "metric.log_prob.word": "target", "metric.kl.prompt": "prompt", "metric.read_position.prompt": "part",
    "report.report.path": "new page", "report.report.n": "optional sample", "report.report.runs": "runs",
    "report.results_page.path": "new path", "report.results_page.n": "optional sample",
    "report.results_page.runs": "runs", "report.report.readers": "readers", "experiments.run.n": "optional sample",
    "experiments.run.data": "corpus", "experiments.run.baseline": "baseline", "experiments.run.out": "runs",
    "experiments.run.reader": "reader", "residual_stream.out": "runs", "check.reference": "reference model",
    "Prompt.from_processor.processor": "part", "Prompt.from_processor.images": "pictures",
    "Prompt.from_processor.audio": "sounds", "SentimentClassifier.sentences": "labelled sentences",
    "spokes.Projector.scale": "budget", "spokes.reader_for.spoke": "spoke of a model",
    "spokes.reader_for.template": "format",
    "residual_stream.read": "read", "logit_lens.prompt": "long text",
    "direction.prompts.read": "read", "picture_map.layer": "optional layer",
    "printable.ids": "tokens", "printable.tokenizer": "tokenizer", "relevance.prompts": "texts",
    "relevance.continuations": "texts", "sign_map.leg": "result", "similarity.a": "states", "similarity.b": "states",
    "sound_map.positions": "sound positions", "sound_map.times": "sound times", "spokes.Projector.seed": "seed",
    "spokes.Card.name": "name", "spokes.Card.encoder": "name", "spokes.Card.model": "name",
    "spokes.Shape.embeddings": "count", "spokes.Spoke.encoder": "part", "spokes.Spoke.card": "optional part",
    "spokes.load.model": "optional model", "spokes.load.name": "spoke name", "spokes.save_projector.path": "new path",
    "spokes.reader_for.modality": "choice", "spokes.reader_for.processor": "optional text",
    "steering_scores.damage.read_at": "one place", "steering_scores.next_token.targets": "score targets",
    "steering_scores.next_token.prompts": "several prompts", "steering_scores.continuations.prompts": "several prompts",
    "steering_scores.damage.texts": "several prompts", "sweep.direction": "measure", "sweep.name": "name",
    "sweep.damage": "choices", "token_strip.layer": "layer", "transfer_matrix.labels": "mapped labels",
    "transfer_matrix.groups": "choice", "translation_prompt.word": "text", "word_tokens.tokenizer": "tokenizer",
    "write_html.path": "new path", "write_html.view": "view", "calibrate.direction": "vector",
    "direction.unembedding.model": "tokenized",
}  # fmt: skip

WRONG |= {
    "optional sample": [*NO_COUNTS, 15], "new page": [*WRONG["new path"], Of(lambda m: folder() / "page.json")],
    "runs": [5, b"a", "", Of(lambda m: lexicon()), Of(lambda m: lexicon() / "inside")],
    "ids of experiments": [5, "probing", [], ["nothing"], [5], [None], [ESC]],
    "model names": [None, 5, "gemma-3-270m", [], [5], ["nothing"], ["no-such.gguf"], [ESC]],
    "readers": [5, "a", ["a"], [None]], "reader": ["a", 5, Of(lambda m: m)],
    "corpus": [5, b"a", "", "no-such-folder/x"], "baseline": ["yes", 1.5, None, Of(lambda m: models.tiny_llama())],
    "reference model": ["a", 5, Of(lambda m: torch.nn.Linear(2, 2)), Of(lambda m: m)],
    "pictures": [5, "a.png", "http://x.invalid/a.png", [], [5], [None]],
    "sounds": [Of(lambda m: 5), Of(lambda m: "a.wav"), Of(lambda m: [None])],
    "labelled sentences": [5, "a", [], ["a"]], "optional model": ["gemma-3-270m", 5, Of(lambda m: models.tiny_llama())],
    "spoke of a model": [5, "", "nothing", Of(lambda m: lexicon())],
    "optional text": [5, b"a"], "places": [5, "ab", ["a"], [1.5], [None]],
    "optional prompt": [5, b"red", ["red", "dog"], "", HALF, [69], Of(lambda m: many())],
    "prompts or states": [
        None, 5, b"red", [], *EMPTY_TEXTS, [None], HALF, [69], states(4, 0, 32), states(3, 2, 32), states(4, 2, 31),
        states(4, 32), spoilt(NAN, 4, 2, 32),
    ],
    "view": [None, 5, b"c=entropy", "nothing", "#c=entropy", "z=1"],
    "candidates": [None, 5, "two", [], ["banana"], ["red house"], [None], [69], [-1], [1.5]],
    "entries": ["a", [], [99], [-1], ["a"], [1.5], [None], 1.5],
    "words to repeat": [5, "red", [], [""], [5], [HALF]],
    "sources of concepts": [None, 5, b"red", [], *EMPTY_TEXTS, ["red", ""], [5], [None], {"a": "red"}, HALF],
    "messages": [None, 5, "red", [], ["red"], [{"role": "user"}], [{"content": "red"}], [{"role": 5, "content": "red"}],
        [{"role": "user", "content": 5}], [{"role": "user", "content": [{"type": "image"}]}], [{"role": "a:b",
        "content": "red"}], [{"role": "user", "content": ""}], [{"role": "user", "content": HALF}]],
    "names of a template": [5, "a", [1], {1: 2}, {"nothing": 2}, {"tokenize": True}],
    "template": [5, ["a"]], "optional name": [5, b"a"], "format": [None, 5, b"a", "", "nothing", "{} {}", "{0}"],
    "data set": [None, 5, "a", {"a": 1}], "folder": [5, b"a", "", Of(lambda m: lexicon())],
    "any vector": [None, "a", [1.0] * 32, 5, states(0), spoilt(NAN, 32), spoilt(INF, 32)],
    "targets": ["two", 5, ["banana"], [["red house"]], [1.5], [[None]], [69], [-1], [[[]]], [None], ["\ud800"]],
    "rows of targets": [None, 5, "ab", [], [["two"]], [["two", "five"]], [["two", "five"], ["five", "banana"]]],
    "score targets": [None, {}, 5, "two", {"a": None}, {"a": ["two", "two"]}, {"a": "banana"}, {1: "two"}, {"a": 69}],
    "choices": ["nothing", ["nothing"], [5], 5, None, [ESC]], "measures": ["effect", ["nothing"], [], 5, None, [5]],
    "strengths": [None, 5, "a", [], ["a"], [NAN], [INF], [0.0], [-1.0], [1.0, 1.0]],
    "device": [5, "banana", ["cpu"]],
    "device map": [5, [], {}, "banana", {1: "cpu"}, {"": None}, {"": "banana"}, {"": "meta"}],
    "model name": [None, 5, "", [], "gemma-3-270", "no-such.gguf", ESC, "\ud800"],
    "spoke name": [None, 5, "", "nothing", ESC, Of(lambda m: folder() / "none.safetensors")],
    "continuations": [None, 5, "two", [], ["two", "two"], [5], [None], [["a"]], [[69]], [HALF]],
    "chosen": [None, 5, ["a"]], "inputs": [None, 5, {}, {"a": 1}, {"a": spoilt(NAN, 1, 2)}, {"a": torch.tensor(1.0)}],
    "words": [None, 5, "red", [5]], "directions": [None, 5, {}, {"a": torch.ones(32)}, {99: torch.ones(32)},
        {1: torch.ones(5)}, {1: spoilt(NAN, 32)}, {1: None}, {1.5: torch.ones(32)}],
    "references": [None, "a", [[[1.0]]], states(3, 2, 32), states(4, 2, 5), spoilt(NAN, 4, 2, 32), states(4, 0, 32)],
    "margins": [5, "ab", [("2", "nothing")], [("2",)], [5]],
    "picture": [None, "a.png", np.zeros((4, 4)), np.zeros((0, 4, 3)), np.full((4, 4, 3), NAN)],
    "languages of a pair": [None, 5, "en", ("en",), ("en", "xx"), (1, 2)],
    "pairs of languages": [None, 5, [], "en", [("en",)], [("en", "xx")], [5]],
    "examples": [None, 5, "ab", [("one",)], [5], [(1, 2)]],
    "source positions": [1.5, "a", [0.5], [99], ["a"], 5], "source states": [None, "a", [1.0], states(32), spoilt(NAN,
    2, 32)],
    "stacks": [None, 5, {}, {"x": states()}, {"x": states(), "y": states(2, 24, 31)}, {"x": states(), "z": states()},
        {"x": states(), "y": spoilt(NAN)}, {"x": None, "y": None}],
    "mapped labels": [None, 5, {}, {"x": labels()}, {"x": labels(), "y": ["a"]}, {"x": labels(), "y": ["c", "b"] * 12}],
    "test": [5, "a", states(), (states(),), (states(2, 24, 31), labels()), (states(), ["a"]), (spoilt(NAN), labels())],
    "table": [None, "a", [[1.0]], torch.ones(69), torch.ones(69, 2)],
    "optional word": [5, b"red", "", "\ud800", "red house"],
    "source": [None, 5, [1.0], torch.ones(5), torch.ones(2, 32), spoilt(NAN, 32), "", "nothing.safetensors",
        Of(lambda m: lexicon())],
    "one place": [None, 1.5, 99, "nothing", ESC], "sound positions": [None, 5, "a", [], [99], [0], ["a", "b"], [0,
    1.5]],
    "sound times": [None, 5, "a", [], [0.0], ["a", "b"], [NAN, 1.0], [1.0, 0.0]],
    "report": [None, 5, b"a", "", (5, []), Of(lambda m: folder() / "nothing.html"), Of(lambda m: lexicon())],
    "optional new path": [5, b"a", "", Of(lambda m: folder()), Of(lambda m: lexicon() / "inside.html"),
        Of(lambda m: saved_report(m))],
    "two names": [None, 5, "ab", ["a"], ["a", "b", "c"], [5, 6]],
    "align": [None, 5, "middle", "", [5], ["ab"], [([0],)], [([], [0])], [(["a"], [0])], [([0.5], [0])], [([-1], [0])],
        [([0], [99])], [([1], [1]), ([0], [0])]],
    "position": [1.5, "a", True, NAN, None, 99, -99, [0]],
    "asked tokens": [1.5, True, "", [], "\ud800", "red house", 69, -1, ESC, [None], [69], ["red house"], {"two": 1}],
    "sound": [5, "a", (), (np.zeros(4),), (None, 5), ("a", 5), (np.zeros(4), 0), (np.zeros(4), -1), (np.zeros(0), 5),
        (np.zeros(4), 1.5), (np.full(4, NAN), 5), (np.zeros((2, 2, 2)), 5), (np.full(4, 1e6), 5)],
    "tiles of a picture": [None, 5, "a", [], [5], Of(lambda m: Tile((99,), 1, 1)),
        Of(lambda m: [Tile((0,), 1, 1)] * 2)],
    "several prompts": [None, 5, [], ["red", ""], [69], [HALF], *NO_IDS, *NO_CHAT,
        Of(lambda m: [ids(1, 69)]), Of(lambda m: [many()])],
}  # fmt: skip
"""By kind; a value that is right for some function of the kind has a line in `RIGHT`."""

RIGHT = {
    "LanguageTable.languages": [["a"]],
    "logit_lens.layers": [[-1]],
    "target_lens.quantities": [None],
}


def kind_of(name, argument):
    """The kind of a function's argument."""
    return KINDS.get(f"{name}.{argument}") or KINDS.get(argument)


def public():
    """Every public function, and every class that a user makes something from, by its name."""
    found = {}
    for module, where in ((shl, ""), *((getattr(shl, name), f"{name}.") for name in shl.__all__)):
        if where and not isinstance(module, type(shl)):
            continue
        names = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__ and callable(value)
        ]  # fmt: skip
        for name in names:
            thing = getattr(module, name)
            if callable(thing) and not (isinstance(thing, type) and (issubclass(thing, Result | Exception))):
                found[where + name] = thing
            if isinstance(thing, type):
                makers = [
                    key
                    for key, value in vars(thing).items()
                    if isinstance(value, classmethod) and key[0] != "_" and thing is not Result
                ]
                found |= {f"{name}.{key}": getattr(thing, key) for key in makers if key != "from_fields"}
    return found | {"report.report": report, "report.results_page": results_page}


RECORDS = {"Calibration", "Choice", "Peak", "Predictions", "Provenance", "StateStack", "TranslationItems",
    "hooks.PositionedHook",
    "metric.Metric", "metric.LogitsMetric", "experiments.Experiment", "spokes.Encoder"}  # fmt: skip
"""What functions return, and types: nobody calls these to get something."""

PACKAGED_MODELS = ["nothing", " ", "no-such.gguf", ESC, Of(lambda m: folder()), Of(lambda m: lexicon())]
FREE = []
"""A flag, which has no value."""
SHARED = {
    "model": PACKAGED_MODELS, "backend": ["jax"], "device": ["banana", " "], "dtype": ["float8"],
    "n": ["a", "1.5", "0", "-1", "15", "nan"], "seed": ["a", "1.5", "nan", str(1 << 70)], "quiet": FREE,
    "as_json": FREE,
}  # fmt: skip
COMMANDS = {
    "lens": {
        "text": ["  ", "red \ud800", "two " * LONG], "html": [Of(lambda m: folder()), Of(lambda m: lexicon() / "in")],
        "top_k": ["a", "1.5", "0", "-1", "70", "nan"], "norm": ["layer", "Final"], "languages": FREE, "as_json": FREE,
    },
    "new": {
        "path": ["start.txt", ESC, Of(lambda m: folder()), Of(lambda m: lexicon() / "start.py")],
        "data": ["no-such-file", Of(lambda m: folder()), Of(lambda m: lexicon())],
    },
    "check": {"reference": FREE},
    "run": {
        "experiment": ["nothing", ESC], "out": [Of(lambda m: lexicon())], "norm": ["layer"], "convention": ["wrong"],
        "data": ["no-such-folder/x", "en=no-such-folder/x"], "baseline": FREE,
        "spoke": ["nothing", ESC, "none.safetensors", "audio-gemma-3-270m", Of(lambda m: lexicon()),
            Of(lambda m: saved_vector(m))],
        "template": ["nothing", "{} {}", "{0}", ESC],
    },
    "report": {
        "out": [Of(lambda m: folder())], "runs": [Of(lambda m: lexicon())],
        "steering": FREE, "full": FREE,
        "compare": ["a.html", ("a.html", "b.html"), Of(lambda m: (lexicon(), lexicon())), Of(lambda m: (folder(),) * 2),
            Of(lambda m: (saved_vector(m), saved_vector(m)))],
    },
    "results": {
        "out": [Of(lambda m: folder())], "runs": [Of(lambda m: lexicon())], "only": ["nothing", ESC],
        "jobs": ["a", "0", "-1", "1.5", "nan"],
    },
    "experiments": {}, "info": {}, "models": {}, "train-spoke": {},
}  # fmt: skip
"""By command and option, wrong values besides an empty one; `SHARED` has those of options of several commands."""
NEEDED = {
    "lens": ["red"], "new": ["start.py"], "run": ["arithmetic.logit_lens"], "run --spoke": ["vision.similarity"],
    "run --template": ["vision.similarity"], "run --data": ["multilingual.similarity"],
}  # fmt: skip
"""What a command, or one of its options, does not run without."""
