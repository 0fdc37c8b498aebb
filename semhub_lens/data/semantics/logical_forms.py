"""Sentences with their logical form, in the notation of COGS.

The logical form is neo-Davidsonian: one variable per event, one conjunct per role::

    Liam gave the teacher a cake.
    * teacher ( x _ 3 ) AND give . agent ( x _ 1 , Liam ) AND give . recipient ( x _ 1 , x _ 3 )
    AND give . theme ( x _ 1 , x _ 5 ) AND cake ( x _ 5 )

`x _ i` belongs to the i-th word, counted from 0; a name represents itself; `*` marks a definite noun. Conjuncts are
ordered as in COGS: definite nouns first, then by the word of their first argument. COGS writes `;` after a definite
noun; here every conjunct is joined by AND, so that conjuncts can be reordered freely.

The grammar: a sentence is one clause, or two joined by "and". A clause is a frame of `FRAMES` with a verb of its class.
A person is a name or a definite or indefinite noun; a thing is a definite or indefinite noun.

COGS: Kim and Linzen 2020, arXiv 2010.05465.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import read_utf8, user_path
from semhub_lens.data.semantics.lexicon import (
    DATIVE,
    NAMES,
    OF_PERSONS,
    OF_THINGS,
    PERSONS,
    THINGS,
    UNACCUSATIVE,
    UNERGATIVE,
    Verb,
)

ROLES = ("agent", "theme", "recipient")
FRAMES = {
    "active": "agent PAST theme",
    "passive": "theme was PARTICIPLE by agent",
    "to dative": "agent PAST theme to recipient",
    "two objects": "agent PAST recipient theme",
    "passive with theme subject": "theme was PARTICIPLE to recipient by agent",
    "passive with recipient subject": "recipient was PARTICIPLE theme by agent",
    "agentless passive with theme subject": "theme was PARTICIPLE to recipient",
    "agentless passive with recipient subject": "recipient was PARTICIPLE theme",
    "unaccusative": "theme PAST",
    "unergative": "agent PAST",
}
"""Word order of each kind of clause; the role words are replaced by noun phrases."""
MOST_ITEMS = 100_000
_VERBS = {
    "unaccusative": (UNACCUSATIVE,),
    "unergative": (UNERGATIVE,),
    "active": (OF_PERSONS, OF_THINGS),
    "passive": (OF_PERSONS, OF_THINGS),
}
_CONJUNCT = re.compile(r"(?:\* )?[\w-]+(?: \. [\w-]+)*(?: \( (?P<args>[^()]+) \))")
_VARIABLE = re.compile(r"x _ \d+")


class NamedRole(NamedTuple):
    """A proper name in a sentence, its role in the logical form, and its character offset."""

    name: str
    role: str
    start: int


@dataclass(frozen=True)
class SemanticItem:
    """A sentence and the conjuncts of its logical form."""

    sentence: str
    conjuncts: tuple[str, ...]
    names: tuple[NamedRole, ...]
    """Proper names in the order of the sentence."""
    origin: str = "grammar"

    @property
    def form(self) -> str:
        """The logical form: the conjuncts joined by AND."""
        return " AND ".join(self.conjuncts)


@checked
def swapped(item: SemanticItem) -> SemanticItem:
    """The same sentence with a false logical form: its two names are swapped.

    Words, length and structure are the same, so this is a hard negative. `names` has the roles of the false form.

    Raises:
        SemhubError: `item` does not have exactly two different names.

    Example:
        >>> from semhub_lens.data.semantics.logical_forms import semantic_items, swapped
        >>> item = semantic_items(1, seed=0)[0]
        >>> swapped(item).form == item.form, swapped(swapped(item)) == item
        (False, True)
    """
    names = [entry.name for entry in item.names]
    if len(names) != 2 or names[0] == names[1]:
        raise SemhubError(f"Swapping needs two different names in the sentence, got {names} in {item.sentence!r}.")
    other = {names[0]: names[1], names[1]: names[0]}
    conjuncts = tuple(" ".join(other.get(word, word) for word in conjunct.split(" ")) for conjunct in item.conjuncts)
    first, second = item.names
    return replace(
        item, conjuncts=conjuncts, names=(first._replace(role=second.role), second._replace(role=first.role))
    )


@checked
def shuffled(item: SemanticItem, seed: int) -> SemanticItem:
    """The same item with its conjuncts in another order, drawn with `seed`; the meaning is the same.

    Raises:
        SemhubError: fewer than two conjuncts, so there is no other order.

    Example:
        >>> item = semantic_items(1, seed=0)[0]
        >>> sorted(shuffled(item, seed=0).conjuncts) == sorted(item.conjuncts)
        True
    """
    if len(set(item.conjuncts)) < 2:
        raise SemhubError(f"Another order needs two different conjuncts, got {item.form!r}.")
    rng, order = random.Random(seed), list(item.conjuncts)
    while tuple(order) == item.conjuncts:
        rng.shuffle(order)
    return replace(item, conjuncts=tuple(order))


@checked
def semantic_items(n: int, seed: int) -> list[SemanticItem]:
    """`n` different sentences, each with two different names in different roles.

    First the two roles are drawn, each pair equally likely. Then one clause or two are drawn (two for theme and
    recipient, because no verb here has persons as both). Then kinds of clause and verbs are drawn until two persons
    have these roles. These two get names; every other noun phrase is a noun. No noun occurs twice in a sentence.

    Args:
        n: the number of sentences, at most 100,000.
        seed: of the draws.

    Raises:
        SemhubError: `n` below 1 or above 100,000.

    Example:
        >>> from semhub_lens.data.semantics.logical_forms import semantic_items
        >>> len({item.sentence for item in semantic_items(50, seed=0)})
        50
    """
    if not 1 <= n <= MOST_ITEMS:
        raise SemhubError(f"n = {n}; expected 1 to {MOST_ITEMS}.")
    rng, items = random.Random(seed), {}
    while len(items) < n:
        item = _draw(rng)
        items.setdefault(item.sentence, item)
    return list(items.values())


class _Slot(NamedTuple):
    """A place for a noun phrase: its clause, its role, and whether it takes a person or a thing."""

    clause: int
    role: str
    person: bool


def _draw(rng: random.Random) -> SemanticItem:
    roles = rng.choice((("agent", "theme"), ("agent", "recipient"), ("recipient", "theme")))
    count = rng.choice((1, 2)) if "agent" in roles else 2
    while True:
        clauses = [_clause(rng) for _ in range(count)]
        slots = [
            _Slot(i, role, role in persons) for i, (frame, _, persons) in enumerate(clauses) for role in _in(frame)
        ]
        pairs = [(a, b) for a in slots for b in slots if a.person and b.person and (a.role, b.role) == roles]
        if pairs:
            break
    named = dict(zip(rng.choice(pairs), rng.sample(NAMES, 2), strict=True))
    persons, things = iter(rng.sample(PERSONS, len(slots))), iter(rng.sample(THINGS, len(slots)))
    phrases = {
        slot: (named[slot],) if slot in named else (rng.choice(("the", "a")), next(persons if slot.person else things))
        for slot in slots
    }
    return _assemble([(frame, verb) for frame, verb, _ in clauses], {(s.clause, s.role): p for s, p in phrases.items()})


def _clause(rng: random.Random) -> tuple[str, Verb, tuple[str, ...]]:
    """Frame, verb, and the roles that persons fill."""
    name = rng.choice(list(FRAMES))
    verbs = rng.choice(_VERBS.get(name, (DATIVE,)))
    persons = ("agent", "recipient") if verbs in (OF_THINGS, DATIVE) else ROLES
    return FRAMES[name], rng.choice(verbs), persons


def _in(frame: str) -> list[str]:
    return [word for word in frame.split() if word in ROLES]


def _assemble(clauses: Sequence[tuple[str, Verb]], phrases: dict[tuple[int, str], tuple[str, ...]]) -> SemanticItem:
    words: list[str] = []
    conjuncts: list[tuple[bool, int, str]] = []
    places: list[tuple[str, str, int]] = []
    for i, (frame, verb) in enumerate(clauses):
        words += ["and"] * (i > 0)
        event, arguments = 0, []
        for part in frame.split():
            if part in ROLES:
                phrase = phrases[i, part]
                words += phrase
                at = len(words) - 1
                arguments.append((part, phrase[0] if len(phrase) == 1 else f"x _ {at}"))
                if len(phrase) == 1:
                    places.append((phrase[0], part, at))
                else:
                    star = phrase[0] == "the"
                    conjuncts.append((not star, at, f"{'* ' * star}{phrase[1]} ( x _ {at} )"))
            else:
                words.append({"PAST": verb.past, "PARTICIPLE": verb.participle}.get(part, part))
                event = len(words) - 1 if part.isupper() else event
        conjuncts += [(True, event, f"{verb.lemma} . {role} ( x _ {event} , {who} )") for role, who in arguments]
    sentence = " ".join(words) + "."
    names = tuple(NamedRole(name, role, len(" ".join([*words[:at], ""]))) for name, role, at in places)
    ordered = tuple(text for _, _, text in sorted(conjuncts, key=lambda entry: entry[:2]))
    return SemanticItem(sentence[0].upper() + sentence[1:], ordered, names)


@checked
def read_cogs(source: str | Path) -> list[SemanticItem]:
    """Read COGS: rows `sentence <tab> form <tab> split`, in one file or in every .tsv file of a folder.

    Sentences are not changed (" ." at the end). Rows of the split `primitive` are single words, not sentences, and are
    left out; so are repetitions. `names` has the proper names that occur once in the sentence and have one role: agent,
    theme or recipient.

    Raises:
        SemhubError: no file, no item, or a malformed row (the message gives file and line).

    Example:
        >>> read_cogs("cogs/dev.tsv")[0].sentence  # doctest: +SKIP
    """
    path = user_path(source)
    files = sorted(path.glob("*.tsv")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise SemhubError(f"Expected a COGS file or a folder with .tsv files, found none at {path}.")
    items: dict[tuple[str, str], SemanticItem] = {}
    for file in files:
        for item in _cogs_rows(file):
            items.setdefault((item.sentence, item.form), item)
    if not items:
        raise SemhubError(f"No sentences in {path}; expected rows of sentence, form and split.")
    return list(items.values())


def _cogs_rows(file: Path) -> Iterator[SemanticItem]:
    for number, line in enumerate(read_utf8(file).splitlines(), 1):
        if not line.strip():
            continue
        line_name, columns = f"{file}:{number}", line.split("\t")
        if len(columns) != 3 or not all(columns):
            raise SemhubError(f"{line_name}: expected sentence, form and split, separated by tabs; got {line!r}.")
        sentence, form, split = columns
        if split != "primitive":
            yield _parsed(sentence, form, line_name)


def _parsed(sentence: str, form: str, line_name: str) -> SemanticItem:
    conjuncts = tuple(re.split(r" (?:;|AND) ", form))
    roles: dict[str, set[str]] = {}
    for conjunct in conjuncts:
        match = _CONJUNCT.fullmatch(conjunct)
        arguments = match["args"].split(" , ") if match else []
        bad = [a for a in arguments if not (_VARIABLE.fullmatch(a) or re.fullmatch(r"[\w-]+", a))]
        if not match or bad or not 1 <= len(arguments) <= 2:
            raise SemhubError(
                f"{line_name}: expected conjuncts such as 'give . agent ( x _ 1 , Emma )', got {conjunct!r}."
            )
        if len(arguments) == 2 and not _VARIABLE.fullmatch(arguments[1]):
            roles.setdefault(arguments[1], set()).add(conjunct.split(" ( ")[0].split(" . ")[-1])
    words = sentence.split(" ")
    missing = [name for name in roles if name not in words]
    if missing:
        raise SemhubError(f"{line_name}: the form contains {missing[0]!r}, which is not in the sentence {sentence!r}.")
    names = [
        NamedRole(word, min(roles[word]), len(" ".join([*words[:i], ""])))
        for i, word in enumerate(words)
        if word in roles and words.count(word) == 1 and len(roles[word]) == 1 and roles[word] <= set(ROLES)
    ]
    return SemanticItem(sentence, conjuncts, tuple(names), line_name)
