"""Steering what an animal heard is taken for: planted answers turn, opposite ones do not."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import models
import multimodal as made
import semhub_lens as shl
from hearing import Planted, checks, clip
from jobs import job_on
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.sounds import MAMMAL
from semhub_lens.experiments import steering_legs
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.media import audio_steering
from semhub_lens.experiments.media.audio_steering import (
    NO,
    SPAN,
    YES,
    animals_heard,
    arm_of,
    steering_vectors,
    told_apart,
)
from semhub_lens.experiments.steering_legs import BEYOND
from semhub_lens.inputs.readers import ProcessorReader

MAMMALS = "dog cat horse cow pig sheep rabbit bear lion monkey mouse tiger elephant wolf fox deer goat whale".split()  # noqa: SIM905
OTHERS = "duck eagle owl chicken penguin parrot swan pigeon goose crow shark salmon trout bee ant frog snake".split()  # noqa: SIM905


def animal_tokenizer():
    """Animals, answers and the question's words, with and without a leading space."""
    words = [*MAMMALS, *OTHERS, "Yes", "No", "red", "blue", "Is", "this", "animal", "a", "mammal?", "Answer:", "="]
    listed = ["<unk>", "<bos>", "<eos>", *words, *("▁" + word for word in words)]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", padding_side="right"
    )
    tokenizer.init_kwargs |= {"name_or_path": "tiny-zoo", "add_bos_token": True}
    return tokenizer


@pytest.fixture(scope="module", params=models.BACKENDS[:1])
def zoo(request):
    return models.tiny(request.param, seed=5, tokenizer=animal_tokenizer())


@pytest.fixture
def animals(monkeypatch):
    monkeypatch.setattr(audio_steering, "animal_sounds", lambda: [clip(name) for name in MAMMALS + OTHERS])
    monkeypatch.setattr(audio_steering, "STRENGTHS", (1.0,))
    monkeypatch.setattr(steering_legs, "PAPER_STRENGTHS", (10.0,))


def zoo_job(model, **settings):
    return job_on(model, 16, seed=1, progress=False, reader=Planted(model), **settings)


def planted_arm(model):
    job = zoo_job(model)
    heard = animals_heard(job)[0]
    return arm_of(job.reader, heard[True], heard[False], MAMMAL, job.seed)


def test_animals_are_divided_into_mammals_and_others(zoo, animals, monkeypatch):
    heard, data, counted = animals_heard(zoo_job(zoo))
    assert {one.name for one in heard[True]} <= set(MAMMALS) and {one.name for one in heard[False]} <= set(OTHERS)
    assert len(heard[True]) == len(heard[False]) == 16 and "35 of 35" in counted and "planted" in data
    labels = ["dogs barking", "cat and dog", "dog chasing a duck", "engine", "crow cawing"]
    found = [audio_steering._animal(clip(label)) for label in labels]
    assert [(one.name, one.mammal) if one else None for one in found] == [
        ("dog", True), ("cat", True), None, None, ("crow", False)
    ]  # fmt: skip
    monkeypatch.setattr(audio_steering, "animal_sounds", lambda: [clip(name) for name in MAMMALS + OTHERS[:5]])
    with pytest.raises(ValueError, match="16 other animals with a one-token name, got n=16 and 5"):
        animals_heard(zoo_job(zoo))


def test_directions_lead_from_the_animal_heard_to_one_of_the_other_class(zoo, animals):
    side = planted_arm(zoo)
    assert set(side.names) <= set(MAMMALS) and set(side.new) <= set(OTHERS) and len(set(side.new)) == 16
    vectors = steering_vectors(zoo_job(zoo), side)
    assert vectors.shape == (4, 16, zoo.cfg.d_model)
    ids = [zoo.tokenizer.convert_tokens_to_ids(f"▁{word}") for word in (side.new[3], side.names[3])]
    difference = (zoo.W_U[:, ids[0]] - zoo.W_U[:, ids[1]]).detach().float().cpu()
    torch.testing.assert_close(vectors[2, 3] / vectors[2, 3].norm(), difference / difference.norm())
    states = [shl.residual_stream(zoo, side.shown, read=place, progress=False)[2] for place in (1, 2)]
    expected = torch.stack(states).norm(dim=-1).mean()
    torch.testing.assert_close(vectors[2].norm(dim=-1), expected.expand(16), atol=1e-4, rtol=1e-4)


def by_hand(model, prompt, vector, strength, layer, positions):
    """P(No) of one prompt under a hook written out."""

    def edit(activation, hook):
        activation = activation.clone()
        activation[:, positions] += strength * vector
        return activation

    name = f"blocks.{layer}.hook_resid_pre" if layer < 3 else "blocks.2.hook_resid_post"
    with torch.no_grad():
        logits = model.run_with_hooks(prompt.ids[None], fwd_hooks=[*prompt.hooks, (name, edit)])[0, -1]
    found = {}
    for word in (YES, NO):
        ids = [model.tokenizer.convert_tokens_to_ids(spelt) for spelt in (word, f"▁{word}")]
        found[word] = logits.softmax(-1)[ids].sum()
    return float(found[NO] / (found[YES] + found[NO]))


def test_a_run_steers_both_ways_with_all_controls_and_as_by_hand(zoo, animals):
    result = audio_steering.run_steering(zoo_job(zoo))
    assert [leg.title for leg in result.legs] == [
        "mammal heard, other animal added",
        "other animal heard, mammal added",
    ]
    assert all(set(checks(leg)) == {*BEYOND.values(), NOT_RANDOM} for leg in result.legs)
    assert [sweep.names for sweep in result.extras] == [("P(No)", "KL to clean"), ("P(Yes)", "KL to clean")]
    assert result.extras[0].clean[1].abs().max() == 0 and result.extras[0].effect("KL to clean").max() > 0
    assert any("written name" in note and "chance" in note for note in result.notes)

    sweep, side = result.extras[0], planted_arm(zoo)
    vectors = steering_vectors(zoo_job(zoo), side)
    cell = sweep.scores[:, sweep.layers.index(2), sweep.strengths.index(1.0), 0, 3]
    steered = cell[sweep.conditions.index("steered")]
    assert float(steered) == pytest.approx(by_hand(zoo, side.shown[3], vectors[2, 3], 1.0, 2, [1, 2]), abs=1e-4)
    at_answer = cell[sweep.conditions.index("last layer")]
    assert float(at_answer) == pytest.approx(by_hand(zoo, side.shown[3], vectors[2, 3], 1.0, 3, [-1]), abs=1e-4)
    assert float(sweep.clean[0, 3]) == pytest.approx(by_hand(zoo, side.shown[3], vectors[2, 3], 0.0, 2, [1]), abs=1e-5)


def test_the_papers_convention_adds_the_bare_difference_at_one_layer(zoo, animals):
    result = audio_steering.run_steering(zoo_job(zoo, convention="paper", baseline=False))
    sweep, side = result.extras[0], planted_arm(zoo)
    assert sweep.layers == (2,) and sweep.strengths == steering_legs.PAPER_STRENGTHS
    rows = [shl.direction.unembedding(zoo, f" {n}", f" {o}") for n, o in zip(side.new, side.names, strict=True)]
    torch.testing.assert_close(sweep.norms[0], torch.stack(rows).norm(dim=-1))


def toward_no(model, prompt, layer):
    """Gradient of log p(No) - log p(Yes) with respect to a vector added at the sound's positions."""
    added = torch.zeros(model.cfg.d_model, requires_grad=True)

    def edit(activation, hook):
        mask = torch.zeros(activation.shape[1], 1)
        mask[list(prompt.spans[SPAN])] = 1
        return activation + mask * added

    hooks = [*prompt.hooks, (f"blocks.{layer}.hook_resid_pre", edit)]
    logits = model.run_with_hooks(prompt.ids[None], fwd_hooks=hooks)[0, -1]
    ids = [[model.tokenizer.convert_tokens_to_ids(s) for s in (w, f"▁{w}")] for w in (NO, YES)]
    (logits[ids[0]].logsumexp(0) - logits[ids[1]].logsumexp(0)).backward()
    return added.grad


@pytest.mark.parametrize("sign", [1, -1])
def test_directions_that_turn_the_answer_are_found_and_opposite_ones_are_not(zoo, animals, monkeypatch, sign):
    def planted(job, side):
        rows = torch.stack(
            [torch.stack([toward_no(zoo, p, layer) for p in side.shown]) if 0 < layer < 3 else torch.ones(16, 32)
             for layer in range(4)]
        )  # fmt: skip
        turned = rows if side.answers[0] == NO else -rows
        return sign * 4 * turned / turned.norm(dim=-1, keepdim=True)

    monkeypatch.setattr(audio_steering, "steering_vectors", planted)
    result = audio_steering.run_steering(zoo_job(zoo, baseline=False))
    for leg in result.legs:
        assert (leg.verdict.status == "supported") == (sign == 1)
        assert checks(leg)[BEYOND["flipped"]] == (sign == 1)


def test_answers_that_know_mammals_are_told_from_those_that_do_not():
    assert "accuracy 100%" in told_apart(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2]))
    blind = told_apart(torch.full((4,), 0.7), torch.full((4,), 0.7))
    assert "accuracy 50% (Yes to 100% of mammals, 100% of others)" in blind and "in 50% of pairs" in blind


@pytest.fixture(scope="module")
def ears():
    return made.bridge("qwen2_audio")


def test_steering_runs_on_a_multimodal_model(ears, monkeypatch):
    words = [*made.WORDS[:-2], *made.TILES]
    listed = [
        MediaItem(word, "noise", word, {"en": (word,)}, word, lambda i=i: (made.sound(i), made.RATE))
        for i, word in enumerate(words[:34])
    ]
    heard = {kind: [audio_steering.Heard(item, item.key, kind) for item in listed[kind::2]] for kind in (True, False)}
    monkeypatch.setattr(audio_steering, "animals_heard", lambda job: (heard, "noise", "all"))
    monkeypatch.setattr(audio_steering, "STRENGTHS", (1.0,))
    reader = ProcessorReader(made.processor("qwen2_audio"), "audio")
    result = audio_steering.run_steering(job_on(ears, 17, progress=False, reader=reader))
    assert all(torch.isfinite(leg.effect).all() and leg.effect.abs().max() > 0 for leg in result.legs)
    assert all(set(checks(leg)) == {*BEYOND.values(), NOT_RANDOM} for leg in result.legs)
    assert shl.figure(result).data
