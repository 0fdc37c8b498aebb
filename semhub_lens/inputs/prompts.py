"""Prompts: token ids with named spans of positions.

A `Prompt` records the positions of a word, an operand or a picture, so that a measurement can read there. All positions
are absolute indices into the prompt's own tokens, including the beginning-of-sequence token (BOS).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked, native, shown
from semhub_lens.base.errors import SemhubError, Unfit, is_index
from semhub_lens.inputs.chat import Ending, Thinking, rendered, together
from semhub_lens.inputs.framing import opening, opens, special_ids, unpadded
from semhub_lens.inputs.media import ENTRY, Media, Tile, Writes, extended
from semhub_lens.inputs.processors import Read, read
from semhub_lens.inputs.spans import SpanSpec, located, tokenised
from semhub_lens.inputs.speller import require_characters

RESERVED = ("last", "mean", "raw_mean", "generated")


@checked
@dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids of one input, with named spans, and its pictures and sound.

    Make it with `from_text` (spans by substring or character range), `from_chat` (conversations in the model's own
    format), `from_processor` (pictures and sound of a multimodal model), a spoke's `prompt`, or `from_ids`.
    """

    ids: Int[Tensor, " pos"]
    spans: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    text: str | None = None
    bos: bool | None = None
    """Whether position 0 is the beginning-of-sequence token, or the tokenizer's substitute for it. With None, the runs
    of this library find out.
    """
    media: Media | None = None
    """The inputs of a multimodal model in addition to the ids."""
    embeddings: Mapping[str, Float[Tensor, "k d_model"]] = field(default_factory=dict)
    """For each span, vectors that replace its positions at the input of block 0, whatever the tokens there are."""
    grids: Mapping[str, Tile] = field(default_factory=dict)
    """For each span of embeddings, the rectangle of picture regions, if each vector represents one region."""
    controls: tuple[int, ...] = ()
    """Positions at which the text itself contains a control token (`<pad>`, `</s>`, a mark of turns, ...)."""

    def __post_init__(self) -> None:
        if self.ids.numel() == 0:
            raise SemhubError(f"The prompt {self.text!r} has no tokens; give a text of at least one token.")
        for name, positions in self.spans.items():
            if name in RESERVED or (":" in name and name.rsplit(":", 1)[1] == "last"):
                raise SemhubError(
                    f"Span name {name!r} is reserved ({', '.join(RESERVED)}, '...:last'); choose another."
                )
            if not all(map(is_index, positions)) or len({*map(int, positions)}) < len(positions):
                raise SemhubError(f"Span {name!r} needs whole numbers as positions, each once; got {positions}.")
            if not positions or min(positions) < 0 or max(positions) >= len(self.ids):
                raise SemhubError(
                    f"Span {name!r} = {positions} is not within the {len(self.ids)} tokens of the prompt."
                )
        for name, vectors in self.embeddings.items():
            if vectors.ndim != 2 or len(self.spans.get(name, ())) != len(vectors) or not torch.isfinite(vectors).all():
                raise SemhubError(
                    f"The embeddings {name!r} are {len(vectors)} vectors for a span of {len(self.spans.get(name, ()))} "
                    "positions: give one finite vector for each position."
                )

    def __len__(self) -> int:
        return len(self.ids)

    @checked
    def continued(self, ids: Sequence[int]) -> "Prompt":
        """The prompt with more tokens, `ids`, at its end; spans, pictures, sound and embeddings stay."""
        media = self.media
        if media is not None:
            media = replace(media, inputs=extended(media.inputs, len(ids)))
        whole = torch.cat([self.ids, torch.tensor(list(ids), dtype=torch.long)])
        return replace(self, ids=whole, text=None, media=media)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All rectangles of picture patches or regions, from a processor or a spoke."""
        listed = () if self.media is None else self.media.tiles.values()
        return *(tile for tiles in listed for tile in tiles), *self.grids.values()

    @property
    def writes(self) -> Writes | None:
        """The embeddings and their positions; None if there are none."""
        if not self.embeddings:
            return None
        positions = [position for name in self.embeddings for position in self.spans[name]]
        return Writes(torch.tensor(positions), torch.cat(list(self.embeddings.values())))

    @property
    def hooks(self) -> list[tuple[str, Any]]:
        """The embeddings as hooks, for your own runs; the functions of this library do not need them."""
        return [] if self.writes is None else [(ENTRY, self.writes)]

    @classmethod
    @checked
    def from_ids(
        cls,
        ids: Iterable[int] | Tensor,
        *,
        spans: Mapping[str, Sequence[int]] | None = None,
        bos: bool | None = None,
        mask: Any = None,
        media: Media | None = None,
        embeddings: Mapping[str, Float[Tensor, "k d_model"]] | None = None,
    ):
        """Make a prompt from token ids without changing them.

        Args:
            ids: one row `[pos]` or `[1, pos]`, such as the output of `model.to_tokens`.
            spans: name -> positions among `ids`.
            bos: whether the first id is the BOS token; with None, the runs of this library find out.
            mask: the attention mask of a padded row; the padding is left out. Without a mask, runs refuse rows that
                start or end with padding, except for a single end-of-text token.
            media: pictures and sound.
            embeddings: for each span, vectors to write over its positions.

        Raises:
            SemhubError: not one row of whole numbers, a mask that does not match, or a span in the padding.

        Example:
            >>> Prompt.from_ids([5, 6, 2, 2], mask=[1, 1, 0, 0]).continued([7]).ids.tolist()
            [5, 6, 7]
        """
        try:
            tensor = torch.as_tensor(ids if isinstance(ids, Tensor) else list(native(ids)))
        except (TypeError, ValueError) as error:
            raise SemhubError(f"A prompt is one row of token ids, got {ids!r} ({error}).") from error
        if (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel():
            raise SemhubError(f"Token ids are whole numbers, got {tensor.dtype}: {tensor.flatten()[:5].tolist()}.")
        if tensor.dtype == torch.bool:
            raise SemhubError(f"Token ids are whole numbers, got {shown(tensor)}; an attention mask goes to mask=.")
        tensor = tensor[0].long() if tensor.ndim == 2 and len(tensor) == 1 else tensor.long()
        if tensor.ndim != 1:
            raise SemhubError(
                f"A prompt is one row of token ids, got shape {tuple(tensor.shape)}; make a Prompt from each row."
            )
        named = {k: tuple(v) for k, v in (spans or {}).items()}
        if mask is not None:
            real = unpadded(tensor, mask)
            tensor = tensor[real.start : real.stop]
            named = {name: tuple(position - real.start for position in own) for name, own in named.items()}
        return cls(tensor, named, None, bos, media, dict(embeddings or {}))

    @classmethod
    @checked
    def from_processor(
        cls,
        processor: Any,
        *,
        text: str,
        images: Any = None,
        audio: Any = None,
        sampling_rate: int | None = None,
    ):
        """Prepare a text with pictures or sound with a Hugging Face processor, and locate them among the tokens.

        The spans are "image" (all pictures), "image:0", "image:1", ..., "audio" and "audio:0", ... `media.tiles` has
        the rectangles of patches of each picture, and `media.times` the time of each sound position in seconds.
        Positions count one token per feature, as the processor inserts them.

        Args:
            processor: the model's processor, from `AutoProcessor.from_pretrained(name)`.
            text: the prompt in the model's own format (`processor.apply_chat_template` makes it), with one placeholder
                for each picture and sound.
            images: one picture (PIL or array) or several.
            audio: one mono waveform or several.
            sampling_rate: of the waveforms, in Hz; None means the processor's rate.

        Raises:
            SemhubError: no media, an empty picture, different numbers of placeholders and media, a rate that the
                processor does not take, or a processor that pads.

        Example:
            >>> prompt = Prompt.from_processor(  # doctest: +SKIP
            ...     processor, text="USER: <image> What is this? ASSISTANT:", images=picture
            ... )
        """
        require_characters(text)
        processed: Read = read(processor, text, images, audio, sampling_rate)
        tokenizer = processor.tokenizer
        bos = tokenizer.bos_token_id is not None and int(processed.ids[0]) == tokenizer.bos_token_id
        return cls(processed.ids, processed.spans, text, bos, processed.media)

    @classmethod
    @checked
    def from_text(
        cls,
        model: Any,
        text: str,
        *,
        spans: Mapping[str, SpanSpec] | None = None,
        prepend_bos: bool | None = None,
        plain: bool = False,
    ):
        """Tokenise `text` and locate its spans.

        Args:
            model: any TransformerLens model (its tokenizer and its BOS default are used).
            text: the input; must not be empty. Control tokens in it (`</s>`, `<pad>`, marks of turns) are read as
                control tokens; `controls` gives their positions.
            spans: name -> a substring that occurs exactly once, or a (start, end) character range. A token belongs to
                the span if any of its characters does.
            prepend_bos: None means the model's own default (`cfg.default_prepend_bos`). If the tokenizer starts every
                text with other special tokens (`[gMASK] <sop>`), those are used. They are never added twice, and blanks
                before them are left out.
            plain: read control tokens in the text as plain letters.

        Raises:
            SemhubError: empty text, no tokenizer, half of a character (a lone surrogate), a substring that occurs never
                or several times, or a span whose tokens the tokenizer does not give.

        Example:
            >>> prompt = Prompt.from_text(tiny_model, "three plus two", spans={"operand:0": "three"})
            >>> prompt.spans["operand:0"]
            (1,)
        """
        tokenizer = _tokenizer(model)
        if not isinstance(text, str) or not text.strip():
            raise SemhubError(f"The prompt text is empty ({text!r}); give a text of at least one word.")
        require_characters(text)
        vocabulary = int(model.cfg.d_vocab)
        begin = opening(tokenizer, vocabulary, prepend_bos, bool(model.cfg.default_prepend_bos))
        cut = 0
        if begin and not plain and text.lstrip().startswith(tokenizer.convert_ids_to_tokens(begin[0])):
            cut = len(text) - len(text.lstrip())
        ids, offsets = tokenised(tokenizer, text[cut:], bool(spans), plain)
        found = {name: located(text, name, spec, ids, offsets, cut, tokenizer) for name, spec in (spans or {}).items()}
        letters, _ = tokenised(tokenizer, text[cut:], False, True)
        special = special_ids(tokenizer) if ids != letters else frozenset()  # slow to ask for
        controls = [i for i, token in enumerate(ids) if token in special]
        if tuple(ids[: len(begin)]) == begin and begin:
            controls = controls[len(begin) :]
            begin = ()
        shift = len(begin)
        ids = [*begin, *ids]
        return cls(
            torch.tensor(ids),
            {name: tuple(position + shift for position in own) for name, own in found.items()},
            text,
            bool(ids) and opens(tokenizer, vocabulary, ids[0]),
            controls=tuple(position + shift for position in controls),
        )

    @classmethod
    @checked
    def from_chat(
        cls,
        model: Any,
        messages: Sequence[Mapping[str, Any]],
        *,
        ending: Ending | None = None,
        thinking: Thinking = "keep",
        spans: Mapping[str, SpanSpec] | None = None,
        template: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ):
        """Apply the tokenizer's chat template to a conversation, and locate its turns.

        The ids are those of `tokenizer.apply_chat_template`: there is one BOS if the template writes it, and none
        otherwise. Spans cover the texts without the blanks around them:

        - "turn:0", "turn:1", ...: the text of each message, with its thoughts;
        - "user", "assistant", ...: the texts of a role; "user:0", "user:1", ...: its first text, its second, ...;
        - "thinking", "thinking:0", ...: thoughts, with their tags (`<think>...</think>`);
        - "template": every other token; "template:i": those before turn i, and last those after all turns.

        So `read="assistant:last"` reads the end of the reply's text, and `read="last"` the token before the next reply.

        Args:
            model: any TransformerLens model with a tokenizer that gives character offsets (a fast one).
            messages: a list of `{"role": ..., "content": ...}`; other keys (`tool_calls`, `reasoning_content`) go to
                the template.
            ending: "reply": start the reply of the model. "turn": end after the last turn. "continue": end after the
                last message, with its last blanks if the template keeps them. None: "turn" after a reply, else "reply".
            thinking: "keep" keeps all thoughts in tags; "template" drops those that the template drops (earlier turns).
            spans: more spans, as in `from_text`, in the text that the template writes.
            template: a template (Jinja) in place of the tokenizer's.
            settings: values for names that the template uses, such as `{"enable_thinking": False}`.

        Raises:
            SemhubError: no messages, no chat template, messages that the template refuses, a text that it leaves out,
                repeats or rewrites, a setting that it does not use, pictures or sound.

        Example:
            >>> template = "<bos>{% for m in messages %}{{ m.role }}: {{ m.content }}<eos>{% endfor %}"
            >>> messages = [{"role": "one", "content": "red dog"}, {"role": "two", "content": "cat"}]
            >>> prompt = Prompt.from_chat(tiny_model, messages, template=template)
            >>> prompt.bos, len(prompt.spans["one"]), prompt.spans["two"] == prompt.spans["turn:1"]
            (True, 2, True)
        """
        tokenizer = _tokenizer(model)
        chat = rendered(
            tokenizer, messages, ending=ending, thinking=thinking, template=template, settings=settings or {}
        )
        taken = {"template", *(name.partition(":")[0] for name in chat.ranges)}
        if both := [name for name in spans or {} if name.partition(":")[0] in taken]:
            raise SemhubError(f"The conversation already has spans with the names {both}; choose others.")
        begin = opening(tokenizer, int(model.cfg.d_vocab), None, bool(model.cfg.default_prepend_bos))
        opened = bool(begin) and chat.text.lstrip().startswith(tokenizer.convert_ids_to_tokens(begin[0]))
        named = {**(spans or {}), **chat.ranges}
        prompt = cls.from_text(model, chat.text, spans=named, prepend_bos=None if opened else False)
        return replace(prompt, spans={**prompt.spans, **together(prompt.spans, chat.ranges, len(prompt))})


def _tokenizer(model: Any) -> Any:
    if not hasattr(model, "cfg"):
        raise SemhubError(f"A prompt needs a TransformerLens model, got {type(model).__name__}.")
    if getattr(model, "tokenizer", None) is None:
        raise Unfit("The model has no tokenizer: make the prompt from token ids with Prompt.from_ids(ids).")
    return model.tokenizer
