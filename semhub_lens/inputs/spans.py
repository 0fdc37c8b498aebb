"""The tokens of a text's spans."""

import re
import unicodedata
from typing import Any, SupportsIndex

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.inputs.speller import Speller

SpanSpec = str | tuple[int, int]
ELSEWHERE = (
    "characters a token stands for: take the fast tokenizer of the model (AutoTokenizer), or give positions, "
    "Prompt.from_ids(ids, spans={name: positions})."
)


def tokenised(tokenizer: Any, text: str, spans: bool, plain: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids, and, if spans are needed, the range of characters of each token."""
    settings = {"split_special_tokens": True} if plain else {}
    try:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=spans, **settings)
    except NotImplementedError:  # what a tokenizer written in Python may say of offsets
        encoded = {}
    if spans and "offset_mapping" not in encoded:
        raise Unfit(f"The tokenizer ({type(tokenizer).__name__}) does not tell which {ELSEWHERE}")
    return list(encoded["input_ids"]), list(encoded["offset_mapping"]) if spans else []


def located(
    text: str, name: str, spec: SpanSpec, ids: list[int], offsets: list[tuple[int, int]], cut: int, tokenizer: Any
) -> tuple[int, ...]:
    """The tokens of a span; the tokenizer has read `text` from its character `cut` on."""
    start, end = _range(text, name, spec)
    ranges = [(a + cut, b + cut) for a, b in offsets]
    found = tuple(i for i, (a, b) in enumerate(ranges) if a < end and b > start)
    empty = [token for token, (a, b) in zip(ids, ranges, strict=True) if a == b]
    covered = {c for i in found for c in range(*ranges[i])}
    lost = "".join(text[c] for c in range(start, end) if c not in covered).strip()
    if not found or (lost and Speller(tokenizer).spelled(empty).strip()):
        raise Unfit(
            f"Span {name!r}: the tokenizer's offsets are empty at {text[start:end]!r}, so it does not tell which "
            f"{ELSEWHERE}"
        )
    return found


def _range(text: str, name: str, spec: SpanSpec) -> tuple[int, int]:
    """The range of characters of a span, given as a substring or range."""
    if isinstance(spec, str):
        forms = {spec, *(unicodedata.normalize(form, spec) for form in ("NFC", "NFD"))}  # "é" of one character or two
        starts = {m.start(): form for form in forms if form for m in re.finditer(f"(?={re.escape(form)})", text)}
        if len(starts) != 1:
            raise SemhubError(
                f"Span {name!r}: {spec!r} occurs {len(starts)} times in {text!r}, expected once; give a (start, end) "
                "range."
            )
        ((start, form),) = starts.items()
        spec = (start, start + len(form))
    if not (
        isinstance(spec, tuple | list) and len(spec) == 2 and all(isinstance(edge, SupportsIndex) for edge in spec)
    ):
        raise SemhubError(f"Span {name!r} is a substring or a (start, end) range of characters, got {spec!r}.")
    start, end = spec
    if not 0 <= start < end <= len(text):
        raise SemhubError(f"Span {name!r}: characters {spec} are not within the {len(text)} characters of {text!r}.")
    return start, end
