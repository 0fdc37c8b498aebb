"""The vectors of hooks: checks, and the vector for each selected state."""

from collections.abc import Sequence
from numbers import Real
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError

Each = Literal["position", "item"]
"""The meaning of several vectors `[k d_model]`: one for each of k positions in order, or for each of k prompts."""


def check_strength(strength: float) -> None:
    """Raise a SemhubError for a strength that is not a number."""
    if not isinstance(strength, Real | Tensor):
        raise SemhubError(f"strength= is a number, got {strength!r}.")


def checked_vectors(vectors: Tensor, name: str) -> Tensor:
    """The vectors; a SemhubError unless they are `[d_model]` or `[k d_model]` and finite."""
    if not isinstance(vectors, Tensor) or vectors.ndim not in (1, 2) or vectors.numel() == 0:
        got = f"shape {tuple(vectors.shape)}" if isinstance(vectors, Tensor) else type(vectors).__name__
        raise SemhubError(f"{name} must be a tensor [d_model] or [k d_model], got {got}.")
    if not torch.isfinite(vectors).all():
        raise SemhubError(f"{name} has NaN or infinite entries.")
    return vectors


def fitting(vectors: Tensor, states: Tensor) -> Tensor:
    """The vectors on the device of the states, in float32; with their current values, because they may be trained."""
    if vectors.shape[-1] != states.shape[-1]:
        raise SemhubError(
            f"The vector has {vectors.shape[-1]} entries, but the activation has {states.shape[-1]}: is it for another "
            "model or site?"
        )
    return vectors.to(states.device).float()


def count(vectors: Tensor, each: Each) -> int | None:
    """The number of prompts that the vectors are for; None for any number."""
    if each not in ("position", "item"):
        raise SemhubError(f"each= takes 'position' or 'item', got {each!r}.")
    return len(vectors) if each == "item" and vectors.ndim == 2 else None


def pick(vectors: Tensor, states: Tensor, item: Int[Tensor, " n"], rank: Int[Tensor, " n"], each: Each) -> Tensor:
    """Each selected state's vector, with the axes of the states."""
    local = fitting(vectors, states)
    if local.ndim == 1:
        return local
    row = item if each == "item" else rank
    if int(row.max()) >= len(local):
        chosen = "positions selected" if each == "position" else "prompts run"
        raise SemhubError(f"{len(local)} vectors were given, but {int(row.max()) + 1} {chosen}; pass one for each.")
    between = [1] * (states.ndim - 2)  # heads, at a site that has them
    return local[row].reshape(len(row), *between, local.shape[-1])


def mirror_axis(a: Tensor, b: Tensor) -> Tensor:
    """The unit vector between two directions, in which `swap` reflects."""
    one, other = unit(a, "a"), unit(b, "b")
    if one.shape != other.shape:
        raise SemhubError(f"swap needs two directions of equal width, got {len(one)} and {len(other)} entries.")
    difference = one - other
    if difference.norm() < 1e-6:
        raise SemhubError("swap needs two different directions, but a and b have the same direction.")
    return difference / difference.norm()


def unit(direction: Tensor, name: str) -> Tensor:
    """A direction at unit length."""
    vector = checked_vectors(direction, name).float()
    if vector.ndim != 1 or vector.norm() == 0:
        raise SemhubError(f"{name} must be one non-zero vector [d_model], got shape {tuple(direction.shape)}.")
    return vector / vector.norm()


def chosen_states(source: Tensor, chosen: Sequence[int] | slice) -> Tensor:
    """The chosen positions of a source."""
    length = source.shape[-2]
    indices = range(length)[chosen] if isinstance(chosen, slice) else list(chosen)
    if any(not -length <= i < length for i in indices):
        raise SemhubError(f"Source positions {list(indices)} are past the end of a source of {length} positions.")
    return source[..., list(indices), :]
