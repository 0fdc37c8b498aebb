"""Items with content labels in several data types: concepts in five languages, numbers in seven notations.

A probe that is trained on one data type and tested on another shows whether content is encoded in the same way. A probe
for the data type shows whether the types can still be distinguished. Split by key as well (train on some concepts, test
on others). Otherwise cognates and shared digits alone let a probe transfer.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.numbers.number_words import LIMIT, NAMERS, number_words
from semhub_lens.data.text.texts import BUNDLED, bundled_rows

NumberLabel = Literal["value", "tens", "parity", "magnitude"]


@dataclass(frozen=True)
class ProbingItem:
    """A text with its content label and its data type."""

    text: str
    label: str
    data_type: str
    """A language code, "digits" or "sum"."""
    key: str
    """The same for all texts of one concept or number."""


@checked
def concept_items(*, cognates: bool = True) -> list[ProbingItem]:
    """112 concepts in 8 categories (the labels), each in en, fr, es, de and zh; the key is the English word.

    Args:
        cognates: False leaves out words with the same spelling in two languages, such as "tractor", in all languages.

    Example:
        >>> from semhub_lens.data.numbers.probing import concept_items
        >>> [item.text for item in concept_items()[:5]]
        ['dog', 'chien', 'perro', 'Hund', '狗']
    """
    rows = bundled_rows("concepts.tsv")
    items = [ProbingItem(row[code], row["category"], code, row["en"]) for row in rows for code in BUNDLED]
    spellings = Counter(item.text.casefold() for item in items)
    return [item for item in items if cognates or spellings[item.text.casefold()] == 1]


@checked
def number_items(
    numbers: Sequence[int] = range(LIMIT), *, label: NumberLabel = "tens", seed: int = 0
) -> list[ProbingItem]:
    """Every number in digits, as a word in en, fr, es, de and zh, and as a sum such as "3+4".

    Args:
        numbers: different numbers from 0 to 99; the key is the number in digits.
        label: "value"; "tens" (the number of tens, 0 to 9); "parity" (even, odd); "magnitude" (below 10, 50, 100).
        seed: of the sums. The first term is drawn evenly from 1 to number - 1 (0 and 1 have a term 0), so that the
            digits of the sum are rarely those of the number.

    Raises:
        SemhubError: no numbers, the same one twice, or one outside 0 to 99.

    Example:
        >>> {item.label for item in number_items([7], label="parity")}  # digits, words and a sum
        {'odd'}
    """
    listed = list(numbers)
    if not listed or len(set(listed)) < len(listed) or not all(0 <= number < LIMIT for number in listed):
        raise SemhubError(f"Expected different numbers from 0 to {LIMIT - 1}, got {listed}.")
    rng, items = random.Random(seed), []
    for number in listed:
        first = rng.randint(1, number - 1) if number > 1 else 0
        texts = {"digits": str(number)} | {code: number_words(code, number) for code in NAMERS}
        texts["sum"] = f"{first}+{number - first}"
        items += [ProbingItem(text, _label(number, label), kind, str(number)) for kind, text in texts.items()]
    return items


def _label(number: int, label: NumberLabel) -> str:
    if label == "value":
        return str(number)
    if label == "tens":
        return str(number // 10)
    if label == "parity":
        return "odd" if number % 2 else "even"
    return next(f"below {bound}" for bound in (10, 50, LIMIT) if number < bound)
