"""Languages: similarity of translations, English glosses in the lens, and the mass of each language."""

from dataclasses import replace

import torch

from semhub_lens.activations import residual_stream
from semhub_lens.data import data_hash
from semhub_lens.data.texts import glossary, passages, sentences
from semhub_lens.experiments.items import gloss_items, sample
from semhub_lens.experiments.shared import Wording, preference_legs, similarity_leg
from semhub_lens.language_mass import language_mass
from semhub_lens.languages import UNKNOWN, language_table
from semhub_lens.legs import ExperimentResult, Leg, make_leg
from semhub_lens.logit_lens import target_lens
from semhub_lens.models import Model, provenance
from semhub_lens.stats import paired_contrast

NAMES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "zh": "Chinese"}
OTHERS = ("fr", "es", "de", "zh")
SUFFIX = {
    "en": " This represents",
    "fr": " Cela représente",
    "es": " Esto representa",
    "de": " Das bedeutet",
    "zh": "这代表了",
}


READS = (("mean", True, "mean over tokens"), ("last", False, "last token"))
"""How sentences are read, whether the mean-centred leg is reported as well, and the read's name."""


GLOSSES = Wording(
    data_type="languages",
    control="glosses exchanged between positions",
    over_own=("English gloss over own word", "the lens prefers the English word over the word that comes next"),
    over_wrong=("right gloss over wrong glosses", "the lens prefers the right English word over other English words"),
    own="actual next word",
    matched="its English gloss",
    wrong="other English glosses",
)


def run_similarity(model: Model, n: int, seed: int, progress: bool = True) -> ExperimentResult:
    """Eq. 1 on parallel sentences: are translations nearer to each other than unrelated sentences?

    Two reads: the mean over the sentence's tokens, and the last token after a neutral continuation (so that it is not
    the full stop), as in the reference code.
    """
    texts = sentences()
    rows = sample(len(texts["en"]), n, seed)
    legs: list[Leg] = []
    for read, centred, name in READS:
        states = {}
        for code in ("en", *OTHERS):
            chosen = [texts[code][i] + (SUFFIX[code] if read == "last" else "") for i in rows]
            states[code] = residual_stream(model, chosen, read=read, progress=progress)
        where = provenance(model, data="bundled sentences", data_hash=data_hash([texts, rows]), seed=seed)
        for subtract, suffix in ((False, ""), (True, ", mean-centred"))[: 1 + centred]:
            for code in OTHERS:
                title = f"{NAMES[code]}, {name}{suffix}"
                legs.append(similarity_leg(states["en"], states[code], title, "languages", where, seed, subtract))
    notes = (
        "A similarity effect at the embedding layer is shared vocabulary, not a hub: compare the layers with it.",
        "Where raw cosines of all pairs are near 1 (anisotropy), a raw effect is small by construction and not "
        "comparable between layers; the mean-centred effect and retrieval are.",
    )
    title = f"translations of {len(rows)} sentences"
    return ExperimentResult("multilingual.similarity", title, tuple(legs), notes, provenance=legs[0].provenance)


def run_logit_lens(model: Model, n: int, seed: int, progress: bool = True) -> ExperimentResult:
    """Eq. 2 on running text: is the English gloss of the next word more probable?

    Items are the places where the next word is one token with a one-token gloss. The gloss is fixed before looking
    (the glossary's first). Two legs a language: the gloss against the actual next word, and against the other items'
    glosses (is it this word's English, or just English?).
    """
    legs: list[Leg] = []
    notes = ["The probability of a word is the sum over its spellings (with / without space, lower-case, capitalised)."]
    for code in OTHERS:
        items = gloss_items(model, passages()[code], glossary(code), n, seed)
        notes.append(f"{NAMES[code]}: {items.report}")
        targets = [[items.words[i], *items.glosses] for i in range(len(items.words))]
        found = target_lens(model, items.prompts, targets, read_at=items.positions, progress=progress).log_probs
        own, glosses = found[..., 0], found[..., 1:]
        key = torch.arange(len(items.words))
        where = provenance(
            model,
            norm="final",
            data=f"bundled passages, {code}",
            data_hash=data_hash([items.words, items.glosses]),
            seed=seed,
        )
        wording = replace(GLOSSES, prefix=f"{NAMES[code]}: ")
        legs.extend(preference_legs(own, glosses, key, wording, where, seed))
    return ExperimentResult(
        "multilingual.logit_lens",
        "English glosses in running text",
        tuple(legs),
        tuple(notes),
        provenance=legs[0].provenance,
    )


def run_language_mass(model: Model, n: int, seed: int, progress: bool = True) -> ExperimentResult:
    """Mass of each language in the lens over text of one language.

    Does English outweigh the text's own language anywhere? The null puts another language in English's place.
    """
    table = language_table(model, progress=progress)
    texts = sentences()
    rows = sample(len(texts["en"]), n, seed)
    names = table.languages
    legs: list[Leg] = []
    for code in OTHERS:
        found = language_mass(model, [texts[code][i] for i in rows], table, progress=progress)
        where = provenance(
            model, norm="final", data=f"bundled sentences, {code}", data_hash=data_hash([texts[code], rows]), seed=seed
        )
        english, own = names.index("en"), names.index(code)
        rivals = [english, *(i for i, name in enumerate(names) if name not in ("en", code, UNKNOWN))]
        effect, draw = paired_contrast(
            found.item_mass[..., rivals], torch.zeros(len(rows), dtype=torch.long), found.item_mass[..., own]
        )
        mass = found.mass
        legs.append(
            make_leg(
                effect,
                draw,
                title=f"{NAMES[code]} text",
                data_type="languages",
                kind="language mass",
                unit="probability",
                claim="English tokens hold more of the lens distribution than the text's own language",
                control="another language in English's place",
                curves={
                    "English": mass[:, english],
                    "text's own language": mass[:, own],
                    "all other languages": mass[:, rivals[1:]].sum(1),
                    "unknown": mass[:, names.index(UNKNOWN)],
                },
                curve_unit="probability mass",
                provenance=where,
                seed=seed,
            )
        )
    notes = (
        f"Token table: {table.source}; {table.unknown_share:.0%} of the vocabulary belongs to no listed language.",
        "In early layers the lens reads noise, and noise falls on English as often as English fills the vocabulary.",
    )
    return ExperimentResult(
        "multilingual.language_mass",
        f"{len(rows)} sentences a language",
        tuple(legs),
        notes,
        provenance=legs[0].provenance,
    )
