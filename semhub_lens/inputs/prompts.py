"""Prompts: token ids with named spans of positions.

A `Prompt` says which positions a word, an operand or a picture occupies, so that a measurement can read there. All
positions are absolute indices into the prompt's own tokens, the beginning-of-sequence token (BOS) included.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.inputs.media import ENTRY, Media, Tile, Writes, extended
from semhub_lens.inputs.processors import Read, read

RESERVED = ("last", "mean", "raw_mean", "generated")
SpanSpec = str | tuple[int, int]


@dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids of one input, with named spans, and its pictures and sound.

    Build it with `from_text` (spans by substring or character range), `from_processor` (a multimodal model's pictures
    and sound), a spoke's `prompt`, or `from_ids`.
    """

    ids: Int[Tensor, " pos"]
    spans: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    text: str | None = None
    bos: bool = False
    """Whether position 0 is the beginning-of-sequence token."""
    media: Media | None = None
    """What a multimodal model is given beside the ids."""
    embeddings: Mapping[str, Float[Tensor, "k d_model"]] = field(default_factory=dict)
    """Per span, vectors that are written over its positions at the input of block 0, whatever the tokens there are."""
    grids: Mapping[str, Tile] = field(default_factory=dict)
    """Per span of embeddings, the rectangle of picture regions that they stand for, where each stands for one."""

    def __post_init__(self) -> None:
        if self.ids.numel() == 0:
            raise SemhubError(f"The prompt {self.text!r} has no tokens; give a text of at least one token.")
        for name, positions in self.spans.items():
            if name in RESERVED or (":" in name and name.rsplit(":", 1)[1] == "last"):
                raise SemhubError(
                    f"Span name {name!r} is reserved ({', '.join(RESERVED)}, '...:last'); choose another."
                )
            if not all(isinstance(position, SupportsIndex) for position in positions):
                raise SemhubError(f"Span {name!r} holds positions, which are whole numbers; got {positions}.")
            if not positions or min(positions) < 0 or max(positions) >= len(self.ids):
                raise SemhubError(
                    f"Span {name!r} = {positions} does not lie within the {len(self.ids)} tokens of the prompt."
                )
        for name, vectors in self.embeddings.items():
            if vectors.ndim != 2 or len(self.spans.get(name, ())) != len(vectors) or not torch.isfinite(vectors).all():
                raise SemhubError(
                    f"The embeddings {name!r} are {len(vectors)} vectors for a span of {len(self.spans.get(name, ()))} "
                    "positions: give one finite vector for each position."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def continued(self, ids: Sequence[int]) -> "Prompt":
        """The prompt with tokens behind it; spans, pictures, sound and embeddings stay."""
        media = self.media
        if media is not None:
            media = replace(media, inputs=extended(media.inputs, len(ids)))
        whole = torch.cat([self.ids, torch.tensor(list(ids), dtype=torch.long)])
        return replace(self, ids=whole, text=None, media=media)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All rectangles of picture patches or regions, whoever made the prompt: a processor or a spoke."""
        listed = () if self.media is None else self.media.tiles.values()
        return *(tile for tiles in listed for tile in tiles), *self.grids.values()

    @property
    def writes(self) -> Writes | None:
        """The embeddings and their positions; None where there are none."""
        if not self.embeddings:
            return None
        positions = [position for name in self.embeddings for position in self.spans[name]]
        return Writes(torch.tensor(positions), torch.cat(list(self.embeddings.values())))

    @property
    def hooks(self) -> list[tuple[str, Any]]:
        """The embeddings as hooks, for runs of your own; the functions of this library write them without."""
        return [] if self.writes is None else [(ENTRY, self.writes)]

    @classmethod
    def from_ids(
        cls,
        ids: Iterable[int] | Tensor,
        *,
        spans: Mapping[str, Sequence[int]] | None = None,
        bos: bool = False,
        media: Media | None = None,
        embeddings: Mapping[str, Float[Tensor, "k d_model"]] | None = None,
    ):
        """Build a prompt from token ids as they are (`bos`: whether the first one is the BOS token)."""
        try:
            tensor = torch.as_tensor(ids if isinstance(ids, Tensor) else list(ids))
        except (TypeError, ValueError) as error:
            raise SemhubError(f"A prompt is one row of token ids, got {ids!r} ({error}).") from error
        if tensor.is_floating_point() and tensor.numel():
            raise SemhubError(f"Token ids are whole numbers, got {tensor.dtype}: {tensor.flatten()[:5].tolist()}.")
        tensor = tensor.long()
        if tensor.ndim != 1:
            raise SemhubError(
                f"A prompt is one row of token ids, got shape {tuple(tensor.shape)}; make a Prompt of each row."
            )
        named = {k: tuple(v) for k, v in (spans or {}).items()}
        return cls(tensor, named, None, bos, media, dict(embeddings or {}))

    @classmethod
    def from_processor(
        cls,
        processor: Any,
        *,
        text: str,
        images: Any = None,
        audio: Any = None,
        sampling_rate: int | None = None,
    ):
        """Prepare text with pictures or sound by a Hugging Face processor, and find where they lie among the tokens.

        The spans are "image" (every picture), "image:0", "image:1", ..., "audio" and "audio:0", ...; `media.tiles`
        holds each picture's rectangles of patches, `media.times` each sound position's time. Positions are those after
        the processor has put one placeholder token for every feature.

        Args:
            processor: what `AutoProcessor.from_pretrained(name)` gives for the model.
            text: the prompt in the model's own format (`processor.apply_chat_template` makes it), with one placeholder
                for every picture and sound.
            images: one picture (PIL or array) or several.
            audio: one waveform or several, mono.
            sampling_rate: of the waveforms, in Hz; None takes the processor's.

        Raises:
            SemhubError: no media, an empty picture, another number of placeholders than of media, a rate that the
                processor does not take, or a processor that pads.

        Example:
            >>> prompt = Prompt.from_processor(  # doctest: +SKIP
            ...     processor, text="USER: <image> What is this? ASSISTANT:", images=picture
            ... )
        """
        processed: Read = read(processor, text, images, audio, sampling_rate)
        tokenizer = processor.tokenizer
        bos = tokenizer.bos_token_id is not None and int(processed.ids[0]) == tokenizer.bos_token_id
        return cls(processed.ids, processed.spans, text, bos, processed.media)

    @classmethod
    def from_text(
        cls, model: Any, text: str, *, spans: Mapping[str, SpanSpec] | None = None, prepend_bos: bool | None = None
    ):
        """Tokenise `text` and locate its spans.

        Args:
            model: any TransformerLens model (its tokenizer and its BOS default are used).
            text: the input; must not be empty.
            spans: name -> a substring that occurs exactly once, or a (start, end) character range. A token belongs to
                the span if any of its characters does.
            prepend_bos: None takes the model's own default (`cfg.default_prepend_bos`). A text that already begins with
                the BOS token never gets a second one.

        Raises:
            SemhubError: empty text, no tokenizer, a substring that occurs never or several times.

        Example:
            >>> prompt = Prompt.from_text(tiny_model, "three plus two", spans={"operand:0": "three"})
            >>> prompt.spans["operand:0"]
            (1,)
        """
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise Unfit("The model has no tokenizer: build the prompt from token ids with Prompt.from_ids(ids).")
        if not isinstance(text, str) or not text.strip():
            raise SemhubError(f"The prompt text is empty ({text!r}); give a text of at least one word.")
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=bool(spans))
        ids = list(encoded["input_ids"])
        prepend = model.cfg.default_prepend_bos if prepend_bos is None else prepend_bos
        if prepend and tokenizer.bos_token_id is None:
            raise Unfit("prepend_bos=True, but the tokenizer has no BOS token; pass prepend_bos=False.")
        added = int(bool(prepend) and ids[:1] != [tokenizer.bos_token_id])
        ids = [tokenizer.bos_token_id] * added + ids
        offsets = [(0, 0)] * added + list(encoded["offset_mapping"]) if spans else []
        located = {name: _locate(text, name, spec, offsets) for name, spec in (spans or {}).items()}
        return cls(torch.tensor(ids), located, text, bool(ids) and ids[0] == tokenizer.bos_token_id)


def _locate(text: str, name: str, spec: SpanSpec, offsets: list[tuple[int, int]]) -> tuple[int, ...]:
    if isinstance(spec, str):
        count = len(re.findall(f"(?={re.escape(spec)})", text)) if spec else 0  # overlapping ones count
        if count != 1:
            raise SemhubError(
                f"Span {name!r}: {spec!r} occurs {count} times in {text!r}, expected once; give a (start, end) range."
            )
        start = text.index(spec)
        spec = (start, start + len(spec))
    if not (
        isinstance(spec, tuple | list) and len(spec) == 2 and all(isinstance(edge, SupportsIndex) for edge in spec)
    ):
        raise SemhubError(f"Span {name!r} is a substring or a (start, end) range of characters, got {spec!r}.")
    start, end = spec
    if not 0 <= start < end <= len(text):
        raise SemhubError(f"Span {name!r}: characters {spec} do not lie within the {len(text)} characters of {text!r}.")
    return tuple(i for i, (a, b) in enumerate(offsets) if a < end and b > start)
