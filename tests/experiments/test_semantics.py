"""Formal semantics: planted effects are found, and items are what they say."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

import models
import semhub_lens as shl
from jobs import job_on
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import derangement, generator
from semhub_lens.data.semantics.lexicon import NAMES, PERSONS
from semhub_lens.data.semantics.logical_forms import ROLES, read_cogs, semantic_items
from semhub_lens.data.semantics.roles import role_items
from semhub_lens.experiments.job import len_of
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.semantics.legs import (
    UNDETERMINED,
    Roles,
    _role_words,
    _roles_leg,
    _sentences,
    _shuffled,
    _swapped,
)
from semhub_lens.experiments.semantics.rivals import Rivals, StatesOfTexts, rivals_leg
from semhub_lens.experiments.semantics.role_prompts import RolePrompt, RolePrompts, role_prompts
from semhub_lens.inputs.tokens import encode

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)
LAYERS, ITEMS, WIDTH, AT = 5, 48, 32, 3
SENTENCES, TRUE, FALSE = ([f"{kind} {i}" for i in range(ITEMS)] for kind in ("sentence", "true", "false"))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def planted(strength, seed=0, order=None):
    """A sentence, its true and its false form share a topic; at one layer the true form shares who did it as well."""
    topic, roles = drawn(2, LAYERS, ITEMS, WIDTH, seed=seed)
    here = strength * (torch.arange(LAYERS) == AT)[:, None, None]
    sides = [topic + sign * here * roles for sign in (1, 1, -1)]
    if order is not None:
        sides[0] = sides[0][:, order]
    noise = drawn(3, LAYERS, ITEMS, WIDTH, seed=seed + 1)
    states = torch.cat([side + own for side, own in zip(sides, noise, strict=True)], dim=1)
    states[0, ITEMS : 2 * ITEMS] = states[0, 2 * ITEMS :]  # the embedding does not tell the forms apart
    return states


def leg_of(states, without=None, in_order=None):
    place = {text: i for i, text in enumerate(SENTENCES + TRUE + FALSE)}
    found = None if without is None else {"last": without, "mean": without}
    measured = StatesOfTexts(place, {"last": states, "mean": states}, found)
    in_order = [True] * ITEMS if in_order is None else in_order
    return rivals_leg(measured, Rivals("planted", SENTENCES, TRUE, FALSE, in_order), "last", WHERE, 0)


def checks(leg):
    return {check.name: check.holds for check in leg.checks}


def test_a_form_with_the_right_roles_planted_at_one_layer_is_found_there():
    leg = leg_of(planted(1.0), planted(0.0, seed=7))
    assert (leg.verdict.status, leg.layer) == ("supported", AT)
    assert checks(leg) == {
        "beyond the embedding layer": True,
        "beyond a bag of embeddings": True,
        "more than for other sentences": True,
        "beyond random weights": True,
        NOT_RANDOM: True,
    }


def test_the_roles_of_another_sentence_and_no_roles_are_no_effect():
    wrong = [leg_of(planted(1.0, seed, derangement(ITEMS, generator(seed)))) for seed in range(8)]
    absent = [leg_of(planted(0.0, seed)) for seed in range(8)]
    for legs in (wrong, absent):
        assert [leg.verdict.status for leg in legs].count("supported") <= 1
        assert abs(sum(float(leg.mean[AT]) for leg in legs) / len(legs)) < 0.05 < float(leg_of(planted(1.0)).mean[AT])


def test_the_same_effect_with_random_weights_fails_its_controls():
    states = planted(1.0)
    failed = checks(leg_of(states, states))
    assert not failed["beyond random weights"] and not failed[NOT_RANDOM]


def test_true_forms_that_all_sentences_prefer_are_no_effect_of_this_sentence():
    states = planted(0.0)
    shared = drawn(LAYERS, 1, WIDTH, seed=9)
    states[1:, : 2 * ITEMS] += shared[1:]  # sentences and true forms, not the false ones
    leg = leg_of(states)
    assert leg.verdict.status == "supported" and not checks(leg)["more than for other sentences"]


def test_an_effect_of_the_order_of_names_is_gone_when_both_orders_weigh_alike():
    in_order = torch.arange(ITEMS) % 4 > 0  # three quarters
    states = planted(0.0)
    signs = torch.where(in_order, 1.0, -1.0)[:, None]
    order = drawn(LAYERS, ITEMS, WIDTH, seed=5)
    order[0] = 0
    states[:, :ITEMS] += order
    states[:, ITEMS : 2 * ITEMS] += signs * order
    states[:, 2 * ITEMS :] -= signs * order
    leg = leg_of(states, in_order=in_order.tolist())
    assert leg.verdict.status == "supported"
    assert not checks(leg)["both orders of the names weighed alike"]
    weighed = leg.controls[leg.control_names.index("both orders of the names weighed alike")]
    by_hand = (leg.effect[:, in_order].mean(1) + leg.effect[:, ~in_order].mean(1)) / 2
    torch.testing.assert_close(weighed.mean(1), by_hand)


def test_the_effect_is_the_difference_of_two_cosines():
    states = planted(1.0)
    leg = leg_of(states)
    a, b, c = states[2, [5, ITEMS + 5, 2 * ITEMS + 5]]
    cosine = torch.nn.functional.cosine_similarity
    assert float(leg.effect[2, 5]) == pytest.approx(float(cosine(a, b, 0) - cosine(a, c, 0)), abs=1e-6)
    nearer = leg.curves[leg.curve_names.index("share nearer to the true form")]
    torch.testing.assert_close(nearer[1:], (leg.effect[1:] > 0).float().mean(1))


def test_names_swapped_and_shuffled_forms_differ_by_their_names_only():
    items = semantic_items(60, seed=1)
    plain, both, paper = _swapped(items), _shuffled(items, 0, both=True), _shuffled(items, 0, both=False)
    assert all(plain.in_order) and 0 < sum(both.in_order) < 60 and all(paper.in_order)
    for item, row in zip(items, zip(plain.true, plain.false, both.true, both.false, strict=True), strict=True):
        one, other = (entry.name for entry in item.names)
        other_way = {one: other, other: one}
        for true, false in (row[:2], row[2:]):
            assert [other_way.get(word, word) for word in true.split(" ")] == false.split(" ") and true != false
        assert row[0] == item.form != row[2] and sorted(row[0].split(" AND ")) == sorted(row[2].split(" AND "))
    assert paper.true == plain.true and paper.false == both.false


def prompts_of(key):
    return [RolePrompt(f"text {i}", "Ava", ROLES[int(k)], 1) for i, k in enumerate(key)]


def roles_leg(strength, key, seed=0, **stacks):
    """Log-probabilities of role words: one word likely everywhere, a frequent text, and the gold word at one layer."""
    here = drawn(LAYERS, len(key), 3, seed=seed) + torch.tensor([9.0, 0, -4]) + 3 * drawn(1, len(key), 1, seed=seed + 1)
    here[AT, torch.arange(len(key)), key] += strength
    earlier = drawn(LAYERS, len(key), 3, seed=seed + 2)
    stacks = {
        "earlier": earlier,
        "random": drawn(LAYERS, len(key), 3, seed=50),
        "undetermined": drawn(LAYERS, len(key), 3, seed=60),
    } | stacks
    prompts = RolePrompts(prompts_of(key), prompts_of(key), "planted", ())
    roles = Roles(prompts=prompts, here=here, provenance=WHERE, **stacks)
    return _roles_leg(job_on(models.tiny(), ITEMS, 0, progress=False), roles), here


KEY = torch.arange(ITEMS) % 3


def test_a_gold_role_planted_at_one_layer_is_found_there_under_a_word_that_is_always_likely():
    leg, here = roles_leg(2.0, KEY)
    assert (leg.verdict.status, leg.layer) == ("supported", AT)
    assert float(leg.mean[AT]) == pytest.approx(2.0, abs=0.5)
    assert checks(leg) == {"more than at an earlier position": True, NOT_RANDOM: True, UNDETERMINED: True}
    for i, role in enumerate(ROLES):
        curve = leg.curves[leg.curve_names.index(f"gold {role} over others")]
        torch.testing.assert_close(curve, leg.effect[:, i == KEY].mean(1))
    again, _ = roles_leg(2.0, KEY, earlier=here, random=here, undetermined=here)
    assert not any(checks(again).values())


def test_roles_shuffled_among_the_items_are_no_effect():
    leg, here = roles_leg(2.0, KEY)
    wrong = KEY[torch.randperm(ITEMS, generator=generator(3))]
    roles = Roles(
        prompts=RolePrompts(prompts_of(wrong), [], "", ()),
        here=here,
        earlier=torch.zeros_like(here),
        random=None,
        undetermined=None,
        provenance=WHERE,
    )
    again = _roles_leg(job_on(models.tiny(), ITEMS, 0, progress=False), roles)
    assert again.verdict.status == "not supported" and abs(float(again.mean[AT])) < 0.7 < float(leg.mean[AT])


def longer(**settings: Any):
    settings["max_position_embeddings"] = 160
    return LlamaConfig(**settings)


@pytest.fixture(scope="module", params=models.BACKENDS[:1])
def reader(request):
    """The tiny model with a vocabulary of the data's own words; five names are left out."""
    words = {word for item in semantic_items(3000, seed=0) for word in f"{item.sentence} {item.form}".split()}
    words |= {word for item in role_items(1200, seed=0) for word in item.prefix.split()} | set(ROLES)
    kept = sorted(words - set(NAMES[:5]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "WORDS", kept)
        patch.setattr(models, "LlamaConfig", longer)
        return models.tiny(request.param)


def test_places_break_off_before_a_name_of_one_token_and_the_earlier_position_lies_before(reader):
    job = job_on(reader, 48, 0, progress=False)
    found = role_prompts(job)
    assert [p.role for p in found.listed] == [p.role for p in found.undetermined] == list(ROLES) * 16
    assert sum(p.cleft for p in found.listed) == 24 and "5 of 44 names" in found.report[0]
    for place in found.listed + found.undetermined:
        whole = encode(reader.tokenizer, f"{place.prefix} {place.name}")
        assert whole[:-1] == encode(reader.tokenizer, place.prefix) and place.name not in NAMES[:5]
        assert whole[-1] == reader.tokenizer.convert_tokens_to_ids("▁" + place.name)
        assert 1 <= place.earlier < len_of(place.prefix, reader) - 1


def test_role_words_are_read_before_the_name_and_at_the_earlier_position(reader):
    job = job_on(reader, 16, 0, progress=False)
    places = role_prompts(job).listed
    here, earlier = _role_words(job, "roles", places)
    place = places[4]
    words = [list(ROLES)]
    for found, at in ((here, -1), (earlier, place.earlier)):
        alone = shl.target_lens(reader, place.prefix, words, read_at=at, progress=False).log_probs
        torch.testing.assert_close(found[:, 4], (alone - alone.mean(-1, keepdim=True))[:, 0], atol=1e-4, rtol=0)
    paper = replace(job, settings=replace(job.settings, convention="paper"))
    exact = shl.target_lens(reader, place.prefix, [[" " + r for r in ROLES]], variants="exact", progress=False)
    torch.testing.assert_close(_role_words(paper, "roles", places)[0][:, 4], exact.log_probs[:, 0].exp())


@pytest.mark.parametrize("convention", ["corrected", "paper"])
def test_both_experiments_run_and_swapped_forms_are_alike_at_the_embedding(reader, convention):
    found = shl.experiments.run("semantics.similarity", reader, n=20, convention=convention, progress=False)
    titles = [leg.title for leg in found.legs]
    assert len(titles) == (6 if convention == "corrected" else 3)
    assert [title.endswith(", last token") for title in titles] == [True] * 3 + [False] * (len(titles) - 3)
    assert ("in the false form" in titles[2]) == (convention == "paper")
    for leg in found.legs:
        if leg.title.startswith("names swapped"):
            assert float(leg.effect[0].abs().max()) < 1e-5 < float(leg.effect[1:].abs().max())
    lens = shl.experiments.run("semantics.logit_lens", reader, n=24, convention=convention, progress=False)
    assert [leg.wording.unit for leg in lens.legs] == ["nats" if convention == "corrected" else "probability"]
    assert any("12 clefts (fewer than 16)" in note for note in lens.notes)


def test_before_the_name_of_a_cleft_the_embedding_tells_no_role(reader):
    found = shl.experiments.run("semantics.logit_lens", reader, n=48, baseline=False, progress=False)
    every, clefts = found.legs
    assert clefts.effect.shape[1] == 24 and every.effect.shape[1] == 48
    assert float(clefts.effect[0].abs().max()) < 1e-5 < float(clefts.effect[1:].abs().max())
    assert float(every.effect[0].abs().max()) > 0.01  # in plain sentences the last word differs by role


KEPT = NAMES[5:]


def cogs(folder, rows=60, recipients=True, seed=0):
    """A corpus in the format of COGS, with agents first, and themes and recipients later in the sentence."""
    source, lines = random.Random(seed), []
    for i in range(rows):
        a, b = source.sample(KEPT, 2)
        noun = source.choice(PERSONS)
        kinds = (
            (f"{a} saw {b} .", f"see . agent ( x _ 1 , {a} ) AND see . theme ( x _ 1 , {b} )"),
            (
                f"A {noun} was seen by {a} .",
                f"{noun} ( x _ 1 ) AND see . theme ( x _ 3 , x _ 1 ) AND see . agent ( x _ 3 , {a} )",
            ),
            (
                f"{a} gave {b} a cake .",
                f"give . agent ( x _ 1 , {a} ) AND give . recipient ( x _ 1 , {b} ) AND "
                "give . theme ( x _ 1 , x _ 4 ) AND cake ( x _ 4 )",
            ),
        )
        sentence, form = kinds[i % (3 if recipients else 2)]
        lines.append(f"{sentence}\t{form}\tdev")
    path = folder / "own.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_own_sentences_are_read_and_only_those_with_two_names_are_swapped(reader, tmp_path):
    path = cogs(tmp_path)
    chosen, named, source = _sentences(job_on(reader, 30, 0, data=str(path)))
    assert source == "COGS, own.tsv" and len(chosen) == len(named) == 30
    assert {item.sentence for item in chosen} <= {item.sentence for item in read_cogs(path)}
    assert any(len(item.names) == 1 for item in chosen) and all(len(item.names) == 2 for item in named)
    found = shl.experiments.run("semantics.similarity", reader, n=20, data=path, baseline=False, progress=False)
    assert {leg.provenance.data for leg in found.legs} == {"COGS, own.tsv"}


def test_in_own_sentences_names_are_drawn_anew_and_roles_are_equally_frequent(reader, tmp_path):
    path = cogs(tmp_path, rows=300)
    found = role_prompts(job_on(reader, 31, 0, data=str(path)))
    assert [place.role for place in found.listed] == list(ROLES) * 10 and not found.undetermined
    prefixes = {place.prefix for place in found.listed}
    assert len(prefixes) == 30
    originals = {item.sentence for item in read_cogs(path)}
    assert not all(any(text.startswith(prefix) for text in originals) for prefix in prefixes)
    for place in found.listed:
        last = place.prefix.split(" ")[-1]
        assert last == {"agent": "by", "theme": "saw", "recipient": "gave"}[place.role]
        assert place.prefix.split(" ")[0] in ("A", *KEPT) and place.name in KEPT


@pytest.mark.parametrize("experiment", ["semantics.similarity", "semantics.logit_lens"])
def test_a_corpus_without_the_names_that_are_needed_is_refused(reader, tmp_path, experiment):
    path = cogs(tmp_path, recipients=False)
    kept = [row for row in path.read_text(encoding="utf-8").split("\n") if " was " in row]
    path.write_text("\n".join(kept), encoding="utf-8")
    message = {"semantics.similarity": "0 of .* have exactly two different names", "semantics.logit_lens": "0 theme"}
    with pytest.raises(ValueError, match=message[experiment]):
        shl.experiments.run(experiment, reader, n=20, data=path, progress=False)


def test_a_tokenizer_that_splits_the_names_is_refused(tiny_model):
    with pytest.raises(ValueError, match="0 of 44 names are one token each"):
        role_prompts(job_on(tiny_model, 20, 0))


@pytest.mark.parametrize("experiment", ["semantics.similarity", "semantics.logit_lens"])
def test_too_few_items_are_refused_before_the_model_runs(reader, experiment):
    with pytest.raises(ValueError, match="at least 16 items"):
        shl.experiments.run(experiment, reader, n=15, progress=False)
