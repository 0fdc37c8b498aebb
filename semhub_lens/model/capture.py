"""Residual states of many prompts, reads of them, and `Capture`, a probe that keeps activations."""

from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import check_finite
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.batches import Batch, run_batches
from semhub_lens.model.checks import batching
from semhub_lens.model.facts import Model, input_device
from semhub_lens.model.hooking import (
    HookFunction,
    Hooks,
    PassCounter,
    hook_names,
    hooked,
    n_layers,
    require_hooks,
    residual_names,
    site_name,
)
from semhub_lens.model.reads import ReadOfBatch, read_positions
from semhub_lens.model.resolve import as_prompts


def check_edits(hooks: Hooks, prompts: Sequence[Prompt], new_tokens: int = 0) -> None:
    """Let every position-aware hook check its positions against the prompts, before the model runs."""
    hook_names(hooks)
    for _, fn in hooks:
        check = getattr(fn, "check", None)
        if check is not None:
            check(prompts, new_tokens)


@checked
class Capture:
    """Probe that keeps activations: read-only hooks for your own run, and a `result()`.

    Pass `hooks` to `model.run_with_hooks(tokens, fwd_hooks=capture.hooks)`, `model.hooks(...)` or `generate`. The
    states are copied, so later edits do not change them. Edits by hooks earlier in the list are included. In cached
    generation, the states of new tokens are appended; a new prompt starts a new record.

    Args:
        model: any TransformerLens model.
        layers: the blocks; None means all. With `site="resid"`, indices of the residual axis (0 = embedding).
        site: "resid", or one of the sites of a block ("resid_mid", "attn_out", "mlp_out", ...).

    Raises:
        SemhubError: unknown layer or site.

    Example:
        >>> capture = Capture(tiny_model)
        >>> _ = tiny_model.run_with_hooks("three plus two", fwd_hooks=capture.hooks)
        >>> capture.result().shape[0] == tiny_model.cfg.n_layers + 1
        True
        >>> capture.take(0).shape  # [layer pos d_model]
        torch.Size([4, 4, 32])
    """

    def __init__(self, model: Model, layers: Sequence[int] | None = None, site: str = "resid") -> None:
        names = residual_names(model) if site == "resid" else [site_name(i, site) for i in range(n_layers(model))]
        chosen = range(len(names)) if layers is None else layers
        if not len(chosen):
            raise SemhubError("Capture got an empty list of layers; pass at least one, or None for all.")
        for layer in chosen:
            if not 0 <= whole_number(layer, "A layer") < len(names):
                raise SemhubError(
                    f"Layer {layer} is out of range: site {site!r} of this model has layers 0 to {len(names) - 1}."
                )
        self.names = [names[layer] for layer in chosen]
        require_hooks(model, self.names)
        self._chunks = PassCounter()
        self._runs: dict[str, object] = {}
        self._rows: dict[str, dict[int, list[Tensor]]] = {name: {} for name in self.names}
        self.hooks: list[tuple[str, HookFunction]] = [(name, self._recorder(name)) for name in self.names]

    def _recorder(self, name: str) -> HookFunction:
        rows = self._rows[name]

        def record(activation: Tensor, hook: Any) -> None:
            window, columns = self._chunks.window(activation, hook)
            if window.run is not self._runs.get(name):
                self._runs[name] = window.run
                rows.clear()
            states = activation.detach().float().cpu().clone()
            for row, (item, absolute) in enumerate(zip(window.items.tolist(), window.positions(columns), strict=True)):
                real = absolute >= 0
                if real.any() and int(absolute[real][0]) == 0:
                    rows[item] = []
                rows.setdefault(item, []).append(states[row, real])

        return record

    @checked
    def result(self, row: int | None = None) -> Float[Tensor, "layer ..."]:
        """States `[layer batch pos d_model]` (float32, CPU) of the latest run, or `[layer pos d_model]` of one `row`.

        In runs of this library, rows are the prompts in the given order, without padding.

        Raises:
            SemhubError: nothing ran yet; no such row; prompts of unequal length and no `row`.
        """
        items = sorted(self._rows[self.names[0]])
        if not items:
            raise SemhubError("The probe has seen no run yet: pass its hooks to model.run_with_hooks(...) first.")
        if row is not None:
            if row not in items:
                raise SemhubError(f"Row {row} is out of range: the run had {len(items)} rows.")
            return torch.stack([torch.cat(self._rows[name][row]) for name in self.names])
        rows = [self.result(item) for item in items]
        if len({states.shape[1] for states in rows}) > 1:
            raise SemhubError("The prompts have unequal lengths: read one at a time with result(row=i).")
        return torch.stack(rows, dim=1)

    @checked
    def take(self, row: int) -> Float[Tensor, "layer ..."]:
        """Like `result(row)`, and drop the row.

        Raises:
            SemhubError: nothing ran yet, or no such row.
        """
        states = self.result(row)
        for name in self.names:
            del self._rows[name][row]
        return states


@torch.no_grad()
def prompt_states(
    model: Model,
    prompts: Sequence[Prompt],
    hooks: Hooks = (),
    *,
    layers: Sequence[int] | None = None,
    max_tokens: int = 1024,
) -> Iterator[list[tuple[int, Float[Tensor, "layer pos d_model"]]]]:
    """Yield, batch by batch (shortest prompts first), each prompt's index and its residual states at all positions.

    `layers` are indices of the residual axis; None takes all.
    """
    check_edits(hooks, prompts)
    capture, packing = Capture(model, layers), batching(model, prompts)
    with hooked(model, [*hooks, *capture.hooks]) as run:

        def one_pass(batch: Batch) -> None:
            run(batch.tokens, batch.window, **batch.inputs)

        for batch in run_batches(model, prompts, one_pass, max_tokens, packing):
            yield [(item, capture.take(item)) for item in batch.window.items.tolist()]


def residual_reads(
    model: Model,
    prompts: Prompts,
    reads: Sequence[str | SupportsIndex],
    *,
    layers: Sequence[int] | None = None,
    hooks: Hooks = (),
    max_tokens: int = 1024,
    progress: bool = True,
    bar: Any = None,
) -> Float[Tensor, "read layer item d_model"]:
    """Like `residual_stream`, for several reads of the same runs, and only for these residual entries (None: all).

    `bar` is the caller's progress bar, which advances with each batch; None makes a new one.

    Raises:
        SemhubError: as for `residual_stream`.

    Example:
        >>> last, mean = residual_reads(tiny_model, ["three plus two", "five"], ["last", "mean"], progress=False)
        >>> bool((last == residual_stream(tiny_model, ["three plus two", "five"], progress=False)).all())
        True
    """
    listed = as_prompts(model, prompts)
    wanted = [[read_positions(prompt, read) for prompt in listed] for read in reads]
    check_edits(hooks, listed)
    names = residual_names(model) if layers is None else [residual_names(model)[layer] for layer in layers]
    out = torch.empty(len(reads), len(names), len(listed), model.cfg.d_model, dtype=torch.float32)
    means: list[ReadOfBatch] = []
    taken: list[list[Tensor]] = [[] for _ in names]

    def reader(layer: int) -> HookFunction:
        def take(activation: Tensor, hook: Any) -> None:
            taken[layer] = [mean(activation.detach()) for mean in means]

        return take

    readers = [(name, reader(layer)) for layer, name in enumerate(names)]
    packing = batching(model, listed)
    hidden = not progress or bar is not None
    own = tqdm(total=len(listed), desc="residual stream", unit="prompt", disable=hidden, leave=False)
    with torch.no_grad(), own, hooked(model, [*hooks, *readers]) as run:

        def one_pass(batch: Batch) -> None:
            items, columns = batch.window.items.tolist(), batch.tokens.shape[1]
            means[:] = [
                ReadOfBatch([positions[item] for item in items], columns, read, input_device(model))
                for read, positions in zip(reads, wanted, strict=True)
            ]
            run(batch.tokens, batch.window, **batch.inputs)

        for batch in run_batches(model, listed, one_pass, max_tokens, packing):
            out[:, :, batch.window.items] = _together(taken)
            (own if bar is None else bar).update(len(batch.tokens))
    for states in out:
        check_finite(states, "The residual stream")
    return out


def _together(taken: list[list[Tensor]]) -> Float[Tensor, "read layer batch d_model"]:
    """The reads of all layers of a batch on the CPU, in one transfer (layers may lie on several devices)."""
    device = taken[-1][0].device
    layers = [torch.stack([states.to(device) for states in reads]) for reads in taken]
    return rearrange(layers, "layer read batch d_model -> read layer batch d_model").cpu()
