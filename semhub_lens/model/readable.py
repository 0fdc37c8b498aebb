"""What a read-out can read: states of the model's width, layers and tokens that it has."""

from typing import Any

import torch
from torch import Tensor

from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.model.facts import Model


def require_width(states: Tensor, model: Model) -> None:
    """Raise a SemhubError for states of another width than the model's, or for complex ones."""
    width = int(model.cfg.d_model)
    if states.shape[-1:] != (width,) or states.is_complex():
        raise SemhubError(f"The model's states have width {width}, got {shown(states)}.")


def plain_layers(layer: Any, states: Tensor, n_layers: int) -> int | list[int] | None:
    """A residual entry, or one for each entry of the states' first axis, as Python's numbers.

    Raises:
        SemhubError: an entry that is not there, or lists that do not fit the states.
    """
    if layer is None:
        return None
    listed = [int(layer)] if is_index(layer) else [int(one) for one in layer]
    for one in listed:
        if not 0 <= one <= n_layers:
            raise SemhubError(f"Layer {one} is out of range: the model has residual entries 0 to {n_layers}.")
    if is_index(layer):
        return listed[0]
    if states.ndim < 2 or len(listed) != len(states):
        raise SemhubError(f"layer= names {len(listed)} layers {listed[:5]} for {shown(states)}; give one for each.")
    return listed


def require_ids(tokens: Tensor | None, vocabulary: int) -> None:
    """Raise a SemhubError for what are no ids of the vocabulary.

    Of ids on another device only the kind is looked at: their values would have to be fetched.
    """
    if tokens is None:
        return
    told = tokens.device.type == "cpu" and bool(len(tokens))
    outside = told and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise SemhubError(f"tokens= takes token ids, which are whole numbers; got {shown(tokens)}.")
    if outside:
        wrong = int(tokens[(tokens < 0) | (tokens >= vocabulary)][0])
        raise SemhubError(f"Token id {wrong} is outside the model's vocabulary of {vocabulary}.")
