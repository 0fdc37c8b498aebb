"""A row of the benchmark table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """How long a peer and this library take for the same work, in the same process."""

    name: str
    peer_seconds: float
    our_seconds: float
    ratio: float
    """peer_seconds / our_seconds: above 1, we are faster."""
    note: str
