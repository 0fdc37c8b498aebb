"""Choosing items: samples, and the positions of running text where a gloss can be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.rng import generator
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import encode, is_single_token, token_texts, word_tokens
from semhub_lens.model.facts import Model


def sample(total: int, n: int, seed: int) -> list[int]:
    """`n` of `total` indices in order, drawn without replacement; all of them if there are no more than `n`.

    Raises:
        SemhubError: there are fewer items than a verdict needs (it splits them in halves).
        Unfit: too few items fit this model.
    """
    if min(n, total) < FEWEST_ITEMS:
        refuse = SemhubError if n < FEWEST_ITEMS else Unfit
        raise refuse(
            f"An experiment needs at least {FEWEST_ITEMS} items (half choose the layer, half are reported), got n={n} "
            f"of {total}."
        )
    return sorted(torch.randperm(total, generator=generator(seed))[:n].tolist())


@dataclass(frozen=True)
class GlossItems:
    """Positions before a one-token word that has a one-token English gloss, grouped by passage."""

    prompts: list[Prompt]
    positions: list[list[int]]
    """The position to read in each prompt: the one before the word."""
    words: list[str]
    glosses: list[str]
    next_ids: list[int]
    """The word's token."""
    alternatives: list[list[int]]
    """Tokens of all one-token glosses of the word, each with a leading space."""
    report: str
    """A sentence on what was kept and dropped."""


def gloss_items(
    model: Model,
    texts: Sequence[str],
    glossary: Mapping[str, tuple[str, ...]],
    n: int,
    seed: int,
    *,
    bos: bool | None = None,
) -> GlossItems:
    """Find the positions before a one-token word with a one-token gloss.

    Each gloss is used once, and no two share a token. Words that share a token with their gloss (cognates) are dropped
    and counted. `bos=None` takes the model's default.

    Raises:
        Unfit: the tokenizer splits too many words.
    """
    prompts = [Prompt.from_text(model, text, prepend_bos=bos) for text in texts]
    by_gloss: dict[str, tuple[int, int, str]] = {}
    used: set[int] = set()  # "may" and "May" are one word: their tokens are the same
    dropped = {"several tokens": 0, "shared token": 0, "repeated gloss": 0}
    for index, prompt in enumerate(prompts):
        for position, word in _words(model, prompt):
            gloss = _glosses(glossary, word)[0]
            if not gloss:
                continue
            reason, tokens = _unfit(model, word, gloss, used)
            if reason:
                dropped[reason] += 1
            else:
                by_gloss[gloss] = (index, position, word)
                used |= tokens
    if len(by_gloss) < FEWEST_ITEMS:
        raise Unfit(
            f"Only {len(by_gloss)} positions have a one-token word with a one-token gloss, because this tokenizer "
            "splits the words. Give more text or a model with a larger vocabulary."
        )
    chosen = [list(by_gloss.items())[i] for i in sample(len(by_gloss), n, seed)]
    chosen.sort(key=lambda entry: entry[1][:2])
    positions = [[place - 1 for _, (i, place, _) in chosen if i == index] for index in range(len(prompts))]
    kept = [index for index, listed in enumerate(positions) if listed]
    report = f"{len(chosen)} of {len(by_gloss)} items; dropped: " + ", ".join(
        f"{count} {reason}" for reason, count in dropped.items()
    )
    return GlossItems(
        [prompts[i] for i in kept],
        [positions[i] for i in kept],
        [word for _, (_, _, word) in chosen],
        [gloss for gloss, _ in chosen],
        [int(prompts[i].ids[place]) for _, (i, place, _) in chosen],
        [_tokens(model, _glosses(glossary, word)) for _, (_, _, word) in chosen],
        report,
    )


def _glosses(glossary: Mapping[str, tuple[str, ...]], word: str) -> tuple[str, ...]:
    return glossary.get(word) or glossary.get(word.lower()) or ("",)


def _tokens(model: Model, glosses: Sequence[str]) -> list[int]:
    """Single tokens of the glosses, spelled with a leading space; if none is one token, the first piece."""
    encoded = [encode(model.tokenizer, " " + gloss) for gloss in glosses]
    return sorted({ids[0] for ids in encoded if len(ids) == 1}) or [encoded[0][0]]


def _words(model: Model, prompt: Prompt) -> list[tuple[int, str]]:
    """Positions whose token is a whole word, between spaces or punctuation or in a script without spaces."""
    texts = token_texts(model.tokenizer, prompt.ids.tolist())
    words = []
    for position in range(2, len(texts)):
        text = texts[position]
        word = text.strip()
        following = texts[position + 1] if position + 1 < len(texts) else " "
        spaced = text.startswith(" ") and not following[:1].isalpha()
        unspaced = word.isalpha() and all(ord(c) > 0x2E80 for c in word)
        if word.isalpha() and (spaced or unspaced):
            words.append((position, word))
    return words


def _unfit(model: Model, word: str, gloss: str, used: set[int]) -> tuple[str | None, set[int]]:
    """Why a word and its gloss cannot be an item, and the gloss's tokens."""
    if not is_single_token(model.tokenizer, gloss):
        return "several tokens", set()
    own, english = (set(word_tokens(model.tokenizer, text).ids) for text in (word, gloss))
    if english & used:
        return "repeated gloss", english
    return "shared token" if own & english else None, english
