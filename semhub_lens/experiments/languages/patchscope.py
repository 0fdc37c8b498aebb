"""Patchscopes across languages: does a French word's state, read in another language, give the concept in that one?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.data.text.texts import concepts
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, other_keys, paired_contrast
from semhub_lens.experiments.job import LEVELS, Job
from semhub_lens.experiments.languages.legs import NAMES
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.speller import encode
from semhub_lens.inputs.tokens import is_single_token, word_tokens
from semhub_lens.interventions import direction
from semhub_lens.interventions.patchscope import patchscope
from semhub_lens.interventions.readings import SHOWN, reading_prompt
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import n_layers

SOURCE, READERS = "fr", ("en", "zh")
FRAMES = {"fr": "Voici un mot : {}", "en": "Here is a word: {}", "zh": "这是一个词：{}"}
"""Whose last token is the word's."""
OTHERS = "beyond other words' states"
RANDOM_STATES = "beyond random states of the same norms"
EMBEDDING = "beyond the embedding layer"


@dataclass(frozen=True)
class WordItems:
    """Words for the same concepts, by language."""

    words: dict[str, list[str]]
    dropped: dict[str, int]
    """Number of concepts left out, by reason."""


@dataclass(frozen=True)
class Target:
    """The entry of the reading prompt into which a state is put."""

    name: str
    entries: tuple[int, ...] | None
    """None puts each state into its own entry."""


def run_patchscope(job: Job) -> ExperimentResult:
    r"""Read the state of a French word's last token with reading prompts in English and in Chinese.

    The state of item i at entry l replaces the state at the slot of the reading prompt. With $p_{\ell i}(w)$ the
    probability of a word at the prompt's end, and $w_j$ the reader's word for item j:

    $$e_{\ell i} = \log p_{\ell i}(w_i) - \operatorname{mean}_{j \ne i} \log p_{\ell i}(w_j)$$

    Each reader has two legs: the state goes into its own entry, or into the one at a quarter of the depth.

    Raises:
        Unfit: too few concepts whose words are one token.
    """
    items = word_items(job.model, job.n, job.seed)
    quarter = n_layers(job.model) // 4
    targets = (Target("same entry", None), Target(f"entry {quarter}", (quarter,)))
    states = {code: _states(job, items, code) for code in (SOURCE, *READERS)}
    untrained = _states(job.random(), items, SOURCE) if job.baseline else None
    legs = tuple(reader_leg(job, items, states, untrained, code, target) for code in READERS for target in targets)
    count = len(items.words[SOURCE])
    notes = (
        f"{count} concepts; dropped: " + ", ".join(f"{number} {reason}" for reason, number in items.dropped.items()),
        "A positive effect means that later blocks can turn the state into the concept's word, in a prompt that "
        "requests a word of that language. It does not mean that the model's own run does so.",
        "At the last entry nothing reads a patch before the last position, so every state gives the same result.",
        f"Words are compared by their own columns of the unembedding. The curves are of the first {LEVELS} items, read "
        "in full.",
    )
    return ExperimentResult(
        "multilingual.patchscope", f"{count} French words", legs, notes, provenance=legs[0].provenance
    )


def word_items(model: Model, n: int, seed: int) -> WordItems:
    """Concepts whose word is one token in each reader's language, and that token is not French.

    Raises:
        Unfit: too few of them.
    """
    columns = concepts()
    dropped = {"shown in the reading prompts": SHOWN, "several tokens": 0, "shared token": 0}
    kept = []
    for row in range(SHOWN, len(columns[SOURCE])):
        reason = _unfit(model, columns[SOURCE][row], [columns[code][row] for code in READERS])
        if reason:
            dropped[reason] += 1
        else:
            kept.append(row)
    if len(kept) < FEWEST_ITEMS:
        raise Unfit(
            f"Only {len(kept)} concepts have a one-token word in {' and '.join(NAMES[code] for code in READERS)}; this "
            "tokenizer splits the words."
        )
    rows = [kept[i] for i in sample(len(kept), n, seed)]
    return WordItems({code: [columns[code][row] for row in rows] for code in (SOURCE, *READERS)}, dropped)


def _unfit(model: Model, french: str, words: Sequence[str]) -> str | None:
    if not all(is_single_token(model.tokenizer, word) for word in words):
        return "several tokens"
    own = {token for text in (french, " " + french) for token in encode(model.tokenizer, text)}
    return "shared token" if any(own & {*word_tokens(model.tokenizer, word).ids} for word in words) else None


def _states(job: Job, items: WordItems, code: str) -> Float[Tensor, "layer item d_model"]:
    return job.states(f"words-{code}", [FRAMES[code].format(word) for word in items.words[code]])


def reader_leg(
    job: Job,
    items: WordItems,
    states: dict[str, Float[Tensor, "layer item d_model"]],
    untrained: Float[Tensor, "layer item d_model"] | None,
    code: str,
    target: Target,
) -> Leg:
    """The leg of one reader's language, with its controls."""
    words = items.words[code]
    read = partial(_read, words=words, code=code, target=target)
    own = read(job, "words", states[SOURCE])
    random = read(job, "random", direction.random_like(states[SOURCE], seed=job.seed))
    shown, native = (read(job, f"full-{of}", states[of][:, :LEVELS], contrast=False) for of in (SOURCE, code))
    key = torch.arange(len(words))
    few = key[: shown.shape[1]]
    effect, draw = paired_contrast(own, key, other_keys(own, key))
    placebos = {}
    if untrained is not None:
        absent = read(job.random(), "words", untrained)
        placebos[NOT_RANDOM] = paired_contrast(absent, key, other_keys(absent, key))
    text = LegText(
        title=f"{NAMES[code]} reader, into {'the ' * (target.entries is None)}{target.name}",
        data_type="languages",
        kind="patchscope",
        claim=f"the state of a French word gives its {NAMES[code]} translation rather than other {NAMES[code]} words",
        control="words exchanged between items",
        unit="nats",
        curve_unit="log-probability",
    )
    return make_leg(
        effect,
        draw,
        text,
        provenance=job.provenance("bundled nouns", [items.words, FRAMES, target.name]),
        seed=job.seed,
        curves={
            "its translation": shown[:, few, few].mean(1),
            "translations of other words": other_keys(shown, few).mean(1),
            f"its translation, read of the {NAMES[code]} word's own state": native[:, few, few].mean(1),
        },
        controls={
            EMBEDDING: effect - effect[0],
            OTHERS: effect - of_others(own),
            RANDOM_STATES: effect - (random[:, key, key] - other_keys(random, key)),
        },
        placebos=placebos,
        labels=[f"{french} = {word}" for french, word in zip(items.words[SOURCE], words, strict=True)],
    )


def of_others(matrix: Float[Tensor, "layer item word"]) -> Float[Tensor, "layer word"]:
    """Each word's score above the other words' scores, averaged over the states of all other items."""
    words = matrix.shape[2]
    above = matrix - (matrix.sum(2, keepdim=True) - matrix) / (words - 1)
    return (above.sum(1) - above.diagonal(dim1=1, dim2=2)) / (words - 1)


def _read(
    job: Job,
    name: str,
    states: Float[Tensor, "layer item d_model"],
    *,
    words: list[str],
    code: str,
    target: Target,
    contrast: bool = True,
) -> Float[Tensor, "layer item word"]:
    """Log-probabilities of the words at every state, or only their differences."""
    reading = reading_prompt(job.model, "identity", code)

    def measure(part: Sequence[int]) -> Tensor:
        return patchscope(
            job.model,
            states[:, list(part)],
            words,
            reading=reading,
            target_entries=target.entries,
            contrast=contrast,
            progress=job.progress,
        ).log_probs

    named = f"patchscope-{name}-{code}-{target.name}-{fingerprint(words)}"
    return job.measured(named, range(states.shape[1]), measure)
