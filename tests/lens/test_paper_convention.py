"""The reference code's conventions, against Hugging Face's own hidden states."""

import pytest
import torch

import models
import semhub_lens as shl
from jobs import job_on
from semhub_lens.experiments.languages.legs import _read_glosses
from semhub_lens.experiments.sampling import GlossItems
from semhub_lens.inputs.prompts import Prompt

TEXTS = ["three plus two", "red dog", "five minus one is", "blue cat"]


def hidden_states(text):
    """What the reference code reads: `hidden_states[1:]` of one prompt, bare, and the unembedding."""
    hf = models.tiny_llama()
    ids = [1, *models.tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        states = hf(torch.tensor([ids]), output_hidden_states=True).hidden_states[1:]
    return torch.stack([layer[0] for layer in states]), hf.lm_head.weight.detach()


def test_the_paper_readout_is_hidden_states_times_the_unembedding(tiny_model):
    targets = [[3, 4, 5, 6]] * len(TEXTS)
    found = shl.target_lens(tiny_model, TEXTS, targets, norm="paper", progress=False)
    for item, text in enumerate(TEXTS):
        states, unembedding = hidden_states(text)
        expected = (states[:, -1] @ unembedding.T).log_softmax(-1)[:, 3:7]
        torch.testing.assert_close(found.log_probs[1:, item], expected, atol=1e-4, rtol=1e-4)
    bare = shl.target_lens(tiny_model, TEXTS, targets, norm="none", progress=False)
    assert torch.equal(found.log_probs[:-1], bare.log_probs[:-1])
    assert not torch.allclose(found.log_probs[-1], bare.log_probs[-1], atol=1e-2)


@pytest.mark.parametrize("name", ["states", "reads"])
def test_states_of_the_paper_convention_are_those_of_the_reference(tiny_model, name):
    job = job_on(tiny_model, 16, norm="paper", convention="paper", progress=False)
    found = job.states("texts", TEXTS) if name == "states" else job.reads("texts", TEXTS, ["last"])["last"]
    for item, text in enumerate(TEXTS):
        torch.testing.assert_close(found[1:, item], hidden_states(text)[0][:, -1], atol=1e-4, rtol=1e-4)


def test_the_best_gloss_counts_in_the_paper_convention_and_the_first_in_ours(tiny_model):
    prompt = Prompt.from_text(tiny_model, "red dog cat house")
    items = GlossItems([prompt], [[2, 3]], ["cat", "house"], ["blue", "green"], [20, 21], [[5, 6], [7]], "")
    paper = _read_glosses(job_on(tiny_model, 16, norm="paper", convention="paper", progress=False), "fr", items)
    direct = shl.target_lens(
        tiny_model, prompt, [[20, 5, 6, 7], [21, 5, 6, 7]], read_at=[[2, 3]], norm="paper", progress=False
    ).log_probs
    torch.testing.assert_close(paper.own, direct[..., 0])
    torch.testing.assert_close(paper.words[..., 0], torch.maximum(direct[..., 1], direct[..., 2]))
    torch.testing.assert_close(paper.words[..., 1], direct[..., 3])
    ours = _read_glosses(job_on(tiny_model, 16, progress=False), "fr", items)
    named = shl.target_lens(
        tiny_model, prompt, [["cat", "blue", "green"], ["house", "blue", "green"]], read_at=[[2, 3]], progress=False
    ).log_probs
    torch.testing.assert_close(ours.words, named[..., 1:])


def test_an_unknown_convention_is_refused(tiny_model):
    with pytest.raises((ValueError, TypeError), match="convention"):
        shl.experiments.run("probing", tiny_model, convention="other")


def test_data_for_an_experiment_that_takes_none_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"probing takes no data"):
        shl.experiments.run("probing", tiny_model, data="somewhere")
