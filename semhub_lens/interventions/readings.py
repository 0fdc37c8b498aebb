"""Reading prompts for `patchscope`: texts with a slot, whose end shows what the model reads from the slot.

There are two kinds, in each of the five bundled languages. "identity" repeats words, so that the next token repeats the
slot:

    water → water
    fire → fire
    x →

"description" describes things, so that a continuation describes the slot. The slot's word "x" is replaced by the state.
"""

from collections.abc import Sequence
from typing import Literal

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.text.texts import BUNDLED, concepts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.facts import Model

ReadingKind = Literal["identity", "description"]
SHOWN = 4
"""The number of bundled nouns that an identity prompt repeats: the first ones of the list."""
SLOT = "x"
DESCRIPTIONS = {
    "en": ("Paris: the capital of France", "Mozart: a composer from Austria", "Tuesday: a day of the week", f"{SLOT}:"),
    "fr": (
        "Paris : la capitale de la France", "Mozart : un compositeur autrichien", "mardi : un jour de la semaine",
        f"{SLOT} :",
    ),
    "es": (
        "París: la capital de Francia", "Mozart: un compositor austriaco", "martes: un día de la semana", f"{SLOT}:",
    ),
    "de": (
        "Paris: die Hauptstadt Frankreichs", "Mozart: ein Komponist aus Österreich", "Dienstag: ein Tag der Woche",
        f"{SLOT}:",
    ),
    "zh": ("巴黎：法国的首都", "莫扎特：奥地利的作曲家", "星期二：一周中的一天", f"{SLOT}："),
}  # fmt: skip


def shown_words(language: str) -> list[str]:
    """The nouns in the default identity prompt; do not use them as words to read."""
    return concepts()[language][:SHOWN]


@checked
def reading_prompt(
    model: Model, kind: ReadingKind = "identity", language: str = "en", *, words: Sequence[str] | None = None
) -> Prompt:
    """Make a reading prompt with the span "slot", which `patchscope` replaces by a state.

    Args:
        model: any TransformerLens model with a tokenizer.
        kind: "identity" makes the model repeat the slot, "description" describe it.
        language: of the prompt: "en", "fr", "es", "de" or "zh". The answer is usually in this language.
        words: the words that an identity prompt repeats; None means the first bundled nouns.

    Returns:
        The prompt.

    Raises:
        SemhubError: an unknown language, no words, words for a description.

    Example:
        >>> print(reading_prompt(tiny_model, "identity", "fr", words=["chat", "chien"]).text)
        chat → chat
        chien → chien
        x →
    """
    if language not in BUNDLED:
        raise SemhubError(f"Unknown language {language!r}; there are {', '.join(BUNDLED)}.")
    if words is not None and (kind != "identity" or not words or not all(word.strip() for word in words)):
        raise SemhubError(
            f"words= are the words that an identity prompt repeats, at least one; got {list(words)} for {kind!r}."
        )
    arrow = "→" if language == "zh" else " → "
    repeated = [f"{word}{arrow}{word}" for word in (shown_words(language) if words is None else words)]
    lines = DESCRIPTIONS[language] if kind == "description" else (*repeated, (SLOT + arrow).rstrip())
    text = "\n".join(lines)
    start = len(text) - len(lines[-1])
    return Prompt.from_text(model, text, spans={"slot": (start, start + len(SLOT))})
