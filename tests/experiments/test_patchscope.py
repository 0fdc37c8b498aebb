"""Words read in another language: items, a planted effect, its absence, and the whole experiment on the tiny model."""

import pytest
import torch

import semhub_lens as shl
from jobs import job_on
from models import LISTED
from semhub_lens.base.rng import generator
from semhub_lens.experiments.languages import patchscope as experiment
from semhub_lens.interventions.readings import SHOWN

TINY = [word for word in LISTED.split() if word.isalpha()]
COUNT = 16
ITEMS = experiment.WordItems({"fr": [f"mot{i}" for i in range(COUNT)], "en": TINY[:COUNT], "zh": TINY[:COUNT]}, {})
END = experiment.Target("last entry", (3,))


@pytest.fixture
def tiny_words(monkeypatch):
    """Concepts whose words the tiny tokenizer has; the English and Chinese words are the same ones in another order."""
    shown = ["perro"] * SHOWN
    columns = {"fr": TINY[4 : 4 + COUNT], "en": TINY[:COUNT], "zh": TINY[COUNT - 1 :: -1]}
    monkeypatch.setattr(experiment, "concepts", lambda: {code: shown + words for code, words in columns.items()})


def planted(model, layer=2, strength=6.0, seed=0):
    """Noise, and at one layer the direction that reads out as the item's word."""
    tokens = [shl.word_tokens(model.tokenizer, word, variants="exact").ids[0] for word in ITEMS.words["en"]]
    states = torch.randn(4, COUNT, model.cfg.d_model, generator=generator(seed))
    columns = model.W_U.detach()[:, tokens].T
    states[layer] += strength * columns / columns.norm(dim=1, keepdim=True)
    return states


def leg(model, monkeypatch, states, untrained=None):
    """The leg of a reading prompt that ends in its slot, where the last entry is the lens."""
    ends = shl.Prompt.from_text(model, "one is one two", spans={"slot": (11, 14)})
    monkeypatch.setattr(experiment, "reading_prompt", lambda *given: ends)
    both = {"fr": states, "en": planted(model, seed=5)}
    return experiment.reader_leg(job_on(model, COUNT), ITEMS, both, untrained, "en", END)


def test_a_concept_planted_at_one_entry_is_found_there_and_beats_its_controls(tiny_model, monkeypatch):
    noise = torch.randn(4, COUNT, tiny_model.cfg.d_model, generator=generator(9))
    found = leg(tiny_model, monkeypatch, planted(tiny_model), noise)
    assert (found.verdict.status, found.layer) == ("supported", 2)
    assert all(check.holds for check in found.checks) and len(found.checks) == 4
    assert found.curves[0][2] > found.curves[1][2] + 1 and found.labels[1] == f"mot1 = {TINY[1]}"


def test_with_the_states_of_other_words_nothing_is_found(tiny_model, monkeypatch):
    found = leg(tiny_model, monkeypatch, planted(tiny_model).roll(3, 1))
    assert found.verdict.status != "supported"


def test_a_concept_that_random_weights_and_the_embedding_have_too_does_not_hold_against_them(tiny_model, monkeypatch):
    states = planted(tiny_model)
    states[0] = states[2]
    found = leg(tiny_model, monkeypatch, states, planted(shl.untrained(tiny_model, seed=0), seed=3))
    failed = {check.name for check in found.checks if not check.holds}
    assert failed == {experiment.EMBEDDING, experiment.NOT_RANDOM}


def test_the_score_under_other_states_equals_a_loop():
    matrix = torch.randn(2, 5, 5, generator=generator(0))
    found = experiment.of_others(matrix)
    for word in range(5):
        above = [
            matrix[1, state, word] - torch.stack([matrix[1, state, k] for k in range(5) if k != word]).mean()
            for state in range(5)
            if state != word
        ]
        assert float(found[1, word]) == pytest.approx(float(torch.stack(above).mean()), abs=1e-5)


def test_items_are_neither_shown_nor_cognates_nor_of_several_tokens(tiny_model, monkeypatch):
    french = ["un"] * SHOWN + [f"mot{i}" for i in range(COUNT)] + ["dog", "mot", "mot"]
    english = ["cat"] * SHOWN + TINY[:COUNT] + ["dog", "two words", "cat"]
    columns = {"fr": french, "en": english, "zh": [*english[:-1], "deux mots"]}
    monkeypatch.setattr(experiment, "concepts", lambda: columns)
    items = experiment.word_items(tiny_model, 16, 0)
    assert items.dropped == {"shown in the reading prompts": SHOWN, "several tokens": 2, "shared token": 1}
    assert items.words["en"] == TINY[:COUNT] and items.words["fr"] == french[SHOWN:-3]


def test_a_tokenizer_that_splits_the_words_is_said(tiny_model):
    with pytest.raises(ValueError, match="one-token word in English and Chinese"):
        shl.experiments.run("multilingual.patchscope", tiny_model, n=16, progress=False)


def test_the_whole_experiment_runs_and_what_nothing_reads_has_no_effect(tiny_model, tiny_words):
    result = shl.experiments.run("multilingual.patchscope", tiny_model, n=16, progress=False)
    assert [leg.title for leg in result.legs] == [
        f"{name} reader, into {where}" for name in ("English", "Chinese") for where in ("the same entry", "entry 0")
    ]
    for leg in result.legs:
        assert leg.effect.shape == (4, COUNT) and torch.isfinite(leg.effect).all() and leg.wording.kind == "patchscope"
        assert leg.control_names[-1] == experiment.NOT_RANDOM
    same, first = result.legs[0], result.legs[1]
    beyond = dict(zip(same.control_names, same.controls, strict=True))
    for unread in (experiment.OTHERS, experiment.RANDOM_STATES):  # whatever state is put there
        torch.testing.assert_close(beyond[unread][-1], torch.zeros(COUNT), atol=1e-4, rtol=0)
    assert beyond[experiment.OTHERS][:-1].abs().amax(1).min() > 1e-3
    torch.testing.assert_close(same.effect[0], first.effect[0], atol=1e-4, rtol=1e-4)  # both into entry 0
