"""Patching between pictures and words: does a picture's state in place of a word make the model name the picture?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.draws import told_apart
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, sign_flips
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.media.legs import ADAPTER, name_of, one_each, reader_of
from semhub_lens.experiments.media.vision import NOT_NOISE, QUESTION, pictures_of
from semhub_lens.experiments.steering_legs import SIGNS
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, noise_like
from semhub_lens.inputs.tokens import is_single_token
from semhub_lens.interventions.concepts import concept_patch
from semhub_lens.model.facts import Model

REPEATED = "one is one, ice is ice, north is north, {} is"
"""A text that leads the model to repeat its last word."""
SHOTS = ("one", "ice", "north")
RANDOM_STATES = "beyond random states of the same norms"
NO_PATCH = "beyond the unpatched prompt"
CONDITIONS = ("patch", "another item's source", "random states", "no patch")


@dataclass(frozen=True, eq=False)
class PatchItems:
    """Prompts with pictures and with words, and the item into which each is patched."""

    names: list[str]
    pictures: list[Prompt]
    """A question on each picture, with the span "image"."""
    words: list[Prompt]
    """A text that leads the model to repeat each word, with the span "word"."""
    into: list[int]
    """The item whose prompt is patched with the item's states."""


@dataclass(frozen=True, kw_only=True)
class PatchRoute:
    """The span that states come from and the span they replace."""

    title: str
    claim: str
    read: str
    """The span whose states are taken."""
    written: str
    """The span they replace."""


WAYS = (
    PatchRoute(
        title="picture into a word's place",
        claim="the state of a picture in the place of a word makes the model repeat the picture's name",
        read="image",
        written="word",
    ),
    PatchRoute(
        title="word into a picture's place",
        claim="the state of a word at the positions of a picture makes the model call that picture by the word",
        read="word",
        written="image",
    ),
    PatchRoute(
        title="picture into another picture's place",
        claim="the states of a picture at the positions of another make the model call that one by the first one's "
        "name",
        read="image",
        written="image",
    ),
)


def run_patching(job: Job) -> ExperimentResult:
    r"""Do states carry the content of a picture into a text, and the meaning of a word into a picture?

    For every first entry l, the states of item i's span replace those of another item j's span at all entries
    $e \ge l$. This is `concept_patch` with whole spans: position by position where the lengths agree, else the mean of
    the source's states at every target position. At the end of j's prompt:

    $$e_{\ell i} = \log p(\text{name}_i \mid h_i) - \log p(\text{name}_i \mid h_k), \qquad k \ne i$$

    Raises:
        SemhubError: fewer than 16 pictures have a one-token name.
    """
    reader = reader_of(job, "image")
    kept = [item for item in one_each(pictures_of(job), "en") if is_single_token(job.model.tokenizer, name_of(item))]
    kept = [item for item in kept if name_of(item) not in SHOTS]
    if len(kept) < FEWEST_ITEMS:
        raise Unfit(
            f"Only {len(kept)} pictures have an English name of one token for this tokenizer; at least {FEWEST_ITEMS} "
            "are needed."
        )
    names = [name_of(item) for item in kept]
    return patching_result(job, reader, patch_items(job.model, reader, names, [item.open() for item in kept], job.seed))


def patch_items(
    model: Model, reader: MediaReader, names: Sequence[str], pictures: Sequence[Any], seed: int, frame: str = REPEATED
) -> PatchItems:
    """Prompts of pictures and words, each with another to patch into; `frame` has "{}" for the word."""
    shown = [reader.prompt(QUESTION, picture) for picture in pictures]
    start = frame.index("{}")
    words = [Prompt.from_text(model, frame.format(name), spans={"word": (start, start + len(name))}) for name in names]
    return PatchItems(list(names), shown, words, derangement(len(names), generator(seed)).tolist())


def patching_result(job: Job, reader: MediaReader, items: PatchItems) -> ExperimentResult:
    """One leg for each route."""
    hashes = [items.pictures, items.names, items.into]
    provenance = job.provenance(
        f"pictures and words through {reader.name}", hashes, lens=True, bos=items.pictures[0].bos
    )
    legs = tuple(way_leg(job, items, way, provenance) for way in WAYS)
    notes = (
        ADAPTER,
        "From the first entries on, a patch amounts to exchanging the picture or the word itself, so expect a full "
        "effect if the model can name pictures or repeat words. The informative facts are the last entry with an "
        "effect, and whether it crosses from pictures to words and back. At the last entry nothing reads a patch "
        "before the last position: the effect is 0.",
        *(f"{leg.title}: {_reading(leg)}" for leg in legs),
    )
    title = f"{len(items.names)} pictures and their names"
    return ExperimentResult("vision.patching", title, legs, notes, provenance=provenance)


def way_leg(job: Job, items: PatchItems, way: PatchRoute, provenance: Provenance) -> Leg:
    """The leg of one route: its patch minus that of another item, with random states and no patch as controls."""
    patched = _patched(job, items, way, items.pictures)
    effect = told_apart(patched[0] - patched[1], *patched[:2])
    placebos = {}
    if way.read == "image":
        placebos[NOT_NOISE] = _patched(job, items, way, noise_like(items.pictures, job.seed))
    if job.baseline:
        placebos[NOT_RANDOM] = _patched(job.random(), items, way, items.pictures)
    text = LegText(
        title=way.title,
        data_type="images",
        kind="causality",
        claim=way.claim,
        control=SIGNS,
        unit="nats",
        curve_unit="log-probability",
    )
    return make_leg(
        effect,
        sign_flips(effect),
        text,
        provenance=provenance,
        seed=job.seed,
        curves={name: values.mean(1) for name, values in zip(CONDITIONS, patched, strict=True)},
        controls={RANDOM_STATES: patched[0] - patched[2], NO_PATCH: patched[0] - patched[3]},
        placebos={name: (own - other, sign_flips(own - other)) for name, (own, other, *_) in placebos.items()},
        labels=[f"{name} into {items.names[i]}" for name, i in zip(items.names, items.into, strict=True)],
    )


def _patched(
    job: Job, items: PatchItems, way: PatchRoute, pictures: Sequence[Prompt]
) -> Float[Tensor, "condition layer item"]:
    """Log-probability of every source's name under the four conditions.

    Where `pictures` are noise, the target pictures stay unchanged.
    """
    sources = list(pictures) if way.read == "image" else items.words
    targets = [(items.pictures if way.written == "image" else items.words)[i] for i in items.into]

    def measure() -> Tensor:
        result = concept_patch(
            job.model,
            sources,
            targets,
            [[name, items.names[i]] for name, i in zip(items.names, items.into, strict=True)],
            seed=job.seed,
            names=("source", "target"),
            span=way.written,
            source_span=way.read,
            whole=True,
            variants="all",
            progress=job.progress,
        )
        if result.dropped:
            raise SemhubError(f"{result.dropped} pairs of names share a token. Leave out one name of each pair.")
        return torch.stack([values[..., 0] for values in result.conditions().values()])

    part = fingerprint([sources, targets, items.names, items.into])
    return job.store.tensor(f"{job.model.cfg.model_name}-patch-{way.read}-{way.written}-{part}", measure)


def _reading(leg: Leg) -> str:
    curves = dict(zip(leg.curve_names, leg.curves, strict=True))
    listed = ", ".join(f"{name} {float(curves[name][leg.layer]):.2f}" for name in CONDITIONS)
    return f"mean log p(the source's name) when patched from entry {leg.layer} on: {listed}."
