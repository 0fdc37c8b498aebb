"""Hook points: their names, and runs of a model under hooks.

Layer axis: index 0 is the embedding (input of block 0), l is the residual stream after block l-1, and the last one is
the state after the last block; all are before the final norm. Runs end at that last state, before the unembedding.
"""

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit, whole_number
from semhub_lens.base.foreign import listed_once
from semhub_lens.inputs.media import ENTRY, Writes
from semhub_lens.model.facts import (
    Model,
    cache_passed_on,
    evaluating,
    input_device,
    mid_lies_behind,
    require_fired,
    require_model,
    require_weights,
)
from semhub_lens.model.rotary import forget_lengths

HookFunction = Callable[..., Tensor | None]
"""`(activation, hook) -> activation`, or None for a hook that only reads."""
Hooks = Sequence[tuple[str, HookFunction]]
"""The hooks of `model.run_with_hooks(fwd_hooks=...)`: pairs of hook name and hook function."""

WINDOW = "semhub_window"
BEFORE_THE_END = ("blocks.", "hook_embed", "hook_pos_embed", "embed.", "pos_embed.")
"""Hook points with these names come before the last residual state."""
RESID = "resid"
"""The site whose layers are entries of the residual axis, not blocks."""
SITES = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
}


def n_layers(model: Model) -> int:
    """Number of blocks; results have `n_layers + 1` residual entries."""
    require_model(model)
    return int(model.cfg.n_layers)


def site_name(layer: int, site: str) -> str:
    """Hook name of a site in block `layer`, or (`site="resid"`) of the place where residual entry `layer` is edited.

    The names are valid on both model classes and need no model. Entry l is edited at the output of block l-1, just
    before the input of block l, where probes read it.

    Raises:
        SemhubError: unknown site or negative layer.
    """
    if site != RESID and site not in SITES:
        raise SemhubError(f"Unknown site {site!r}; expected one of {', '.join([RESID, *SITES])}.")
    if layer < 0:
        raise SemhubError(f"Layer {layer} is negative; blocks and residual entries start at 0.")
    if site == RESID:
        return site_name(layer - 1, "resid_post") if layer else ENTRY
    return f"blocks.{layer}.{SITES[site]}"


@checked
def residual_names(model: Model) -> list[str]:
    """Hook names of the model's residual axis: the input of every block, then the output of the last block.

    Example:
        >>> residual_names(tiny_model)[-1]
        'blocks.2.hook_resid_post'
    """
    blocks = n_layers(model)
    return [site_name(layer, "resid_pre") for layer in range(blocks)] + [site_name(blocks - 1, "resid_post")]


def require_entry(model: Model, layer: int) -> int:
    """The layer as an index of the residual axis; a SemhubError if it is out of range."""
    if not 0 <= whole_number(layer, "A layer") <= n_layers(model):
        raise SemhubError(f"Layer {layer} is out of range: the residual stream has entries 0 to {n_layers(model)}.")
    return int(layer)


def hook_names(hooks: Hooks) -> list[str]:
    """Names of the hook points.

    Raises:
        SemhubError: an entry that is not a pair of a name and a function.
    """
    for entry in hooks if isinstance(hooks, list | tuple) else [hooks]:
        if not (isinstance(entry, tuple | list) and len(entry) == 2 and callable(entry[1])):
            raise SemhubError(
                f"Hooks are a list of pairs (hook name, function), as shl.at(layer, fn) makes them; got {entry!r}."
            )
    return [name for name, _ in hooks]


def require_hooks(model: Model, names: Sequence[str]) -> None:
    """Raise a SemhubError for a hook name that the model lacks (a bridge of the 3.9 line would ignore it silently)."""
    known = model.hook_dict
    for name in names:
        if name.endswith(SITES["resid_mid"]) and mid_lies_behind(model):
            raise Unfit(
                f"The blocks of {model.cfg.model_name} norm their output, so {name!r} in transformer-lens is the state "
                "after the MLP, not between attention and MLP. Use attn_out, mlp_out or a residual entry."
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            blocks = n_layers(model)
            raise Unfit(
                f"The model has no hook point {name!r} (it has {blocks} blocks, 0 to {blocks - 1}, and the residual "
                f"entries 0 to {blocks}; entry l is the output of block l-1). Nearest: {', '.join(close) or 'none'}."
            )


@dataclass(frozen=True, eq=False)
class Window:
    """The prompts and positions of one forward pass; hooks use it to find absolute positions.

    Runners of this library put it into the context of every hook point (`hook.ctx`), so your own hooks see it too.
    """

    items: Int[Tensor, " batch"]
    """Index of each row in the user's list of prompts."""
    starts: Int[Tensor, " batch"]
    """Absolute position of the first column; negative if a row is padded on the left."""
    lengths: Int[Tensor, " batch"]
    """Prompt lengths."""
    spans: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    generated: int = 0
    """Tokens generated after each prompt so far; later columns are padding."""
    run: object = None
    """Identifies the run that a pass belongs to."""
    writes: tuple[Writes | None, ...] = ()
    """For each row, embeddings that replace some of its positions before block 0."""

    def positions(self, columns: int) -> Int[Tensor, "batch pos"]:
        """Absolute position of every column; -1 in padding."""
        absolute = self.starts[:, None] + torch.arange(columns)
        real = (absolute >= 0) & (absolute < self.lengths[:, None] + self.generated)
        return torch.where(real, absolute, -1)


NOWHERE = Window(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
"""A window without positions: interventions change nothing in such a pass."""


def _write(activation: Tensor, hook: Any) -> Tensor | None:
    window: Window | None = hook.ctx.get(WINDOW)
    if window is None or not any(window.writes):
        return None
    out = activation.clone()
    for row, writes in enumerate(window.writes):
        if writes is not None:
            writes.write(out, row, int(window.starts[row]))
    return out


class _Done(Exception):
    """Raised by our own last hook to leave the forward pass before the unembedding."""


@contextmanager
def windowed(model: Model) -> Iterator[Callable[[Window], None]]:
    """Give all hook points a window, first `NOWHERE`; yields the function that sets the next one.

    Raises:
        SemhubError: another run of the library on this model is in progress; its window stays.
    """
    points = model.hook_dict
    contexts = list({id(point.ctx): point.ctx for point in points.values()}.values())  # several names share one
    mine = replace(NOWHERE)
    if contexts[0].setdefault(WINDOW, mine) is not mine:  # one step, so that of two threads one is refused
        raise SemhubError(
            "A run of this library is under way on this model, and its hooks would also fire in a second run, at the "
            "positions of other prompts. A hook must not call residual_stream, generate, ... on its own model; call "
            "them before or after the run. Threads that share a model must take turns: use one threading.Lock around "
            "their calls."
        )

    def show(shown: Window) -> None:
        for context in contexts:
            context[WINDOW] = shown

    try:
        show(mine)
        with listed_once(model, points):
            yield show
    finally:
        for context in contexts:
            context.pop(WINDOW, None)


@dataclass(frozen=True, eq=False)
class Run:
    """One hooked model: call it with tokens to run a forward pass up to the last residual state."""

    model: Model
    show: Callable[[Window], None]
    every: Mapping[int, str]
    """Hooks that each pass has to reach, by their place in the list."""
    reached: set[int] = field(default_factory=set)
    fired: set[int] = field(default_factory=set)
    """Which were reached by the pass under way, and by any before."""

    def __call__(self, tokens: Int[Tensor, "batch pos"], window: Window, **inputs: Any) -> None:
        """Set the window, then run the model once on its batch.

        Raises:
            Unfit: a hook at a site of a block was not reached; what it read or edited is of an earlier pass.
        """
        self.reached.clear()
        self.show(replace(window, run=self))
        forget_lengths(self.model)
        device = input_device(self.model)
        inputs = {"attention_mask": torch.ones_like(tokens), **inputs}
        dtype = next(self.model.parameters()).dtype
        placed = {
            name: value.to(device, dtype if value.is_floating_point() else None) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }
        with suppress(_Done):
            self.model(tokens.to(device), **placed)
        self.fired.update(self.reached)
        require_fired([name for i, name in self.every.items() if i not in self.reached])


@contextmanager
def hooked(model: Model, hooks: Hooks, *, rows_join: bool = False) -> Iterator[Run]:
    """Attach `hooks` and yield a `Run`; afterwards, remove all hooks, and raise an error if one never fired.

    Passes end at the last residual state, unless a hook comes after it. They are in evaluation mode, whatever the
    model's mode. With `rows_join`, hooks may add rows. Passes in another thread see none of the hooks.

    Raises:
        SemhubError: unknown hook name, another run of this model in progress (before anything runs); a hook that did
            not fire in any pass.
    """
    require_hooks(model, hook_names(hooks))
    require_weights(model)
    reached: set[int] = set()
    every = {i: name for i, (name, _) in enumerate(hooks) if name.endswith(tuple(SITES.values()))}
    counted = [(ENTRY, _write), *((name, _counting(fn, reached, i, rows_join)) for i, (name, fn) in enumerate(hooks))]
    if all(name.startswith(BEFORE_THE_END) for name, _ in hooks):
        counted.append((residual_names(model)[-1], _leave))
    own = [(name, _in_this_thread(fn)) for name, fn in counted]
    with evaluating(model), windowed(model) as show, cache_passed_on(model), model.hooks(fwd_hooks=own):
        run = Run(model, show, every, reached)
        yield run
    require_fired([name for i, (name, _) in enumerate(hooks) if i not in run.fired])


def _counting(fn: HookFunction, reached: set[int], index: int, rows_join: bool) -> HookFunction:
    def counted(activation: Tensor, hook: Any) -> Tensor | None:
        reached.add(index)
        new = fn(activation, hook=hook)
        alike = isinstance(new, Tensor) and new.shape[rows_join:] == activation.shape[rows_join:]
        if new is not None and (not alike or new.is_complex()):
            got = f"shape {tuple(new.shape)} ({new.dtype})" if isinstance(new, Tensor) else type(new).__name__
            raise SemhubError(
                f"The hook at {hook.name} must return None or a tensor {tuple(activation.shape)} like the activation, "
                f"it returned {got}."
            )
        return new

    return counted


def _in_this_thread(fn: HookFunction) -> HookFunction:
    owner = threading.get_ident()

    def here(activation: Tensor, hook: Any) -> Tensor | None:
        return fn(activation, hook=hook) if threading.get_ident() == owner else None

    return here


def _leave(activation: Tensor, hook: Any) -> None:
    raise _Done


class PassCounter:
    """The window of each pass at a hook point: the runner's, or one that is counted from earlier passes.

    The count is for the user's own runs. There, a longer pass starts a run and single tokens continue it (a KV cache).
    A one-token prompt directly after another one counts as its continuation. Without a cache, every longer pass counts
    as a new prompt. Use new hooks for each such run, or `semhub_lens.generate`.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Window] = {}

    def window(self, activation: Tensor, hook: Any) -> tuple[Window, int]:
        """The pass's window and its number of columns."""
        rows, columns = activation.shape[:2]
        if WINDOW in hook.ctx:
            return hook.ctx[WINDOW], columns
        latest = self._latest.get(hook.name)
        if columns > 1 or latest is None:
            items, zeros = torch.arange(rows), torch.zeros(rows, dtype=torch.long)
            window = Window(items, zeros, torch.full_like(items, columns), run=object())
        else:
            step = latest.generated + 1
            window = replace(latest, starts=latest.lengths + step - 1, generated=step)
        self._latest[hook.name] = window
        return window, columns
