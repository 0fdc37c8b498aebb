"""Wrong calls that once ended in an error of Python or of another library.

They run in a process of their own: the test suite checks annotations, users do not.
"""

import json

import torch

import models
import semhub_lens as shl
from semhub_lens import hooks, spokes
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.rng import generator
from semhub_lens.interventions.sweep import sweep

QUIET = {"progress": False}

ONES = torch.ones(32)


def steered(model, edits):
    return shl.residual_stream(model, ["red dog", "two two"], hooks=edits, **QUIET)


def added(model, **settings):
    return steered(model, shl.at(1, hooks.add(ONES, **settings)))


def swept(
    model, measure=lambda edits: {"a": torch.zeros(2)}, direction=lambda layer: ONES, layers=(1,), strengths=(1.0,)
):
    return sweep(model, measure, direction, list(layers), list(strengths), **QUIET)


def grid(model, score):
    return shl.patch_grid(model, "red two", "red dog", score, **QUIET)


def vector(model, directions):
    return shl.SteeringVector.make(model, "test", directions)


def from_ids(ids, **settings):
    return shl.Prompt.from_ids(ids, **settings)


LEAKS = {
    "seed": (lambda m: generator("a"), "A seed must be a whole number, got 'a'"),
    "long seed": (lambda m: generator(1 << 70), "at most 64 bits"),
    "seed of random weights": (lambda m: shl.untrained(m, seed="a"), "A seed must be a whole number"),
    "hook without a function": (lambda m: steered(m, [("blocks.0.hook_resid_pre", 3)]), "pairs .*got .*3"),
    "a hook alone": (lambda m: steered(m, ("blocks.0.hook_resid_pre",)), "pairs .*got 'blocks.0"),
    "hook of another shape": (
        lambda m: steered(m, [("blocks.0.hook_resid_pre", lambda a, hook: a[:, :1])]),
        r"like the activation, it returned shape \(2, 1, 32\)",
    ),
    "hook that returns a text": (
        lambda m: steered(m, [("blocks.0.hook_resid_pre", lambda a, hook: "x")]), "it returned str",
    ),
    "layer of a probe": (lambda m: shl.Capture(m, layers=["a"]), "A layer"),
    "layer of hooks": (lambda m: shl.at(1.5, hooks.add(ONES)), "A layer must be a whole number, got 1.5"),
    "layer of a direction": (lambda m: shl.direction.words(m, "two", "five", "a"), "A layer must be"),
    "layer of a vector": (lambda m: vector(m, {"a": ONES}), "A layer must be"),
    "layer of a sweep": (lambda m: swept(m, layers=["a"]), "A layer must be"),
    "strength": (lambda m: added(m, strength="a"), "strength"),
    "strengths of a sweep": (lambda m: swept(m, strengths=["a"]), "strengths must be numbers"),
    "vector of another width": (
        lambda m: steered(m, shl.at(1, hooks.add(torch.ones(5)))),
        "5 entries, the activation 32",
    ),
    "vector that is a list": (lambda m: hooks.add([1.0] * 32), "must be a tensor .* got list"),
    "directions of two widths": (lambda m: hooks.swap(ONES, torch.ones(3)), "one width, got 32 and 3"),
    "positions": (lambda m: added(m, positions=1.5), "whole numbers, .* got 1.5"),
    "positions of floats": (lambda m: added(m, positions=torch.tensor([0.5])), "whole numbers"),
    "new tokens": (lambda m: shl.generate(m, "red", max_new_tokens=1.5, **QUIET), "max_new_tokens= must be"),
    "temperature": (
        lambda m: shl.generate(m, "red", max_new_tokens=1, temperature=float("nan"), **QUIET),
        "temperature >= 0, got 1 and nan",
    ),
    "direction of a vector": (lambda m: vector(m, {1: [1.0] * 32}), "has list, this model's are"),
    "model of a vector": (lambda m: vector("gemma", {1: ONES}), "got str"),
    "source of a vector": (
        lambda m: shl.SteeringVector.from_tensor(m, [1.0], 1), "got list",
    ),
    "metric": (lambda m: grid(m, 3), r"logits \[batch vocab\] -> \[batch\], got 3"),
    "direction of a sweep": (lambda m: swept(m, direction=lambda layer: None), "layer 1 has NoneType, expected"),
    "measure of a sweep": (lambda m: swept(m, measure=lambda edits: None), "must return .*it returned None"),
    "scores of a sweep": (lambda m: swept(m, measure=lambda edits: {"a": [1.0]}), "must return .*it returned"),
    "sizes of a projector": (lambda m: spokes.Shape(chunks=0, d_in=4, d_model=4), "at least 1"),
    "ids of letters": (lambda m: from_ids("abc"), "one row of token ids, got 'abc'"),
    "ids of floats": (lambda m: from_ids([1.5]), "Token ids are whole numbers"),
    "no ids": (lambda m: from_ids(None), "one row of token ids, got None"),
    "no text": (lambda m: shl.Prompt.from_text(m, None), "text is empty"),
    "span of a number": (lambda m: shl.Prompt.from_text(m, "red", spans={"a": 3}), "got 3"),
    "span of letters": (lambda m: from_ids([1], spans={"a": ["x"]}), "whole numbers; got"),
}  # fmt: skip


def outcome(call, model):
    try:
        call(model)
    except SemhubError as error:
        return str(error)
    except Exception as error:
        return f"LEAKED {error!r}"
    return "LEAKED nothing"


if __name__ == "__main__":
    model = models.tiny("bridge")
    print("OUTCOMES", json.dumps({name: outcome(call, model) for name, (call, _) in LEAKS.items()}))
