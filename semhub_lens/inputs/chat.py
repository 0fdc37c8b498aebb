r"""A conversation in the format of a model's chat template, with the position of each text.

The template runs twice: once with marks in place of the texts, which gives the place of each text, and once with the
texts. Both runs must agree. Otherwise a SemhubError says that the template rewrites its texts.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jinja2 import TemplateError

from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError, Unfit

Ending = Literal["reply", "turn", "continue"]
Thinking = Literal["keep", "template"]
TAGS = "think|thinking|thought|reasoning"
THOUGHT = re.compile(rf"<({TAGS})>(.*?)</\1>\s*", re.DOTALL)
BEFORE, BEHIND = re.compile(rf"<(?:{TAGS})>\s*\Z"), re.compile(rf"\s*</(?:{TAGS})>")
MARK = re.compile("\ue000(\\d+)\ue001")
THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking")
OURS = ("turn", "template", "thinking")
"""Names of spans that a role cannot have."""
NOT_SETTINGS = {"conversation", "messages", "chat_template", "add_generation_prompt", "continue_final_message",
    "tokenize"}  # fmt: skip


@dataclass
class _Piece:
    """A text of a message; a mark replaces it while the template runs."""

    message: int
    text: str
    thought: bool
    behind: str = ""
    """For the last text of a content: the blanks after it, and before them the tag that ends a thought."""
    tags: str = ""
    """For a thought inside the content: the mark in its tags, as written."""


@dataclass
class Rendered:
    """A conversation as one text, and the ranges of characters of its turns, roles and thoughts."""

    text: str
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)


def rendered(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    ending: Ending | None,
    thinking: Thinking,
    template: str | None,
    settings: Mapping[str, Any],
) -> Rendered:
    """Apply the chat template; ranges are "turn:i", "ROLE:j" and "thinking:k", without the blanks around the texts.

    Raises:
        SemhubError: as `Prompt.from_chat`.
    """
    pieces: list[_Piece] = []
    marked = [_marked(i, message, pieces) for i, message in enumerate(messages)]
    written = _template(tokenizer, template, settings)
    if not marked:
        raise SemhubError("The list of messages is empty; give at least one {'role': ..., 'content': ...}.")
    ending = ending or ("turn" if messages[-1]["role"] in ("assistant", "model") else "reply")

    def applied(given: Sequence[Mapping[str, Any]]) -> str:
        known = {"chat_template": written, "add_generation_prompt": ending == "reply", **settings}
        try:
            return tokenizer.apply_chat_template([dict(one) for one in given], tokenize=False, **known)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise SemhubError(
                f"The chat template refuses these messages: {error}. Change the messages or the template."
            ) from error

    text = applied(marked)
    missing = _missing(text, pieces, thinking)
    if MARK.sub(lambda mark: pieces[int(mark[1])].text, text) != applied(messages):
        raise SemhubError(
            "The chat template rewrites the texts of these messages, so their positions are unknown. Pass the output "
            "of tokenizer.apply_chat_template(messages, tokenize=False) to Prompt.from_text, with your spans."
        )
    for number in missing if thinking == "keep" else ():
        text = _kept(text, number, pieces)
    return _filled(text, pieces, messages, ending)


def _template(tokenizer: Any, template: str | None, settings: Mapping[str, Any]) -> str:
    if template is None and not getattr(tokenizer, "chat_template", None):
        raise Unfit(
            "The tokenizer has no chat template, like most base models. Write the conversation as a text "
            "(Prompt.from_text), or pass your own template with template=."
        )
    written = tokenizer.get_chat_template(template, settings.get("tools"))
    for name in settings:
        if name in NOT_SETTINGS or name not in written:
            raise SemhubError(f"settings= takes names that the chat template uses; it does not use {name!r}.")
    return written


def _marked(i: int, message: Mapping[str, Any], pieces: list[_Piece]) -> dict[str, Any]:
    """The message with a mark for every text in it; the texts are added to `pieces`."""
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role or "content" not in message or role in OURS or ":" in role:
        raise SemhubError(f"Message {i} needs a role (a word) and a content, got {shown(dict(message))}.")
    copy = dict(message)
    for name in THOUGHT_FIELDS:
        if isinstance(message.get(name), str):
            copy[name] = _mark(i, message[name], True, pieces)
    if isinstance(content, str):
        copy["content"] = _split(i, content, pieces)
    elif isinstance(content, list | tuple):
        copy["content"] = [_part(i, part, pieces) for part in content]
    elif content is not None:
        raise SemhubError(f"The content of message {i} must be a text or a list of texts, got {shown(content)}.")
    return copy


def _part(i: int, part: Any, pieces: list[_Piece]) -> dict[str, Any]:
    if not isinstance(part, Mapping) or not isinstance(part.get("text"), str) or part.get("type", "text") != "text":
        raise SemhubError(
            f"Message {i} contains {shown(part)}; a conversation consists of texts, {{'type': 'text', 'text': ...}}. "
            "For pictures and sound use Prompt.from_processor."
        )
    return {**part, "text": _split(i, part["text"], pieces)}


def _split(i: int, text: str, pieces: list[_Piece]) -> str:
    """The text with marks for its thoughts and for the text around them; tags stay."""
    out, at = "", 0
    for thought in THOUGHT.finditer(text):
        out += _mark(i, text[at : thought.start()], False, pieces)
        (start, end), whole = thought.span(2), thought.start()
        marked = text[whole:start] + _mark(i, thought[2], True, pieces) + text[end : thought.end()]
        if thought[2].strip():
            pieces[-1].tags = marked
        out, at = out + marked, thought.end()
    out += _mark(i, text[at:], False, pieces)
    if marks := [*MARK.finditer(out)]:
        pieces[int(marks[-1][1])].behind = out[marks[-1].end() :]
    return out


def _mark(i: int, text: str, thought: bool, pieces: list[_Piece]) -> str:
    if MARK.search(text):
        raise SemhubError(
            f"Message {i} contains the private characters U+E000 or U+E001, which are used as marks here. Remove them."
        )
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    pieces.append(_Piece(i, core, thought))
    return text[:start] + _sign(len(pieces) - 1) + text[start + len(core) :]


def _sign(number: int) -> str:
    return f"\ue000{number}\ue001"


def _missing(text: str, pieces: list[_Piece], thinking: Thinking) -> list[int]:
    """The thoughts that the template leaves out; every other text must occur once."""
    counts = [text.count(_sign(number)) for number in range(len(pieces))]
    for count, piece in zip(counts, pieces, strict=True):
        if count != 1 and not (count == 0 and piece.thought and (piece.tags or thinking == "template")):
            done = "leaves out" if count == 0 else "repeats"
            hint = "; pass thinking='template' to leave it out" if piece.thought else "; change the messages"
            raise SemhubError(f"The chat template {done} a text of message {piece.message}, {shown(piece.text)}{hint}.")
    return [number for number, count in enumerate(counts) if count == 0]


def _kept(text: str, number: int, pieces: list[_Piece]) -> str:
    """The text with a thought, in its tags, before the text of its message."""
    piece = pieces[number]
    for other in range(number + 1, len(pieces)):
        if pieces[other].message == piece.message and not pieces[other].thought:
            behind = piece.tags[len(piece.tags.rstrip()) :] + _sign(other)  # blanks that the template may have left
            return text.replace(behind if behind in text else _sign(other), piece.tags + _sign(other))
    raise SemhubError(
        f"The chat template leaves out the thought of message {piece.message}, because no text follows it. Pass "
        "thinking='template' to accept that."
    )


def _filled(text: str, pieces: list[_Piece], messages: Sequence[Mapping[str, Any]], ending: Ending) -> Rendered:
    """The texts in place of their marks, with their ranges."""
    out, at, found = "", 0, {}
    for mark in MARK.finditer(text):
        out += text[at : mark.start()]
        piece, at = pieces[int(mark[1])], mark.end()
        found[int(mark[1])] = (len(out), len(out) + len(piece.text))
        out += piece.text
    last = pieces[int(mark[1])] if found else None
    if ending != "continue":
        out += text[at:]
    elif last is None or last.message != len(messages) - 1:
        raise SemhubError("ending='continue' continues the last message, which has no text; give it one.")
    else:
        out += _end(text, at, last.behind)
    ranges, thoughts, counts = {}, 0, dict.fromkeys((message["role"] for message in messages), 0)
    for i, message in enumerate(messages):
        edges: list[int] = []
        for number in sorted((k for k in found if pieces[k].message == i), key=found.__getitem__):
            start, end = found[number]
            if pieces[number].thought:
                start, end = _with_tags(out, start, end)
                ranges[f"thinking:{thoughts}"], thoughts = (start, end), thoughts + 1
            edges += [start, end]
        if edges:
            ranges[f"turn:{i}"] = ranges[f"{message['role']}:{counts[message['role']]}"] = (edges[0], edges[-1])
        counts[message["role"]] += 1
    return Rendered(out, ranges)


def _end(text: str, at: int, behind: str) -> str:
    """What the template keeps of the end of the message that the model continues."""
    for kept in (behind, behind.rstrip()):
        if kept and text.startswith(kept, at):
            return kept
    tag = BEHIND.match(text, at) if behind.strip() else None  # the template writes thoughts in its own way
    return tag[0] if tag else ""


def _with_tags(text: str, start: int, end: int) -> tuple[int, int]:
    """The range of a thought, including its tags if it has any."""
    before, behind = BEFORE.search(text[:start]), BEHIND.match(text, end)
    return (before.start(), behind.end()) if before and behind else (start, end)


def together(spans: Mapping[str, Sequence[int]], parts: Iterable[str], length: int) -> dict[str, tuple[int, ...]]:
    """All positions of each role and of all thoughts, and those of the template: the rest of the `length` positions."""
    joined: dict[str, set[int]] = {}
    for name in parts:
        if not name.startswith("turn:"):
            joined.setdefault(name.rpartition(":")[0], set()).update(spans[name])
    turns = {int(name.partition(":")[2]): spans[name] for name in parts if name.startswith("turn:")}
    edges = [(turn, min(own), max(own)) for turn, own in sorted(turns.items())]
    said = {position for own in turns.values() for position in own}
    begin = 0
    for turn, first, last in [*edges, (max(turns, default=-1) + 1, length, length)]:
        joined[f"template:{turn}"] = set(range(begin, first)) - said
        begin = last + 1
    joined["template"] = set(range(length)) - said
    return {name: tuple(sorted(own)) for name, own in joined.items() if own}
