"""Fingerprints: the one home of hashing."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """First 12 hex digits of a SHA-256 over the JSON form of settings or items."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def data_hash(items: Any) -> str:
    """First 12 hex digits of the SHA-256 of the items as JSON: two runs with one hash saw the same data."""
    return hashlib.sha256(json.dumps(items, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]


def content_hash(path: Path) -> str:
    """First 12 hex digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
