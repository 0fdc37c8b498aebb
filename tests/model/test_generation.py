"""Generation against TransformerLens and Hugging Face, one prompt at a time, and a slow loop with plain hooks."""

import inspect

import pytest
import torch
from transformers import LlamaForCausalLM

import models
import semhub_lens as shl
from semhub_lens import Prompt, at
from semhub_lens.model.generation import end_tokens

TEXTS = ("three plus two equals", "five", "one two three four five six seven")
SPANS = ({"word": "plus"}, {"word": "five"}, {"word": "three four"})
NEW = 4
OLD_NAME = "past_key_values" in inspect.signature(LlamaForCausalLM.forward).parameters
VECTOR = 4 * torch.randn(32, generator=torch.Generator().manual_seed(1))
NAME = "blocks.1.hook_resid_pre"
INDEX = torch.tensor([[0, -1], [1, 1], [2, 5]])
MASK = torch.zeros(3, 8, dtype=torch.bool)
MASK[0, 1] = MASK[1, 0] = MASK[2, 7] = MASK[2, 2] = True

SPECS = {  # what a user passes; the same as a function (prompt, its index, tokens so far) -> positions
    "everywhere": (None, lambda p, i, seen: range(seen)),
    "slice": (slice(0, 2), lambda p, i, seen: range(2)),
    "open slice": (slice(1, None), lambda p, i, seen: range(1, seen)),
    "slice from the end": (slice(-2, None), lambda p, i, seen: range(max(0, len(p) - 2), seen)),
    "int": (1, lambda p, i, seen: [1]),
    "negative int": (-1, lambda p, i, seen: [len(p) - 1]),
    "list": ([1, 0], lambda p, i, seen: [1, 0]),
    "index tensor per prompt": (INDEX, lambda p, i, seen: [x % len(p) for x in INDEX[i].tolist()]),
    "mask": (MASK, lambda p, i, seen: MASK[i].nonzero()[:, 0].tolist()),
    "span": ("word", lambda p, i, seen: p.spans["word"]),
    "generated": ("generated", lambda p, i, seen: range(len(p), seen)),
    "a generated token": ([0, 4], lambda p, i, seen: [x for x in (0, 4) if x < seen]),
}


def ragged(model):
    return [Prompt.from_text(model, text, spans=s, prepend_bos=True) for text, s in zip(TEXTS, SPANS, strict=True)]


def generated(model, prompts, **settings):
    return shl.generate(model, prompts, progress=False, **{"max_new_tokens": NEW} | settings)


def up_to_eos(model, ids):
    eos = model.tokenizer.eos_token_id
    return tuple(ids[: ids.index(eos) + 1] if eos in ids else ids)


def slow(model, prompt, item, hook_for, steps=NEW):
    """Greedy decoding by the model's own full forward passes, with a hook made by hand for every pass."""
    ids = prompt.ids.tolist()
    for _ in range(steps):
        hooks = hook_for(prompt, item, len(ids))
        with torch.no_grad():
            logits = model.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks, return_type="logits")
        ids.append(int(logits[0, -1].argmax()))
    return up_to_eos(model, ids[len(prompt) :])


def plain_add(positions_of):
    def hook_for(prompt, item, seen):
        def edit(activation, hook):
            activation = activation.clone()
            activation[:, sorted(set(positions_of(prompt, item, seen)))] += VECTOR
            return activation

        return [(NAME, edit)]

    return hook_for


def add_hooks(spec):
    return at(1, shl.hooks.add(VECTOR, positions=SPECS[spec][0]), site="resid_pre")


def has_own_cache(model):
    """Whether TransformerLens's own generation keeps a cache; a bridge does not find it since transformers 5.24."""
    return OLD_NAME or not hasattr(model, "original_model")


def own_generate(model, ids, **settings):
    """TransformerLens's own greedy continuation of one row."""
    settings = (
        {"use_past_kv_cache": has_own_cache(model)}
        | settings
        | {"max_new_tokens": NEW, "do_sample": False, "stop_at_eos": False, "verbose": False}
    )
    out = model.generate(ids[None], return_type="tokens", **settings)
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_output_is_that_of_transformer_lens_one_prompt_at_a_time(tiny_model, use_cache):
    prompts = ragged(tiny_model)
    expected = tuple(up_to_eos(tiny_model, own_generate(tiny_model, prompt.ids)) for prompt in prompts)
    assert generated(tiny_model, prompts, use_cache=use_cache).token_ids == expected


def test_greedy_output_of_a_bridge_is_that_of_hugging_face():
    model = models.tiny("bridge")
    for prompt, ours in zip(ragged(model), generated(model, ragged(model)).token_ids, strict=True):
        ids = prompt.ids[None]
        with torch.no_grad():
            out = model.original_model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                do_sample=False,
                pad_token_id=0,
                use_cache=OLD_NAME,
            )
        assert ours == up_to_eos(model, out[0, len(prompt) :].tolist())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_hooked_batch_equals_a_slow_loop_with_hooks_by_hand(tiny_model, use_cache, spec):
    if spec in ("slice", "list", "int"):
        prompts = [prompt for prompt in ragged(tiny_model) if len(prompt) > 1]
    else:
        prompts = ragged(tiny_model)
    expected = tuple(slow(tiny_model, p, i, plain_add(SPECS[spec][1])) for i, p in enumerate(prompts))
    assert generated(tiny_model, prompts, hooks=add_hooks(spec), use_cache=use_cache).token_ids == expected
    assert generated(tiny_model, prompts).token_ids != expected


@pytest.mark.parametrize("spec", ["open slice", "negative int", "index tensor per prompt", "mask", "span", "generated"])
def test_states_with_a_cache_are_those_without_whatever_the_padding(tiny_model, spec):
    states = []
    for use_cache in (True, False):
        for batched in (True, False):
            capture = shl.Capture(tiny_model)
            settings = {"hooks": add_hooks(spec) + capture.hooks, "use_cache": use_cache, "max_new_tokens": 5}
            prompts = ragged(tiny_model)
            lengths = sorted(range(3), key=lambda i: len(prompts[i]))  # one batch, in the order of length
            if batched:
                prompts = [prompts[i] for i in lengths]
                settings["hooks"] = add_hooks_for(spec, lengths) + capture.hooks
                generated(tiny_model, prompts, **settings)
                states.append([capture.result(row) for row in range(3)])
            else:
                alone = []
                for i in lengths:
                    generated(tiny_model, prompts[i], **settings | {"hooks": add_hooks_for(spec, [i]) + capture.hooks})
                    alone.append(capture.result(0))
                states.append(alone)
    for other in states[1:]:
        for ours, theirs in zip(states[0], other, strict=True):
            steps = min(ours.shape[1], theirs.shape[1])  # a row that ended goes on in a batch and not alone
            torch.testing.assert_close(ours[:, :steps], theirs[:, :steps], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_row_ends_at_any_token_that_the_generation_config_lists(backend, use_cache):
    model = models.tiny(backend)
    prompts = ragged(model)
    free = generated(model, prompts, use_cache=use_cache).token_ids
    turn = free[0][2]  # stands for <end_of_turn>
    assert turn != model.tokenizer.eos_token_id and any(len(set(ids)) > 1 for ids in free)
    for listed in ([model.tokenizer.eos_token_id, turn], turn):
        model.generation_config.eos_token_id = listed
        ended = tuple(ids[: ids.index(turn) + 1] if turn in ids else ids for ids in free)
        assert ended != free
        assert generated(model, prompts, use_cache=use_cache).token_ids == ended
    model.generation_config.eos_token_id = None
    assert generated(model, prompts, use_cache=use_cache).token_ids == free


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_both_end_tokens_of_a_model_whose_config_has_two_are_known(backend):
    tokenizer = models.tiny_tokenizer()
    hf = models.tiny_llama(vocabulary=len(tokenizer.get_vocab()), ends=[2, 7])
    assert end_tokens(models.tiny(backend, hf=hf)) == {2, 7}
    assert end_tokens(models.tiny(backend)) == {2}


def add_hooks_for(spec, items):
    positions = SPECS[spec][0]
    if isinstance(positions, torch.Tensor) and positions.ndim == 2:
        positions = positions[items]
    return at(1, shl.hooks.add(VECTOR, positions=positions), site="resid_pre")


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_batch_gives_what_one_prompt_at_a_time_gives(tiny_model, temperature, use_cache):
    prompts = [*ragged(tiny_model), *ragged(tiny_model)]
    settings = {"temperature": temperature, "use_cache": use_cache, "hooks": add_hooks("generated")}
    together = generated(tiny_model, prompts, seed=3, **settings)
    alone = [generated(tiny_model, prompt, seed=3 + i, **settings).token_ids[0] for i, prompt in enumerate(prompts)]
    assert list(together.token_ids) == alone
    small_batches = generated(tiny_model, prompts, seed=3, max_tokens=8, **settings)
    assert small_batches.token_ids == together.token_ids
    assert together.prompts == tuple(prompt.text for prompt in prompts)


def test_sampling_draws_from_the_softmax_at_the_temperature(tiny_model):
    prompt = Prompt.from_text(tiny_model, "three plus two")
    with torch.no_grad():
        expected = (tiny_model(prompt.ids[None])[0, -1].float() / 0.8).softmax(-1).cpu()
    drawn = generated(tiny_model, [prompt] * 600, temperature=0.8, max_new_tokens=1)
    counts = torch.bincount(torch.tensor(drawn.token_ids)[:, 0], minlength=len(expected)) / 600
    sampling_error = (expected * (1 - expected) / 600).sqrt().sum()  # of the L1 distance, an upper bound of its mean
    assert (counts - expected).abs().sum() < 1.2 * sampling_error
    assert (counts - expected.roll(1)).abs().sum() > 3 * sampling_error


@pytest.mark.parametrize("temperature", [1e-6, 1e-39, 5e-324])
def test_a_temperature_close_to_nought_is_greedy(tiny_model, temperature):
    assert generated(tiny_model, TEXTS, temperature=temperature).token_ids == generated(tiny_model, TEXTS).token_ids


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_states_that_become_nan_are_an_error_and_no_token(tiny_model, temperature):
    broken = at(2, lambda activation, hook: activation * torch.nan)
    with pytest.raises(ValueError, match="The logits in generation"):
        generated(tiny_model, TEXTS, hooks=broken, temperature=temperature)


def test_seeds_decide_the_sample_and_the_callers_random_state_is_untouched(tiny_model):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (generated(tiny_model, TEXTS, temperature=2.0, seed=s).token_ids for s in (4, 4, 50))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_a_row_ends_with_its_end_of_sequence_token_and_the_others_go_on(tiny_model):
    prompts = ragged(tiny_model)
    full = [own_generate(tiny_model, prompt.ids) for prompt in prompts]
    tokenizer, usual = tiny_model.tokenizer, tiny_model.tokenizer.eos_token
    try:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(full[0][2])
        expected = tuple(up_to_eos(tiny_model, ids) for ids in full)
        assert len(expected[0]) <= 3 and max(map(len, expected)) == NEW
        assert generated(tiny_model, prompts).token_ids == expected
        assert generated(tiny_model, prompts[:1]).token_ids == expected[:1]
    finally:
        tokenizer.eos_token = usual


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("spec", ["everywhere", "negative int", "generated", "open slice"])
def test_a_prompt_of_one_token(tiny_model, spec, use_cache):
    prompt = Prompt.from_ids([5])
    expected = up_to_eos(tiny_model, own_generate(tiny_model, prompt.ids))
    assert generated(tiny_model, prompt, use_cache=use_cache).token_ids == (expected,)
    hooks = add_hooks(spec)
    edited = slow(tiny_model, prompt, 0, plain_add(SPECS[spec][1]))
    for _ in range(2):  # the same hooks serve run after run
        assert generated(tiny_model, [prompt, prompt], hooks=hooks, use_cache=use_cache).token_ids == (edited, edited)


@pytest.mark.parametrize("positions", [slice(0, 2), 0, [1, 0], slice(-2, None), -1, None, "generated"])
def test_hooks_in_a_users_own_cached_generate_keep_to_their_positions(tiny_model, positions):
    if not has_own_cache(tiny_model):
        pytest.skip("its cache stays empty with this transformers")
    prompt = ragged(tiny_model)[0]
    spec = next(name for name, (given, _) in SPECS.items() if given == positions) if positions != 0 else None
    positions_of = SPECS[spec][1] if spec else lambda p, i, seen: [0]
    hooks = at(1, shl.hooks.add(VECTOR, positions=positions), site="resid_pre")
    expected = slow(tiny_model, prompt, 0, plain_add(positions_of))
    for _ in range(2):
        with tiny_model.hooks(fwd_hooks=hooks):
            found = own_generate(tiny_model, prompt.ids)
        assert up_to_eos(tiny_model, found) == expected


def test_prompt_positions_in_a_users_own_generate_need_no_cache(tiny_model):
    if not has_own_cache(tiny_model):
        pytest.skip("its cache stays empty with this transformers")
    ids = ragged(tiny_model)[0].ids
    hooks = at(1, shl.hooks.add(VECTOR, positions=slice(0, 2)), site="resid_pre")
    with tiny_model.hooks(fwd_hooks=hooks):
        cached, plain = (own_generate(tiny_model, ids, use_past_kv_cache=cache) for cache in (True, False))
    assert cached == plain != own_generate(tiny_model, ids)


@pytest.mark.parametrize("site", ["resid_pre", "attn_out"])
@pytest.mark.parametrize("spec", ["open slice", "negative int", "mask", "generated", "everywhere"])
def test_hooks_attached_outside_act_as_hooks_passed_in(tiny_model, spec, site):
    hooks = at(1, shl.hooks.add(VECTOR, positions=SPECS[spec][0]), site=site)
    prompts = ragged(tiny_model)
    with tiny_model.hooks(fwd_hooks=hooks):
        outside = generated(tiny_model, prompts).token_ids
        states = shl.residual_stream(tiny_model, prompts, progress=False)
    assert outside == generated(tiny_model, prompts, hooks=hooks).token_ids
    torch.testing.assert_close(states, shl.residual_stream(tiny_model, prompts, hooks=hooks, progress=False))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_new_tokens": 0}, "max_new_tokens"), ({"temperature": -1.0}, "temperature"),
     ({"hooks": [("blocks.9.hook_resid_pre", print)]}, "no hook point")],
)  # fmt: skip
def test_impossible_settings_raise(tiny_model, settings, message):
    with pytest.raises(ValueError, match=message):
        generated(tiny_model, TEXTS, **settings)
    with pytest.raises(ValueError, match="empty"):
        generated(tiny_model, [])


def test_a_position_that_the_model_never_runs_over_raises(tiny_model):
    prompt = Prompt.from_ids([5, 6, 7])
    last_run = len(prompt) + NEW - 2  # the last new token is only output
    expected = slow(tiny_model, prompt, 0, plain_add(lambda p, i, seen: [last_run] if last_run < seen else []))
    found = generated(tiny_model, prompt, hooks=at(1, shl.hooks.add(VECTOR, positions=last_run), site="resid_pre"))
    assert found.token_ids == (expected,)
    with pytest.raises(ValueError, match="past the end"):
        generated(tiny_model, prompt, hooks=at(2, shl.hooks.add(VECTOR, positions=last_run + 1)))


@pytest.mark.real
def test_real_model_continues_alike_with_and_without_cache_and_batch(gemma):
    prompts = ["The capital of France is", "我最喜欢的动物"]
    direction = shl.direction.words(gemma, "Good", "Bad", layer=9)
    hooks = at(9, shl.hooks.add(direction, 4.0, slice(1, None)), site="resid_pre")
    settings = {"hooks": hooks, "max_new_tokens": 3}
    cached, plain = (generated(gemma, prompts, use_cache=c, **settings).token_ids for c in (True, False))
    assert cached == plain != generated(gemma, prompts, max_new_tokens=3).token_ids
    assert list(cached) == [generated(gemma, prompt, **settings).token_ids[0] for prompt in prompts]
