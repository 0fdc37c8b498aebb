"""Pictures: are they near their names, and do their positions read as them?"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.data.coco import coco_captions
from semhub_lens.data.corpus_colours import COLOURS, colour_pictures
from semhub_lens.data.media import MediaItem
from semhub_lens.data.pictures import bundled_pictures
from semhub_lens.experiments.items import sample
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.shared import NOT_RANDOM, Stacks, similarity_leg
from semhub_lens.legs import ExperimentResult, Leg, Wording, make_leg
from semhub_lens.prompts import Prompt
from semhub_lens.results import Provenance
from semhub_lens.senses import Sense, fingerprint, noise_like
from semhub_lens.stats import FEWEST_ITEMS, generator, other_keys, paired_contrast
from semhub_lens.tokens import is_single_token

NOT_NOISE = "absent with noise in place of the picture"
QUESTION = "<image> This is a picture of a"
LANGUAGES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "zh": "Chinese"}
QUESTIONS = {
    "fr": "<image> C'est l'image d'un",
    "es": "<image> Esta es la imagen de un",
    "de": "<image> Das ist ein Bild von",
    "zh": "<image>这是一张图片，上面是",
}
ADAPTER = (
    "A spoke is an adapter probe: the language model was never trained with the encoder, and the projector was trained "
    "to make it say names. That is weaker evidence than a model trained on both."
)


def sense_of(job: Job, modality: str) -> Sense:
    """The job's sense.

    Raises:
        ValueError: it has none, or one of the other modality.
    """
    if job.sense is None or job.sense.modality != modality:
        got = "none" if job.sense is None else f"one for {job.sense.modality} ({job.sense.name})"
        raise ValueError(
            f"This experiment needs sense=... for {modality}, got {got}. Give a spoke (spokes.load) for a text model, "
            "or senses.ProcessorSense for a multimodal one."
        )
    return job.sense


def run_similarity(job: Job) -> ExperimentResult:
    """Are the states of a picture nearer to its own name than to other names?

    At the picture's positions against the name's tokens, and at the last token of the question against that of the
    sentence with the name in it.
    """
    sense, items = sense_of(job, "image"), _pictures(job)
    shown = [sense.prompt(QUESTION, item.open()) for item in items]
    blurred = noise_like(shown, job.seed)
    names = [_name(item) for item in items]
    sentences = [QUESTION.removeprefix("<image> ") + f" {name}" for name in names]
    where = _where(job, sense, shown, names)
    legs = []
    for title, read, texts, text_read in (
        ("picture's positions and name", "image", names, "mean"),
        ("last token", "last", sentences, "last"),
    ):
        stacks = Stacks(
            job.states(f"picture-{read}", shown, read),
            job.states(f"text-{text_read}", texts, text_read),
            None
            if not job.baseline
            else (
                job.random().states(f"picture-{read}", shown, read),
                job.random().states(f"text-{text_read}", texts, text_read),
            ),
            others={"noise in place of the picture": job.states(f"noise-{read}", blurred, read)},
        )
        for centred in (False, True):
            legs.append(
                similarity_leg(
                    stacks,
                    _similarity(title + (", mean-centred" if centred else "")),
                    where,
                    job.seed,
                    labels=names,
                    centred=centred,
                )
            )
    title = f"{len(items)} pictures against their names"
    return ExperimentResult("vision.similarity", title, tuple(legs), (ADAPTER,), provenance=where)


def run_logit_lens_caption(job: Job) -> ExperimentResult:
    r"""Do the lens's words at a picture's positions name it, in English or in other languages?

    $$e_{\ell i} = \log \bar p_\ell(\text{name}_i) - \frac1{n-1} \sum_{j \ne i} \log \bar p_\ell(\text{name}_j)$$

    with $\bar p$ the mean probability over the picture's positions. Then, after a question in French, Spanish, German
    or Chinese: does the English name rise above the name in that language at the last token?
    """
    sense, items = sense_of(job, "image"), _pictures(job)
    legs, notes = [], [ADAPTER]
    for code, language in LANGUAGES.items():
        kept = [item for item in items if code in item.names]
        kept = _distinct([item for item in kept if is_single_token(job.model.tokenizer, _name(item, code))], code)
        notes.append(f"{language}: {len(kept)} of {len(items)} pictures have a name of one token, each name once.")
        if len(kept) < FEWEST_ITEMS:
            continue
        names = [_name(item, code) for item in kept]
        shown = [sense.prompt(QUESTION, item.open()) for item in kept]
        where = _where(job, sense, shown, names, lens=True)
        legs.append(
            _names_leg(job, f"{language} names", shown, names, torch.arange(len(kept)), where, f"caption-{code}")
        )
    for code, question in QUESTIONS.items():
        kept = [item for item in items if _two_names(job, item, code)]
        if len(kept) >= FEWEST_ITEMS:
            legs.append(_through_english(job, sense, kept, code, question))
    if not legs:
        raise ValueError("Too few pictures have names of one token for this tokenizer; " + " ".join(notes[1:]))
    title = f"names of {len(items)} pictures at their positions"
    return ExperimentResult(
        "vision.logit_lens_caption", title, tuple(legs), tuple(notes), provenance=legs[0].provenance
    )


def run_logit_lens_color(job: Job) -> ExperimentResult:
    """Do the positions of a picture of one colour read as the word for it?"""
    sense = sense_of(job, "image")
    colours = [name for name in COLOURS if is_single_token(job.model.tokenizer, name, "all")]
    every = [item for item in colour_pictures(shades=8, seed=job.seed) if item.concept in colours]
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    shown = [sense.prompt(QUESTION, item.open()) for item in items]
    key = torch.tensor([colours.index(item.concept) for item in items])
    where = _where(job, sense, shown, [item.concept for item in items], lens=True)
    leg = _names_leg(job, "colour words", shown, colours, key, where, "colours")
    title = f"{len(items)} pictures of one colour each"
    return ExperimentResult("vision.logit_lens_color", title, (leg,), (ADAPTER,), provenance=where)


def _pictures(job: Job) -> list[MediaItem]:
    """Bundled pictures, or those of a COCO folder with a noun of their captions, each noun once."""
    every = bundled_pictures()
    if job.data is not None:
        listed = coco_captions(job.data)
        order = torch.randperm(len(listed), generator=generator(job.seed)).tolist()
        every = _distinct([listed[i] for i in order], "en")
    return [every[i] for i in sample(len(every), min(job.n, len(every)), job.seed)]


def _name(item: MediaItem, code: str = "en") -> str:
    return item.names[code][0]


def _distinct(items: Sequence[MediaItem], code: str) -> list[MediaItem]:
    return list({_name(item, code).casefold(): item for item in items}.values())


def _two_names(job: Job, item: MediaItem, code: str) -> bool:
    """Whether there are both names, each one token and spelt apart."""
    if code not in item.names:
        return False
    names = [_name(item, "en"), _name(item, code)]
    tokenizer = job.model.tokenizer
    return names[0].casefold() != names[1].casefold() and all(is_single_token(tokenizer, n, "all") for n in names)


def _where(job: Job, sense: Sense, shown: Sequence[Prompt], names: Sequence[str], *, lens: bool = False) -> Provenance:
    data = f"pictures{'' if job.data is None else f' of {job.data}'} through {sense.name}"
    return job.where(data, [fingerprint(shown), list(names)], lens=lens, bos=shown[0].bos)


def _similarity(title: str) -> Wording:
    return Wording(
        title,
        "images",
        "similarity",
        "a picture lies closer to its own name than to other names",
        "names exchanged at random",
        "cosine",
        "cosine / share",
    )


def _names_leg(
    job: Job, title: str, shown: list[Prompt], names: list[str], key: Int[Tensor, " item"], where: Provenance, name: str
) -> Leg:
    """The right name over the other names at the picture's positions, with noise and random weights as placebos."""
    found = _at_positions(job, name, shown, names)
    noise = _at_positions(job, f"{name}-noise", noise_like(shown, job.seed), names)
    effect, draw = paired_contrast(found, key, other_keys(found, key))
    placebos = {NOT_NOISE: paired_contrast(noise, key, other_keys(noise, key))}
    curves = {
        "right name": found[:, torch.arange(len(key)), key].mean(1),
        "other names": other_keys(found, key).mean(1),
        "right name, noise in place of the picture": noise[:, torch.arange(len(key)), key].mean(1),
    }
    if job.baseline:
        random = _at_positions(job.random(), name, shown, names)
        placebos[NOT_RANDOM] = paired_contrast(random, key, other_keys(random, key))
    wording = Wording(
        f"{title} at the picture's positions",
        "images",
        "readability",
        "the lens at a picture's positions prefers its name to other names",
        "names exchanged between pictures",
        "nats",
        "log-probability",
    )
    return make_leg(
        effect,
        draw,
        wording,
        provenance=where,
        seed=job.seed,
        curves=curves,
        placebos=placebos,
        labels=[names[i] for i in key.tolist()],
    )


def _at_positions(
    job: Job, name: str, shown: Sequence[Prompt], names: Sequence[str]
) -> Float[Tensor, "layer item key"]:
    """Log of the mean probability of every name over the picture's positions."""
    places = [list(prompt.spans["image"]) for prompt in shown]
    targets = [list(names) for place in places for _ in place]
    found = job.lens(name, shown, targets, read_at=places)
    parts = found.split([len(place) for place in places], dim=1)
    return torch.stack([part.logsumexp(1) - math.log(part.shape[1]) for part in parts], dim=1)


def _through_english(job: Job, sense: Sense, items: list[MediaItem], code: str, question: str) -> Leg:
    """The English name over the name in the question's language, at the last token."""
    shown = [sense.prompt(question, item.open()) for item in items]
    own, english = ([_name(item, c) for item in items] for c in (code, "en"))
    key = torch.arange(len(items))
    where = _where(job, sense, shown, own, lens=True)
    named = f"question-{code}"
    read = job.lens(named, shown, [[word, *english] for word in own])
    placebos = {}
    if job.baseline:
        random = job.random().lens(named, shown, [[word, *english] for word in own])
        placebos[NOT_RANDOM] = paired_contrast(random[..., 1:], key, random[..., 0])
    effect, draw = paired_contrast(read[..., 1:], key, read[..., 0])
    wording = Wording(
        f"{LANGUAGES[code]} question: English name over own name",
        "images",
        "readability",
        "after a question in another language the lens prefers the picture's English name to its name in that language",
        "English names exchanged between pictures",
        "nats",
        "log-probability",
    )
    curves = {
        "English name": read[:, key, key + 1].mean(1),
        "own name": read[..., 0].mean(1),
        "other English names": other_keys(read[..., 1:], key).mean(1),
    }
    return make_leg(
        effect, draw, wording, provenance=where, seed=job.seed, curves=curves, placebos=placebos, labels=own
    )
