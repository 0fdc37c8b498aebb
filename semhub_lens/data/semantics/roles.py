"""Sentences that break off before a proper name: does the state there encode the role that the name will have?

A role word read at the token before the name can reflect the position or the preceding word instead of the role. So
every role has two forms. In plain constructions, position and preceding word differ by role. In pseudo-clefts ("The one
who ... was NAME"), they are the same for every role, and only the earlier words distinguish the roles.

The left context determines most roles: after "was helped by", a name is the agent. A few other continuations remain
possible ("gave NAME to ..." makes the name a theme). The left context cannot determine the role of a subject, because
the verb comes later. `role_items(determined=False)` gives such subjects as a control: the texts before the name are
drawn in the same way for every role.

Confounds remain. Plain agents follow "by" or "that", plain recipients "to" or a dative verb, and plain themes a verb
with persons. Recipients have other verbs than themes. In clefts, the relative pronoun differs ("who", "whom", "to
whom"). Names are drawn independently of all this.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.semantics.lexicon import DATIVE, NAMES, OF_PERSONS, OF_THINGS, PERSONS, THINGS

PLAIN = {
    "agent": {"by phrase": "{A} was {helped} by NAME.", "object relative": "{A} found the {cake} that NAME {drew}."},
    "theme": {"object": "{A} {saw} NAME.", "embedded object": "{A} said that {b} {saw} NAME."},
    "recipient": {"to phrase": "{A} {gave} {a_cake} to NAME.", "first object": "{A} {gave} NAME {a_cake}."},
}
CLEFT = {
    "agent": {
        "cleft who": "The one who {saw} {a} was NAME.",
        "cleft by whom": "The one by whom {a} was {helped} was NAME.",
    },
    "theme": {
        "cleft whom": "The one whom {a} {saw} was NAME.",
        "cleft who was": "The one who was {helped} by {a} was NAME.",
    },
    "recipient": {
        "cleft to whom": "The one to whom {a} {gave} {a_cake} was NAME.",
        "cleft who was given": "The one who was {given} {a_cake} by {a} was NAME.",
    },
}
SUBJECT = {
    "agent": {"subject of active": "{A} said that NAME {saw} {b}."},
    "theme": {"subject of passive": "{A} said that NAME was {helped} by {b}."},
    "recipient": {"subject of dative passive": "{A} said that NAME was {given} {a_cake} by {b}."},
}
MOST_PER_NAME = 2000
"""The rarest construction has 360 sentences per name; this is less than half of them."""


@dataclass(frozen=True)
class RoleItem:
    """A sentence with one proper name."""

    sentence: str
    name: str
    role: str
    """agent, theme or recipient."""
    start: int
    """Character offset of the name in the sentence."""
    construction: str
    determined: bool
    """Whether the words before the name determine its role."""

    @property
    def prefix(self) -> str:
        """The sentence up to the name, without the space before it."""
        return self.sentence[: self.start].rstrip(" ")

    @property
    def cleft(self) -> bool:
        """Whether position and preceding word are the same for every role."""
        return self.construction.startswith("cleft")


@checked
def role_items(n: int, seed: int, names: Sequence[str] | None = None, *, determined: bool = True) -> list[RoleItem]:
    """`n` different sentences that alternate roles, and constructions within a role; names are random.

    Args:
        n: the number of sentences; a multiple of 12 (of 3 for the control) has every construction equally often.
        seed: of the draws.
        names: names to draw from; None means the 44 names of the grammar. Pass those that are one token for your model.
        determined: False gives the control, in which the words before the name do not determine its role.

    Raises:
        SemhubError: fewer than two different names, an empty one, or `n` below 1 or above 2,000 per name.

    Example:
        >>> from semhub_lens.data.semantics.roles import role_items
        >>> [(item.role, item.sentence[item.start :] == f"{item.name}.") for item in role_items(3, seed=0)]
        [('agent', True), ('theme', True), ('recipient', True)]
    """
    pool = list(NAMES if names is None else names)
    if len(set(pool)) < 2 or not all(word.strip() == word != "" for word in pool):
        raise SemhubError(f"Names must be at least two different words without spaces around them, got {names!r}.")
    most = MOST_PER_NAME * len(set(pool))
    if not 1 <= n <= most:
        raise SemhubError(f"n = {n}; with {len(set(pool))} names expected 1 to {most}.")
    rng, items = random.Random(seed), {}
    patterns = {role: _patterns(role, determined) for role in PLAIN}
    while len(items) < n:
        role = list(PLAIN)[len(items) % 3]
        construction, pattern = patterns[role][len(items) // 3 % len(patterns[role])]
        item = _item(rng, pattern, rng.choice(pool), role, construction, determined)
        items.setdefault(item.sentence, item)
    return list(items.values())


def _patterns(role: str, determined: bool) -> list[tuple[str, str]]:
    if not determined:
        return list(SUBJECT[role].items())
    return [entry for pair in zip(CLEFT[role].items(), PLAIN[role].items(), strict=True) for entry in pair]


def _item(rng: random.Random, pattern: str, name: str, role: str, construction: str, determined: bool) -> RoleItem:
    first, second = (f"{rng.choice(('the', 'a'))} {noun}" for noun in rng.sample(PERSONS, 2))
    person, thing, dative = rng.choice(OF_PERSONS), rng.choice(OF_THINGS), rng.choice(DATIVE)
    cake = rng.choice(THINGS)
    words = {"A": first.capitalize(), "a": first, "b": second, "cake": cake, "drew": thing.past}
    words |= {"saw": person.past, "helped": person.participle, "gave": dative.past, "given": dative.participle}
    before, after = pattern.format(a_cake=f"{rng.choice(('the', 'a'))} {cake}", **words).split("NAME")
    return RoleItem(before + name + after, name, role, len(before), construction, determined)
