"""Logits of states: the product with the unembedding, its bias and the model's transform."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semhub_lens.model.facts import Model, output_transform
from semhub_lens.model.weights import unembedding, unembedding_bias

WIDENED_ENTRIES = 1 << 22
"""Entries of the unembedding that are in float32 at a time, for a model in half precision: 16 MiB."""
TRANSFORMED_ROWS = 16
"""Rows of logits that a soft-cap copies at a time."""


def logits(
    model: Model, states: Tensor, dtype: torch.dtype, tokens: Tensor | None = None, memory: Tensor | None = None
) -> Tensor:
    """Logits, as float32, of states that are ready for the unembedding."""
    weight, bias = unembedding(model), unembedding_bias(model)
    bias = bias if bias is not None and bool((bias != 0).any()) else None
    plain = type(weight) in (Tensor, nn.Parameter) and not torch.is_grad_enabled()
    if memory is not None and tokens is None and plain and memory.dtype == dtype:
        return _written(model, states, weight, bias, memory)
    if tokens is not None:
        tokens = tokens.to(weight.device)
        bias = bias if bias is None else bias[tokens]
    if weight.dtype != dtype:
        columns = weight.shape[1] if tokens is None else len(tokens)
        made = states.new_empty(*states.shape[:-1], columns)
        _widened_product(states, weight, tokens, made)
    else:
        made = states @ (weight if tokens is None else weight.T[tokens].T)  # tied weights lie token by token
    if bias is not None:
        made = made + bias
    return output_transform(model, made).float()


def logit_scale(model: Model) -> float:
    """The factor by which the model multiplies its logits (Cohere, Granite), or 1.0; a soft cap is none."""
    probe = torch.tensor([-4.0, 1.0, 64.0])
    ratios = output_transform(model, probe) / probe
    factor = float(ratios[1])
    return factor if torch.allclose(ratios, torch.full_like(ratios, factor), rtol=1e-5, atol=0.0) else 1.0


def _written(model: Model, states: Tensor, weight: Tensor, bias: Tensor | None, memory: Tensor) -> Tensor:
    """The same logits, in the caller's memory; the transform takes a few rows at a time, as it copies them."""
    rows = states.flatten(0, -2)
    logits = memory[: len(rows)]
    if weight.dtype == rows.dtype:
        torch.mm(rows, weight, out=logits)
    else:
        _widened_product(rows, weight, None, logits)
    if bias is not None:
        logits += bias
    for some in logits.split(TRANSFORMED_ROWS):
        transformed = output_transform(model, some)
        if transformed is not some:
            some.copy_(transformed)
    return logits.unflatten(0, states.shape[:-1])


def _widened_product(states: Tensor, weight: Tensor, tokens: Tensor | None, logits: Tensor) -> None:
    """Write `states @ weight` in the states' dtype; the weight is never converted as a whole, even for gradients."""
    columns = logits.shape[-1]
    step = max(1, WIDENED_ENTRIES // len(weight))
    for start in range(0, columns, step):
        block = slice(start, start + step)
        part = weight[:, block] if tokens is None else weight.T[tokens[block]].T
        if torch.is_grad_enabled():
            logits[..., block] = checkpoint(_product, states, part, use_reentrant=False, preserve_rng_state=False)
        else:
            logits[..., block] = _product(states, part)


def _product(states: Tensor, weight: Tensor) -> Tensor:
    return states @ weight.to(states.dtype)
