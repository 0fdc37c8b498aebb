"""A default dtype that the user has set changes no number and no dtype of a result."""

import pytest
import torch
from torch import Tensor

import models
import semhub_lens as shl
from samples import SAMPLES
from semhub_lens.base.results import Part
from semhub_lens.spokes.projector import Projector, Shape


@pytest.fixture(scope="module")
def usual():
    model = models.tiny()
    return model, {name: make(model) for name, make in SAMPLES.items()}


@pytest.fixture(params=[torch.bfloat16, torch.float64], ids=["bfloat16", "float64"])
def default(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def tensors(value):
    """All tensors of a result, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Part):
        yield from tensors(list(vars(value).values()))
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from tensors(entry)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_result_is_the_same_under_another_default(name, usual, default):
    model, results = usual
    for found, expected in zip(tensors(SAMPLES[name](model)), tensors(results[name]), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-5, rtol=1e-5)


def test_states_hooks_and_projectors_are_float32_under_another_default(usual, default):
    model, _ = usual
    states = shl.residual_stream(model, ["three plus two", "red dog", "two"], read="mean", progress=False)
    assert states.dtype == torch.float32
    edited = shl.residual_stream(model, "red", hooks=shl.at(2, shl.hooks.add(torch.ones(32))), progress=False)
    assert (
        edited.dtype == torch.float32
        and shl.similarity(states, states.roll(1, 1), seed=0).effect.dtype == torch.float32
    )
    projector = Projector(Shape(chunks=2, d_in=5, d_model=8, embeddings=3))
    assert {weight.dtype for weight in projector.state_dict().values()} == {torch.float32}
