"""Errors that speak to the user.

Everything that a user can mend is a `SemhubError`: it says what was received, what was expected and what to do. It is a
`ValueError`, so scripts that catch those go on working. Anything else that is raised is a bug and keeps its traceback.
"""

import operator
from typing import Any, SupportsIndex


class SemhubError(ValueError):
    """What was asked for cannot be done as asked; the message says what to change."""


class Unfit(SemhubError):
    """What was asked for cannot be measured on this model (its tokenizer, its parts, its kind); others may do."""


class Missing(SemhubError):
    """A package that an extra installs is not there; the message says which."""


def is_index(value: Any) -> bool:
    """Whether the value may be one whole number: of Python, of NumPy, or a tensor without axes."""
    return isinstance(value, SupportsIndex) and not isinstance(value, bool) and getattr(value, "ndim", 0) == 0


def whole_number(value: Any, name: str) -> int:
    """The value as an int.

    Raises:
        SemhubError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise SemhubError(f"{name} must be a whole number, got {value!r}.") from error
