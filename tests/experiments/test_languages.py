"""Steering other languages: items, scores, controls; a planted direction is found and an unrelated one is not."""

import json

import pytest
import torch

import semhub_lens as shl
from jobs import job_on
from semhub_lens.base import optional_packages as _extras
from semhub_lens.base.rng import generator
from semhub_lens.data.text.openings import LANGUAGE_PREFIXES, openings
from semhub_lens.experiments.languages import steering
from semhub_lens.interventions import direction as directions
from semhub_lens.interventions.hooks import add, at

PAIR = steering.Pair("planted pair", "dog", "cat", ("red", "blue"), "a claim about {} text")
TEXTS = [f"{a} {b} {c}" for a in ("dog", "cat", "red") for b in ("plus", "minus") for c in ("one", "two", "three")]
ITEMS = steering.Items("es", TEXTS[:16], "planted")


def job(model, **changes):
    return job_on(model, 16, baseline=False, progress=False, **changes)


def scored(model, axis):
    """P(positive) rises with the component of the added vector along `axis`; the other scores stay."""
    noise = 0.02 * torch.randn(16, generator=generator(3))
    still = {name: torch.zeros(16) for name in steering.DAMAGES}

    def measure(hooks):
        if not hooks:
            return {steering.POSITIVE: torch.full((16,), 0.5), **still}
        ((name, hook),) = hooks
        assert name == "blocks.2.hook_resid_pre" and hook.positions == 1
        added = hook.edit(torch.zeros(16, model.cfg.d_model), torch.arange(16), torch.zeros(16, dtype=torch.long))
        return {steering.POSITIVE: torch.sigmoid(added @ axis / axis.norm()) + noise, **still}

    return measure


def beside(model, plus, minus, *others):
    """The direction of two words, without its part along those of other words."""
    spanned = [directions.words(model, *pair, 2) for pair in others]
    basis = torch.linalg.qr(torch.stack(spanned).T).Q
    axis = directions.words(model, plus, minus, 2)
    return axis - basis @ (basis.T @ axis)


def leg(model, axis):
    (found,) = steering.steer_pair(job(model), ITEMS, PAIR, scored(model, axis)).legs
    return found


def test_a_direction_that_moves_sentiment_is_found_and_beats_its_controls(tiny_model):
    found = leg(tiny_model, beside(tiny_model, "dog", "cat", ("red", "blue")))
    assert found.verdict.status == "supported" and found.title == "Spanish, planted pair (dog - cat)"
    checks = {check.name: check.holds for check in found.checks}
    assert checks == {"beyond the sign-flipped direction": True, "beyond an unrelated direction": True}


def test_where_only_the_unrelated_pair_moves_sentiment_nothing_is_claimed(tiny_model):
    found = leg(tiny_model, beside(tiny_model, "red", "blue", ("dog", "cat")))
    assert found.verdict.status != "supported"
    assert {check.name: check.holds for check in found.checks}["beyond an unrelated direction"] is False


def test_a_vector_at_the_last_entry_of_the_first_position_changes_no_new_token(tiny_model):
    vector = 50 * torch.randn(tiny_model.cfg.d_model, generator=generator(0))
    settings = {"max_new_tokens": 6, "temperature": 1.0, "progress": False}
    clean = shl.generate(tiny_model, TEXTS, **settings).token_ids
    last = tiny_model.cfg.n_layers
    steered = shl.generate(tiny_model, TEXTS, hooks=at(last, add(vector, 1.0, 1)), **settings).token_ids
    earlier = shl.generate(tiny_model, TEXTS, hooks=at(1, add(vector, 1.0, 1)), **settings).token_ids
    assert steered == clean != earlier


def test_a_cell_scores_what_the_model_writes_under_its_hooks(tiny_model):
    def length(items, texts):
        zero = torch.zeros(len(texts))
        known = {steering.POSITIVE: torch.tensor([float(len(text)) for text in texts])}
        return known | dict.fromkeys(("language lost", "relevance lost", "no text"), zero)

    measure = steering.item_measure(job(tiny_model, seed=5), ITEMS, length)
    vectors = torch.randn(16, tiny_model.cfg.d_model, generator=generator(2))
    hooks = at(1, add(vectors, 4.0, 1, each="item"))
    for used in ((), hooks):
        written = shl.generate(
            tiny_model, ITEMS.prompts, hooks=used, max_new_tokens=16, temperature=0.8, seed=5, progress=False
        )
        found = measure(used)
        assert found[steering.POSITIVE].tolist() == [len(text) for text in written.texts]
        count = steering.PERPLEXITY_ITEMS
        wanted = shl.continuation_perplexity(tiny_model, ITEMS.prompts, written, progress=False)[:count]
        assert torch.allclose(found["log-perplexity"][:count], wanted, atol=1e-4, equal_nan=True)
        assert found["log-perplexity"][count:].isnan().all()
        assert bool((found["KL to clean"] > 0).all()) is bool(used)
    assert measure(()) is measure(())


def test_items_are_openings_behind_the_prefix_of_their_language(tiny_model):
    spanish, chinese = steering.steering_items(job_on(tiny_model, 40, progress=False))
    for items in (spanish, chinese):
        known = {opening.prompt for opening in openings(items.language)}
        assert len(set(items.prompts)) == 40 and set(items.prompts) <= known
        assert all(prompt.startswith(LANGUAGE_PREFIXES[items.language]) for prompt in items.prompts)
    other = steering.steering_items(job_on(tiny_model, 40, seed=1, progress=False))[0]
    assert other.openings != spanish.openings


def test_a_corpus_of_ones_own_gives_the_first_halves_of_its_texts(tiny_model, tmp_path):
    rows = [{"text": f"Hoy número{i} es bueno", "label": "positive", "language": "es"} for i in range(20)]
    rows += [{"text": "我们今天去了公园玩", "label": "positive", "language": "zh"}] * 20
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    (found,) = steering.steering_items(job(tiny_model, data=str(path)))
    assert found.language == "es" and set(found.openings) <= {f"Hoy número{i}" for i in range(20)}
    assert len(set(found.openings)) == 16


def test_a_corpus_without_texts_in_these_languages_is_refused(tiny_model, tmp_path):
    path = tmp_path / "own.jsonl"
    row = {"text": "The soup was cold and late", "label": "negative", "language": "en"}
    path.write_text("\n".join([json.dumps(row)] * 20), encoding="utf-8")
    with pytest.raises(ValueError, match="fewer than 16 texts in each of the languages es, zh"):
        steering.steering_items(job(tiny_model, data=str(path)))


def test_halves_are_words_or_chinese_characters_and_never_long():
    assert steering.first_half("uno dos tres cuatro cinco", "es") == "uno dos"
    assert steering.first_half("今天天气真的很好", "zh") == "今天天气"
    assert steering.first_half("uno dos tres", "es") is None and steering.first_half("天气很好", "zh") is None
    assert len(steering.first_half("a " * 500, "es").split()) == 20


def test_text_scores_tell_praise_from_blame_and_one_language_from_another():
    texts = ["La sopa estaba deliciosa.", "La sopa estaba asquerosa.", "The soup was delicious.", "  "]
    items = steering.Items("es", ["Probé la sopa y"] * 4, "texts")
    found = steering.TextScores()(items, texts)
    praise, blame, english, blank = found[steering.POSITIVE].tolist()
    assert min(praise, english) > 0.5 > blame and blank == steering.NEUTRAL
    lost = found["language lost"].tolist()
    assert max(lost[:2]) < 0.1 and min(lost[2:]) > 0.9
    assert found["no text"].tolist() == [0, 0, 0, 1] and found["relevance lost"].isnan().tolist() == [False] * 3 + [
        True
    ]


def test_without_the_extra_the_packages_are_named_before_the_model_runs(tiny_model, monkeypatch):
    def missing(module):
        raise ImportError(f"No module named {module!r}")

    def run(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(_extras, "import_module", missing)
    monkeypatch.setattr(steering, "item_measure", run)
    with pytest.raises(ValueError, match=r'needs the package .* pip install "semhub-lens\[scores\]"'):
        shl.experiments.run("multilingual.steering", tiny_model, n=16, progress=False)


def test_words_that_the_tokenizer_cannot_tell_apart_are_said(tiny_model):
    with pytest.raises(ValueError, match="direction of layer 2 is 0"):
        shl.experiments.run("multilingual.steering", tiny_model, n=16, progress=False)


def test_every_item_has_the_same_direction_and_a_random_one_of_its_own(tiny_model):
    seen = []

    def measure(hooks):
        if hooks:
            item = torch.arange(16)
            seen.append(hooks[0][1].edit(torch.zeros(16, tiny_model.cfg.d_model), item, torch.zeros_like(item)))
        return dict.fromkeys((steering.POSITIVE, *steering.DAMAGES), torch.zeros(16))

    found = steering.steer_pair(job(tiny_model), ITEMS, PAIR, measure).sweep
    assert found.conditions == ("steered", "random", "flipped", "unrelated") and len(seen) == 8
    steered, random = seen[0], seen[2]
    assert torch.equal(steered[0], steered[9]) and torch.allclose(steered.norm(dim=1), random.norm(dim=1))
    assert torch.unique(random, dim=0).shape[0] == 16
    assert torch.equal(seen[4], -steered)


def test_the_paper_takes_one_middle_layer_and_one_strength(tiny_model):
    still = dict.fromkeys((steering.POSITIVE, *steering.DAMAGES), torch.zeros(16))
    found = steering.steer_pair(job(tiny_model, convention="paper"), ITEMS, PAIR, lambda hooks: still).sweep
    assert (found.layers, found.strengths) == ((2,), (5.0,))
