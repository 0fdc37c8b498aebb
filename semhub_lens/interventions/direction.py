"""Directions in the residual stream: from words, prompts or the unembedding, and random ones of equal norm as controls.

Use a direction from residual entry `layer` with `at(layer, ...)`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import check_finite
from semhub_lens.base.rng import generator
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.tokens import token_id
from semhub_lens.model.capture import residual_reads
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.hooking import require_entry
from semhub_lens.model.readable import require_ids
from semhub_lens.model.readout import output_size
from semhub_lens.model.reads import read_positions
from semhub_lens.model.resolve import as_prompts
from semhub_lens.model.weights import unembedding as unembedding_of

SALT = 0x5EED
"""Separates the draws of a control from the user's own draws with the same seed."""


@checked
def words(model: Model, plus: str, minus: str, layer: int) -> Float[Tensor, " d_model"]:
    r"""The state of one word minus that of another, each alone after BOS (Turner et al. 2023, ActAdd).

    $v = h_\ell(plus) - h_\ell(minus)$ at the last token, a vector `[d_model]`. It also contains everything else in
    which the two words differ. Compare its effect with that of `random_like(v)`.

    Args:
        model: any TransformerLens model.
        plus, minus: the words.
        layer: residual entry (0 = embedding).

    Raises:
        SemhubError: empty word, the same word twice, or a layer out of range.

    Example:
        >>> words(tiny_model, "two", "five", layer=1).shape == (tiny_model.cfg.d_model,)
        True
    """
    if plus == minus:
        raise SemhubError(f"The two words are the same ({plus!r}): their difference is zero.")
    return prompts(model, [plus], [minus], layer)


@checked
def prompts(
    model: Model, plus: Prompts, minus: Prompts, layer: int, *, read: str | int = "last"
) -> Float[Tensor, " d_model"]:
    r"""Mean state of some prompts minus the mean state of others, at one residual entry.

    $v = \operatorname{mean}_i h_\ell(plus_i) - \operatorname{mean}_j h_\ell(minus_j)$, a vector `[d_model]`. It also
    contains everything else in which the two sets of prompts differ, such as their length.

    Args:
        model: any TransformerLens model.
        plus, minus: the prompts.
        layer: residual entry (0 = embedding).
        read: the positions to read; see `residual_stream`.

    Raises:
        SemhubError: no prompts, or a layer out of range.

    Example:
        >>> prompts(tiny_model, ["two cat", "two dog"], ["five cat"], layer=1).shape == (tiny_model.cfg.d_model,)
        True
    """
    entry, sides = require_entry(model, layer), [as_prompts(model, side) for side in (plus, minus)]
    for prompt in (*sides[0], *sides[1]):
        read_positions(prompt, read)
    states = [residual_reads(model, side, [read], layers=[entry], progress=False)[0, 0] for side in sides]
    return mean_difference(*states)


@checked
def unembedding(model: Model, plus: str, minus: str | None = None) -> Float[Tensor, " d_model"]:
    """The unembedding row of a token, $W_U[plus]$, or the difference $W_U[plus] - W_U[minus]$.

    A vector `[d_model]`. Spell tokens exactly, with their space. Added at a late layer, such a vector reaches the
    output directly; this does not show that a block reads it.

    Args:
        model: any TransformerLens model.
        plus, minus: texts of exactly one token; None leaves out `minus`.

    Raises:
        SemhubError: a text that is not one token, a token that the model does not predict, or the same token twice.

    Example:
        >>> unembedding(tiny_model, " two", " five").shape == (tiny_model.cfg.d_model,)
        True
    """
    require_model(model)
    if plus == minus:
        raise SemhubError(f"The two tokens are the same ({plus!r}): their difference is zero.")
    ids = [token_id(model.tokenizer, word) for word in (plus, minus) if word is not None]
    require_ids(torch.tensor(ids), output_size(model))
    rows = unembedding_of(model, device="cpu")[:, ids].detach().float().cpu().T.contiguous()
    return rows[0] if minus is None else rows[0] - rows[1]


@checked
def mean_difference(a: Float[Tensor, "item d_model"], b: Float[Tensor, "other d_model"]) -> Float[Tensor, " d_model"]:
    r"""Mean of some states minus the mean of others: $v = \operatorname{mean}_i a_i - \operatorname{mean}_j b_j$.

    It also contains everything else in which the two sets differ.

    Args:
        a, b: states `[item d_model]` from the same residual entry.

    Raises:
        SemhubError: no states on one side, unequal widths, NaN or infinite states.

    Example:
        >>> mean_difference(torch.ones(3, 2), torch.zeros(5, 2))
        tensor([1., 1.])
    """
    for name, states in (("a", a), ("b", b)):
        if states.shape[0] == 0:
            raise SemhubError(f"mean_difference needs at least one state on each side, {name} has none.")
        check_finite(states, name)
    if a.shape[1] != b.shape[1]:
        raise SemhubError(
            f"The states of a have {a.shape[1]} entries, those of b {b.shape[1]}: use states of the same model."
        )
    return a.float().mean(0) - b.float().mean(0)


@checked
def random_like(direction: Float[Tensor, "*item d_model"], *, seed: int) -> Float[Tensor, "*item d_model"]:
    """A random direction of the same norm: the control for the effect of any vector of this size.

    For one direction per item, `[item d_model]`, each row gets its own random direction with the norm of that row. One
    random direction is one draw; compare with several.

    Args:
        direction: `[d_model]` or `[item d_model]`.
        seed: for the draw.

    Raises:
        SemhubError: an empty tensor, NaN or infinite entries.

    Example:
        >>> control = random_like(torch.ones(4), seed=0)
        >>> round(float(control.norm()), 4)
        2.0
    """
    generator(seed)
    drawn = torch.randn(direction.shape, generator=generator(seed + SALT), dtype=torch.float32)
    return rescaled(drawn, direction)


@checked
def rescaled(
    direction: Float[Tensor, "*row d_model"], like: Float[Tensor, "*item d_model"]
) -> Float[Tensor, "*item d_model"]:
    r"""A direction with the norm of another one, row by row: $\lVert w \rVert \, v / \lVert v \rVert$.

    Args:
        direction: the vector v, `[d_model]` or `[row d_model]`.
        like: the vector w, or one for each row, `[row d_model]`.

    Raises:
        SemhubError: a direction of norm 0, an empty tensor, NaN or infinite entries.

    Example:
        >>> rescaled(torch.tensor([0.0, 5.0]), like=torch.tensor([3.0, 4.0]))
        tensor([0., 5.])
    """
    for name, vectors in (("direction", direction), ("like", like)):
        if not vectors.numel():
            raise SemhubError(f"The tensor {name}= is empty, with shape {tuple(vectors.shape)}; pass a direction.")
        check_finite(vectors, name)
    norm = direction.float().cpu().norm(dim=-1, keepdim=True)
    if bool((norm == 0).any()):
        raise SemhubError("A direction of norm 0 cannot be rescaled; take one that is not 0.")
    return direction.float().cpu() / norm * like.float().cpu().norm(dim=-1, keepdim=True)
