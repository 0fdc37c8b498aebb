"""Right calls of the public methods of what users hold, and wrong values of their arguments.

As `wrong_values`, but the values stand with their argument: hardly two methods take the same.
"""

import inspect
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch

import models
import samples
import semhub_lens as shl
import wrong_values as wrong
from semhub_lens import spokes
from semhub_lens.base.results import Result
from semhub_lens.scores.damage import CleanRun
from semhub_lens.spokes import encoders
from wrong_values import ESC, INF, NAN, QUIET, Of, spoilt, states

ROWS = ["a", 1.5, True, 99, -1, NAN]
CHOICES = ["nothing", 5, "", ESC, None, ["a"]]
SEEDS = wrong.WRONG["seed"]
TEXTS = [None, 5, [], [5], "red \ud800"]
MEDIA = [None, 5, "a.png", [], ["a.png"], [5]]
ENTRIES = ["a", None, [1.0], states(4, 2, 5), states(3, 2, 32)]
"""States of another width, or of another number of layers."""
NO_FEATURES = [None, 5, "a", [1.0], states(2, 4), states(2, 2, 4), states(2, 1, 5)]


def seen(model: Any, probe: Any) -> Any:
    """The probe after a run of one row."""
    model.run_with_hooks(torch.tensor([[1, 4, 5]]), fwd_hooks=probe.hooks)
    return probe


def sample(name: str) -> Any:
    return lambda model: samples.SAMPLES[name](model)


def stack(model: Any) -> Any:
    return shl.open_states(wrong.saved_states(model))


def bare(kind: type) -> Any:
    """An object that has not read its weights: what it takes is looked at before them."""
    return lambda model: object.__new__(kind)


def translators(model: Any) -> Any:
    return shl.Translators.load(wrong.saved_translators(model))


@cache
def attribution(model: Any) -> Any:
    return samples.SAMPLES["AttributionResult"](model)


def explorer(model: Any) -> Any:
    return shl.Explorer(model, SimpleNamespace(observe=lambda *given, **settings: 0, asked={}))


class Looking(wrong.Sighted):
    """Looks at pictures as the packaged encoder does, and gives features without its weights."""

    def __call__(self, media: Any) -> Any:
        return torch.stack([encoders.pixels(one) for one in media])[:, 0, :1, :4]


def projector(model: Any) -> Any:
    return spokes.Projector(wrong.shape())


def spoke(model: Any) -> Any:
    return spokes.Spoke(model, Looking(), projector(model))


def predictions(model: Any) -> Any:
    return samples.probe_result(model).within


def swept(model: Any) -> Any:
    """Of so many items that half of them can choose."""
    scores = {name: states(8, seed=seed) for seed, name in enumerate(("first", "second"))}
    layers, strengths = [1, 2], [1.0]
    return shl.sweep(
        model, lambda edits: scores, lambda layer: torch.ones(32), layers, strengths, damage=("second",), **QUIET
    )


# name -> (what has it, right arguments, wrong values of each)
METHODS: dict[str, tuple[Any, dict[str, Any], dict[str, list[Any]]]] = {
    "Result.save": (sample("SteeringVector"), {"path": wrong.folder() / "v"}, {"path": wrong.WRONG["new path"]}),
    "Result.load": (lambda model: shl.LensResult, {}, {"path": [*wrong.PATHS, Of(wrong.saved_vector)]}),
    "Capture.result": (lambda m: seen(m, shl.Capture(m)), {"row": 0}, {"row": ROWS}),
    "Capture.take": (lambda m: seen(m, shl.Capture(m)), {"row": 0}, {"row": [*ROWS, None]}),
    "CosineTo.result": (
        lambda m: seen(m, shl.CosineTo(m, states(4, 2, 32))), {"row": 0}, {"row": [*ROWS, None]},
    ),
    "LinearProbe.result": (
        lambda m: seen(m, shl.LinearProbe(m, wrong.classifier(m))), {"row": 0}, {"row": [*ROWS, None]},
    ),
    "LogitLens.result": (
        lambda m: seen(m, shl.LogitLens(m)), {"row": 0, "tokens": [1, 4, 5]},
        {
            "row": [*ROWS, None],
            "tokens": ["abc", 5, [1.5], ["a"], [None], [1, 4], torch.tensor([1.5] * 3)],
        },
    ),
    "LensComparison.change": (sample("LensComparison"), {"quantity": "entropy"}, {"quantity": CHOICES}),
    "LensResult.with_languages": (
        wrong.lens, {"table": shl.LanguageTable(("en",), torch.ones(69, 1), "made")},
        {"table": [None, 5, "en", Of(lambda m: shl.LanguageTable(("en",), torch.ones(5, 1), "made"))]},
    ),
    "LinearClassifier.log_probs": (
        wrong.classifier, {"states": states(4, 2, 32)}, {"states": [*ENTRIES, spoilt(NAN, 4, 2, 32)]},
    ),
    "Predictions.interval": (
        predictions, {"seed": 0}, {"seed": SEEDS},
    ),
    "Predictions.peak": (predictions, {"seed": 0}, {"seed": SEEDS}),
    "Predictions.to_frame": (
        predictions, {"classes": ["a", "b"]}, {"classes": [None, 5, "ab", [], ["a"], [1.5, 2.5]]},
    ),
    "Prompt.continued": (
        lambda m: wrong.ids(1, 4), {"ids": [5]},
        {"ids": [None, 5, "abc", [1.5], ["a"], [None], [[1, 4]], [True], torch.tensor([1.5]), torch.ones(1, 2)]},
    ),
    "Readout.__call__": (
        shl.Readout, {"states": states(2, 32), "layer": 1, "tokens": torch.tensor([4])},
        {
            "states": ["a", None, [1.0], states(2, 5), torch.tensor(1.0)],
            "layer": ["a", 1.5, True, -1, 99, [0], [0, 99], [0, 1, 2], NAN],
            "tokens": ["a", [4], torch.tensor([69]), torch.tensor([-1]), torch.tensor([1.5]), torch.tensor([[4]])],
        },
    ),
    "Readout.normed": (shl.Readout, {"states": states(2, 32)}, {"states": ["a", None, [1.0], states(2, 5)]}),
    "Readout.pieces": (
        shl.Readout, {"states": states(2, 32), "layer": 1, "columns": 40},
        {
            "states": ["a", None, [1.0], states(2, 5), torch.tensor(1.0)],
            "layer": ["a", 1.5, True, -1, 99, [0], [0, 99], [0, 1, 2], NAN],
            "columns": wrong.NO_COUNTS,
        },
    ),
    "SimilarityResult.curves": (sample("SimilarityResult"), {"measure": "effect"}, {"measure": CHOICES}),
    "StateStack.__getitem__": (
        stack, {"key": 0}, {"key": ["a", None, 1.5, [0], 99, -99, (0, 99), (0, 0, 99), (0, "a"), (0, 0, 0, 0)]},
    ),
    "SteeringVector.__getitem__": (
        sample("SteeringVector"), {"layer": 1}, {"layer": ["a", None, 1.5, True, 99, -1, [1], NAN]},
    ),
    "SteeringVector.check": (
        sample("SteeringVector"), {"any_model": True},
        {"model": [*wrong.WRONG["model"], Of(lambda m: models.tiny("bridge", seed=1, layers=2))],
         "any_model": wrong.WRONG["flag"]},
    ),
    "SteeringVector.hooks": (
        sample("SteeringVector"), {"strength": 1.0},
        {
            "strength": wrong.NO_NUMBERS, "positions": wrong.WRONG["positions"],
            "layers": [5, "a", ["a"], [99], [-1], [1.5], [None]],
        },
    ),
    "SweepResult.choose": (
        swept, {"score": "first", "damage": "second", "budget": 9.0, "seed": 0},
        {
            "score": CHOICES, "damage": CHOICES, "budget": [None, "a", NAN, INF, -INF, [1.0], -99.0],
            "seed": SEEDS,
        },
    ),
    "SweepResult.contrast": (sample("SweepResult"), {"score": "first"}, {"score": CHOICES, "control": CHOICES}),
    "SweepResult.effect": (sample("SweepResult"), {"score": "first"}, {"score": CHOICES, "condition": CHOICES}),
    "TargetResult.name": (
        samples.target_result, {"item": 0, "target": 0},
        {"item": ["a", None, 1.5, 99, -99, NAN], "target": ["a", None, 1.5, 99, -99, NAN]},
    ),
    "TransferResult.cell": (
        samples.transfer_result, {"train": "words", "test": "digits"}, {"train": CHOICES, "test": CHOICES},
    ),
    "LensResult.with_attribution": (
        wrong.lens, {},
        {"found": [None, 5, "a", [], Of(lambda m: replace(attribution(m), position=99)),
         Of(lambda m: attribution(models.tiny("bridge", seed=1)))]},
    ),
    "Translators.__call__": (
        translators, {"states": states(2, 32), "layer": 1},
        {"states": ["a", None, [1.0], states(2, 5)], "layer": ["a", None, 1.5, True, -1, 3, 99, [1]]},
    ),
    "Translators.check": (
        translators, {}, {"model": [*wrong.WRONG["model"], Of(lambda m: models.tiny("bridge", seed=1))]},
    ),
    "Metric.__call__": (
        wrong.two_words, {"logits": torch.zeros(1, 69)},
        {"logits": ["a", None, [1.0], torch.zeros(69), torch.zeros(1, 2, 69), torch.zeros(1, 3)]},
    ),
    "CleanRun.__call__": (
        lambda m: CleanRun(m, ["red"], progress=False), {"hooks": []}, {"hooks": wrong.WRONG["hooks"]},
    ),
    "Explorer.wait": (explorer, {"timeout": 0.01}, {"timeout": ["a", -1, NAN, [1.0]]}),
    "Projector.forward": (
        projector, {"features": states(2, 1, 4)}, {"features": NO_FEATURES, "dropout": [5, "a", [1.0]]},
    ),
    "Projector.hidden": (
        projector, {"features": states(2, 1, 4)},
        {"features": NO_FEATURES, "shown": [5, "a", ["a"], [1], [-1], [1.5], [None]]},
    ),
    "Projector.shares": (
        lambda m: spokes.Projector(spokes.Shape(chunks=1, d_in=4, d_model=32, codes=2)),
        {"features": states(2, 1, 4)}, {"features": NO_FEATURES},
    ),
    "Projector.standardise": (
        lambda m: spokes.Projector(spokes.Shape(chunks=1, d_in=4, d_model=32, standardised=True)),
        {"features": states(2, 1, 4)}, {"features": [*NO_FEATURES, states(1, 1, 4)]},
    ),
    "Spoke.embed": (spoke, {"media": wrong.pixels()}, {"media": MEDIA}),
    "Spoke.prompt": (
        spoke, {"text": "<image> two", "media": wrong.pixels()},
        {"text": [*TEXTS, "", "two", "<image> <image>", "<audio> two", "<image> \ud800"], "media": MEDIA},
    ),
    "SentenceEncoder.encode": (bare(shl.SentenceEncoder), {}, {"texts": TEXTS}),
    "SentimentClassifier.__call__": (bare(shl.SentimentClassifier), {}, {"texts": TEXTS}),
    "AudioEncoder.__call__": (bare(spokes.AudioEncoder), {}, {"media": MEDIA}),
    "VisionEncoder.__call__": (bare(spokes.VisionEncoder), {}, {"media": MEDIA}),
    "VisionEncoder.labels": (
        bare(spokes.VisionEncoder), {"media": [wrong.pixels()]}, {"media": MEDIA, "k": [*wrong.NO_COUNTS, None]},
    ),
}  # fmt: skip

UNREAD = ("VisionEncoder.labels",)
"""What has right arguments, but is not called with them: it needs the weights of a package."""
INSIDE = {
    "Predictions.permuted": "a draw of a null, by the legs of experiments",
    "LogitsMetric.at": "by patch grids",
    "PositionedHook.__call__": "by the model",
    "PositionedHook.check": "by runs, with prompts of theirs",
    "PassCounter.window": "by hooks",
    "Window.positions": "by hooks",
    "Encoder.__call__": "an annotation",
    "Projector.vectors": "by `forward` and trainings, on what `hidden` or `shares` made",
}
"""Methods without a row, and who calls them."""


def arguments_of(thing: Any) -> list[str]:
    """Names of what a function or a method is called with, without `**settings`."""
    named = inspect.signature(thing).parameters.items()
    return [name for name, entry in named if entry.kind is not inspect.Parameter.VAR_KEYWORD]


def many(thing: Any, argument: str) -> bool:
    """Whether the argument takes any number of values (`*argument`)."""
    return inspect.signature(thing).parameters[argument].kind is inspect.Parameter.VAR_POSITIONAL


def public() -> dict[str, Any]:
    """The methods with arguments of every class that `shl` and its modules hold, by their names."""
    found: dict[str, Any] = {}
    modules = [shl, *(getattr(shl, name) for name in shl.__all__ if inspect.ismodule(getattr(shl, name)))]
    for kind in [value for module in modules for name, value in vars(module).items() if name[0] != "_"]:
        if not isinstance(kind, type) or issubclass(kind, Exception):
            continue
        for key, entry in [pair for base in kind.__mro__ for pair in vars(base).items()]:
            bound = not isinstance(entry, staticmethod)
            method = entry if bound else entry.__func__
            own = inspect.isfunction(method) and method.__module__.startswith("semhub_lens.")
            if own and (key[0] != "_" or key in ("__call__", "__getitem__")) and arguments_of(method)[bound:]:
                found[method.__qualname__] = method
    return found | {"Result.load": Result.load}
