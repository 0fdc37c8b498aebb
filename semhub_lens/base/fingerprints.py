"""Fingerprints: all hashing of the package.

A fingerprint is the start of a SHA-256 over content, never over a name or a `repr`. A saved run is identified by
`fingerprint` of its settings and items, `weights_fingerprint` and `content_fingerprint` of its model, and
`source_fingerprint` of this package.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semhub_lens.base.errors import SemhubError

LENGTH = 12
"""Hex digits of a fingerprint: 48 bits."""
BLOCK = 1 << 22
SAMPLED = 1024
"""Sampled entries of every parameter; smaller parameters are read whole."""
PACKAGE = Path(__file__).parent.parent
SUMMED = 1 << 20
"""Values that are summed at a time."""
UNCOUNTED = (".pyc", ".safetensors")


def fingerprint(value: Any) -> str:
    """Fingerprint of content: two values have the same fingerprint only if their content is the same.

    It covers numbers, texts, bytes, None, lists and tuples (a tuple equals a list), and mappings with text keys in any
    order. Of dataclasses (such as `Prompt`) it covers the fields, of paths the text, and of tensors, arrays and
    pictures the dtype, the shape and every entry. It ignores dataclass fields declared with `compare=False`.

    Raises:
        SemhubError: a value of another type, whose content cannot be read; the message gives its type.

    Example:
        >>> fingerprint({"a": (1, 2), "b": None}) == fingerprint({"b": None, "a": [1, 2]})
        True
        >>> fingerprint(torch.zeros(2, 3)) == fingerprint(torch.zeros(3, 2))
        False
    """
    try:
        return short(json.dumps(value, sort_keys=True, default=_content).encode())
    except (TypeError, ValueError) as error:
        raise SemhubError(f"No fingerprint of this {type(value).__name__}: {error}") from error


def _content(value: Any) -> Any:
    """What JSON does not know, as something that it does and that nothing else is written as."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return {"<tensor>": [str(value.dtype), list(value.shape), short(_bytes(value))]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.compare]
        return {f"<{kind}>": {name: getattr(value, name) for name in fields}}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return {"<bytes>": short(value)}
    if isinstance(value, PurePath):
        return {"<path>": str(value)}
    if hasattr(value, "__array_interface__"):
        array = np.ascontiguousarray(value)
        return {"<array>": [str(array.dtype), list(array.shape), short(array.tobytes())]}
    raise TypeError(
        f"it holds a {type(value).__module__}.{kind}, whose content cannot be read. Use numbers, texts, tensors, or "
        "lists, mappings and dataclasses of them."
    )


def short(data: bytes) -> str:
    """The start of the SHA-256 of bytes."""
    return sha256(data)[:LENGTH]


def sha256(data: bytes) -> str:
    """The whole SHA-256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def values_fingerprint(values: Tensor) -> str:
    """Fingerprint of a tensor's entries only, row by row."""
    return short(_bytes(values))


def file_fingerprint(path: Path) -> str:
    """Fingerprint of a file's content."""
    return short(path.read_bytes())


def files_sha256(paths: Iterable[Path], report: Callable[[int], Any] = lambda read: None) -> str:
    """The whole SHA-256 of several files, read block by block; `report` gets the length of each block."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                whole.update(block)
                report(len(block))
    return whole.hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The whole SHA-256 over names, shapes and entries of tensors; projector files store theirs."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        whole.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        whole.update(_bytes(value))
    return whole.hexdigest()


def weights_fingerprint(named: Iterable[tuple[str, Tensor]]) -> str:
    """Fingerprint of a model: the name, the shape and a sample of the entries of every parameter and buffer.

    Parameters of up to `SAMPLED` entries are read whole. Of larger ones, every s-th entry is read, where s is coprime
    to all axes. So the sample covers rows, columns, heads and experts evenly. It detects a change of a block of a
    matrix or of a row of a bias. It depends on the values, not on their dtype.
    """
    whole = hashlib.sha256()
    for name, value in named:
        whole.update(f"{name} {tuple(value.shape)}".encode())
        whole.update(_bytes(_sample(value.detach()).cpu().to(torch.float64)))
    return whole.hexdigest()[:LENGTH]


def content_fingerprint(named: Iterable[tuple[str, Tensor]]) -> str:
    """Fingerprint of the name, the shape and every value of every parameter and buffer.

    The bits of the values (in float32, and what that leaves out) are summed onto each axis, and the sums are hashed. So
    it reads the weights once, at the speed of memory, and detects a change of a single value. It depends on the values,
    not on their dtype or layout.
    """
    whole = hashlib.sha256()
    for name, value in named:
        whole.update(f"{name} {tuple(value.shape)}".encode())
        value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
        for sums in _sums(value.detach()) if value.numel() else ():
            whole.update(_bytes(sums))
    return whole.hexdigest()[:LENGTH]


def _sums(value: Tensor) -> list[Tensor]:
    """Sums of the bits of the values onto each axis; for a vector, these are its bits."""
    value = value if value.ndim > 1 else value.reshape(1, -1)
    order = sorted(range(value.ndim), key=value.stride, reverse=True)
    outer = [value.shape[axis] for axis in order[:-1]]
    stored = value.permute(order).reshape(-1, value.shape[order[-1]])  # a view, as the numbers lie in memory
    rows: list[list[Tensor]] = [[], []]
    last = [torch.zeros(stored.shape[1], dtype=torch.int32, device=value.device) for _ in rows]
    for block in stored.split(max(1, SUMMED // stored.shape[1])):
        for number, bits in enumerate(_bits(block)):
            bits = bits ^ (bits >> 16)  # else the signs of an even number of values would cancel
            rows[number].append(bits.sum(1, dtype=torch.int32))
            last[number] += bits.sum(0, dtype=torch.int32)
    found = []
    for parts, along in zip(rows, last, strict=True):
        if found and not (parts and any(bool(one.any()) for one in (along, *parts))):
            continue  # float32 holds the values, so nothing is left out
        first = torch.cat(parts).view(outer)
        others = [[other for other in range(first.ndim) if other != axis] for axis in range(first.ndim)]
        sums = [first.sum(axes, dtype=torch.int32) if axes else first for axes in others] + [along]
        found += [sums[order.index(axis)] for axis in range(value.ndim)]
    return found


def _bits(value: Tensor) -> list[Tensor]:
    """The bits of the values in float32; for wider dtypes also of what that leaves out."""
    near = value.float()
    if value.dtype == torch.float32 or value.dtype.itemsize < 4:
        return [near.view(torch.int32)]
    rest = (value.double() - near.double()).nan_to_num(0.0, 0.0, 0.0)  # nothing is left of infinity
    halves = rest.contiguous().view(torch.int32).unflatten(-1, (-1, 2))
    return [near.view(torch.int32), halves.sum(-1, dtype=torch.int32)]


def _sample(value: Tensor) -> Tensor:
    entries = value.numel()
    if entries <= SAMPLED:
        return value
    step = entries // SAMPLED
    while math.gcd(step, entries) > 1:
        step += 1
    if value.is_contiguous():
        return value.view(-1)[::step]
    flat = torch.arange(0, entries, step, device=value.device)
    return value[torch.unravel_index(flat, value.shape)]


def source_fingerprint(folder: Path = PACKAGE) -> str:
    """Fingerprint of a package's own code and bundled data: names and content of its files.

    Compiled and hidden files are left out, and so are safetensors files: the code that reads them checks their content.
    """
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    counted = [
        path for path in paths if path.suffix not in UNCOUNTED and not any(p.startswith(".") for p in path.parts)
    ]
    return fingerprint({path.as_posix(): file_fingerprint(folder / path) for path in counted})


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().reshape(-1)
    if len(flat) == 1:  # contiguous whatever its stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes()
