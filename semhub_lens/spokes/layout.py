"""Prompts of a spoke: token ids with placeholders for vectors, and fingerprints of the model that they are for."""

from collections.abc import Mapping, Sequence
from typing import Any

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.fingerprints import fingerprint, values_fingerprint
from semhub_lens.inputs.modalities import modality_of
from semhub_lens.inputs.speller import require_characters
from semhub_lens.inputs.tokens import encode
from semhub_lens.model.facts import Model, unembedding_sample


def unembedding_hash(model: Model) -> str:
    """Fingerprint of a sample of the unembedding in bfloat16: the same for every dtype and backend."""
    return values_fingerprint(unembedding_sample(model).bfloat16())


def vocabulary_hash(model: Model) -> str:
    """Fingerprint of the tokenizer's vocabulary."""
    return fingerprint(sorted(_tokenizer(model).get_vocab().items()))


def placeholder(model: Model) -> int:
    """The token id of the placeholders: the tokenizer's unknown token, or the full stop if it has none.

    Vectors replace it, so its meaning does not matter; a padding token would be masked.
    """
    tokenizer = _tokenizer(model)
    return encode(tokenizer, ".")[-1] if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)


def require_templates(templates: Mapping[str, Sequence[str]], modality: str) -> None:
    """Refuse templates, by language, that `layout` would refuse.

    Raises:
        SemhubError: an unknown modality, or a template without its one placeholder.
    """
    mark = modality_of(modality).placeholder
    for code, listed in templates.items():
        if not listed or any(text.count(mark) != 1 for text in listed):
            raise SemhubError(f"A template has the placeholder {mark} once; templates= has {code!r}: {list(listed)}.")


def layout(model: Model, text: str, name: str, count: int) -> tuple[list[int], tuple[int, ...], bool]:
    """Token ids of a text with one placeholder `<name>`, the placeholder's positions, and whether it starts with BOS.

    Raises:
        SemhubError: the text has no such placeholder, or several, or half a character.
    """
    require_characters(text)
    mark = f"<{name}>"
    if text.count(mark) != 1:
        raise SemhubError(f"The text {text!r} has {text.count(mark)} placeholders {mark}; expected exactly one.")
    tokenizer = _tokenizer(model)
    before, after = text.split(mark)
    first = tokenizer.bos_token_id if model.cfg.default_prepend_bos else None
    ids = ([] if first is None else [first]) + (encode(tokenizer, before) if before else [])
    positions = tuple(range(len(ids), len(ids) + count))
    return (
        ids + [placeholder(model)] * count + (encode(tokenizer, after) if after else []),
        positions,
        first is not None,
    )


def _tokenizer(model: Model) -> Any:
    if getattr(model, "tokenizer", None) is None:
        raise Unfit("The model has no tokenizer; a spoke needs one to make its prompts.")
    return model.tokenizer
