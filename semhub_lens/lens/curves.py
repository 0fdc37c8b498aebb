"""Curves of a lens: the probability of the tokens that lead at some layer, through all layers.

The stored tokens of a cell end at its top k, so a curve of these alone has gaps. Curves are read from the tokens' own
columns of the unembedding, after the lens: a few columns a position.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.model.readout import Readout

MOST = 12
"""Tokens with a curve at each position; of more leading tokens, those that were most probable anywhere."""
TOGETHER = 16
"""Positions read together, by the columns of all their tokens."""
NONE = -1
"""The id where a position has fewer tokens."""

Curves = tuple[Int[Tensor, "pos curve"] | None, Float[Tensor, "layer pos curve"] | None]


@torch.no_grad()
def leading_curves(
    readout: Readout,
    states: Float[Tensor, "entry pos d_model"],
    measured: Mapping[str, Tensor],
    layers: Sequence[int] | None = None,
) -> Curves:
    """Leading tokens of each position, and their log-probabilities at every layer that was read.

    The normaliser of a state is that of its most probable token, whose log-probability is known. Without the most
    probable tokens there are no curves.

    Args:
        readout: maps states to logits.
        states: residual states at every entry.
        measured: what the kernel reduced these states to.
        layers: the entries that were read; None means all.
    """
    if not {"top_ids", "top_logprobs"} <= measured.keys():
        return None, None
    entries = [*(layers or range(len(states)))]
    states, tops, heights = states[entries], measured["top_ids"][..., 0], measured["top_logprobs"][..., :1]
    leaders = [_leaders(*pair) for pair in zip(tops.T.tolist(), heights[..., 0].T.tolist(), strict=True)]
    width = max(map(len, leaders))
    ids = torch.tensor([found + [NONE] * (width - len(found)) for found in leaders])
    parts = []
    for part in (slice(start, start + TOGETHER) for start in range(0, len(ids), TOGETHER)):
        columns = torch.cat([ids[part].flatten(), tops[:, part].flatten()]).clamp(min=0).unique()
        own, best = (torch.searchsorted(columns, some.clamp(min=0)) for some in (ids[part], tops[:, part, None]))
        logits = readout(states[:, part], entries, columns).cpu()
        parts.append(logits.gather(-1, own.expand(len(entries), -1, -1)) - logits.gather(-1, best) + heights[:, part])
    return ids, torch.cat(parts, dim=1).masked_fill(ids == NONE, torch.nan)


def _leaders(ids: Sequence[int], logprobs: Sequence[float]) -> list[int]:
    """The final token first, then by the highest probability with which a token leads."""
    highest: dict[int, float] = {}
    for token, value in zip(ids, logprobs, strict=True):
        highest[token] = max(value, highest.get(token, value))
    return sorted(highest, key=lambda token: (token != ids[-1], -highest[token]))[:MOST]
