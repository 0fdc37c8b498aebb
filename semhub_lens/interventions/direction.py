"""Directions in the residual stream: from words, prompts or the unembedding, and a norm-matched random one as control.

A direction read at residual entry `layer` belongs at `at(layer, ...)`.
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
"""Keeps a control drawn with some seed apart from the user's own draws with that seed."""


@checked
def words(model: Model, plus: str, minus: str, layer: int) -> Float[Tensor, " d_model"]:
    """State of one word minus another's, each alone after BOS, read at its last token (Turner et al. 2023, ActAdd).

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
    """Mean state of some prompts minus the mean state of others, at one residual entry."""
    entry, sides = require_entry(model, layer), [as_prompts(model, side) for side in (plus, minus)]
    for prompt in (*sides[0], *sides[1]):
        read_positions(prompt, read)
    states = [residual_reads(model, side, [read], layers=[entry], progress=False)[0, 0] for side in sides]
    return mean_difference(*states)


@checked
def unembedding(model: Model, plus: str, minus: str | None = None) -> Float[Tensor, " d_model"]:
    """Unembedding row of a token, $W_U[plus]$, or the difference $W_U[plus] - W_U[minus]$.

    Tokens are spelled exactly, with their space.

    Raises:
        SemhubError: a word that is no single token, or a token that the model does not predict.
    """
    require_model(model)
    ids = [token_id(model.tokenizer, word) for word in (plus, minus) if word is not None]
    require_ids(torch.tensor(ids), output_size(model))
    rows = unembedding_of(model, device="cpu")[:, ids].detach().float().cpu().T.contiguous()
    return rows[0] if minus is None else rows[0] - rows[1]


@checked
def mean_difference(a: Float[Tensor, "item d_model"], b: Float[Tensor, "other d_model"]) -> Float[Tensor, " d_model"]:
    """Mean of some states minus the mean of others (difference of means)."""
    for name, states in (("a", a), ("b", b)):
        if states.shape[0] == 0:
            raise SemhubError(f"mean_difference needs at least one state on each side, {name} has none.")
        check_finite(states, name)
    if a.shape[1] != b.shape[1]:
        raise SemhubError(f"The states of a have {a.shape[1]} entries, those of b {b.shape[1]}: take one model's.")
    return a.float().mean(0) - b.float().mean(0)


@checked
def random_like(direction: Float[Tensor, "*item d_model"], *, seed: int) -> Float[Tensor, "*item d_model"]:
    """A random direction of the same norm: the control for "any vector of this size would do".

    Of a direction per item `[item d_model]`, each row gets a random direction of its own, of the row's norm.
    """
    generator(seed)
    drawn = torch.randn(direction.shape, generator=generator(seed + SALT), dtype=torch.float32)
    return rescaled(drawn, direction)


@checked
def rescaled(
    direction: Float[Tensor, "*row d_model"], like: Float[Tensor, "*item d_model"]
) -> Float[Tensor, "*item d_model"]:
    """A direction with the norm of another one, row by row.

    Raises:
        SemhubError: a direction of norm 0.
    """
    for name, vectors in (("direction", direction), ("like", like)):
        if not vectors.numel():
            raise SemhubError(f"The tensor {name}= is empty, of shape {tuple(vectors.shape)}; give a direction.")
        check_finite(vectors, name)
    norm = direction.float().cpu().norm(dim=-1, keepdim=True)
    if bool((norm == 0).any()):
        raise SemhubError("A direction of norm 0 cannot be rescaled.")
    return direction.float().cpu() / norm * like.float().cpu().norm(dim=-1, keepdim=True)
