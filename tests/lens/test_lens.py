"""The logit lens, its kernel and language mass against plain definitions."""

from types import SimpleNamespace

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

import models
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.tokens import target_ids
from semhub_lens.lens import kernel, vocabulary_sums

TEXT = "three plus two equals red dog"
TEXTS = ["three plus two equals", "chat", "red house perro dog is"]


def lens(model, prompt=TEXT, **settings):
    return shl.logit_lens(model, prompt, progress=False, **settings)


def hf_states(hf, ids):
    """Residual states [layer pos d_model] before the final norm, and the model's log-probabilities."""
    last = []
    handle = hf.model.layers[-1].register_forward_hook(
        lambda module, args, out: last.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    with torch.no_grad():
        out = hf(ids[None], output_hidden_states=True)
    handle.remove()
    return torch.stack([*(h[0] for h in out.hidden_states[:-1]), last[0][0]]), out.logits[0].log_softmax(-1)


def plain_lens(hf, ids, norm="final"):
    """Log-probabilities [layer pos vocab] by the definition of the lens."""
    states, _ = hf_states(hf, ids)
    with torch.no_grad():
        return hf.lm_head(hf.model.norm(states) if norm == "final" else states).log_softmax(-1)


def capped(backend, cap):
    """A tiny model whose own logits are soft-capped."""
    if backend == "hooked":
        model = models.tiny("hooked")
        model.cfg.output_logits_soft_cap = cap
        return model
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=3 + 2 * len(models.WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64, initializer_range=0.3,
        final_logit_softcapping=cap, query_pre_attn_scalar=8, bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )  # fmt: skip
    hf = Gemma2ForCausalLM(config).eval()
    return build_bridge_from_module(
        hf, "Gemma2ForCausalLM", hf_config=hf.config, tokenizer=models.tiny_tokenizer()
    ).eval()


def random_case(seed=0, layers=4, positions=7):
    """States, target sets (one repeated token, one of several) and a table of random languages."""
    random = torch.Generator().manual_seed(seed)
    states = torch.randn(layers, positions, 32, generator=random)
    vocab = 3 + 2 * len(models.WORDS)
    targets = [
        [tuple(torch.randperm(vocab, generator=random)[: 1 + (p + t) % 4].tolist()) for t in range(3)]
        for p in range(positions)
    ]
    return states, targets, torch.rand(vocab, 5, generator=random).softmax(-1)


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_last_layer_of_the_lens_is_the_models_own_log_softmax(backend, dtype, bound):
    model = models.tiny(backend, dtype=dtype)
    ids = shl.Prompt.from_text(model, TEXT).ids
    found = lens(model, top_k=model.cfg.d_vocab)
    with torch.no_grad():
        own = model(ids[None])[0].float().log_softmax(-1).cpu()
    torch.testing.assert_close(found.top_logprobs[-1], own.gather(-1, found.top_ids[-1]), atol=bound, rtol=0)


@pytest.mark.real
def test_the_last_layer_of_the_lens_is_gemmas_own_log_softmax(gemma):
    ids = shl.Prompt.from_text(gemma, "El cielo es").ids
    found = lens(gemma, "El cielo es", top_k=20)
    with torch.no_grad():
        own = gemma(ids[None])[0].float().log_softmax(-1).cpu()
    assert (found.top_logprobs[-1] - own.gather(-1, found.top_ids[-1])).abs().max() < 2e-3
    assert found.top_ids[-1, :, 0].tolist() == own.argmax(-1).tolist()


@pytest.mark.parametrize("norm", ["final", "none"])
def test_the_whole_lens_is_the_plain_definition(tiny_model, norm):
    ids = shl.Prompt.from_text(tiny_model, TEXT).ids
    expected = plain_lens(models.tiny_llama(), ids, norm)
    found = lens(tiny_model, top_k=tiny_model.cfg.d_vocab, norm=norm)
    assert found.token_ids.tolist() == ids.tolist()
    close = {"atol": 2e-5, "rtol": 1e-5}
    torch.testing.assert_close(found.top_logprobs, expected.gather(-1, found.top_ids), **close)
    torch.testing.assert_close(found.entropy, -(expected.exp() * expected).sum(-1), **close)
    kl = (expected[-1].exp() * (expected[-1] - expected)).sum(-1)
    torch.testing.assert_close(found.kl_to_final, kl, **close)
    assert kl[0].min() > 0.1, "the layers of the test model must differ"


@pytest.mark.skipif(models.HOOKED_LINE, reason="transformer_lens.tools.analysis.logit_lens came with 4.x")
def test_the_lens_equals_that_of_transformer_lens(tiny_model):
    from transformer_lens.tools.analysis import logit_lens as theirs

    ids = shl.Prompt.from_text(tiny_model, TEXT).ids
    values = theirs(tiny_model, ids[None], positions=None, return_type="log_probs").values[:, 0].cpu()
    ours = lens(tiny_model, top_k=tiny_model.cfg.d_vocab)
    torch.testing.assert_close(ours.top_logprobs, values.gather(-1, ours.top_ids), atol=1e-5, rtol=0)


def reduced(*case, **settings):
    return SimpleNamespace(**kernel.reduce_logits(*case, **settings))


@pytest.mark.parametrize("columns", [(8, 8), (32, 96), (2048, 4096)])
@pytest.mark.parametrize("entries", [1, 200, 1 << 24])
def test_the_kernel_equals_a_plain_log_softmax_whatever_its_block_size(tiny_model, monkeypatch, entries, columns):
    monkeypatch.setattr(kernel, "PIECE_ENTRIES", entries)
    monkeypatch.setattr(kernel, "COLUMNS", columns)
    readout = shl.Readout(tiny_model)
    states, targets, table = random_case()
    got = reduced(readout, states, [*kernel.QUANTITIES], top_k=5, targets=targets, table=table)
    with torch.no_grad():
        logprobs = readout(states).double().log_softmax(-1)
    top = logprobs.topk(5, dim=-1)
    close = {"atol": 1e-5, "rtol": 0, "check_dtype": False}
    assert torch.equal(got.top_ids, top.indices)
    torch.testing.assert_close(got.top_logprobs, top.values, **close)
    torch.testing.assert_close(got.entropy, -(logprobs.exp() * logprobs).sum(-1), **close)
    torch.testing.assert_close(got.kl_to_final, (logprobs[-1].exp() * (logprobs[-1] - logprobs)).sum(-1), **close)
    torch.testing.assert_close(got.mass, logprobs.exp() @ table.double(), **close)
    for position, sets in enumerate(targets):
        for target, ids in enumerate(sets):
            summed = logprobs[:, position, list(ids)].exp().sum(-1).log()
            torch.testing.assert_close(got.targets[:, position, target], summed, **close)


@pytest.mark.parametrize(("layers", "entries"), [(None, 1 << 24), (None, 200), ([2, 0], 200), ([1, 3], 1)])
def test_every_state_is_read_once_whatever_the_layers_and_the_block_size(tiny_model, monkeypatch, layers, entries):
    monkeypatch.setattr(kernel, "WHOLE_ENTRIES", entries)
    states, targets, table = random_case()
    settings = {"top_k": 5, "targets": targets, "table": table}
    whole = kernel.reduce_logits(shl.Readout(tiny_model), states, [*kernel.QUANTITIES], **settings)
    read = []

    class Counting(shl.Readout):
        def __call__(self, states, layer=None, tokens=None):
            read.append(states.shape[:-1].numel())
            return super().__call__(states, layer, tokens)

    got = kernel.reduce_logits(Counting(tiny_model), states, [*kernel.QUANTITIES], layers=layers, **settings)
    for name, values in got.items():
        torch.testing.assert_close(values, whole[name] if layers is None else whole[name][layers])
    final = 0 if layers is None or 3 in layers else 7
    assert sum(read) == 7 * len(layers or range(4)) + final, "the final layer has no product of its own if it is read"


def test_sums_of_vanishing_probabilities_stay_finite(tiny_model):
    readout = shl.Readout(tiny_model, norm="none")
    states, targets, _ = random_case()
    got = reduced(readout, 100 * states, ["targets"], targets=targets).targets
    with torch.no_grad():
        logprobs = readout(100 * states).double().log_softmax(-1)
    expected = [[logprobs[:, p, list(ids)].logsumexp(-1) for ids in sets] for p, sets in enumerate(targets)]
    expected = torch.stack([torch.stack(row, -1) for row in expected], 1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-3, check_dtype=False)
    assert expected.min() < -200, "float32 cannot hold the exponential of this"


def test_the_kernel_leaves_out_what_was_not_asked_for(tiny_model):
    states, targets, table = random_case()
    settings = {"top_k": 5, "targets": targets, "table": table}
    readout = shl.Readout(tiny_model)
    full = kernel.reduce_logits(readout, states, [*kernel.QUANTITIES], **settings)
    for name in kernel.QUANTITIES:
        alone = kernel.reduce_logits(readout, states, [name], **settings)
        assert list(alone) == [name] and torch.equal(alone[name], full[name])


@pytest.mark.parametrize("name, message", [("targets", "needs targets="), ("mass", "needs table="), ("x", "'entropy'")])
def test_the_kernel_says_what_a_quantity_needs(tiny_model, name, message):
    with pytest.raises(SemhubError, match=message):
        kernel.reduce_logits(shl.Readout(tiny_model), random_case()[0], [name])


def test_a_new_quantity_is_one_entry(tiny_model, monkeypatch, tmp_path):
    def margin(block):
        best = block.logits.topk(2, dim=-1).values
        return best[:, 0] - best[:, 1]

    monkeypatch.setitem(kernel.QUANTITIES, "margin", margin)
    full = lens(tiny_model, top_k=2)
    found = lens(tiny_model, quantities=["margin"])
    torch.testing.assert_close(found.margin, full.top_logprobs[..., 0] - full.top_logprobs[..., 1], atol=1e-5, rtol=0)
    again = shl.LensResult.load(found.save(tmp_path / "x"))
    assert torch.equal(again.margin, found.margin)
    assert again.to_frame().loc[1, "margin"] == found.margin[0, 1] and "rank" not in again.to_frame()
    with pytest.raises(SemhubError, match="'entropy' was not measured: request it with quantities="):
        again.entropy
    with pytest.raises(AttributeError):
        again.entropi
    probe = shl.LogitLens(tiny_model, quantities=["margin"])
    tiny_model.run_with_hooks(TEXT, fwd_hooks=probe.hooks)
    torch.testing.assert_close(probe.result().margin, found.margin, atol=1e-5, rtol=0)


def test_a_quantity_may_be_a_view_of_the_logits_and_sees_the_final_layer_where_it_is_kept(tiny_model, monkeypatch):
    seen = []

    def column(block):
        seen.append(block.last)
        return block.logits[:, 5]

    monkeypatch.setattr(kernel, "PIECE_ENTRIES", 200)  # several blocks
    monkeypatch.setitem(kernel.QUANTITIES, "column", column)
    readout, (states, _, _) = shl.Readout(tiny_model), random_case()
    found = kernel.reduce_logits(readout, states, ["column"])["column"]
    torch.testing.assert_close(found, readout(states)[..., 5].detach().cpu(), atol=1e-5, rtol=0)
    assert seen and not any(seen)
    seen.clear()
    kernel.reduce_logits(readout, states, ["column", "kl_to_final"])
    assert all(isinstance(last, vocabulary_sums.Sums) for last in seen)


def test_kl_is_zero_at_the_last_layer_and_nowhere_negative(tiny_model):
    found = lens(tiny_model)
    assert found.kl_to_final[-1].max() < 1e-6
    assert found.kl_to_final.min() >= 0
    assert found.kl_to_final[:-1].min() > 1e-3


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_soft_cap_is_applied(backend):
    model = capped(backend, 1.5)
    ids = shl.Prompt.from_text(model, TEXT).ids
    readout = shl.Readout(model)
    states = shl.residual_stream(model, TEXT, progress=False)
    with torch.no_grad():
        logits = readout(states[-1, 0])
        torch.testing.assert_close(logits.cpu(), model(ids[None])[0, -1].cpu(), atol=1e-5, rtol=0)
        assert readout(100 * states).abs().max() <= 1.5
        bare = model.unembed(model.ln_final(states[-1][None]))[0, 0]
    assert bare.abs().max() > 1.5, "without the cap the logits must be larger"


def test_an_identity_translator_changes_nothing_and_no_translator_touches_the_last_layer(tiny_model):
    plain = lens(tiny_model)
    same = lens(tiny_model, readout=shl.Readout(tiny_model, translator=lambda states, layer: states))
    assert torch.equal(same.top_logprobs, plain.top_logprobs)
    final = shl.residual_stream(tiny_model, TEXT, read=-1, progress=False)[-1, 0]
    seen = []

    def to_final(states, layer):
        seen.append(layer)
        return final.expand_as(states)

    bent = lens(tiny_model, readout=shl.Readout(tiny_model, translator=to_final))
    assert set(seen) == set(range(tiny_model.cfg.n_layers))
    assert torch.equal(bent.top_logprobs[-1], plain.top_logprobs[-1])
    expected = plain.top_logprobs[-1, -1].expand_as(bent.top_logprobs[:, -1])
    torch.testing.assert_close(bent.top_logprobs[:, -1], expected)
    assert bent.kl_to_final[:, -1].max() < 1e-5 < bent.kl_to_final[0, 1]
    assert bent.provenance.norm == "final + translator"


def test_the_probe_reads_a_run_of_the_users_own_with_earlier_edits(tiny_model):
    prompt = shl.Prompt.from_text(tiny_model, TEXT)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    edits = shl.at(2, shl.hooks.add(direction, positions=2))
    probe = shl.LogitLens(tiny_model)
    tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=edits + probe.hooks)
    got, expected = probe.result(tokens=prompt), lens(tiny_model, hooks=edits)
    torch.testing.assert_close(got.top_logprobs, expected.top_logprobs, atol=1e-5, rtol=0)
    assert got.labels == expected.labels
    clean = lens(tiny_model)
    changed = (expected.entropy - clean.entropy).abs() > 1e-5
    assert changed.nonzero().tolist() == [[2, 2], *([3, pos] for pos in range(2, len(prompt)))]
    assert probe.result().labels[2] == "#2"


def test_target_lens_sums_the_probabilities_of_a_words_variants(tiny_model):
    word_ids = tiny_model.tokenizer.convert_tokens_to_ids(["two", "▁two", "dog", "▁dog"])
    got = shl.target_lens(tiny_model, TEXTS, [["two", word_ids[0], ["two", "dog"]]] * 3, progress=False)
    for item, text in enumerate(TEXTS):
        logprobs = plain_lens(models.tiny_llama(), shl.Prompt.from_text(tiny_model, text).ids)[:, -1]
        sets = (word_ids[:2], word_ids[:1], word_ids)
        expected = torch.stack([logprobs[:, ids].exp().sum(-1).log() for ids in sets], -1)
        torch.testing.assert_close(got.log_probs[:, item], expected, atol=2e-5, rtol=0)
    assert got.names[0] == ("two", str(word_ids[0]), "['two', 'dog']")


def test_target_lens_reads_listed_positions_in_their_order(tiny_model):
    one = [shl.target_lens(tiny_model, TEXTS[0], ["dog"], read_at=p, progress=False).log_probs for p in (3, 1)]
    span = shl.Prompt.from_text(tiny_model, TEXTS[2], spans={"animal": "perro dog"})
    last = shl.target_lens(tiny_model, span, ["dog"], read_at="animal:last", progress=False).log_probs
    together = shl.target_lens(
        tiny_model, [TEXTS[0], TEXTS[1], span], ["dog"] * 3, read_at=[[3, 1], [], [-2]], progress=False
    )
    torch.testing.assert_close(together.log_probs, torch.cat([*one, last], dim=1), atol=1e-5, rtol=0)


def test_language_mass_is_the_mean_over_positions_without_bos_and_sums_to_one(tiny_model):
    table = shl.script_table(tiny_model)
    got = shl.language_mass(tiny_model, TEXTS, table, progress=False)
    hf = models.tiny_llama()
    prompts = [shl.Prompt.from_text(tiny_model, text) for text in TEXTS]
    masses = [plain_lens(hf, prompt.ids)[:, 1:].exp() @ table.weights for prompt in prompts]
    for item, mass in enumerate(masses):
        torch.testing.assert_close(got.item_mass[:, item], mass.mean(1), atol=1e-5, rtol=0)
    assert got.positions.tolist() == [len(p) - 1 for p in prompts]
    torch.testing.assert_close(got.mass, torch.cat(masses, dim=1).mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(got.item_mass.sum(-1), torch.ones(4, 3), atol=1e-5, rtol=0)
    assert got.item_mass[0].std(0).max() > 1e-3, "the items must differ"


def test_strings_and_the_table_show_the_same_tokens(tiny_model):
    found = lens(tiny_model, top_k=2)
    row = found.to_frame().set_index(["layer", "pos", "rank"]).loc[2, 3, 1]
    assert row["id"] == found.top_ids[2, 3, 1]
    assert row["token"] == found.strings()[2][3][1] == shl.printable(tiny_model.tokenizer, [int(row["id"])])[0]
    assert (row["logprob"], row["entropy"]) == (found.top_logprobs[2, 3, 1].item(), found.entropy[2, 3].item())
    assert row["input"] == found.labels[3] == "␣two"


def test_targets_that_share_a_token_are_reported(tiny_model):
    found = shl.target_lens(
        tiny_model, ["three plus"] * 2, [["two", "five", " two"], ["two", "red", "dog"]], progress=False
    )
    assert found.collisions == ((0, 0, 2),)


def test_common_targets_are_read_as_if_every_item_named_them(tiny_model):
    prompts, common = ["three plus two", "red dog"], ["red", ["dog", "cat"], 5]
    own = [["two"], ["red"]]
    found = shl.target_lens(tiny_model, prompts, own, common=common, progress=False)
    named = shl.target_lens(tiny_model, prompts, [[*row, *common] for row in own], progress=False)
    torch.testing.assert_close(found.log_probs, named.log_probs)
    assert found.to_frame()["name"].tolist() == named.to_frame()["name"].tolist()
    assert found.name(1, 0) == "red" and found.name(1, 3) == "5" and found.collisions == named.collisions
    only = shl.target_lens(tiny_model, prompts, common=common, progress=False)
    torch.testing.assert_close(only.log_probs, named.log_probs[..., 1:])
    figure = shl.figure(only)
    assert next(trace.name for trace in figure.data if trace.showlegend is not False) == "red"


def test_common_targets_that_share_a_token_are_reported_once(tiny_model):
    found = shl.target_lens(
        tiny_model, ["three"] * 2, [["two"], ["red"]], common=["dog", " dog", "two"], progress=False
    )
    assert found.collisions == ((-1, 1, 2), (0, 0, 3))
    for wrong in ({"common": "dog"}, {}):
        with pytest.raises(SemhubError, match=r"common= takes a list|targets"):
            shl.target_lens(tiny_model, ["three"], progress=False, **wrong)


def test_the_same_targets_at_many_positions_are_tokenized_once(tiny_model, monkeypatch):
    seen = []

    def counted(tokenizer, target, **options):
        seen.append(target)
        return target_ids(tokenizer, target, **options)

    monkeypatch.setattr("semhub_lens.lens.targets.target_ids", counted)
    shl.target_lens(tiny_model, ["three plus two"], [["two", ["red", "dog"]]] * 3, read_at=[[0, 1, 2]], progress=False)
    assert seen == ["two", ("red", "dog")]
    with pytest.raises(ValueError, match="True"):  # equal to the id 1, but no id
        shl.target_lens(tiny_model, ["three plus"], [[1, True]], progress=False)


def test_targets_alone_are_the_same_and_nothing_else_is_there(tiny_model):
    prompts, targets = ["three plus two", "red dog"], [["five", "one"], ["cat", "blue"]]
    full, short = (
        shl.target_lens(tiny_model, prompts, targets, progress=False, **settings)
        for settings in ({}, {"quantities": ()})
    )
    torch.testing.assert_close(short.log_probs, full.log_probs, atol=0, rtol=0)
    for name in ("entropy", "kl_to_final"):
        with pytest.raises(SemhubError, match=f"{name}.* was not measured"):
            getattr(short, name)
    assert torch.isfinite(full.entropy).all() and torch.isfinite(full.kl_to_final).all()


@pytest.mark.parametrize("norm", ["final", "none", "paper"])
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_contrast_is_the_full_read_out_less_its_mean_with_a_bias_and_a_soft_cap(backend, norm):
    model = capped(backend, 1.5)
    if getattr(model, "b_U", None) is not None and backend == "hooked":
        with torch.no_grad():
            model.unembed.b_U.copy_(torch.linspace(-2, 2, model.cfg.d_vocab))
    own, common = [["two", "five"], ["red", ["dog", "cat"]], [7, "blue"]], ["one", 9, ["two", 11]]
    settings = {"common": common, "read_at": [[3, 1], [], [-2]], "progress": False}
    settings["readout"] = shl.Readout(model, norm=norm)
    full = shl.target_lens(model, TEXTS, own, **settings)
    found = shl.target_lens(model, TEXTS, own, contrast=True, **settings)
    expected = full.log_probs - full.log_probs.mean(-1, keepdim=True)
    torch.testing.assert_close(found.log_probs, expected, atol=1e-5, rtol=0)
    assert found.contrast and found.names == full.names and found.collisions == full.collisions
    model.cfg.output_logits_soft_cap = None
    bare = shl.target_lens(model, TEXTS, own, contrast=True, **settings)
    assert (bare.log_probs - expected).abs().max() > 0.1, "the cap must matter"


def test_a_contrast_reads_only_the_columns_it_compares(tiny_model, monkeypatch):
    read = []

    def counted(self, states, layer=None, tokens=None):
        read.append(self.d_vocab if tokens is None else len(tokens))
        return whole(self, states, layer, tokens)

    whole = shl.Readout.__call__
    monkeypatch.setattr(shl.Readout, "__call__", counted)
    shl.target_lens(tiny_model, TEXTS, common=["two", "dog"], variants="exact", contrast=True, progress=False)
    assert read == [2], "two columns, once for all layers"


@pytest.mark.parametrize("wrong", [{"quantities": ["entropy"]}, {"common": ["two"]}])
def test_a_contrast_of_one_word_or_with_other_quantities_is_refused(tiny_model, wrong):
    with pytest.raises(SemhubError, match="contrast=True"):
        shl.target_lens(tiny_model, ["three"], **({"common": ["two", "dog"]} | wrong), contrast=True, progress=False)
