"""Bundled openings, labelled sentences, concepts, and number words."""

import re
import unicodedata
from collections import Counter, defaultdict

import pytest
from num2words import num2words

from semhub_lens.data.numbers.arithmetic import LIMIT
from semhub_lens.data.numbers.number_words import NAMERS, number_words
from semhub_lens.data.numbers.probing import concept_items, number_items
from semhub_lens.data.text.corpora import sentiments
from semhub_lens.data.text.openings import LANGUAGE_PREFIXES, openings
from semhub_lens.data.text.texts import BUNDLED


def han(text):
    return sum("CJK UNIFIED" in unicodedata.name(c, "") for c in text)


def test_sentiments_are_balanced_and_enough_in_every_language():
    counts = Counter((s.language, s.label) for s in sentiments())
    for language in BUNDLED:
        assert counts[language, "positive"] == counts[language, "negative"] >= (120 if language == "en" else 40)
    assert sum(counts.values()) == len(sentiments()) == len({s.text for s in sentiments()})


def test_sentiment_sentences_are_no_template():
    for language in ("en", "fr", "es", "de"):
        words = [tuple(s.text.split()[:3]) for s in sentiments() if s.language == language]
        assert max(Counter(words).values()) <= 0.03 * len(words)
    chinese = Counter(s.text[:3] for s in sentiments() if s.language == "zh")
    assert max(chinese.values()) <= 2


def test_length_does_not_give_the_sentiment_away():
    for language in BUNDLED:
        lengths = defaultdict(list)
        for s in sentiments():
            if s.language == language:
                lengths[s.label].append(len(s.text))
        means = {label: sum(found) / len(found) for label, found in lengths.items()}
        assert abs(means["positive"] - means["negative"]) < 0.15 * means["positive"]


@pytest.mark.parametrize("items", [sentiments(), [o for code in BUNDLED for o in openings(code)]])
def test_chinese_texts_and_no_others_are_written_in_chinese(items):
    for item in items:
        assert (han(item.text) > 0.6 * len(item.text)) if item.language == "zh" else han(item.text) == 0
        assert item.text == item.text.strip() and "  " not in item.text


def test_openings_are_parallel_and_break_off():
    columns = {code: openings(code) for code in BUNDLED}
    assert {len(column) for column in columns.values()} == {45}
    for rows in zip(*columns.values(), strict=True):
        assert len({(o.row, o.context) for o in rows}) == 1 and len({o.text for o in rows}) == 5
        assert all(o.text[-1] not in ".!?。！？…" for o in rows)
        assert all(o.prompt == LANGUAGE_PREFIXES[o.language] + o.text for o in rows)
    assert len({o.context for o in columns["en"]}) >= 8


def test_openings_use_no_word_that_judges():
    judging = r"\b(good|bad|great|awful|love|hate|delicious|terrible|wonderful|happy|sad|best|worst|perfect)\b"
    assert re.search(judging, "a good meal")
    assert not [o.text for o in openings("en") if re.search(judging, o.text.lower())]


def test_other_languages_have_no_openings():
    with pytest.raises(ValueError, match="No openings in 'it'; there are en, fr, es, de, zh"):
        openings("it")


def test_concepts_have_one_label_in_every_language():
    items = concept_items()
    assert Counter(item.data_type for item in items) == dict.fromkeys(BUNDLED, 112)
    labels = defaultdict(set)
    for item in items:
        labels[item.key].add(item.label)
        labels[item.data_type, item.text].add(item.label)
    assert all(len(found) == 1 for found in labels.values())
    categories = Counter(item.label for item in items if item.data_type == "en")
    assert len(categories) >= 6 and min(categories.values()) >= 12
    assert all(han(item.text) == (len(item.text) if item.data_type == "zh" else 0) for item in items)
    assert all((item.text[0].isupper()) == (item.data_type == "de") for item in items if item.data_type != "zh")


def test_words_spelt_alike_in_two_languages_can_be_left_out():
    items, distinct = concept_items(), concept_items(cognates=False)
    assert len({i.text.casefold() for i in distinct}) == len(distinct) < len(items)
    left_out = {i.text for i in items} - {i.text for i in distinct}
    assert {"train", "tractor", "bus", "Bus", "lion", "Hand", "hand"} <= left_out and "dog" not in left_out


@pytest.mark.parametrize("language", ["en", "fr", "es", "de"])
def test_number_words_are_those_of_another_library(language):
    assert [number_words(language, n) for n in range(LIMIT)] == [num2words(n, lang=language) for n in range(LIMIT)]


def test_chinese_number_words_mean_their_number():
    def value(word):
        digits = {c: i for i, c in enumerate("零一二三四五六七八九")}
        if "十" not in word:
            return digits[word]
        tens, ones = word.split("十")
        return 10 * (digits[tens] if tens else 1) + (digits[ones] if ones else 0)

    assert [value(number_words("zh", n)) for n in range(LIMIT)] == list(range(LIMIT))
    assert [number_words("zh", n) for n in (10, 11, 20, 42)] == ["十", "十一", "二十", "四十二"]


def test_number_words_of_other_languages_or_numbers_are_refused():
    with pytest.raises(ValueError, match="No number words in 'it'"):
        number_words("it", 3)
    for language in NAMERS:
        with pytest.raises(ValueError, match="exist from 0 to 99, got 100"):
            number_words(language, 100)
        with pytest.raises(ValueError, match="exist from 0 to 99, got -1"):
            number_words(language, -1)


def test_every_text_of_a_number_says_that_number():
    items = number_items(label="value", seed=1)
    assert Counter(item.data_type for item in items) == dict.fromkeys(["digits", *NAMERS, "sum"], 100)
    for item in items:
        assert item.label == item.key
        if item.data_type == "digits":
            assert item.text == item.key
        elif item.data_type == "sum":
            first, second = map(int, item.text.split("+"))
            assert first + second == int(item.key) and (min(first, second) > 0 or int(item.key) < 2)
        else:
            assert item.text == number_words(item.data_type, int(item.key))


def test_labels_of_numbers_by_hand():
    labels = {name: {i.key: i.label for i in number_items(label=name)} for name in ("tens", "parity", "magnitude")}
    assert [labels["tens"][n] for n in ("0", "9", "10", "99")] == ["0", "0", "1", "9"]
    assert [labels["parity"][n] for n in ("0", "7")] == ["even", "odd"]
    assert [labels["magnitude"][n] for n in ("9", "10", "50")] == ["below 10", "below 50", "below 100"]


def test_the_seed_decides_on_the_sums_and_on_nothing_else():
    first, second = number_items(seed=0), number_items(seed=1)
    assert first == number_items(seed=0)
    assert {a.data_type for a, b in zip(first, second, strict=True) if a != b} == {"sum"}


@pytest.mark.parametrize("numbers", [[], [3, 3], [100], [-1]])
def test_numbers_that_have_no_items_are_refused(numbers):
    with pytest.raises(ValueError, match="different numbers from 0 to 99"):
        number_items(numbers)
