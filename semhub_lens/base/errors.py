"""Errors with a message for the user.

Everything that a user can fix raises a `SemhubError`. Its message says what was received, what was expected and what to
do. It is a `ValueError`, so scripts that catch `ValueError` keep working. Any other exception is a bug and keeps its
traceback.
"""

import operator
from typing import Any


class SemhubError(ValueError):
    """The request cannot be carried out; the message says what to change."""


class Unfit(SemhubError):
    """The request cannot be measured on this model; other models may work."""


class Missing(SemhubError):
    """A package from an extra is not installed; the message says which."""


def is_index(value: Any) -> bool:
    """Whether the value is one whole number: a Python or NumPy integer, or a tensor of one without axes."""
    if type(value) is int:
        return True
    if isinstance(value, bool) or getattr(value, "ndim", 0) or str(getattr(value, "dtype", "")) == "torch.bool":
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def whole_number(value: Any, name: str) -> int:
    """The value as an int.

    Raises:
        SemhubError: it is not a whole number.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise SemhubError(f"{name} must be a whole number, got {value!r}.") from error


def require_size(name: str, size: int) -> None:
    """Raise a SemhubError for a size below 1."""
    if size < 1:
        raise SemhubError(f"{name}= must be at least 1, got {size}.")
