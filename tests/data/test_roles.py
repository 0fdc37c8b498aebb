"""Sentences for reading a name's role before the name."""

from collections import Counter, defaultdict

import pytest

from semhub_lens.data.semantics.lexicon import NAMES
from semhub_lens.data.semantics.roles import CLEFT, MOST_PER_NAME, PLAIN, role_items

ITEMS = role_items(1200, seed=5)
CONTROL = role_items(1200, seed=5, determined=False)


@pytest.mark.parametrize("items", [ITEMS, CONTROL])
def test_items_differ_and_the_name_stands_at_its_offset(items):
    assert len({item.sentence for item in items}) == 1200
    for item in items:
        assert item.sentence[item.start :].startswith(item.name) and item.sentence.count(item.name) == 1
        assert item.sentence.startswith(item.prefix + " " + item.name) and item.sentence[0].isupper()


def test_the_seed_decides_and_more_items_continue_fewer():
    assert role_items(1200, seed=5) == ITEMS and role_items(50, seed=5) == ITEMS[:50]
    assert role_items(50, seed=6) != ITEMS[:50]


def test_roles_and_constructions_are_balanced():
    counts = Counter((item.role, item.construction) for item in ITEMS)
    assert len(counts) == 12 and set(counts.values()) == {100}
    assert Counter(item.role for item in CONTROL) == dict.fromkeys(PLAIN, 400)


def test_names_are_independent_of_the_role():
    names = ["Ava", "Ben"]
    counts = Counter((i.role, i.name) for i in role_items(1200, seed=1, names=names))
    assert all(abs(counts[role, name] - 200) < 40 for role in PLAIN for name in names)  # four standard deviations
    assert {item.name for item in ITEMS} == set(NAMES)


def test_clefts_have_one_word_before_the_name_whatever_the_role():
    clefts = [item for item in ITEMS if item.cleft]
    assert len(clefts) == 600 and {item.prefix.split()[-1] for item in clefts} == {"was"}
    assert {item.construction for item in clefts} == {name for role in CLEFT.values() for name in role}
    assert all(item.sentence == f"{item.prefix} {item.name}." for item in clefts)


def test_in_plain_constructions_the_word_before_the_name_does_differ():
    before = defaultdict(set)
    for item in ITEMS:
        if not item.cleft:
            before[item.role].add(item.prefix.split()[-1])
    assert before["agent"] == {"by", "that"} and not before["agent"] & (before["theme"] | before["recipient"])


def test_texts_before_the_name_tell_nothing_in_the_control():
    prefixes = {role: {i.prefix.split(" ", 1)[1] for i in CONTROL if i.role == role} for role in PLAIN}
    nouns = prefixes["agent"]
    assert len(nouns) == 18 and all(nouns == other for other in prefixes.values())
    assert all(prefix.endswith(" said that") for prefix in nouns)
    determined = {role: {i.prefix for i in ITEMS if i.role == role} for role in PLAIN}
    assert not determined["agent"] & determined["theme"] and not determined["theme"] & determined["recipient"]


def test_own_names_are_drawn_from_and_no_others():
    assert {item.name for item in role_items(60, seed=0, names=("Zoe", "Max"))} == {"Zoe", "Max"}


@pytest.mark.parametrize("names", [[], ["Ava"], ["Ava", "Ava"], ["Ava", ""], ["Ava", " Ben"], "Ava"])
def test_names_that_cannot_be_drawn_from_are_refused(names):
    told = "put it into a list" if isinstance(names, str) else "at least two different words"
    with pytest.raises(ValueError, match=told):
        role_items(3, seed=0, names=names)


@pytest.mark.parametrize("n", [0, 2 * MOST_PER_NAME + 1])
def test_a_count_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match=f"n = {n}; with 2 names expected 1 to {2 * MOST_PER_NAME}"):
        role_items(n, seed=0, names=["Ava", "Ben"])


def test_the_most_items_that_two_names_give_are_found():
    for determined in (True, False):
        assert len(role_items(2 * MOST_PER_NAME, seed=0, names=["Ava", "Ben"], determined=determined)) == 4000
