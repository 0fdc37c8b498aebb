"""The vectors of hooks: checks, and the vector for each selected state."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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


def counts(vectors: Tensor, each: Each) -> tuple[int | None, int | None]:
    """The number of prompts, and of positions, that the vectors are for; None for any number."""
    if each not in ("position", "item"):
        raise SemhubError(f"each= takes 'position' or 'item', got {each!r}.")
    several = len(vectors) if vectors.ndim == 2 else None
    return (several, None) if each == "item" else (None, several)


def pick(vectors: Tensor, states: Tensor, item: Int[Tensor, " n"], rank: Int[Tensor, " n"], each: Each) -> Tensor:
    """Each selected state's vector, with the axes of the states."""
    local = fitting(vectors, states)
    if local.ndim == 1:
        return local
    row = item if each == "item" else rank
    if int(row.max()) >= len(local):
        chosen = "positions selected" if each == "position" else "prompts run"
        raise SemhubError(f"{len(local)} vectors were given, but {int(row.max()) + 1} {chosen}; pass one for each.")
    return _over_heads(local[row], states)


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


def sources(source: Any, chosen: Sequence[int] | slice | None) -> tuple[Tensor, int | list[int]]:
    """The states of a patch, one row of them or one for each prompt, and how many there are (for each prompt)."""
    parts = [source] if isinstance(source, Tensor) else list(source)
    if chosen is not None:
        parts = [_chosen(part, chosen) if part.ndim > 1 else part for part in parts]
    if not parts or any(part.ndim not in (2, 3) or not part.shape[-2] for part in parts):
        got = ", ".join(str(tuple(part.shape)) for part in parts)
        raise SemhubError(f"A patch source must be [pos d_model] or [item pos d_model] and not empty, got {got or []}.")
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        raise SemhubError("The source has NaN or infinite entries.")
    if isinstance(source, Tensor):
        return parts[0], parts[0].shape[-2]
    if len({part.shape[-1] for part in parts}) > 1:
        raise SemhubError(f"The sources have different widths: {[tuple(part.shape) for part in parts]}.")
    return pad_sequence(parts, batch_first=True), [len(part) for part in parts]


def source_states(
    source: Tensor, limits: int | list[int], states: Tensor, item: Int[Tensor, " n"], rank: Int[Tensor, " n"]
) -> Tensor:
    """Each selected state's source, with the axes of the states."""
    local = fitting(source, states)
    most = torch.tensor(limits, device=rank.device)
    if bool((rank >= (most[item] if most.ndim else most)).any()):
        raise SemhubError(
            f"The patch has {int(rank.max()) + 1} positions, but its source has {limits} states; pass one for each."
        )
    if local.ndim == 3 and states.ndim > 2:
        raise SemhubError(
            f"A source {tuple(source.shape)} has one row of states for each prompt, which a site with heads cannot "
            "take: pass [pos d_head], the same for all heads, or use patch_grid(..., site='z')."
        )
    return _over_heads(local[rank] if local.ndim == 2 else local[item, rank], states)


def _over_heads(chosen: Tensor, states: Tensor) -> Tensor:
    """One vector for each state, the same for all heads at a site that has them."""
    return chosen.reshape(len(chosen), *[1] * (states.ndim - 2), chosen.shape[-1])


def _chosen(source: Tensor, chosen: Sequence[int] | slice) -> Tensor:
    """The chosen positions of a source."""
    length = source.shape[-2]
    indices = range(length)[chosen] if isinstance(chosen, slice) else list(chosen)
    if any(not -length <= i < length for i in indices):
        raise SemhubError(f"Source positions {list(indices)} are past the end of a source of {length} positions.")
    return source[..., list(indices), :]
