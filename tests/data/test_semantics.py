"""Generated sentences, their logical forms, and the reader of COGS."""

import re
from collections import Counter

import pytest

from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.data.semantics.lexicon import (
    DATIVE,
    NAMES,
    OF_PERSONS,
    OF_THINGS,
    PERSONS,
    THINGS,
    UNACCUSATIVE,
    UNERGATIVE,
)
from semhub_lens.data.semantics.logical_forms import MOST_ITEMS, read_cogs, semantic_items, shuffled, swapped

ITEMS = semantic_items(600, seed=3)
TRANSITIVE = OF_PERSONS + OF_THINGS


def event(words):
    """Roles of one clause, found from its words alone: a second way to the logical form."""
    past = {v.past: v for v in TRANSITIVE + DATIVE + UNACCUSATIVE + UNERGATIVE}
    participle = {v.participle: v for v in TRANSITIVE + DATIVE}
    if "was" in words:
        at = words.index("was")
        verb, subject, rest = participle[words[at + 1]], words[:at], words[at + 2 :]
        agent = rest[rest.index("by") + 1 :] if "by" in rest else None
        rest = rest[: rest.index("by")] if "by" in rest else rest
        if verb in TRANSITIVE:
            return verb, {"theme": subject, "agent": agent}
        if rest[0] == "to":
            return verb, {"theme": subject, "recipient": rest[1:], "agent": agent}
        return verb, {"recipient": subject, "theme": rest, "agent": agent}
    at = next(i for i, word in enumerate(words) if word in past)
    verb, subject, rest = past[words[at]], words[:at], words[at + 1 :]
    if verb in UNACCUSATIVE:
        return verb, {"theme": subject}
    if verb in UNERGATIVE:
        return verb, {"agent": subject}
    if verb in TRANSITIVE:
        return verb, {"agent": subject, "theme": rest}
    if "to" in rest:
        return verb, {"agent": subject, "theme": rest[: rest.index("to")], "recipient": rest[rest.index("to") + 1 :]}
    split = 1 if rest[0] in NAMES else 2
    return verb, {"agent": subject, "recipient": rest[:split], "theme": rest[split:]}


def said_by_the_sentence(sentence):
    text = sentence[0].lower() + sentence[1:] if sentence.split()[0] in ("The", "A") else sentence
    facts = set()
    for clause in text.rstrip(".").split(" and "):
        verb, roles = event(clause.split())
        facts |= {(verb.lemma, role, tuple(phrase)) for role, phrase in roles.items() if phrase}
    return facts


def said_by_the_form(item):
    nouns = {}
    for conjunct in item.conjuncts:
        if match := re.fullmatch(r"(\* )?(\w+) \( (x _ \d+) \)", conjunct):
            nouns[match[3]] = ("the" if match[1] else "a", match[2])
    roles = [re.fullmatch(r"(\w+) \. (\w+) \( x _ \d+ , (.+) \)", c) for c in item.conjuncts]
    return {(m[1], m[2], nouns.get(m[3], (m[3],))) for m in roles if m}


def test_the_form_says_what_a_second_parser_reads_in_the_sentence():
    for item in ITEMS:
        assert said_by_the_form(item) == said_by_the_sentence(item.sentence)


def test_variables_are_the_places_of_words_and_events():
    for item in ITEMS:
        words = item.sentence.rstrip(".").split()
        verbs = TRANSITIVE + DATIVE + UNACCUSATIVE + UNERGATIVE
        lemma = {form: v.lemma for v in verbs for form in (v.past, v.participle)}
        for conjunct in item.conjuncts:
            head = conjunct.removeprefix("* ").split()[0]
            word = words[int(re.search(r"x _ (\d+)", conjunct)[1])]
            assert head == lemma.get(word, word)


def test_items_are_different_and_the_seed_decides():
    assert len({item.sentence for item in ITEMS}) == len(ITEMS)
    assert semantic_items(600, seed=3) == ITEMS
    assert semantic_items(100, seed=3) == ITEMS[:100]
    assert semantic_items(100, seed=4) != ITEMS[:100]


def test_names_stand_where_they_are_said_to_and_have_the_roles_of_the_form():
    for item in ITEMS:
        (first, second), form = item.names, said_by_the_form(item)
        assert first.name != second.name and first.role != second.role and first.start < second.start
        for name, role, start in item.names:
            assert item.sentence[start : start + len(name)] == name and item.sentence.count(name) == 1
            assert {r for _, r, who in form if who == (name,)} == {role}


def test_every_pair_of_roles_is_as_frequent_as_the_others():
    counts = Counter(frozenset(entry.role for entry in item.names) for item in ITEMS)
    assert len(counts) == 3 and min(counts.values()) > 160  # 200 expected, four standard deviations are 46


def test_the_vocabulary_is_large_and_every_verb_and_name_is_used():
    assert len(set(PERSONS + THINGS)) >= 25 and len(set(NAMES)) >= 40
    assert len({v.lemma for v in TRANSITIVE + DATIVE + UNACCUSATIVE + UNERGATIVE}) >= 20
    used = " ".join(item.form for item in ITEMS)
    assert all(f"{v.lemma} . " in used for v in TRANSITIVE + DATIVE + UNACCUSATIVE + UNERGATIVE)
    assert all(f" {name} " in used for name in NAMES)


def test_swapping_makes_the_form_false_with_the_same_words():
    for item in ITEMS:
        false = swapped(item)
        assert said_by_the_form(false) != said_by_the_sentence(item.sentence)
        assert Counter(false.form.split()) == Counter(item.form.split()) and false.sentence == item.sentence
        assert [entry.role for entry in false.names] == [entry.role for entry in item.names][::-1]
        assert swapped(false) == item


def test_shuffling_changes_the_order_and_nothing_else():
    for seed, item in enumerate(ITEMS):
        other = shuffled(item, seed)
        assert other.form != item.form and sorted(other.conjuncts) == sorted(item.conjuncts)
        assert said_by_the_form(other) == said_by_the_sentence(item.sentence)
        assert shuffled(item, seed) == other
    long = next(item for item in ITEMS if len(item.conjuncts) > 4)
    orders = {shuffled(long, seed).conjuncts for seed in range(200)}
    assert len(orders) > 5 and long.conjuncts not in orders


@pytest.mark.parametrize("n", [0, -1, MOST_ITEMS + 1])
def test_a_count_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match=f"n = {n}; expected 1 to {MOST_ITEMS}"):
        semantic_items(n, seed=0)


ROW = (
    "Emma gave the girl a cake .\t* girl ( x _ 3 ) ; give . agent ( x _ 1 , Emma ) AND "
    "give . recipient ( x _ 1 , x _ 3 ) AND give . theme ( x _ 1 , x _ 5 ) AND cake ( x _ 5 )\tin_distribution"
)
BESIDE = (
    "Noah thought that a key beside the bed was lent to Ava .\t* bed ( x _ 6 ) ; think . agent ( x _ 1 , Noah ) AND "
    "think . ccomp ( x _ 1 , x _ 8 ) AND key ( x _ 4 ) AND key . nmod . beside ( x _ 4 , x _ 6 ) AND "
    "lend . theme ( x _ 8 , x _ 4 ) AND lend . recipient ( x _ 8 , Ava )\tgen"
)
PRIMITIVE = "Emma\tEmma\tprimitive"


def cogs(folder, *rows, name="dev.tsv"):
    folder.joinpath(name).write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return folder / name


def test_cogs_rows_become_items(tmp_path):
    path = cogs(tmp_path, ROW, "", PRIMITIVE, BESIDE)
    first, second = read_cogs(path)
    assert first.conjuncts[:2] == ("* girl ( x _ 3 )", "give . agent ( x _ 1 , Emma )") and len(first.conjuncts) == 5
    assert first.names == (("Emma", "agent", 0),) and first.origin == f"{path}:1"
    assert [tuple(entry) for entry in second.names] == [("Noah", "agent", 0), ("Ava", "recipient", 51)]
    assert second.sentence[51:54] == "Ava" and second.origin == f"{path}:4"
    assert "lend . recipient ( x _ 8 , Noah )" in swapped(second).conjuncts
    assert ";" not in first.form and first.form.count(" AND ") == 4


def test_the_grammar_writes_the_notation_of_cogs(tmp_path):
    rows = [f"{i.sentence[:-1]} .\t{i.form}\tgrammar" for i in ITEMS]
    read = read_cogs(cogs(tmp_path, *rows))
    assert [(i.conjuncts, i.names) for i in read] == [(i.conjuncts, i.names) for i in ITEMS]


def test_a_folder_of_cogs_is_read_once_each(tmp_path):
    cogs(tmp_path, ROW, BESIDE, name="train.tsv")
    cogs(tmp_path, ROW, name="train_100.tsv")
    assert len(read_cogs(tmp_path)) == 2


def test_a_name_with_two_roles_or_two_places_is_not_listed(tmp_path):
    twice = "Emma saw Emma .\tsee . agent ( x _ 1 , Emma ) AND see . theme ( x _ 1 , Emma )\tdev"
    assert read_cogs(cogs(tmp_path, twice))[0].names == ()


@pytest.mark.parametrize(
    "row, message",
    [
        ("Emma slept .", "expected sentence, form and split"),
        ("Emma slept .\tsleep . agent ( x _ 1 , Emma )", "expected sentence, form and split"),
        ("Emma slept .\t\tdev", "expected sentence, form and split"),
        ("Emma slept .\tsleep . agent ( x _ 1 , Emma\tdev", "expected conjuncts such as"),
        ("Emma slept .\tsleep . agent ( x _ 1 Emma )\tdev", "expected conjuncts such as"),
        ("Emma slept .\tsleep . agent ( x _ 1 , Emma ) AND\tdev", "expected conjuncts such as"),
        ("Emma slept .\tLAMBDA a . sleep\tdev", "expected conjuncts such as"),
        ("Emma slept .\tsleep . agent ( x _ 1 , Ava )\tdev", "contains 'Ava', which is not in the sentence"),
    ],
)
def test_a_malformed_row_of_cogs_is_refused_with_its_place(tmp_path, row, message):
    path = cogs(tmp_path, ROW, row)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:2: .*{message}"):
        read_cogs(path)


def test_no_cogs_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="found none at"):
        read_cogs(tmp_path)
    with pytest.raises(ValueError, match="found none at"):
        read_cogs(tmp_path / "dev.tsv")
    with pytest.raises(ValueError, match="No sentences in"):
        read_cogs(cogs(tmp_path, PRIMITIVE))


def test_hashes_tell_items_apart():
    assert fingerprint([i.form for i in ITEMS]) != fingerprint([swapped(i).form for i in ITEMS])
