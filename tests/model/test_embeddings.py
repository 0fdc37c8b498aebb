"""Embeddings written over a span: what a spoke gives a text model, the same in every run of this library."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.interventions import hooks as edits
from semhub_lens.model.capture import prompt_states

SPAN = (1, 2)


def prompt(model, seed=0, text="three plus two"):
    plain = Prompt.from_text(model, text)
    vectors = torch.randn(len(SPAN), model.cfg.d_model, generator=torch.Generator().manual_seed(seed))
    return Prompt.from_ids(plain.ids, spans={"image": SPAN}, bos=plain.bos, embeddings={"image": vectors})


def states_of(model, prompts, hooks=()):
    found = {item: states for batch in prompt_states(model, prompts, hooks) for item, states in batch}
    return [found[item] for item in range(len(prompts))]


def test_embeddings_are_the_states_of_layer_0_and_the_rest_stays(tiny_model):
    given = prompt(tiny_model)
    (states,), (plain,) = states_of(tiny_model, [given]), states_of(tiny_model, [Prompt.from_ids(given.ids)])
    torch.testing.assert_close(states[0, list(SPAN)], given.embeddings["image"])
    torch.testing.assert_close(states[0, [0, 3]], plain[0, [0, 3]])
    assert bool((states[1, 3] != plain[1, 3]).any())


def test_the_embeddings_of_a_words_own_tokens_change_nothing(tiny_model):
    plain = Prompt.from_text(tiny_model, "three plus two")
    (states,) = states_of(tiny_model, [plain])
    given = Prompt.from_ids(plain.ids, spans={"image": SPAN}, embeddings={"image": states[0, list(SPAN)]})
    torch.testing.assert_close(states_of(tiny_model, [given])[0], states)


def test_batches_of_prompts_with_and_without_embeddings_equal_single_runs(tiny_model):
    listed = [
        prompt(tiny_model, 0),
        Prompt.from_text(tiny_model, "dog"),
        prompt(tiny_model, 1, "dog cat house plus two"),
    ]
    for one, together in zip(listed, states_of(tiny_model, listed), strict=True):
        torch.testing.assert_close(together, states_of(tiny_model, [one])[0], atol=5e-5, rtol=1e-5)


def test_your_own_run_takes_the_prompts_hooks(tiny_model):
    given = prompt(tiny_model)
    capture = shl.Capture(tiny_model)
    tiny_model.run_with_hooks(given.ids[None], fwd_hooks=[*given.hooks, *capture.hooks])
    torch.testing.assert_close(capture.result(row=0), states_of(tiny_model, [given])[0], atol=1e-5, rtol=1e-5)
    assert Prompt.from_ids(given.ids).hooks == []


def test_generation_with_and_without_a_cache_and_in_a_batch_is_the_same(tiny_model):
    listed = [prompt(tiny_model, 0), prompt(tiny_model, 1, "dog cat house plus two")]
    found = shl.generate(tiny_model, listed, max_new_tokens=6, progress=False).token_ids
    assert found == shl.generate(tiny_model, listed, max_new_tokens=6, use_cache=False, progress=False).token_ids
    for one, ids in zip(listed, found, strict=True):
        assert shl.generate(tiny_model, one, max_new_tokens=6, progress=False).token_ids == (ids,)
    plain = [Prompt.from_ids(one.ids) for one in listed]
    assert found != shl.generate(tiny_model, plain, max_new_tokens=6, progress=False).token_ids


def test_interventions_act_on_what_was_written(tiny_model):
    given = prompt(tiny_model)
    other = torch.zeros(tiny_model.cfg.d_model)
    (states,) = states_of(tiny_model, [given], edits.at(0, edits.replace(other, 1.0, "image")))
    assert float(states[0, list(SPAN)].abs().max()) == 0


def test_a_patch_grid_runs_under_the_embeddings_of_both_prompts(tiny_model):
    clean, corrupted = prompt(tiny_model, 0), prompt(tiny_model, 1)
    metric = shl.metric.logit_difference(tiny_model, " two", " five")
    found = shl.patch_grid(tiny_model, clean, corrupted, metric, progress=False)
    readout, (source,) = shl.Readout(tiny_model), states_of(tiny_model, [clean])
    for layer in range(tiny_model.cfg.n_layers):
        for position in range(len(clean)):
            hooks = edits.at(layer, edits.patch(source[layer][[position]], [position]))
            (states,) = states_of(tiny_model, [corrupted], hooks)
            torch.testing.assert_close(found.values[layer, position], metric(readout(states[-1, -1:]))[0])
    both = edits.at(0, edits.patch(source[0][list(SPAN)], SPAN))
    torch.testing.assert_close(states_of(tiny_model, [corrupted], both)[0][-1], source[-1])


def test_embeddings_of_another_model_or_another_number_are_refused(tiny_model):
    ids = Prompt.from_text(tiny_model, "three plus two").ids
    with pytest.raises(ValueError, match="are 3 vectors for a span of 2 positions"):
        Prompt.from_ids(ids, spans={"image": SPAN}, embeddings={"image": torch.zeros(3, 8)})
    wrong = Prompt.from_ids(ids, spans={"image": SPAN}, embeddings={"image": torch.zeros(2, 8)})
    with pytest.raises(ValueError, match="made for another model"):
        shl.residual_stream(tiny_model, wrong, progress=False)


def test_the_perplexity_of_a_continuation_is_that_under_the_embeddings(tiny_model):
    given, new = prompt(tiny_model), [5, 9, 4]
    found = shl.continuation_perplexity(tiny_model, [given], [new], progress=False)
    whole = given.continued(new)
    assert whole.spans == given.spans and whole.ids[len(given) :].tolist() == new
    with torch.no_grad():
        logits = tiny_model.run_with_hooks(whole.ids[None], fwd_hooks=whole.hooks, return_type="logits")
    log_probs = logits[0].float().log_softmax(-1)
    expected = -sum(float(log_probs[len(given) - 1 + i, token]) for i, token in enumerate(new)) / len(new)
    assert float(found[0]) == pytest.approx(expected, abs=1e-4)
    plain = shl.continuation_perplexity(tiny_model, [Prompt.from_ids(given.ids)], [new], progress=False)
    assert abs(float(plain[0]) - expected) > 1e-3
