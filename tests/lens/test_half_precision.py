"""Models of half precision are read out in float32; float32 models, generation and training as before."""

from functools import cache

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

import models
import semhub_lens as shl
from semhub_lens.model import generation, products
from semhub_lens.training.sampler import Head

TEXT = "three plus two equals red dog"
HALF = [torch.bfloat16, torch.float16]


def half(backend="bridge", dtype=torch.bfloat16):
    """A tiny model whose logits are as large as those of a trained one."""
    model = models.tiny(backend, dtype=dtype)
    with torch.no_grad():
        model.W_U.mul_(4)
    return model


def states_of(model):
    capture = shl.Capture(model)
    with torch.no_grad():
        model.run_with_hooks(shl.Prompt.from_text(model, TEXT).ids[None], fwd_hooks=capture.hooks)
    return capture.result()[:, 0]


def defined(model, states):
    """Normed states and logits in float64 by their formula, from the weights as they are."""
    (gain,) = model.ln_final.parameters()
    eps = 1e-6  # Llama's
    normed = states.double() * (states.double().square().mean(-1, keepdim=True) + eps).rsqrt() * gain.detach().double()
    return normed, normed @ model.W_U.detach().double()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_half_precision_model_is_read_as_float64_reads_its_weights(backend, dtype):
    model = half(backend, dtype)
    states = states_of(model)
    normed, logits = defined(model, states)
    with torch.no_grad():
        exact, rounded = shl.Readout(model), shl.Readout(model, dtype="model")
        torch.testing.assert_close(exact.normed(states).double(), normed, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(exact(states).double(), logits, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(exact(states, tokens=torch.tensor([9, 3])), exact(states)[..., [9, 3]])
        assert (rounded(states) - logits).abs().max() > 2e-3, "the model's own rounding shows"
    assert {weight.dtype for weight in model.ln_final.parameters()} == {model.W_U.dtype} == {dtype}


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_whole_lens_of_a_half_precision_model_is_that_of_float64(backend):
    model = half(backend)
    expected = defined(model, states_of(model))[1].log_softmax(-1)
    lens = shl.logit_lens(model, TEXT, top_k=model.cfg.d_vocab, progress=False)
    torch.testing.assert_close(lens.top_logprobs.double(), expected.gather(-1, lens.top_ids), atol=1e-4, rtol=1e-5)
    target = shl.target_lens(model, TEXT, [[7, 9]], progress=False).log_probs
    torch.testing.assert_close(target[:, 0].double(), expected[:, -1, [7, 9]], atol=1e-4, rtol=1e-5)
    table = shl.script_table(model)
    mass = shl.language_mass(model, TEXT, table, progress=False).mass
    torch.testing.assert_close(
        mass.double(), (expected.exp() @ table.weights.double())[:, 1:].mean(1), atol=1e-5, rtol=1e-5
    )


@cache
def wide(backend, dtype):
    """Random weights as wide as a real model's, behind one block; its logits spread like a trained one's."""
    torch.manual_seed(0)
    settings = {"max_position_embeddings": 32, "num_attention_heads": 8, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(
        vocab_size=50_000, hidden_size=1024, intermediate_size=64, tie_word_embeddings=True, initializer_range=0.3,
        **settings,
    )  # fmt: skip
    hf = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager").eval()
    return models.tiny(backend, dtype=dtype, hf=hf)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_wide_half_precision_model_is_read_as_float64_reads_it(backend, dtype):
    model = wide(backend, dtype)
    logits = defined(model, states_of(model))[1]
    expected = logits.log_softmax(-1)
    assert 5 < logits[-1].std() < 20
    lens = shl.logit_lens(model, TEXT, top_k=50, progress=False)
    near = {"atol": 1e-4, "rtol": 1e-6}
    torch.testing.assert_close(lens.top_logprobs.double(), expected.gather(-1, lens.top_ids), **near)
    torch.testing.assert_close(lens.entropy.double(), -(expected.exp() * expected).sum(-1), **near)
    kl = (expected[-1].exp() * (expected[-1] - expected)).sum(-1)
    torch.testing.assert_close(lens.kl_to_final.double(), kl, **near)
    best = expected.topk(50)
    apart = -best.values.diff(dim=-1) > 1e-4
    assert torch.equal((-lens.top_logprobs.diff(dim=-1) > 0) | ~apart, torch.ones_like(apart)), "no ties of ours"
    assert (lens.top_ids == best.indices).float().mean() > 0.99
    rounded = shl.logit_lens(model, TEXT, top_k=50, readout=shl.Readout(model, dtype="model"), progress=False)
    error = (rounded.top_logprobs - expected.gather(-1, rounded.top_ids)).abs().max()
    assert error > 100 * (lens.top_logprobs - expected.gather(-1, lens.top_ids)).abs().max(), "as the model rounds"


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_results_say_in_which_dtype_they_were_read(backend):
    model = half(backend)
    own = shl.logit_lens(model, TEXT, readout=shl.Readout(model, dtype="model"), progress=False)
    assert own.provenance.norm == "final in bfloat16"
    assert shl.logit_lens(model, TEXT, progress=False).provenance.norm == "final in float32"
    bent = shl.Readout(model, norm="none", translator=lambda states, layer: states)
    assert bent.name == "none + translator in float32"
    right, wrong = "red two plus", "red dog plus"
    grid = shl.attribution_grid(model, right, wrong, shl.metric.log_prob(model, 7))
    assert grid.provenance.norm == "final in float32" and grid.values.abs().max() > 0


def test_float32_models_are_read_as_ever(tiny_model):
    states = states_of(tiny_model)
    with torch.no_grad():
        expected = tiny_model.ln_final(states.reshape(1, -1, 32)).reshape(states.shape) @ tiny_model.W_U
        for readout in (shl.Readout(tiny_model), shl.Readout(tiny_model, dtype="model")):
            assert torch.equal(readout(states), expected) and readout.name == "final"
            some = readout(states, tokens=torch.tensor([9, 3]))
    torch.testing.assert_close(some, expected[..., [9, 3]])


def test_a_float64_model_is_read_in_float64():
    model = models.tiny("bridge", dtype=torch.float64)
    states = states_of(model).double()
    assert shl.Readout(model).normed(states).dtype == torch.float64 and shl.Readout(model).name == "final"


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_generation_and_the_training_head_round_as_the_model_does(backend, monkeypatch):
    model, made = half(backend), []
    weight = model.W_U.detach()

    class Recorded(shl.Readout):
        def __init__(self, model, **settings):
            made.append(settings)
            super().__init__(model, **settings)

    monkeypatch.setattr(generation, "Readout", Recorded)
    shl.generate(model, TEXT, max_new_tokens=1, progress=False)
    assert made == [{"dtype": "model"}]
    chosen, states = torch.arange(20), states_of(model)[-1]
    with torch.no_grad():
        loss = Head(model, chosen)(states, torch.arange(len(states)))
        normed = model.ln_final(states.bfloat16()[None])[0]
    expected = torch.nn.functional.cross_entropy(
        (normed @ weight[:, :20].T.contiguous().T).float(), torch.arange(len(states)), reduction="none"
    )
    assert torch.equal(loss, expected)


class Allocations(TorchDispatchMode):
    """Sizes of all float32 tensors that operators make."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
            self.entries.append(out.numel())
        return out


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_unembedding_is_never_widened_as_a_whole(backend, monkeypatch):
    monkeypatch.setattr(products, "WIDENED_ENTRIES", 10 * 32)
    model = half(backend)
    states = states_of(model)[-1, :2]
    readout, kept = shl.Readout(model), []
    with torch.no_grad(), Allocations() as made:
        readout(states)
        readout(states, tokens=torch.arange(model.cfg.d_vocab))
    assert 0 < max(made.entries) <= 10 * 32 < model.W_U.numel()
    _, logits = defined(model, states)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        found = readout(states.requires_grad_())
    torch.testing.assert_close(found.double(), logits, atol=1e-4, rtol=1e-5)
    assert sum(t.numel() for t in kept if t.dtype == torch.float32) < model.W_U.numel() / 2, "nor for gradients"
    found[:, 7].sum().backward()
    again = states.detach().double().requires_grad_()
    defined(model, again)[1][:, 7].sum().backward()
    torch.testing.assert_close(states.grad.double(), again.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_hooks_at_the_final_norm_fire_and_the_norm_stays_as_it_is(backend):
    model, seen = half(backend), []
    states = states_of(model)
    plain = shl.Readout(model).normed(states)

    def look(activation, hook):
        seen.append(activation.dtype)

    model.add_hook("ln_final.hook_normalized", look)
    assert torch.equal(shl.Readout(model).normed(states), plain) and seen[-1] == torch.float32
    assert getattr(model.ln_final, "cfg", model.cfg).dtype != torch.float32 or backend == "bridge"
