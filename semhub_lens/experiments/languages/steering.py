"""Steering text in other languages with an English direction: does "Good" minus "Bad" make Spanish more positive?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.data.text.corpora import SentimentText, read_sentiments
from semhub_lens.data.text.openings import LANGUAGE_PREFIXES, openings
from semhub_lens.data.text.texts import BUNDLED, sentences
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.sampling import sample
from semhub_lens.experiments.steering_legs import DAMAGE, SIGNS, Steered, Steering, steer, text_differences
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.interventions.sweep import Measure, adding
from semhub_lens.model.generation import Generation
from semhub_lens.model.hooking import Hooks
from semhub_lens.scores.classifier import SentimentClassifier
from semhub_lens.scores.language import language_of
from semhub_lens.scores.likelihood import continuation_perplexity
from semhub_lens.scores.relevance import SentenceEncoder, relevance
from semhub_lens.scores.steering_scores import continuations, damage, together

NAMES = {"es": "Spanish", "zh": "Chinese"}
POSITIVE = "P(positive)"
DAMAGES = ("log-perplexity", DAMAGE, "language lost", "relevance lost", "no text")
STRENGTHS = (2.0, 8.0)
NEW_TOKENS, TEMPERATURE = 16, 0.8
PAPER_STRENGTH, PAPER_NEW_TOKENS, PAPER_TEMPERATURE = 5.0, 20, 1.0
PERPLEXITY_ITEMS = 12
"""Continuations of a cell whose log-perplexity is measured: measuring one costs as much as writing it."""
NEUTRAL = 0.5
"""P(positive) of a continuation without text."""
STREAMED_ROWS = 50_000
LONGEST = {"es": 20, "zh": 30}
"""Words (characters in Chinese) of an opening cut from a user's text."""


@dataclass(frozen=True)
class Pair:
    """Two words whose difference is the direction, and two whose difference should have no effect."""

    name: str
    plus: str
    minus: str
    unrelated: tuple[str, str]
    claim: str


ENGLISH = Pair("English pair", "Good", "Bad", ("North", "South"), "an English direction moves the sentiment of {} text")
NATIVE_CLAIM = "a direction from the language's own words moves the sentiment of {} text"
NATIVE = {
    "es": Pair("native pair", "Bueno", "Malo", ("Norte", "Sur"), NATIVE_CLAIM),
    "zh": Pair("native pair", "好", "坏", ("北", "南"), NATIVE_CLAIM),
}


@dataclass(frozen=True)
class Items:
    """Openings in one language."""

    language: str
    openings: list[str]
    corpus: str

    @property
    def prompts(self) -> list[str]:
        """Openings, each after the prefix that keeps the model in the language."""
        return [LANGUAGE_PREFIXES[self.language] + opening for opening in self.openings]


ScoreTexts = Callable[[Items, Sequence[str]], Mapping[str, Float[Tensor, " item"]]]
"""`(items, continuations) -> scores`."""


class TextScores:
    """Scores of continuations from other models, which load before anything is written.

    Raises:
        SemhubError: a package of the extra `scores` is not installed.
    """

    def __init__(self) -> None:
        self.encoder = SentenceEncoder()
        self.classifier = SentimentClassifier(self.encoder)
        language_of("ready")

    def __call__(self, items: Items, texts: Sequence[str]) -> Mapping[str, Float[Tensor, " item"]]:
        """Sentiment, and the loss of language and relevance; a text without letters is in no language."""
        adherence = language_of(texts, BUNDLED)[:, BUNDLED.index(items.language)]
        return {
            POSITIVE: self.classifier(texts).nan_to_num(NEUTRAL),
            "language lost": 1 - adherence.nan_to_num(0.0),
            "relevance lost": 1 - relevance(items.openings, texts, encoder=self.encoder),
            "no text": torch.tensor([float(not text.strip()) for text in texts], dtype=torch.float32),
        }


def run_steering(job: Job) -> ExperimentResult:
    """Activation addition: an English direction and a native one, on openings in Spanish and Chinese.

    The direction is added at the first position after BOS, in the prompt's pass only. Continuations are sampled.
    """
    listed = steering_items(job)
    scores = TextScores()
    legs: list[Leg] = []
    for items in listed:
        measure = item_measure(job, items, scores)
        for pair in (ENGLISH, NATIVE[items.language]):
            legs += steer_pair(job, items, pair, measure).legs
    title = f"sentiment of continuations, {len(listed[0].openings)} openings a language"
    notes = _notes(job, scores.classifier.name)
    return ExperimentResult("multilingual.steering", title, tuple(legs), notes, provenance=legs[0].provenance)


def steering_items(job: Job) -> list[Items]:
    """Openings of every language: the bundled ones, or the first halves of the texts in `job.data`.

    Raises:
        SemhubError: there are too few items, or the corpus lacks texts in one of the languages.
    """
    if job.data is None:
        texts_of = {code: [opening.text for opening in openings(code)] for code in NAMES}
        corpus = "bundled openings"
    else:
        limit = None if user_path(job.data).exists() else STREAMED_ROWS
        texts_of = _cut(read_sentiments(job.data, limit=limit))
        corpus = job.data
        if not texts_of:
            raise SemhubError(
                f"{job.data} has fewer than {FEWEST_ITEMS} texts in each of the languages {', '.join(NAMES)} that can "
                "be cut in halves (four words, or eight characters of Chinese)."
            )
    return [
        Items(code, [texts[i] for i in sample(len(texts), job.n, job.seed)], f"{corpus}, {code}")
        for code, texts in texts_of.items()
    ]


def _cut(rows: Sequence[SentimentText]) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for code in NAMES:
        halves = [first_half(row.text, code) for row in rows if row.language == code]
        kept = list(dict.fromkeys(half for half in halves if half))
        if len(kept) >= FEWEST_ITEMS:
            texts[code] = kept
    return texts


def first_half(text: str, code: str) -> str | None:
    """The first half of a text's words (characters in Chinese), at most `LONGEST`; None where it is too short.

    Example:
        >>> from semhub_lens.experiments.languages.steering import first_half
        >>> first_half("La sopa estaba muy rica", "es"), first_half("Muy rica", "es")
        ('La sopa', None)
    """
    units, fewest, glue = (list(text), 8, "") if code == "zh" else (text.split(), 4, " ")
    if len(units) < fewest:
        return None
    return glue.join(units[: min(len(units) // 2, LONGEST[code])])


def item_measure(job: Job, items: Items, scores: ScoreTexts) -> Measure:
    """All scores of the items under hooks; all sweeps of a language share one clean run."""
    prompts = [Prompt.from_text(job.model, prompt) for prompt in items.prompts]

    def score(written: Generation) -> Mapping[str, Float[Tensor, " item"]]:
        surprise = torch.full((len(prompts),), torch.nan, dtype=torch.float32)
        count = min(PERPLEXITY_ITEMS, len(prompts))
        surprise[:count] = continuation_perplexity(
            job.model, prompts[:count], written.token_ids[:count], progress=job.progress
        )
        return {**scores(items, written.texts), "log-perplexity": surprise}

    writing = continuations(
        job.model,
        prompts,
        score,
        max_new_tokens=PAPER_NEW_TOKENS if job.paper else NEW_TOKENS,
        temperature=PAPER_TEMPERATURE if job.paper else TEMPERATURE,
        seed=job.seed,
        progress=job.progress,
    )
    texts = sentences()[items.language]
    spoilt = damage(job.model, texts, items=len(prompts), read_at="last", progress=job.progress)
    measure, clean = together(writing, spoilt), {}

    def once(hooks: Hooks) -> Mapping[str, Float[Tensor, " item"]]:
        if hooks:
            return measure(hooks)
        if not clean:
            clean.update(measure(()))
        return clean

    return once


def steer_pair(job: Job, items: Items, pair: Pair, measure: Measure) -> Steered:
    """P(positive) under the direction of one pair of words, minus that under a random direction of the same norm.

    The direction is repeated for every item, so that each item has its own random direction. A single random direction
    could change sentiment by chance. There is no control "last layer": a vector added to the last residual entry at a
    prompt's first position reaches no new token, so that run equals the clean one.
    """
    bos, language = Prompt.from_text(job.model, items.prompts[0]).bos, NAMES[items.language]
    text = LegText(
        title=f"{language}, {pair.name} ({pair.plus} - {pair.minus})",
        data_type="languages",
        kind="causality",
        claim=pair.claim.format(language),
        control=SIGNS,
        unit=POSITIVE,
        curve_unit=f"{POSITIVE} / damage",
    )
    return steer(
        job,
        Steering(
            name=f"steering-{items.language}-{pair.name}",
            directions=lambda job: repeat(
                text_differences(job, pair.name, [pair.plus], [pair.minus]),
                "layer 1 d_model -> layer item d_model",
                item=len(items.openings),
            ),
            unrelated=lambda job: text_differences(job, "unrelated", pair.unrelated[:1], pair.unrelated[1:])[:, 0],
            hooks=lambda job: adding(job.model, int(bool(bos))),
            measure=lambda job: measure,
            entries=1,
            strengths=[PAPER_STRENGTH] if job.paper else STRENGTHS,
            last_layer=False,
            damage=DAMAGES,
            texts={POSITIVE: text},
            labels=items.openings,
            provenance=job.provenance(items.corpus, items.prompts, bos=bos),
        ),
    )


def _notes(job: Job, classifier: str) -> tuple[str, ...]:
    kept = (
        f"Sentiment is judged by a {classifier}. A continuation without text counts as {NEUTRAL}.",
        "A strength is a factor of the direction's own norm. The vector is added at the first position after BOS, "
        "in the prompt's pass only. It is the difference of the two words' last tokens. Only where both words are "
        "one token does it equal the reference's difference of the aligned prompts (whose BOS part is 0).",
        "There is no control at the last layer: a vector added there at the first position reaches no new token. "
        "There is no random-weight model: its continuations are not text in any language.",
        f"Log-perplexity is of the first {PERPLEXITY_ITEMS} continuations, under the un-steered model; KL is at "
        "the last token of an unrelated sentence of the language. Each item has a random direction of its own.",
    )
    if not job.paper:
        return kept
    return (*kept, "The reference samples with top_p = .3; here all tokens are sampled, at temperature 1.")
