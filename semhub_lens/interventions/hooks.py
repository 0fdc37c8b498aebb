r"""Hook functions that change activations: add, replace, project_out, swap, patch.

Each returns a hook `(activation, hook) -> activation` that works out of place and in float32, keeps dtype and device,
and lets gradients through. `strength=0` changes nothing. `at(layers, fn)` pairs it with hook names (and, at the one
site `resid_mid`, writes what the hook returns into the activation):

    model.run_with_hooks(tokens, fwd_hooks=at(9, add(direction, strength=4.0, positions=slice(0, 2))))

An intervention shows that a direction suffices to change the output, not that the model uses it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.interventions.positions import Positions, as_positions, check_positions, ranks_of
from semhub_lens.model.hooking import RESID, HookFunction, PassCounter, site_name

Edit = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(states [n ...], item [n], rank [n]) -> new states`: of the selected states, with the index of each one's prompt and
its rank in the list of positions."""
Each = Literal["position", "item"]
"""What every one of several vectors `[k d_model]` belongs to: the k positions in their order, or the k prompts."""


@dataclass(frozen=True, eq=False, repr=False)
class PositionedHook:
    """A hook function that edits the states at given absolute positions; made by `add`, `replace`, ..."""

    name: str
    edit: Edit
    positions: Positions = None
    items: int | None = None
    """How many prompts it has vectors for; None for any number."""
    _chunks: PassCounter = field(default_factory=PassCounter)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", as_positions(self.positions))

    def __repr__(self) -> str:
        return self.name

    def __call__(self, activation: Tensor, hook: Any) -> Tensor:
        """Return the activation with the states at the positions edited, or as it is where there are none."""
        window, columns = self._chunks.window(activation, hook)
        ranks = ranks_of(self.positions, window, columns)
        rows, cols = (ranks >= 0).nonzero(as_tuple=True)
        if not len(rows):
            return activation
        device = activation.device
        new = self.edit(activation[rows, cols].float(), window.items[rows].to(device), ranks[rows, cols].to(device))
        out = activation.clone()
        out[rows, cols] = new.to(activation.dtype)
        return out

    def check(self, prompts: Sequence[Prompt], new_tokens: int) -> None:
        """Raise a SemhubError if these prompts, with `new_tokens` generated after them, lack the positions."""
        if self.items is not None and self.items != len(prompts):
            raise SemhubError(
                f"The hook has vectors for {self.items} prompts (each='item'), but the run has {len(prompts)}."
            )
        check_positions(self.positions, prompts, new_tokens)


@checked
def add(
    direction: Float[Tensor, "*k d_model"],
    strength: float = 1.0,
    positions: Positions = None,
    *,
    each: Each = "position",
) -> PositionedHook:
    r"""Add a direction: $h \leftarrow h + s\,v$.

    Args:
        direction: one vector, or one for each of k positions in their order, or (`each="item"`) one for each prompt.
        strength: the factor s.
        positions: where; see `Positions`. None is everywhere, generated tokens included.
        each: what every one of several vectors belongs to.

    Example:
        >>> direction = torch.ones(tiny_model.cfg.d_model)
        >>> hooks = at(0, add(direction, strength=4.0, positions=-1))
    """
    _check_strength(strength)
    vectors = _vectors(direction, "direction")

    def add_direction(states: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        return states + strength * _pick(vectors, states, item, rank, each)

    return PositionedHook("add", add_direction, positions, _count(vectors, each))


@checked
def replace(
    state: Float[Tensor, "*k d_model"],
    strength: float = 1.0,
    positions: Positions = None,
    *,
    each: Each = "position",
) -> PositionedHook:
    r"""Replace states: $h \leftarrow h + s\,(v - h)$; at strength 1 the state becomes v. `each` is as in `add`."""
    _check_strength(strength)
    vectors = _vectors(state, "state")

    def replace_state(states: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        return torch.lerp(states, _pick(vectors, states, item, rank, each).expand_as(states), strength)

    return PositionedHook("replace", replace_state, positions, _count(vectors, each))


@checked
def project_out(
    direction: Float[Tensor, " d_model"], strength: float = 1.0, positions: Positions = None
) -> PositionedHook:
    r"""Remove the component along a direction: $h \leftarrow h - s\,(h \cdot \hat v)\,\hat v$."""
    return _taking_away("project_out", lambda: _unit(direction, "direction"), strength, 1, positions)


@checked
def swap(
    a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"], strength: float = 1.0, positions: Positions = None
) -> PositionedHook:
    r"""Exchange two directions: reflect states in the hyperplane midway between them.

    $h \leftarrow h - 2 s\,(h \cdot w)\,w$ with $w = (\hat a - \hat b) / \lVert \hat a - \hat b \rVert$: a state along a
    comes to lie along b and the other way round, what is orthogonal to both stays, and at strength 1 norms are kept.

    Raises:
        SemhubError: a and b point the same way.
    """
    return _taking_away("swap", lambda: _axis(a, b), strength, 2, positions)


def _taking_away(
    name: str, axis: Callable[[], Tensor], strength: float, times: int, positions: Positions
) -> PositionedHook:
    """Take the component along an axis away, `strength * times` of it; the axis is made anew, as it may be trained."""
    _check_strength(strength)
    axis()  # refuses what is no direction before a model runs

    def take_away(states: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        along = _fitting(axis(), states)
        return states - strength * times * (states @ along)[..., None] * along

    return PositionedHook(name, take_away, positions)


@checked
def patch(
    source: Float[Tensor, "*item pos d_model"],
    positions: Positions = None,
    *,
    source_positions: Sequence[int] | slice | None = None,
    strength: float = 1.0,
) -> PositionedHook:
    """Write the states of another run over the states at `positions` (activation patching).

    Args:
        source: the other run's states at the same hook point, `[pos d_model]`, or `[item pos d_model]` for one source a
            prompt.
        positions: where they go, in order.
        source_positions: which of the source's positions, in the same order; None takes all of `source` in order.
        strength: 1 replaces, 0 changes nothing.

    Raises:
        SemhubError: empty source, source positions past its end, or (in the run) more positions than source states.
    """
    _check_strength(strength)
    if not torch.isfinite(source).all():
        raise SemhubError("The source holds NaN or infinite entries.")
    states = source if source_positions is None else _picked(source, source_positions)
    if states.ndim not in (2, 3) or not states.shape[-2]:
        raise SemhubError(
            f"A patch source must be [pos d_model] or [item pos d_model] and not empty, got {tuple(source.shape)}."
        )

    def write_source(current: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        if int(rank.max()) >= states.shape[-2]:
            raise SemhubError(
                f"The patch names {int(rank.max()) + 1} positions, but its source has {states.shape[-2]} states."
            )
        if states.ndim == 3 and int(item.max()) >= len(states):
            raise SemhubError(f"The patch has sources for {len(states)} prompts, but the run has more.")
        local = states.to(current.device).float()
        return torch.lerp(current, local[rank] if states.ndim == 2 else local[item, rank], strength)

    return PositionedHook("patch", write_source, positions)


@checked
def at(
    layers: SupportsIndex | Iterable[SupportsIndex], fn: HookFunction, site: str = RESID
) -> list[tuple[str, HookFunction]]:
    """Pair a hook function with the hook names of residual entries, or of a site in blocks; lists add up with `+`.

    Layers are entries of the residual axis, as in every result and direction: 0 is the embedding (input of block 0), l
    the residual stream after block l-1, the last one that after the last block. A probe of the library sees the edit at
    entry l, and nothing of it at l-1. Entry l is edited at the output of block l-1; a model that adds something before
    the next block (Qwen3-VL: picture features) adds it after the edit, there `site="resid_pre"` of block l has the last
    word.

    Args:
        layers: a residual entry, or several; with another `site` the numbers of blocks.
        fn: any hook function `(activation, hook) -> activation`.
        site: "resid" for residual entries; "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out" or "z" for a
            site of blocks.

    Raises:
        SemhubError: no layers, negative layer, unknown site. That an entry is past the last one shows in the run.

    Example:
        >>> [name for name, _ in at([0, 1], add(torch.ones(4)))]
        ['blocks.0.hook_resid_pre', 'blocks.0.hook_resid_post']
        >>> [name for name, _ in at(1, add(torch.ones(4)), site="attn_out")]
        ['blocks.1.hook_attn_out']
    """
    several = layers if isinstance(layers, Iterable) else [layers]
    listed = [whole_number(layer, "A layer") for layer in several]
    if not listed:
        raise SemhubError("at() got no layers; give one or several.")
    wrapped = _write_through(fn) if site == "resid_mid" else fn
    return [(site_name(layer, site), wrapped) for layer in listed]


def _write_through(fn: HookFunction) -> HookFunction:
    """Edit `resid_mid` in place: on a bridge a returned tensor would reach the MLP but not the residual stream."""

    def write(activation: Tensor, hook: Any) -> Tensor | None:
        new = fn(activation, hook=hook)
        return activation if new is None or new is activation else activation.copy_(new)

    return write


def _check_strength(strength: float) -> None:
    if not isinstance(strength, Real | Tensor):
        raise SemhubError(f"strength= is a number, got {strength!r}.")


def _vectors(vectors: Tensor, name: str) -> Tensor:
    if not isinstance(vectors, Tensor) or vectors.ndim not in (1, 2) or vectors.numel() == 0:
        got = f"shape {tuple(vectors.shape)}" if isinstance(vectors, Tensor) else type(vectors).__name__
        raise SemhubError(f"{name} must be a tensor [d_model] or [k d_model], got {got}.")
    if not torch.isfinite(vectors).all():
        raise SemhubError(f"{name} holds NaN or infinite entries.")
    return vectors


def _fitting(vectors: Tensor, states: Tensor) -> Tensor:
    """The vectors beside the states they change, in float32; as they are now, so that they may be trained."""
    if vectors.shape[-1] != states.shape[-1]:
        raise SemhubError(
            f"The vector has {vectors.shape[-1]} entries, the activation {states.shape[-1]}: another model or another "
            "site?"
        )
    return vectors.to(states.device).float()


def _count(vectors: Tensor, each: Each) -> int | None:
    if each not in ("position", "item"):
        raise SemhubError(f"each= takes 'position' or 'item', got {each!r}.")
    return len(vectors) if each == "item" and vectors.ndim == 2 else None


def _pick(vectors: Tensor, states: Tensor, item: Int[Tensor, " n"], rank: Int[Tensor, " n"], each: Each) -> Tensor:
    local = _fitting(vectors, states)
    if local.ndim == 1:
        return local
    row = item if each == "item" else rank
    if int(row.max()) >= len(local):
        chosen = "positions selected" if each == "position" else "prompts run"
        raise SemhubError(f"{len(local)} vectors were given, but {int(row.max()) + 1} {chosen}; give one for each.")
    between = [1] * (states.ndim - 2)  # heads, at a site that has them
    return local[row].reshape(len(row), *between, local.shape[-1])


def _axis(a: Tensor, b: Tensor) -> Tensor:
    one, other = _unit(a, "a"), _unit(b, "b")
    if one.shape != other.shape:
        raise SemhubError(f"swap needs two directions of one width, got {len(one)} and {len(other)} entries.")
    difference = one - other
    if difference.norm() < 1e-6:
        raise SemhubError("swap needs two different directions, but a and b point the same way.")
    return difference / difference.norm()


def _unit(direction: Tensor, name: str) -> Tensor:
    vector = _vectors(direction, name).float()
    if vector.ndim != 1 or vector.norm() == 0:
        raise SemhubError(f"{name} must be one non-zero vector [d_model], got shape {tuple(direction.shape)}.")
    return vector / vector.norm()


def _picked(source: Tensor, chosen: Sequence[int] | slice) -> Tensor:
    length = source.shape[-2]
    indices = range(length)[chosen] if isinstance(chosen, slice) else list(chosen)
    if any(not -length <= i < length for i in indices):
        raise SemhubError(f"Source positions {list(indices)} are past the end of a source of {length} positions.")
    return source[..., list(indices), :]
