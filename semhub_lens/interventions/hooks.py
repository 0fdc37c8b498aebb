r"""Hook functions that change activations: add, replace, project_out, swap, patch.

Each returns a hook `(activation, hook) -> activation` that computes in float32 and out of place, keeps dtype and
device, and lets gradients through. `strength=0` changes nothing. `at(layers, fn)` pairs it with hook names (and, only
at the site `resid_mid`, writes the returned value into the activation):

    model.run_with_hooks(tokens, fwd_hooks=at(9, add(direction, strength=4.0, positions=slice(0, 2))))

An intervention shows that a direction is enough to change the output, not that the model uses it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked, is_complex
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.interventions.hook_vectors import (
    Each,
    check_strength,
    checked_vectors,
    counts,
    fitting,
    mirror_axis,
    pick,
    source_states,
    sources,
    unit,
)
from semhub_lens.interventions.positions import Positions, as_positions, check_positions, ranks_of, require_each, whole
from semhub_lens.model.hooking import RESID, WINDOW, HookFunction, PassCounter, Window, site_name

Edit = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(states [n ...], item [n], rank [n]) -> new states`, for the selected states with the index of each one's prompt and
its rank in the list of positions.
"""


@dataclass(frozen=True, eq=False, repr=False)
class PositionedHook:
    """A hook function that edits the states at given absolute positions; made by `add`, `replace`, ..."""

    name: str
    edit: Edit
    positions: Positions = None
    items: int | None = None
    """The number of prompts that it has vectors for; None for any number."""
    vectors: int | Sequence[int] | None = None
    """The number of vectors, one for each position, in total or for each prompt; None for any number of positions."""
    _chunks: PassCounter = field(default_factory=PassCounter)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", as_positions(self.positions))

    def __repr__(self) -> str:
        return self.name

    def __call__(self, activation: Tensor, hook: Any) -> Tensor:
        """Return the activation at this hook with the states at the positions edited, or unchanged without any."""
        window, columns = self._chunks.window(activation, hook)
        if WINDOW not in hook.ctx and not window.generated:  # the library's own runs have called `check`
            self._require_fitting(window, columns, [f"row {row}" for row in range(len(window.items))])
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
        """Compare the positions with a run's prompts.

        Args:
            prompts: the prompts of the run.
            new_tokens: the number of tokens that are generated after them.

        Raises:
            SemhubError: a prompt lacks a position, or their number is not that of the vectors.
        """
        check_positions(self.positions, prompts, new_tokens)
        reached = max(0, new_tokens - 1)
        columns = max(map(len, prompts)) + reached
        self._require_fitting(whole(prompts, reached), columns, [prompt.text for prompt in prompts])

    def _require_fitting(self, window: Window, columns: int, names: Sequence[str | None]) -> None:
        rows = len(names)
        if self.items not in (None, rows):
            raise SemhubError(
                f"The hook has vectors or sources for {self.items} prompts (each='item'), but the run has {rows}."
            )
        if self.vectors is not None:
            each = [self.vectors] * rows if isinstance(self.vectors, int) else self.vectors
            require_each(each, self.positions, window, columns, names)


@checked
def add(
    direction: Float[Tensor, "*k d_model"],
    strength: float = 1.0,
    positions: Positions = None,
    *,
    each: Each = "position",
) -> PositionedHook:
    r"""Add a direction: $h \leftarrow h + s\,v$.

    An effect shows that the direction is enough to change the output, not that the model uses it.

    Args:
        direction: one vector `[d_model]`; or several `[k d_model]`, one for each of k positions in their order, or
            (`each="item"`) one for each prompt.
        strength: the factor s.
        positions: the positions; see `Positions`. None means all, generated tokens included.
        each: whether several vectors belong to positions or to prompts.

    Raises:
        SemhubError: a vector of another shape, or NaN or infinite entries; in the run, another width than the
            activation's, or another number of positions or prompts than of vectors.

    Example:
        >>> direction = torch.ones(tiny_model.cfg.d_model)
        >>> hooks = at(0, add(direction, strength=4.0, positions=-1))
    """
    check_strength(strength)
    vectors = checked_vectors(direction, "direction")

    def add_direction(states: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        return states + strength * pick(vectors, states, item, rank, each)

    return PositionedHook("add", add_direction, positions, *counts(vectors, each))


@checked
def replace(
    state: Float[Tensor, "*k d_model"],
    strength: float = 1.0,
    positions: Positions = None,
    *,
    each: Each = "position",
) -> PositionedHook:
    r"""Replace states: $h \leftarrow h + s\,(v - h)$; at strength 1 the state becomes v.

    Args:
        state: the vector v; its shapes are those of the direction in `add`.
        strength: the factor s.
        positions, each: as in `add`.

    Raises:
        SemhubError: as for `add`.

    Example:
        >>> hooks = at(1, replace(torch.zeros(tiny_model.cfg.d_model), positions=-1))
    """
    check_strength(strength)
    vectors = checked_vectors(state, "state")

    def replace_state(states: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        return torch.lerp(states, pick(vectors, states, item, rank, each).expand_as(states), strength)

    return PositionedHook("replace", replace_state, positions, *counts(vectors, each))


@checked
def project_out(
    direction: Float[Tensor, " d_model"], strength: float = 1.0, positions: Positions = None
) -> PositionedHook:
    r"""Remove the component along a direction: $h \leftarrow h - s\,(h \cdot \hat v)\,\hat v$.

    The output may still depend on other directions with the same information.

    Args:
        direction: the vector v, `[d_model]`.
        strength: the factor s; 1 removes the whole component.
        positions: the positions; see `Positions`.

    Raises:
        SemhubError: not one non-zero vector `[d_model]`.

    Example:
        >>> hooks = at(1, project_out(torch.ones(tiny_model.cfg.d_model)))
    """
    return _taking_away("project_out", lambda: unit(direction, "direction"), strength, 1, positions)


@checked
def swap(
    a: Float[Tensor, " d_model"], b: Float[Tensor, " d_model"], strength: float = 1.0, positions: Positions = None
) -> PositionedHook:
    r"""Swap two directions: reflect states in the hyperplane midway between them.

    $h \leftarrow h - 2 s\,(h \cdot w)\,w$ with $w = (\hat a - \hat b) / \lVert \hat a - \hat b \rVert$. A state along a
    is turned to b, and a state along b to a. Components orthogonal to both stay, and at strength 1 norms are kept.

    Args:
        a, b: the directions, `[d_model]`; their lengths do not matter.
        strength: the factor s; 1 swaps, 0 changes nothing.
        positions: the positions; see `Positions`.

    Raises:
        SemhubError: a and b have the same direction.

    Example:
        >>> one, two = torch.eye(tiny_model.cfg.d_model)[:2]
        >>> hooks = at(1, swap(one, two))
    """
    return _taking_away("swap", lambda: mirror_axis(a, b), strength, 2, positions)


def _taking_away(
    name: str, axis: Callable[[], Tensor], strength: float, times: int, positions: Positions
) -> PositionedHook:
    """Remove `strength * times` of the component along an axis, which is computed each time: it may be trained."""
    check_strength(strength)
    axis()  # refuses what is no direction before a model runs

    def take_away(states: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        along = fitting(axis(), states)
        return states - strength * times * (states @ along)[..., None] * along

    return PositionedHook(name, take_away, positions)


@checked
def patch(
    source: Float[Tensor, "*item pos d_model"] | Sequence[Float[Tensor, "_ d_model"]],
    positions: Positions = None,
    *,
    source_positions: Sequence[int] | slice | None = None,
    strength: float = 1.0,
) -> PositionedHook:
    r"""Write the states of another run over the states at `positions` (activation patching).

    $h_p \leftarrow h_p + s\,(h^{source}_q - h_p)$ for each position p and its source position q.

    An effect shows that these states are enough to change the output here, not that the other run needs them.

    Args:
        source: the other run's states at the same hook point, `[pos d_model]`. For one source for each prompt
            `[item pos d_model]`, or a list if their lengths differ.
        positions: the positions to write, in order; as many as the source has.
        source_positions: the source's positions, in the same order; None uses all of `source` in order.
        strength: 1 replaces, 0 changes nothing.

    Raises:
        SemhubError: empty source, source positions past its end, or (in the run) another number of positions or
            prompts than of source states.

    Example:
        >>> states = residual_stream(tiny_model, "five", read="last", progress=False)[1]
        >>> hooks = at(1, patch(states, positions=[-1]))
    """
    check_strength(strength)
    states, number = sources(source, source_positions)

    def write_source(current: Tensor, item: Tensor, rank: Tensor) -> Tensor:
        return torch.lerp(current, source_states(states, number, current, item, rank).expand_as(current), strength)

    return PositionedHook("patch", write_source, positions, len(states) if states.ndim == 3 else None, number)


@checked
def at(
    layers: SupportsIndex | Iterable[SupportsIndex], fn: HookFunction, site: str = RESID
) -> list[tuple[str, HookFunction]]:
    """Pair a hook function with the hook names of residual entries, or of a site in blocks; join such lists with `+`.

    Layers are entries of the residual axis, as in every result and direction: 0 is the embedding (input of block 0), l
    is the residual stream after block l-1, and the last one is after the last block. A probe of this library sees the
    edit at entry l, but not at l-1. Entry l is edited at the output of block l-1. If a model adds something before the
    next block (Qwen3-VL: picture features), it does so after the edit; to edit after that, use `site="resid_pre"` of
    block l.

    Args:
        layers: one or several residual entries; with another `site`, indices of blocks.
        fn: any hook function `(activation, hook) -> activation`.
        site: "resid" for residual entries; "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out" or "z" for a
            site in blocks.

    Returns:
        A list of `(hook name, function)`, for `run_with_hooks(fwd_hooks=...)` or any `hooks=`.

    Raises:
        SemhubError: no layers, negative layer, unknown site. An entry after the last one is reported by the run.

    Example:
        >>> [name for name, _ in at([0, 1], add(torch.ones(4)))]
        ['blocks.0.hook_resid_pre', 'blocks.0.hook_resid_post']
        >>> [name for name, _ in at(1, add(torch.ones(4)), site="attn_out")]
        ['blocks.1.hook_attn_out']
    """
    several = layers if isinstance(layers, Iterable) and getattr(layers, "ndim", 1) else [layers]
    listed = [whole_number(layer, "A layer") for layer in several]
    if not listed:
        raise SemhubError("at() got no layers; pass one or several.")
    wrapped = _InPlace(fn) if site == "resid_mid" else fn
    return [(site_name(layer, site), wrapped) for layer in listed]


@dataclass(frozen=True)
class _InPlace:
    """Edit `resid_mid` in place: on a bridge, a returned tensor would reach the MLP but not the residual stream."""

    fn: HookFunction

    def __call__(self, activation: Tensor, hook: Any) -> Tensor | None:
        new = self.fn(activation, hook=hook)
        if new is None or new is activation or is_complex(new):  # runs refuse complex numbers
            return new
        return activation.copy_(new)

    def check(self, prompts: Sequence[Prompt], new_tokens: int) -> None:
        if (check := getattr(self.fn, "check", None)) is not None:
            check(prompts, new_tokens)
