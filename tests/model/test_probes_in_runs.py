"""Probes in every kind of run: the user's own, the library's, cached or not, with interventions, under autograd."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn.functional import cosine_similarity

import semhub_lens as shl
from semhub_lens import Prompt, at

RAGGED = ([20, 21, 22, 23], [24], [30, 31, 32, 33, 34, 35, 36], [40, 41])
VECTOR = 4 * torch.randn(32, generator=torch.Generator().manual_seed(1))
SITE = "blocks.1.hook_resid_pre"
LAYERS = 4
EDIT = shl.hooks.add(VECTOR, positions=slice(0, 2))


def ragged():
    return [Prompt.from_ids(ids, spans={"noun": [0], "end": [len(ids) - 1]}) for ids in RAGGED]


def names(model):
    return shl.residual_names(model)


def own_states(model, ids, hooks=()):
    """Residual states by hooks written here, `[layer pos d_model]`."""
    kept = {}

    def keeper(name):
        def keep(activation, hook):
            kept[name] = activation.detach().clone()[0]

        return keep

    keepers = [(name, keeper(name)) for name in names(model)]
    with torch.no_grad():
        model.run_with_hooks(torch.as_tensor(ids)[None], fwd_hooks=[*hooks, *keepers])
    return torch.stack([kept[name] for name in names(model)])


def edit_by_hand(activation, hook):
    activation = activation.clone()
    activation[:, :2] += VECTOR
    return activation


def attached(model, probe, before=(), after=(), how="run_with_hooks", ids=RAGGED[0], grad=False):
    """Run the probe over one prompt; returns the run's logits."""
    hooks = [*before, *probe.hooks, *after]
    tokens = torch.as_tensor(ids)[None]
    with nullcontext() if grad else torch.no_grad():
        if how == "run_with_hooks":
            return model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits")
        with model.hooks(fwd_hooks=hooks):
            return model(tokens, return_type="logits")


@pytest.mark.parametrize("how", ["run_with_hooks", "hooks"])
def test_capture_keeps_the_states_that_passed_and_changes_nothing(tiny_model, how):
    capture = shl.Capture(tiny_model)
    logits = attached(tiny_model, capture, how=how)
    with torch.no_grad():
        assert torch.equal(logits, tiny_model(torch.tensor([RAGGED[0]]), return_type="logits"))
    assert torch.equal(capture.result(0), own_states(tiny_model, RAGGED[0]))
    attached(tiny_model, capture, how=how, ids=RAGGED[2])  # the same probe again: a new run starts afresh
    assert torch.equal(capture.result(0), own_states(tiny_model, RAGGED[2]))


@pytest.mark.parametrize("how", ["run_with_hooks", "hooks"])
def test_probes_see_the_edits_listed_before_them_and_not_those_after(tiny_model, how):
    clean, edited = own_states(tiny_model, RAGGED[0]), own_states(tiny_model, RAGGED[0], [(SITE, edit_by_hand)])
    first, second = shl.Capture(tiny_model), shl.Capture(tiny_model)
    attached(tiny_model, first, before=at(1, EDIT, site="resid_pre"), after=second.hooks, how=how)
    torch.testing.assert_close(first.result(0), edited)
    assert torch.equal(first.result(0), second.result(0))
    attached(tiny_model, first, after=at(1, EDIT, site="resid_pre"), how=how)
    found = first.result(0)
    assert torch.equal(found[:2], clean[:2])  # entry 1 is read before its edit ...
    torch.testing.assert_close(found[2:], edited[2:])  # ... and feels nothing of it, later ones do
    assert (clean - edited).abs()[1:, 0].amax(-1).min() > 0.1


def test_a_later_edit_in_place_does_not_reach_what_was_captured(tiny_model):
    capture = shl.Capture(tiny_model)

    def wreck(activation, hook):
        return activation.zero_()

    attached(tiny_model, capture, after=[(name, wreck) for name in names(tiny_model)])
    assert torch.equal(capture.result(0)[0], own_states(tiny_model, RAGGED[0])[0])


@pytest.mark.parametrize("site", ["resid_mid", "attn_out", "mlp_out"])
def test_capture_at_other_sites_is_what_the_models_cache_holds(tiny_model, site):
    capture = shl.Capture(tiny_model, [2, 0], site=site)
    attached(tiny_model, capture)
    with torch.no_grad():
        _, cache = tiny_model.run_with_cache(torch.tensor([RAGGED[0]]))
    expected = torch.stack([cache[f"blocks.{i}.hook_{site}"][0] for i in (2, 0)])
    torch.testing.assert_close(capture.result(0), expected)


def test_lens_and_cosine_in_a_users_run_are_those_of_the_edited_states(tiny_model):
    references = torch.stack([own_states(tiny_model, RAGGED[2])[:, 0], own_states(tiny_model, RAGGED[1])[:, 0]], dim=1)
    lens, cosine = shl.LogitLens(tiny_model, top_k=3), shl.CosineTo(tiny_model, references, names=["a", "b"])
    steering = at(1, EDIT, site="resid_pre")
    logits = attached(tiny_model, lens, before=steering, after=cosine.hooks)
    states = own_states(tiny_model, RAGGED[0], [(SITE, edit_by_hand)])
    expected = cosine_similarity(states[:, :, None], references[:, None], dim=-1)
    torch.testing.assert_close(cosine.result().cosine, expected, atol=1e-5, rtol=1e-5)
    top = logits[0].float().log_softmax(-1).topk(3)
    found = lens.result(tokens=torch.tensor(RAGGED[0]))
    assert torch.equal(found.top_ids[-1], top.indices)
    torch.testing.assert_close(found.top_logprobs[-1], top.values, atol=1e-4, rtol=1e-4)
    in_one_call = shl.logit_lens(tiny_model, ragged()[0], top_k=3, hooks=steering, progress=False)
    assert torch.equal(found.top_ids, in_one_call.top_ids) and found.labels == in_one_call.labels
    torch.testing.assert_close(found.kl_to_final, in_one_call.kl_to_final, atol=1e-4, rtol=1e-4)
    assert not torch.equal(found.top_ids, shl.logit_lens(tiny_model, ragged()[0], top_k=3, progress=False).top_ids)


def test_cosines_are_of_directions_however_long_the_states_are(tiny_model):
    """Squares of such entries are not numbers of float32."""
    references, scale = own_states(tiny_model, RAGGED[2])[:, :2], 1e25
    cosine, capture = shl.CosineTo(tiny_model, scale * references), shl.Capture(tiny_model)
    longer = [("blocks.0.hook_resid_pre", lambda activation, hook: scale * activation)]
    attached(tiny_model, cosine, before=longer, after=capture.hooks)
    states = capture.result(0).double()
    expected = cosine_similarity(states[:, :, None], references[:, None].double(), dim=-1)
    torch.testing.assert_close(cosine.result().cosine, expected.float(), atol=1e-5, rtol=1e-5)


def test_probes_and_edits_leave_gradients_as_they_are(tiny_model):
    def gradient(hooks):
        vector = VECTOR.clone().requires_grad_()

        def steer(activation, hook):
            return activation + vector

        fwd_hooks, tokens = [(SITE, steer), *hooks], torch.tensor([RAGGED[0]])
        logits = tiny_model.run_with_hooks(tokens, fwd_hooks=fwd_hooks, return_type="logits")
        logits[0, -1, 7].backward()
        return vector.grad

    lens, capture = shl.LogitLens(tiny_model, top_k=2), shl.Capture(tiny_model)
    with_probes = gradient(lens.hooks + capture.hooks)
    assert torch.equal(with_probes, gradient([])) and with_probes.norm() > 1e-4
    assert not capture.result().requires_grad
    assert lens.result().top_ids.shape[0] == LAYERS


@pytest.mark.parametrize("use_cache", [True, False])
def test_probes_in_generation_hold_the_states_of_prompt_and_new_tokens(tiny_model, use_cache):
    probes = shl.Capture(tiny_model), shl.LogitLens(tiny_model, top_k=1)
    hooks = at(1, EDIT, site="resid_pre") + probes[0].hooks + probes[1].hooks
    out = shl.generate(tiny_model, ragged()[0], hooks=hooks, max_new_tokens=3, use_cache=use_cache, progress=False)
    ids = [*RAGGED[0], *out.token_ids[0]]
    expected = own_states(tiny_model, ids[:-1], [(SITE, edit_by_hand)])  # the last token is only output
    torch.testing.assert_close(probes[0].result(0), expected, atol=1e-4, rtol=1e-4)
    read = probes[1].result(tokens=torch.tensor(ids[:-1]))
    assert read.top_ids[-1, len(RAGGED[0]) - 1 :, 0].tolist() == list(out.token_ids[0])


@pytest.mark.parametrize("use_cache", [True, False])
def test_rows_of_a_probe_in_generation_are_the_prompts_in_the_order_given(tiny_model, use_cache):
    capture = shl.Capture(tiny_model)
    shl.generate(tiny_model, ragged(), hooks=capture.hooks, max_new_tokens=1, use_cache=use_cache, progress=False)
    for row, ids in enumerate(RAGGED):
        torch.testing.assert_close(capture.result(row), own_states(tiny_model, ids), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="out of range"):
        capture.result(len(RAGGED))


def test_rows_of_a_probe_in_residual_stream_are_the_prompts_without_their_padding(tiny_model):
    capture = shl.Capture(tiny_model)
    shl.residual_stream(tiny_model, ragged(), hooks=capture.hooks, progress=False)
    for row, ids in enumerate(RAGGED):
        torch.testing.assert_close(capture.result(row), own_states(tiny_model, ids), atol=1e-4, rtol=1e-4)


MASK = torch.zeros(4, 7, dtype=torch.bool)
MASK[[0, 0, 1, 2, 3], [1, 3, 0, 6, 1]] = True
POSITIONS = [slice(0, 2), slice(-1, None), 0, -1, [0], torch.tensor([[3], [0], [5], [-2]]), MASK, "end", None]


@pytest.mark.parametrize("max_tokens", [8, 1024])
@pytest.mark.parametrize("positions", POSITIONS, ids=lambda p: type(p).__name__ + str(p)[:8].replace("\n", ""))
def test_ragged_prompts_in_batches_under_hooks_are_those_one_by_one(tiny_model, positions, max_tokens):
    prompts = ragged()

    def states(chosen, items):
        here = positions[items] if isinstance(positions, torch.Tensor) else positions
        if here is not None and here is not positions and here.dtype == torch.bool:
            here = here[:, : max(map(len, chosen))]
        hooks = at([1, 3], shl.hooks.add(VECTOR, positions=here))
        hooks += at(1, shl.hooks.project_out(VECTOR, 0.5, here), site="attn_out")
        settings = {"hooks": hooks, "max_tokens": max_tokens, "progress": False}
        return torch.stack([shl.residual_stream(tiny_model, chosen, read=r, **settings) for r in ("last", "mean")])

    together = states(prompts, [0, 1, 2, 3])
    alone = torch.cat([states([prompt], [i]) for i, prompt in enumerate(prompts)], dim=2)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    clean = shl.residual_stream(tiny_model, prompts, read="mean", progress=False)
    assert (together[1] - clean)[-1].abs().amax(-1).max() > 1e-2


@pytest.mark.parametrize("call", [shl.residual_stream, shl.generate])
def test_hooks_are_gone_after_a_run_and_after_one_that_failed(tiny_model, call):
    def fail(activation, hook):
        raise RuntimeError("from a hook")

    clean = own_states(tiny_model, RAGGED[0])
    steering = at([1, 2], shl.hooks.replace(VECTOR, positions=-1))
    call(tiny_model, ragged(), hooks=steering, progress=False)
    assert torch.equal(own_states(tiny_model, RAGGED[0]), clean)
    with pytest.raises(RuntimeError, match="from a hook"):
        call(tiny_model, ragged(), hooks=[*steering, ("blocks.2.hook_attn_out", fail)], progress=False)
    assert torch.equal(own_states(tiny_model, RAGGED[0]), clean)
    expected = own_states(tiny_model, RAGGED[2], at([1, 2], shl.hooks.replace(VECTOR, positions=[6])))
    again = own_states(tiny_model, RAGGED[2], steering)
    assert torch.equal(again, expected)  # no prompt lengths of the failed run linger


def test_a_users_own_hooks_outlive_a_run_of_the_library(tiny_model):
    calls = []
    tiny_model.add_hook(SITE, lambda activation, hook: calls.append(len(activation)))
    try:
        shl.residual_stream(tiny_model, ragged(), hooks=at(1, EDIT), progress=False)
        during = len(calls)
        own_states(tiny_model, RAGGED[0])
        assert during >= 1 and len(calls) == during + 1
    finally:
        tiny_model.reset_hooks()


def test_hooks_that_cannot_fire_raise(tiny_model):
    with pytest.raises(ValueError, match=r"no hook point 'blocks\.7\.hook_resid_pre'.*3 blocks"):
        shl.residual_stream(tiny_model, ragged(), hooks=at(7, EDIT, site="resid_pre"), progress=False)
    with pytest.raises(ValueError, match="hook_mlp_in"):
        shl.residual_stream(tiny_model, ragged(), hooks=[("blocks.0.hook_mlp_in", EDIT)], progress=False)


SEVERAL = {
    "states": lambda model, hooks: shl.residual_stream(model, ragged(), hooks=hooks, max_tokens=1, progress=False),
    "scores": lambda model, hooks: shl.kl_to_clean(model, ragged() * 40, hooks, progress=False),
    "generation": lambda model, hooks: shl.generate(model, ragged()[0], hooks=hooks, max_new_tokens=3, progress=False),
}
"""Runs of several passes."""


@pytest.mark.parametrize("name", ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_post"])
@pytest.mark.parametrize("call", SEVERAL)
def test_a_hook_that_one_pass_does_not_reach_raises(tiny_model, call, name):
    """What it read in the pass before must not stand for this one; as in a graph that was compiled without it."""
    passes = []

    def lose(activation, hook):
        passes.append(1)
        if len(passes) == 2:
            tiny_model.hook_dict[name].remove_hooks()

    hooks = [("blocks.0.hook_resid_pre", lose), (name, lambda activation, hook: None)]
    with pytest.raises(shl.Unfit, match=f"never fired during the run: .*{name}"):
        SEVERAL[call](tiny_model, hooks)
    assert len(passes) == 2 and not any(point.fwd_hooks for point in tiny_model.hook_dict.values())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda m: shl.Capture(m).result(), "no run yet"),
        (lambda m: shl.LogitLens(m).result(), "no run yet"),
        (lambda m: shl.Capture(m, [4]), "layers 0 to 3"),
        (lambda m: shl.Capture(m, [-1]), "out of range"),
        (lambda m: shl.Capture(m, site="head"), "Unknown site"),
        (lambda m: shl.LogitLens(m, top_k=0), "top_k"),
        (lambda m: shl.CosineTo(m, torch.ones(3, 1, 32)), r"references \[4 ref 32\]"),
        (lambda m: shl.CosineTo(m, torch.full((4, 1, 32), torch.nan)), "NaN"),
        (lambda m: shl.CosineTo(m, torch.ones(4, 2, 32), names=["one"]), "1 names"),
        (lambda m: shl.CosineTo(m, torch.eye(2)[None, :, :1].expand(4, 2, 32)), r"zero state at .* = \[0, 1\]"),
    ],
)
def test_probes_that_cannot_work_raise(tiny_model, build, message):
    with pytest.raises(ValueError, match=message):
        build(tiny_model)
