"""Few-shot translation prompts over bundled concepts: the items of `concept_patch`.

A prompt shows some words with their translations and leaves the last translation open, so that the next token is a word
in the output language:

    Français: livre - English: book
    Français: eau - English:

The words have no quotation marks, because after a mark the next token has no leading space, and few words are one token
without it. Chinese follows its colon directly. The word to translate is the span "word". The example words are random,
and never include the concepts of the item itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.rng import generator
from semhub_lens.data.text.texts import concepts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import is_single_token
from semhub_lens.interventions.concepts import FOUR_WAY
from semhub_lens.model.facts import Model, require_model

LANGUAGE_NAMES = {"en": "English", "fr": "Français", "es": "Español", "de": "Deutsch", "zh": "中文"}
Pair = tuple[str, str]
"""The language of the word and the language of its translation."""


@dataclass(frozen=True, kw_only=True)
class TranslationItems:
    """Items for `concept_patch`: `concept_patch(model, items.sources, items.targets, items.words, ...)`."""

    sources: tuple[tuple[Prompt, ...], ...]
    """For each item, prompts that ask for the source concept, one for each pair of source languages."""
    targets: tuple[Prompt, ...]
    words: tuple[tuple[str, ...], ...]
    names: tuple[str, ...]
    concepts: tuple[Pair, ...]
    """The English names of the source and the target concept."""
    dropped: int
    """Bundled concepts that were left out because one of the words has no one-token spelling."""


@checked
def translation_prompt(model: Model, word: str, pair: Pair, examples: Sequence[tuple[str, str]]) -> Prompt:
    """Make a few-shot prompt for the translation of a word; the word is the span "word".

    Args:
        model: any TransformerLens model with a tokenizer.
        word: the word to translate.
        pair: its language and the language of the translation, as codes.
        examples: words with their translations.

    Returns:
        The prompt.

    Raises:
        SemhubError: an unknown language code.

    Example:
        >>> from semhub_lens.interventions.concept_items import translation_prompt
        >>> print(translation_prompt(tiny_model, "chat", ("fr", "en"), [("chien", "dog")]).text)
        Français: chien - English: dog
        Français: chat - English:
    """
    _require_languages(pair)
    if not word.strip():
        raise SemhubError(f"The word to translate is empty ({word!r}); give a word.")
    left, right = (f"{LANGUAGE_NAMES[code]}:" for code in pair)
    before, after = ("" if code == "zh" else " " for code in pair)
    shown = "".join(f"{left}{before}{a} - {right}{after}{b}\n" for a, b in examples)
    start = len(shown) + len(left) + len(before)
    text = f"{shown}{left}{before}{word} - {right}"
    return Prompt.from_text(model, text, spans={"word": (start, start + len(word))})


def _require_languages(pair: Pair) -> None:
    for code in pair:
        if code not in LANGUAGE_NAMES:
            raise SemhubError(f"Unknown language {code!r}; there are {', '.join(LANGUAGE_NAMES)}.")


@checked
def translation_items(
    model: Model, sources: Sequence[Pair], target: Pair, *, n: int, seed: int, shots: int = 4
) -> TranslationItems:
    """Draw items for `concept_patch`: a source concept in each pair of `sources`, a target concept in `target`.

    The source language of the words that are read is the output language of the first pair. No concept is both a source
    and a target. Concepts with a word of several tokens are dropped and counted. `concept_patch` drops items whose
    words share a token.

    Args:
        model: any TransformerLens model with a tokenizer.
        sources: language pairs of the source prompts; `concept_patch` averages over several.
        target: language pair of the target prompt.
        n: the number of items; every concept is in at most one.
        seed: for the choice of concepts and examples.
        shots: the number of examples in a prompt.

    Returns:
        Prompts, words and names; pass them to `concept_patch`.

    Raises:
        SemhubError: the two output languages are the same, or too few concepts are left.

    Example:
        >>> items = translation_items(model, [("fr", "zh")], ("de", "es"), n=8, seed=0)  # doctest: +SKIP
        >>> shl.concept_patch(
        ...     model, items.sources, items.targets, items.words, names=items.names, seed=0
        ... )  # doctest: +SKIP
    """
    require_model(model)
    if not sources or shots < 0:
        raise SemhubError(f"Expected at least one pair of languages and shots >= 0, got {list(sources)} and {shots}.")
    for pair in (*sources, target):
        _require_languages(pair)
    rng = generator(seed)
    columns, outputs = concepts(), (sources[0][1], target[1])
    if outputs[0] == outputs[1]:
        raise SemhubError(
            f"Source and target prompts both ask for {outputs[0]!r}; they must ask for two different languages."
        )
    total = len(columns["en"])
    single = [
        i for i in range(total) if all(is_single_token(model.tokenizer, columns[code][i], "space") for code in outputs)
    ]
    if not 2 <= n <= len(single) // 2:
        raise SemhubError(
            f"Expected 2 to {len(single) // 2} items ({len(single)} concepts have one token in {outputs}), got n={n}."
        )
    order = [single[i] for i in torch.randperm(len(single), generator=rng)[: 2 * n].tolist()]
    pairs = list(zip(order[:n], order[n:], strict=True))

    def prompt(concept: int, avoid: tuple[int, int], pair: Pair) -> Prompt:
        others = [i for i in torch.randperm(total, generator=rng).tolist() if i not in avoid][:shots]
        examples = [(columns[pair[0]][i], columns[pair[1]][i]) for i in others]
        return translation_prompt(model, columns[pair[0]][concept], pair, examples)

    return TranslationItems(
        sources=tuple(tuple(prompt(pair[0], pair, languages) for languages in sources) for pair in pairs),
        targets=tuple(prompt(pair[1], pair, target) for pair in pairs),
        words=tuple(tuple(columns[code][concept] for concept in pair for code in outputs) for pair in pairs),
        names=tuple(f"{name} ({code})" for name, code in zip(FOUR_WAY, outputs * 2, strict=True)),
        concepts=tuple((columns["en"][a], columns["en"][b]) for a, b in pairs),
        dropped=total - len(single),
    )
