"""Pictures and sounds with names, and their division by concept and style."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.rng import generator


@dataclass(frozen=True, eq=False)
class MediaItem:
    """A picture or a sound with its names."""

    key: str
    style: str
    """The source of its look or sound: "stamp", "emoji", or the name of a voice."""
    concept: str
    """Items of one concept show or say the same thing; splits keep a concept whole or record that they divide it."""
    names: Mapping[str, tuple[str, ...]]
    """Names by language; the first is the name to learn, and each counts as right."""
    content: str
    """Hash of the picture's or sound's source."""
    open: Callable[[], Any]
    """Reads the picture (PIL) or the sound (samples, rate)."""


@dataclass(frozen=True)
class Split:
    """Indices of items.

    Args:
        train: items for training.
        new_item: other items whose concept is trained in the same style.
        new_style: items whose concept is trained only in other styles.
        new_concept: items of untrained concepts.
        choosing: more items of untrained concepts, to choose a recipe with; so that choice does not affect
            `new_concept`.
    """

    train: tuple[int, ...]
    new_item: tuple[int, ...]
    new_style: tuple[int, ...]
    new_concept: tuple[int, ...]
    choosing: tuple[int, ...] = ()

    def parts(self) -> dict[str, tuple[int, ...]]:
        """The split by name."""
        return {"train": self.train, "new_item": self.new_item, "new_style": self.new_style} | {
            "new_concept": self.new_concept,
            "choosing": self.choosing,
        }


@checked
def split_items(
    items: Sequence[MediaItem],
    *,
    seed: int,
    concepts: float = 0.15,
    styles: float = 0.3,
    repeats: float = 0.3,
    held_styles: Sequence[str] = (),
    held: Collection[str] = (),
    families: Sequence[str] | None = None,
    choosing: float = 0.0,
) -> Split:
    """Split items so that test items are new in a known way.

    Args:
        items: all items.
        seed: of the split.
        concepts: share of concepts that are never trained.
        styles: among the other concepts with several styles, the share that has one style held out.
        repeats: among concepts with several items in one style, the share that has one such item held out.
        held_styles: styles that are never trained.
        held: keys of items that are never trained.
        families: for every item, a group of concepts that are held out together, see `families.families`; with None,
            each concept is its own group.
        choosing: share of the unseen families that is reserved for choosing a recipe.

    Raises:
        SemhubError: nothing is left to train on, a share is not between 0 and 1, or `families` has another length.

    Example:
        >>> from semhub_lens.data.media.items import MediaItem, split_items
        >>> names = {"en": ("dog",)}
        >>> items = [MediaItem(f"{c}{s}", s, c, names, "", str) for c in "abcdefgh" for s in ("photo", "emoji")]
        >>> split = split_items(items, seed=0)
        >>> {items[i].concept for i in split.train} & {items[i].concept for i in split.new_concept}
        set()
    """
    shares = {"concepts": concepts, "styles": styles, "repeats": repeats, "choosing": choosing}
    if wrong := {name: share for name, share in shares.items() if not 0 <= share <= 1}:
        raise SemhubError(f"concepts=, styles=, repeats= and choosing= are shares between 0 and 1, got {wrong}.")
    if families is not None and len(families) != len(items):
        raise SemhubError(f"families= has one entry for each of {len(items)} items, got {len(families)}.")
    rng = generator(seed)
    by_concept: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        by_concept[item.concept].append(i)
    listed = sorted(by_concept)
    family = {item.concept: group for item, group in zip(items, families, strict=True)} if families else {}
    groups = sorted({family.get(concept, concept) for concept in listed})
    drawn = torch.randperm(len(groups), generator=rng)[: round(concepts * len(groups))].tolist()
    hidden = {groups[i] for i in drawn}
    unseen = {concept for concept in listed if family.get(concept, concept) in hidden}
    apart = {groups[i] for i in drawn[: round(choosing * len(drawn))]}
    parts: dict[str, list[int]] = {"train": [], "new_item": [], "new_style": [], "new_concept": []}
    for concept in listed:
        draws = torch.rand(4, generator=rng, dtype=torch.float32).tolist()
        if concept in unseen or all(items[i].style in held_styles for i in by_concept[concept]):
            parts["new_concept"] += by_concept[concept]
        else:
            _divide(items, by_concept[concept], draws, (styles, repeats), held_styles, parts)
    _hold(items, held, parts)
    if not parts["train"]:
        raise SemhubError(
            f"No item of {len(items)} is left to train on; hold out fewer concepts or styles than {list(held_styles)}."
        )
    choice = {i for i in parts["new_concept"] if family.get(items[i].concept, items[i].concept) in apart}
    parts["new_concept"] = [i for i in parts["new_concept"] if i not in choice]
    listed = {name: tuple(sorted(indices)) for name, indices in parts.items()}
    return Split(**listed, choosing=tuple(sorted(choice)))


def _divide(
    items: Sequence[MediaItem],
    own: list[int],
    draws: list[float],
    shares: tuple[float, float],
    held_styles: Sequence[str],
    parts: dict[str, list[int]],
) -> None:
    """Split one concept's items."""
    parts["new_style"] += [i for i in own if items[i].style in held_styles]
    own = [i for i in own if items[i].style not in held_styles]
    present = sorted({items[i].style for i in own})
    if len(present) > 1 and draws[0] < shares[0]:
        held = present[int(draws[1] * len(present))]
        parts["new_style"] += [i for i in own if items[i].style == held]
        own = [i for i in own if items[i].style != held]
    crowded = [style for style in present if sum(items[i].style == style for i in own) > 1]
    if crowded and draws[2] < shares[1]:
        same = [i for i in own if items[i].style == crowded[0]]
        chosen = same[int(draws[3] * len(same))]
        parts["new_item"].append(chosen)
        own = [i for i in own if i != chosen]
    parts["train"] += own


def _hold(items: Sequence[MediaItem], held: Collection[str], parts: dict[str, list[int]]) -> None:
    """Take items out of training, and label every test item by what is still trained of its concept."""
    if not held:
        return
    tests = [i for part in ("new_item", "new_style", "new_concept") for i in parts[part]]
    tests += [i for i in parts["train"] if items[i].key in held]
    parts["train"] = [i for i in parts["train"] if items[i].key not in held]
    trained: dict[str, set[str]] = defaultdict(set)
    for i in parts["train"]:
        trained[items[i].concept].add(items[i].style)
    for part in ("new_item", "new_style", "new_concept"):
        parts[part] = []
    for i in tests:
        known = trained[items[i].concept]
        parts["new_item" if items[i].style in known else "new_style" if known else "new_concept"].append(i)
