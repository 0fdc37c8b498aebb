"""Languages: similarity of translations, English glosses in the lens, and the mass of each language."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import paired_contrast
from semhub_lens.experiments.job import FEW, Job
from semhub_lens.experiments.languages.sources import parallel, plain, running
from semhub_lens.experiments.legs_in_common import (
    LensItems,
    MeasuredStates,
    Preference,
    measure_stacks,
    pair_stacks,
    preference_legs,
    similarity_legs,
)
from semhub_lens.experiments.sampling import GlossItems, gloss_items, sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.lens.language_mass import language_mass
from semhub_lens.lens.language_tables import UNKNOWN, LanguageTable, language_table
from semhub_lens.model.checks import right_padding
from semhub_lens.model.reads import read_positions
from semhub_lens.model.resolve import as_prompts

NAMES = {"en": "English", "fr": "French", "es": "Spanish", "de": "German", "zh": "Chinese"}
OTHERS = ("fr", "es", "de", "zh")
SUFFIX = {
    "en": " This represents",
    "fr": " Cela représente",
    "es": " Esto representa",
    "de": " Das bedeutet",
    "zh": "这代表了",
}


READS = (("mean", (False, True), "mean over tokens"), ("last", (False,), "last token"))
"""How sentences are read, whether states are raw or mean-centred, and the read's name."""
SIMILARITY = LegText(
    title="",
    data_type="languages",
    kind="similarity",
    claim="equivalent inputs lie closer together than unrelated ones",
    control="partners exchanged at random",
    unit="cosine",
    curve_unit="cosine / share",
)
MASS = LegText(
    title="",
    data_type="languages",
    kind="language mass",
    claim="English tokens hold more of the lens distribution than the text's own language",
    control="another language in English's place",
    unit="probability",
    curve_unit="probability mass",
)

GLOSSES = Preference(
    data_type="languages",
    control="glosses exchanged between positions",
    over_own=("English gloss over own word", "the lens prefers the English word over the word that comes next"),
    over_wrong=("right gloss over wrong glosses", "the lens prefers the right English word over other English words"),
    own="actual next word",
    matched="its English gloss",
    wrong="other English glosses",
)


def run_similarity(job: Job) -> ExperimentResult:
    """Eq. 1 on parallel sentences: are translations closer to each other than unrelated sentences?

    There are two reads, as in the reference code. One is the mean over the sentence's tokens. The other is the last
    token after a neutral continuation, so that it is not the full stop.
    """
    texts, source = parallel(job.data)
    others = [code for code in OTHERS if code in texts]
    rows = sample(len(texts["en"]), job.n, job.seed)
    provenance = job.provenance(source, [texts, rows])
    legs: list[Leg] = []
    chosen = {code: [texts[code][i] for i in rows] for code in ("en", *others)}
    measured = _both_reads(job, chosen)
    for read, centred, name in READS[1:] if job.paper else READS:
        for code in others:
            stacks = pair_stacks(job.model, measured[read], "en", code, _as_read(chosen, read))
            text = replace(SIMILARITY, title=f"{NAMES[code]}, {name}")
            labels = _as_read(chosen, read)[code]
            legs += similarity_legs(stacks, text, provenance, job.seed, labels=labels, centred=centred)
    notes = (
        "A similarity effect at the embedding layer is shared vocabulary, not a hub: compare the later layers with it.",
        "Where raw cosines of all pairs are near 1 (anisotropy), a raw effect is small by construction and not "
        "comparable between layers. The mean-centred effect and retrieval are comparable.",
    )
    title = f"translations of {len(rows)} sentences"
    return ExperimentResult("multilingual.similarity", title, tuple(legs), notes, provenance=provenance)


def _as_read(texts: Mapping[str, Sequence[str]], read: str) -> dict[str, list[str]]:
    """Sentences as they are, or with the continuation for the read of the last token."""
    return {code: [text + (SUFFIX[code] if read == "last" else "") for text in texts[code]] for code in texts}


def _both_reads(job: Job, texts: Mapping[str, Sequence[str]]) -> dict[str, dict[str, MeasuredStates]]:
    """States per read and language: of the sentence's own tokens, and of the last token after the continuation.

    In a causal model, a sentence's states do not depend on what follows, so one pass gives both.
    """
    if job.paper:
        return measure_stacks(job, _as_read(texts, "last"))
    longer = {
        code: [
            Prompt.from_text(job.model, whole, spans={"sentence": (0, len(text))})
            for text, whole in zip(texts[code], listed, strict=True)
        ]
        for code, listed in _as_read(texts, "last").items()
    }
    if right_padding(job.model).holds and all(
        _begins_with(prompt, alone)
        for code, listed in texts.items()
        for prompt, alone in zip(longer[code], as_prompts(job.model, list(listed)), strict=True)
    ):
        both = measure_stacks(job, longer, ("sentence", "last"))
        return {"mean": both["sentence"], "last": both["last"]}
    return measure_stacks(job, texts, ("mean",)) | measure_stacks(job, _as_read(texts, "last"))


def _begins_with(prompt: Prompt, sentence: Prompt) -> bool:
    """Whether the sentence's span has the same tokens as the sentence alone."""
    own = read_positions(sentence, "mean")
    return prompt.spans["sentence"] == own and torch.equal(prompt.ids[: len(sentence)], sentence.ids)


def run_logit_lens(job: Job) -> ExperimentResult:
    """Eq. 2 on running text: is the English gloss of the next word more probable?

    Items are the places where the next word is one token with a one-token gloss. The gloss is fixed beforehand: it is
    the glossary's first. Each language has two legs. One compares the gloss with the actual next word. The other
    compares it with the other items' glosses: is it this word's English, or just any English?
    """
    legs: list[Leg] = []
    notes = ["The probability of a word is the sum over its spellings (with / without space, lower-case, capitalised)."]
    if job.paper:
        notes = ["Reference conventions: the next token and the gloss exactly as spelled, the best of all glosses."]
    texts, glossaries, source = running(job.data, OTHERS)
    missing: list[str] = []
    for code, listed in texts.items():
        try:
            items = gloss_items(job.model, listed, glossaries[code], job.n, job.seed, bos=False if job.paper else None)
        except Unfit as error:
            missing.append(f"{NAMES[code]} was not measured. {error}")
            continue
        notes.append(f"{NAMES[code]}: {items.report}")
        provenance = job.provenance(
            f"{source}, {code}", [items.words, items.glosses], lens=FEW, bos=items.prompts[0].bos
        )
        measured = [_read_glosses(on, code, items) for on in ([job, job.random()] if job.baseline else [job])]
        labels = [f"{word} = {gloss}" for word, gloss in zip(items.words, items.glosses, strict=True)]
        random = measured[1] if job.baseline else None
        preference = replace(GLOSSES, prefix=f"{NAMES[code]}: ")
        legs.extend(preference_legs(measured[0], preference, provenance, job.seed, random=random, labels=labels))
    if not legs:
        raise Unfit(" ".join(missing))
    return ExperimentResult(
        "multilingual.logit_lens",
        "English glosses in running text",
        tuple(legs),
        (*notes, *missing),
        provenance=legs[0].provenance,
    )


def _read_glosses(job: Job, code: str, items: GlossItems) -> LensItems:
    """Log-probability of the actual next word and of every item's gloss, at every item."""
    key = torch.arange(len(items.words))
    name, at = f"glosses-{code}", items.positions
    if not job.paper:
        own = [[word] for word in items.words]
        log_probs = job.compared(name, items.prompts, own, common=items.glosses, read_at=at)
        return LensItems(log_probs[..., 0], log_probs[..., 1:], key)
    listed = [token for tokens in items.alternatives for token in tokens]
    owner = torch.tensor([i for i, tokens in enumerate(items.alternatives) for _ in tokens])
    own = [[token] for token in items.next_ids]
    log_probs = job.compared(name, items.prompts, own, common=listed, read_at=at, variants="exact")
    best = torch.full((*log_probs.shape[:2], len(key)), -torch.inf, dtype=torch.float32)
    best.scatter_reduce_(2, owner.expand(*log_probs.shape[:2], -1), log_probs[..., 1:], "amax")
    return LensItems(log_probs[..., 0], best, key)


def run_language_mass(job: Job) -> ExperimentResult:
    """Mass of each language in the lens, over text of one language.

    Does English have more mass than the text's own language at any layer? The null puts another language in English's
    place.
    """
    table = language_table(job.model, unknown="uniform" if job.paper else "own", progress=job.progress)
    texts, source = plain(job.data, OTHERS)
    chosen = {code: [listed[i] for i in sample(len(listed), job.n, job.seed)] for code, listed in texts.items()}
    legs = tuple(_mass_leg(job, table, code, listed, source) for code, listed in chosen.items())
    notes = (
        f"Token table: {table.source}; {table.unknown_share:.0%} of the vocabulary belongs to no listed language.",
        "In early layers the lens reads noise, and the share of English in noise is its share of the vocabulary.",
    )
    return ExperimentResult(
        "multilingual.language_mass",
        f"{len(legs[0].labels)} texts a language",
        legs,
        notes,
        provenance=legs[0].provenance,
    )


def _mass_leg(job: Job, table: LanguageTable, code: str, texts: Sequence[str], source: str) -> Leg:
    masses = _masses(job, table, code, texts)
    names = table.languages
    english, own = names.index("en"), names.index(code)
    rivals = [english, *(i for i, name in enumerate(names) if name not in ("en", code, UNKNOWN))]
    first = torch.zeros(len(texts), dtype=torch.long)
    effect, draw = paired_contrast(masses[..., rivals], first, masses[..., own])
    controls = {"beyond the embedding layer": effect - effect[0]}
    if job.baseline:
        random = _masses(job.random(), table, code, texts)
        controls["beyond random weights"] = effect - (random[..., english] - random[..., own])
    mass = masses.mean(1)
    unknown = {"unknown": mass[:, names.index(UNKNOWN)]} if UNKNOWN in names else {}
    return make_leg(
        effect,
        draw,
        replace(MASS, title=f"{NAMES[code]} text"),
        provenance=job.provenance(f"{source}, {code}", texts, lens=job.whole),
        seed=job.seed,
        curves={
            "English": mass[:, english],
            "text's own language": mass[:, own],
            "all other languages": mass[:, rivals[1:]].sum(1),
        }
        | unknown,
        controls=controls,
        labels=texts,
    )


def _masses(job: Job, table: LanguageTable, code: str, texts: Sequence[str]) -> Float[Tensor, "layer item lang"]:
    """Mass of every language in each text, averaged over the positions read."""

    def measure(part: Sequence[str]) -> Tensor:
        return language_mass(
            job.model,
            list(part),
            table,
            positions=job.settings.positions,
            readout=job.readout,
            progress=job.progress,
        ).item_mass

    return job.measured(f"mass-{code}", texts, measure)
