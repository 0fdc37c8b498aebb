"""Random numbers from explicit seeds: every draw uses a local generator and leaves the caller's random state alone."""

import torch
from jaxtyping import Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError, whole_number


def generator(seed: int) -> torch.Generator:
    """A local random generator.

    Raises:
        SemhubError: the seed is not a whole number of at most 64 bits.
    """
    if not -(1 << 63) <= whole_number(seed, "A seed") < 1 << 64:
        raise SemhubError(f"A seed has at most 64 bits, got {seed}.")
    return torch.Generator().manual_seed(int(seed))


def derangement(items: int, rng: torch.Generator) -> Int[Tensor, " item"]:
    """A random permutation without fixed points (two items at least): a wrong partner for every item."""
    if items < 2:
        raise SemhubError(f"A permuted pairing needs at least two items, got {items}.")
    order = torch.randperm(items, generator=rng)
    shift = int(torch.randint(1, items, (1,), generator=rng))
    permuted = torch.empty_like(order)
    permuted[order] = order.roll(shift)
    return permuted
