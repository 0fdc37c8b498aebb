"""Similarity of 10,000 pairs: time, and memory above its inputs. Runs only where it is named: some ten minutes."""

import torch

import semhub_lens as shl
from benchmarks.table import Row, Side, extra_memory, once

SHAPE = (33, 10_000, 1024)
ALONE = True
"""Not among what runs without a name."""


def measure(shape: tuple[int, int, int] = SHAPE) -> list[Row]:
    """All measures once."""
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=draw) for _ in range(2))
    took: list[float] = []
    memory = extra_memory(lambda: took.extend(once(lambda: shl.similarity(a, b))))
    layers, n, width = shape
    name = f"`similarity`, {n:,} pairs x {layers} layers x {width}"
    return [Row(name, Side(took[0], took[1]), bar="10 min, 1,500 MB", memory=memory, note="one run")]
