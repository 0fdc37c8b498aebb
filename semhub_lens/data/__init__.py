"""Items to measure on: bundled sentences, generated arithmetic, real Python programs."""

import hashlib
import json
from typing import Any


def data_hash(items: Any) -> str:
    """First 12 hex digits of the SHA-256 of the items as JSON: two runs with one hash saw the same data."""
    return hashlib.sha256(json.dumps(items, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]
