"""Direct logit attribution against a sum by hand in float64 and against transformer-lens's own tool."""

import dataclasses

import pytest
import torch

import models
import semhub_lens as shl

TEXT = "three plus two"


def by_hand(model, position, token):
    """Parts of the logit of a Llama: (e, attention, MLP) · gain / rms · W_U, from the cached writes."""
    _, cache = model.run_with_cache(shl.Prompt.from_text(model, TEXT).ids[None])
    blocks = model.cfg.n_layers
    final = cache[f"blocks.{blocks - 1}.hook_resid_post"][0, position].double()
    gain = next(value for name, value in model.ln_final.named_parameters() if name.split(".")[-1] in ("w", "weight"))
    rms = (final.square().mean() + float(model.cfg.eps)).sqrt()
    towards = gain.detach().double() / rms * model.W_U[:, token].detach().double()
    one = [cache["blocks.0.hook_resid_pre"][0, position].double() @ towards]
    attention = [cache[f"blocks.{b}.hook_attn_out"][0, position].double() @ towards for b in range(blocks)]
    mlp = [cache[f"blocks.{b}.hook_mlp_out"][0, position].double() @ towards for b in range(blocks)]
    return [torch.stack(part).float() for part in (one, attention, mlp)], float(final @ towards)


@pytest.mark.parametrize("position", [-1, 1])
def test_every_part_is_that_of_a_sum_by_hand(tiny_model, position):
    found = shl.direct_attribution(tiny_model, TEXT, token=["five", 7], position=position)
    for i, token in enumerate(found.token_ids):
        (one, attention, mlp), logit = by_hand(tiny_model, position, token)
        assert torch.allclose(found.embedding[i], one[0], atol=2e-5)
        assert torch.allclose(found.attention[i], attention, atol=2e-5)
        assert torch.allclose(found.mlp[i], mlp, atol=2e-5)
        assert float(found.logits[i] - found.bias[i]) == pytest.approx(logit, abs=1e-4)
    assert found.unexplained.abs().max() < 1e-4
    assert found.texts == ("five", "three" if found.texts[1] == "three" else found.texts[1])
    frame = found.to_frame()
    assert frame.groupby("id")["logit"].sum()[7] == pytest.approx(float(found.logits[1]), abs=1e-4)


@pytest.mark.skipif(models.HOOKED_LINE, reason="transformer-lens 3.9 has no such tool")
def test_the_parts_are_those_of_the_tool_of_transformer_lens():
    from transformer_lens.tools.analysis import direct_logit_attribution

    model = models.tiny("bridge", seed=3)
    model.enable_compatibility_mode()
    ids = shl.Prompt.from_text(model, TEXT).ids
    theirs = direct_logit_attribution(model, ids[None], answer_tokens=7, unit="component")
    named = dict(zip(theirs.labels, theirs.attribution[:, 0].tolist(), strict=True))
    ours = shl.direct_attribution(model, TEXT, token=7)
    assert float(ours.embedding[0]) == pytest.approx(named["embed"], abs=2e-5)
    for block in range(model.cfg.n_layers):
        assert float(ours.attention[0, block]) == pytest.approx(named[f"{block}_attn_out"], abs=2e-5)
        assert float(ours.mlp[0, block]) == pytest.approx(named[f"{block}_mlp_out"], abs=2e-5)


def test_heads_are_those_of_transformer_lens_and_sum_to_their_attention(tiny_model):
    found = shl.direct_attribution(tiny_model, TEXT, token=["five", 7], position=1, by_head=[2, 0])
    _, cache = tiny_model.run_with_cache(shl.Prompt.from_text(tiny_model, TEXT).ids[None])
    stacked = cache.stack_head_results(pos_slice=1)[:, 0].double()
    final = cache[f"blocks.{tiny_model.cfg.n_layers - 1}.hook_resid_post"][0, 1].double()
    gain = next(v for name, v in tiny_model.ln_final.named_parameters() if name.split(".")[-1] in ("w", "weight"))
    rms = (final.square().mean() + float(tiny_model.cfg.eps)).sqrt()
    towards = (gain.double()[:, None] / rms * tiny_model.W_U[:, list(found.token_ids)].double()).detach()
    wanted = (stacked.detach() @ towards).reshape(tiny_model.cfg.n_layers, -1, 2)
    for place, block in enumerate((2, 0)):
        assert torch.allclose(found.heads[:, place], wanted[block].T.float(), atol=2e-5)
    assert found.heads.abs().min() > 1e-4 and found.beside_heads.abs().max() < 2e-5
    frame = found.to_frame().query("id == 7 and part == 'head' and block == 2")
    assert torch.allclose(torch.tensor(frame["logit"].tolist()), found.heads[1, 0])
    assert frame["head"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "options"), [("gemma3_both_ways", {"use_bidirectional_attention": False}), ("olmo2", {}), ("gpt2", {})]
)
def test_heads_behind_a_norm_sum_to_their_attention_and_a_bias_stands_beside_them(name, options):
    model = models.host(name, **options)
    ids, block = torch.tensor([5, 9, 17, 30]), 1
    bias = model.blocks[block].attn.b_O
    if bias is not None:
        torch.nn.init.uniform_(bias.detach(), 0.5, 1.5)
    found = shl.direct_attribution(model, ids, token=[7, 40], by_head=range(model.cfg.n_layers))
    assert found.heads.shape == (2, model.cfg.n_layers, model.cfg.n_heads)
    size = float(found.attention.abs().max())
    assert size > 0.01 and (found.beside_heads.abs().max() < 1e-4 * size) == (bias is None)
    if bias is not None:
        final = shl.residual_stream(model, shl.Prompt(ids), progress=False)[-1, 0]
        (norm,) = [one for name, one in model.original_model.named_modules() if name.endswith("ln_f")]
        scaled = (bias - bias.mean()) / (final.var(unbiased=False) + norm.eps).sqrt() * norm.weight
        wanted = (scaled @ model.W_U[:, [7, 40]]).detach()
        assert torch.allclose(found.beside_heads[:, block], wanted, atol=1e-4) and wanted.abs().min() > 1e-2


LIKE_LLAMA = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
SCALED = {
    "Granite": ({"logits_scaling": 8.0}, 1 / 8),
    "Cohere": ({"logit_scale": 0.0625}, 1 / 16),
    "FalconH1": ({"lm_head_multiplier": 0.3, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8}, 0.3),
    "Gemma2": ({"final_logit_softcapping": 3.0, "head_dim": 16}, 1.0),
}
"""Kinds of models with their options, and the factor of their logits; a soft cap is none."""


@pytest.mark.parametrize("kind", SCALED)
def test_parts_are_on_the_scale_of_the_logits(kind, monkeypatch):
    options, factor = SCALED[kind]
    monkeypatch.setitem(models.HOSTS, kind, (kind, LIKE_LLAMA | options))
    model, ids = models.host(kind, pad_token_id=0), torch.tensor([5, 9, 17, 30])
    found = shl.direct_attribution(model, ids, token=[7, 40])
    final = shl.residual_stream(model, shl.Prompt(ids), progress=False)[-1]
    whole = factor * (shl.Readout(model).normed(final) @ model.W_U[:, [7, 40]])[0].detach()
    parts = found.embedding + found.attention.sum(1) + found.mlp.sum(1) + found.bias
    assert torch.allclose(parts, whole, atol=1e-5) and whole.abs().min() > 1e-2
    assert (found.unexplained.abs().max() < 1e-4) == (kind != "Gemma2")


def test_heads_are_scaled_like_what_their_block_writes(monkeypatch):
    """Granite adds a fraction of attention's output to the residual stream."""
    monkeypatch.setitem(models.HOSTS, "Granite", ("Granite", LIKE_LLAMA | {"residual_multiplier": 0.25}))
    model, ids, kept = models.host("Granite"), torch.tensor([5, 9, 17, 30]), []
    found = shl.direct_attribution(model, ids, token=[7, 40], by_head=1)
    model.run_with_hooks(ids[None], fwd_hooks=[("blocks.1.attn.hook_z", lambda z, hook: kept.append(z[0, -1]))])
    final = shl.residual_stream(model, shl.Prompt(ids), progress=False)[-1, 0]
    (norm,) = [one for name, one in model.original_model.named_modules() if name.endswith("model.norm")]
    towards = model.W_U[:, [7, 40]] * (norm.weight / (final.square().mean() + norm.variance_epsilon).sqrt())[:, None]
    wanted = 0.25 * torch.einsum("hd,hdm,mt->th", kept[0].reshape(4, 8), model.blocks[1].attn.W_O, towards)
    assert torch.allclose(found.heads[:, 0], wanted.detach(), atol=1e-5) and wanted.abs().max() > 1e-2
    assert torch.allclose(found.heads.sum(-1), found.attention[:, [1]], atol=1e-5)


def test_heads_that_do_not_sum_are_refused(tiny_model):
    edit = shl.at(1, shl.hooks.add(torch.ones(32)), site="attn_out")
    shl.direct_attribution(tiny_model, TEXT, token=7, by_head=[0, 2], hooks=edit)
    with pytest.raises(shl.Unfit, match="heads of block 1 do not add up"):
        shl.direct_attribution(tiny_model, TEXT, token=7, by_head=1, hooks=edit)


def test_without_a_token_it_is_the_most_probable_one(tiny_model):
    lens = shl.logit_lens(tiny_model, TEXT, progress=False)
    assert shl.direct_attribution(tiny_model, TEXT).token_ids == (int(lens.top_ids[-1, -1, 0]),)


def test_an_intervention_shows_in_what_follows_it(tiny_model):
    hooks = shl.at(2, shl.hooks.add(9 * torch.ones(32)))
    clean, changed = (shl.direct_attribution(tiny_model, TEXT, token=7, hooks=given) for given in ((), hooks))
    assert not torch.equal(clean.logits, changed.logits)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"position": 4}, "has 4 tokens"),
        ({"token": "three plus"}, "single token|several"),
        ({"token": 10**6}, "outside"),
        ({"by_head": 3}, "out of range"),
        ({"by_head": [0, -1]}, "out of range"),
    ],
)
def test_what_cannot_be_attributed_is_refused(tiny_model, settings, match):
    with pytest.raises(shl.SemhubError, match=match):
        shl.direct_attribution(tiny_model, TEXT, **settings)


def test_a_lens_takes_attributions_of_its_own_prompt(tiny_model, tmp_path):
    lens = shl.logit_lens(tiny_model, TEXT, progress=False)
    found = shl.direct_attribution(tiny_model, TEXT, token=["five", "two"], position=2)
    whole = lens.with_attribution(found)
    again = shl.LensResult.load(whole.save(tmp_path / "lens"))
    assert torch.equal(again.attributions[0].attention, found.attention)
    with pytest.raises(shl.SemhubError, match="position 9"):
        lens.with_attribution(dataclasses.replace(found, position=9))
    other = dataclasses.replace(found, provenance=dataclasses.replace(found.provenance, weights="others"))
    with pytest.raises(shl.SemhubError, match="another model"):
        lens.with_attribution(other)
