"""The real weights of a model, wherever they are kept: on several devices, offloaded by accelerate, quantised.

An offloaded module has placeholders without values (on the device `meta`) except while it runs. All code that reads a
weight outside a pass uses this module.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from accelerate.utils import named_module_tensors, set_module_tensor_to_device
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.fingerprints import content_fingerprint, weights_fingerprint
from semhub_lens.base.foreign import WRAPPED, device_hook, edits_of
from semhub_lens.model.rotary import forget_lengths

READABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes of matrices that can be read as stored."""
_contents: "WeakKeyDictionary[Module, tuple[tuple, str]]" = WeakKeyDictionary()
"""For each model: the version of its weights, and the fingerprint of all values for that version."""


class Source(NamedTuple):
    """The place where accelerate keeps an offloaded weight."""

    hook: Any
    name: str
    """In the module that the hook belongs to."""

    def value(self) -> Tensor:
        """The weight; the same tensor each time in memory, a new one from a disk."""
        try:
            return self.hook.weights_map[self.name]
        except KeyError:
            raise _without_values([self.name]) from None


@contextmanager
def present(*roots: Module, device: Any = None) -> Iterator[None]:
    """Give modules and their submodules their real weights while the context is open, as if they were never offloaded.

    Args:
        roots: the modules; modules that are not offloaded do not change.
        device: the device for the weights; None means the device on which the module runs.

    Raises:
        Unfit: a weight without values that accelerate does not keep.
    """
    with ExitStack() as stack:
        for module in dict.fromkeys(module for root in roots for module in root.modules()):
            if (hook := _offloading(module)) is not None:
                _take_back(module, hook, device, stack)
        _require_values((name, weight) for root in roots for name, weight in _tensors(root))
        yield


def _take_back(module: Module, hook: Any, device: Any, stack: ExitStack) -> None:
    """Take accelerate's hook off a module and fill in its weights, until the stack is closed."""
    names = [name for name, weight in named_module_tensors(module, recurse=hook.place_submodules) if weight.is_meta]
    outer, home = device_hook(module), dict(hook.original_devices)
    remove_hook_from_module(module)

    def put_back() -> None:
        add_hook_to_module(module, outer)
        hook.original_devices = home  # the hook would remember where the weights were just now

    stack.callback(put_back)
    for name in names:
        place = hook.execution_device if device is None else device
        set_module_tensor_to_device(module, name, place, value=Source(hook, name).value())


def stored(model: Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer by its name in the model; for an offloaded one, the values that accelerate keeps.

    For a quantised matrix, these are the tensors that it consists of.

    Raises:
        Unfit: a weight without values that accelerate does not keep.
    """
    forget_lengths(model)
    for name, weight, _ in _kept(model):
        yield from _parts(name, weight)


def content_of(model: Module) -> str:
    """Fingerprint of every value of every parameter and buffer; kept until a weight changes.

    It reads all weights, so only what is saved and continued by another process asks for it. PyTorch does not record a
    change through `weight.data`, so within a process such a change is only found by the sample.
    """
    sample = weights_fingerprint(stored(model))
    found = known_content(model, sample)
    if found is None:
        found = content_fingerprint(stored(model))
        _contents[model] = (sample, editions(model)), found
    return found


def known_content(model: Module, sample: str) -> str | None:
    """`content_of` if it was computed and no weight has changed since; `sample` is today's `weights_fingerprint`."""
    version, found = _contents.get(model, (None, None))
    return found if version == (sample, editions(model)) else None


def editions(model: Module) -> tuple:
    """A value that changes if a weight is replaced or written in place (on a disk: only if it is replaced)."""
    forget_lengths(model)
    weights = list(model.parameters())
    if not any(weight.is_meta or hasattr(weight, "__tensor_flatten__") for weight in weights):
        written = (edits_of(buffer) for buffer in model.buffers())  # rotary scaling replaces its own in every pass
        return (*((weight.data_ptr(), edits_of(weight)) for weight in weights), *written)
    return tuple(
        edition for name, weight, source in _kept(model) for edition in _editions(_parts(name, weight), weight, source)
    )


def _editions(parts: Iterable[tuple[str, Tensor]], weight: Tensor, source: Source | None) -> Iterator[tuple]:
    """The same for one weight; a weight from a disk has another address at every read."""
    anew = source is not None and source.value() is not weight
    yield from ((0 if anew else part.data_ptr(), edits_of(part), id(source.hook) if source else 0) for _, part in parts)


def home_of(model: Module, weight: Tensor) -> torch.device:
    """Device on which a parameter of the model takes part in a pass."""
    if not weight.is_meta:
        return weight.device
    for module in _trees(model):
        hook = _offloading(module)
        if hook is not None and any(own is weight for _, own in named_module_tensors(module, recurse=True)):
            return torch.device(hook.execution_device)
    raise _without_values(["a parameter"])


def is_offloaded(model: Module) -> bool:
    """Whether accelerate keeps weights of the model elsewhere while they do not run."""
    return any(_offloading(module) is not None for module in _trees(model))


def unembedding(model: Any, *, device: Any = None) -> Float[Tensor, "d_model vocab"]:
    """$W_U$ with its values; `device` is the device for an offloaded one (None: where it runs).

    Raises:
        Unfit: it is quantised, or has no values.
    """
    require_readable(model)
    with present(model.unembed, device=device):
        return model.W_U


def unembedding_bias(model: Any) -> Float[Tensor, " vocab"] | None:
    """$b_U$ with its values, or None if the model has none."""
    with present(model.unembed):
        return getattr(model, "b_U", None)


def unembedding_device(model: Any) -> torch.device:
    """Device on which the model computes its logits."""
    return home_of(model, next(weight for _, weight in _tensors(model.unembed)))


def first_rows_of_the_embedding(model: Any, rows: int) -> Float[Tensor, "row d_model"]:
    """The first rows of $W_E$.

    Raises:
        Unfit: it is quantised, or has no values.
    """
    require_readable(model)
    with present(model.embed, device="cpu"):
        return model.W_E[:rows]


def require_read(hf: Module, told: Mapping[str, Any], where: str) -> None:
    """Refuse a Hugging Face model some of whose weights were not in its files: transformers draws those at random.

    Args:
        hf: the model.
        told: what `from_pretrained` tells of it with `output_loading_info`.
        where: what it was read from, for the message.

    Raises:
        SemhubError: a weight was missing.
    """
    missing = [name for name, _ in hf.named_parameters() if name in told["missing_keys"]]
    if missing:
        raise SemhubError(
            f"{where} lacks {len(missing)} of the model's weights ({missing[0]}, ...), which would be random. Take the "
            "whole model, in a form that transformers reads."
        )


def require_values(model: Module) -> None:
    """Refuse a model with weights that have no values and that accelerate does not keep.

    Raises:
        Unfit: it has one.
    """
    if any(weight.is_meta for weight in model.parameters()):
        for _ in _kept(model):
            pass


def require_readable(model: Any) -> None:
    """Refuse a model with a quantised embedding or unembedding: the stored values are not those that it computes with.

    Raises:
        Unfit: one of them is.
    """
    for what in ("embed", "unembed"):
        part = getattr(model, what, None)
        for _, weight in () if part is None else _tensors(part):
            if weight.ndim > 1 and not _is_readable(weight):
                raise Unfit(
                    f"The {what}ding is quantised (a {type(weight).__name__} of {weight.dtype}, {list(weight.shape)}), "
                    "so its rows cannot be read. Quantise only the blocks, not the embedding and the output layer "
                    "(lm_head); this is the default in transformers."
                )


def require_plain(model: Module) -> None:
    """Refuse a model that cannot be copied with other weights, because some are offloaded or quantised.

    Raises:
        Unfit: it has some.
    """
    odd = [n for n, w in model.named_parameters() if w.ndim > 1 and (w.is_meta or not _is_readable(w))]
    if odd or is_offloaded(model):
        raise Unfit(
            "No copy with random weights can be made of a model whose weights are offloaded or quantised "
            f"({', '.join(odd[:1]) or 'by accelerate'}, ...): load it whole and unquantised for this baseline."
        )


def _is_readable(weight: Tensor) -> bool:
    return weight.dtype in READABLE and not hasattr(weight, "__tensor_flatten__")


def _kept(model: Module) -> Iterator[tuple[str, Tensor, Source | None]]:
    """Name and values of every parameter and buffer, and where accelerate keeps them if it does."""
    kept: dict[int, Source] = {}
    for module in _trees(model):
        if (hook := _offloading(module)) is not None:
            held = named_module_tensors(module, recurse=hook.place_submodules)
            kept |= {id(weight): Source(hook, name) for name, weight in held if weight.is_meta}
    tied = _tied_names(model) if kept else {}
    seen: dict[str, Tensor] = {}
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        source = kept.get(id(weight))
        if weight.is_meta:
            if source is None:
                raise _without_values([name])
            weight = source.value()
            first = seen.get(tied.get(name.replace(WRAPPED, ""), ""))
            if first is not None and _alike(first, weight):  # one tensor, where nothing is offloaded
                continue
        seen[name.replace(WRAPPED, "")] = weight
        yield name, weight, source


def _alike(one: Tensor, other: Tensor) -> bool:
    rows = slice(None, None, max(1, len(one) // 64))
    return one.shape == other.shape and torch.equal(one[rows], other[rows])


def _tied_names(model: Any) -> dict[str, str]:
    """For each tied weight of a Hugging Face model, the name of the weight that it shares."""
    return getattr(getattr(model, "original_model", None), "all_tied_weights_keys", None) or {}


def _parts(name: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A plain tensor itself; for a tensor made of others (a quantised matrix), these others."""
    flatten: Any = getattr(weight, "__tensor_flatten__", None)
    if flatten is None:
        yield name, weight
        return
    for part in flatten()[0]:
        yield from _parts(f"{name}.{part}", getattr(weight, part))


def _offloading(module: Module) -> Any:
    """The hook of accelerate that offloads a module's own weights, or None."""
    hook = device_hook(module)
    return next((one for one in getattr(hook, "hooks", (hook,)) if getattr(one, "offload", False)), None)


def _trees(model: Any) -> Iterable[Module]:
    """All modules; a bridge has the wrapped model in addition to its own modules."""
    trees = [model, getattr(model, "original_model", None)]
    return dict.fromkeys(module for tree in trees if isinstance(tree, Module) for module in tree.modules())


def _tensors(module: Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module and its submodules; a bridge's `named_parameters` omits some."""
    yield from Module.named_parameters(module)
    yield from module.named_buffers()


def _require_values(named: Iterable[tuple[str, Tensor]]) -> None:
    if missing := [name for name, weight in named if weight.is_meta]:
        raise _without_values(missing)


def _without_values(names: list[str]) -> Unfit:
    return Unfit(
        f"{len(names)} of the model's weights ({names[0]}, ...) have no values: they are on the device 'meta', and "
        "accelerate does not keep them elsewhere. Load the weights first, then offload (cpu_offload, disk_offload, "
        "dispatch_model), then wrap. A TransformerBridge of transformer-lens 3.9 cannot be offloaded; version 4 can."
    )
