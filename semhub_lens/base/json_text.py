"""Values as JSON in ASCII."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def in_json(whole: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON in ASCII, with null for undefined numbers."""
    return json.dumps(_finite(whole), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
