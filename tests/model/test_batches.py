"""A batch that does not fit into the device's memory is halved, and later runs begin with batches that fit."""

import warnings

import pytest
import torch

import models
import semhub_lens as shl

TEXTS = ["three plus two", "five", "one plus one is", "dog cat", "red blue", "two", "seven plus one", "four is"]


def memory_for(tokens: int):
    """A hook that fails, as a device does, where a pass has more tokens; and the sizes of the passes it saw."""
    seen: list[int] = []

    def fn(activation, hook):
        seen.append(activation.shape[0] * activation.shape[1])
        if seen[-1] > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return [("blocks.0.hook_resid_pre", fn)], seen


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_halves_give_the_same_numbers_and_the_size_is_remembered(backend):
    model = models.tiny(backend)
    right = shl.residual_stream(model, TEXTS, progress=False)
    hooks, seen = memory_for(12)
    with pytest.warns(UserWarning, match="no memory for a batch of .* tokens"):
        found = shl.residual_stream(model, TEXTS, hooks=hooks, progress=False)
    assert torch.allclose(found, right, atol=1e-5)
    assert max(seen) > 12
    hooks, seen = memory_for(12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.allclose(shl.residual_stream(model, TEXTS, hooks=hooks, progress=False), right, atol=1e-5)
    assert max(seen) <= 12


def test_generation_and_the_lens_of_many_prompts_are_halved_too():
    model = models.tiny("bridge")
    right = shl.generate(model, TEXTS, max_new_tokens=3, progress=False)
    lens = shl.target_lens(model, TEXTS, [["two", "five"]] * len(TEXTS), progress=False)
    hooks, _ = memory_for(12)
    with pytest.warns(UserWarning, match="max_tokens="):
        found = shl.generate(model, TEXTS, max_new_tokens=3, hooks=hooks, progress=False)
    assert found.token_ids == right.token_ids
    again = shl.target_lens(model, TEXTS, [["two", "five"]] * len(TEXTS), hooks=memory_for(12)[0], progress=False)
    assert torch.allclose(again.log_probs, lens.log_probs, atol=1e-5)


def test_a_prompt_that_does_not_fit_alone_is_said():
    hooks, _ = memory_for(2)
    with pytest.raises(shl.SemhubError, match="no memory for one prompt of 4 tokens"):
        shl.residual_stream(models.tiny("bridge"), ["three plus two"], hooks=hooks, progress=False)


def test_other_errors_are_passed_on():
    def fn(activation, hook):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        shl.residual_stream(models.tiny("bridge"), TEXTS, hooks=[("blocks.0.hook_resid_pre", fn)], progress=False)
