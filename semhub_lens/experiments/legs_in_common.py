"""Legs that several data types have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.evidence.legs import Leg, LegText, make_leg
from semhub_lens.evidence.stats import other_keys, paired_contrast
from semhub_lens.experiments.job import Job, Text
from semhub_lens.geometry.measures import MEASURES, centre, cosine_matrix
from semhub_lens.geometry.similarity import similarity
from semhub_lens.model.facts import Model
from semhub_lens.model.resolve import as_prompts

MATCHED = 5
"""Negatives per item that are matched in length and token overlap."""
OVER_NEGATIVES = "over length- and overlap-matched negatives"
NOT_RANDOM = "absent with random weights"
"""Name of the placebo: the same items on a random-weight model."""


@dataclass(frozen=True, eq=False)
class Stacks:
    """States of paired inputs, and the states they are compared with."""

    a: Float[Tensor, "layer item d_model"]
    b: Float[Tensor, "layer item d_model"]
    random: tuple[Tensor, Tensor] | None = None
    """The same states of a random-weight model."""
    bags: tuple[Tensor, Tensor] | None = None
    """Bags of embeddings: mean state of the tokens at the embedding layer, `[1 item d_model]` each."""
    negatives: Int[Tensor, "item k"] | None = None
    """Items of `b` that match each partner in length and token overlap."""
    others: Mapping[str, Float[Tensor, "layer item d_model"]] = field(default_factory=dict)
    """States that replace `a` in a control, whose effect is subtracted."""


MeasuredStates = tuple[Tensor, Tensor | None, Tensor]
"""States, those of the random-weight model, and the bag of embeddings."""


def measure_stacks(
    job: Job, texts: Mapping[str, Sequence[Text]], reads: Sequence[str] = ("last",)
) -> dict[str, dict[str, MeasuredStates]]:
    """Per read and data type: its states, those of the random-weight model (if requested), and its bag of embeddings.

    All reads come from the same passes.
    """
    measured: dict[str, dict[str, MeasuredStates]] = {read: {} for read in reads}
    for name, listed in texts.items():
        own = job.reads(name, listed, ["mean", *(read for read in reads if read != "mean")])
        random = job.random().reads(name, listed, reads) if job.baseline else dict.fromkeys(reads)
        for read in reads:
            bag = own["mean" if read == "last" else read][:1]
            measured[read][name] = (own[read], random[read], bag)
    return measured


def pair_stacks(
    model: Model, measured: dict[str, MeasuredStates], a: str, b: str, texts: Mapping[str, Sequence[Text]]
) -> Stacks:
    """Pair two data types of `measure_stacks`."""
    return stacks_of(measured[a], measured[b], matched_negatives(model, texts[a], texts[b]))


def stacks_of(a: MeasuredStates, b: MeasuredStates, negatives: Int[Tensor, "item k"]) -> Stacks:
    """Measure two data types and pair them."""
    random = None if a[1] is None or b[1] is None else (a[1], b[1])
    return Stacks(a=a[0], b=b[0], random=random, bags=(a[2], b[2]), negatives=negatives)


def matched_negatives(model: Model, a: Sequence[Text], b: Sequence[Text], k: int = MATCHED) -> Int[Tensor, "item k"]:
    """For every pair, the k other items of `b` most like the partner in length and in tokens shared."""
    prompts = [[prompt.ids for prompt in as_prompts(model, list(texts))] for texts in (a, b)]
    known = torch.cat([ids for listed in prompts for ids in listed]).unique()
    has_a, has_b = (torch.stack([torch.isin(known, ids) for ids in listed]).float() for listed in prompts)
    shared = has_a @ has_b.T
    overlap = shared / (has_a.sum(1)[:, None] + has_b.sum(1) - shared)
    length = torch.tensor([float(len(ids)) for ids in prompts[1]], dtype=torch.float32).log()
    distance = (length[None] - length[:, None]).abs() + (overlap - overlap.diagonal()[:, None]).abs()
    return distance.fill_diagonal_(torch.inf).topk(min(k, len(b) - 1), dim=1, largest=False).indices


def similarity_legs(
    stacks: Stacks,
    text: LegText,
    provenance: Provenance,
    seed: int,
    *,
    labels: Sequence[str] = (),
    centred: Sequence[bool] = (False,),
) -> list[Leg]:
    """The similarity legs of paired states: raw (False), or with each data type's mean state subtracted (True).

    All legs share one measurement of the curves behind them. Some controls compare mean-centred cosines across layers
    and models, because raw cosines change scale with anisotropy. Another compares the leg's own cosines with those of
    matched negatives.
    """
    behind = [name for name, measure in MEASURES.items() if measure.behind_legs]
    measured = similarity(stacks.a, stacks.b, measures=behind, seed=seed)
    controls, curves = _baselines(stacks, measured.centred)
    shown = {label: curve for name in behind for label, curve in measured.curves(name).items()} | curves
    legs = []
    for subtract in centred:
        a, b = (centre(stacks.a), centre(stacks.b)) if subtract else (stacks.a, stacks.b)
        matrix = cosine_matrix(a, b)
        key = torch.arange(matrix.shape[1])
        effect, draw = paired_contrast(matrix, key, other_keys(matrix, key))
        own = {}
        if stacks.negatives is not None:
            negative = matrix.gather(2, stacks.negatives.expand(len(matrix), -1, -1)).mean(2)
            own[OVER_NEGATIVES] = matrix.diagonal(dim1=1, dim2=2) - negative
        legs.append(
            make_leg(
                effect,
                draw,
                replace(text, title=text.title + ", mean-centred" * subtract),
                provenance=provenance,
                seed=seed,
                curves=shown,
                controls=controls | own,
                labels=labels,
            )
        )
    return legs


def _baselines(
    stacks: Stacks, centred: Float[Tensor, "layer item"]
) -> tuple[dict[str, Float[Tensor, "layer item"]], dict[str, Float[Tensor, " layer"]]]:
    """The mean-centred effect minus each baseline, and the baselines' curves."""
    left = {"beyond the embedding layer": centred - centred[0]}
    curves = {}
    if stacks.bags is not None:
        bag = _centred_effect(*stacks.bags)
        left["beyond a bag of embeddings"] = centred - bag
        curves["bag of embeddings, mean-centred"] = bag.mean().expand(len(centred))
    if stacks.random is not None:
        random = _centred_effect(*stacks.random)
        left["beyond random weights"] = centred - random
        curves["random weights, mean-centred"] = random.mean(1)
    for name, states in stacks.others.items():
        left[f"beyond {name}"] = centred - _centred_effect(states, stacks.b)
    return left, curves


def _centred_effect(a: Tensor, b: Tensor) -> Float[Tensor, "layer item"]:
    """Mean-centred cosine of every pair above the item's own non-pairs."""
    matrix = cosine_matrix(centre(a), centre(b))
    return matrix.diagonal(dim1=1, dim2=2) - other_keys(matrix, torch.arange(matrix.shape[1]))


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Titles, claims and curve labels of the two legs of `preference_legs`, for one data type."""

    data_type: str
    control: str
    over_own: tuple[str, str]
    """Title and claim of the leg that compares with the token that really comes next."""
    over_wrong: tuple[str, str]
    """Title and claim of the leg that compares with the other items' words."""
    own: str
    matched: str
    wrong: str
    prefix: str = ""


@dataclass(frozen=True, eq=False)
class LensItems:
    """Log-probabilities of the next token and of every item's word, at every item."""

    own: Float[Tensor, "layer item"]
    words: Float[Tensor, "layer item key"]
    key: Int[Tensor, " item"]
    """Index of each item's own word."""


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
    """The two readability legs of Eq. 2: the right English word over the next token, and over wrong English words.

    Args:
        items: the log-probabilities that the lens reads.
        preference: titles, claims and curve labels.
        provenance: provenance of the legs.
        seed: seed of bootstrap, null and split.
        random: the same log-probabilities of a random-weight model.
        labels: a label for each item.
        controls: controls of the second leg; see `make_leg`.
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
        text = LegText(
            title=preference.prefix + named[0],
            data_type=preference.data_type,
            kind="readability",
            claim=named[1],
            control=preference.control,
            unit="nats",
            curve_unit="log-probability",
        )
        return make_leg(
            effect,
            draw,
            text,
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
