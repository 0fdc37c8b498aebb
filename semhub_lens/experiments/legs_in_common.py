"""Legs that several data types have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.evidence.legs import Leg, LegText, make_leg
from semhub_lens.evidence.stats import LEVEL, other_keys, paired_contrast
from semhub_lens.experiments.job import Job, Text
from semhub_lens.geometry.similarity import SimilarityResult, centre, cosine_matrix, similarity
from semhub_lens.model.facts import Model
from semhub_lens.model.resolve import as_prompts

MATCHED = 5
"""Negatives per item that are matched in length and token overlap."""
NOT_RANDOM = "absent with random weights"
"""Name of the placebo: the same items on a random-weight model."""


@dataclass(frozen=True, eq=False)
class Stacks:
    """States of paired inputs, and what they are held against."""

    a: Float[Tensor, "layer item d_model"]
    b: Float[Tensor, "layer item d_model"]
    random: tuple[Tensor, Tensor] | None = None
    """The same states of a random-weight model."""
    bags: tuple[Tensor, Tensor] | None = None
    """Bags of embeddings: mean state of the tokens at the embedding layer, `[1 item d_model]` each."""
    negatives: Int[Tensor, "item k"] | None = None
    """Items of `b` that match each partner in length and token overlap."""
    others: Mapping[str, Float[Tensor, "layer item d_model"]] = field(default_factory=dict)
    """What may stand in the place of `a`, whose effect is subtracted as a control."""


MeasuredStates = tuple[Tensor, Tensor | None, Tensor]
"""States, those of the random-weight model, and the bag of embeddings."""


def measure_stacks(job: Job, texts: Mapping[str, Sequence[Text]], read: str = "last") -> dict[str, MeasuredStates]:
    """Per data type: its states, those of the random-weight model (if wanted), and its bag of embeddings."""
    found = {}
    for name, listed in texts.items():
        reads = job.reads(name, listed, ["mean"] if read == "mean" else ["mean", read])
        random = job.random().states(name, listed, read) if job.baseline else None
        found[name] = (reads[read], random, reads["mean"][:1])
    return found


def pair_stacks(
    model: Model, measured: dict[str, MeasuredStates], a: str, b: str, texts: Mapping[str, Sequence[Text]]
) -> Stacks:
    """Put two data types of `measure_stacks` side by side."""
    (states_a, random_a, bag_a), (states_b, random_b, bag_b) = measured[a], measured[b]
    random = None if random_a is None or random_b is None else (random_a, random_b)
    return Stacks(states_a, states_b, random, (bag_a, bag_b), matched_negatives(model, texts[a], texts[b]))


def matched_negatives(model: Model, a: Sequence[Text], b: Sequence[Text], k: int = MATCHED) -> Int[Tensor, "item k"]:
    """For every pair the k other items of `b` that match the partner in length and in tokens shared."""
    ids_a, ids_b = ([set(p.ids.tolist()) for p in as_prompts(model, list(side))] for side in (a, b))
    length = torch.tensor([float(len(p)) for p in as_prompts(model, list(b))]).log()
    overlap = torch.tensor([[len(x & y) / len(x | y) for y in ids_b] for x in ids_a])
    distance = (length[None] - length[:, None]).abs() + (overlap - overlap.diagonal()[:, None]).abs()
    return distance.fill_diagonal_(torch.inf).topk(min(k, len(ids_b) - 1), dim=1, largest=False).indices


def similarity_leg(
    stacks: Stacks,
    wording: LegText,
    provenance: Provenance,
    seed: int,
    *,
    labels: Sequence[str] = (),
    centred: bool = False,
) -> Leg:
    """The similarity leg of paired states; `centred` first subtracts each data type's mean state.

    Its controls compare mean-centred cosines across layers and models (raw ones change scale with anisotropy), and the
    leg's own cosines with those of matched negatives.
    """
    found = similarity(stacks.a, stacks.b, seed=seed)
    matrix = cosine_matrix(centre(stacks.a), centre(stacks.b)) if centred else cosine_matrix(stacks.a, stacks.b)
    key = torch.arange(matrix.shape[1])
    effect, draw = paired_contrast(matrix, key, other_keys(matrix, key))
    controls, curves = _baselines(stacks, found)
    if stacks.negatives is not None:
        negative = matrix.gather(2, stacks.negatives.expand(len(matrix), -1, -1)).mean(2)
        controls["over length- and overlap-matched negatives"] = matrix.diagonal(dim1=1, dim2=2) - negative
    return make_leg(
        effect,
        draw,
        wording,
        provenance=provenance,
        seed=seed,
        curves=_measures(found) | curves,
        controls=controls,
        labels=labels,
    )


def _measures(found: SimilarityResult) -> dict[str, Tensor]:
    def top(null: Tensor) -> Tensor:
        return torch.quantile(null, LEVEL, dim=0)

    return {
        "effect, mean-centred": found.centred.mean(1),
        "retrieval R@1": found.retrieval,
        "R@1 by chance": torch.full_like(found.retrieval, found.chance),
        "mutual nearest neighbours": found.neighbours,
        "their null, 95 %": top(found.neighbours_null),
        "debiased CKA": found.cka,
        "its null, 95 %": top(found.cka_null),
    }


def _baselines(stacks: Stacks, found: SimilarityResult) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is left of the mean-centred effect after each baseline, and the baselines' curves."""
    left = {"beyond the embedding layer": found.centred - found.centred[0]}
    curves = {}
    if stacks.bags is not None:
        bag = _centred_effect(*stacks.bags)
        left["beyond a bag of embeddings"] = found.centred - bag
        curves["bag of embeddings, mean-centred"] = bag.mean().expand(len(found.centred))
    if stacks.random is not None:
        random = _centred_effect(*stacks.random)
        left["beyond random weights"] = found.centred - random
        curves["random weights, mean-centred"] = random.mean(1)
    for name, states in stacks.others.items():
        left[f"beyond {name}"] = found.centred - _centred_effect(states, stacks.b)
    return left, curves


def _centred_effect(a: Tensor, b: Tensor) -> Float[Tensor, "layer item"]:
    matrix = cosine_matrix(centre(a), centre(b))
    key = torch.arange(matrix.shape[1])
    return matrix.diagonal(dim1=1, dim2=2) - other_keys(matrix, key)


@dataclass(frozen=True)
class Preference:
    """How a data type names the two legs of `preference_legs`, their claims and their curves."""

    data_type: str
    control: str
    over_own: tuple[str, str]
    """Title and claim of the leg against what really comes next."""
    over_wrong: tuple[str, str]
    """Title and claim of the leg against the other items' words."""
    own: str
    matched: str
    wrong: str
    prefix: str = ""


@dataclass(frozen=True, eq=False)
class LensItems:
    """Log-probabilities of what comes next and of every item's word, at every item."""

    own: Float[Tensor, "layer item"]
    words: Float[Tensor, "layer item key"]
    key: Int[Tensor, " item"]
    """Which of the words is each item's own."""


def preference_legs(
    items: LensItems,
    preference: Preference,
    provenance: Provenance,
    seed: int,
    *,
    random: LensItems | None = None,
    labels: Sequence[str] = (),
    controls: Mapping[str, Float[Tensor, "layer item"]] | None = None,
) -> tuple[Leg, Leg]:
    """The two readability legs of Eq. 2: the right English word over what comes next, and over wrong English words.

    Args:
        items: what the lens reads.
        preference: names and claims.
        provenance: of the legs.
        seed: for bootstrap, null and split.
        random: the same of a random-weight model.
        labels: the items, in words.
        controls: of the second leg; see `make_leg`.
    """
    wrong, matched = _wrong(items), _matched(items)
    curves = {
        preference.own: items.own.mean(1),
        preference.matched: matched.mean(1),
        preference.wrong: wrong.mean(1),
    }
    if random is not None:
        curves[f"{preference.matched}, random weights"] = _matched(random).mean(1)

    def leg(reference: Tensor, baseline: Tensor | None, named: tuple[str, str], checks: Mapping[str, Tensor]) -> Leg:
        effect, draw = paired_contrast(items.words, items.key, reference)
        placebos = {}
        if random is not None and baseline is not None:
            placebos[NOT_RANDOM] = paired_contrast(random.words, random.key, baseline)
        wording = LegText(
            preference.prefix + named[0],
            preference.data_type,
            "readability",
            named[1],
            preference.control,
            "nats",
            "log-probability",
        )
        return make_leg(
            effect,
            draw,
            wording,
            provenance=provenance,
            seed=seed,
            curves=curves,
            controls=checks,
            placebos=placebos,
            labels=labels,
        )

    return (
        leg(items.own, None if random is None else random.own, preference.over_own, {}),
        leg(wrong, None if random is None else _wrong(random), preference.over_wrong, controls or {}),
    )


def _matched(items: LensItems) -> Float[Tensor, "layer item"]:
    return items.words[:, torch.arange(items.words.shape[1]), items.key]


def _wrong(items: LensItems) -> Float[Tensor, "layer item"]:
    return other_keys(items.words, items.key)


def retitled(preference: Preference, prefix: str) -> Preference:
    """The same preference with a prefix before its titles."""
    return replace(preference, prefix=prefix)
