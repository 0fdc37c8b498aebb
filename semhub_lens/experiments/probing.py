"""Probing: classifiers of content, trained on one data type and tested on another, and classifiers of the data type."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.data.numbers.arithmetic import LIMIT
from semhub_lens.data.numbers.probing import ProbingItem, concept_items, number_items
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.sampling import sample
from semhub_lens.probes.fitting import ProbeSetup
from semhub_lens.probes.predictions import Predictions
from semhub_lens.probes.transfer import TransferResult, transfer_matrix

SETUP = ProbeSetup(folds=5)
NAMES = {
    "en": "English words",
    "fr": "French words",
    "es": "Spanish words",
    "de": "German words",
    "zh": "Chinese words",
    "digits": "digits",
    "sum": "sums",
}


TRANSFER = LegText(
    title="",
    data_type="probing",
    kind="probing",
    claim="a probe trained on one data type finds the content of another",
    control="labels exchanged between items",
    unit="accuracy above chance",
    curve_unit="accuracy",
)
TYPE = LegText(
    title="the data type itself",
    data_type="probing",
    kind="separability",
    claim="a probe tells which data type a state is of",
    control="types exchanged between items",
    unit="accuracy above chance",
    curve_unit="accuracy",
)


@dataclass(frozen=True)
class Content:
    """One kind of content: its items and the transfers that are legs."""

    name: str
    items: tuple[ProbingItem, ...]
    pairs: tuple[tuple[str, str], ...]
    """Pairs of data types: trained on, tested on."""


def run_probing(job: Job) -> ExperimentResult:
    """Is content (the category of a concept, the size of a number) coded alike in languages, digits and sums?

    At every layer a linear probe is trained on one data type and tested on another, on concepts outside its training
    part (no concept is in both parts, in any language). A second probe predicts the data type of a state. Content can
    be both shared and separable by data type.
    """
    contents = (
        Content("concepts", _concepts(job.n, job.seed), tuple(("en", code) for code in ("fr", "es", "de", "zh"))),
        Content(
            "numbers",
            _numbers(job.n, job.seed),
            (("digits", "en"), ("en", "zh"), ("en", "digits"), ("sum", "digits")),
        ),
    )
    legs: list[Leg] = []
    extras = []
    for content in contents:
        provenance = job.provenance(
            f"bundled {content.name}", [[item.text, item.label, item.data_type] for item in content.items]
        )
        transfer = _transfer(job, content, provenance)
        random = _transfer(job.random(), content, provenance) if job.baseline else None
        legs += _legs(content, transfer, random, provenance, job.seed)
        extras.append(transfer)
    notes = (
        "A probe shows that content can be decoded linearly, not that the model uses it.",
        "Each data type's own mean state is subtracted before the content probes (not before the type probe), so "
        "that data types far apart can still share directions.",
        "The data type is decodable in any model, because the next token depends on it. Its legs are not evidence "
        "against a hub.",
        f"Numbers have the classes below 10, 50 and 100; concepts {len({i.label for i in contents[0].items})} "
        "categories. Words spelled alike in two languages are left out.",
    )
    title = "content within and across data types"
    return ExperimentResult("probing", title, tuple(legs), notes, tuple(extras), provenance=legs[0].provenance)


def _concepts(n: int, seed: int) -> tuple[ProbingItem, ...]:
    """All or n concepts without cognates, from the categories with enough concepts for the folds."""
    items = concept_items(cognates=False)
    by_key: dict[str, list[ProbingItem]] = defaultdict(list)
    for item in items:
        by_key[item.key].append(item)
    whole = {key: rows for key, rows in by_key.items() if len(rows) == 5}
    categories: dict[str, list[str]] = defaultdict(list)
    for key, rows in whole.items():
        categories[rows[0].label].append(key)
    sample(len(whole), n, seed)  # refuses too small an n
    kept = [name for name, listed in categories.items() if len(listed) >= SETUP.folds]
    kept = kept[: max(2, n // SETUP.folds)]
    chosen = _in_turn([categories[name] for name in kept], n)
    return tuple(item for key in chosen for item in whole[key])


def _numbers(n: int, seed: int) -> tuple[ProbingItem, ...]:
    """All or n numbers below 100, with all magnitudes in turn."""
    order = torch.randperm(LIMIT, generator=generator(seed)).tolist()
    magnitudes: dict[str, list[int]] = defaultdict(list)
    for item in number_items(order, label="magnitude"):
        if item.data_type == "digits":
            magnitudes[item.label].append(int(item.key))
    return tuple(number_items(sorted(_in_turn(list(magnitudes.values()), n)), label="magnitude", seed=seed))


def _in_turn(groups: Sequence[Sequence[Any]], n: int) -> list[Any]:
    """The first item of every group, then the second, and so on, at most n."""
    return [entry for rank in zip_longest(*groups) for entry in rank if entry is not None][:n]


def _transfer(job: Job, content: Content, provenance: Provenance) -> TransferResult:
    by_type: dict[str, list[ProbingItem]] = defaultdict(list)
    for item in content.items:
        by_type[item.data_type].append(item)
    stacks = {name: job.states(f"{content.name}-{name}", [i.text for i in items]) for name, items in by_type.items()}
    return transfer_matrix(
        stacks,
        _field(by_type, "label"),
        groups=_field(by_type, "key"),
        centre="own",
        setup=SETUP,
        seed=job.seed,
        provenance=provenance,
    )


def _field(by_type: Mapping[str, Sequence[ProbingItem]], name: str) -> dict[str, list[str]]:
    return {kind: [getattr(item, name) for item in items] for kind, items in by_type.items()}


def _legs(
    content: Content, transfer: TransferResult, random: TransferResult | None, provenance: Provenance, seed: int
) -> list[Leg]:
    legs = []
    for train, test in content.pairs:
        cell, within = transfer.cell(train, test), transfer.cell(test, test)
        other = None if random is None else random.cell(train, test)
        curves = {
            "transfer": cell.accuracy,
            f"trained on {NAMES[test]} themselves": within.accuracy,
            "shuffled labels": cell.control.mean(0),
            "chance": torch.full_like(cell.accuracy, cell.chance),
        }
        text = replace(TRANSFER, title=f"{content.name}: {NAMES[train]} to {NAMES[test]}")
        labels = [i.text for i in content.items if i.data_type == test]
        legs.append(_leg(cell, other, text, curves=curves, provenance=provenance, seed=seed, labels=labels))
    pooled = transfer.type_probe
    text = replace(TYPE, title=f"{content.name}: {TYPE.title}")
    curves = {
        "data type": pooled.accuracy,
        "shuffled types": pooled.control.mean(0),
        "chance": torch.full_like(pooled.accuracy, pooled.chance),
    }
    other = None if random is None else random.type_probe
    legs.append(_leg(pooled, other, text, curves=curves, provenance=provenance, seed=seed, groups=pooled.groups))
    return legs


def _leg(
    cell: Predictions,
    random: Predictions | None,
    text: LegText,
    *,
    curves: dict[str, Tensor],
    provenance: Provenance,
    seed: int,
    labels: Sequence[str] = (),
    groups: Tensor | None = None,
) -> Leg:
    correct = cell.correct
    controls = {
        "beyond the embedding layer": correct - correct[0],
        "beyond shuffled labels": correct - cell.control.mean(0)[:, None],
    }
    if random is not None:
        controls["beyond random weights"] = correct - random.correct
        curves["random weights"] = random.accuracy
    return make_leg(
        cell.above_chance,
        cell.permuted,
        text,
        provenance=provenance,
        seed=seed,
        curves=curves,
        controls=controls,
        labels=labels,
        groups=groups,
    )
