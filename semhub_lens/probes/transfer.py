"""`transfer_matrix`: probes trained on each data type and tested on each, and a probe for the type itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance, Result, unnamed
from semhub_lens.model.stacks import States
from semhub_lens.probes.fitting import Centre, ProbeSetup, check_centre
from semhub_lens.probes.items import Items, Key, Keys, check_classes, check_states, keys
from semhub_lens.probes.predictions import Peak, Predictions, probe_types
from semhub_lens.probes.probe import items_of, unrelated


@dataclass(frozen=True, eq=False)
class TransferResult(Result):
    """Predictions for every pair of training type and test type, and for the type itself, at every layer.

    `transfer_matrix` makes it.
    """

    types: tuple[str, ...]
    classes: tuple[Key, ...]
    cells: tuple[tuple[Predictions, ...], ...]
    """`cells[train][test]`, in the order of `types`; types may differ in their number of items."""
    type_probe: Predictions
    """Predictions of the type of a state (classes: `types`): all types pooled, centre "none", the same groups."""
    centre: str
    setup: ProbeSetup
    seed: int

    @checked
    def cell(self, train: str, test: str) -> Predictions:
        """Predictions for the items of type `test` by probes trained on type `train`.

        Args:
            train, test: names in `types`.

        Raises:
            SemhubError: an unknown type.
        """
        for name in (train, test):
            if name not in self.types:
                raise SemhubError(f"Unknown type {name!r}; there are {', '.join(self.types)}.")
        return self.cells[self.types.index(train)][self.types.index(test)]

    @property
    def accuracy(self) -> Float[Tensor, "train test layer"]:
        """Share of items whose class was predicted."""
        return self._each(lambda cell: cell.accuracy)

    @property
    def control(self) -> Float[Tensor, "train test layer"]:
        """Mean accuracy of probes trained on shuffled labels."""
        return self._each(lambda cell: cell.control.mean(0))

    @property
    def selectivity(self) -> Float[Tensor, "train test layer"]:
        """`accuracy` minus `control`."""
        return self.accuracy - self.control

    @property
    def low(self) -> Float[Tensor, "train test layer"]:
        """Lower end of the accuracy's 95 % bootstrap interval over groups."""
        return self._each(lambda cell: cell.interval(self.seed).low)

    @property
    def high(self) -> Float[Tensor, "train test layer"]:
        """Upper end of the accuracy's 95 % bootstrap interval over groups."""
        return self._each(lambda cell: cell.interval(self.seed).high)

    @property
    def chance(self) -> Float[Tensor, "train test"]:
        """Share of the largest class in the test type."""
        return torch.tensor([[cell.chance for cell in row] for row in self.cells], dtype=torch.float32)

    @property
    def within(self) -> Float[Tensor, " layer"]:
        """Mean accuracy over the cells in which the two types are the same."""
        return self.accuracy.diagonal(dim1=0, dim2=1).mean(1)

    @property
    def across(self) -> Float[Tensor, " layer"]:
        """Mean accuracy over the cells in which the two types differ."""
        return self.accuracy[~torch.eye(len(self.types), dtype=torch.bool)].mean(0)

    @property
    def peaks(self) -> tuple[tuple[Peak, ...], ...]:
        """The best layer of every cell, chosen on one half of the groups, and its accuracy on the other half."""
        return tuple(tuple(cell.peak(self.seed) for cell in row) for row in self.cells)

    def to_frame(self) -> pd.DataFrame:
        """One row per pair of types, layer and item; the type probe's rows have "all types" for both."""
        frames = [
            cell.to_frame(self.classes).assign(train=train, test=test)
            for train, row in zip(self.types, self.cells, strict=True)
            for test, cell in zip(self.types, row, strict=True)
        ]
        pooled = self.type_probe.to_frame(self.types).assign(train="all types", test="all types")
        return pd.concat([*frames, pooled], ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """One row per pair of types, and one for the type probe: the peak layer on the reporting half."""
        named = [
            (train, test, cell)
            for train, row in zip(self.types, self.cells, strict=True)
            for test, cell in zip(self.types, row, strict=True)
        ]
        rows = []
        for train, test, cell in [*named, ("all types", "the type itself", self.type_probe)]:
            peak = cell.peak(self.seed)
            rows.append(
                {
                    "train": train,
                    "test": test,
                    "layer": peak.layer,
                    "accuracy": peak.accuracy,
                    "low": peak.low,
                    "high": peak.high,
                    "chance": peak.chance,
                    "shuffled": float(cell.control[:, peak.layer].mean()),
                    "embedding": float(cell.accuracy[0]),
                    "items": peak.items,
                }
            )
        return pd.DataFrame(rows)

    def _each(self, curve: Callable[[Predictions], Tensor]) -> Float[Tensor, "train test layer"]:
        return torch.stack([torch.stack([curve(cell) for cell in row]) for row in self.cells])


@checked
def transfer_matrix(
    stacks: Mapping[str, States],
    labels: Mapping[str, Keys],
    *,
    groups: Mapping[str, Keys] | Literal["rows", "none"],
    centre: Centre = "none",
    setup: ProbeSetup | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
) -> TransferResult:
    r"""Train probes on each data type, test them on each, and predict which type a state comes from.

    $A_{st} = \operatorname{mean}_i\,[\hat y^{(s)}_i = y^{(t)}_i]$: probes of type s on the items of type t. Cell
    `[train][test]` equals `linear_probe(stacks[train], labels[train], test=(stacks[test], ...))`. High transfer (a
    *shared* direction) and a type probe near 1 (*separable* types) can occur together, so both are reported. With
    `centre="own"`, each type's own mean is subtracted for the cells, but never for the type probe.

    **What this does not show.** See `linear_probe`. Any model can have a type probe near 1, because the next token
    depends on the type; it is no evidence against a hub. Cells in one row come from the same probes and are not
    independent.

    Args:
        stacks: residual states of each data type, from one model; types may differ in their number of items.
        labels: labels of each data type; all types have the same classes.
        groups: the items that belong together, also across types. "rows": item i of every type means the same. "none":
            no two items belong together. Or the names of the groups for each type.
        centre, setup, seed, provenance: see `linear_probe`.

    Returns:
        The predictions of every pair of types, and of the type probe: `.within`, `.across` and `.type_probe.accuracy`.

    Raises:
        SemhubError: fewer than two types, names that differ between the mappings, classes that differ between types,
            "rows" with unequal numbers of items, and the errors of `linear_probe`.

    Example:
        >>> noise = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0))
        >>> noise[1, ::2, 0] += 9  # a direction shared by both types, at layer 1
        >>> stacks = {"en": noise, "fr": noise + 5}
        >>> labels = dict.fromkeys(stacks, ["cat", "dog"] * 20)
        >>> matrix = transfer_matrix(stacks, labels, groups="rows", centre="own", seed=0)
        >>> bool(matrix.across[1] > 0.9), bool(matrix.type_probe.accuracy[1] > 0.9)
        (True, True)
        >>> bool(matrix.cell("en", "fr").accuracy[1] > 0.9)
        True
    """
    check_centre(centre)
    setup = setup or ProbeSetup()
    types = tuple(stacks)
    parts, classes = _parts(stacks, labels, groups)
    for name, part in zip(types, parts, strict=True):
        missing = set(range(len(classes))) - set(part.labels.tolist())
        if missing:
            raise SemhubError(
                f"Type {name!r} lacks the labels {[classes[i] for i in sorted(missing)]}, which other types have; a "
                "probe can only predict classes that it was trained on."
            )
        check_classes(part, classes, setup.folds, f"Type {name!r}")
    pooled = pool(parts)
    check_classes(pooled, types, setup.folds, "The type probe")
    rows = [probe_types(part, parts, len(classes), setup=setup, centre=centre, seed=seed) for part in parts]
    (of_type,) = probe_types(pooled, [pooled], len(types), setup=setup, centre="none", seed=seed)
    cells = tuple(tuple(row) for row in rows)
    return TransferResult(
        types=types,
        classes=classes,
        cells=cells,
        type_probe=of_type,
        centre=centre,
        setup=setup,
        seed=seed,
        provenance=provenance or unnamed(seed),
    )


def pool(parts: list[Items]) -> Items:
    """All items of all types as one, with the type as the class."""
    of_type = torch.cat([torch.full_like(part.labels, i) for i, part in enumerate(parts)])
    states = torch.cat([part.states[:].float() for part in parts], 1)
    return Items(states, of_type, torch.cat([part.groups for part in parts]))


def _parts(
    stacks: Mapping[str, States], labels: Mapping[str, Keys], groups: Mapping[str, Keys] | str
) -> tuple[list[Items], tuple[Key, ...]]:
    if len(stacks) < 2:
        raise SemhubError(f"A transfer matrix needs at least two data types, got {len(stacks)}.")
    _same_names(stacks, labels, "labels")
    states = list(stacks.values())
    for name, stack in stacks.items():
        check_states(stack, f"stacks[{name!r}]", like=states[0])
    counts = {name: stack.shape[1] for name, stack in stacks.items()}
    label_lists = [keys(labels[name], count, f"labels[{name!r}]") for name, count in counts.items()]
    if isinstance(groups, Mapping):
        _same_names(stacks, groups, "groups")
        group_lists = [keys(groups[name], count, f"groups[{name!r}]") for name, count in counts.items()]
    elif groups == "rows":
        if len(set(counts.values())) > 1:
            raise SemhubError(f"groups='rows' needs the same number of items in every type, got {counts}.")
        group_lists: list[list[Key]] = [list(range(count)) for count in counts.values()]
    elif groups == "none":
        group_lists = unrelated(states)
    else:
        raise SemhubError(f"groups must be 'rows', 'none' or a mapping from type to groups, got {groups!r}.")
    return items_of(states, label_lists, group_lists)


def _same_names(stacks: Mapping[str, States], other: Mapping[str, Keys], name: str) -> None:
    if set(stacks) != set(other):
        raise SemhubError(
            f"stacks has the types {sorted(stacks)}, {name} has {sorted(other) or 'none'}; expected the same."
        )
