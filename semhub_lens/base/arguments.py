"""Check the arguments of public functions against their annotations before anything runs.

`checked` tests only the type: a text, a whole number, a finite number, a tensor with a number of axes, a list of these,
or one of several words. The function itself tests the value, such as a layer of this model or a known span. It runs
without the settings of torch in `ambient`, which would change its numbers.
"""

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from functools import wraps
from math import inf
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal, SupportsIndex, TypeVar, Union, cast, get_args, get_origin

import numpy as np
from torch import Tensor

from semhub_lens.base.ambient import as_delivered, is_set
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.base.foreign import is_protocol

T = TypeVar("T", bound=Callable)
SHOWN = 80
NAMES = {
    str: "a text", bool: "True or False", int: "a whole number", SupportsIndex: "a whole number",
    float: "a finite number", Path: "a path", Tensor: "a tensor", type(None): "None",
}  # fmt: skip


def checked(thing: T) -> T:
    """Decorate a public function, or a class, so that it refuses arguments of the wrong type.

    Raises:
        SemhubError: (when called) an argument does not match its annotation; the message gives the function, the
            argument, the value and what is expected.

    Example:
        >>> @checked
        ... def half(value: float) -> float:
        ...     return value / 2
        >>> half("a")
        Traceback (most recent call last):
            ...
        semhub_lens.base.errors.SemhubError: half(): value= takes a finite number, got 'a'.
    """
    made: Any = thing
    if isinstance(thing, type):
        made.__init__ = _checking(made.__init__, made.__name__)
        return made
    return _checking(made, made.__qualname__)


def _checking(function: Any, name: str) -> Any:
    signature = inspect.signature(function)
    known = {
        key: Union[entry.annotation, None] if entry.default is None else entry.annotation  # noqa: UP007
        for key, entry in signature.parameters.items()
        if entry.annotation is not inspect.Parameter.empty and entry.kind is not inspect.Parameter.VAR_KEYWORD
    }
    many = [key for key, entry in signature.parameters.items() if entry.kind is inspect.Parameter.VAR_POSITIONAL]

    @wraps(function)
    def call(*args: Any, **settings: Any) -> Any:
        try:
            bound = signature.bind(*args, **settings)
        except TypeError as error:  # names neither the function nor the argument that was meant
            wrong = next((key for key in settings if key not in signature.parameters), None)
            raise TypeError(f"{name}() {error}{nearest(wrong, signature.parameters)}") from None
        for key, value in bound.arguments.items():
            for one in value if key in many else (value,):
                if key in known and not _fits(one, known[key]):
                    wanted = _described(known[key])
                    hint = _hint(one, wanted) + nearest(one, _words(known[key]))
                    takes = f"each of *{key} is" if key in many else f"{key}= takes"
                    raise SemhubError(f"{name}(): {takes} {wanted}, got {shown(one)}{hint}.")
        with as_delivered() if is_set() else nullcontext():
            return function(*args, **settings)

    return call


def _hint(value: Any, wanted: str) -> str:
    if isinstance(value, str) and "a list" in wanted:
        return ": put it into a list"
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    return ": pass real numbers, such as value.real" if any(map(is_complex, entries)) else ""


def is_complex(value: Any) -> bool:
    """Whether it is a tensor or an array of complex numbers.

    Everything here computes with real numbers. torch would drop the imaginary parts, at most with a warning.
    """
    if isinstance(value, Tensor):
        return value.is_complex()
    return isinstance(value, np.ndarray) and value.dtype.kind == "c"


def native(value: Any) -> Any:
    """A NumPy array in the form that torch reads: not reversed, read-only, unsigned or in another byte order.

    An array of other things than numbers becomes a list.

    Raises:
        SemhubError: a masked array, whose mask torch would ignore.
    """
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind not in "biufc":
        return value.tolist()
    if np.ma.is_masked(value):
        raise SemhubError(f"The array has a mask of its own, got {shown(value)}; pass only its entries, .compressed().")
    kind = np.int64 if value.dtype.kind in "iu" else value.dtype.newbyteorder("=")
    return np.array(value, dtype=kind, order="C", subok=False)


def nearest(value: Any, words: Iterable[str]) -> str:
    """The end of a message about a word that is none of `words`: the most similar one, if there is one.

    Example:
        >>> from semhub_lens.base.arguments import nearest
        >>> nearest("tunned", ["final", "tuned"]), nearest("x", ["final", "tuned"])
        (" (nearest: 'tuned')", '')
    """
    near = get_close_matches(value.lower(), list(words), n=1) if isinstance(value, str) else []
    return f" (nearest: {near[0]!r})" if near else ""


def _words(kind: Any) -> list[str]:
    """The words that an annotation lists."""
    if get_origin(kind) is Literal:
        return [one for one in get_args(kind) if isinstance(one, str)]
    return [word for one in get_args(kind) for word in _words(one)]


def shown(value: Any) -> str:
    """A value for a message: in one short line, a tensor by its shape."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} ({str(value.dtype).removeprefix('torch.')})"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({type(value).__name__})"


def _fits(value: Any, kind: Any) -> bool:
    if is_complex(value):
        return False
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if origin is Annotated:
        return _fits(value, inner[0])
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if kind is None or kind is type(None):
        return value is None
    if kind in (int, SupportsIndex):
        return is_index(value)
    if kind is float:
        return _is_number(value)
    if origin is tuple:
        return isinstance(value, tuple | list) and _entries_fit(value, inner)
    if origin is not None and isinstance(origin, type):
        return _holds(value, origin, inner)
    if hasattr(kind, "array_type"):  # of jaxtyping
        return isinstance(value, kind.array_type) and _axes(kind) in (None, value.ndim)
    plain = isinstance(kind, type) and not is_protocol(kind)
    return not plain or isinstance(value, kind)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and bool(value.isfinite())
    return isinstance(value, Real) and not isinstance(value, bool) and bool(-inf < cast(float, value) < inf)


def _entries_fit(value: Collection, inner: tuple[Any, ...]) -> bool:
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(_fits(entry, inner[0]) for entry in value)
    return len(value) == len(inner) and all(map(_fits, value, inner))


def _holds(value: Any, origin: type, inner: tuple[Any, ...]) -> bool:
    """Whether a container is of the kind and so are its entries; what can be read once only is not looked into."""
    if issubclass(origin, Callable):
        return callable(value)
    if issubclass(origin, Mapping):
        fits = isinstance(value, Mapping)
        return fits and all(_fits(key, inner[0]) and _fits(entry, inner[1]) for key, entry in value.items())
    if isinstance(value, Tensor | np.ndarray) and inner and inner[0] in (int, SupportsIndex, float):
        value = value.tolist()  # plain numbers are looked at much faster
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return False
    if issubclass(origin, Sequence) and not (isinstance(value, Collection) and not isinstance(value, set | frozenset)):
        return False
    if getattr(value, "ndim", 1) == 0:
        return False
    return not isinstance(value, Collection) or not inner or all(_fits(entry, inner[0]) for entry in value)


def _axes(kind: Any) -> int | None:
    """How many axes a jaxtyping annotation names; None for any number."""
    names = kind.dim_str.split()
    return None if any(name.startswith(("*", "...")) for name in names) else len(names)


def _described(kind: Any, inside: bool = False) -> str:
    """The kind in words; of what lies inside a list or a mapping only the outline."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return inner[1]
    if origin in (Union, types.UnionType):
        parts = [_described(one, inside) for one in inner if one is not type(None)]
        return " or ".join(dict.fromkeys(parts))
    if origin is Literal:
        return ("one of " if len(inner) > 1 else "") + ", ".join(map(repr, inner))
    if hasattr(kind, "array_type"):
        return f"{NAMES.get(kind.array_type, kind.array_type.__name__)} [{kind.dim_str.strip()}]"
    if origin is None or not isinstance(origin, type):
        return NAMES.get(kind) or getattr(kind, "__name__", str(kind))
    if issubclass(origin, Callable):
        return "a function"
    many = [] if inside else [_described(one, inside=origin is not tuple) for one in inner if one is not Ellipsis]
    if issubclass(origin, Mapping):
        return f"a mapping ({many[0]}: {many[1]})" if many else "a mapping"
    if origin is tuple and Ellipsis not in inner:
        several = {2: "pairs" if inside else "a pair"}.get(len(inner), f"{len(inner)} entries")
        return f"{several} ({', '.join(many)})" if many else several
    return f"a list (of {many[0]})" if many else "a list"
