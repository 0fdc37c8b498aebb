"""Steering vectors as files: directions that belong to one model and are refused by others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.files import user_path
from semhub_lens.base.results import Result
from semhub_lens.interventions.hooks import add, at
from semhub_lens.interventions.positions import Positions
from semhub_lens.model.facts import Model, identity, provenance_of, require_model, same_model
from semhub_lens.model.hooking import Hooks, n_layers


@dataclass(frozen=True, eq=False)
class SteeringVector(Result):
    """Directions in the residual stream of one model, at one or several layers.

    A vector that moves one output may not move another. Use a direction at the layer at which it was read.

    Example:
        >>> vector = SteeringVector.make(tiny_model, "two - five", {1: direction.words(tiny_model, "two", "five", 1)})
        >>> [name for name, _ in vector.hooks(2.0, positions=-1)]
        ['blocks.0.hook_resid_post']
        >>> vector.check(tiny_model)  # says nothing: it is the model of this vector
        >>> SteeringVector.load("two_five.safetensors", tiny_model).hooks(2.0)  # doctest: +SKIP
    """

    name: str
    """A description."""
    layers: tuple[int, ...]
    """Residual entries (0 = embedding, `n_layers` = after the last block)."""
    directions: Float[Tensor, "layer d_model"]
    n_layers: int
    """Blocks of the model."""

    @classmethod
    @checked
    def make(cls, model: Model, name: str, directions: Mapping[int, Float[Tensor, " d_model"]]) -> "SteeringVector":
        """Make a vector for this model from directions by layer.

        Args:
            model: any TransformerLens model.
            name: a description.
            directions: by residual entry (0 = embedding), `[d_model]` each.

        Raises:
            SemhubError: no directions, a direction of another width, zero, NaN or infinite, or a layer out of range.
        """
        require_model(model)
        listed, blocks = [(whole_number(layer, "A layer"), own) for layer, own in directions.items()], n_layers(model)
        directions, layers = dict(listed), sorted(layer for layer, _ in listed)
        if not layers or len(directions) < len(listed) or layers[0] < 0 or layers[-1] > blocks:
            raise SemhubError(f"A steering vector has directions at residual entries 0 to {blocks}, got {layers}.")
        for layer in layers:
            _check_direction(directions[layer], layer, int(model.cfg.d_model))
        stacked = torch.stack([directions[layer].detach().float().cpu() for layer in layers])
        return cls(name, tuple(layers), stacked, blocks, provenance=provenance_of(model))

    @classmethod
    @checked
    def from_tensor(
        cls, model: Model, source: Tensor | str | Path, layer: int | Sequence[int], *, name: str = "imported"
    ) -> "SteeringVector":
        """Load a vector from another program: a tensor, or a safetensors file with one tensor.

        Args:
            model: the model that it was made for; only the width can be compared.
            source: `[d_model]`, or `[layer d_model]` for several layers.
            layer: the residual entry of every row. Many programs count blocks: the output of their block l is entry l +
                1 here.
            name: a description.

        Raises:
            SemhubError: not a safetensors file or one with several tensors, or a shape that matches neither model nor
                layers.

        Example:
            >>> vector = SteeringVector.from_tensor(tiny_model, torch.ones(tiny_model.cfg.d_model), layer=2)
            >>> vector.layers
            (2,)
        """
        if not isinstance(source, Tensor | str | Path):
            raise SemhubError(f"Expected a tensor or the path of a file with one, got {type(source).__name__}.")
        tensor = source if isinstance(source, Tensor) else _only_tensor(user_path(source))
        listed = isinstance(layer, Iterable) and getattr(layer, "ndim", 1) > 0
        layers = list(cast(Iterable[int], layer)) if listed else [whole_number(layer, "layer=")]
        rows = tensor[None] if tensor.ndim == 1 else tensor
        if rows.ndim != 2 or len(rows) != len(layers) or len({*map(int, layers)}) < len(layers):
            raise SemhubError(
                f"Expected [d_model] or [layer d_model] for {len(layers)} different layer(s), got shape "
                f"{tuple(tensor.shape)} for {layers}."
            )
        return cls.make(model, name, dict(zip(layers, rows, strict=True)))

    @classmethod
    @checked
    def load(cls, path: str | Path, model: Model | None = None, *, any_model: bool = False) -> "SteeringVector":
        """Read a vector that `save` wrote.

        Args:
            path: the file.
            model: the model to steer; None does not compare.
            any_model: accept another model with the same width and depth (fine-tuned, or in another precision).

        Raises:
            SemhubError: no such file, not a steering vector, or made for another model. Another width or depth is
                always refused, another name or weights unless `any_model`.
        """
        vector = super().load(path)
        if model is not None:
            vector.check(model, any_model=any_model)
        return vector

    @checked
    def check(self, model: Model, *, any_model: bool = False) -> None:
        """Compare the vector with a model.

        Args:
            model: the model to steer.
            any_model: as in `load`.

        Raises:
            SemhubError: the vector was made for another model.
        """
        require_model(model)
        shape = self.directions.shape[1], self.n_layers
        wanted = int(model.cfg.d_model), n_layers(model)
        if shape != wanted:
            raise SemhubError(
                f"The steering vector {self.name!r} has width {shape[0]} and was made for {shape[1]} blocks "
                f"({self.provenance.model}); this model has width {wanted[0]} and {wanted[1]} blocks."
            )
        own, made = provenance_of(model), self.provenance
        if not any_model and not same_model(own, made):
            raise SemhubError(
                f"The steering vector {self.name!r} was made for {identity(made)}, but this model is {identity(own)}. "
                "Directions do not transfer between models; pass any_model=True to use it anyway."
            )

    @checked
    def hooks(
        self, strength: float = 1.0, *, positions: Positions = None, layers: Sequence[int] | None = None
    ) -> Hooks:
        """Hooks that add strength times each direction at its layer.

        Args:
            strength: the factor.
            positions: the positions; see `Positions`. None means all, generated tokens included.
            layers: some of the vector's layers; None means all.

        Raises:
            SemhubError: a layer that the vector does not have.
        """
        chosen = self.layers if layers is None else tuple(layers)
        if missing := [layer for layer in chosen if layer not in self.layers]:
            raise SemhubError(f"The vector {self.name!r} has no direction at layers {missing}, only at {self.layers}.")
        return [pair for layer in chosen for pair in at(layer, add(self[layer], strength, positions))]

    @checked
    def __getitem__(self, layer: int) -> Float[Tensor, " d_model"]:
        """The direction of a layer."""
        if layer not in self.layers:
            raise SemhubError(f"The vector {self.name!r} has no direction at layer {layer}, only at {self.layers}.")
        return self.directions[self.layers.index(layer)]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer: the direction's norm."""
        return pd.DataFrame({"name": self.name, "layer": self.layers, "norm": self.directions.norm(dim=1).tolist()})


def _check_direction(direction: Tensor, layer: int, d_model: int) -> None:
    if not isinstance(direction, Tensor) or direction.shape != (d_model,):
        got = f"shape {tuple(direction.shape)}" if isinstance(direction, Tensor) else type(direction).__name__
        raise SemhubError(f"The direction at layer {layer} has {got}, but this model needs [{d_model}].")
    if not torch.isfinite(direction).all() or not bool(direction.any()):
        raise SemhubError(f"The direction at layer {layer} is 0, NaN or infinite.")


def _only_tensor(path: Path) -> Tensor:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise SemhubError(f"{path} is not a safetensors file: {error}") from error
    if len(tensors) != 1:
        raise SemhubError(f"{path} has {len(tensors)} tensors ({', '.join(tensors) or 'none'}), expected one.")
    return next(iter(tensors.values()))
