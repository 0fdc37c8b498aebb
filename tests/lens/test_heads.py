"""Prompts are run up to the last position that is read, where what follows cannot matter."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens.lens import targets
from tests import models

TEXTS = ["three plus two five dog", "red cat blue"]


@pytest.fixture
def lengths(monkeypatch):
    """Lengths of the prompts that a lens runs."""
    run, seen = targets.prompt_states, []

    def watched(model, prompts, hooks):
        seen.extend(len(prompt) for prompt in prompts)
        return run(model, prompts, hooks)

    monkeypatch.setattr(targets, "prompt_states", watched)
    return seen


def read(model, at, **settings):
    return shl.target_lens(model, TEXTS, [["two", "five"]] * sum(map(len, at)), read_at=at, progress=False, **settings)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_tokens_behind_what_is_read_are_not_run_and_do_not_matter(backend, lengths):
    model = models.tiny(backend)
    early = read(model, [[1, 2], [1]]).log_probs
    assert lengths == [3, 2]
    lengths.clear()
    whole = read(model, [[1, 2, -1], [1, -1]]).log_probs
    assert lengths == [len(model.to_tokens(text)[0]) for text in TEXTS]
    torch.testing.assert_close(early, whole[:, [0, 1, 3]], atol=1e-5, rtol=0)


def test_under_hooks_the_prompt_stays_whole(tiny_model, lengths):
    hooks = shl.at(1, shl.hooks.add(torch.zeros(32)))
    read(tiny_model, [[1], [1]], hooks=hooks)
    assert lengths == [len(tiny_model.to_tokens(text)[0]) for text in TEXTS]


def test_where_later_tokens_matter_the_prompt_stays_whole(tiny_model, lengths, monkeypatch):
    monkeypatch.setattr(targets, "right_padding", lambda model: type("Fact", (), {"packing": "equal"}))
    read(tiny_model, [[1], [1]])
    assert lengths == [len(tiny_model.to_tokens(text)[0]) for text in TEXTS]
