"""Experiments: planted effects are found, effects without pairing are not, and the data is what it says."""

import re
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from jaxtyping import TypeCheckError

import semhub_lens as shl
from models import HOOKED_LINE, WORDS
from samples import leg_text
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import derangement, generator
from semhub_lens.data.code.list_literals import list_literals
from semhub_lens.data.numbers.arithmetic import number_word, products, sums
from semhub_lens.data.text.texts import BUNDLED, glossary, passages, sentences
from semhub_lens.experiments.legs_in_common import Stacks, similarity_legs
from semhub_lens.experiments.registry import EXPERIMENTS
from semhub_lens.experiments.sampling import gloss_items, sample
from semhub_lens.geometry.measures import MEASURES
from semhub_lens.inputs.tokens import token_texts, word_tokens

TEXT = [name for name, entry in EXPERIMENTS.items() if not entry.modality]
RUN = [name for name in TEXT if HOOKED_LINE or not name.endswith(".steering")]
"""The steering sweeps take minutes each: they run on one line."""
WITH_RANDOM = ("arithmetic.similarity", "arithmetic.logit_lens")
PLANTED = leg_text()
WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)


def planted(items=60, layers=6, shared_at=3, strength=2.0, seed=0):
    """Two stacks of states that share a signal per item at one layer only."""
    source = torch.Generator().manual_seed(seed)
    a, b, signal = (torch.randn(layers, items, 24, generator=source) for _ in range(3))
    at = (torch.arange(layers) == shared_at)[:, None, None] * strength
    return a + at * signal, b + at * signal


def test_a_shared_concept_planted_at_one_layer_is_found_there():
    (leg,) = similarity_legs(Stacks(*planted()), PLANTED, WHERE, 0)
    assert (leg.verdict.status, leg.layer) == ("supported", 3)
    assert leg.verdict.low > leg.verdict.threshold


def test_with_the_pairing_shuffled_the_shared_concept_is_gone():
    a, b = planted()
    (leg,) = similarity_legs(Stacks(a, b[:, derangement(60, generator(1))]), PLANTED, WHERE, 0)
    assert leg.verdict.status == "not supported"
    assert abs(float(leg.mean[3])) < 0.1


def test_a_leg_survives_saving(tmp_path):
    (leg,) = similarity_legs(Stacks(*planted()), PLANTED, WHERE, 0)
    result = shl.ExperimentResult("x", "planted", (leg,), ("a note",), provenance=WHERE)
    again = shl.ExperimentResult.load(result.save(tmp_path / "x.safetensors"))
    assert again.legs[0].verdict == leg.verdict and again.notes == ("a note",) and again.provenance == WHERE
    assert torch.equal(again.legs[0].effect, leg.effect) and again.to_frame().equals(result.to_frame())


def test_the_sentences_are_parallel_distinct_and_end_alike():
    texts = sentences()
    assert set(texts) == set(BUNDLED) and {len(column) for column in texts.values()} == {160}
    for code, column in texts.items():
        assert len(set(column)) == 160
        assert all(text.endswith("。" if code == "zh" else ".") and not re.search(r"\d", text) for text in column)


def test_glossary_words_occur_in_the_texts_and_glosses_are_single_words():
    for code in BUNDLED[1:]:
        text = " ".join(sentences()[code] + passages()[code]).casefold()
        entries = glossary(code)
        assert len(entries) > 400
        assert all(word.casefold() in text for word in entries)
        assert all(re.fullmatch(r"[a-z]+", gloss) for glosses in entries.values() for gloss in glosses)


def test_there_are_846_sums_and_277_products_below_a_hundred():
    assert (len(sums()), len(products())) == (846, 277)
    assert all(e.result < 100 for e in sums() + products())
    assert {e.words for e in sums()} >= {"three plus two", "ninety plus nine"}
    assert len({number_word(i) for i in range(100)}) == 100


def test_every_comma_of_a_list_literal_is_a_comma_between_elements():
    literals = list_literals()
    assert len(literals) > 100
    for literal in literals:
        assert all(literal.snippet[at] == "," for at in literal.commas)
        assert literal.snippet.endswith("]") and len(literal.commas) >= 2


def test_an_empty_folder_of_programs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found none in"):
        list_literals(tmp_path)


def test_samples_are_reproducible_distinct_and_large_enough():
    assert sample(50, 20, seed=3) == sample(50, 20, seed=3) != sample(50, 20, seed=4)
    assert len(set(sample(50, 20, seed=3))) == 20
    with pytest.raises(ValueError, match="at least 16 items"):
        sample(50, 7, seed=0)


def test_the_data_hash_changes_with_the_data():
    assert fingerprint(["a", "b"]) == fingerprint(["a", "b"]) != fingerprint(["b", "a"])


def test_unknown_experiments_are_listed(tiny_model):
    with pytest.raises(ValueError, match=r"Unknown experiment 'multilingual\.nothing', did you mean multilingual\."):
        shl.experiments.run("multilingual.nothing", tiny_model)


def test_a_tokenizer_that_does_not_fit_the_items_is_said(tiny_model):
    with pytest.raises((ValueError, TypeCheckError), match="one-token word"):
        shl.experiments.run("multilingual.logit_lens", tiny_model, n=16, progress=False)


def test_glosses_that_are_one_token_are_one_gloss(tiny_model):
    """A word's tokens are those of all its cases: "Dog" and "dog" would be exchanged for each other."""
    words = [word for word in WORDS[:22] if word.isalpha()]
    text = " ".join(["is", *words])
    glosses = {word: (words[i - 1],) for i, word in enumerate(words)}
    whole = gloss_items(tiny_model, [text], glosses, 30, seed=0)
    assert "0 repeated gloss" in whole.report
    items = gloss_items(tiny_model, [text], glosses | {words[8]: (glosses[words[4]][0].title(),)}, 30, seed=0)
    assert len(items.glosses) == len(whole.glosses) - 1 and "1 repeated gloss" in items.report


@pytest.mark.real
@pytest.mark.parametrize("code", ["es", "zh"])
def test_gloss_items_stand_right_before_their_word(one_gemma, code):
    items = gloss_items(one_gemma, passages()[code], glossary(code), 30, seed=0)
    read = [(p, at) for p, places in zip(items.prompts, items.positions, strict=True) for at in places]
    assert len(read) == len(items.words) == len(items.glosses) == len(set(items.glosses)) == 30
    for (prompt, at), word, gloss in zip(read, items.words, items.glosses, strict=True):
        assert token_texts(one_gemma.tokenizer, [int(prompt.ids[at + 1])])[0].strip() == word
        assert not set(word_tokens(one_gemma.tokenizer, word).ids) & set(word_tokens(one_gemma.tokenizer, gloss).ids)
        assert gloss == (glossary(code).get(word) or glossary(code)[word.lower()])[0]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_every_experiment_runs_on_the_real_model(one_gemma, request, name, tmp_path, monkeypatch):
    """One of each kind with a random-weight model beside it; language mass and steering on less than they measure."""
    baseline = HOOKED_LINE and name in WITH_RANDOM and request.getfixturevalue("random_gemma")
    settings = {"n": 16, "seed": 1, "baseline": baseline, "out": tmp_path / "runs", "progress": False}
    if name == "multilingual.language_mass":
        (tmp_path / "es.txt").write_text("\n".join(sentences()["es"][:16]), encoding="utf-8")
        settings["data"] = f"es={tmp_path / 'es.txt'}"
    if name.endswith(".steering"):
        steering = import_module("semhub_lens.experiments." + name.replace("multilingual", "languages"))
        less = {"STRENGTHS": steering.STRENGTHS[:1], "NEW_TOKENS": 3, "PERPLEXITY_ITEMS": 2, "NAMES": {"es": "Spanish"}}
        for constant in less.keys() & vars(steering).keys():
            monkeypatch.setattr(steering, constant, less[constant])
    result = shl.experiments.run(name, one_gemma, **settings)
    assert result.id == name and len(result.legs) == len(result.summary()) > 0
    for leg in result.legs:
        assert torch.isfinite(leg.effect).all() and torch.isfinite(leg.null).all()
        assert ((leg.low <= leg.mean + 1e-6) & (leg.mean <= leg.high + 1e-6)).all()
        assert leg.provenance.data_hash and (leg.strengths or leg.layer > 0)
    assert shl.experiments.run(name, one_gemma, **settings).to_frame().equals(result.to_frame())


@pytest.mark.real
@pytest.mark.slow
def test_an_experiment_on_the_real_model_is_reproducible(one_gemma):
    runs = [
        shl.experiments.run("arithmetic.logit_lens", one_gemma, n=16, seed=1, baseline=False, progress=False)
        for _ in range(2)
    ]
    assert runs[0].summary().equals(runs[1].summary())


@pytest.mark.real
@pytest.mark.slow
def test_an_experiment_reads_through_the_packaged_translators(one_gemma):
    """The states are the same, so only the layers below the last one are read otherwise."""
    settings = {"n": 16, "seed": 1, "baseline": False, "progress": False}
    plain, tuned = (
        shl.experiments.run("arithmetic.logit_lens", one_gemma, norm=norm, **settings).legs[0]
        for norm in (None, "tuned")
    )
    assert tuned.provenance.norm.startswith("final + ") and not torch.allclose(tuned.effect[:-1], plain.effect[:-1])
    torch.testing.assert_close(tuned.effect[-1], plain.effect[-1], atol=1e-4, rtol=1e-4)


@pytest.mark.real
def test_translations_are_found_in_the_real_model_and_shuffled_ones_are_not(one_gemma):
    texts = sentences()
    states = [shl.residual_stream(one_gemma, texts[code][:24], read="mean", progress=False) for code in ("en", "fr")]
    (found,) = similarity_legs(Stacks(*states), PLANTED, WHERE, 0, centred=[True])
    assert found.verdict.status == "supported"
    wrong = states[1][:, derangement(24, generator(0))]
    (leg,) = similarity_legs(Stacks(states[0], wrong), PLANTED, WHERE, 0, centred=[True])
    assert leg.verdict.status != "supported"


@pytest.mark.parametrize("unit", ["nats", "cosine"])
def test_axes_in_nats_hold_the_layers_from_the_second_on_and_cut_the_first(unit):
    (leg,) = similarity_legs(Stacks(*planted()), PLANTED, WHERE, 0)
    curves = leg.curves.clone()
    curves[:, 0] = -400.0
    shown = shl.figure(replace(leg, wording=replace(leg.wording, unit=unit), curves=curves)).layout.yaxis2.range
    if unit == "cosine":
        assert shown is None
    else:
        assert -10 < shown[0] <= float(curves[:, 2:].min()) and shown[1] >= float(curves[:, 2:].max())


def test_a_leg_in_nats_without_curves_is_drawn():
    (leg,) = similarity_legs(Stacks(*planted()), leg_text(unit="nats"), WHERE, 0)
    drawn = shl.figure(replace(leg, curve_names=(), curves=leg.curves[:0]))
    assert drawn.layout.yaxis.range is not None and drawn.layout.yaxis2.range is None


def test_the_curves_of_every_measure_stand_behind_a_similarity_leg_but_those_of_its_own_effect(monkeypatch):
    mine = replace(MEASURES["centred"], curves={"mine": "centred"})
    monkeypatch.setitem(MEASURES, "mine", mine)
    (leg,) = similarity_legs(Stacks(*planted()), PLANTED, WHERE, 0)
    expected = {label for name, measure in MEASURES.items() if name != "effect" for label in measure.curves}
    assert expected <= {*leg.curve_names} and "mine" in leg.curve_names and "D" not in leg.curve_names
