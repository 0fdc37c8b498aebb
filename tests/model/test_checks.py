"""Runs of hosts that do not batch, pad or cache as a causal model with attention does, against single uncached rows."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers import LlamaForCausalLM
from transformers import __version__ as version
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

import models
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.experiments.job import Job, RunSettings
from semhub_lens.model import checks
from semhub_lens.model.agreement import reference_of
from semhub_lens.model.facts import new_cache
from semhub_lens.model.host import special_layers
from semhub_lens.model.rotary import rope_differs
from semhub_lens.training.frozen import frozen

RENAMED = tuple(map(int, version.split(".")[:2])) >= (5, 24)
"""Whether transformers passes the cache on under its new name."""
MAMBAS = "no" if RENAMED else "not applicable"
"""Whether a cache of Mamba's holds: with the new name it takes one, and cached steps are off."""
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


@pytest.mark.parametrize("name", [*STATE_SPACE, "recurrent_gemma", "phi3_longrope", "llama_dynamic", "bloom", "mpt"])
def test_a_batch_continues_as_each_row_does_alone_without_a_cache(name):
    model = models.host(name)
    model.cfg.n_ctx = 64  # of a scaled rotary, past the length that it was trained at
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


def test_no_cache_is_kept_where_every_new_token_rescales_the_rotary_positions():
    model = models.host("llama_dynamic")
    model.cfg.n_ctx = 64  # past the trained length, which is what this scaling is for
    result = continued(model, PROMPTS[0])
    assert result.token_ids == (alone(model, ROWS[0]),)
    assert result.provenance.notes == ("batches of equal length", "no cache: its rotary scaling changes at 8 tokens")
    with pytest.raises(shl.SemhubError, match="no usable key-value cache"):
        continued(model, PROMPTS[2], use_cache=True)
    assert continued(model, PROMPTS[1]).provenance.notes == ()


DYNAMIC = {
    "llama_dynamic": {},
    "gemma3_both_ways": {
        "use_bidirectional_attention": False,
        "max_position_embeddings": 8,
        "rope_parameters": {
            "full_attention": {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    },
}
"""Hosts whose rotary scale follows the length, in all layers and in some."""


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_longer_text_in_between_changes_no_state(name):
    """The host itself keeps the scale of the longest pass so far."""
    model = models.host(name, **DYNAMIC[name])
    model.cfg.n_ctx = 64
    text, long, short = Prompt.from_ids(range(5, 16)), Prompt.from_ids(range(5, 45)), PROMPTS[1]
    expected = shl.residual_stream(model, text, progress=False)
    for other in (long, short, text):
        shl.residual_stream(model, other, progress=False)
        assert torch.equal(shl.residual_stream(model, text, progress=False), expected)
    together = shl.residual_stream(model, [long, text, short], progress=False)
    torch.testing.assert_close(together[:, 1:2], expected, atol=1e-4, rtol=1e-4)
    fresh = models.host(name, **DYNAMIC[name])
    assert continued(model, text).token_ids == (alone(fresh, text.ids.tolist()),) == continued(model, text).token_ids


@pytest.mark.parametrize("text_config", [False, True])
def test_rotary_scaling_is_found_wherever_a_config_says_it(text_config):
    """For each kind of layer, and in the text part of a multimodal model."""
    kinds = {"full_attention": {"rope_type": "longrope"}, "sliding_attention": {"rope_type": "default"}}
    text = SimpleNamespace(rope_parameters=kinds, original_max_position_embeddings=8)
    text.get_text_config = lambda: text
    config = SimpleNamespace(get_text_config=lambda: text) if text_config else text
    model = SimpleNamespace(original_model=SimpleNamespace(config=config))
    assert rope_differs(model, 4, 9) == 8 and rope_differs(model, 4, 8) is None and rope_differs(model, 9, 20) is None
    kinds["full_attention"] = {"rope_type": "dynamic", "original_max_position_embeddings": 6}
    assert rope_differs(model, 9, 20) == 6
    kinds["full_attention"] = {"rope_type": "linear"}
    assert rope_differs(model, 4, 20) is None


class Looped(LlamaForCausalLM):
    """Reads its own last states again, as models of recurrent depth do."""

    def forward(self, input_ids=None, **settings):
        once = self.model(input_ids=input_ids, **settings).last_hidden_state
        twice = self.model(inputs_embeds=once, attention_mask=settings.get("attention_mask")).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(twice))


def test_a_model_that_runs_its_blocks_in_a_loop_is_refused():
    hf = models.tiny_llama(vocabulary=99)
    hf.__class__ = Looped
    model = models.tiny(hf=hf)
    for call in (
        lambda: shl.residual_stream(model, PROMPTS[0], progress=False),
        lambda: shl.logit_lens(model, PROMPTS[0], progress=False),
        lambda: continued(model, PROMPTS[:1]),
        lambda: shl.patch_grid(model, PROMPTS[0], PROMPTS[3], shl.metric.log_prob(model, 5), progress=False),
    ):
        with pytest.raises(shl.Unfit, match="runs its blocks 2 times in one pass"):
            call()
    assert not shl.check(model).sound


def test_rows_whose_padding_is_not_ignored_are_batched_by_length():
    model = models.host("recurrent_gemma")
    result = continued(model)
    assert result.provenance.notes == ("batches of equal length",)
    assert not checks.left_padding(model).holds and checks.right_padding(model).holds and checks.cache(model).holds


@pytest.mark.parametrize("settings", [{}, {"max_tokens": 4}])
@pytest.mark.parametrize("name", ["bert", "phi3_longrope", "llama_dynamic"])
def test_states_of_a_host_whose_rows_see_their_batch_are_those_of_each_row_alone(name, settings):
    """Not causal, or with rotary positions that are scaled by the longest row."""
    model = models.host(name)
    model.cfg.n_ctx = 64
    together = shl.residual_stream(model, PROMPTS, progress=False, **settings)
    for item, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            _, kept = model.run_with_cache(prompt.ids[None], names_filter=["blocks.1.hook_resid_post"])
        expected = kept["blocks.1.hook_resid_post"][0, -1]
        torch.testing.assert_close(together[-1, item], expected, atol=1e-4, rtol=1e-4)
    assert checks.batch_notes(model, PROMPTS) == ("batches of equal length",)
    assert checks.batch_notes(model, PROMPTS[:1]) == ()


def test_a_plain_decoder_passes_every_check_and_has_no_notes(tiny_model):
    for check in (checks.right_padding, checks.left_padding, checks.cache):
        assert check(tiny_model).error < 1e-5
    assert checks.batch_notes(tiny_model, PROMPTS) == ()
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


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_checks_are_done_again_after_a_buffer_was_written_in_place(backend):
    model = models.tiny(backend)
    fact = checks.right_padding(model)
    buffer = next(one for one in model.buffers() if one.is_floating_point() and one.numel())
    assert checks.right_padding(model) is fact
    with torch.no_grad():
        buffer.mul_(1)
    assert checks.right_padding(model) is not fact


def test_a_cache_whose_steps_have_other_states_is_not_used(monkeypatch):
    """A pass over all tokens is right; only what later passes find in the cache is wrong."""
    model, update = models.tiny("bridge"), DynamicLayer.update

    def exchanged(layer, *given, **named):
        begun = layer.is_initialized
        keys, values = update(layer, *given, **named)
        return keys, values.flip(2) if begun else values

    monkeypatch.setattr(DynamicLayer, "update", exchanged)
    fact, result = checks.cache(model), continued(model)
    assert not fact.holds and fact.error > 0.01
    assert result.token_ids == continued(model, use_cache=False).token_ids
    assert result.provenance.notes == (f"no cache: cached steps are off by {fact.error:.2g}",)


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


def test_one_token_is_continued_as_if_no_other_text_had_run_before():
    """Some blocks of RecurrentGemma keep a state beside the cache, which a first pass of one token would go on from."""
    model, row = models.host("recurrent_gemma"), [40]
    for _ in range(2):
        result = continued(model, Prompt.from_ids(row, bos=False))
        assert result.token_ids == (alone(model, row),) and result.provenance.notes == ()
        continued(model, PROMPTS[2])


def test_a_cache_that_is_wrong_behind_a_first_pass_of_one_token_is_not_used(monkeypatch):
    """Such a pass looks like a step: here it leaves other values than a longer one."""
    model, update, row = models.tiny("bridge"), DynamicLayer.update, [40]

    def once(layer, keys, values, *given, **named):
        first = not layer.is_initialized and keys.shape[2] == 1
        kept = update(layer, keys, values, *given, **named)
        if first:
            layer.values = -layer.values
        return kept

    monkeypatch.setattr(DynamicLayer, "update", once)
    fact, result = checks.cache(model), continued(model, Prompt.from_ids(row, bos=False))
    assert not fact.holds and result.token_ids == (alone(model, row),)
    assert result.provenance.notes == (f"no cache: cached steps are off by {fact.error:.2g}",)


def test_runs_say_that_they_took_prompts_of_equal_length():
    model = models.host("gemma3_both_ways")
    words, said = [[5, 6]] * len(PROMPTS), ("batches of equal length",)
    assert shl.target_lens(model, PROMPTS, words, progress=False).provenance.notes == said
    assert shl.target_lens(model, PROMPTS[:1], words[:1], progress=False).provenance.notes == ()
    table = shl.LanguageTable(("one", "other"), torch.eye(2)[torch.arange(99) % 2], "parity")
    assert shl.language_mass(model, PROMPTS, table, progress=False).provenance.notes == said
    spans = [Prompt.from_ids(row, spans={"word": (1,)}) for row in ROWS]
    patched = shl.concept_patch(model, spans, spans[::-1], [[5, 6]] * 4, names=("a", "b"), seed=0, progress=False)
    assert patched.provenance.notes == said
    assert Job(model=model, settings=RunSettings(n=4)).provenance("rows", ROWS).notes == said


def test_training_behind_a_host_that_is_not_causal_is_refused():
    with pytest.raises(shl.Unfit, match="not causal"), frozen(models.host("bert")):
        pass


def test_a_host_in_training_mode_is_measured_in_evaluation_mode_and_then_trains_on():
    model = models.host("gpt2")
    expected = shl.residual_stream(model, PROMPTS, progress=False), continued(model, temperature=1.0).token_ids
    model.train()
    modules = [*model.modules(), *model.original_model.modules()]
    modes = [module.training for module in modules]
    for _ in range(2):
        assert torch.equal(shl.residual_stream(model, PROMPTS, progress=False), expected[0])
    assert continued(model, temperature=1.0).token_ids == expected[1]
    assert [module.training for module in modules] == modes and any(modes)
    assert "call model.eval()" in finding(shl.check(model), "evaluation mode").runs


def test_a_pass_of_the_users_own_keeps_dropout_under_hooks_of_the_library():
    model = models.host("gpt2").train()
    capture = shl.Capture(model)
    for _ in range(2):
        model.run_with_hooks(
            PROMPTS[0].ids[None], fwd_hooks=[*shl.at(1, shl.hooks.add(torch.ones(32))), *capture.hooks]
        )
    one, other = capture.result(0)[-1], None
    model.run_with_hooks(PROMPTS[0].ids[None], fwd_hooks=capture.hooks)
    other = capture.result(0)[-1]
    assert (one - other).abs().max() > 0.1


@pytest.mark.skipif(RENAMED, reason="transformer-lens's OLMo mixes dtypes with transformers 5.24")
@pytest.mark.parametrize("site", ["resid_pre", "attn_out"])
def test_half_precision_without_a_cache_runs_where_the_host_takes_no_such_switch(site):
    model = models.host("olmo").to(torch.bfloat16)
    pair = PROMPTS[0], Prompt.from_ids([5, 9, 7, 8])
    assert continued(model, use_cache=False).token_ids == continued(model).token_ids
    assert (
        shl.patch_grid(model, *pair, shl.metric.log_prob(model, 5), site=site, progress=False).values.isfinite().all()
    )


def finding(result, what):
    (found,) = [row for row in result.findings if row.what.startswith(what)]
    return found


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_table_of_a_sound_host_says_yes_in_every_row(backend):
    hf = models.tiny_llama(vocabulary=len(models.tiny_tokenizer().get_vocab()))
    reference = reference_of(hf)
    result = shl.check(models.tiny(backend, hf=hf), reference=reference)
    assert {row.verified for row in result.findings} == {"yes"} and result.sound
    assert all(row.figure <= row.tolerance for row in result.findings if row.figure is not None)
    assert finding(result, "log-prob").figure < 1e-4
    assert "read-out: yes" in repr(result) and "<table" in result._repr_mimebundle_()["text/html"]
    assert set(result.to_frame()["what"]) == {row.what for row in result.findings}


def test_a_host_that_is_another_function_than_its_reference_is_not_sound():
    hf = models.tiny_llama(vocabulary=len(models.tiny_tokenizer().get_vocab()))
    model = models.tiny("bridge", seed=1)
    assert not shl.check(model, reference=hf).sound and shl.check(model).sound
    assert finding(shl.check(model), "log-prob").verified == "not verified"
    with pytest.raises(shl.SemhubError, match="inside a TransformerBridge"):
        shl.check(model, reference=model.original_model)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mamba", {"key-value cache": MAMBAS, "plain": "no", "masked": "yes", "padding": "yes"}),
        ("recurrent_gemma", {"key-value cache": "yes", "plain": "no", "masked": "no"}),
        ("gemma3_both_ways", {"padding": "no", "plain": "no", "read-out": "yes"}),
        ("gpt2", {"key-value cache": "yes", "plain": "yes", "raw weights": "yes"}),
    ],
)
def test_the_table_says_what_does_not_hold_and_what_runs_do_then(name, expected):
    result = shl.check(models.host(name))
    assert {what: finding(result, what).verified for what in expected} == expected
    if name == "gemma3_both_ways":
        assert finding(result, "padding").runs == "Only prompts of equal length share a pass."
        assert "Sliding window of" in finding(result, "plain").runs
    if name == "mamba":
        assert "whole text again at every step" in finding(result, "key-value").runs
        assert "state of their own" in finding(result, "plain").runs


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("GPTNeo", {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 9}, ["of 9 tokens"]),
        ("GPTNeo", {"num_layers": 2, "attention_types": [[["global"], 2]], "window_size": 9}, []),
        ("Llama4Text", {"attention_chunk_size": 16}, ["chunks of 16 tokens"]),
        ("RecurrentGemma", {"attention_window_size": 8}, ["window of 8 tokens", "state of their own"]),
        ("MiniMax", {"num_hidden_layers": 2}, ["state of their own"]),
        ("Lfm2", {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}, ["state of their own"]),
        ("GlmMoeDsa", {"index_topk": 4}, ["the 4 best tokens"]),
        ("Qwen2", {"sliding_window": 5, "use_sliding_window": False}, []),
        ("Qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 0}, ["window of 5 tokens"]),
        ("Mistral", {"sliding_window": 7}, ["window of 7 tokens"]),
        ("Llama", {}, []),
    ],
)
def test_layers_that_read_only_some_tokens_are_told_from_the_configuration(kind, options, told):
    """However a family names them."""
    model = SimpleNamespace(original_model=SimpleNamespace(config=getattr(transformers, f"{kind}Config")(**options)))
    found = special_layers(model)
    assert len(found) == len(told) and all(word in one for word, one in zip(told, found, strict=True))


def test_layers_of_a_kind_that_nobody_knows_are_named():
    config = transformers.LlamaConfig()
    config.__dict__["layer_types"] = ["full_attention", "spiral_attention"]
    assert special_layers(SimpleNamespace(original_model=SimpleNamespace(config=config))) == [
        "layers of the kind 'spiral_attention'"
    ]


def test_processed_weights_show_in_the_table():
    model = models.tiny("bridge")
    model.enable_compatibility_mode(disable_warnings=True)
    found = finding(shl.check(model), "raw weights")
    assert found.verified == "no" and "folded" in found.runs
