"""Stacks of states with concepts planted in known layers."""

import torch

LAYERS, ITEMS, WIDTH = 5, 60, 24
CONCEPTS = ("cat", "dog", "red")


def noise(seed, items=ITEMS, layers=LAYERS, width=WIDTH):
    return torch.randn(layers, items, width, generator=torch.Generator().manual_seed(seed))


def directions(seed, count=3, width=WIDTH):
    """Orthonormal directions, one per concept."""
    return torch.linalg.qr(torch.randn(width, count, generator=torch.Generator().manual_seed(seed)))[0].T


def labels(items=ITEMS):
    return [CONCEPTS[i % 3] for i in range(items)]


def planted(seed, along=100, layers=(2, 3), strength=8.0, items=ITEMS, offset=None):
    """Noise, with the item's concept along `directions(along)` in the given layers only, and an offset everywhere."""
    states = noise(seed, items)
    found = directions(along)[[i % 3 for i in range(items)]]
    for layer in layers:
        states[layer] += strength * found
    return states if offset is None else states + offset
