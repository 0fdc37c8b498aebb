"""Texts to token ids, and the bytes of each token id, in any kind of vocabulary."""

import unicodedata
from collections.abc import Iterable
from typing import Any

from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError

VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
UNSEEN = frozenset(
    chr(code)
    for codes in (
        (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),  # joiners, fillers, an empty braille cell
        range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0),  # which variant of a character is meant
    )
    for code in codes
)  # fmt: skip
"""Letters, marks and symbols by their category that draw nothing."""


def require_characters(text: str) -> None:
    """Raise a SemhubError for half of a character (a lone surrogate), which no tokenizer accepts."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SemhubError(
            f"The text {text!r} has a lone surrogate, U+{ord(text[error.start]):04X} at character {error.start}: half "
            "of a character, as in broken JSON. Repair the text: text.encode('utf-16', "
            "'surrogatepass').decode('utf-16', 'replace')."
        ) from error


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text, without special tokens."""
    require_characters(text)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


class Speller:
    """Reads the bytes of token ids; make it once for many ids, because finding the tokenizer's kind is slow.

    Raises:
        SemhubError: no tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not hasattr(tokenizer, "convert_ids_to_tokens"):
            raise SemhubError(f"Expected a model's tokenizer (model.tokenizer), got {shown(tokenizer)}.")
        self._tokenizer = tokenizer
        self._size = len(tokenizer)
        self._special = set(tokenizer.all_special_ids)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        decoder = repr(getattr(backend, "decoder", ""))
        self._alphabet = _byte_level() if "ByteLevel" in decoder else None
        if backend is None:
            self._alphabet = _bytes_by_number(tokenizer)
        self._added = set(getattr(tokenizer, "added_tokens_decoder", ())) if self._alphabet else set()
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
        if self._alphabet is not None and token not in self._added and all(c in self._alphabet for c in raw):
            return bytes(self._alphabet[c] for c in raw)
        return (raw.replace("▁", " ") if self._metaspace else raw).encode()

    def spelled(self, tokens: Iterable[int]) -> bytes:
        """The bytes that tokens add to a text, in order."""
        return b"".join(self.content(token) or b"" for token in tokens)

    def token_of(self, text: str) -> int | None:
        """The single token that adds exactly this text, even if encoding the text alone gives others."""
        if self._alphabet is not None:
            letters = {byte: char for char, byte in self._alphabet.items()}
            raw = "".join(letters[byte] for byte in text.encode())
        else:
            raw = text.replace(" ", "▁") if self._metaspace else text
        token = self._tokenizer.convert_tokens_to_ids(raw)
        return token if isinstance(token, int) and self.content(token) == text.encode() else None

    def text(self, token: int) -> str:
        """Text of the token; "" for special ids and for byte fragments of a character."""
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
        seen = "".join(_show_character(c) for c in text)
        bare = text[:1] not in UNSEEN and unicodedata.category(text[0])[0] == "M" if text else False
        return "◌" + seen if bare else seen


def _byte_level() -> dict[str, int]:
    """The byte for each character of a byte-level BPE vocabulary (GPT-2's printable substitutes)."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {char: byte for byte, char in bytes_to_unicode().items()}


def _bytes_by_number(tokenizer: Any) -> dict[str, int] | None:
    """The byte for each character, if a tokenizer without a fast backend writes byte n as character n (ByT5)."""
    raw = tokenizer.convert_ids_to_tokens(encode(tokenizer, "é"))
    return {chr(byte): byte for byte in range(256)} if raw == [chr(byte) for byte in "é".encode()] else None


def _show_character(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # an escaped byte
        return f"<0x{ord(char) - 0xDC00:02X}>"
    if char in VISIBLE:
        return VISIBLE[char]
    return (
        f"U+{ord(char):04X}"
        if char in VISIBLE.values()
        or char in UNSEEN
        or unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs")
        else char
    )
