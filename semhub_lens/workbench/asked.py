"""A checked request to an explorer: prompts, quantities, interventions, attributions."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.interventions import direction
from semhub_lens.interventions.hooks import add, at, project_out, replace
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.lens.calls import call_of
from semhub_lens.lens.logit_lens import DISTANCES
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import Hooks
from semhub_lens.model.residual import residual_stream

Where = int | list[int] | str | None


@dataclass(frozen=True)
class Intervention:
    """One change of a run at a residual entry; its kind decides which words, file or prompt it needs."""

    kind: str
    entry: int = 0
    strength: float = 1.0
    positions: str = ""
    """Empty for all positions; otherwise whole numbers with commas, negative from the end, or "generated"."""
    plus: str = ""
    minus: str = ""
    path: str = ""
    source: str = ""

    def hooks(self, model: Model) -> Hooks:
        """The change as hooks for this model.

        Raises:
            SemhubError: an empty word, file or prompt, or an error of the intervention itself.
        """
        empty = [f"{name}=" for name in NEEDS[self.kind] if not getattr(self, name)]
        if empty:
            needed = " and ".join(f"{name}= ({WORDS[name]})" for name in NEEDS[self.kind])
            raise SemhubError(f"The intervention {self.kind!r} needs {needed}; {' and '.join(empty)} is empty.")
        return _MAKERS[self.kind](model, self, self.where())

    def where(self) -> Where:
        """The positions in the form that interventions take."""
        text = self.positions.replace(" ", "")
        if text in ("", "generated"):
            return text or None
        if not re.fullmatch(r"-?\d+(,-?\d+)*", text):
            raise SemhubError(f"Positions are whole numbers with commas, 'generated' or empty, got {self.positions!r}.")
        numbers = [int(one) for one in text.split(",")]
        return numbers if "," in text else numbers[0]

    def stamp(self) -> tuple[int, int] | None:
        """Time and size of its file, if it has one, to detect a change."""
        if self.kind != "vector":
            return None
        found = user_path(self.path).stat()
        return found.st_mtime_ns, found.st_size

    def code(self) -> str:
        """An expression that makes the same hooks."""
        entry, strength, where = self.entry, self.strength, self.where()
        words = f"shl.direction.words(model, {self.plus!r}, {self.minus!r}, {entry})"
        if self.kind == "vector":
            vector = f"shl.SteeringVector.load({self.path!r}, model)"
            return f"{vector}.hooks({strength}, positions={where!r}, layers=[{entry}])"
        if self.kind == "patch":
            state = f"shl.residual_stream(model, {self.source!r}, read={where!r}, progress=False)[{entry}, 0]"
            return f"shl.at({entry}, shl.hooks.replace({state}, {strength}, {where!r}))"
        name = {"steer": "add", "project_out": "project_out"}[self.kind]
        return f"shl.at({entry}, shl.hooks.{name}({words}, {strength}, {where!r}))"


def _steer(model: Model, one: Intervention, where: Where) -> Hooks:
    return at(one.entry, add(direction.words(model, one.plus, one.minus, one.entry), one.strength, where))


def _project_out(model: Model, one: Intervention, where: Where) -> Hooks:
    return at(one.entry, project_out(direction.words(model, one.plus, one.minus, one.entry), one.strength, where))


def _vector(model: Model, one: Intervention, where: Where) -> Hooks:
    vector = SteeringVector.load(one.path, model)
    return vector.hooks(one.strength, positions=where, layers=[one.entry])


def _patch(model: Model, one: Intervention, where: Where) -> Hooks:
    if not isinstance(where, int):
        raise SemhubError(
            "A patch takes one position, read in the other prompt and written in this one; -1 is the last."
        )
    states = residual_stream(model, one.source, read=where, progress=False)
    if not 0 <= one.entry < len(states):
        raise SemhubError(f"Entry {one.entry} is out of range: the residual stream has entries 0 to {len(states) - 1}.")
    return at(one.entry, replace(states[one.entry, 0], one.strength, where))


_MAKERS: dict[str, Callable[[Model, Intervention, Where], Hooks]] = {
    "steer": _steer,
    "project_out": _project_out,
    "vector": _vector,
    "patch": _patch,
}
NEEDS = {"steer": ("plus", "minus"), "project_out": ("plus", "minus"), "vector": ("path",), "patch": ("source",)}
"""Every kind of intervention, and the fields that it needs."""
WORDS = {
    "plus": "the word to go towards",
    "minus": "the word to go away from",
    "path": "the file of a saved vector",
    "source": "the other prompt",
}
"""Those fields in the words of the form."""


@dataclass(frozen=True)
class Wrote:
    """A token at a position of one of the prompts, to attribute its logit to blocks and heads."""

    position: int = -1
    token: int = 0
    prompt: int = 0


@dataclass(frozen=True)
class Asked:
    """One request to an explorer."""

    prompt: str = ""
    more: tuple[str, ...] = ()
    """Prompts in addition to the first one."""
    quantities: tuple[str, ...] = DISTANCES
    """Quantities in addition to the most probable tokens."""
    layers: str = ""
    """Empty for all; otherwise residual entries with commas and ranges, such as "0, 6-18"."""
    top_k: int = 10
    norm: str = "final"
    new_tokens: int = 0
    """The number of new tokens in the continuation."""
    interventions: tuple[Intervention, ...] = ()
    written: tuple[Wrote, ...] = ()
    """Tokens to attribute."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Asked":
        """Make a request from the page's message; missing values have their defaults.

        Raises:
            SemhubError: an unknown name or kind, a value of another type.
        """
        listed = tuple(_checked(Intervention, one) for one in given.get("interventions", ()))
        for one in listed:
            if one.kind not in NEEDS:
                raise SemhubError(f"Unknown intervention {one.kind!r}; expected one of {', '.join(NEEDS)}.")
        words = {"quantities": DISTANCES, "more": ()}
        for name, usual in words.items():
            words[name] = given.get(name, usual)
            if not isinstance(words[name], list | tuple) or not all(isinstance(one, str) for one in words[name]):
                raise SemhubError(f"{name}= takes a list of texts, got {words[name]!r}.")
        found = _checked(
            cls,
            {
                **given,
                **{name: tuple(value) for name, value in words.items()},
                "interventions": listed,
                "written": tuple(_checked(Wrote, one) for one in given.get("written", ())),
            },
        )
        for one in found.written:
            if not 0 <= one.prompt <= len(found.more):
                raise SemhubError(f"There is no prompt {one.prompt}: prompts are numbered 0 to {len(found.more)}.")
        return found

    def prompts(self) -> list[str]:
        """All of them."""
        return [self.prompt, *self.more]

    def attributed(self) -> dict[tuple[int, int], list[int]]:
        """The tokens to attribute, by prompt and position."""
        found: dict[tuple[int, int], list[int]] = {}
        for one in self.written:
            tokens = found.setdefault((one.prompt, one.position), [])
            tokens += [one.token] * (one.token not in tokens)
        return found

    def entries(self) -> list[int] | None:
        """The residual entries to read; None for all."""
        text = self.layers.replace(" ", "")
        if not text:
            return None
        if not re.fullmatch(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*", text):
            raise SemhubError(f"Layers are whole numbers and ranges, such as '0, 6-18', got {self.layers!r}.")
        pairs = [(int(low), int(high or low)) for low, _, high in (piece.partition("-") for piece in text.split(","))]
        for low, high in pairs:
            if low > high:
                raise SemhubError(f"A range of layers goes upwards: '{high}-{low}', not '{low}-{high}'.")
        return [layer for low, high in pairs for layer in range(low, high + 1)]

    def call(self, prompt: str, changed: bool) -> dict[str, str]:
        """What a lens of one of the prompts keeps of its call, under the interventions or without."""
        hooks = ", ".join(f"*{one.code()}" for one in self.interventions)
        return call_of(prompt, None, self.norm, {}) | ({"hooks": f"[{hooks}]"} if changed else {})

    def reading(self) -> dict[str, Any]:
        """The settings of `logit_lens` that differ from its own."""
        quantities = ["top_ids", "top_logprobs", *self.quantities]
        found = {} if self.top_k == 10 else {"top_k": self.top_k}
        found |= {} if self.norm == "final" else {"norm": self.norm}
        found |= {} if self.quantities == DISTANCES else {"quantities": quantities}
        return found | ({} if self.entries() is None else {"layers": self.entries()})


def _checked(kind: type, given: Mapping[str, Any]) -> Any:
    """A dataclass from values with the types of its fields; whole numbers are accepted as floats."""
    known = {field.name: field.type for field in fields(kind)}
    for name, value in given.items():
        wanted = known.get(name)
        if wanted is None:
            raise SemhubError(f"An explorer does not take {name!r}; it takes {', '.join(known)}.")
        numeric = wanted in (int, float)
        right = int | float if wanted is float else wanted if isinstance(wanted, type) else tuple
        if not isinstance(value, right) or (numeric and isinstance(value, bool)):
            raise SemhubError(f"{name}= takes {getattr(wanted, '__name__', 'a list')}, got {value!r}.")
    return kind(**{name: float(value) if known[name] is float else value for name, value in given.items()})
