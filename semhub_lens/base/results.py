"""Frozen results: the measurement, its provenance, and its file.

A result stores the raw measurement; derived numbers are properties. `save` writes one safetensors file (tensors and a
JSON header), without pickle.
"""

import dataclasses
import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path, write_aside
from semhub_lens.base.fingerprints import PACKAGE, sha256, tensors_sha256
from semhub_lens.base.shown_text import told

R = TypeVar("R", bound="Result")
D = TypeVar("D", bound=Callable[..., Any])

SCHEMA = 2
"""The version of saved files. Version 0.1.0 wrote schema 1, without a number."""
FORMERLY = {"Wording": "LegText"}
"""Classes by the name under which schema 1 saved them."""
NAMELESS = "-"
"""The weights of states that the caller did not name."""
_CLASSES: dict[str, type["Part"]] = {}
_DRAWERS: dict[type, Callable[[Any], Any]] = {}
_SHOWERS: dict[type, Callable[[Any], dict[str, str]]] = {}


class Part:
    """Base of every dataclass that can be part of a saved result; a subclass registers itself under its name."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        known = _CLASSES.get(cls.__name__)
        if known is not None and known.__module__ != cls.__module__:
            raise TypeError(f"{cls.__module__} and {known.__module__} both define a result class {cls.__name__!r}.")
        _CLASSES[cls.__name__] = cls

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Any:
        """Make an instance from the fields in a file; a class overrides this if its fields have changed."""
        return cls(**fields)


def draws(kind: type["Result"]) -> Callable[[D], D]:
    """Register the decorated function to draw results of that class; the room `views` uses it."""

    def register(drawer: D) -> D:
        _DRAWERS[kind] = drawer
        return drawer

    return register


def shows(kind: type["Result"]) -> Callable[[D], D]:
    """Register the decorated function to make a notebook's output (by MIME type) in place of the figure."""

    def register(shower: D) -> D:
        _SHOWERS[kind] = shower
        return shower

    return register


def drawn(result: "Result") -> Any:
    """The figure of a result, drawn by the function for its class.

    Raises:
        SemhubError: not a result, or a result without a figure.
    """
    for kind in type(result).__mro__:
        if kind in _DRAWERS:
            return _DRAWERS[kind](result)
    names = ", ".join(sorted(kind.__name__ for kind in _DRAWERS))
    raise SemhubError(f"Cannot draw a {type(result).__name__}; expected one of {names}.")


def result_classes() -> dict[str, type["Result"]]:
    """Every result class that is registered, by its name."""
    return {name: kind for name, kind in _CLASSES.items() if issubclass(kind, Result)}


@dataclass(frozen=True)
class Provenance(Part):
    """The record of how a result was made: model, read-out, data, seed and versions."""

    model: str
    weights: str
    """Fingerprint of a sample of every parameter and buffer, as the backend names and stores them."""
    model_class: str
    dtype: str
    device: str
    processing: str
    """TransformerLens' processing of the weights: "none", or "folded" / "centred"."""
    bos: bool
    padding: str = "right"
    norm: str | None = None
    data: str | None = None
    data_hash: str | None = None
    seed: int | None = None
    transformer_lens: str = field(default_factory=lambda: version("transformer-lens"))
    semhub_lens: str = field(default_factory=lambda: version("semhub-lens"))
    unembedding: str | None = None
    """Fingerprint of a sample of the unembedding, the same for both backends; files of 0.1.0 store it as `weights`."""
    notes: tuple[str, ...] = ()
    """What the runs changed because this model needs it: "no cache: ...", "batches of equal length", ..."""
    content: str | None = None
    """Fingerprint of every value of every parameter and buffer; known to saved runs, states and trainings only."""

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Provenance":
        """In files of 0.1.0, `weights` is the fingerprint of the unembedding only."""
        return cls(**({"unembedding": fields["weights"]} | fields))

    def line(self) -> str:
        """One short line for the foot of a figure; states that the caller did not name have no model to describe."""
        parts = [self.model]
        if self.weights != NAMELESS:
            parts += [f"weights {self.weights}", self.model_class, self.dtype]
            parts += [f"processing {self.processing}", "BOS" if self.bos else "no BOS"]
        parts += [f"norm {self.norm}"] if self.norm else []
        parts += [f"data {self.data}" + (f" ({self.data_hash})" if self.data_hash else "")] if self.data else []
        parts += [f"seed {self.seed}"] if self.seed is not None else []
        parts += self.notes
        return " · ".join([*parts, f"transformer-lens {self.transformer_lens}", f"semhub-lens {self.semhub_lens}"])


def same_weights(one: Provenance, other: Provenance) -> bool:
    """Whether both have the same weights: every value, if both recorded them, else the sample."""
    known = one.content is not None and other.content is not None
    return one.weights == other.weights and (not known or one.content == other.content)


def unnamed(seed: int | None = None) -> Provenance:
    """The provenance of states that the caller did not name."""
    return Provenance("unnamed states", NAMELESS, "-", "float32", "cpu", "unknown", False, seed=seed)


@dataclass(frozen=True, eq=False)
class Result(Part):
    """Base of all results: provenance, a tidy table, a file, and a figure in notebooks."""

    provenance: Provenance = field(kw_only=True)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__repr__" not in cls.__dict__:  # or the dataclass would write one that prints whole tensors
            cls.__repr__ = Result.__repr__

    def __repr__(self) -> str:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "provenance"}
        next_steps = "Next: figure(result), .to_frame() for the numbers, .save(path)"
        return "\n".join([f"{type(self).__name__}: {told(fields)}", next_steps, self.provenance.line()])

    def to_frame(self) -> pd.DataFrame:
        """Return the measurement as a tidy table, one observation per row."""
        raise NotImplementedError(f"{type(self).__name__} has no table form")

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file and return its path; the file appears only when complete.

        Raises:
            SemhubError: the file cannot be written; the old file is unchanged.
        """
        path = user_path(path)
        tensors: dict[str, Tensor] = {}
        whole = _encode(self, "", tensors) | {"schema": SCHEMA, "module": type(self).__module__}
        header = json.dumps(whole | {"sha256": _checksum(whole, tensors)})
        return write_aside(path, lambda aside: save_file(tensors, aside, metadata={"semhub_lens": header}))

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read a result that `save` wrote to `path`.

        Raises:
            SemhubError: no such file, not a saved result, or a result of another class.
        """
        result = load_result(path)
        if not isinstance(result, cls):
            raise SemhubError(
                f"{path} contains a {type(result).__name__}, not a {cls.__name__}; use {type(result).__name__}.load or "
                "load_result."
            )
        return result

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        for kind in type(self).__mro__:
            if kind in _SHOWERS:
                return _SHOWERS[kind](self)
        return {"text/plain": repr(self)}


@checked
def load_result(path: str | Path) -> Result:
    """Read any result that `save` wrote, whatever its class.

    Args:
        path: the file.

    Raises:
        SemhubError: no such file, not a saved result, damaged, changed after it was saved, or written by a version that
            this one cannot read; the message says which and what to do.

    Example:
        >>> load_result(lens.save("lens.safetensors"))  # doctest: +SKIP
        >>> LensResult.load("lens.safetensors")  # the class is checked # doctest: +SKIP
    """
    path = user_path(path)
    if not path.is_file():
        raise SemhubError(f"No saved result at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["semhub_lens"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        written = int(header.get("schema", 1))
    except Exception as error:  # the reader raises its own types on a file of another kind
        raise SemhubError(f"{path} is not a result that semhub_lens saved: {error}") from error
    if written > SCHEMA:
        raise SemhubError(
            f"{path} was written by a newer semhub_lens (schema {written}; this one reads up to {SCHEMA}): upgrade "
            "semhub-lens, or measure again."
        )
    _require_class(header, path)
    saved = header.pop("sha256", None if written == 1 else "missing")  # files of schema 1 have none
    try:
        result = _decode(header, tensors)
    except Exception as error:  # a file may hold anything
        raise SemhubError(
            f"{path} was written by another version of semhub_lens (schema {written}), whose {header['class']} has "
            f"other fields ({error}): open it with that version, or measure again."
        ) from error
    if saved not in (None, _checksum(header, tensors)):
        raise SemhubError(f"{path} was changed after it was saved (its SHA-256 differs): measure again.")
    return result


def _checksum(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    return sha256((json.dumps(header) + tensors_sha256(tensors)).encode())


def _require_class(header: dict[str, Any], path: Path) -> None:
    """Import the module that defines the class if it is not imported yet (the room `training`)."""
    name, module = str(header.get("class")), str(header.get("module", ""))
    if name not in _CLASSES and _is_own(module):
        importlib.import_module(module)
    if name not in result_classes():
        raise SemhubError(
            f"{path} contains a {name!r}, which this version of semhub_lens does not know. If it is defined in "
            "semhub_lens.training, import that first. Otherwise open the file with the version that wrote it, or "
            "measure again."
        )


def _is_own(module: str) -> bool:
    """Whether the package has a module of that name that only defines things: the name in a file can be anything."""
    found = re.fullmatch(r"semhub_lens((?:\.[a-z]\w*)+)", module)
    return found is not None and PACKAGE.joinpath(*found[1].split(".")[1:]).with_suffix(".py").is_file()


def _encode(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        held = value.detach().cpu().contiguous()
        taken = {other.untyped_storage().data_ptr() for other in tensors.values()}
        # A file holds no tensor that shares its memory with another, such as those of a result compared with itself.
        tensors[key] = held.clone() if held.untyped_storage().data_ptr() in taken else held
        return {"tensor": key}
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        encoded = {name: _encode(getattr(value, name), f"{key}.{name}".lstrip("."), tensors) for name in names}
        return {"class": type(value).__name__, "fields": encoded}
    if isinstance(value, dict):
        return {"mapping": [[k, _encode(v, f"{key}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_encode(item, f"{key}.{i}", tensors) for i, item in enumerate(value)]
    return value


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, tensors) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "mapping" in value:
        return {key: _decode(entry, tensors) for key, entry in value["mapping"]}
    if "class" not in value:  # schema 1 wrote mappings as they are
        return {key: _decode(entry, tensors) for key, entry in value.items()}
    name = str(value["class"])
    kind = _CLASSES[FORMERLY.get(name, name)]
    return kind.from_fields({k: _decode(v, tensors) for k, v in value["fields"].items()})


def check_finite(states: Tensor, name: str) -> None:
    """Raise a SemhubError that says where `states` is NaN or infinite."""
    bad = ~torch.isfinite(states)
    if bad.any():
        first = [int(i) for i in bad.nonzero()[0]]
        raise SemhubError(
            f"{name} of shape {tuple(states.shape)} has {int(bad.sum())} NaN or infinite entries, the first at "
            f"{first}. Check the model's dtype (float16 overflows) and the prompts."
        )
