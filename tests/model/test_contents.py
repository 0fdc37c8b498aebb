"""A model whose weights were edited is another model to what is saved, however small the edit."""

from dataclasses import replace

import pytest
import torch

import models
import semhub_lens as shl
from jobs import job_on
from samples import leg_text
from semhub_lens.base.errors import SemhubError
from semhub_lens.evidence.legs import make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.runs import Experiment, run_experiment
from semhub_lens.model import checks
from semhub_lens.model.facts import provenance_of, weights_of
from semhub_lens.model.untrained import is_drawn_from, untrained
from semhub_lens.model.weights import content_of
from semhub_lens.workbench.asked import Asked
from semhub_lens.workbench.bench import Bench

QUIET = {"progress": False}
WORD = 4
"""A token whose row of the embedding the sample misses."""
PROMPTS = [shl.Prompt.from_ids([1, WORD, 9]), shl.Prompt.from_ids([1, 5, WORD])]


def large(backend):
    """A tiny model with a vocabulary so large that the sample misses most rows of the embedding."""
    return models.tiny(backend, hf=models.tiny_llama(vocabulary=30_000))


def embedding(model):
    return model.embed.W_E if "W_E" in dict(model.embed.named_parameters()) else model.embed.weight


def row(model):
    embedding(model).data[WORD] += 1


def entry(model):
    embedding(model).data[WORD, 3] *= -1


def without_gradients(model):
    with torch.no_grad():
        embedding(model)[WORD] = 0


def loaded(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    next(value for value in state.values() if value.shape == embedding(model).shape)[WORD] += 1
    model.load_state_dict(state)


def trained(model):
    weight = embedding(model)
    weight.grad = torch.zeros_like(weight)
    weight.grad[WORD] = 1
    torch.optim.SGD([weight], lr=0.1).step()


UNSEEN, SEEN = [row, entry], [without_gradients, loaded, trained]
"""Edits that PyTorch does not record, and edits that it does."""


@pytest.fixture(params=models.BACKENDS)
def backend(request):
    return request.param


@pytest.fixture
def model(backend):
    return large(backend)


@pytest.mark.parametrize("edit", [*UNSEEN, *SEEN])
def test_every_edit_makes_other_contents_though_the_sample_misses_it(model, backend, edit):
    sample, before, fact = weights_of(model), content_of(model), checks.right_padding(model)
    assert content_of(model) == before == content_of(large(backend))
    kept = embedding(model).detach().clone()
    edit(model)
    assert weights_of(model) == sample, "the sample sees this row: choose another"
    if edit in SEEN:
        assert provenance_of(model).content is None, "not computed for these weights"
        assert content_of(model) == provenance_of(model).content != before
        assert checks.right_padding(model) is not fact
    other = large(backend)  # as another process reads them
    edit(other)
    assert content_of(other) != before
    with torch.no_grad():
        embedding(other).copy_(kept)
    assert content_of(other) == before


@pytest.mark.parametrize("edit", UNSEEN)
def test_saved_states_of_the_model_before_its_edit_are_refused(model, backend, edit, tmp_path):
    shl.residual_stream(model, PROMPTS, out=tmp_path / "a", **QUIET)
    assert len(shl.residual_stream(model, PROMPTS, out=tmp_path / "a", **QUIET)) == 4
    other = large(backend)
    edit(other)
    with pytest.raises(SemhubError, match="content"):
        shl.residual_stream(other, PROMPTS, out=tmp_path / "a", **QUIET)


def test_a_run_of_the_model_before_its_edit_is_measured_anew(model, backend, tmp_path):
    calls = []

    def run(job):
        calls.append(job)
        effect = job.states("prompts", PROMPTS * 12).mean(-1) - job.random().states("prompts", PROMPTS * 12).mean(-1)
        provenance = job.provenance("prompts", PROMPTS)
        leg = make_leg(effect, sign_flips(effect), leg_text(), provenance=provenance, seed=job.seed, curves={})
        return shl.ExperimentResult("planted", "planted", (leg,), (), provenance=provenance)

    def measured(model):
        found = run_experiment(Experiment("planted", "planted", 24, run), job_on(model, 24), tmp_path)
        return found.legs[0].effect

    one, other = measured(model), large(backend)
    assert torch.equal(measured(model), one) and len(calls) == 1
    row(other)
    assert not torch.equal(measured(other), one) and len(calls) == 2


def test_vectors_and_translators_compare_all_values_where_both_models_know_them(model, tmp_path):
    content_of(model)
    vector = shl.SteeringVector.make(model, "up", {1: torch.ones(32)})
    maps = torch.zeros(3, 32, 32)
    translators = shl.Translators(
        "none", maps, None, torch.zeros(3, 32), torch.ones(3), torch.zeros(2, 4, 0), provenance=provenance_of(model)
    )
    older = [replace(one, provenance=replace(one.provenance, content=None)) for one in (vector, translators)]
    for one in (vector, translators, *older):
        one.check(model)
    without_gradients(model)
    for one in (vector, translators):  # nothing has read the edited model yet
        one.check(model)
    content_of(model)
    for one in (vector, translators):
        with pytest.raises(SemhubError, match="content"):
            one.check(model)
    for one in older:  # files of earlier versions know the sample only
        one.check(model)


def test_an_attribution_of_the_model_before_its_edit_does_not_join_a_lens_of_it(model):
    read = shl.Prompt.from_ids([1, 5, 9])
    found = shl.direct_attribution(model, read, token=5)
    shl.logit_lens(model, read, **QUIET).with_attribution(found)
    embedding(model).data *= 2
    with pytest.raises(SemhubError, match="another model"):
        shl.logit_lens(model, read, **QUIET).with_attribution(found)


def test_the_baseline_of_the_model_before_its_edit_is_not_its_baseline(model):
    random = untrained(model, seed=0)
    assert is_drawn_from(random, model, 0)
    without_gradients(model)
    assert not is_drawn_from(random, model, 0)


def test_the_explorer_does_not_show_what_it_kept_of_the_model_before_its_edit():
    model = models.tiny(hf=models.tiny_llama(vocabulary=30_000))
    bench, asked = Bench(model), Asked.read({"prompt": "one two"})

    def ranked():
        return list(bench.answer(asked, lambda: None))[-1].reads[0].clean.top_logprobs

    assert WORD in shl.Prompt.from_text(model, "one two").ids.tolist()
    one = ranked()
    assert ranked() is one
    without_gradients(model)
    assert not torch.equal(ranked(), one)
