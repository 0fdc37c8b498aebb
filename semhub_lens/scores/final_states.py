"""The model's own next-token distribution at chosen positions, from the last residual state.

Sums over a vocabulary are in float64: in float32 the probabilities of 262,000 tokens sum to 1.00005.

Only the states of the last layer are kept, and logits exist for only a few positions at a time. With a vocabulary of
262,000 tokens, the logits of one long text would fill a gigabyte.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import check_finite
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.lens.kernel import BLOCK_ENTRIES
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import Hooks, n_layers
from semhub_lens.model.readout import Readout


def last_states(
    model: Model, prompts: Sequence[Prompt], positions: Sequence[Sequence[int]], hooks: Hooks, progress: bool
) -> Float[Tensor, "row d_model"]:
    """Last residual states at the positions of every prompt, in the order of the prompts."""
    by_prompt: dict[int, Tensor] = {}
    bar = tqdm(total=len(prompts), desc="final states", unit="prompt", disable=not progress, leave=False)
    with bar:
        for batch in prompt_states(model, prompts, hooks, layers=[n_layers(model)]):
            by_prompt.update((item, states[0, list(positions[item])]) for item, states in batch)
            bar.update(len(batch))
    states = torch.cat([by_prompt[item] for item in range(len(prompts))])
    check_finite(states, "The last residual state")
    return states


@torch.no_grad()
def log_probs_of(
    readout: Readout, states: Float[Tensor, "row d_model"], tokens: Int[Tensor, " row"]
) -> Float[Tensor, " row"]:
    """Log-probability that the model gives each row's token after that row's state."""
    blocks = []
    for block in _blocks(readout, len(states)):
        logits = readout(states[block])
        chosen = logits.gather(1, tokens[block, None].to(logits.device))[:, 0]
        blocks.append((chosen - logits.double().logsumexp(-1)).float().cpu())
    return torch.cat(blocks)


@torch.no_grad()
def divergence(
    readout: Readout, first: Float[Tensor, "row d_model"], second: Float[Tensor, "row d_model"]
) -> Float[Tensor, " row"]:
    r"""$D_{KL}(p \Vert q)$ in nats of the distributions after two states, row by row; exactly 0 for equal states."""
    blocks = []
    for block in _blocks(readout, len(first)):
        p, q = (readout(states[block]).double().log_softmax(-1) for states in (first, second))
        blocks.append((p - q).mul_(p.exp_()).sum(-1).clamp(min=0).float().cpu())  # rounding can fall below 0
    return torch.cat(blocks)


def _blocks(readout: Readout, rows: int) -> list[slice]:
    step = max(1, BLOCK_ENTRIES // readout.d_vocab)
    return [slice(start, start + step) for start in range(0, rows, step)]
