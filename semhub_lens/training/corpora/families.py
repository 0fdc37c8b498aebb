"""Families of concepts that are too close to train on one and test another as unseen."""

import re
from collections.abc import Sequence

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.media.items import MediaItem

LINKS = r" (?:with|and|of|in|without|on|over|for) "
ENDINGS = (("ies", "y"), ("oes", "o"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("ves", "f"), ("s", ""))


@checked
def families(items: Sequence[MediaItem]) -> list[str]:
    """A family for each item; items of one family are trained together or not at all.

    A family joins concepts whose English names start with the same word, because tests ask for a name's first token. It
    also joins concepts with the same name in another language (headstone and tombstone; ladybug and lady beetle).

    Raises:
        SemhubError: an empty name.

    Example:
        >>> from semhub_lens.training.corpora.families import families
        >>> from semhub_lens.data.media.items import MediaItem
        >>> names = [{"en": ("gull",), "fr": ("mouette",)}, {"en": ("seagull",), "fr": ("mouette",)}, {"en": ("owl",)}]
        >>> found = families([MediaItem(n["en"][0], "s", n["en"][0], n, "", str) for n in names])
        >>> found[0] == found[1], found[0] == found[2]
        (True, False)
    """
    for item in items:
        if blank := [name for listed in item.names.values() for name in listed if not name.strip()]:
            raise SemhubError(f"The item {item.key!r} has an empty name ({blank[0]!r}): leave it out.")
    above: dict[str, str] = {}

    def root(key: str) -> str:
        while above.setdefault(key, key) != key:
            key = above[key]
        return key

    def join(one: str, other: str) -> None:
        low, high = sorted((root(one), root(other)))
        above[high] = low

    for item in items:
        for name in item.names.get("en", ()):
            join(f"concept {item.concept}", f"first {words(name)[0]}")
        for code, listed in item.names.items():
            for name in listed if code != "en" else ():
                join(f"concept {item.concept}", f"{code} {name.lower()}")
    return [root(f"concept {item.concept}") for item in items]


def words(name: str) -> tuple[str, ...]:
    """Lower-case words of an English name in the singular, without the part after "with", "of" and similar words."""
    return tuple(_singular(word) for word in re.split(LINKS, name.lower())[0].split())


def names_one_of(item: MediaItem, unseen: Sequence[tuple[str, ...]]) -> bool:
    """Whether an English name of the item contains one of these words (polar bear: bear)."""
    return any(_within(part, words(name)) for name in item.names.get("en", ()) for part in unseen)


def _singular(word: str) -> str:
    for ending, single in ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith("ss"):
            return word.removesuffix(ending) + single
    return word


def _within(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))
