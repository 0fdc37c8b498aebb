"""`linear_probe`: one label, decoded at every layer, within a data type and in another."""

from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance, Result, unnamed
from semhub_lens.model.stacks import States, StateStack
from semhub_lens.probes.fitting import Centre, ProbeSetup, check_centre
from semhub_lens.probes.items import Items, Key, Keys, check_classes, check_states, coded, keys
from semhub_lens.probes.predictions import Predictions, probe_types

Other: TypeAlias = Float[Tensor, "layer other d_model"] | StateStack
Test = tuple[Other, Keys] | tuple[Other, Keys, Keys]
"""States and labels of the data type to test on, and its groups if `groups` is given."""


@dataclass(frozen=True, eq=False)
class ProbeResult(Result):
    """Held-out predictions of linear probes at every layer, with controls, and their transfer to other data.

    `linear_probe` makes it.
    """

    within: Predictions
    """Items of the training type, each predicted by a probe that did not see its fold."""
    across: Predictions | None
    """Items of the test type, predicted by the same probes; None without `test`."""
    classes: tuple[Key, ...]
    centre: str
    setup: ProbeSetup
    seed: int

    @property
    def accuracy(self) -> Float[Tensor, " layer"]:
        """Share of items whose class was predicted."""
        return self.within.accuracy

    @property
    def low(self) -> Float[Tensor, " layer"]:
        """Lower end of the accuracy's 95 % bootstrap interval over groups."""
        return self.within.interval(self.seed).low

    @property
    def high(self) -> Float[Tensor, " layer"]:
        """Upper end of the accuracy's 95 % bootstrap interval over groups."""
        return self.within.interval(self.seed).high

    @property
    def control(self) -> Float[Tensor, "draw layer"]:
        """Accuracy of the same probes trained on shuffled labels."""
        return self.within.control

    @property
    def selectivity(self) -> Float[Tensor, " layer"]:
        """Accuracy minus the mean accuracy on shuffled labels."""
        return self.within.selectivity

    @property
    def chance(self) -> float:
        """Share of the largest class."""
        return self.within.chance

    @property
    def transfer(self) -> Float[Tensor, " layer"]:
        """Share of items of `test` whose class was predicted by probes of the other data type.

        Raises:
            SemhubError: the probe was made without `test`.
        """
        if self.across is None:
            raise SemhubError("This probe was not tested on other data; pass test=(states, labels) to linear_probe.")
        return self.across.accuracy

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and item; the column `part` is "within" or "transfer"."""
        parts = {"within": self.within} | ({"transfer": self.across} if self.across else {})
        frames = [part.to_frame(self.classes).assign(part=name) for name, part in parts.items()]
        return pd.concat(frames, ignore_index=True)


@checked
def linear_probe(
    states: States,
    labels: Keys,
    *,
    test: Test | None = None,
    groups: Keys | None = None,
    centre: Centre = "none",
    setup: ProbeSetup | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
) -> ProbeResult:
    r"""Train a linear classifier at every layer, and predict each item by a probe that did not see its group.

    $\hat y_i = \arg\max_k\,(W z_i + b)_k$, where $z$ are the states, standardised with the mean and standard deviation
    of the training part only, and $W, b$ are fitted as in `ProbeSetup`. The folds are stratified by class. Every item
    of `test` is predicted once, by one of the same probes. If `states` has the item's group, it is the probe that did
    not see that group, and otherwise the probe of a random fold. So `accuracy` and `transfer` belong to the same
    probes.

    **What this does not show.** Accuracy says that a class can be decoded linearly, not that the model uses it
    (Belinkov 2022). Anything that correlates with the label (length, one word) can be decoded too. Shuffled labels show
    what the procedure finds when there is nothing to find. They do not reveal such confounds, or copies of an item on
    both sides of a split (pass `groups`). High transfer shows a direction that both data types share. Low transfer may
    come only from an offset between them (see `centre`).

    Args:
        states: residual states `[layer item d_model]` from `residual_stream`, in memory or in a folder.
        labels: one string or integer per item.
        test: `(states, labels)` of another data type, or `(states, labels, groups)` if `groups` is given.
        groups: items of one group (copies; one sentence in several languages) are never on both sides of a split. With
            None, every item is its own group, and `test` shares none. If `test` has translations of `states`, pass
            groups; otherwise the probe is tested on content from its training.
        centre: "own" subtracts from every data type its own mean over the training folds (without using labels), so
            that an offset between types does not hide shared directions. Both types should have similar shares of the
            classes. "none" subtracts the training type's mean from both.
        setup: folds, regularisation and control draws; None means `ProbeSetup()`.
        seed: for folds and shuffled labels.
        provenance: the origin of the states, stored in the result.

    Returns:
        Held-out predictions at every layer: `.accuracy` of shape `[layer]`, and those of probes with shuffled labels,
        `.control`; `.within.peak()` has the best layer.

    Raises:
        SemhubError: NaN states; unequal lengths, layers or widths; only one class; a class with fewer groups than
            folds; a label in `test` that was not trained; groups on one side only; an unknown option.

    Sources: Alain and Bengio 2017 (linear probes); Hewitt and Liang 2019 (selectivity). In their control task the probe
    can memorise word types; here shuffled labels are predicted on held-out items, so they cannot be memorised.

    Example:
        >>> labels = ["even", "odd"] * 20
        >>> noise = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0))
        >>> noise[2, ::2, 0] += 9  # decodable at layer 2 only
        >>> result = linear_probe(noise, labels, seed=0)
        >>> [bool(accuracy > 0.9) for accuracy in result.accuracy]
        [False, False, True]
    """
    check_centre(centre)
    setup = setup or ProbeSetup()
    check_states(states, "states")
    label_lists, group_lists, stacks = [keys(labels, states.shape[1], "labels")], [], [states]
    if test is not None:
        check_states(test[0], "The states of test", like=states)
        stacks.append(test[0])
        label_lists.append(keys(test[1], test[0].shape[1], "The labels of test"))
        if (groups is None) != (len(test) == 2):
            raise SemhubError(
                "Groups are given on one side only: pass groups= for the states and test=(states, labels, groups), "
                "with equal names for items that belong together, or no groups at all."
            )
    if groups is not None:
        group_lists.append(keys(groups, states.shape[1], "groups"))
    if test is not None and len(test) == 3:
        group_lists.append(keys(test[2], test[0].shape[1], "The groups of test"))
    parts, classes = items_of(stacks, label_lists, group_lists or unrelated(stacks))
    trained = {classes[code] for code in parts[0].labels.tolist()}
    unseen = set(classes) - trained
    if unseen:
        raise SemhubError(f"test has labels that were not trained: {sorted(unseen)}; trained: {sorted(trained)}.")
    check_classes(parts[0], classes, setup.folds, "states")
    within, *others = probe_types(parts[0], parts, len(classes), setup=setup, centre=centre, seed=seed)
    return ProbeResult(
        within=within,
        across=others[0] if others else None,
        classes=classes,
        centre=centre,
        setup=setup,
        seed=seed,
        provenance=provenance or unnamed(seed),
    )


def unrelated(stacks: list[States]) -> list[list[Key]]:
    """A separate group for every item of every stack."""
    starts = [sum(stack.shape[1] for stack in stacks[:i]) for i in range(len(stacks))]
    return [list(range(start, start + stack.shape[1])) for start, stack in zip(starts, stacks, strict=True)]


def items_of(
    stacks: list[States], labels: list[list[Key]], groups: list[list[Key]]
) -> tuple[list[Items], tuple[Key, ...]]:
    """Stacks with their labels and groups as shared codes, and the classes."""
    classes, label_codes = coded(labels, "labels")
    _, group_codes = coded(groups, "groups")
    return [Items(*part) for part in zip(stacks, label_codes, group_codes, strict=True)], classes
