"""Frozen results: what was measured, where it came from, and how to keep it.

A result stores the raw measurement; everything derived is a property. `save` writes one safetensors file (tensors plus
a JSON header); nothing is ever pickled.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from semhub_lens.files import write_aside

R = TypeVar("R", bound="Result")


@dataclass(frozen=True)
class Provenance:
    """Which model, read how, on which data, with which seed."""

    model: str
    weights: str
    """First 12 hex digits of a SHA-256 over a sample of the unembedding: tells two checkpoints of one name apart."""
    model_class: str
    dtype: str
    device: str
    processing: str
    """What TransformerLens did to the weights: "none", or "folded" / "centred"."""
    bos: bool
    padding: str = "right"
    norm: str | None = None
    data: str | None = None
    data_hash: str | None = None
    seed: int | None = None
    transformer_lens: str = field(default_factory=lambda: version("transformer-lens"))
    semhub_lens: str = field(default_factory=lambda: version("semhub-lens"))

    def line(self) -> str:
        """One short line for the foot of a figure."""
        parts = [self.model, f"weights {self.weights}", self.model_class, self.dtype]
        parts += [f"processing {self.processing}", "BOS" if self.bos else "no BOS"]
        parts += [f"norm {self.norm}"] if self.norm else []
        parts += [f"data {self.data}" + (f" ({self.data_hash})" if self.data_hash else "")] if self.data else []
        parts += [f"seed {self.seed}"] if self.seed is not None else []
        return " · ".join([*parts, f"transformer-lens {self.transformer_lens}", f"semhub-lens {self.semhub_lens}"])


def unnamed(seed: int | None = None) -> Provenance:
    """The provenance of states that the caller did not name."""
    return Provenance("unnamed states", "-", "-", "float32", "cpu", "unknown", False, seed=seed)


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results: provenance, a tidy table, a file, and a figure in a notebook."""

    provenance: Provenance = field(kw_only=True)
    _nested: ClassVar[tuple[type, ...]] = (Provenance,)

    def to_frame(self) -> pd.DataFrame:
        """Return the measurement as a tidy table, one observation a row."""
        raise NotImplementedError(f"{type(self).__name__} has no table form")

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file and return its path; the file appears only when complete."""
        path = Path(path)
        tensors: dict[str, Tensor] = {}
        header = json.dumps(_encode(self, "", tensors))
        return write_aside(path, lambda aside: save_file(tensors, aside, metadata={"semhub_lens": header}))

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read a result that `save` wrote.

        Raises:
            ValueError: no such file, not one of ours, or a result of another class.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"No saved result at {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["semhub_lens"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:  # the reader raises its own types on a file of another kind
            raise ValueError(f"{path} is not a result that semhub_lens saved: {error}") from error
        if header["class"] != cls.__name__:
            raise ValueError(f"{path} holds a {header['class']}, not a {cls.__name__}; use {header['class']}.load.")
        return _decode(header, tensors, {cls.__name__: cls} | {c.__name__: c for c in cls._nested})

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        from semhub_lens.viz import figure  # the one arrow back: a result shows itself

        return figure(self)._repr_mimebundle_(include, exclude)


def _encode(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[key] = value.detach().cpu().contiguous()
        return {"tensor": key}
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        encoded = {name: _encode(getattr(value, name), f"{key}.{name}".lstrip("."), tensors) for name in names}
        return {"class": type(value).__name__, "fields": encoded}
    if isinstance(value, tuple | list):
        return [_encode(item, f"{key}.{i}", tensors) for i, item in enumerate(value)]
    return value


def _decode(value: Any, tensors: dict[str, Tensor], classes: dict[str, type]) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, tensors, classes) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return classes[value["class"]](**{k: _decode(v, tensors, classes) for k, v in value["fields"].items()})


def check_finite(states: Tensor, name: str) -> None:
    """Raise a ValueError that says where `states` is NaN or infinite."""
    bad = ~torch.isfinite(states)
    if bad.any():
        first = [int(i) for i in bad.nonzero()[0]]
        raise ValueError(
            f"{name} of shape {tuple(states.shape)} holds {int(bad.sum())} NaN or infinite entries, the first at "
            f"{first}. Check the model's dtype (float16 overflows) and the prompts."
        )
