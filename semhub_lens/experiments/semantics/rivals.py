"""Hard negatives: an input with its true partner and a false one of the same words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.evidence.draws import told_apart
from semhub_lens.evidence.legs import Leg, LegText, make_leg
from semhub_lens.evidence.stats import other_keys, sign_flips
from semhub_lens.experiments.legs_in_common import NOT_RANDOM, MeasuredStates
from semhub_lens.geometry.measures import centre, cosine_matrix

READS = {"last": "last token", "mean": "mean over tokens"}


@dataclass(frozen=True, eq=False)
class StatesOfTexts:
    """States of texts by read, of the model and the random-weight model."""

    index: Mapping[str, int]
    """The row of every text."""
    states: Mapping[str, Tensor]
    random: Mapping[str, Tensor] | None

    def of(self, texts: Sequence[str], read: str) -> MeasuredStates:
        """States, those of the random-weight model, and bags of embeddings of some of the texts."""
        rows = [self.index[text] for text in texts]
        random = None if self.random is None else self.random[read][:, rows]
        return self.states[read][:, rows], random, self.states["mean"][:1, rows]


@dataclass(frozen=True)
class Rivals:
    """Sentences, each with a true and a false logical form."""

    title: str
    sentences: list[str]
    true: list[str]
    false: list[str]
    in_order: list[bool]
    """Whether the true form names the two persons in the order of the sentence."""


def rivals_leg(measured: StatesOfTexts, rivals: Rivals, read: str, provenance: Provenance, seed: int) -> Leg:
    r"""Is a sentence closer to its true than to its false form? $e_i = \cos(s_i, f_i) - \cos(s_i, \bar f_i)$.

    The null exchanges the two forms of random items. As in `similarity_legs`, comparisons across layers and models use
    mean-centred cosines.
    """
    sides = [measured.of(texts, read) for texts in (rivals.sentences, rivals.true, rivals.false)]
    states, weightless, bags = zip(*sides, strict=True)
    contrast = _contrast(*states)
    effect, centred = _own(contrast), _own(_contrast(*_centred(*states)))
    own = torch.arange(effect.shape[1])
    controls = {
        "beyond the embedding layer": centred - centred[0],
        "beyond a bag of embeddings": centred - _own(_contrast(*_centred(*bags))),
        "more than for other sentences": effect - other_keys(contrast.mT, own),
    }
    in_order = torch.tensor(rivals.in_order)
    if 0 < int(in_order.sum()) < len(in_order):
        share = torch.where(in_order, in_order.float().mean(), 1 - in_order.float().mean())
        controls["both orders of the names weighed alike"] = effect / (2 * share)
    placebos = {}
    if measured.random is not None:
        controls["beyond random weights"] = centred - _own(_contrast(*_centred(*weightless)))
        without = _own(_contrast(*weightless))
        placebos[NOT_RANDOM] = (without, sign_flips(without))
    true, false = (_own(cosine_matrix(centre(states[0]), form)) for form in _centred(*states)[1:])
    curves = {"true form, mean-centred": true.mean(1), "false form, mean-centred": false.mean(1)}
    for name, chosen in (("", in_order | True), (", names in order", in_order), (", names reversed", ~in_order)):
        if bool(chosen.any()) and not (name and bool(chosen.all())):
            curves[f"share nearer to the true form{name}"] = (effect[:, chosen].sign().mean(1) + 1) / 2
    text = LegText(
        title=f"{rivals.title}, {READS[read]}",
        data_type="semantics",
        kind="similarity",
        claim="a sentence lies closer to its logical form than to a false one of the same words",
        control="true and false form exchanged at random",
        unit="cosine",
        curve_unit="cosine / share",
    )
    return make_leg(
        effect,
        sign_flips(effect),
        text,
        provenance=provenance,
        seed=seed,
        curves=curves,
        controls=controls,
        placebos=placebos,
        labels=rivals.sentences,
    )


def _contrast(sentences: Tensor, true: Tensor, false: Tensor) -> Float[Tensor, "layer item form"]:
    right, wrong = cosine_matrix(sentences, true), cosine_matrix(sentences, false)
    return told_apart(right - wrong, right, wrong)


def _own(matrix: Tensor) -> Float[Tensor, "layer item"]:
    return matrix.diagonal(dim1=1, dim2=2)


def _centred(sentences: Tensor, true: Tensor, false: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sentences minus their mean; forms, true and false, minus the mean of both."""
    forms = centre(torch.cat([true, false], dim=1))
    return centre(sentences), forms[:, : true.shape[1]], forms[:, true.shape[1] :]
