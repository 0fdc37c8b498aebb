"""The engine behind `patch_grid`: a batch whose rows join at the layer of their patch.

A pass starts with one row, the corrupted prompt. At the input of block l, a copy of it joins for every cell of layer l
and is patched there. So for each cell, only the blocks from its layer on are computed. Passes take cells sorted by
position. They run only the columns from the first patched position to the position that is read, after the keys and
values of the corrupted prompt. Both are exact in a causal model, and each pass checks its first row against the
corrupted run.

Some models make masks, ALiBi or shared keys for the rows at the start of a pass. In these, all rows run from the start
with all columns, which is slower but equally exact.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import check_finite
from semhub_lens.inputs.media import joined
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.interventions.hooks import at
from semhub_lens.model import checks
from semhub_lens.model.facts import Model, can_grow_mid_pass, recording_cache, step_inputs
from semhub_lens.model.hooking import (
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

Rows = Literal["joining", "from the start", "single"]
"""How cells share a pass: each from its layer on, all from the start, or not at all."""


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
    """Run one prompt and keep its activations at the site, and its key-value cache if the model has a usable one."""
    kept: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        kept.append((activation[0] if activation.ndim > 2 else activation).clone())  # OPT joins rows and columns

    usable = cached and prompt.media is None and checks.cache(model).holds
    cache = recording_cache(model) if usable else None
    layers = range(n_layers(model))
    hooks: Hooks = [*((site_name(i, site), keep) for i in layers), (residual_names(model)[-1], keep)]
    with hooked(model, hooks) as run:
        _forward(run, prompt, 0, len(prompt), cache)
    *states, final = kept
    stacked = torch.stack([each.to(final.device) for each in states])
    check_finite(stacked, f"The activations at {site!r}")
    return Reference(prompt=prompt, read=read, states=stacked, final=final[read], cache=cache)


def _forward(run: Run, prompt: Prompt, start: int, stop: int, cache: Any, rows: int = 1) -> None:
    seen = torch.ones(rows, stop, dtype=torch.bool)
    step = step_inputs(run.model, cache, seen, stop - start, media=prompt.media is not None)
    tokens = prompt.ids[None, start:stop].expand(rows, -1)
    run(tokens, unplaced(prompt, start, rows), **step, **joined([prompt.media] * rows))


def unplaced(prompt: Prompt, start: int = 0, rows: int = 1) -> Window:
    """A window in which interventions change nothing, with the prompt's embeddings."""
    nothing = torch.zeros(rows, dtype=torch.long)
    return Window(nothing, nothing + start, nothing, writes=(prompt.writes,) * rows)


def passes(
    cells: Sequence[Cell], columns: int, max_tokens: int, *, skip: bool, join: bool = True
) -> Iterator[tuple[int, list[int]]]:
    """First column and cells of every pass.

    Args:
        cells: the patches.
        columns: the position that is read, plus one.
        max_tokens: the largest product of rows and columns in a pass, including the corrupted prompt's own row; a pass
            has at least one cell.
        skip: whether the columns before the first patched one can be left out.
        join: whether a pass can have several cells.
    """
    order = sorted(range(len(cells)), key=lambda i: (cells[i].start, cells[i].layer))
    while order:
        start = cells[order[0]].start if skip else 0
        rows = max(1, max_tokens // (columns - start) - 1) if join else 1
        if skip and rows < len(order):  # cells of one position stay together, so that they skip the same columns
            fitting = next(i for i in range(rows + 1) if cells[order[i]].start == cells[order[rows]].start)
            rows = fitting if 2 * fitting >= rows else rows
        yield start, sorted(order[:rows], key=lambda i: cells[i].layer)
        order = order[rows:]


class _Pass:
    """The hooks of a run, and the cells of the current pass."""

    def __init__(self, model: Model, site: str, clean: Reference, read: int, rows: Rows) -> None:
        self.final: Tensor
        self._rows = rows
        self._clean, self._read = clean.states, read
        self._cells: dict[int, list[tuple[int, Cell]]] = {}
        self._start, self._columns = 0, 0
        layers = range(n_layers(model))
        joins: Hooks = [(site_name(i, "resid_pre"), self._join(i)) for i in layers]
        edits: Hooks = [pair for i in layers for pair in at(i, self._edit(i), site)]
        self.hooks = [*joins, *edits, (residual_names(model)[-1], self._keep)]

    def take(self, cells: Sequence[Cell], start: int, columns: int) -> None:
        """Set the cells, sorted by layer, and the columns of the next pass."""
        self._cells, self._start, self._columns = {}, start, columns
        for row, cell in enumerate(cells, 0 if self._rows == "single" else 1):
            self._cells.setdefault(cell.layer, []).append((row, cell))

    def _join(self, layer: int) -> HookFunction:
        def join_rows(activation: Tensor, hook: Any) -> Tensor:
            joining = self._cells.get(layer, []) if self._rows == "joining" else []
            return torch.cat([activation, activation[:1].expand(len(joining), -1, -1)]) if joining else activation

        return join_rows

    def _edit(self, layer: int) -> HookFunction:
        def patch_rows(activation: Tensor, hook: Any) -> Tensor:
            patched = self._cells.get(layer, [])
            if not patched:
                return activation
            out = activation.clone()
            states = out if out.ndim > 2 else out.view(-1, self._columns, out.shape[-1])  # OPT joins rows and columns
            moves = [(row, to, clean) for row, cell in patched for clean, to in cell.pairs]
            rows, columns, cleans = torch.tensor(moves).T
            heads = [cell.head for _, cell in patched for _ in cell.pairs]
            head = () if heads[0] is None else (torch.tensor(heads),)
            states[(rows, columns - self._start, *head)] = self._clean[layer][(cleans, *head)].to(out)
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
) -> tuple[Float[Tensor, "cell d_model"], tuple[str, ...]]:
    """The final residual state, at the position that is read, of the corrupted run with each patch.

    Also returns, for the provenance, notes on slower methods that the model needed.
    """
    media = corrupted.prompt.media is not None

    def run(rows: Rows) -> Float[Tensor, "cell d_model"]:
        return _run(model, clean, corrupted, cells, site, rows, max_tokens, bar)

    if media and not can_grow_mid_pass(model):
        return run("single"), ()
    try:
        return run("joining"), ()
    except torch.OutOfMemoryError:
        raise
    except checks.IMPOSSIBLE:
        bar.reset()
        return (run("single"), ("one cell a pass",)) if media else (run("from the start"), ("rows from the start",))


def _run(
    model: Model,
    clean: Reference,
    corrupted: Reference,
    cells: Sequence[Cell],
    site: str,
    rows: Rows,
    max_tokens: int,
    bar: tqdm,
) -> Float[Tensor, "cell d_model"]:
    out = corrupted.final.repeat(len(cells), 1)
    if not cells:
        return out
    prompt = corrupted.prompt
    # what a picture's positions read may lie on both sides of them
    stop = corrupted.read + 1 if prompt.media is None else len(prompt)
    skip = rows == "joining" and corrupted.cache is not None
    now = _Pass(model, site, clean, corrupted.read, rows)
    with hooked(model, now.hooks, rows_join=rows == "joining") as run:
        for start, chosen in passes(cells, stop, max_tokens, skip=skip, join=rows != "single"):
            now.take([cells[i] for i in chosen], start, stop - start)
            prefix = shared_prefix(corrupted.cache, start) if start else None
            _forward(run, prompt, start, stop, prefix, len(chosen) + 1 if rows == "from the start" else 1)
            if rows != "single":
                _check_first_row(now.final[0], corrupted.final)
            out[chosen] = now.final[-len(chosen) :]
            bar.update(len(chosen))
    return out


def _check_first_row(row: Tensor, expected: Tensor) -> None:
    """The first row of every pass is the corrupted prompt itself; it must equal the prompt's own run."""
    error = float((row.float() - expected.float()).norm() / expected.float().norm())
    if not error <= (1e-3 if expected.dtype == torch.float32 else 5e-2):
        raise Unfit(
            f"Batched passes of this model do not reproduce its own run (relative error {error:.2g}): it is not "
            "causal, or its key-value cache does not store everything about a prefix. Patch it cell by cell with "
            "hooks.patch."
        )
