"""Training knows no backend, so its tests take one: `HookedTransformer` where the line has it, a bridge on 4.x."""

import pytest

import models


@pytest.fixture(scope="session", params=models.BACKENDS[:1])
def tiny_model(request):
    """A random three-layer Llama with a word-level tokenizer."""
    return models.tiny(request.param)
