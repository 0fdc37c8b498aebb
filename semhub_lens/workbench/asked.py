"""What is asked of an explorer: a prompt, what to read of it, interventions; checked, and the same as code."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from semhub_lens.base.errors import SemhubError
from semhub_lens.interventions import direction
from semhub_lens.interventions.hooks import add, at, project_out, replace
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.lens.logit_lens import DISTANCES
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import Hooks
from semhub_lens.model.residual import residual_stream

Where = int | list[int] | str | None


@dataclass(frozen=True)
class Intervention:
    """One change of a run at a residual entry; which words, file or prompt it takes depends on its kind."""

    kind: str
    entry: int = 0
    strength: float = 1.0
    positions: str = ""
    """Empty: everywhere. Whole numbers with commas, negative from the end, or "generated"."""
    plus: str = ""
    minus: str = ""
    path: str = ""
    source: str = ""

    def hooks(self, model: Model) -> Hooks:
        """The change as hooks for this model.

        Raises:
            SemhubError: an empty word, file or prompt, or what the intervention itself refuses.
        """
        for name in NEEDS[self.kind]:
            if not getattr(self, name):
                raise SemhubError(f"The intervention {self.kind!r} needs {name}=.")
        return _MAKERS[self.kind](model, self, self.where())

    def where(self) -> Where:
        """The positions as interventions take them."""
        text = self.positions.replace(" ", "")
        if text in ("", "generated"):
            return text or None
        if not re.fullmatch(r"-?\d+(,-?\d+)*", text):
            raise SemhubError(f"Positions are whole numbers with commas, 'generated' or empty, got {self.positions!r}.")
        numbers = [int(one) for one in text.split(",")]
        return numbers if "," in text else numbers[0]

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
"""Every kind of intervention, and what it cannot do without."""


@dataclass(frozen=True)
class Asked:
    """One question to an explorer."""

    prompt: str = ""
    quantities: tuple[str, ...] = DISTANCES
    """Beside the most probable tokens."""
    layers: str = ""
    """Empty: all. Residual entries with commas and ranges, "0, 6-18"."""
    top_k: int = 10
    norm: str = "final"
    new_tokens: int = 0
    """How many tokens to continue the prompt by."""
    interventions: tuple[Intervention, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Asked":
        """From what the page sends; what it leaves out is as by default.

        Raises:
            SemhubError: an unknown name or kind, a value of another type.
        """
        listed = tuple(_checked(Intervention, one) for one in given.get("interventions", ()))
        for one in listed:
            if one.kind not in NEEDS:
                raise SemhubError(f"Unknown intervention {one.kind!r}; expected one of {', '.join(NEEDS)}.")
        rest = {name: value for name, value in given.items() if name != "interventions"}
        rest["quantities"] = tuple(rest.get("quantities", DISTANCES))
        return _checked(cls, {**rest, "interventions": listed})

    def entries(self) -> list[int] | None:
        """The residual entries to read; None for all."""
        text = self.layers.replace(" ", "")
        if not text:
            return None
        if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
            raise SemhubError(f"Layers are whole numbers and ranges, as '0, 6-18', got {self.layers!r}.")
        pairs = [piece.partition("-")[::2] for piece in text.split(",")]
        return [layer for low, high in pairs for layer in range(int(low), int(high or low) + 1)]

    def reading(self) -> dict[str, Any]:
        """The settings of `logit_lens` that differ from its own."""
        quantities = ["top_ids", "top_logprobs", *self.quantities]
        found = {} if self.top_k == 10 else {"top_k": self.top_k}
        found |= {} if self.norm == "final" else {"norm": self.norm}
        found |= {} if self.quantities == DISTANCES else {"quantities": quantities}
        return found | ({} if self.entries() is None else {"layers": self.entries()})

    def code(self, table: bool = False) -> str:
        """A script that makes the same results of `model` (and `table`)."""
        settings = [f"{name}={value!r}" for name, value in self.reading().items()] + ["table=table"] * table
        lens = f"shl.logit_lens({', '.join(['model', 'prompt', *settings])}"
        lines = ["import semhub_lens as shl", "", f"prompt = {self.prompt!r}"]
        if self.interventions:
            lines += ["hooks = [", *(f"    *{one.code()}," for one in self.interventions), "]", f"clean = {lens})"]
            lines += [
                f"lens = {lens}, hooks=hooks)",
                "comparison = shl.compare(clean, lens, names=('clean', 'changed'))",
            ]
        else:
            lines.append(f"lens = {lens})")
        for name, hooks in [("", "")] + [("changed_", ", hooks=hooks")] * bool(self.interventions):
            if self.new_tokens:
                lines.append(
                    f"{name}text = shl.generate(model, prompt{hooks}, max_new_tokens={self.new_tokens}).texts[0]"
                )
        return "\n".join(lines) + "\n"


def _checked(kind: type, given: Mapping[str, Any]) -> Any:
    """A dataclass of values of its fields' own types; whole numbers stand for floats."""
    known = {field.name: field.type for field in fields(kind)}
    for name, value in given.items():
        wanted = known.get(name)
        if wanted is None:
            raise SemhubError(f"An explorer is not asked for {name!r}; it takes {', '.join(known)}.")
        numeric = wanted in (int, float)
        right = int | float if wanted is float else wanted if isinstance(wanted, type) else tuple
        if not isinstance(value, right) or (numeric and isinstance(value, bool)):
            raise SemhubError(f"{name}= takes {getattr(wanted, '__name__', 'a list')}, got {value!r}.")
    return kind(**{name: float(value) if known[name] is float else value for name, value in given.items()})
