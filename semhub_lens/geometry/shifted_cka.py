r"""Debiased CKA of two sets of states, and its null: all partners shifted in a random order of the items.

CKA compares the U-centred Gram matrices of the sets (Székely & Rizzo 2014). The inner product of one with the other,
permuted, is the unbiased HSIC without further terms:

$$\operatorname{HSIC}(K, M_\pi) = \frac{1}{n (n - 3)} \sum_{i \ne j} \tilde K_{ij} \tilde M_{\pi_i \pi_j}$$

For any permutations, each costs $n^2$ look-ups. For shifts it is a sum of cross-correlations, one for each pair of
diagonals, and a Fourier transform finds all shifts at once. No Gram matrix is kept: some of its diagonals exist at a
time.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.rng import generator

DIAGONALS = 512
"""Diagonals of both Gram matrices that exist at a time."""
ROWS = 128
"""Rows whose part of these diagonals is cut out of one product."""
CONSTANT = 1e-6
"""States whose entries all differ by less than this share of the largest entry differ only by rounding."""

Shifts = list[tuple[Int[Tensor, " item"], Int[Tensor, " step"]]]
"""Random orders of the items, each with the steps by which all partners move on in it."""


def shifts(n: int, seed: int, draws: int) -> Shifts:
    """Random pairings in which no item keeps its partner, the same at every layer: as few orders as hold the draws.

    Item `order[i]` gets the partner of item `order[i + step]`. With step 0, the steps of an order are a group, so a
    permutation test with one order is exact (Hemerik & Goeman 2018).
    """
    rng, found = generator(seed + 4), []
    while draws > 0:
        steps = 1 + torch.randperm(n - 1, generator=rng)[:draws]
        found.append((torch.randperm(n, generator=rng), steps))
        draws -= len(steps)
    return found


def cka_and_null(
    a: Float[Tensor, "layer item d_model"], b: Float[Tensor, "layer item other"], pairs: Shifts
) -> tuple[Float[Tensor, " layer"], Float[Tensor, "draw layer"]]:
    """Debiased CKA of all layers, and the same if the partners are shifted."""
    n, draws = a.shape[1], sum(len(steps) for _, steps in pairs)
    own, null = (torch.full(shape, torch.nan, dtype=torch.float32) for shape in ((len(a),), (draws, len(a))))
    for layer, (x, y) in enumerate(zip(a, b, strict=True)):
        (x, x_varies), (y, y_varies) = _centred(x), _centred(y)
        if n < 4 or not (x_varies and y_varies):
            continue
        unshifted = [(torch.arange(n), torch.arange(0))]
        found = [_shifted_cka(x[order], y[order], steps) for order, steps in pairs or unshifted]
        own[layer] = found[0][0]
        null[:, layer] = torch.cat([shifted for _, shifted in found])
    return own, null


def _shifted_cka(
    x: Float[Tensor, "item d_model"], y: Float[Tensor, "item other"], steps: Int[Tensor, " step"]
) -> tuple[float, Float[Tensor, " step"]]:
    r"""CKA of centred states, and CKA at each step.

    With $a_\delta(i) = \tilde K_{i, i + \delta}$ and $b_\delta$ likewise, indices modulo n, the product at step s is
    $\sum_\delta \sum_i a_\delta(i) b_\delta(i + s)$. The Gram matrices are symmetric, so the diagonals $\delta$ and
    $n - \delta$ have the same correlations, and one of them is computed.
    """
    n, sums = len(x), torch.zeros(3, dtype=torch.float64)
    grams = [(rows, _shift(rows)) for rows in (x, y)]
    waves = torch.zeros(n // 2 + 1, dtype=torch.complex128)
    for diagonals in torch.arange(1, n // 2 + 1).split(DIAGONALS):
        twice = 1 + (2 * diagonals < n).double()  # the diagonal in the middle is its own mirror image
        a, b = (_diagonals(rows, shift, diagonals) for rows, shift in grams)
        if len(steps):
            product = torch.fft.rfft(a).conj() * torch.fft.rfft(b)
            waves += (product * twice[:, None].float()).sum(0)
        products = (a * b).sum(1), a.square_().sum(1), b.square_().sum(1)
        sums += torch.stack(products).double() @ twice
    scale = float((sums[1] * sums[2]).sqrt())
    if not scale > 0:
        return torch.nan, torch.full((len(steps),), torch.nan)
    return float(sums[0]) / scale, (torch.fft.irfft(waves, n=n)[steps] / scale).float()


def _shift(rows: Float[Tensor, "item d_model"]) -> Float[Tensor, " item"]:
    """What U-centring subtracts from each row and each column of the Gram matrix."""
    n = len(rows)
    sums = (rows @ rows.sum(0) - rows.square().sum(1)).double()  # of the Gram matrix's rows without its diagonal
    return ((sums - sums.sum() / (2 * (n - 1))) / (n - 2)).float()


def _diagonals(
    states: Float[Tensor, "item d_model"], shift: Float[Tensor, " item"], diagonals: Int[Tensor, " diagonal"]
) -> Float[Tensor, "diagonal item"]:
    """Neighbouring diagonals of the U-centred Gram matrix, which go on at its first column."""
    n, count, first = len(states), len(diagonals), int(diagonals[0])
    found = states.new_empty(count, n)
    for rows in torch.arange(n).split(ROWS):
        start, width = int(rows[0]), len(rows) + count - 1
        own, columns = slice(start, start + len(rows)), _around(start + first, width, n)
        product = (states[own] @ states[columns].T).sub_(shift[own, None]).sub_(shift[columns])
        found[:, own] = product.as_strided((count, len(rows)), (1, width + 1))  # entry [row, row + diagonal]
    return found


def _around(first: int, count: int, n: int) -> slice | Int[Tensor, " place"]:
    """So many places of n from the first on, which go on at the beginning; a slice is not copied."""
    first %= n
    return slice(first, first + count) if first + count <= n else torch.arange(first, first + count) % n


def _centred(states: Float[Tensor, "item d_model"]) -> tuple[Float[Tensor, "item d_model"], bool]:
    """States without their mean, in float32 and divided by a size; and whether they differ by more than rounding.

    The mean is subtracted twice: rounding of a large one leaves a small one.
    """
    wide = states if states.dtype == torch.float64 else states.float()
    largest, rows = float(torch.linalg.vector_norm(wide, torch.inf)), wide - wide.mean(0)
    size = float(torch.linalg.vector_norm(rows, torch.inf))
    rows = rows.div_(size or 1.0).float()
    return rows.sub_(rows.mean(0)), size > CONSTANT * largest
