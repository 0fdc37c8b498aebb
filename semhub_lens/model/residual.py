"""`residual_stream`: one state per prompt at every layer, in memory or in a folder."""

from itertools import chain, islice
from pathlib import Path
from typing import Any, SupportsIndex, overload

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.processes import in_step, place
from semhub_lens.base.progress import tqdm
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.capture import residual_reads
from semhub_lens.model.checks import notes, right_padding
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, residual_names
from semhub_lens.model.reads import read_positions
from semhub_lens.model.resolve import prompt_count, prompt_windows
from semhub_lens.model.stacks import States, StateStack, window_size, write_states
from semhub_lens.model.weights import content_of


@overload
def residual_stream(
    model: Model,
    prompts: Prompts,
    *,
    read: str | SupportsIndex = "last",
    hooks: Hooks = (),
    max_tokens: int = 1024,
    progress: bool = True,
    out: None = None,
) -> Float[Tensor, "layer item d_model"]: ...


@overload
def residual_stream(
    model: Model,
    prompts: Prompts,
    *,
    read: str | SupportsIndex = "last",
    hooks: Hooks = (),
    max_tokens: int = 1024,
    progress: bool = True,
    out: str | Path,
) -> StateStack: ...


@checked
def residual_stream(
    model: Model,
    prompts: Prompts,
    *,
    read: str | SupportsIndex = "last",
    hooks: Hooks = (),
    max_tokens: int = 1024,
    progress: bool = True,
    out: str | Path | None = None,
) -> States:
    r"""Return one residual-stream vector per prompt at every layer.

    Batches are right-padded, sorted by length and packed up to `max_tokens`. The states equal those of one prompt at a
    time. If a model is not causal, only prompts of equal length share a batch.

    **With `out`**, the states are written to that folder as they are measured, and a `StateStack` is returned. Prompts
    are read, checked, sorted by length and run in windows (`stacks.WINDOW` items, or fewer if their states are large).
    So memory does not grow with the number of prompts, and items keep their order. To continue an interrupted call,
    make it again: it reads the prompts again and measures only what is missing. A bad prompt stops the call only when
    it is reached, and finished windows stay. The processes of a launch share the windows if all of them make the call.

    Args:
        model: any TransformerLens model.
        prompts: texts, `Prompt`s, token ids or chat messages: a list, a generator, a data set's `Column`.
        read: the positions to read. "last": the last token. An integer: that absolute position (negative from the end).
            "mean": $\frac1{|P|}\sum_{p \in P} h_p / \lVert h_p \rVert$ over all positions except BOS; states have unit
            norm, because one or two tokens with massive activations dominate a plain mean. "raw_mean": the plain mean.
            A span's name: like "mean", over that span. "NAME:last": the last token of that span.
        hooks: interventions during the runs, as `(hook name, function)` pairs; not with `out`.
        max_tokens: the largest number of tokens in a batch, padding included.
        progress: show a progress bar.
        out: a folder; None keeps the states in memory.

    Returns:
        `[layer item d_model]`, float32 on the CPU. There are `n_layers + 1` layers, all before the final norm.

    Raises:
        SemhubError: empty input, unknown span, position past the end, NaN states, a hook that never fired; a folder
            with states of another model, read, version or other prompts.

    Example:
        >>> residual_stream(tiny_model, ["three plus two", "five"], progress=False).shape[1]
        2
    """
    if out is not None:
        return _written(model, prompts, read, hooks, max_tokens, progress, user_path(out))
    return residual_reads(model, prompts, [read], hooks=hooks, max_tokens=max_tokens, progress=progress)[0]


def _written(
    model: Model, prompts: Any, read: str | SupportsIndex, hooks: Hooks, max_tokens: int, progress: bool, out: Path
) -> StateStack:
    if len(hooks):
        raise SemhubError(
            "out= takes no hooks=. A run can continue in a folder only if everything that its numbers depend on can "
            "be compared, and hooks cannot. Measure with hooks in memory, some prompts at a time."
        )
    size = window_size(len(residual_names(model)), int(model.cfg.d_model))
    settings = {"read": read if isinstance(read, str) else int(read), "max_tokens": max_tokens, "window": size}
    windows = prompt_windows(model, prompts, size)
    with in_step(f"prompts for {out}"):  # what is wrong with the first is said before anything runs or is written
        first = list(islice(windows, 1))
        for prompt in chain(*first):
            read_positions(prompt, read)
    content_of(model)
    provenance = provenance_of(model, notes=notes(right_padding(model).packing))
    known = prompt_count(prompts)
    total = None if known is None else -(-known // place()[1])

    def measure(window: list[Prompt]) -> Float[Tensor, "layer item d_model"]:
        return residual_reads(model, window, [read], max_tokens=max_tokens, bar=bar)[0]

    with tqdm(total=total, desc="residual stream", unit="prompt", disable=not progress, leave=False) as bar:
        settings["torch"] = torch.__version__
        return write_states(out, chain(first, windows), measure, settings, provenance, bar.update)
