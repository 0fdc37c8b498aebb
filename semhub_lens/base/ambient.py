"""Settings of torch that hold for everything in a process, kept out of the numbers of this library."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

AUTOCAST = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices on which torch can compute in half precision by itself."""


def is_set() -> bool:
    """Whether tensors are made for inference or on another device than the CPU, or half precision is automatic."""
    usual = torch.get_default_device().type == "cpu" and not torch.is_inference_mode_enabled()
    return not usual or any(map(torch.is_autocast_enabled, AUTOCAST))


@contextmanager
def as_delivered() -> Iterator[None]:
    """Torch as it is without settings while the context is open.

    Example:
        >>> from semhub_lens.base.ambient import as_delivered
        >>> with torch.autocast("cpu"), as_delivered():
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    with ExitStack() as stack:
        for kind in filter(torch.is_autocast_enabled, AUTOCAST):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(torch.device("cpu"))
        yield
