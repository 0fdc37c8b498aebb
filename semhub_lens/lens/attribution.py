r"""`direct_attribution`: the contribution of each block to a token's logit.

The final state is the sum of everything written into the residual stream: $h = e + \sum_\ell (a_\ell + m_\ell)$. With
the final norm's scale s fixed at its value for h, a written vector c contributes to the logit of token t

$$\operatorname{logit}_t(c) = \frac{g \odot (c - \bar c)}{s} \cdot W_U[t]$$

($\bar c$ only if the norm centres), times the model's logit scale (Cohere, Granite). The biases of norm and unembedding
are a separate part. The rest of the logit (a soft cap, inputs between blocks, rounding) is `unexplained`. The output of
attention is the sum of its heads, $a_\ell = \sum_h z_h W_O^h + b_O$; the scale of a norm after them is fixed too.

Source: Elhage et al. 2021; Wang et al. 2023 (direct logit attribution).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit, whole_number
from semhub_lens.base.results import Result, check_finite
from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import printable, token_id
from semhub_lens.model.capture import Capture, prompt_states
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hook_names, n_layers, require_hooks, site_name
from semhub_lens.model.products import logit_scale
from semhub_lens.model.readout import Readout, output_size
from semhub_lens.model.resolve import one_prompt
from semhub_lens.model.weights import present, unembedding, unembedding_bias

LARGE = 1e4
"""Size of the probing input of a norm, so large that the norm's epsilon does not matter."""
BEHIND = ("ln1_post", "ln1")
"""Names of a norm after attention: Gemma's, and that of blocks without a norm before it (OLMo 2)."""


@dataclass(frozen=True, eq=False)
class AttributionResult(Result):
    """The contribution of every block to some tokens' logits at one position; all numbers are logits.

    `direct_attribution` makes it.
    """

    position: int
    token_ids: tuple[int, ...]
    texts: tuple[str, ...]
    embedding: Float[Tensor, " token"]
    attention: Float[Tensor, "token block"]
    mlp: Float[Tensor, "token block"]
    bias: Float[Tensor, " token"]
    """The part of the final norm's and the unembedding's biases, which no block wrote."""
    logits: Float[Tensor, " token"]
    head_blocks: tuple[int, ...] = ()
    """The blocks whose attention is split by head."""
    heads: Float[Tensor, "token split head"] | None = None
    """Parts of these blocks' attention; NaN if a block has fewer heads than another."""

    @property
    def unexplained(self) -> Float[Tensor, " token"]:
        """The logit minus all parts: the effect of fixing the norm's scale."""
        return self.logits - self.embedding - self.attention.sum(1) - self.mlp.sum(1) - self.bias

    @property
    def beside_heads(self) -> Float[Tensor, "token split"] | None:
        """The attention of split blocks minus their heads: the bias of its output."""
        return None if self.heads is None else self.attention[:, list(self.head_blocks)] - self.heads.nansum(2)

    def __repr__(self) -> str:
        lines = [f"Direct logit attribution of {', '.join(self.texts)} at position {self.position}"]
        for i, text in enumerate(self.texts):
            both = {
                f"{name} {block}": float(part[i, block]) for name, part in self._blocks() for block in self._range()
            }
            best = sorted(both, key=lambda name: -abs(both[name]))[:4]
            largest = ", ".join(f"{name} {both[name]:+.2f}" for name in best)
            lines.append(
                f"{text}: logit {float(self.logits[i]):.2f}; {largest}; unexplained {self.unexplained[i]:+.2g}"
            )
        return "\n".join([*lines, "Next: lens.with_attribution(this) and write_html, .to_frame(), .save(path)"])

    def to_frame(self) -> pd.DataFrame:
        """One row per token and part; heads are parts of an attention, so do not add them to it."""
        rows = []
        for i, token in enumerate(self.token_ids):
            named = {"embedding": self.embedding, "bias": self.bias, "unexplained": self.unexplained}
            rows += [(token, self.texts[i], name, None, None, float(values[i])) for name, values in named.items()]
            rows += [
                (token, self.texts[i], name, b, None, float(p[i, b]))
                for name, p in self._blocks()
                for b in self._range()
            ]
            for at, block in enumerate(self.head_blocks):
                values = [] if self.heads is None else self.heads[i, at].tolist()
                rows += [(token, self.texts[i], "head", block, h, v) for h, v in enumerate(values) if not math.isnan(v)]
        return pd.DataFrame(rows, columns=["id", "token", "part", "block", "head", "logit"])

    def _blocks(self) -> tuple[tuple[str, Tensor], ...]:
        return ("attention", self.attention), ("mlp", self.mlp)

    def _range(self) -> range:
        return range(self.attention.shape[1])


@checked
@torch.no_grad()
def direct_attribution(
    model: Model,
    prompt: OnePrompt,
    *,
    token: str | SupportsIndex | Sequence[str | SupportsIndex] | None = None,
    position: int = -1,
    by_head: SupportsIndex | Sequence[SupportsIndex] = (),
    hooks: Hooks = (),
) -> AttributionResult:
    r"""Attribute tokens' logits at one position to the embedding, to every block's attention and MLP, and to heads.

    $\operatorname{logit}_t(c) = \frac{g \odot (c - \bar c)}{s} \cdot W_U[t]$ for each written vector c, with the final
    norm's scale s fixed. A part is what a block wrote in the direction of a token. It is not what the model would do
    without that block, because later blocks read the part too; `patch_grid` measures that.

    Args:
        model: any TransformerLens model with hook points for the outputs of its blocks.
        prompt: a text, a `Prompt`, token ids or chat messages.
        token: ids, or texts of one token, including their space; None means the most probable token.
        position: the position; negative from the end.
        by_head: blocks whose attention is also split by head.
        hooks: interventions during the run.

    Returns:
        `.embedding`, `.bias`, `.unexplained`, `.logits` [token]; `.attention`, `.mlp` [token block]; with `by_head`
        also `.heads` [token split head], `.beside_heads` [token split].

    Raises:
        SemhubError: several prompts, a position past the end, a text of several tokens, an id or a block out of range,
            no hook points for the outputs of blocks, or heads that do not add up to the attention's output.

    Example:
        >>> found = direct_attribution(tiny_model, "three plus two", token="five")
        >>> float(found.unexplained.abs().max()) < 1e-4
        True
        >>> lens = shl.logit_lens(tiny_model, "three plus two", progress=False)
        >>> len(lens.with_attribution(found).attributions)  # its page shows the attribution
        1
        >>> heads = direct_attribution(tiny_model, "three plus two", token="five", by_head=1).heads
        >>> torch.allclose(heads.sum(-1), found.attention[:, [1]], atol=1e-5)
        True


    """
    read = one_prompt(model, prompt, "direct_attribution")
    at, length = whole_number(position, "position="), len(read)
    if not -length <= at < length:
        raise SemhubError(f"Position {at} is out of range: the prompt has {length} tokens.")
    given = [token] if isinstance(token, str | SupportsIndex) else token
    asked = None if given is None else [_id(model, one) for one in given]
    if asked == []:
        raise SemhubError("token= got an empty list; pass at least one token, or None for the most probable one.")
    require_hooks(model, hook_names(hooks))
    blocks = [by_head] if isinstance(by_head, SupportsIndex) else by_head
    split = [whole_number(block, "by_head=") for block in blocks]
    splits = [Capture(model, [block], site="z") for block in split]
    watched = [*hooks, *(pair for capture in splits for pair in capture.hooks)]
    states, attention, mlp = _written(model, read, watched, at % length)
    final = states[-1]
    check_finite(final, "The final state")
    readout = Readout(model)
    logits = readout(final[None])[0].cpu()
    ids = [int(logits.argmax())] if asked is None else asked
    gain, bias = _frozen(readout.normed, final)
    scale = logit_scale(model)
    columns = unembedding(model, device="cpu")[:, ids].detach().double().cpu() * scale
    towards = gain(columns.T)
    constant = bias @ columns
    if (added := unembedding_bias(model)) is not None:
        constant = constant + added[ids].detach().double().cpu() * scale
    parts = [(part.double() @ towards.T).T.float() for part in (states[:1], attention, mlp)]
    with present(*(model.blocks[block] for block in split)):
        heads = [
            _by_head(model, block, capture.result(0)[0, at % length], (states[block], attention[block]), towards)
            for block, capture in zip(split, splits, strict=True)
        ]
    padded = pad_sequence(heads, padding_value=math.nan).float() if heads else None
    return AttributionResult(
        at % length, tuple(ids), tuple(printable(model.tokenizer, ids)), parts[0][:, 0], *parts[1:],
        bias=constant.float(), logits=logits[ids], head_blocks=tuple(split),
        heads=None if padded is None else rearrange(padded, "head split token -> token split head"),
        provenance=provenance_of(model, norm="final", bos=read.bos),
    )  # fmt: skip


def _id(model: Model, token: str | SupportsIndex) -> int:
    if isinstance(token, str):
        return token_id(model.tokenizer, token)
    one, size = whole_number(token, "A token"), output_size(model)
    if not 0 <= one < size:
        raise SemhubError(f"Token {one} is outside the model's vocabulary of {size}.")
    return one


def _written(model: Model, prompt: Prompt, hooks: Hooks, at: int) -> tuple[Tensor, Tensor, Tensor]:
    """The residual states, and the outputs of attention and MLP of every block, at one position.

    If a block has a hook for the state between the two, the outputs are differences of states. These include the effect
    of a norm after the block's parts.
    """
    known, blocks = model.hook_dict, n_layers(model)
    sites = ("resid_mid", "resid_post") if all(site_name(b, "resid_mid") in known for b in range(blocks)) else None
    sites = sites or ("attn_out", "mlp_out")
    if missing := [name for site in sites for b in range(blocks) if (name := site_name(b, site)) not in known]:
        raise Unfit(f"The model has no hook point {missing[0]!r}, so the outputs of its blocks cannot be read.")
    captures = [Capture(model, site=site) for site in sites]
    (((_, states),),) = prompt_states(model, [prompt], [*hooks, *(pair for one in captures for pair in one.hooks)])
    first, second = (capture.result(0)[:, at] for capture in captures)
    states = states[:, at]
    return (states, first - states[:-1], second - first) if sites[0] == "resid_mid" else (states, first, second)


def _by_head(
    model: Model, block: int, z: Tensor, seen: tuple[Tensor, Tensor], towards: Float[Tensor, "token d_model"]
) -> Float[Tensor, "head token"]:
    """The contribution of each head of a block to tokens; `seen` has the state before it and its attention's output.

    A norm after attention is linear at a fixed scale. The output shows which norm or factor the block has, if any.
    """
    part = model.blocks[block]
    try:
        output, bias = part.attn.W_O.detach().float(), getattr(part.attn, "b_O", None)
    except (AttributeError, NotImplementedError) as error:
        raise Unfit(f"Block {block} does not show its heads' output weights: {error}") from error
    heads = torch.einsum("hd,hdm->hm", z.reshape(output.shape[:2]).to(output), output).double().cpu()
    whole = heads.sum(0) + (0 if bias is None else bias.detach().double().cpu())
    before, added = (one.double() for one in seen)

    factor = whole @ added / (whole @ whole)  # 1, or that of a model that scales what its blocks write (Granite)
    maps = [lambda rows: rows, lambda rows: factor * rows]
    maps += [_norm(getattr(part, name)) for name in BEHIND if hasattr(part, name)]
    norm = min(maps, key=lambda one: float((one(whole[None])[0].double() - added).norm()))
    off = float((norm(whole[None])[0].double() - added).norm())
    if off > 0.02 * float(added.norm()) + 8 * torch.finfo(model.W_U.dtype).eps * float(before.norm()):
        raise Unfit(
            f"The heads of block {block} do not add up to its attention's output (off by {off:.3g} of "
            f"{float(added.norm()):.3g}): something comes between, such as an intervention on attn_out. Leave this "
            "block out of by_head=."
        )
    return heads @ _frozen(norm, whole)[0](towards).T


def _norm(module: Module) -> Callable[[Tensor], Tensor]:
    """A block's norm on rows of float64 on the CPU, in its own dtype and on its own device."""
    weight = next(module.parameters(), torch.empty(0))
    return lambda rows: module(rows[None].to(weight))[0].detach().double().cpu()


def _frozen(
    norm_of: Callable[[Tensor], Tensor], final: Float[Tensor, " d_model"]
) -> tuple[Callable[[Tensor], Tensor], Float[Tensor, " d_model"]]:
    """A norm as a linear map on tokens' directions, with its scale fixed at this state, and its bias.

    Gain, bias and centring are measured on the norm itself, whatever its class: from its outputs for a large input, for
    the negative of it, and for a shifted one.
    """

    def norm(state: Tensor) -> Tensor:
        return norm_of(state.float()[None])[0].double().cpu()

    signs = torch.ones_like(final).double()
    signs[1::2] = -1
    one, other = norm(LARGE * signs), norm(-LARGE * signs)
    bias, state = (one + other) / 2, final.double()
    out = norm(state)
    centres = bool(torch.allclose(norm(state + state.abs().max()) - bias, out - bias, rtol=1e-3, atol=1e-4))

    def centred(rows: Tensor) -> Tensor:
        return rows - rows.mean(-1, keepdim=True) if centres else rows

    probe = centred(signs)
    weight = (one - other) / 2 / (probe / probe.square().mean().sqrt())
    if bool(torch.allclose(out, state)):  # no norm at all
        return (lambda rows: rows), torch.zeros_like(state)
    scaled = centred(state) * weight
    scale = scaled @ scaled / (scaled @ (out - bias))
    return (lambda rows: centred(rows * weight / scale)), bias
