"""One pass of each text serves all that is read of it, with the numbers of a pass for each read."""

import torch

import semhub_lens as shl
from jobs import job_on
from semhub_lens.experiments.languages import legs
from semhub_lens.experiments.legs_in_common import measure_stacks

TEXTS = {"en": ["dog red cat .", "two plus three .", "cat one ."], "zh": ["perro blue .", "four .", "cat dog five ."]}
SUFFIX = {"en": " house two", "zh": " chat"}


def alike(found, expected):
    assert found.keys() == expected.keys()
    for read, by_name in expected.items():
        for name, states in by_name.items():
            for one, other in zip(found[read][name], states, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def runs_of(monkeypatch, measure):
    """What `measure` returns, and how many prompts were run for it."""
    from semhub_lens.model import batches

    seen, packed = [], batches.batches

    def counted(prompts, *rest, **settings):
        seen.extend(prompts)
        return packed(prompts, *rest, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "batches", counted)
        return measure(), len(seen)


def test_sentences_are_read_in_the_passes_of_their_continuation(tiny_model, monkeypatch):
    monkeypatch.setattr(legs, "SUFFIX", SUFFIX)
    job = job_on(tiny_model, 16)
    shared, few = runs_of(monkeypatch, lambda: legs._both_reads(job, TEXTS))
    monkeypatch.setattr(legs, "_begins_with", lambda *_: False)
    apart, many = runs_of(monkeypatch, lambda: legs._both_reads(job, TEXTS))
    assert (few, many) == (12, 24)  # six texts, of the model and of random weights
    alike(shared, apart)


def test_a_sentence_that_the_continuation_changes_is_run_alone(tiny_model):
    prompt = shl.Prompt.from_text(tiny_model, "dog red two", spans={"sentence": (0, 7)})
    sentence = shl.Prompt.from_text(tiny_model, "dog red")
    assert legs._begins_with(prompt, sentence)
    assert not legs._begins_with(prompt, shl.Prompt.from_text(tiny_model, "dog blue"))
    assert not legs._begins_with(prompt, shl.Prompt.from_text(tiny_model, "dog red two"))


def test_several_reads_of_the_same_texts_are_those_of_each_alone(tiny_model, monkeypatch):
    job = job_on(tiny_model, 16)
    both, few = runs_of(monkeypatch, lambda: measure_stacks(job, TEXTS, ("mean", "last")))
    each, many = runs_of(
        monkeypatch, lambda: measure_stacks(job, TEXTS, ("mean",)) | measure_stacks(job, TEXTS, ("last",))
    )
    assert (few, many) == (12, 24)
    alike(both, each)
    for read in ("mean", "last"):  # the bag is the mean of the embeddings, whatever else is read
        bag = shl.residual_stream(tiny_model, TEXTS["en"], read="mean", progress=False)[:1]
        torch.testing.assert_close(both[read]["en"][2], bag, atol=1e-6, rtol=0)
