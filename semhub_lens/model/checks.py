"""Checks of a host model before its numbers are trusted: batches, left padding, key-value cache.

Each check compares a few passes over six tokens with the same tokens alone. It is done when a run first needs it, once
for each model object, and again after its weights were replaced or changed in place. If a check fails, runs use prompts
of equal length, single rows, or no cache, and the result's provenance says so.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from semhub_lens.base.errors import Unfit
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.facts import (
    Model,
    evaluating,
    has_own_forward,
    input_device,
    new_cache,
    plain_ids,
    require_filled,
    step_inputs,
)
from semhub_lens.model.hooking import NOWHERE, hooked, residual_names, windowed
from semhub_lens.model.rotary import length_effect
from semhub_lens.model.weights import editions

Packing = Literal["padded", "equal", "single"]
"""Which prompts may share a pass: any (with padding), those of equal length, none."""
States = Callable[..., Float[Tensor, "batch pos d_model"]]
LONG = 6
"""Tokens of a check's long row; the short one has half of them."""
IMPOSSIBLE = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""The errors of a model that cannot run in this way; other errors (an interrupt, full memory) are not an answer."""
_verified: "WeakKeyDictionary[Model, tuple[tuple, dict[str, Fact]]]" = WeakKeyDictionary()
"""For each model: the version of its weights, and the checks for that version."""


@dataclass(frozen=True)
class Fact:
    """The outcome of one check of a model."""

    error: float
    """Largest relative deviation of a final residual state from that of the same tokens alone."""
    tolerance: float
    packing: Packing = "padded"
    reason: str = ""
    """The model's error, if it cannot run in this way."""

    @property
    def holds(self) -> bool:
        """Whether the model passes the check."""
        return self.error <= self.tolerance


def right_padding(model: Model) -> Fact:
    """Whether a row with padding on its right and no mask has the same states as alone (a causal model)."""
    return _once(model, "right padding", _right_padding)


def left_padding(model: Model) -> Fact:
    """Whether a row with masked padding on its left has the same states as alone."""
    return _once(model, "left padding", _left_padding)


def cache(model: Model) -> Fact:
    """Whether steps with a key-value cache have the same states as a pass over all tokens."""
    return _once(model, "cache", _cache)


def repeating(model: Model) -> Fact:
    """Whether two runs over the same tokens have the same states."""
    return _once(model, "repeating", _repeating)


def require_one_turn(model: Model) -> None:
    """Refuse a model that runs its blocks in a loop: one state after a block would stand for those of all turns.

    Models whose code is in transformers have no such loop, so only others are run for it.

    Raises:
        Unfit: the last block runs more than once in a pass.
    """
    turns = int(_once(model, "turns", _turns).error) if has_own_forward(model) else 1
    if turns > 1:
        raise Unfit(
            f"{model.cfg.model_name} runs its blocks {turns} times in one pass (a looped model), so a block has "
            "several states, and a run of this library would read the first ones. Take a model without a loop."
        )


def batching(model: Model, prompts: Sequence[Prompt]) -> Packing:
    """Which of these prompts may share a pass without a mask; refuses a looped model."""
    require_one_turn(model)
    return _packing(right_padding, model, [len(prompt) for prompt in prompts])


def decoding(model: Model, prompts: Sequence[Prompt], new_tokens: int) -> tuple[Packing, str]:
    """Which of these prompts may be continued together, and why a cache is unusable ("" if it is usable)."""
    require_one_turn(model)
    lengths = [len(prompt) for prompt in prompts]
    effect = length_effect(model, min(lengths), max(lengths) + new_tokens)
    if effect is not None:
        packing: Packing = "equal" if left_padding(model).packing != "single" else "single"
        return packing, effect
    cached = cache(model)
    packing = _packing(left_padding, model, lengths)
    return packing, "" if cached.holds else cached.reason or f"cached steps are off by {cached.error:.2g}"


def notes(packing: Packing, uncached: str = "") -> tuple[str, ...]:
    """What runs changed for this model, for a result's provenance."""
    together = {"padded": (), "equal": ("batches of equal length",), "single": ("one row at a time",)}[packing]
    return (*together, *((f"no cache: {uncached}",) if uncached else ()))


def batch_notes(model: Model, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """`notes` of a run of these prompts without a mask."""
    return notes(batching(model, prompts))


def _packing(check: Callable[[Model], Fact], model: Model, lengths: Sequence[int]) -> Packing:
    if len(lengths) < 2:
        return "padded"
    packing = check(model).packing
    apart = length_effect(model, min(lengths), max(lengths)) is not None
    return "equal" if apart and packing == "padded" else packing


def _once(model: Model, name: str, check: Callable[[Model], Fact]) -> Fact:
    known = _known(model)
    if name not in known:
        with torch.no_grad():
            known[name] = check(model)
    return known[name]


def _known(model: Model) -> dict[str, Fact]:
    """The checks of these weights; changes to the returned value are kept."""
    version = editions(model)
    if model not in _verified or _verified[model][0] != version:
        _verified[model] = version, {}
    return _verified[model][1]


@contextmanager
def _final_states(model: Model) -> Iterator[States]:
    """Yield a function from tokens `[batch pos]` and a pass's inputs to the states after the last block."""
    name = residual_names(model)[-1]
    kept: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        kept[:] = [activation.detach().float().clone()]

    with hooked(model, [(name, keep)]) as run:

        def states(ids: Int[Tensor, "batch pos"], **inputs: Any) -> Tensor:
            kept.clear()
            run(ids, NOWHERE, **inputs)
            if not kept:
                raise Unfit(f"{name} never fires in {model.cfg.model_name}, so its residual stream cannot be read.")
            return kept[0]

        yield states


def _long(model: Model) -> Int[Tensor, " pos"]:
    """Ordinary tokens, as many as the model's context allows."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    return plain_ids(config, int(model.cfg.d_vocab), min(LONG, int(model.cfg.n_ctx)))


def _fact(ours: Tensor, alone: Tensor, dtype: torch.dtype, packing: Packing = "padded") -> Fact:
    error = float(((ours - alone).norm(dim=-1) / alone.norm(dim=-1)).max())
    return Fact(error if error == error else torch.inf, 1e-4 if dtype.itemsize >= 4 else 3e-2, packing)


def _dtype(model: Model) -> torch.dtype:
    return next(model.parameters()).dtype


def _turns(model: Model) -> Fact:
    fired: list[int] = []
    tokens = _long(model)[None].to(input_device(model))
    with evaluating(model), windowed(model):
        hooks = [(residual_names(model)[-1], lambda activation, hook: fired.append(1))]
        model.run_with_hooks(tokens, fwd_hooks=hooks, attention_mask=torch.ones_like(tokens))
    return Fact(float(len(fired)), 1.0)


def _repeating(model: Model) -> Fact:
    tokens = _long(model)[None]
    with _final_states(model) as states:
        return _fact(states(tokens), states(tokens), _dtype(model))


def _right_padding(model: Model) -> Fact:
    long = _long(model)
    short, other = long[: (len(long) + 1) // 2], long[len(long) // 2 :]
    with _final_states(model) as states:
        alone = states(short[None])[0]
        rows = states(pad_sequence([short, long], batch_first=True))
        fact = _fact(rows[0, : len(short)], alone, _dtype(model))
        return fact if fact.holds else _apart(fact, states, short, other, alone)


def _apart(fact: Fact, states: States, short: Tensor, other: Tensor, alone: Tensor) -> Fact:
    """The failed check with the alternative: rows of equal length, if they do not affect each other, or single rows."""
    together = float((states(torch.stack([short, other]))[0] - alone).norm() / alone.norm())
    return Fact(fact.error, fact.tolerance, "equal" if together <= fact.tolerance else "single", fact.reason)


def _left_padding(model: Model) -> Fact:
    long = _long(model)
    short, other = long[: (len(long) + 1) // 2], long[len(long) // 2 :]
    cached = cache(model).holds
    padding = len(long) - len(short)
    tokens = torch.stack([torch.nn.functional.pad(short, (padding, 0)), long])
    mask = torch.arange(len(long))[None] >= torch.tensor([[padding], [0]])
    with _final_states(model) as states:
        alone = states(short[None])[0]
        try:
            fact = _fact(_decoded(model, states, tokens, mask, cached=cached)[0, -1], alone[-1], _dtype(model))
        except IMPOSSIBLE as error:
            fact = Fact(torch.inf, 0.0, reason=str(error))
        return fact if fact.holds else _apart(fact, states, short, other, alone)


def _cache(model: Model) -> Fact:
    if new_cache(model, 1) is None:
        return Fact(torch.inf, 0.0, reason="the model takes no key-value cache")
    long = _long(model)[None]
    texts = [long, long[:, :2]]  # the second begins with one token, like a step, and is behind another text
    with _final_states(model) as states:
        alone = [states(tokens) for tokens in texts]
        try:
            steps = [_decoded(model, states, each, torch.ones_like(each) > 0, cached=True) for each in texts]
        except IMPOSSIBLE as error:
            return Fact(torch.inf, 0.0, reason=str(error))
    facts = [_fact(*pair, _dtype(model)) for pair in zip(steps, alone, strict=True)]
    return max(facts, key=lambda fact: fact.error)


def _decoded(model: Model, states: States, tokens: Tensor, mask: Tensor, *, cached: bool) -> Tensor:
    """States of left-padded rows; with a cache the last two columns are a step each."""
    held = new_cache(model, len(tokens)) if cached else None
    columns = tokens.shape[1]
    ends = [max(1, columns - 2), *range(max(1, columns - 2) + 1, columns + 1)] if cached else [columns]
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        inputs = step_inputs(model, held, mask[:, :end], end - start)
        parts.append(states(tokens[:, start:end], **inputs))
        require_filled(held)
    return torch.cat(parts, dim=1)
