r"""Debiased CKA of two sets of states, and its null: all partners shifted in a random order of the items.

CKA compares the U-centred Gram matrices of the sets (Székely & Rizzo 2014). The inner product of one with the other,
permuted, is the unbiased HSIC without further terms:

$$\operatorname{HSIC}(K, M_\pi) = \frac{1}{n (n - 3)} \sum_{i \ne j} \tilde K_{ij} \tilde M_{\pi_i \pi_j}$$

For any permutations, each costs $n^2$ look-ups. For shifts it is a cross-correlation, which a Fourier transform finds
for all of them.
"""

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from semhub_lens.base.rng import generator

ROWS = 256
"""Rows of both Gram matrices that exist at a time."""
COLUMNS = 256
"""Columns of them that are Fourier transformed at a time."""
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
    """CKA of centred states, and CKA at each step; a block of rows of both Gram matrices exists at a time."""
    n, sums = len(x), torch.zeros(3, dtype=torch.float64)
    grams = [(rows, _shift(rows)) for rows in (x, y)]
    waves = [torch.empty(n, n // 2 + 1, dtype=torch.complex64) for _ in grams] if len(steps) else []
    for first in range(0, n, ROWS):
        rows = slice(first, first + ROWS)
        parts = [_gram_rows(gram, shift, rows) for gram, shift in grams]
        for wave, part in zip(waves, parts, strict=False):
            torch.fft.rfft(part, out=wave[rows])
        products = (parts[0] * parts[1]).sum(1), *(part.square_().sum(1) for part in parts)
        sums += torch.stack(products).double().sum(1)
    scale = float((sums[1] * sums[2]).sqrt())
    if not scale > 0:
        return torch.nan, torch.full((len(steps),), torch.nan)
    null = _products_at_shifts(waves[0], waves[1], steps) if waves else torch.empty(0)
    return float(sums[0]) / scale, (null / scale).float()


def _shift(rows: Float[Tensor, "item d_model"]) -> Float[Tensor, " item"]:
    """What U-centring subtracts from each row and each column of the Gram matrix."""
    n = len(rows)
    sums = (rows @ rows.sum(0) - rows.square().sum(1)).double()  # of the Gram matrix's rows without its diagonal
    return ((sums - sums.sum() / (2 * (n - 1))) / (n - 2)).float()


def _gram_rows(
    states: Float[Tensor, "item d_model"], shift: Float[Tensor, " item"], rows: slice
) -> Float[Tensor, "row item"]:
    """Some rows of the U-centred Gram matrix, whose diagonal is zero."""
    part = (states[rows] @ states.T).sub_(shift[rows, None]).sub_(shift)
    part.diagonal(rows.start).zero_()
    return part


def _products_at_shifts(
    a: Complex[Tensor, "item half"], b: Complex[Tensor, "item half"], steps: Int[Tensor, " step"]
) -> Float[Tensor, " step"]:
    r"""$\sum_{ij} A_{ij} B_{i+s, j+s}$ of two matrices whose rows are Fourier transformed.

    It is the diagonal of their cross-correlation. With the transforms $\hat A$ and $\hat B$ over both axes, its own
    transform at $w$ is the sum of $\overline{\hat A_{uv}} \hat B_{uv}$ over $u + v = w$, so all steps together cost
    $n^2 \log n$.
    """
    n, half = a.shape
    sums = torch.zeros(n, dtype=torch.complex128)
    for first in range(0, half, COLUMNS):
        both = (torch.fft.fft(wave[:, first : first + COLUMNS].contiguous().T.contiguous()) for wave in (a, b))
        product = next(both).conj() * next(both)
        columns = torch.arange(first, first + len(product))
        product[(columns > 0) & (2 * columns < n)] *= 2  # the other half has the conjugates of these
        sums += _diagonal_sums(product).roll(first)
    return torch.fft.ifft(sums).real[steps] / n


def _diagonal_sums(rows: Complex[Tensor, "row item"]) -> Complex[Tensor, " item"]:
    """The sum of the rows, row k moved on by k places."""
    count, n = rows.shape
    wide = torch.cat([rows[:, n - count :], rows], dim=1)
    return wide.as_strided((count, n), (n + count - 1, 1), count).sum(0)


def _centred(states: Float[Tensor, "item d_model"]) -> tuple[Float[Tensor, "item d_model"], bool]:
    """States without their mean, in float32 and divided by a size; and whether they differ by more than rounding.

    The mean is subtracted twice: rounding of a large one leaves a small one.
    """
    wide = states if states.dtype == torch.float64 else states.float()
    largest, rows = float(torch.linalg.vector_norm(wide, torch.inf)), wide - wide.mean(0)
    size = float(torch.linalg.vector_norm(rows, torch.inf))
    rows = rows.div_(size or 1.0).float()
    return rows.sub_(rows.mean(0)), size > CONSTANT * largest
