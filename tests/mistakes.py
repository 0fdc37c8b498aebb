"""Wrong calls that once ended in an error of Python or of another library; see also `wrong_values`.

They run without the checks of annotations that the test suite adds and users do not have.
"""

import torch

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


def vector(model, directions):
    return shl.SteeringVector.make(model, "test", directions)


LEAKS = {
    "seed": (lambda m: generator("a"), "A seed must be a whole number, got 'a'"),
    "long seed": (lambda m: generator(1 << 70), "at most 64 bits"),
    "hook of another shape": (
        lambda m: steered(m, [("blocks.0.hook_resid_pre", lambda a, hook: a[:, :1])]),
        r"like the activation, it returned shape \(2, 1, 32\)",
    ),
    "hook that returns a text": (
        lambda m: steered(m, [("blocks.0.hook_resid_pre", lambda a, hook: "x")]), "it returned str",
    ),
    "strength": (lambda m: added(m, strength="a"), "strength"),
    "vector of another width": (
        lambda m: steered(m, shl.at(1, hooks.add(torch.ones(5)))),
        "5 entries, but the activation has 32",
    ),
    "directions of two widths": (lambda m: hooks.swap(ONES, torch.ones(3)), "equal width, got 32 and 3"),
    "positions of floats": (lambda m: added(m, positions=torch.tensor([0.5])), "whole numbers"),
    "model of a vector": (lambda m: vector("gemma", {1: ONES}), "got str"),
    "direction of a sweep": (lambda m: swept(m, direction=lambda layer: None), "layer 1 has NoneType, expected"),
    "measure of a sweep": (lambda m: swept(m, measure=lambda edits: None), "must return .*it returned None"),
    "scores of a sweep": (lambda m: swept(m, measure=lambda edits: {"a": [1.0]}), "must return .*it returned"),
    "sizes of a projector": (lambda m: spokes.Shape(chunks=0, d_in=4, d_model=4), "at least 1"),
}  # fmt: skip


def outcome(call, model):
    try:
        call(model)
    except SemhubError as error:
        return str(error)
    except Exception as error:
        return f"LEAKED {error!r}"
    return "LEAKED nothing"
