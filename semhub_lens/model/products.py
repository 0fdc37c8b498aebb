"""Logits of states: the product with the unembedding, its bias and the model's transform."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semhub_lens.model.facts import Model, output_transform
from semhub_lens.model.weights import unembedding, unembedding_bias

WIDENED_ENTRIES = 1 << 22
"""Entries of the unembedding that are in float32 at a time, for a model in half precision: 16 MiB."""


def logits(model: Model, states: Tensor, dtype: torch.dtype, tokens: Tensor | None = None) -> Tensor:
    """Logits, as float32, of states that are ready for the unembedding."""
    weight, bias = unembedding(model), _bias(model)
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


def pieces(
    model: Model, states: Float[Tensor, "... d_model"], dtype: torch.dtype, columns: int
) -> Iterator[tuple[int, Float[Tensor, "... id"]]]:
    """The same logits, some columns at a time: the first token id and the logits, in memory that is used again."""
    weight, bias = unembedding(model), _bias(model)
    memory = states.new_empty(len(states) * columns, dtype=dtype)
    for start in range(0, weight.shape[1], columns):
        with torch.no_grad():
            part = weight[:, start : start + columns]
            made = memory[: len(states) * part.shape[1]].view(len(states), part.shape[1])
            torch.mm(states, part.to(dtype), out=made)
            if bias is not None:
                made += bias[start : start + columns]
            made = output_transform(model, made).float()
        yield start, made


def is_plain(model: Model) -> bool:
    """Whether the unembedding is a matrix whose columns can be multiplied alone."""
    return type(unembedding(model)) in (Tensor, nn.Parameter)


def _bias(model: Model) -> Tensor | None:
    bias = unembedding_bias(model)
    return bias if bias is not None and bool((bias != 0).any()) else None


def logit_scale(model: Model) -> float:
    """The factor by which the model multiplies its logits (Cohere, Granite), or 1.0; a soft cap is none."""
    probe = torch.tensor([-4.0, 1.0, 64.0])
    ratios = output_transform(model, probe) / probe
    factor = float(ratios[1])
    return factor if torch.allclose(ratios, torch.full_like(ratios, factor), rtol=1e-5, atol=0.0) else 1.0


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
