"""Configuration and weights of a Hugging Face model for a `HookedTransformer`, without copies of the weights."""

import copy
import tempfile
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor


def converted(hf: Any, official: str | None, device: str, dtype: torch.dtype) -> tuple[Any, dict[str, Tensor]]:
    """Configuration and weights as transformer-lens converts them.

    Args:
        hf: the Hugging Face model; weights that the conversion does not change are views of its own.
        official: transformer-lens' name for the architecture; None reads it from the configuration.
        device: the device of the `HookedTransformer`.
        dtype: of its weights.
    """
    from transformer_lens import loading_from_pretrained as loading

    settings = {"fold_ln": False, "device": device, "dtype": dtype}
    if official is not None:
        name = loading.get_official_model_name(official)
        cfg = loading.get_pretrained_model_config(name, hf_cfg=hf.config.to_dict(), **settings)
        return cfg, loading.get_pretrained_state_dict(name, cfg, hf, dtype=dtype)
    config = _as_of_old(hf)
    with tempfile.TemporaryDirectory(prefix="tlcfg_") as folder:  # without "llama" or "gemma": they select branches
        config.save_pretrained(folder)
        with patch.object(loading, "AutoConfig", SimpleNamespace(from_pretrained=lambda *_, **__: config)):
            cfg = loading.get_pretrained_model_config(folder, hf_cfg=config.to_dict(), **settings)
        weights = loading.get_pretrained_state_dict(folder, cfg, hf, dtype=dtype)
    cfg.tokenizer_name = None
    return cfg, weights


@torch.no_grad()
def take_over(model: Any, weights: dict[str, Tensor]) -> None:
    """Make these tensors the model's own, one at a time, so that there is never a second copy of all of them."""
    taken: set[int] = set()
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    weights = model.fill_missing_keys(weights)
    for name in [*weights]:
        values = weights.pop(name).detach()
        if name not in own:
            continue
        values = laid_out(name, values.to(own[name].dtype))
        if values.untyped_storage().data_ptr() in taken:  # tied: edits of one must not change the other
            values = values.clone()
        taken.add(values.untyped_storage().data_ptr())
        owner, _, leaf = name.rpartition(".")  # the whole model would look at all its modules for each tensor
        model.get_submodule(owner).load_state_dict({leaf: values}, strict=False, assign=True)
        del own[name]


def laid_out(name: str, values: Tensor) -> Tensor:
    """A weight in the layout that HookedTransformer reads, so that no pass copies a transposed matrix."""
    if values.ndim == 2 and name.rpartition(".")[2] in ("W_gate", "W_in", "W_out", "W_U"):
        return values.T.contiguous().T
    return values.contiguous()


def _as_of_old(hf: Any) -> Any:
    """The configuration with names that transformer-lens 3.9 reads and transformers 5 no longer has."""
    config = copy.deepcopy(hf.config)
    config.architectures = [type(hf).__name__]
    rope = getattr(config, "rope_parameters", None) or {}
    for name, value in {
        "n_ctx": getattr(config, "n_positions", None),
        "partial_rotary_factor": rope.get("partial_rotary_factor"),
    }.items():
        if value is not None and not hasattr(config, name):
            setattr(config, name, value)
    return config
