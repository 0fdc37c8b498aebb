"""The final norm as the model computes it, for states on any device, in the model's dtype or a wider one."""

from copy import copy
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.model.facts import Model
from semhub_lens.model.weights import home_of, present, unembedding_device


def normed(model: Model, states: Float[Tensor, "*rows d_model"], dtype: torch.dtype) -> Float[Tensor, "*rows d_model"]:
    """The final norm, if the model has one, of states in `dtype`, with weights in that dtype."""
    device, norm = unembedding_device(model), final_norm(model)
    own = None if norm is None else next(chain(norm.parameters(), norm.buffers()), None)
    states = states.to(device if norm is None or own is None else home_of(norm, own), dtype)
    if norm is None:
        return states
    rows = states.reshape(1, -1, states.shape[-1])
    if model.W_U.dtype == dtype:
        return norm(rows).reshape(states.shape).to(device)
    with present(norm):
        return _widened_norm(norm, rows).reshape(states.shape).to(device)


def _widened_norm(norm: Any, rows: Tensor) -> Tensor:
    """The norm in the rows' dtype, with weights in that dtype."""
    if "cfg" in vars(norm):  # a HookedTransformer's norm rounds to the dtype that stands there
        norm = copy(norm)
        vars(norm).pop("forward", None)  # accelerate's, which runs the original
        norm.cfg = copy(norm.cfg)
        norm.cfg.dtype = rows.dtype
    named = chain(norm.named_parameters(), norm.named_buffers())
    weights = {name: weight.to(rows) for name, weight in named if weight.is_floating_point()}
    return torch.func.functional_call(norm, weights, (rows,))


def final_norm(model: Model) -> Any:
    """The module, or None in models without a final norm."""
    return getattr(model, "ln_final", None)
