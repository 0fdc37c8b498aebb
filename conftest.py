"""Fixtures for the tests and for the examples in docstrings."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent / "tests"))

import pytest

import models


@pytest.fixture(scope="session", params=models.BACKENDS)
def tiny_model(request):
    """A random three-layer Llama with a word-level tokenizer, on every backend of the installed line."""
    return models.tiny(request.param)


@pytest.fixture(scope="session", params=models.BACKENDS)
def gemma(request):
    """Gemma 3 270M, the packaged real model, on every backend of the installed line."""
    import semhub_lens as shl

    return shl.load("gemma-3-270m", backend=request.param)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace, request):
    """Names that docstring examples may use."""
    if request.node.__class__.__name__ == "DoctestItem":
        import torch

        import semhub_lens as shl

        doctest_namespace |= {name: getattr(shl, name) for name in shl.__all__}
        doctest_namespace |= {"tiny_model": _doctest_model(), "torch": torch, "shl": shl}


_MODEL: list = []


def _doctest_model():
    if not _MODEL:
        _MODEL.append(models.tiny())
    return _MODEL[0]
