"""The read-out of unusual hosts: no final norm, other output tokens, no last hook; weights that change under it."""

import pytest
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

import models
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError, Unfit

SIZES = {"n_layers": 2, "d_model": 32, "n_heads": 4, "d_head": 8, "d_mlp": 64, "d_vocab": 50, "act_fn": "gelu"}
IDS = shl.Prompt.from_ids([1, 2, 3])


def toy(backend, **options):
    """A model made from a config, without a tokenizer."""
    config = {**SIZES, "n_ctx": 32, "seed": 0, **options}
    if backend == "bridge":
        return TransformerBridge.boot_native(config).eval()
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    return HookedTransformer(HookedTransformerConfig(**config)).eval()


def wrapped(kind, head, **options):
    torch.manual_seed(0)
    hf = getattr(transformers, head)(getattr(transformers, f"{kind}Config")(vocab_size=99, **options)).eval()
    return build_bridge_from_module(hf, head, hf_config=hf.config, tokenizer=None).eval()


def assert_last_layer_is_the_models_own(model, prompt=IDS):
    lens = shl.logit_lens(model, prompt, progress=False)
    with torch.no_grad():
        own = model(prompt.ids[None], return_type="logits")[0].float().log_softmax(-1)
    torch.testing.assert_close(lens.top_logprobs[-1], own.gather(-1, lens.top_ids[-1]), atol=1e-4, rtol=0)
    return lens


@pytest.mark.parametrize("kind", [None, "LN", "RMS", "LNPre", "RMSPre"])
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_every_kind_of_final_norm_and_none_is_the_models_own(backend, kind):
    model = toy(backend, normalization_type=kind)
    assert_last_layer_is_the_models_own(model)
    states, readout = torch.randn(4, 32), shl.Readout(model)
    if kind is None:
        assert torch.equal(readout.normed(states), states)
    normed = readout.normed(states)
    half = shl.Readout(model.to(torch.bfloat16))
    assert half.name == "final in float32"
    torch.testing.assert_close(half.normed(states), normed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_context_of_three_tokens_is_enough_for_the_check(backend):
    assert_last_layer_is_the_models_own(toy(backend, n_ctx=3))


@pytest.mark.parametrize("outputs", [7, 60])
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_model_may_predict_other_tokens_than_it_reads(backend, outputs):
    model = toy(backend, d_vocab_out=outputs)
    lens = assert_last_layer_is_the_models_own(model)
    assert lens.top_ids.shape[-1] == min(10, outputs) and shl.LogitLens(model)._top_k == min(10, outputs)
    assert shl.logit_lens(model, IDS, top_k=outputs, progress=False).top_ids.max() == outputs - 1
    assert shl.target_lens(model, IDS, [outputs - 1], progress=False).log_probs.isfinite().all()
    assert shl.metric.log_prob(model, outputs - 1)(torch.zeros(1, outputs)).isfinite().all()
    table = shl.LanguageTable(("x",), torch.ones(50, 1), "of what the model reads")
    for call, message in (
        (lambda: shl.logit_lens(model, IDS, top_k=outputs + 1, progress=False), f"vocabulary's {outputs}, got"),
        (lambda: shl.target_lens(model, IDS, [outputs], progress=False), f"vocabulary of {outputs}"),
        (lambda: shl.metric.log_prob(model, outputs), f"vocabulary of {outputs}"),
        (lambda: shl.language_mass(model, IDS, table, progress=False), f"vocabulary has {outputs}"),
    ):
        with pytest.raises(SemhubError, match=message):
            call()


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_token_that_is_predicted_but_cannot_be_read_ends_generation_in_words(backend):
    model = toy(backend, d_vocab_out=60)
    with torch.no_grad():
        model.W_U.zero_()
        model.W_U[0, 50:55], model.W_U[0, 55:] = 1, -1
    assert 50 <= shl.generate(model, IDS, max_new_tokens=1, progress=False).token_ids[0][0] < 60
    with pytest.raises(Unfit, match=r"predicts token 5\d, but reads 50 tokens"):
        shl.generate(model, IDS, max_new_tokens=2, progress=False)


NO_HOOK = {
    "openai_gpt": ("never fires", "OpenAIGPT", "OpenAIGPTLMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "t5": (
        "has no hook point", "T5", "T5ForConditionalGeneration",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    ),
    "opt with a projection": (
        "32 entries, its unembedding takes 16", "OPT", "OPTForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64, "num_attention_heads": 4, "word_embed_proj_dim": 16},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_HOOK)
def test_a_host_whose_last_state_cannot_be_read_out_is_refused_in_words(name):
    message, kind, head, options = NO_HOOK[name]
    model = wrapped(kind, head, **options)
    for call in (shl.Readout, lambda m: shl.logit_lens(m, IDS, progress=False), shl.LogitLens):
        with pytest.raises(Unfit, match=message):
            call(model)


@pytest.mark.parametrize(("kind", "options"), [("opt", {"do_layer_norm_before": False}), ("bert", {})])
def test_a_block_that_norms_what_it_has_added_has_no_state_between_attention_and_mlp(kind, options):
    """transformer-lens has the state behind the MLP under that name; an edit of it lost its axes in OPT's own code."""
    more = {"word_embed_proj_dim": 16} if kind == "opt" else {}
    model, seen = models.host(kind, **options, **more), []
    names = ["blocks.1.hook_mlp_out", "blocks.1.hook_resid_mid"]
    model.run_with_hooks(IDS.ids[None], fwd_hooks=[(name, lambda a, hook: seen.append(hook.name)) for name in names])
    assert seen == ["blocks.1.mlp.out.hook_out", "blocks.1.ln2.hook_in"]
    edits = shl.at(1, shl.hooks.add(torch.ones(32)), site="resid_mid")
    for call in (
        lambda: shl.residual_stream(model, IDS, hooks=edits, progress=False),
        lambda: shl.Capture(model, site="resid_mid"),
        lambda: shl.patch_grid(model, IDS, IDS, lambda logits: logits[:, 0], site="resid_mid", progress=False),
    ):
        with pytest.raises(Unfit, match="after the MLP"):
            call()
    watched = shl.at(1, lambda activation, hook: None, site="attn_out")
    assert shl.residual_stream(model, IDS, hooks=watched, progress=False).isfinite().all()


def replaced(model, backend):
    new = torch.randn(model.W_U.shape, generator=torch.Generator().manual_seed(5))
    if backend == "hooked":
        model.unembed.W_U = torch.nn.Parameter(new)
    else:
        model.unembed.original_component.weight = torch.nn.Parameter(new.T.contiguous())


def test_a_host_that_leaves_out_layers_while_it_trains_is_checked_with_all_of_them():
    options = {"hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64, "num_attention_heads": 4}
    model = wrapped("OPT", "OPTForCausalLM", word_embed_proj_dim=32, layerdrop=1.0, **options)
    expected = shl.logit_lens(model, IDS, progress=False)
    other = wrapped("OPT", "OPTForCausalLM", word_embed_proj_dim=32, layerdrop=1.0, **options)
    other.original_model.train()
    found = shl.logit_lens(other, IDS, progress=False)
    assert torch.equal(found.top_logprobs, expected.top_logprobs)
    assert other.original_model.training and shl.check(other).sound


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_read_out_made_before_its_weights_were_replaced_reads_the_new_ones(backend):
    model = models.tiny(backend)
    probe, readout = shl.LogitLens(model, top_k=3), shl.Readout(model)
    tokens = shl.Prompt.from_text(model, "three plus two").ids[None]
    model.run_with_hooks(tokens, fwd_hooks=probe.hooks)
    before = probe.result().top_ids, shl.logit_lens(model, "three plus two", readout=readout, progress=False).top_ids
    replaced(model, backend)
    with torch.no_grad():
        own = model.run_with_hooks(tokens, fwd_hooks=probe.hooks)[0].argmax(-1)
    again = shl.logit_lens(model, "three plus two", readout=readout, progress=False)
    assert own.tolist() == probe.result().top_ids[-1, :, 0].tolist() == again.top_ids[-1, :, 0].tolist()
    assert not any(torch.equal(ids[-1, :, 0], own) for ids in before), "both were read before, too"
    states = torch.randn(4, 32)
    (model.unembed.b_U if backend == "hooked" else model.unembed.original_component.bias).data = torch.randn(
        model.cfg.d_vocab
    )
    assert torch.equal(readout(states), shl.Readout(model)(states))


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_bare_read_out_made_before_its_weights_were_folded_is_refused(backend):
    model = models.tiny(backend)
    readout = shl.Readout(model, norm="none")
    if backend == "hooked":
        model.process_weights_(fold_ln=True, center_writing_weights=False, center_unembed=True)
    else:
        model.enable_compatibility_mode()
    with pytest.raises(SemhubError, match="needs raw weights, but these are folded"):
        readout(torch.randn(4, 32))
