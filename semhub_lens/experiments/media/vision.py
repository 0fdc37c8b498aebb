"""Pictures: are they close to their names, and does the lens read the names at their positions?"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from semhub_lens.base.errors import Unfit
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.data.media.coco import coco_captions
from semhub_lens.data.media.colours import COLOURS, colour_pictures
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, other_keys, paired_contrast
from semhub_lens.experiments.job import FEW, Job
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.media.legs import (
    ADAPTER,
    LANGUAGES,
    MediaKind,
    media_provenance,
    name_of,
    names_leg,
    near_names,
    one_each,
    read_names,
    reader_of,
)
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.modalities import IMAGE
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.inputs.tokens import is_single_token

QUESTION = IMAGE.question
QUESTIONS = {
    "fr": f"{IMAGE.placeholder} C'est l'image d'un",
    "es": f"{IMAGE.placeholder} Esta es la imagen de un",
    "de": f"{IMAGE.placeholder} Das ist ein Bild von",
    "zh": f"{IMAGE.placeholder}这是一张图片，上面是",
}
PICTURES = MediaKind(IMAGE.name, "images", "picture", QUESTION)
NOT_NOISE = PICTURES.not_noise
THROUGH_ENGLISH = LegText(
    title="English name over own name",
    data_type="images",
    kind="readability",
    claim="after a question in another language the lens prefers the picture's English name to its name in that "
    "language",
    control="English names exchanged between pictures",
    unit="nats",
    curve_unit="log-probability",
)


def run_similarity(job: Job) -> ExperimentResult:
    """Are the states of a picture closer to its own name than to other names?

    One leg compares the picture's positions with the name's tokens. Another compares the last token of the question
    with that of the sentence that contains the name.
    """
    reader, items = reader_of(job, IMAGE.name), pictures_of(job)
    shown = [reader.prompt(QUESTION, item.open()) for item in items]
    names = [name_of(item) for item in items]
    provenance = _provenance(job, shown, names)
    legs = near_names(job, PICTURES, shown, names, provenance)
    title = f"{len(items)} pictures against their names"
    return ExperimentResult("vision.similarity", title, tuple(legs), (ADAPTER,), provenance=provenance)


def run_logit_lens_caption(job: Job) -> ExperimentResult:
    r"""Does the lens read a picture's name at its positions, in English or in other languages?

    $$e_{\ell i} = \log \bar p_\ell(\text{name}_i) - \frac1{n-1} \sum_{j \ne i} \log \bar p_\ell(\text{name}_j)$$

    with $\bar p$ the mean probability over the picture's positions. Further legs ask a question in French, Spanish,
    German or Chinese: is the English name more probable at the last token than the name in that language?
    """
    reader, items = reader_of(job, IMAGE.name), pictures_of(job)
    legs, notes = [], [ADAPTER]
    named = {code: _named_in(job, items, code) for code in LANGUAGES}
    for code, kept in named.items():
        count = f"{len(kept)} of {len(items)} pictures have a name of one token, each name once."
        notes.append(f"{LANGUAGES[code]}: {count}")
    named = {code: kept for code, kept in named.items() if len(kept) >= FEWEST_ITEMS}
    if named:
        legs += _caption_legs(job, reader, items, named)
    for code, question in QUESTIONS.items():
        kept = [item for item in items if _two_names(job, item, code)]
        if len(kept) >= FEWEST_ITEMS:
            legs.append(_through_english(job, reader, kept, code, question))
    if not legs:
        raise Unfit("Too few pictures have names of one token for this tokenizer; " + " ".join(notes[1:]))
    title = f"names of {len(items)} pictures at their positions"
    return ExperimentResult(
        "vision.logit_lens_caption", title, tuple(legs), tuple(notes), provenance=legs[0].provenance
    )


def _named_in(job: Job, items: list[MediaItem], code: str) -> list[MediaItem]:
    """The pictures with a one-token name in a language, each name once."""
    kept = [item for item in items if code in item.names]
    return one_each([one for one in kept if is_single_token(job.model.tokenizer, name_of(one, code), "all")], code)


def _caption_legs(
    job: Job, reader: MediaReader, items: list[MediaItem], named: dict[str, list[MediaItem]]
) -> list[Leg]:
    """One leg for each language; the names of all languages are read in the same passes."""
    shown = [reader.prompt(QUESTION, item.open()) for item in items]
    every = list(dict.fromkeys(name_of(item, code) for code, kept in named.items() for item in kept))
    reading = read_names(job, PICTURES, "caption", shown, every)
    rows = {item.key: i for i, item in enumerate(items)}
    legs = []
    for code, kept in named.items():
        names = [name_of(item, code) for item in kept]
        own = [rows[item.key] for item in kept]
        provenance = _provenance(job, [shown[i] for i in own], names, lens=job.whole)
        part = reading.of(own, [every.index(name) for name in names])
        key = torch.arange(len(kept))
        legs.append(names_leg(job, PICTURES, f"{LANGUAGES[code]} names", part, names, key, provenance))
    return legs


def run_logit_lens_color(job: Job) -> ExperimentResult:
    """Does the lens read the colour word at the positions of a picture of one colour?"""
    reader = reader_of(job, IMAGE.name)
    colours = [name for name in COLOURS if is_single_token(job.model.tokenizer, name, "all")]
    every = [item for item in colour_pictures(shades=8, seed=job.seed) if item.concept in colours]
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    shown = [reader.prompt(QUESTION, item.open()) for item in items]
    key = torch.tensor([colours.index(item.concept) for item in items])
    provenance = _provenance(job, shown, [item.concept for item in items], lens=job.whole)
    reading = read_names(job, PICTURES, "colours", shown, colours)
    leg = names_leg(job, PICTURES, "colour words", reading, colours, key, provenance)
    title = f"{len(items)} pictures of one colour each"
    return ExperimentResult("vision.logit_lens_color", title, (leg,), (ADAPTER,), provenance=provenance)


def pictures_of(job: Job) -> list[MediaItem]:
    """Bundled pictures, or those of a COCO folder, named by a noun of their captions; each noun once."""
    every = bundled_pictures()
    if job.data is not None:
        listed = coco_captions(job.data)
        order = torch.randperm(len(listed), generator=generator(job.seed)).tolist()
        every = one_each([listed[i] for i in order], "en")
    return [every[i] for i in sample(len(every), min(job.n, len(every)), job.seed)]


def _provenance(job: Job, shown: Sequence[Prompt], names: Sequence[str], *, lens: bool | str = False) -> Provenance:
    data = None if job.data is None else f"pictures of {job.data}"
    return media_provenance(job, PICTURES, shown, names, lens=lens, data=data)


def _two_names(job: Job, item: MediaItem, code: str) -> bool:
    """Whether both names exist, are one token each, and are spelled differently."""
    if code not in item.names:
        return False
    names = [name_of(item, "en"), name_of(item, code)]
    tokenizer = job.model.tokenizer
    return names[0].casefold() != names[1].casefold() and all(is_single_token(tokenizer, n, "all") for n in names)


def _through_english(job: Job, reader: MediaReader, items: list[MediaItem], code: str, question: str) -> Leg:
    """The legs of the English name over the name in the question's language, at the last token."""
    shown = [reader.prompt(question, item.open()) for item in items]
    own, english = ([name_of(item, c) for item in items] for c in (code, "en"))
    key = torch.arange(len(items))
    provenance = _provenance(job, shown, own, lens=FEW)
    named = f"question-{code}"
    targets = [[word] for word in own]
    read = job.compared(named, shown, targets, common=english)
    placebos = {}
    if job.baseline:
        on = job.random()  # of which no curve shows the height
        random = on.contrast(on.states_at(named, shown), targets, common=english)
        placebos[NOT_RANDOM] = paired_contrast(random[..., 1:], key, random[..., 0])
    effect, draw = paired_contrast(read[..., 1:], key, read[..., 0])
    text = replace(THROUGH_ENGLISH, title=f"{LANGUAGES[code]} question: {THROUGH_ENGLISH.title}")
    curves = {
        "English name": read[:, key, key + 1].mean(1),
        "own name": read[..., 0].mean(1),
        "other English names": other_keys(read[..., 1:], key).mean(1),
    }
    return make_leg(
        effect, draw, text, provenance=provenance, seed=job.seed, curves=curves, placebos=placebos, labels=own
    )
