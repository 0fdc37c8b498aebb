"""Words to token ids, and token ids to text that a person can read.

A word's probability is the sum over its declared token variants; a word that no single token spells is refused unless
the first-token rule is asked for. Printable tokens are made id by id: a byte fragment is shown as its bytes and never
joined with or mistaken for another id.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit

Variants = Literal["all", "space", "exact"]
Target = str | int | Sequence[str | int]
"""A word (its variants are summed), a token id, or several of them (all summed)."""

VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class WordTokens:
    """Single tokens that spell a word, and what was left out."""

    word: str
    ids: tuple[int, ...]
    variants: tuple[str, ...]
    """The spelling behind each id."""
    split: tuple[str, ...]
    """Spellings of several tokens; under the first-token rule `ids` holds their first token, unless that is blank or
    unknown."""


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def spellings(word: str, variants: Variants = "all") -> list[str]:
    """The variants of a word: with and without a leading space ("space"), also lower-case and capitalised ("all").

    Example:
        >>> spellings("two")
        ['two', ' two', 'Two', ' Two']
    """
    if variants not in ("all", "space", "exact"):
        raise SemhubError(f"Unknown variants rule {variants!r}; expected 'all', 'space' or 'exact'.")
    if variants == "exact":
        return [word]
    bare = word.strip()
    cases = [bare] if variants == "space" else [bare, bare.lower(), bare[:1].upper() + bare[1:]]
    return list(dict.fromkeys(text for case in cases for text in (case, " " + case)))


def word_tokens(tokenizer: Any, word: str, *, variants: Variants = "all", first_token: bool = False) -> WordTokens:
    """Return the token ids that stand for a word.

    Args:
        tokenizer: the model's tokenizer.
        word: one word, with or without its leading space.
        variants: "all" sums the spellings with / without leading space, as given, lower-case and capitalised; "space"
            leaves out the cases; "exact" takes the string as it is.
        first_token: let a spelling of several tokens stand for itself by its first token. The number then measures that
            token, which other words share.

    Raises:
        SemhubError: empty word; no spelling is a single token (its pieces are listed).

    Example:
        >>> word_tokens(tiny_model.tokenizer, "two").variants
        ('two', ' two')
    """
    if tokenizer is None:
        raise Unfit(f"The model has no tokenizer, so {word!r} cannot be looked up; give token ids as targets.")
    if (not word.strip() and variants != "exact") or not word:
        raise SemhubError(f"A target word must not be empty, got {word!r}.")
    spelled: dict[int, str] = {}
    split = []
    unknown = getattr(tokenizer, "unk_token_id", None)
    for text in spellings(word, variants):
        ids = encode(tokenizer, text)
        if len(ids) > 1:
            split.append(text)
        blank = len(ids) > 1 and (Speller(tokenizer).content(ids[0]) or b"").strip() == b""
        if ids and ids[0] != unknown and (len(ids) == 1 or (first_token and not blank)):
            spelled.setdefault(ids[0], text)
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
    """Return the id of the one token that spells `text` exactly (a leading space counts).

    Raises:
        SemhubError: `text` is several tokens.
    """
    ids = word_tokens(tokenizer, text, variants="exact").ids
    return ids[0]


def target_ids(
    tokenizer: Any, target: Target, *, variants: Variants = "all", first_token: bool = False
) -> tuple[int, ...]:
    """Token ids of a target: a word, a token id, or a set of them, whose probabilities are summed."""
    if isinstance(target, bool) or not isinstance(target, str | int | Sequence):
        raise SemhubError(f"A target must be a word, a token id or several of them, got {target!r}.")
    if isinstance(target, int):
        return (target,)
    if isinstance(target, str):
        return word_tokens(tokenizer, target, variants=variants, first_token=first_token).ids
    if not target:
        raise SemhubError("A target set is empty; give at least one word or token id.")
    ids = (i for one in target for i in target_ids(tokenizer, one, variants=variants, first_token=first_token))
    return tuple(dict.fromkeys(ids))


def collisions(words: Sequence[WordTokens]) -> dict[int, tuple[str, ...]]:
    """Token ids that stand for more than one of the words.

    Comparing these words there would compare a token with itself.

    Example:
        >>> collisions([WordTokens("a", (1, 2), ("a", " a"), ()), WordTokens("A", (2,), ("A",), ())])
        {2: ('a', 'A')}
    """
    owners: dict[int, list[str]] = {}
    for entry in words:
        for token in entry.ids:
            owners.setdefault(token, []).append(entry.word)
    return {token: tuple(names) for token, names in owners.items() if len(names) > 1}


class Speller:
    """Reads the bytes of token ids; made once for many ids, because asking a tokenizer for its kind is slow."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._size = len(tokenizer)
        self._special = set(tokenizer.all_special_ids)
        decoder = repr(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", ""))
        self._alphabet = _byte_level() if "ByteLevel" in decoder else None
        self._metaspace = "▁" in decoder or "Metaspace" in decoder

    def raw(self, token: int) -> str | None:
        """The token as the vocabulary spells it; None for an id without a token."""
        return self._tokenizer.convert_ids_to_tokens(token) if 0 <= token < self._size else None

    def content(self, token: int) -> bytes | None:
        """The bytes that the token adds to a text; None for a special or unassigned id."""
        raw = self.raw(token)
        if raw is None or token in self._special:
            return None
        if len(raw) == 6 and raw.startswith("<0x") and raw.endswith(">"):
            return bytes.fromhex(raw[3:5])
        if self._alphabet is not None and all(c in self._alphabet for c in raw):
            return bytes(self._alphabet[c] for c in raw)
        return (raw.replace("▁", " ") if self._metaspace else raw).encode()

    def text(self, token: int) -> str:
        """Text of the token; "" for special ids and for byte fragments that are no whole character."""
        try:
            return (self.content(token) or b"").decode()
        except UnicodeDecodeError:
            return ""

    def show(self, token: int) -> str:
        """The token as a person can read it; see `printable`."""
        content, raw = self.content(token), self.raw(token)
        if content is None or raw is None:
            return raw or f"<id {token}>"
        if raw == f"<0x{content.hex().upper()}>":
            return raw
        text = content.decode(errors="surrogateescape")
        shown = "".join(_show_character(c) for c in text)
        return "◌" + shown if text and unicodedata.combining(text[0]) else shown


def _byte_level() -> dict[str, int]:
    """The byte behind each character of a byte-level BPE vocabulary (GPT-2's printable stand-ins)."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {char: byte for byte, char in bytes_to_unicode().items()}


def token_texts(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """Text of each token; "" for special ids and for byte fragments that are no whole character."""
    speller = Speller(tokenizer)
    return [speller.text(int(i)) for i in ids]


def printable(tokenizer: Any, ids: Iterable[int] | Tensor) -> list[str]:
    """Show each token id as text.

    Leading spaces and line ends are visible, byte fragments read `<0xE4>`, special tokens have their names. Without a
    tokenizer the ids themselves are shown.

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


def _show_character(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # an escaped byte
        return f"<0x{ord(char) - 0xDC00:02X}>"
    if char in VISIBLE:
        return VISIBLE[char]
    return (
        f"U+{ord(char):04X}"
        if char in VISIBLE.values() or unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs")
        else char
    )
