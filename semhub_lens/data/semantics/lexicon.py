"""Words of the small grammar behind `semantics` and `roles`: names, nouns, and verbs with the forms they take."""

from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Emma Liam Olivia Noah Sophia James Lucas Anna Henry Laura Peter Maria David Sarah Simon Julia Oliver Grace Daniel "
    "Alice Thomas Helen Martin Clara Robert Nina Victor Rosa Paul Eva Oscar Ruth Felix Diana Adam Irene Leo Sandra "
    "George Linda Samuel Monica Walter Teresa"
)
PERSONS = _words(
    "teacher doctor guard sailor farmer painter queen judge nurse baker tailor singer lawyer driver poet gardener "
    "captain student"
)
THINGS = _words(
    "letter cake book lamp rose coin basket blanket drum map mirror ring key chair ladder kettle hammer bottle"
)


class Verb(NamedTuple):
    """The lemma, as in a logical form, with its past tense and past participle."""

    lemma: str
    past: str
    participle: str


def _verbs(text: str) -> tuple[Verb, ...]:
    return tuple(Verb(*entry.split("/")) for entry in text.split())


OF_PERSONS = _verbs(
    "help/helped/helped see/saw/seen find/found/found follow/followed/followed admire/admired/admired "
    "push/pushed/pushed call/called/called forgive/forgave/forgiven greet/greeted/greeted hide/hid/hidden"
)
"""Verbs whose agent and theme are persons."""
OF_THINGS = _verbs(
    "clean/cleaned/cleaned draw/drew/drawn carry/carried/carried break/broke/broken buy/bought/bought "
    "steal/stole/stolen"
)
"""Verbs with a person as agent and a thing as theme."""
DATIVE = _verbs(
    "give/gave/given send/sent/sent show/showed/shown hand/handed/handed offer/offered/offered lend/lent/lent "
    "pass/passed/passed sell/sold/sold"
)
"""Verbs with a recipient, all with "to" and with two objects."""
UNACCUSATIVE = _verbs("fall/fell/fallen slip/slipped/slipped drown/drowned/drowned vanish/vanished/vanished")
"""Intransitive verbs whose subject undergoes the event (theme)."""
UNERGATIVE = _verbs("sleep/slept/slept laugh/laughed/laughed dance/danced/danced sing/sang/sung run/ran/run")
"""Intransitive verbs whose subject acts (agent)."""
