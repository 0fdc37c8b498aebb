"""The engine behind `patch_grid`: a batch whose rows join at the layer where they are patched.

A pass starts with one row, the corrupted prompt. At the input of block l, one copy of it joins for every cell of layer
l and is patched there, so no block runs for a cell below its layer. Passes take cells sorted by position and run only
the columns from their first patched position on, behind the keys and values of the corrupted prompt, up to the
position that is read. Both are exact in a causal model, and each pass checks its first row against the corrupted run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from semhub_lens.base.errors import Unfit
from semhub_lens.base.results import check_finite
from semhub_lens.inputs.media import joined
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.interventions.hooks import at
from semhub_lens.model.facts import Model, can_grow_mid_pass, recording_cache, require_filled, step_inputs
from semhub_lens.model.hooking import (
    NOWHERE,
    HookFunction,
    Hooks,
    Run,
    Window,
    hooked,
    n_layers,
    residual_names,
    site_name,
)
from semhub_lens.model.prefix import shared_prefix


@dataclass(frozen=True)
class Cell:
    """One patch: positions `(clean, corrupted)` of one layer, of one head or of the whole state."""

    layer: int
    pairs: tuple[tuple[int, int], ...]
    head: int | None = None

    @property
    def start(self) -> int:
        """First position of the corrupted prompt that differs."""
        return min(corrupted for _, corrupted in self.pairs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """An unpatched run: its activations at the site, and the final residual state that the metric reads."""

    prompt: Prompt
    read: int
    states: Float[Tensor, "layer pos ..."]
    final: Float[Tensor, " d_model"]
    cache: Any


@torch.no_grad()
def reference(model: Model, prompt: Prompt, site: str, read: int, *, cached: bool = False) -> Reference:
    """Run one prompt and keep its activations at the site, with its key-value cache if the model has a usable one."""
    kept: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        kept.append(activation[0].clone())

    cache = recording_cache(model) if cached and prompt.media is None else None
    layers = range(n_layers(model))
    hooks: Hooks = [*((site_name(i, site), keep) for i in layers), (residual_names(model)[-1], keep)]
    with hooked(model, hooks) as run:
        _forward(run, prompt, 0, len(prompt), cache)
    require_filled(cache)
    *states, final = kept
    stacked = torch.stack(states)
    check_finite(stacked, f"The activations at {site!r}")
    return Reference(prompt=prompt, read=read, states=stacked, final=final[read], cache=cache)


def _forward(run: Run, prompt: Prompt, start: int, stop: int, cache: Any) -> None:
    seen = torch.ones(1, stop, dtype=torch.bool)
    step = step_inputs(run.model, cache, seen, stop - start, media=prompt.media is not None)
    run(prompt.ids[None, start:stop], unplaced(prompt, start), **step, **joined([prompt.media]))


def unplaced(prompt: Prompt, start: int = 0) -> Window:
    """A window that interventions leave alone, with the prompt's embeddings."""
    return replace(NOWHERE, starts=torch.tensor([start]), writes=(prompt.writes,))


def passes(
    cells: Sequence[Cell], columns: int, max_tokens: int, *, skip: bool, join: bool = True
) -> Iterator[tuple[int, list[int]]]:
    """First column and cells of every pass.

    Args:
        cells: the patches.
        columns: position that is read, plus one.
        max_tokens: rows times columns of a pass, the corrupted prompt's own row included; one cell at least.
        skip: whether the columns before the first patched one can be left out.
        join: whether a pass takes several cells.
    """
    order = sorted(range(len(cells)), key=lambda i: (cells[i].start, cells[i].layer))
    while order:
        start = cells[order[0]].start if skip else 0
        rows = max(1, max_tokens // (columns - start) - 1) if join else 1
        yield start, sorted(order[:rows], key=lambda i: cells[i].layer)
        order = order[rows:]


class _Pass:
    """The hooks of a run, and the cells of the pass that is under way."""

    def __init__(self, model: Model, site: str, clean: Reference, read: int, *, join: bool) -> None:
        self.final: Tensor
        self._joins = join
        self._clean, self._read = clean.states, read
        self._cells: dict[int, list[Cell]] = {}
        self._start = 0
        layers = range(n_layers(model))
        joins: Hooks = [(site_name(i, "resid_pre"), self._join(i)) for i in layers]
        edits: Hooks = [pair for i in layers for pair in at(i, self._edit(i), site)]
        self.hooks = [*joins, *edits, (residual_names(model)[-1], self._keep)]

    def take(self, cells: Sequence[Cell], start: int) -> None:
        """Set the cells, sorted by layer, and the first column of the next pass."""
        self._cells, self._start = {}, start
        for cell in cells:
            self._cells.setdefault(cell.layer, []).append(cell)

    def _join(self, layer: int) -> HookFunction:
        def join_rows(activation: Tensor, hook: Any) -> Tensor:
            joining = self._cells.get(layer, []) if self._joins else []
            return torch.cat([activation, activation[:1].expand(len(joining), -1, -1)]) if joining else activation

        return join_rows

    def _edit(self, layer: int) -> HookFunction:
        def patch_rows(activation: Tensor, hook: Any) -> Tensor:
            joined = self._cells.get(layer, [])
            if not joined:
                return activation
            out, first = activation.clone(), len(activation) - len(joined)
            moves = [(first + i, to, clean) for i, cell in enumerate(joined) for clean, to in cell.pairs]
            rows, columns, cleans = torch.tensor(moves, device=out.device).T
            heads = [cell.head for cell in joined for _ in cell.pairs]
            head = () if heads[0] is None else (torch.tensor(heads, device=out.device),)
            out[(rows, columns - self._start, *head)] = self._clean[layer][(cleans, *head)].to(out)
            return out

        return patch_rows

    def _keep(self, activation: Tensor, hook: Any) -> None:
        self.final = activation[:, self._read - self._start].clone()


@torch.no_grad()
def final_states(
    model: Model,
    clean: Reference,
    corrupted: Reference,
    cells: Sequence[Cell],
    site: str,
    *,
    max_tokens: int,
    bar: tqdm,
) -> Float[Tensor, "cell d_model"]:
    """Final residual state, at the position that is read, of the corrupted run under each patch."""
    out = corrupted.final.repeat(len(cells), 1)
    whole = corrupted.prompt.media is not None  # what a picture's positions read may lie on both sides of them
    join = not whole or can_grow_mid_pass(model)
    columns = len(corrupted.prompt) if whole else corrupted.read + 1
    now = _Pass(model, site, clean, corrupted.read, join=join)
    if not cells:
        return out
    with hooked(model, now.hooks, rows_join=True) as run:
        for start, chosen in passes(cells, columns, max_tokens, skip=corrupted.cache is not None, join=join):
            now.take([cells[i] for i in chosen], start)
            _forward(run, corrupted.prompt, start, columns, shared_prefix(corrupted.cache, start) if start else None)
            if join:
                _check_first_row(now.final[0], corrupted.final)
            out[chosen] = now.final[-len(chosen) :]
            bar.update(len(chosen))
    return out


def _check_first_row(row: Tensor, expected: Tensor) -> None:
    """The first row of every pass is the corrupted prompt itself; it must come out as in its own run."""
    error = float((row.float() - expected.float()).norm() / expected.float().norm())
    if not error <= (1e-3 if expected.dtype == torch.float32 else 5e-2):
        raise Unfit(
            f"Batched passes of this model do not reproduce its own run (relative error {error:.2g}): it is not "
            "causal, or its key-value cache does not hold all that a prefix leaves behind. Patch it cell by cell with "
            "hooks.patch."
        )
