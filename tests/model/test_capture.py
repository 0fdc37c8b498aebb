"""Residual states: exact batches, the reading rules, probes in runs of the user's own, and clean exits."""

import itertools
import math

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.model.batches import batches
from semhub_lens.model.capture import residual_reads
from semhub_lens.model.hooking import Window, hooked, residual_names, site_name

RAGGED = ["three plus two equals", "dog", "red house", "chat perro is seven eight nine minus one", "two two", "green"]


def states_of(model, prompts, **settings):
    return shl.residual_stream(model, prompts, progress=False, **settings)


def all_states(model, text):
    """States [layer pos d_model] of one prompt, by the model's own cache."""
    _, cache = model.run_with_cache(shl.Prompt.from_text(model, text).ids[None])
    return torch.stack([cache[name][0] for name in residual_names(model)])


def attached(model):
    return [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]


def unit(states):
    return states / states.norm(dim=-1, keepdim=True)


def worst(a, b):
    return ((a - b).norm(dim=-1) / b.norm(dim=-1)).max().item()


@pytest.mark.parametrize("read", ["last", "mean", "raw_mean", 1])
@pytest.mark.parametrize("max_tokens", [1, 12, 1024])
def test_a_ragged_batch_gives_what_one_prompt_at_a_time_gives(tiny_model, read, max_tokens):
    alone = torch.cat([states_of(tiny_model, text, read=read) for text in RAGGED], dim=1)
    assert worst(states_of(tiny_model, RAGGED, read=read, max_tokens=max_tokens), alone) < 1e-5
    order = torch.randperm(len(RAGGED), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = states_of(tiny_model, [RAGGED[i] for i in order], read=read, max_tokens=max_tokens)
    assert worst(shuffled, alone[:, order]) < 1e-5
    assert worst(alone, alone.roll(1, 1)) > 0.01, "the prompts must differ"


@pytest.mark.real
def test_a_ragged_batch_is_exact_on_gemma(gemma):
    texts = ["El gato", "The cat sat on the old wooden table", "朋友"]
    alone = torch.cat([states_of(gemma, text) for text in texts], dim=1)
    assert worst(states_of(gemma, texts), alone) < 1e-5


def test_batches_hold_every_prompt_once_within_the_budget():
    prompts = [shl.Prompt.from_ids(range(1, n + 1)) for n in (5, 2, 9, 2, 3, 30)]
    packed = batches(prompts, 12)
    assert sorted(i for batch in packed for i in batch.window.items.tolist()) == list(range(6))
    assert all(batch.tokens.numel() <= 12 or len(batch.tokens) == 1 for batch in packed)
    for batch in packed:
        for row, item, length in zip(batch.tokens, batch.window.items, batch.window.lengths, strict=True):
            assert row[:length].tolist() == prompts[item].ids.tolist()


@pytest.mark.parametrize("per_pass", [0, 3, 1000])
def test_no_packing_of_neighbours_is_cheaper(per_pass):
    lengths = [2, 2, 3, 5, 9, 9, 14]
    packed = batches([shl.Prompt.from_ids(range(1, n + 1)) for n in lengths], 30, per_pass=per_pass)
    cuts = [[0, *chosen, 7] for k in range(7) for chosen in itertools.combinations(range(1, 7), k)]
    costs = [
        sum(
            (end - begin) * lengths[end - 1] + per_pass
            if end - begin == 1 or (end - begin) * lengths[end - 1] <= 30
            else math.inf
            for begin, end in itertools.pairwise(cut)
        )
        for cut in cuts
    ]
    assert sum(batch.tokens.numel() + per_pass for batch in packed) == min(costs)


def test_the_states_are_those_of_hugging_face(tiny_model):
    hf = models.tiny_llama()
    for text in RAGGED:
        ids = shl.Prompt.from_text(tiny_model, text).ids
        with torch.no_grad():
            hidden = hf(ids[None], output_hidden_states=True).hidden_states
            normed = hf.model.norm(states_of(tiny_model, text)[-1, 0])
        for position in range(len(ids)):
            ours = states_of(tiny_model, text, read=position)[:, 0]
            theirs = torch.stack([h[0, position] for h in hidden])
            assert worst(ours[:-1], theirs[:-1]) < 1e-5
        assert worst(normed[None], hidden[-1][:, -1]) < 1e-5, "their last state is after the final norm"


def test_every_reading_rule_is_its_formula(tiny_model):
    text = "red house perro dog is"
    prompt = shl.Prompt.from_text(tiny_model, text, spans={"words": "house perro dog", "one": "red"})
    full = all_states(tiny_model, text)
    rules = {
        "last": full[:, -1],
        2: full[:, 2],
        -2: full[:, -2],
        "mean": unit(full[:, 1:]).mean(1),
        "raw_mean": full[:, 1:].mean(1),
        "words": unit(full[:, 2:5]).mean(1),
        "words:last": full[:, 4],
        "one": unit(full[:, 1]),
        "one:last": full[:, 1],
    }
    for read, expected in rules.items():
        assert worst(states_of(tiny_model, prompt, read=read)[:, 0], expected) < 1e-5, read


def test_a_mean_leaves_out_bos_but_keeps_a_prompt_without_it_whole(tiny_model):
    ids = shl.Prompt.from_text(tiny_model, "red house dog").ids
    marked, bare = (shl.Prompt.from_ids(ids, bos=bos) for bos in (True, False))
    full = all_states(tiny_model, "red house dog")
    assert worst(states_of(tiny_model, marked, read="raw_mean")[:, 0], full[:, 1:].mean(1)) < 1e-5
    assert worst(states_of(tiny_model, bare, read="raw_mean")[:, 0], full.mean(1)) < 1e-5
    only = shl.Prompt.from_ids([1], bos=True)
    assert worst(states_of(tiny_model, only, read="raw_mean"), states_of(tiny_model, only)) < 1e-6


def test_a_mean_of_unit_states_does_not_depend_on_the_scale_of_one_token(tiny_model):
    last = site_name(tiny_model.cfg.n_layers - 1, "resid_post")

    def enlarge(activation, hook):
        scale = torch.ones(activation.shape[1], 1)
        scale[2] = 1000
        return activation * scale

    def change(read):
        edited = states_of(tiny_model, RAGGED[0], read=read, hooks=[(last, enlarge)])
        return worst(edited[-1], states_of(tiny_model, RAGGED[0], read=read)[-1])

    assert change("mean") < 1e-5
    assert change("raw_mean") > 10


def test_the_unembedding_is_never_computed(tiny_model):
    calls = []
    handle = tiny_model.unembed.register_forward_pre_hook(lambda module, args: calls.append(1))
    try:
        states_of(tiny_model, RAGGED, max_tokens=12)
        assert calls == []
        tiny_model(shl.Prompt.from_text(tiny_model, "red").ids[None])
        assert calls, "a full pass must reach the unembedding"
    finally:
        handle.remove()


def test_a_hook_behind_the_last_state_lets_the_pass_go_on_to_it(tiny_model):
    seen = []
    states_of(
        tiny_model, "red", hooks=[("unembed.hook_out", lambda activation, hook: seen.append(activation.shape[-1]))]
    )
    assert seen == [tiny_model.cfg.d_vocab]


def test_an_exception_in_a_hook_leaves_the_model_and_the_users_hooks_as_they_were(tiny_model):
    ids = shl.Prompt.from_text(tiny_model, RAGGED[0]).ids[None]
    before = tiny_model(ids)

    def fail(activation, hook):
        raise RuntimeError("from the user's hook")

    def blank(activation, hook):
        return activation * float("nan")

    table, first = shl.script_table(tiny_model), site_name(0, "resid_pre")
    for run in (
        lambda: states_of(tiny_model, RAGGED, hooks=[(first, fail)]),
        lambda: shl.logit_lens(tiny_model, RAGGED[0], hooks=[(first, fail)], progress=False),
        lambda: shl.generate(tiny_model, RAGGED[0], hooks=[(first, fail)], progress=False),
        lambda: shl.language_mass(tiny_model, RAGGED, table, hooks=[(first, blank)], progress=False),
        lambda: states_of(tiny_model, RAGGED, hooks=[(first, blank)]),
    ):
        with pytest.raises((RuntimeError, ValueError), match=r"from the user's hook|NaN") as caught:
            run()
        assert attached(tiny_model) == [], caught  # while the traceback still lives, as in a notebook
        assert not any(point.ctx for point in tiny_model.hook_dict.values())
        assert torch.equal(tiny_model(ids), before)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_hooks_that_the_user_attached_before_stay_and_count(backend):
    model = models.tiny(backend)
    clean = states_of(model, RAGGED)
    model.add_hook(site_name(1, "resid_pre"), lambda activation, hook: activation * 2)
    edited = states_of(model, RAGGED)
    assert torch.equal(edited[0], clean[0]) and torch.equal(edited[1], 2 * clean[1])
    assert torch.equal(states_of(model, RAGGED), edited), "the hook must survive a run"
    model.reset_hooks()
    assert torch.equal(states_of(model, RAGGED), clean)


def test_an_unknown_hook_name_is_refused_with_the_nearest_ones_before_anything_runs(tiny_model):
    ran = []
    watch = (site_name(0, "resid_pre"), lambda activation, hook: ran.append(1))
    for call in (states_of, lambda model, text, hooks: shl.logit_lens(model, text, hooks=hooks, progress=False)):
        with pytest.raises(ValueError, match=r"blocks\.1\.hook_residpost.*Nearest: .*blocks\.1\.hook_resid_post"):
            call(tiny_model, "red", hooks=[watch, ("blocks.1.hook_residpost", lambda activation, hook: None)])
    with pytest.raises(ValueError, match=r"no hook point 'blocks.7.hook_resid_post'.*entries 0 to 3"):
        states_of(tiny_model, "red", hooks=shl.at(8, shl.hooks.add(torch.ones(32))))
    assert ran == []


def test_a_hook_that_never_fires_is_an_error(tiny_model):
    names = (
        "blocks.0.attn.hook_hidden_states",
        "blocks.0.attn.hook_result",
    )  # the second is off by default on HookedTransformer
    silent = next(name for name in names if name in tiny_model.hook_dict)
    with pytest.raises(ValueError, match=rf"never fired.*{silent}"):
        states_of(tiny_model, "red", hooks=[(silent, lambda activation, hook: None)])
    with pytest.raises(ValueError, match="never fired"), hooked(tiny_model, [("hook_embed", lambda a, hook: None)]):
        pass


def test_the_window_of_a_run_reaches_its_hooks(tiny_model):
    seen = []
    window = Window(torch.tensor([4]), torch.tensor([0]), torch.tensor([3]))
    hooks = [(site_name(0, "resid_pre"), lambda activation, hook: seen.append(hook.ctx["semhub_window"]))]
    with hooked(tiny_model, hooks) as run:
        run(torch.tensor([[1, 2, 3]]), window)
    assert len(seen) == 1
    assert all(torch.equal(getattr(seen[0], name), getattr(window, name)) for name in ("items", "starts", "lengths"))
    assert window.positions(3).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("site", ["resid", "resid_mid", "attn_out", "mlp_out", "z"])
def test_capture_equals_run_with_cache(tiny_model, site):
    layers = tiny_model.cfg.n_layers
    tokens = torch.tensor([[1, 4, 9, 30], [1, 7, 8, 40]])
    names = residual_names(tiny_model) if site == "resid" else [site_name(i, site) for i in range(layers)]
    probe = shl.Capture(tiny_model, site=site)
    tiny_model.run_with_hooks(tokens, fwd_hooks=probe.hooks)
    _, cache = tiny_model.run_with_cache(tokens)
    expected = torch.stack([cache[name] for name in names])
    torch.testing.assert_close(probe.result(), expected)
    assert not probe.result().requires_grad and probe.result().dtype == torch.float32
    assert torch.equal(probe.result(1), probe.result()[:, 1])
    some = shl.Capture(tiny_model, layers=[2, 0], site=site)
    tiny_model.run_with_hooks(tokens, fwd_hooks=some.hooks)
    torch.testing.assert_close(some.result(), expected[[2, 0]])


def test_a_new_run_starts_afresh_with_its_own_rows(tiny_model):
    probe = shl.Capture(tiny_model)
    for tokens in (torch.tensor([[1, 4, 9]] * 3), torch.tensor([[1, 7], [1, 8]]), torch.tensor([[1, 5, 6, 7]])):
        tiny_model.run_with_hooks(tokens, fwd_hooks=probe.hooks)
        assert probe.result().shape[1:3] == tokens.shape
        _, cache = tiny_model.run_with_cache(tokens)
        torch.testing.assert_close(probe.result()[2], cache[probe.names[2]])


def test_what_capture_keeps_is_out_of_reach_of_later_edits(tiny_model):
    probe = shl.Capture(tiny_model, layers=[1])

    def wipe(activation, hook):
        return activation.zero_()

    ids = torch.tensor([[1, 4, 9]])
    with torch.no_grad():
        tiny_model.run_with_hooks(ids, fwd_hooks=[*probe.hooks, (probe.names[0], wipe)])
        kept = probe.result()
        tiny_model.run_with_hooks(ids, fwd_hooks=[(probe.names[0], wipe), *probe.hooks])
    assert kept.abs().min() > 0 and probe.result().abs().max() == 0


@pytest.mark.parametrize("use_cache", [True, False])
def test_capture_in_generation_equals_one_pass_over_prompt_and_continuation(tiny_model, use_cache):
    prompts = [RAGGED[0], RAGGED[3], RAGGED[1]]
    probe = shl.Capture(tiny_model)
    out = shl.generate(tiny_model, prompts, hooks=probe.hooks, max_new_tokens=5, use_cache=use_cache, progress=False)
    for row, text in enumerate(prompts):
        ids = [*shl.Prompt.from_text(tiny_model, text).ids.tolist(), *out.token_ids[row]][:-1]
        again = shl.Capture(tiny_model)
        tiny_model.run_with_hooks(torch.tensor([ids]), fwd_hooks=again.hooks)
        assert worst(probe.result(row)[:, : len(ids)], again.result(0)) < 1e-4
    with pytest.raises(ValueError, match=r"result\(row=i\)"):
        probe.result()


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_probe_does_not_change_gradients(backend):
    def gradients(hooks):
        model = models.tiny(backend)
        loss = model.run_with_hooks(torch.tensor([[1, 4, 9, 30, 5]]), return_type="loss", fwd_hooks=hooks(model))
        loss.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients(lambda model: [])
    probed = gradients(lambda model: shl.Capture(model).hooks + shl.LogitLens(model).hooks)
    assert plain.keys() == probed.keys() and any(g.abs().max() > 0 for g in plain.values())
    assert all(torch.equal(plain[name], probed[name]) for name in plain)


def test_the_entries_asked_for_are_those_of_the_whole_axis_in_their_order(tiny_model):
    whole = residual_reads(tiny_model, RAGGED, ["last", "mean", 0], progress=False)
    some = residual_reads(tiny_model, RAGGED, ["last", "mean", 0], layers=[3, 1], progress=False)
    assert torch.equal(some, whole[:, [3, 1]]) and not torch.equal(whole[:, 1], whole[:, 3])


def test_a_state_beside_the_one_that_is_read_may_be_infinite(tiny_model):
    def spoil(activation, hook):
        out = activation.clone()
        out[:, 1] = torch.inf
        return out

    last = [(residual_names(tiny_model)[-1], spoil)]
    assert torch.equal(states_of(tiny_model, "red house dog", hooks=last), states_of(tiny_model, "red house dog"))


def test_a_read_outs_normed_states_are_those_that_the_model_unembeds(tiny_model):
    states = all_states(tiny_model, "red house dog")[-1]
    with torch.no_grad():
        logits = tiny_model(shl.Prompt.from_text(tiny_model, "red house dog").ids[None], return_type="logits")[0]
        normed = shl.Readout(tiny_model).normed(states)
    bias = getattr(tiny_model, "b_U", None)
    torch.testing.assert_close(normed @ tiny_model.W_U + (0 if bias is None else bias), logits, atol=1e-4, rtol=1e-4)
