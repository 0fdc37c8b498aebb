"""Shared parts of the experiments on pictures and sound: closeness to names, and the lens at the media's positions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance
from semhub_lens.data.media.items import MediaItem
from semhub_lens.evidence.legs import Leg, LegText, make_leg
from semhub_lens.evidence.stats import other_keys, paired_contrast
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.legs_in_common import NOT_RANDOM, Stacks, similarity_legs
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, noise_like
from semhub_lens.inputs.tokens import Target

LANGUAGES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "zh": "Chinese"}
ADAPTER = (
    "A spoke is an adapter probe: the language model was never trained with the encoder, and the projector was "
    "trained to make the model give names. This is weaker evidence than a model trained on both."
)


@dataclass(frozen=True)
class MediaKind:
    """Pictures or sounds, with their words in titles and claims."""

    modality: str
    """The span of their positions and their placeholder in a text."""
    data_type: str
    noun: str
    question: str
    """A text that starts with the placeholder and ends just before the name."""

    @property
    def noise(self) -> str:
        """The noise that replaces them in the control."""
        return f"noise in place of the {self.noun}"

    @property
    def not_noise(self) -> str:
        """Name of the placebo: the same items with noise."""
        return f"absent with {self.noise}"


def reader_of(job: Job, modality: str) -> MediaReader:
    """The job's reader of pictures or sound.

    Raises:
        SemhubError: the job has none, or one of the other modality.
    """
    if job.reader is None or job.reader.modality != modality:
        got = "none" if job.reader is None else f"one for {job.reader.modality} ({job.reader.name})"
        raise SemhubError(
            f"This experiment needs reader=... for {modality}, got {got}. Give a spoke (spokes.load) for a text model, "
            "or readers.ProcessorReader for a multimodal one."
        )
    return job.reader


def name_of(item: MediaItem, code: str = "en") -> str:
    """The item's name in a language."""
    return item.names[code][0]


def one_each(items: Sequence[MediaItem], code: str = "en") -> list[MediaItem]:
    """One item for every name."""
    return list({name_of(item, code).casefold(): item for item in items}.values())


def media_provenance(
    job: Job,
    kind: MediaKind,
    shown: Sequence[Prompt],
    names: Sequence[str],
    *,
    lens: bool | str = False,
    data: str | None = None,
) -> Provenance:
    """Provenance of legs on what is shown; `data` names the items, where they are not the bundled ones."""
    through = f"{data or f'{kind.noun}s'} through {reader_of(job, kind.modality).name}"
    return job.provenance(through, [shown, names], lens=lens, bos=shown[0].bos)


def near_names(job: Job, kind: MediaKind, shown: list[Prompt], names: list[str], provenance: Provenance) -> list[Leg]:
    """The media's positions compared with the name's tokens, and last tokens with each other; each also mean-centred.

    The last token of the question is compared with that of the sentence that contains the name.
    """
    noisy = noise_like(shown, job.seed)
    sentences = [kind.question.removeprefix(f"<{kind.modality}> ") + f" {name}" for name in names]
    legs = []
    both = [kind.modality, "last"]  # read in the same passes
    jobs = [job, job.random()] if job.baseline else [job]
    seen = [on.reads(kind.noun, shown, both) for on in jobs]
    noise = job.reads("noise", noisy, both)
    for title, read, texts, text_read in (
        (f"{kind.noun}'s positions and name", kind.modality, names, "mean"),
        ("last token", "last", sentences, "last"),
    ):
        pairs = [
            (reads[read], on.states(f"text-{text_read}", texts, text_read))
            for on, reads in zip(jobs, seen, strict=True)
        ]
        stacks = Stacks(
            *pairs[0],
            random=pairs[1] if job.baseline else None,
            others={kind.noise: noise[read]},
        )
        text = LegText(
            title=title,
            data_type=kind.data_type,
            kind="similarity",
            claim=f"a {kind.noun} lies closer to its own name than to other names",
            control="names exchanged at random",
            unit="cosine",
            curve_unit="cosine / share",
        )
        legs += similarity_legs(stacks, text, provenance, job.seed, labels=names, centred=(False, True))
    return legs


@dataclass(frozen=True, eq=False)
class NameScores:
    """Scores of names at the media's positions: see `at_positions`."""

    shown: Float[Tensor, "layer item key"]
    noise: Float[Tensor, "layer item key"]
    """With noise in place of the media."""
    random: Float[Tensor, "layer item key"] | None
    """With random weights, for differences between names; None without a baseline."""

    def of(self, items: Sequence[int], keys: Sequence[int]) -> "NameScores":
        """Only these items and names."""

        def cut(matrix: Tensor) -> Tensor:
            return matrix[:, list(items)][:, :, list(keys)]

        return NameScores(cut(self.shown), cut(self.noise), None if self.random is None else cut(self.random))


def read_names(job: Job, kind: MediaKind, part: str, shown: list[Prompt], targets: Sequence[Target]) -> NameScores:
    """Read targets at the media's positions, with noise in their place, and with random weights.

    Names of several languages are read together: this takes as many passes as one language.
    """
    scores = at_positions(job, kind.modality, part, shown, targets)
    noise = at_positions(job, kind.modality, f"{part}-noise", noise_like(shown, job.seed), targets)
    random = at_positions(job.random(), kind.modality, part, shown, targets, height=False) if job.baseline else None
    return NameScores(scores, noise, random)


def names_leg(
    job: Job,
    kind: MediaKind,
    title: str,
    reading: NameScores,
    names: list[str],
    key: Int[Tensor, " item"],
    provenance: Provenance,
    *,
    apart: Bool[Tensor, "key other"] | None = None,
) -> Leg:
    r"""The leg of the right name over other names at the media's positions, with noise and random weights as placebos.

    $$e_{\ell i} = \log \bar p_\ell(\text{name}_i) - \operatorname{mean}_{j} \log \bar p_\ell(\text{name}_j)$$

    with $\bar p$ the mean probability over the positions, and the j are the names other than the item's own.

    Args:
        job: the job.
        kind: pictures or sounds.
        title: whose names are read.
        reading: scores of the items and names.
        names: the different names.
        key: index of each item's own name.
        provenance: provenance of the leg.
        apart: which names j may be compared with name i; None takes all but its own.
    """
    scores, noise = reading.shown, reading.noise
    others = _others(scores, key, apart)
    effect, draw = paired_contrast(scores, key, others)
    placebos = {kind.not_noise: paired_contrast(noise, key, _others(noise, key, apart))}
    own = torch.arange(len(key))
    curves = {
        "right name": scores[:, own, key].mean(1),
        "other names": others.mean(1),
        f"right name, {kind.noise}": noise[:, own, key].mean(1),
    }
    if reading.random is not None:
        placebos[NOT_RANDOM] = paired_contrast(reading.random, key, _others(reading.random, key, apart))
    text = LegText(
        title=f"{title} at the {kind.noun}'s positions",
        data_type=kind.data_type,
        kind="readability",
        claim=f"the lens at a {kind.noun}'s positions prefers its name to other names",
        control=f"names exchanged between {kind.noun}s",
        unit="nats",
        curve_unit="log-probability",
    )
    labels = [names[i] for i in key.tolist()]
    return make_leg(
        effect, draw, text, provenance=provenance, seed=job.seed, curves=curves, placebos=placebos, labels=labels
    )


def at_positions(
    job: Job, span: str, part: str, shown: Sequence[Prompt], targets: Sequence[Target], *, height: bool = True
) -> Float[Tensor, "layer item key"]:
    """Log of the mean probability of every target over the positions of a span.

    Without `height`, only the differences between an item's targets count. At a single position these are read from
    the targets' own columns.
    """
    positions = [job.places(prompt.spans[span]) for prompt in shown]
    if not height and max(map(len, positions)) == 1:
        return job.contrast(job.states_at(part, shown, positions), (), common=targets)
    log_probs = job.lens(part, shown, common=targets, read_at=positions)
    parts = log_probs.split([len(listed) for listed in positions], dim=1)
    return torch.stack([one.logsumexp(1) - math.log(one.shape[1]) for one in parts], dim=1)


def _others(
    matrix: Float[Tensor, "layer item key"], key: Int[Tensor, " item"], apart: Bool[Tensor, "key other"] | None
) -> Float[Tensor, "layer item"]:
    """Each item's mean score over the names with which its own may be compared."""
    if apart is None:
        return other_keys(matrix, key)
    chosen = apart[key].to(matrix.dtype)
    return ((matrix * chosen).sum(2, dtype=torch.float64) / chosen.sum(1)).to(matrix.dtype)
