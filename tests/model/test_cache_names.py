"""Cached runs equal uncached ones, under whatever name the installed transformers passes a cache on."""

import pytest
import torch
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
from transformers import LlamaForCausalLM, PreTrainedModel

import models
import semhub_lens as shl
from semhub_lens.model import checks, facts

PROMPTS = ["dog cat house", "red", "three plus two is five minus one", "blue green"]
CACHED = ("tiny", "gpt2", "bloom", "opt", "xglm", "gemma4", *(() if models.HOOKED_LINE else ("mpt",)))


class Renamed(LlamaForCausalLM):
    """Takes a cache as `cache`, as transformers does since 5.24."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, use_cache=None, **inputs):
        given = {"past_key_values": cache} if "past_key_values" in inputs_of(LlamaForCausalLM) else {"cache": cache}
        return super().forward(input_ids, attention_mask, position_ids, use_cache=use_cache, **given, **inputs)


def inputs_of(kind):
    return facts.signature(kind.forward).parameters


def renaming(module, args, inputs):
    return args, {"cache" if name == "past_key_values" else name: value for name, value in inputs.items()}


def renamed():
    """The tiny Llama, whose layers pass the cache on under the new name with any transformers."""
    hf = models.tiny_llama()
    hf.__class__ = Renamed
    model = models.tiny(hf=hf)
    for part in model.modules():
        if isinstance(part, AttentionBridge):
            part.register_forward_pre_hook(renaming, with_kwargs=True)
    return model


def continued(model, **settings):
    ids = [shl.Prompt.from_ids(row) for row in ([5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17], [20, 21, 22])]
    return shl.generate(model, ids, max_new_tokens=5, progress=False, **settings)


def hung_on(model):
    return sum(len(part._forward_pre_hooks) for part in model.modules())


def test_a_cache_under_the_new_name_is_found_and_nothing_stays_on_the_model():
    model, before = renamed(), models.tiny()
    assert checks.cache(model).error < 1e-5
    hung = hung_on(model)  # transformer-lens hangs its own on at the first pass
    result = continued(model, use_cache=True)
    assert result.token_ids == continued(model, use_cache=False).token_ids == continued(before).token_ids
    assert result.provenance.notes == () and hung_on(model) == hung


def test_a_grid_behind_a_prefix_under_the_new_name_is_that_of_whole_prompts():
    pair, grids = ["dog cat house", "cat cat house"], []
    for model in (renamed(), models.tiny()):
        grids.append(shl.patch_grid(model, *pair, shl.metric.log_prob(model, 5), progress=False).values)
    torch.testing.assert_close(*grids)


@pytest.mark.parametrize("name", CACHED)
def test_hosts_continue_with_a_cache_as_without(name):
    model = models.tiny() if name == "tiny" else models.host(name)
    assert isinstance(model.original_model, PreTrainedModel) and checks.cache(model).holds
    assert continued(model, use_cache=True).token_ids == continued(model, use_cache=False).token_ids


def test_a_model_that_takes_no_cache_has_no_name_for_it(monkeypatch):
    model = models.tiny()
    monkeypatch.setattr(type(model.original_model), "forward", lambda self, input_ids=None, **inputs: None)
    assert facts.new_cache(model, 1) is None


def under_the_new_name_alone(own):
    """An attention of transformers since 5.24, which does not know the old name."""
    name = "past_key_values" if "past_key_values" in facts.signature(own).parameters else "cache"

    def forward(*args, cache=None, **inputs):
        assert "past_key_values" not in inputs, "the attention was given a name that it does not know"
        return own(*args, **{name: cache}, **inputs)

    return forward


def taking(kind):
    """The class of a model, which takes a cache as `cache`."""
    name = "past_key_values" if "past_key_values" in inputs_of(kind) else "cache"

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, use_cache=None, **inputs):
        given = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, name: cache}
        return kind.forward(self, input_ids=input_ids, **given, **inputs)

    return type(kind.__name__, (kind,), {"forward": forward})


@pytest.mark.parametrize("name", ["opt", "xglm", "gemma4"])
def test_an_attention_of_transformers_in_a_bridge_gets_the_cache_under_its_own_name_only(name):
    """Some bridges leave the attention to transformers: it must not get the name that is there for the bridge."""
    model, before = models.host(name), models.host(name)
    model.original_model.__class__ = taking(type(model.original_model))
    parts = [part for part in model.modules() if isinstance(part, AttentionBridge)]
    for part in parts:
        part.register_forward_pre_hook(renaming, with_kwargs=True)
        part.original_component.forward = under_the_new_name_alone(part.original_component.forward)
    assert parts and checks.cache(model).holds
    result = continued(model, use_cache=True)
    assert result.token_ids == continued(before, use_cache=False).token_ids and result.provenance.notes == ()
