"""Whether a wrong value is refused as it should be: in words that say what came, before a model runs."""

from functools import partial

import numpy as np
import torch

import wrong_values as wrong
from semhub_lens.base.errors import SemhubError
from wrong_methods import many

RUNS = []
"""Passes that a wrong value let through, also where the error of a model at rest was swallowed."""


def came(value):
    """What a message may say of the value."""
    if isinstance(value, wrong.Of):
        return [""]
    named = [type(value).__name__, repr(value)[:20]]
    if isinstance(value, torch.Tensor | np.ndarray):
        return [
            *named,
            "shape",
            "NaN",
            "zero",
            "norm",
            "width",
            "entries",
            "no tokens",
            "none",
            "nan",
            "references",
            str(tuple(value.shape)),
            *([] if 0 in value.shape else [str(value.max().item())]),
        ]
    if isinstance(value, str):
        long = ["tokens"] if len(value) > 1000 else []
        return [repr(value)[1:-1][:20], "str", *long] if value.strip() else ["empty", "blank", repr(value)]
    if isinstance(value, list | tuple | dict):
        return [
            *named,
            *(part for entry in value for part in came(entry)),
            *(part for entry in (value.values() if isinstance(value, dict) else ()) for part in came(entry)),
            "empty",
            "no ",
            "none",
            "got ()",
            str(len(value)),
        ]
    return [*named, f"{value:g}"] if isinstance(value, float | int) else named


def outcome(call, value):
    """What is wrong with how a call ends; None where it is refused as it should be."""
    RUNS.clear()
    try:
        call()
    except SemhubError as error:
        message = str(error)
        if RUNS:
            return f"the model ran: {message}"
        if not all(character.isprintable() or character == "\n" for character in message):
            return f"unprintable: {message!r}"
        if len(message) > 1500:
            return f"{len(message)} characters: {message[:200]!r}"
        if not any(part in message for part in came(value)):
            return f"does not say what came: {message}"
        return None if len(message.split()) > 4 else f"does not say what to do: {message}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    return "taken"


def with_value(function, right, argument, value):
    """The right call with a wrong value in place of one argument, or as the only one of many."""
    if many(function, argument):
        return partial(function, value, **right)
    return partial(function, **right | {argument: value})
