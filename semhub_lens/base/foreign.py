"""Every private name of another library that this package reads: a new version of that library may rename it.

`tests/base/test_foreign.py` looks them up in the installed versions and reports missing ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

WRAPPED = "._original_component"
"""transformer-lens: the attribute of a bridge component for the Hugging Face module that it wraps, in module names."""
NAME_OR_PATH = "_name_or_path"
"""transformers: the entry of a config that says where it was read from."""


def is_hung_on(module: Any) -> bool:
    """PyTorch: whether a module has hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def edits_of(tensor: Any) -> int:
    """PyTorch: how often a tensor was written in place; always 0 for a tensor made in inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def device_hook(module: Any) -> Any:
    """accelerate: the hook that moves a module's inputs or weights between devices in its pass, or None.

    A bridge component forwards attributes of the module that it wraps, so only the module's own entry counts.
    """
    return vars(module).get("_hf_hook")


def is_protocol(kind: type) -> bool:
    """Python before 3.13: whether a class is a protocol."""
    return bool(getattr(kind, "_is_protocol", False))


def is_processed(bridge: Any) -> bool:
    """transformer-lens: whether a bridge has folded its weights."""
    return getattr(bridge, "_weights_processed", False)


@contextmanager
def listed_once(model: Any, points: Mapping[str, Any]) -> Iterator[None]:
    """transformer-lens: while open, a bridge returns these `points` as `hook_dict`.

    Otherwise it lists them again on every access, and `hooks` makes one access per hook: half the time of a short pass.
    """
    if not hasattr(model, "_add_aliases_to_hooks"):  # a HookedTransformer keeps its list
        yield
        return
    model._add_aliases_to_hooks = lambda hooks: hooks.update(points)
    try:
        yield
    finally:
        del model._add_aliases_to_hooks


def unpadding_of(processor: Any) -> Any:
    """transformers: the method that counts a picture's features at full resolution (LLaVA-NeXT, OneVision)."""
    return getattr(processor, "_get_unpadded_features", None)


def blocks_of(net: Any) -> Any:
    """efficientnet-lite-pytorch: the blocks of a network."""
    return net._blocks


def head_of(net: Any) -> Any:
    """efficientnet-lite-pytorch: the last layer of a network, the classifier."""
    return net._fc
