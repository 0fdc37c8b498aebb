"""Words to token ids, and token ids to text that a person can read.

A word's probability is the sum over its one-token variants. A word without one is refused, unless the first-token rule
is requested. Printable tokens are made id by id: a byte fragment is shown as its bytes, and is never joined with
another id.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit, is_index, whole_number
from semhub_lens.inputs.speller import Speller, encode

Variants = Literal["all", "space", "exact"]
Target = str | int | Sequence[str | int]
"""A word (its variants are summed), a token id, or several of them (all summed)."""


@dataclass(frozen=True)
class WordTokens:
    """The single tokens that spell a word, and the spellings that were left out."""

    word: str
    ids: tuple[int, ...]
    variants: tuple[str, ...]
    """The spelling of each id."""
    split: tuple[str, ...]
    """Spellings of several tokens; with the first-token rule, `ids` includes their first token, unless it is blank or
    unknown.
    """


def encode_behind(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that continues another text.

    SentencePiece tokenizers put a blank before every text. Here it is left out, so that the tokens spell exactly the
    text.
    """
    own, wanted, speller = encode(tokenizer, text), text.encode(), Speller(tokenizer)
    if speller.spelled(own) != b" " + wanted:
        return own
    for anchor in ("\n", "=", "1"):
        head, whole = encode(tokenizer, anchor), encode(tokenizer, anchor + text)
        if whole[: len(head)] == head and speller.spelled(whole[len(head) :]) == wanted:
            return whole[len(head) :]
    alone = speller.token_of(text)
    return own if alone is None else [alone]


def decode_behind(tokenizer: Any, before: Sequence[int], ids: Sequence[int], *, special: bool = False) -> str:
    """The text that ids add after other ids: its first blank stays, and an id without a token is shown as "<id 123>".

    Args:
        tokenizer: the model's; without one, the text is empty.
        before: the ids before.
        ids: the ids to read.
        special: whether special tokens are shown by name; otherwise they are left out.
    """
    if tokenizer is None:
        return ""
    seen, parts, speller = list(before), [], Speller(tokenizer)
    for known, run in groupby(ids, key=lambda token: speller.raw(token) is not None):
        new = list(run)
        if not known:
            parts += [speller.show(token) for token in new]
            continue
        head, whole, alone = (
            tokenizer.decode(listed, skip_special_tokens=not special) for listed in (seen, seen + new, new)
        )
        parts.append(whole[len(head) :] if whole.startswith(head) else alone)
        seen += new
    return "".join(parts)


def spellings(word: str, variants: Variants = "all") -> list[str]:
    """The variants of a word: with and without a leading space ("space"), also lower-case and capitalised ("all").

    Accents written as separate characters are also tried combined with their letters.

    Example:
        >>> spellings("two")
        ['two', ' two', 'Two', ' Two']
    """
    if variants not in ("all", "space", "exact"):
        raise SemhubError(f"Unknown variants rule {variants!r}; expected 'all', 'space' or 'exact'.")
    if variants == "exact":
        return [word]
    forms = dict.fromkeys((word.strip(), unicodedata.normalize("NFC", word.strip())))  # "é" of one character or of two
    cases = [
        case
        for bare in forms
        for case in ([bare] if variants == "space" else [bare, _lowered(bare), _capitalised(bare)])
    ]
    return list(dict.fromkeys(text for case in cases for text in (case, " " + case)))


def _lowered(word: str) -> str:
    """In lower case; Python makes of "İ" an "i" with a dot of its own, which no text has."""
    return word.lower().replace("i\u0307", "i") if "İ" in word else word.lower()


def _capitalised(word: str) -> str:
    """With its first letter in title case, where that is one letter ("ß" has none)."""
    first = word[:1].title()
    return (first if len(first) == 1 else word[:1]) + word[1:]


@checked
def word_tokens(tokenizer: Any, word: str, *, variants: Variants = "all", first_token: bool = False) -> WordTokens:
    r"""Return the token ids of a word: its spellings that are one token.

    $p(w) = \sum_{t \in w} p(t)$ over these ids is the word's probability.

    Args:
        tokenizer: the model's tokenizer.
        word: one word, with or without its leading space.
        variants: "all" uses the spellings with and without leading space, as given, lower-case and capitalised. "space"
            leaves out the changes of case. "exact" uses only the string as given. The cases follow no language: "May"
            and "may" are one word, and a Turkish "I" becomes "i". If the tokenizer puts a blank before every text, the
            token without it counts too.
        first_token: represent a spelling of several tokens by its first token. The number then measures that token,
            which other words may share.

    Returns:
        The ids, and the spelling of each: `.ids` and `.variants`.

    Raises:
        SemhubError: empty word; no spelling is a single token (its pieces are listed).

    Example:
        >>> word_tokens(tiny_model.tokenizer, "two").variants
        ('two', ' two')
    """
    if tokenizer is None:
        raise Unfit(f"The model has no tokenizer, so {word!r} cannot be looked up; pass token ids as targets.")
    if (not word.strip() and variants != "exact") or not word:
        raise SemhubError(f"A target word must not be empty, got {word!r}.")
    spelled: dict[int, str] = {}
    split = []
    unknown, speller = getattr(tokenizer, "unk_token_id", None), Speller(tokenizer)
    for text in spellings(word, variants):
        ids = encode(tokenizer, text)
        first = speller.content(ids[0]) if ids else None
        marked = first is not None and first.startswith(b" ") and not text.startswith(" ")
        bare = speller.token_of(text) if marked else None  # what the model predicts where no blank comes before
        if bare is not None:
            spelled.setdefault(bare, text)
            if variants == "exact":
                continue
        elif len(ids) > 1:
            split.append(text)
        blank = len(ids) > 1 and (first or b"").strip() == b""
        if ids and ids[0] != unknown and (len(ids) == 1 or (first_token and not blank)):
            spelled.setdefault(ids[0], f" {text}" if marked else text)
    if not spelled:
        pieces = "; ".join(
            f"{text!r} = {printable(tokenizer, encode(tokenizer, text))}" for text in spellings(word, variants)
        )
        raise Unfit(
            f"{word!r} is not a single token in any spelling: {pieces}. Choose another word, or pass first_token=True "
            "to measure the first piece."
        )
    return WordTokens(word, tuple(spelled), tuple(spelled.values()), tuple(split))


def is_single_token(tokenizer: Any, word: str, variants: Variants = "all") -> bool:
    """Whether some spelling of the word is exactly one token."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    encoded = (encode(tokenizer, text) for text in spellings(word, variants))
    return any(len(ids) == 1 and ids[0] != unknown for ids in encoded)


def token_id(tokenizer: Any, text: str) -> int:
    """Return the id of the single token that spells `text` exactly (a leading space counts).

    Raises:
        SemhubError: `text` is several tokens.
    """
    ids = word_tokens(tokenizer, text, variants="exact").ids
    return ids[0]


def target_ids(
    tokenizer: Any, target: Any, *, variants: Variants = "all", first_token: bool = False
) -> tuple[int, ...]:
    """Token ids of a target: a word, a token id, or several of them, whose probabilities are summed."""
    if isinstance(target, np.ndarray | Tensor):
        target = target.tolist()
    if is_index(target):
        return (whole_number(target, "A token id"),)
    if not isinstance(target, str | Sequence):
        raise SemhubError(f"A target must be a word, a token id or several of them, got {target!r}.")
    if isinstance(target, str):
        return word_tokens(tokenizer, target, variants=variants, first_token=first_token).ids
    if not target:
        raise SemhubError("A target set is empty; give at least one word or token id.")
    ids = (i for one in target for i in target_ids(tokenizer, one, variants=variants, first_token=first_token))
    return tuple(dict.fromkeys(ids))


def collisions(words: Sequence[WordTokens]) -> dict[int, tuple[str, ...]]:
    """Token ids that belong to more than one of the words.

    A comparison of these words would compare a token with itself.

    Example:
        >>> collisions([WordTokens("a", (1, 2), ("a", " a"), ()), WordTokens("A", (2,), ("A",), ())])
        {2: ('a', 'A')}
    """
    owners: dict[int, list[str]] = {}
    for entry in words:
        for token in entry.ids:
            owners.setdefault(token, []).append(entry.word)
    return {token: tuple(names) for token, names in owners.items() if len(names) > 1}


def token_texts(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """Text of each token; "" for special ids and for byte fragments of a character."""
    speller = Speller(tokenizer)
    return [speller.text(int(i)) for i in ids]


@checked
def printable(tokenizer: Any, ids: Iterable[int] | Tensor) -> list[str]:
    """Show each token id as text.

    Leading spaces and line ends are visible, byte fragments look like `<0xE4>`, and special tokens are shown by name.
    Without a tokenizer, the ids are shown.

    Args:
        tokenizer: the model's tokenizer, or None.
        ids: token ids `[pos]`.

    Returns:
        One text for each id.

    Raises:
        SemhubError: ids that are not whole numbers.

    Example:
        >>> printable(tiny_model.tokenizer, tiny_model.tokenizer("three plus")["input_ids"])
        ['three', '␣plus']
    """
    listed = [int(i) for i in ids]
    if tokenizer is None:
        return [str(i) for i in listed]
    speller = Speller(tokenizer)
    shown = {i: speller.show(i) for i in set(listed)}
    return [shown[i] for i in listed]
