"""Similarity of 512 pairs, with its nulls, against CKA's null as permuted n x n matrices."""

import torch
from torch import Tensor

import semhub_lens as shl
from benchmarks.table import Row, extra_memory, in_turn

SHAPE, DRAWS, TIMED = (19, 512, 640), 500, 4


def centred(states: Tensor) -> Tensor:
    """The Gram matrix of one layer, U-centred: its diagonal is 0 (Szekely and Rizzo 2014)."""
    gram, n = states @ states.T, len(states)
    gram.fill_diagonal_(0)
    rows = gram.sum(0) / (n - 2)
    gram = gram - rows[:, None] - rows + gram.sum() / ((n - 1) * (n - 2))
    return gram.fill_diagonal_(0)


def plain(a: Tensor, b: Tensor, draws: int) -> Tensor:
    """CKA of every layer under permuted pairings, by its definition."""
    draw, found = torch.Generator().manual_seed(0), []
    for one, other in zip(a, b, strict=True):
        first, second = centred(one), centred(other)
        scale = first.norm() * second.norm()
        orders = (torch.randperm(len(one), generator=draw) for _ in range(draws))
        found.append(torch.stack([(first * second[order][:, order]).sum() / scale for order in orders]))
    return torch.stack(found, dim=1)


def measure(shape: tuple[int, int, int] = SHAPE, *, rounds: int = 3) -> list[Row]:
    """All measures with 500 draws."""
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=draw) for _ in range(2))
    sides = {"ours": lambda: shl.similarity(a, b), "peer": lambda: plain(a, b, TIMED)}
    took = in_turn(sides, rounds)
    note = f"peer: the null of CKA alone, {TIMED} of {DRAWS} draws timed and scaled"
    layers, n, width = shape
    name = f"`similarity`, {n} pairs x {layers} layers x {width}"
    peer = took["peer"].times(DRAWS / TIMED)
    return [Row(name, took["ours"], peer, bar="2 s", memory=extra_memory(sides["ours"]), note=note)]
