"""Devices that do not exist: tensors that say that they lie on one, and refuse to meet those of another.

Entries are computed on the CPU. As on real devices, an operation on tensors of two devices raises an error; only
numbers without axes and indices may come from the CPU. There are no gradients.
"""

import multiprocessing
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

KIND = "privateuseone"
"""What PyTorch calls devices of somebody else's."""
COPYING = ("aten::copy_", "aten::_to_copy")
AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


class Mixed(RuntimeError):
    """Tensors of two devices in one operation."""


def device(index):
    return torch.device(KIND, index)


class Placed(torch.Tensor):
    """A tensor on a device that does not exist."""

    @staticmethod
    def __new__(cls, inner, place):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=place,
        )  # fmt: skip

    def __init__(self, inner, place):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    devices = {each.device for each in tensors if isinstance(each, Placed)}
    indexed = {"aten::index": slice(1), "aten::index_put": slice(None, None, max(1, len(tensors) - 1))}
    meeting = tensors[indexed.get(name.rstrip("_"), slice(None))]
    met = devices | {each.device for each in meeting if each.ndim}
    if name not in COPYING and devices and len(met) > 1:
        raise Mixed(f"{name} got tensors on {sorted(map(str, met))}.")
    asked = kwargs.get("device")
    place = next(iter(devices), torch.device("cpu")) if asked is None else torch.device(asked)
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    out = func(*_bare(args), **_bare(kwargs))
    if name.endswith("_"):
        return args[0]
    if place.type != KIND:
        return out
    return tree_map(lambda leaf: Placed(leaf, place) if isinstance(leaf, torch.Tensor) else leaf, out)


def _bare(values):
    return tree_map(lambda leaf: leaf.inner if isinstance(leaf, Placed) else leaf, values)


class _Made(TorchDispatchMode):
    """Tensors can be made on the devices, and moved to them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class _Listed(TorchFunctionMode):
    """As `_Made`, of lists of numbers, from which PyTorch makes tensors without an operation."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        place = kwargs.pop("device", None) if func in (torch.tensor, torch.as_tensor) else None
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            key = args[1] if isinstance(args[1], tuple) else (args[1],)
            key = tuple(torch.tensor(part) if isinstance(part, list) else part for part in key)
            args = (args[0], key, *args[2:])
        if func is torch.unravel_index:
            args, place = (args[0].cpu(), *args[1:]), args[0].device
        out = func(*args, **kwargs)
        if isinstance(out, tuple) and place is not None:
            return tuple(each.to(place) for each in out)
        return out if place is None else out.to(place)


@contextmanager
def devices():
    """There are devices while the context is open; PyTorch goes on knowing them, so open it `in_a_fork`."""
    backend_registration._setup_privateuseone_for_python_backend()
    with _Made(), _Listed():
        yield


def in_a_fork(function):
    """What a function returns in a process of its own, which leaves nothing behind."""
    ours, theirs = multiprocessing.Pipe()

    def call():
        torch.set_num_threads(1)  # the threads of this process are not in that one
        try:
            with devices():
                theirs.send((function(), None))
        except BaseException as error:
            theirs.send((None, f"{type(error).__name__}: {error}"))
            raise

    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    theirs.close()
    try:
        out, error = ours.recv()
    except EOFError:
        out, error = None, "the process died"
    process.join()
    assert error is None, error
    return out


def place(module, index):
    """Move a module's weights to a device."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None and not isinstance(value.data, Placed):
                    moved = Placed(value.detach(), device(index))
                    held[name] = torch.nn.Parameter(moved, False) if held is part._parameters else moved
