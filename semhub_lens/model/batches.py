"""Exact batches of prompts that fit into the device's memory.

In a causal model with right padding and positions from 0, every prompt has the same states as alone, so batches need no
mask. `checks` verifies this for each model. If a model is not causal, only prompts of equal length share a batch. A
batch that does not fit into memory is halved, and so are later batches of that size.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.media import joined
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.checks import Packing
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import Window

_budgets: "WeakKeyDictionary[Model, int]" = WeakKeyDictionary()
"""For each model, the largest number of tokens in a batch that fits, if a larger one did not."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts of similar length as one right-padded block of tokens."""

    tokens: Int[Tensor, "batch pos"]
    window: Window
    inputs: dict[str, Tensor] = field(default_factory=dict)
    """Pictures and sound, as keyword arguments of the model."""


PASS = 24
"""The fixed cost of one pass, in tokens."""


def batches(
    prompts: Sequence[Prompt], max_tokens: int = 1024, packing: Packing = "padded", *, per_pass: int = PASS
) -> list[Batch]:
    """Pack prompts, by length, into right-padded batches of at most `max_tokens` tokens (one prompt at least).

    `packing` says which prompts may share a batch. The result is the cheapest such packing, where the cost of a pass is
    its number of tokens, padding included, plus `per_pass`.

    Prompts with pictures or sound share a batch only if their lengths and shapes are equal. A model may read a
    picture's positions in both directions, and would then read padding too.
    """
    kinds = [() if prompt.media is None else (len(prompt), *prompt.media.signature) for prompt in prompts]
    if packing == "equal":
        kinds = [(len(prompt), kind) for prompt, kind in zip(prompts, kinds, strict=True)]
    if max_tokens < 1:
        raise SemhubError(f"max_tokens= is the largest number of tokens in a batch, at least 1, got {max_tokens}.")
    max_tokens = 0 if packing == "single" else max_tokens
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), str(kinds[i])))
    cheapest: list[tuple[int, int]] = [(0, 0)]  # of the first so many in this order: the cost, where the last begins
    for end, item in enumerate(order, 1):
        length, begin = len(prompts[item]), end - 1
        best = (cheapest[begin][0] + length + per_pass, begin)
        while begin and (end - begin + 1) * length <= max_tokens and kinds[order[begin - 1]] == kinds[item]:
            begin -= 1
            best = min(best, (cheapest[begin][0] + (end - begin) * length + per_pass, begin))
        cheapest.append(best)
    groups, end = [], len(order)
    while end:
        groups.append(order[cheapest[end][1] : end])
        end = cheapest[end][1]
    return [batch_of(prompts, group) for group in reversed(groups)]


def batch_of(prompts: Sequence[Prompt], items: list[int]) -> Batch:
    """These items as one batch."""
    prompts = [prompts[item] for item in items]
    lengths = torch.tensor([len(p) for p in prompts])
    tokens = torch.nn.utils.rnn.pad_sequence([p.ids for p in prompts], batch_first=True)
    spans, writes = tuple(p.spans for p in prompts), tuple(p.writes for p in prompts)
    window = Window(torch.tensor(items), torch.zeros_like(lengths), lengths, spans, writes=writes)
    return Batch(tokens, window, joined([p.media for p in prompts]))


def run_batches(
    model: Model,
    prompts: Sequence[Prompt],
    run: Callable[[Batch], None],
    max_tokens: int,
    packing: Packing = "padded",
    *,
    per_pass: int = PASS,
) -> Iterator[Batch]:
    """Run batches, packed as by `batches`, and yield each that ran.

    If the device runs out of memory, a batch is split into halves, with a warning. Later runs of the model start with
    batches that fit. The numbers do not depend on the batches.

    Raises:
        SemhubError: the device has no memory for a single prompt.
    """
    waiting = batches(prompts, min(max_tokens, _budgets.get(model, max_tokens)), packing, per_pass=per_pass)
    while waiting:
        batch = waiting.pop(0)
        if len(batch.tokens) > 1 and batch.tokens.numel() > _budgets.get(model, batch.tokens.numel()):
            waiting[:0] = _halves(prompts, batch)
        elif _fits(run, batch):
            yield batch
        else:
            _remember(model, batch)
            waiting[:0] = _halves(prompts, batch)


def _fits(run: Callable[[Batch], None], batch: Batch) -> bool:
    """Whether it ran. The error is dropped afterwards, and with it the tensors in its frames."""
    try:
        run(batch)
    except torch.OutOfMemoryError as error:
        if len(batch.tokens) == 1:
            raise SemhubError(
                f"The device has no memory for one prompt of {batch.tokens.shape[1]} tokens ({error}). Shorten it, "
                "read fewer layers, or load the model in half precision or on a larger device."
            ) from error
        return False
    return True


def _remember(model: Model, batch: Batch) -> None:
    tokens = batch.tokens.numel()
    _budgets[model] = tokens // 2
    torch.cuda.empty_cache()  # does nothing where CUDA was not used
    warnings.warn(
        f"The device has no memory for a batch of {tokens} tokens; this model now runs at most {tokens // 2} at a "
        f"time. max_tokens={tokens // 2} begins there.",
        stacklevel=2,
    )


def _halves(prompts: Sequence[Prompt], batch: Batch) -> list[Batch]:
    items = batch.window.items.tolist()
    middle = len(items) // 2
    return [batch_of(prompts, half) for half in (items[:middle], items[middle:])]
