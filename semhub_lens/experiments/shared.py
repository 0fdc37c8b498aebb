"""Legs that several data types have in common."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.legs import Leg, make_leg
from semhub_lens.results import Provenance
from semhub_lens.similarity import centre, cosine_matrix, similarity
from semhub_lens.stats import other_keys, paired_contrast


def similarity_leg(
    a: Float[Tensor, "layer item d_model"],
    b: Float[Tensor, "layer item d_model"],
    title: str,
    data_type: str,
    where: Provenance,
    seed: int,
    centred: bool = False,
) -> Leg:
    """The similarity leg of two residual stacks; `centred` first subtracts each data type's mean state."""
    found = similarity(a, b, seed=seed)
    matrix = cosine_matrix(centre(a), centre(b)) if centred else cosine_matrix(a, b)
    key = torch.arange(a.shape[1])
    effect, draw = paired_contrast(matrix, key, other_keys(matrix, key))
    return make_leg(
        effect,
        draw,
        title=title,
        data_type=data_type,
        kind="similarity",
        unit="cosine",
        claim="equivalent inputs lie closer together than unrelated ones",
        control="partners exchanged at random",
        curves={
            "effect, mean-centred": found.centred.mean(1),
            "retrieval R@1": found.retrieval,
            "R@1 by chance": torch.full_like(found.retrieval, found.chance),
        },
        curve_unit="cosine / share",
        provenance=where,
        seed=seed,
    )


@dataclass(frozen=True)
class Wording:
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


def preference_legs(
    own: Float[Tensor, "layer item"],
    words: Float[Tensor, "layer item key"],
    key: Int[Tensor, " item"],
    wording: Wording,
    where: Provenance,
    seed: int,
) -> tuple[Leg, Leg]:
    """The two readability legs of Eq. 2: the right English word over what comes next, and over wrong English words.

    Args:
        own: log-probability of what really comes next.
        words: log-probability of every item's English word at every item.
        key: which of the words is each item's own.
        wording: names and claims.
        where: provenance of the legs.
        seed: for bootstrap, null and split.
    """
    wrong = other_keys(words, key)
    matched = words[:, torch.arange(words.shape[1]), key]
    curves = {wording.own: own.mean(1), wording.matched: matched.mean(1), wording.wrong: wrong.mean(1)}

    def leg(reference: Tensor, title: str, claim: str) -> Leg:
        effect, draw = paired_contrast(words, key, reference)
        return make_leg(
            effect,
            draw,
            title=wording.prefix + title,
            data_type=wording.data_type,
            kind="readability",
            claim=claim,
            control=wording.control,
            unit="nats",
            curves=curves,
            curve_unit="log-probability",
            provenance=where,
            seed=seed,
        )

    return leg(own, *wording.over_own), leg(wrong, *wording.over_wrong)
