"""Random weights: matrices by their role, one function on both backends, whatever the model has gone through."""

import copy
import re
import sys
from functools import partial

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import models
import semhub_lens as shl
from semhub_lens.base.rng import generator
from semhub_lens.model.loading import _hooked

drawing = sys.modules["semhub_lens.model.untrained"]  # `shl.untrained` is the function
IDS = torch.tensor([[1, 4, 9, 20, 7]])
SIZES = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
MAKES = {
    "gpt2": lambda size: GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=64)),
    "qwen2": lambda size: Qwen2ForCausalLM(Qwen2Config(vocab_size=size, num_key_value_heads=2, **SIZES)),
    "qwen2 tied": lambda size: Qwen2ForCausalLM(
        Qwen2Config(vocab_size=size, num_key_value_heads=2, tie_word_embeddings=True, **SIZES)
    ),
    "neox": lambda size: GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=size, max_position_embeddings=64, **SIZES)),
}


def made(name, backend):
    """A tiny checkpoint whose biases and gains are far from their start."""
    tokenizer = models.tiny_tokenizer()
    torch.manual_seed(0)
    hf = MAKES[name](len(tokenizer)).eval()
    hf.config.n_ctx = 64
    rng = generator(1)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    if backend == "hooked":
        model = _hooked(hf, tokenizer, None, "cpu", torch.float32)
    else:
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

        model = build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config, tokenizer=tokenizer)
    model.cfg.model_name = name
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).float()


@pytest.mark.skipif(not models.HOOKED_LINE, reason="transformer-lens 4 has one backend")
@pytest.mark.parametrize("name", MAKES)
def test_both_backends_of_a_checkpoint_with_biases_give_one_random_function(name):
    one, other = (made(name, backend) for backend in models.BACKENDS)
    torch.testing.assert_close(logits(one), logits(other), atol=1e-3, rtol=1e-3)
    first, second = (logits(shl.untrained(model, seed=3)) for model in (one, other))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)
    assert (first - logits(one)).abs().max() > 0.5
    assert (logits(shl.untrained(other, seed=4)) - second).abs().max() > 0.5


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("name", MAKES)
def test_gains_and_biases_are_kept_and_every_matrix_is_drawn(name, backend):
    model = made(name, backend)
    random = dict(shl.untrained(model, seed=0).named_parameters())
    for path, parameter in model.named_parameters():
        last = path.rsplit(".", 1)[-1]
        gain = re.search(r"norm|(^|\.)ln", path)
        kept = bool(gain) or last == "bias" or last.lstrip("_").startswith("b")
        assert torch.equal(parameter, random[path]) == kept, path
        if not kept:
            spreads = (float(values.detach().std()) for values in (random[path], parameter))
            assert next(spreads) == pytest.approx(next(spreads), rel=0.2)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_stacked_biases_are_biases_and_a_constant_matrix_stays(backend):
    model = made("qwen2", backend)
    with torch.no_grad():
        stacked = torch.nn.Parameter(torch.randn(4, 8, generator=generator(0)))
        model.blocks[0].mlp.register_parameter("gate_up_proj_bias", stacked)
        model.W_E.fill_(0.5) if backend == "hooked" else model.embed.weight.fill_(0.5)
    random = shl.untrained(model, seed=0)
    drawn = torch.nn.Module.named_parameters(random.blocks[0].mlp, recurse=False)
    assert torch.equal(dict(drawn)["gate_up_proj_bias"], stacked) and torch.equal(random.W_E, model.W_E)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_gain_of_two_axes_is_kept(backend):
    """As a norm of queries has one gain a head."""
    model = made("qwen2", backend)
    gain = torch.nn.Parameter(torch.randn(4, 8, generator=generator(0)))
    model.blocks[0].ln1.register_parameter("weight_of_heads", gain)
    drawn = torch.nn.Module.named_parameters(shl.untrained(model, seed=0).blocks[0].ln1, recurse=False)
    assert torch.equal(dict(drawn)["weight_of_heads"], gain)


def test_tied_embeddings_stay_tied():
    for backend in models.BACKENDS:
        random = shl.untrained(made("qwen2 tied", backend), seed=0)
        torch.testing.assert_close(random.W_E, random.W_U.T)
        random = shl.untrained(made("qwen2", backend), seed=0)
        assert not torch.allclose(random.W_E, random.W_U.T)


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("name", ["gpt2", "neox", "qwen2"])
def test_a_model_that_was_trained_on_is_copied_without_its_gradients(name, backend):
    model = made(name, backend)
    expected = logits(shl.untrained(copy.deepcopy(model), seed=0))
    model(IDS).float().square().sum().backward()
    model.blocks[0].hook_resid_pre.ctx["kept"] = {"states": [model(IDS)]}
    assert any(parameter.grad is not None for parameter in model.parameters())
    random = shl.untrained(model, seed=0)
    assert all(parameter.grad is None for parameter in random.parameters())
    assert [p.requires_grad for p in random.parameters()] == [p.requires_grad for p in model.parameters()]
    assert torch.equal(logits(random), expected)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_copy_and_its_original_share_no_weight(backend):
    model = made("qwen2", backend)
    before = logits(model)
    random = shl.untrained(model, seed=0)
    with torch.no_grad():
        for parameter in random.parameters():
            parameter.zero_()
    assert torch.equal(logits(model), before)


def test_noise_belongs_to_the_role_not_to_the_order_of_parameters():
    deep, shallow = (models.tiny(layers=layers) for layers in (3, 2))
    with torch.no_grad():
        for ours, theirs in zip(shallow.blocks, deep.blocks, strict=False):
            ours.attn.q.weight.copy_(theirs.attn.q.weight)
    one, other = map(partial(shl.untrained, seed=1), (deep, shallow))
    assert torch.equal(one.blocks[1].attn.q.weight, other.blocks[1].attn.q.weight)


@pytest.mark.parametrize(("rows", "blocks"), [(16, 1), (64, 4), (65, 1), (1000, 63)])
def test_a_weight_that_is_drawn_in_blocks_is_that_of_one_draw(monkeypatch, rows, blocks):
    weight = torch.randn(rows, 7, generator=generator(0)).round(decimals=2)
    one, many = torch.empty_like(weight), torch.empty_like(weight)
    drawing._draw(one, weight, "embed", 3)
    monkeypatch.setattr(drawing, "BLOCK", 7 * 16)
    assert len(list(drawing._blocks(weight))) == blocks  # 7 numbers alone would be drawn in another way than 16
    drawing._draw(many, weight, "embed", 3)
    torch.testing.assert_close(one, many, atol=1e-6, rtol=0)  # a mean of other blocks may round otherwise


@pytest.mark.skipif(not models.HOOKED_LINE, reason="transformer-lens 4 has no HookedTransformer")
@pytest.mark.parametrize("name", MAKES)
def test_no_two_weights_of_a_loaded_model_share_memory(name):
    model = made(name, "hooked")
    places = [parameter.untyped_storage().data_ptr() for parameter in model.parameters()]
    assert len(set(places)) == len(places)
    before = model.W_U.clone()
    with torch.no_grad():
        model.W_E.add_(1)
    assert torch.equal(model.W_U, before)
