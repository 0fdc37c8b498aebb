"""Items of a probe: labels and groups as codes, folds that keep groups together, shuffled labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import check_finite
from semhub_lens.base.rng import generator
from semhub_lens.model.stacks import States, StateStack

Key: TypeAlias = str | int
"""A label or the name of a group."""
Keys: TypeAlias = Sequence[str] | Sequence[int] | Tensor | np.ndarray
"""One label or group per item."""


@dataclass(frozen=True, eq=False)
class Items:
    """States of one data type with the class and the group of each item, as codes."""

    states: States
    labels: Int[Tensor, " item"]
    groups: Int[Tensor, " item"]


def keys(values: Keys, items: int, name: str) -> list[Key]:
    """Labels or groups as a list of strings or of integers.

    Raises:
        SemhubError: a number of entries other than `items`; neither strings nor integers, or both.
    """
    given: list[Any] = values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)
    listed: list[Any] = [
        value.item() if isinstance(value, np.generic | Tensor) and not value.ndim else value for value in given
    ]
    if isinstance(values, str) or len(listed) != items:
        raise SemhubError(f"{name} must have one entry for each of the {items} items, got {len(listed)}.")
    kinds = {str if isinstance(value, str) else int if isinstance(value, int) else type(value) for value in listed}
    if len(kinds) != 1 or not kinds <= {str, int}:
        types = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SemhubError(f"{name} must be all strings or all integers, got {types}.")
    return listed


def coded(lists: Sequence[list[Key]], name: str) -> tuple[tuple[Key, ...], list[Int[Tensor, " item"]]]:
    """The sorted distinct keys of all lists, and every list as indices into them.

    Raises:
        SemhubError: strings in one list and integers in another.
    """
    if len({isinstance(key, str) for each in lists for key in each}) > 1:
        raise SemhubError(f"{name} must be strings in every data type or integers in every data type.")
    distinct = tuple(sorted({key for each in lists for key in each}))  # pyright: ignore[reportArgumentType]
    place = {key: i for i, key in enumerate(distinct)}
    return distinct, [torch.tensor([place[key] for key in each]) for each in lists]


def check_states(states: Tensor | StateStack, name: str, like: Tensor | StateStack | None = None) -> None:
    """Refuse states that are not [layer item d_model], not finite, or do not match `like` in layers or width.

    Raises:
        SemhubError: for any of these.
    """
    if states.ndim != 3 or 0 in states.shape:
        raise SemhubError(f"{name} must have shape [layer item d_model], none of them 0; got {tuple(states.shape)}.")
    if like is not None and (states.shape[0], states.shape[2]) != (like.shape[0], like.shape[2]):
        raise SemhubError(
            f"{name} has {states.shape[0]} layers of width {states.shape[2]}, but the training states have "
            f"{like.shape[0]} of width {like.shape[2]}; both must come from one model."
        )
    for layer, own in enumerate(states):
        check_finite(own, f"{name}, layer {layer},")


def check_classes(items: Items, classes: Sequence[Key], folds: int, name: str) -> None:
    """Refuse training items that cannot be split into folds.

    Raises:
        SemhubError: a single class, or a class with fewer groups than folds.
    """
    if len(classes) < 2:
        raise SemhubError(f"{name} has the single class {classes[0]!r}; a probe needs at least two.")
    for code, label in enumerate(classes):
        count = len(items.groups[items.labels == code].unique())
        if count < folds:
            raise SemhubError(
                f"{name}: class {label!r} has {count} groups (without groups=, every item is one), fewer than the "
                f"{folds} folds. Add items, drop the class, or pass setup=ProbeSetup(folds={max(count, 2)})."
            )


def split(items: Items, folds: int, seed: int) -> Int[Tensor, " item"]:
    """The fold of every item: stratified by class, groups kept together; depends on group names, not on item order.

    Raises:
        SemhubError: some training part would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, which most scripts need not wait

    groups, member = items.groups.unique(return_inverse=True)
    order = torch.randperm(len(groups), generator=generator(seed))[member]  # the splitter's own shuffle changed in 1.6
    labels, fold = items.labels.numpy(), torch.empty_like(items.labels)
    for number, (_, held) in enumerate(StratifiedGroupKFold(folds).split(labels, labels, order.numpy())):
        fold[torch.as_tensor(held)] = number
    for number in range(folds):
        missing = set(items.labels.tolist()) - set(items.labels[fold != number].tolist())
        if missing or not (fold == number).any():
            raise SemhubError(
                f"The groups do not split into {folds} folds with every class outside each fold: the classes have too "
                "few or too unequal groups. Use fewer folds or smaller groups."
            )
    return fold


def follow(
    groups: Int[Tensor, " other"],
    known: Int[Tensor, " item"],
    fold: Int[Tensor, " item"],
    folds: int,
    seed: int,
) -> Int[Tensor, " other"]:
    """The folds of other items: that of their group if it is known, otherwise a random one for each group."""
    new = torch.tensor(sorted(set(groups.tolist()) - set(known.tolist())), dtype=torch.long)
    of = dict(zip(known.tolist(), fold.tolist(), strict=True))
    of |= dict(zip(new.tolist(), (torch.randperm(len(new), generator=generator(seed)) % folds).tolist(), strict=True))
    return torch.tensor([of[group] for group in groups.tolist()])


def shuffled(labels: Int[Tensor, " item"], groups: Int[Tensor, " item"], rng: torch.Generator) -> Int[Tensor, " item"]:
    """Labels in random order: exchanged between groups if every group has one label, else between items."""
    distinct, member = groups.unique(return_inverse=True)
    of_group = torch.zeros(len(distinct), dtype=labels.dtype).scatter_(0, member, labels)
    if torch.equal(of_group[member], labels):
        return of_group[torch.randperm(len(distinct), generator=rng)][member]
    return labels[torch.randperm(len(labels), generator=rng)]


def shuffled_in_folds(
    labels: Int[Tensor, " item"], groups: Int[Tensor, " item"], fold: Int[Tensor, " item"], rng: torch.Generator
) -> Int[Tensor, " item"]:
    """Like `shuffled`, but within each fold, so that the folds stay stratified.

    Otherwise a fold could have more of a class by chance and its training part less, and accuracy would fall below
    chance.
    """
    result = labels.clone()
    for number in fold.unique():
        here = fold == number
        result[here] = shuffled(labels[here], groups[here], rng)
    return result
