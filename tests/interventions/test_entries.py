"""`at` counts residual entries: an edit at entry l shows where probes read entry l, on both model classes."""

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens import Prompt, at
from semhub_lens.base.errors import SemhubError
from semhub_lens.model.hooking import site_name

PROMPT = Prompt.from_ids([7, 31, 12, 50, 4])
VECTOR = 3 * torch.randn(32, generator=torch.Generator().manual_seed(1))
EDIT = shl.hooks.add(VECTOR, positions=2)
N_LAYERS = 3


def captured(model, hooks, run):
    """States [layer pos d_model] that a probe listed after the hooks sees."""
    capture = shl.Capture(model)
    run(model, [*hooks, *capture.hooks])
    return capture.result(0)


RUNS = {
    "own": lambda model, hooks: model.run_with_hooks(PROMPT.ids[None], fwd_hooks=hooks),
    "residual_stream": lambda model, hooks: shl.residual_stream(model, PROMPT, hooks=hooks, progress=False),
    "cached": lambda model, hooks: shl.generate(
        model, PROMPT, hooks=hooks, max_new_tokens=2, use_cache=True, progress=False
    ),
    "uncached": lambda model, hooks: shl.generate(
        model, PROMPT, hooks=hooks, max_new_tokens=2, use_cache=False, progress=False
    ),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("entry", range(N_LAYERS + 1))
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_an_edit_at_an_entry_shows_at_that_entry_and_not_before(backend, entry, run):
    model = models.tiny(backend)
    clean, edited = (captured(model, hooks, RUNS[run])[:, : len(PROMPT)] for hooks in ([], at(entry, EDIT)))
    assert torch.equal(edited[:entry], clean[:entry]) and torch.equal(edited[:, :2], clean[:, :2])
    torch.testing.assert_close((edited - clean)[entry, 2], VECTOR, atol=1e-5, rtol=1e-5)
    assert (edited - clean)[entry:, 2].abs().amax(-1).min() > 0.1
    assert torch.equal(edited[entry, 3:], clean[entry, 3:])
    assert entry == N_LAYERS or (edited - clean)[entry + 1 :, 3:].abs().amax() > 1e-3


@pytest.mark.parametrize("entry", range(1, N_LAYERS))
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_output_of_a_block_and_the_input_of_the_next_are_one_entry(backend, entry):
    model = models.tiny(backend)
    sites = at(entry, EDIT), at(entry - 1, EDIT, site="resid_post"), at(entry, EDIT, site="resid_pre")
    after, *others = (captured(model, hooks, RUNS["own"]) for hooks in sites)
    assert all(torch.equal(after, other) for other in others)
    lens = [shl.logit_lens(model, PROMPT, hooks=hooks, progress=False) for hooks in sites]
    assert all(torch.equal(lens[0].top_logprobs, other.top_logprobs) for other in lens)


def test_the_first_and_the_last_entry_have_names_of_their_own():
    names = [name for name, _ in at(range(N_LAYERS + 1), EDIT)]
    assert names[0] == site_name(0, "resid_pre") and names[-1] == site_name(N_LAYERS - 1, "resid_post")


@pytest.mark.parametrize("run", ["residual_stream", "cached"])
def test_an_entry_past_the_last_one_is_refused_with_the_range(tiny_model, run):
    with pytest.raises(SemhubError, match="residual entries 0 to 3"):
        RUNS[run](tiny_model, at(N_LAYERS + 1, EDIT))


NESTED = {
    "residual_stream": lambda model: shl.residual_stream(model, "red", progress=False),
    "generate": lambda model: shl.generate(model, "red", max_new_tokens=1, progress=False),
    "logit_lens": lambda model: shl.logit_lens(model, "red", progress=False),
}


@pytest.mark.parametrize("inner", NESTED)
@pytest.mark.parametrize("outer", ["residual_stream", "cached"])
def test_a_run_inside_a_hook_of_a_run_is_refused_and_the_outer_run_goes_on(tiny_model, outer, inner):
    errors = []

    def nested(activation, hook):
        with pytest.raises(SemhubError, match="under way on this model") as caught:
            NESTED[inner](tiny_model)
        errors.append(caught.value)

    plain = captured(tiny_model, at(2, EDIT), RUNS[outer])
    found = captured(tiny_model, [(site_name(1, "resid_pre"), nested), *at(2, EDIT)], RUNS[outer])
    assert errors and torch.equal(found, plain)
    NESTED[inner](tiny_model)  # nothing of the refusals lingers


def test_another_model_may_run_inside_a_hook(tiny_model):
    other, found = models.tiny(seed=1), []

    def nested(activation, hook):
        found.append(shl.residual_stream(other, "red", progress=False))

    shl.residual_stream(tiny_model, "red", hooks=[(site_name(1, "resid_pre"), nested)], progress=False)
    assert torch.equal(found[0], shl.residual_stream(other, "red", progress=False))
