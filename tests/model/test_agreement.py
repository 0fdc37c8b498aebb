"""What a Hugging Face model computes, against the TransformerLens model that has its weights."""

import pytest
import torch
import transformers

import models
import semhub_lens as shl
from semhub_lens.model.agreement import disagreement, reference_of


def pair(backend="bridge", **options):
    """The reference of a tiny Llama, recorded before that model is wrapped or converted."""
    hf = models.tiny_llama(vocabulary=len(models.tiny_tokenizer().get_vocab()))
    reference = reference_of(hf, **options)
    return reference, models.tiny(backend, hf=hf)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_model_with_the_same_weights_agrees_in_log_probabilities_and_in_every_state(backend):
    reference, model = pair(backend)
    assert reference.ids.shape == (1, 24) and len(set(reference.ids[0].tolist()) & {1, 2}) == 0
    found = disagreement(model, reference)
    assert found.holds and found.log_probs < 1e-4
    assert len(found.states) == model.cfg.n_layers and max(found.states) < 1e-5


def test_a_changed_block_shows_in_the_states_behind_it_and_in_the_log_probabilities():
    reference, model = pair()
    with torch.no_grad():
        model.blocks[1].mlp.out.weight.mul_(1.1)
    found = disagreement(model, reference)
    assert not found.holds and found.log_probs > found.tolerance
    assert max(found.states[:2]) < 1e-5 < found.states[2]


def test_attached_hooks_of_the_library_stay_out_of_the_comparison():
    reference, model = pair()
    with model.hooks(fwd_hooks=shl.at(1, shl.hooks.add(torch.full((32,), 5.0)))):
        assert disagreement(model, reference).holds


def test_states_of_processed_weights_are_not_compared_but_their_log_probabilities_are():
    reference, model = pair()
    model.enable_compatibility_mode(disable_warnings=True)
    found = disagreement(model, reference)
    assert found.states == () and found.holds


def test_own_tokens_are_read_and_a_mistake_past_a_window_then_shows():
    ids = torch.arange(3, 33).reshape(1, -1)
    reference, model = pair(ids=ids)
    assert torch.equal(reference.ids, ids) and disagreement(model, reference).holds
    bent = reference.log_probs.clone()
    bent[0, 29, 4] += 1.0
    assert disagreement(model, type(reference)(ids, bent, reference.states)).log_probs == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.tiny_llama().train(), "eval"),
        (lambda: models.tiny().original_model, "inside a TransformerBridge"),
        (lambda: torch.nn.Linear(2, 2), "Hugging Face"),
        (lambda: transformers.LlamaModel(models.tiny_llama().config).eval(), "gives no logits"),
    ],
)
def test_what_is_no_honest_reference_is_refused(make, message):
    with pytest.raises(shl.SemhubError, match=message):
        reference_of(make())


def test_a_model_of_another_vocabulary_is_refused():
    with pytest.raises(shl.Unfit, match="logits"):
        disagreement(models.tiny(), reference_of(models.tiny_llama(vocabulary=100)))
