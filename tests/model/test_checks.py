"""Runs of hosts that do not batch, pad or cache as a causal model with attention does, against single uncached rows."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer

import models
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.model import checks
from semhub_lens.model.facts import new_cache

ROWS = ([5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17, 18, 19], [20, 21, 22, 23])
PROMPTS = [Prompt.from_ids(row) for row in ROWS]
STATE_SPACE = ["mamba", "mamba2", "falcon_mamba", "rwkv"]


def alone(model, row, steps=5):
    """Greedy continuation by whole passes of the host, one row at a time."""
    ids = list(row)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    ends = [model.original_model.generation_config.eos_token_id]
    new = ids[len(row) :]
    cut = next((i + 1 for i, token in enumerate(new) if token in ends), steps)
    return tuple(new[:cut])


def continued(model, prompts=PROMPTS, **settings):
    return shl.generate(model, prompts, max_new_tokens=5, progress=False, **settings)


@pytest.mark.parametrize("name", [*STATE_SPACE, "recurrent_gemma", "phi3_longrope", "bloom", "mpt"])
def test_a_batch_continues_as_each_row_does_alone_without_a_cache(name):
    model = models.host(name)
    assert continued(model).token_ids == tuple(alone(model, row) for row in ROWS)


@pytest.mark.parametrize("name", STATE_SPACE)
def test_a_model_without_a_key_value_cache_goes_without_and_says_so(name):
    model = models.host(name)
    result = continued(model, PROMPTS[0])
    assert result.token_ids == continued(model, PROMPTS[0], use_cache=False).token_ids == (alone(model, ROWS[0]),)
    if new_cache(model, 1) is not None:
        return  # since transformers 5.24 its state is a cache, which is used where it holds
    assert result.provenance.notes == ("no cache: the model takes no key-value cache",)
    assert "no cache" in result.provenance.line()
    with pytest.raises(shl.SemhubError, match="no usable key-value cache"):
        continued(model, use_cache=True)


def test_rows_whose_padding_is_not_ignored_are_batched_by_length():
    model = models.host("recurrent_gemma")
    result = continued(model)
    assert result.provenance.notes == ("batches of equal length",)
    assert not checks.left_padding(model).holds and checks.right_padding(model).holds and checks.cache(model).holds


@pytest.mark.parametrize("settings", [{}, {"max_tokens": 4}])
def test_states_of_a_host_that_is_not_causal_are_those_of_each_row_alone(settings):
    model = models.host("bert")
    together = shl.residual_stream(model, PROMPTS, progress=False, **settings)
    for item, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            _, kept = model.run_with_cache(prompt.ids[None], names_filter=["blocks.1.hook_resid_post"])
        expected = kept["blocks.1.hook_resid_post"][0, -1]
        torch.testing.assert_close(together[-1, item], expected, atol=1e-4, rtol=1e-4)
    assert checks.batch_notes(model) == ("batches of equal length",)


def test_a_plain_decoder_passes_every_check_and_has_no_notes(tiny_model):
    for check in (checks.right_padding, checks.left_padding, checks.cache):
        assert check(tiny_model).error < 1e-5
    assert checks.batch_notes(tiny_model) == ()
    assert continued(tiny_model).provenance.notes == ()


def test_checks_are_done_once_until_weights_change(monkeypatch):
    model = models.tiny()
    passes = []
    count = model.original_model.register_forward_pre_hook(lambda *_: passes.append(1))
    fact = checks.right_padding(model)
    seen = len(passes)
    assert checks.right_padding(model) is fact and len(passes) == seen
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    assert checks.right_padding(model) is not fact and len(passes) > seen
    count.remove()


def test_a_cache_that_stays_empty_is_not_used(tiny_model, monkeypatch):
    """As with a transformers that passes the cache on under a name which the bridges do not know."""
    if not hasattr(tiny_model, "original_model"):
        pytest.skip("a HookedTransformer has a cache of its own")
    model = models.tiny()
    monkeypatch.setattr(DynamicLayer, "update", lambda self, keys, values, *args, **kwargs: (keys, values))
    result = continued(model)
    assert result.token_ids == continued(model, use_cache=False).token_ids
    assert "kept nothing in its key-value cache" in result.provenance.notes[0]
    with pytest.raises(shl.SemhubError, match="kept nothing in its key-value cache"):
        continued(model, use_cache=True)
    pair = ["dog cat house", "cat cat house"]
    metric = shl.metric.log_prob(model, 5)
    assert checks.cache(model).holds is False
    slow = shl.patch_grid(model, *pair, metric, progress=False)
    monkeypatch.undo()
    torch.testing.assert_close(slow.values, shl.patch_grid(models.tiny(), *pair, metric, progress=False).values)
