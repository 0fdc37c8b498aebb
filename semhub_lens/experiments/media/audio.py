"""Sound: is it close to its name, and does the lens read its name at its positions?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.sounds import bundled_sounds
from semhub_lens.data.media.vggsound import label_words, read_vggsound
from semhub_lens.evidence.legs import ExperimentResult, Leg
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments.job import Job
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
from semhub_lens.inputs.modalities import AUDIO
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.inputs.tokens import is_single_token

SOUNDS = MediaKind(AUDIO.name, "audio", "sound", AUDIO.question)
SCENES = replace(SOUNDS, question=f"{AUDIO.placeholder} This is the sound of")
"""Your own clips are rarely spoken words."""
FEWEST_NAMES = 3
SPOKEN = (
    "The clips are English words in a synthetic voice. No spoke is trained on that voice, but spokes are trained on "
    "most of the words in other voices. An encoder made for transcription hears the word, not the thing: English "
    "names at a sound's positions are speech recognition. Names in other languages were never spoken; some are "
    "trained as names of their own clips."
)


def run_similarity(job: Job) -> ExperimentResult:
    """Are the states of a sound closer to its own label than to other labels?

    One leg compares the sound's positions with the label's tokens. Another compares the last token of the question with
    that of the sentence that contains the label. Every label has one clip.
    """
    reader = reader_of(job, AUDIO.name)
    kind, every, data = sounds(job)
    every = one_each(every)
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    shown = [reader.prompt(kind.question, item.open()) for item in items]
    names = [name_of(item) for item in items]
    provenance = media_provenance(job, kind, shown, names, data=data)
    legs = near_names(job, kind, shown, names, provenance)
    title = f"{len(items)} sounds against their names"
    return ExperimentResult("audio.similarity", title, tuple(legs), _notes(job), provenance=provenance)


def run_logit_lens(job: Job) -> ExperimentResult:
    r"""Does the lens read a sound's name at its positions, in English or in other languages?

    $$e_{\ell i} = \log \bar p_\ell(\text{label}_i) - \operatorname{mean}_j \log \bar p_\ell(\text{label}_j)$$

    with $\bar p$ the mean probability over the sound's positions, summed over the label's one-token words. The j are
    the labels that share no word with label i.

    Raises:
        SemhubError: fewer than 16 clips have a label with a one-token word, or fewer than three labels share no word.
    """
    reader = reader_of(job, AUDIO.name)
    kind, every, data = sounds(job)
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    notes = list(_notes(job))
    by_language = {code: labelled_in(job, items, code) for code in LANGUAGES if any(code in one.names for one in items)}
    for code, labelled in by_language.items():
        notes.append(
            f"{LANGUAGES[code]}: {len(labelled.items)} of {len(items)} sounds have a name with a word of one token, "
            f"{len(labelled.names)} different ones."
        )
    by_language = {code: one for code, one in by_language.items() if len(one.items) >= FEWEST_ITEMS and one.compared}
    if not by_language:
        raise Unfit(
            f"Too few names for this tokenizer: at least {FEWEST_ITEMS} sounds are needed, and for every name "
            f"{FEWEST_NAMES - 1} others that share no word with it. " + " ".join(notes[len(_notes(job)) :])
        )
    legs = _legs(job, reader, (kind, data), items, by_language)
    title = f"names of {len(items)} sounds at their positions"
    return ExperimentResult("audio.logit_lens", title, tuple(legs), tuple(notes), provenance=legs[0].provenance)


def sounds(job: Job) -> tuple[MediaKind, list[MediaItem], str | None]:
    """The clips, the question for their names, and the data's name: the bundled words, or a VGGSound folder."""
    if job.data is None:
        return SOUNDS, bundled_sounds(), None
    return SCENES, read_vggsound(job.data), f"VGGSound folder {job.data}"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Sounds whose name can be read in one language."""

    items: list[MediaItem]
    names: list[str]
    """The different names."""
    words: list[tuple[str, ...]]
    """The words read for each name: its one-token words."""
    key: Int[Tensor, " item"]
    apart: Bool[Tensor, "key other"]
    """Names that share no word."""

    @property
    def compared(self) -> bool:
        """Whether every name has others to compare with."""
        return len(self.names) >= FEWEST_NAMES and bool((self.apart.sum(1) >= FEWEST_NAMES - 1).all())


def labelled_in(job: Job, items: Sequence[MediaItem], code: str) -> Labelled:
    """The sounds whose name has a one-token word. Outside English, names spelled as in English are left out.

    An English label is read by its content words. A name in another language is read whole.
    """
    kept: list[MediaItem] = []
    single_names: dict[str, tuple[str, ...]] = {}
    for item in items:
        words = _words(item, code)
        single = tuple(word for word in words if is_single_token(job.model.tokenizer, word, "all"))
        if single:
            kept.append(item)
            single_names.setdefault(name_of(item, code).casefold(), single)
    names = list(single_names)
    whole = {name_of(item, code).casefold(): set(_words(item, code)) for item in kept}
    apart = torch.tensor([[not whole[a] & whole[b] for b in names] for a in names], dtype=torch.bool)
    key = torch.tensor([names.index(name_of(item, code).casefold()) for item in kept], dtype=torch.long)
    return Labelled(kept, names, list(single_names.values()), key, apart.reshape(len(names), len(names)))


def _words(item: MediaItem, code: str) -> tuple[str, ...]:
    if code not in item.names:
        return ()
    name = name_of(item, code)
    if code == "en":
        return label_words(name)
    return () if name.casefold() == name_of(item).casefold() else (name,)


def _legs(
    job: Job,
    reader: MediaReader,
    source: tuple[MediaKind, str | None],
    items: list[MediaItem],
    by_language: dict[str, Labelled],
) -> list[Leg]:
    """One leg for each language; the words of all languages are read in the same passes."""
    kind, data = source
    shown = [reader.prompt(kind.question, item.open()) for item in items]
    every = list(dict.fromkeys(words for labelled in by_language.values() for words in labelled.words))
    reading = read_names(job, kind, "names", shown, every)
    rows = {item.key: i for i, item in enumerate(items)}
    legs = []
    for code, labelled in by_language.items():
        own = [rows[item.key] for item in labelled.items]
        names = [*labelled.names, *map(name_of, labelled.items)]
        provenance = media_provenance(job, kind, [shown[i] for i in own], names, lens=job.whole, data=data)
        part = reading.of(own, [every.index(words) for words in labelled.words])
        title = f"{LANGUAGES[code]} names"
        legs.append(names_leg(job, kind, title, part, labelled.names, labelled.key, provenance, apart=labelled.apart))
    return legs


def _notes(job: Job) -> tuple[str, ...]:
    return (ADAPTER, SPOKEN) if job.data is None else (ADAPTER,)
