"""`residual_stream` against one pass a sentence through the Hugging Face model."""

from typing import Any

import torch
from torch import Tensor

import semhub_lens as shl
from benchmarks.table import Row, extra_memory, in_turn
from semhub_lens.data.text.texts import sentences

SENTENCES, PEER = 256, 32


def one_by_one(model: Any, listed: list[shl.Prompt]) -> Tensor:
    """The mean state of every layer over the tokens after BOS, sentence by sentence."""
    with torch.no_grad():
        runs = [
            model.original_model(prompt.ids[None].to(model.W_U.device), output_hidden_states=True) for prompt in listed
        ]
        rows = [torch.stack([states[0, 1:].mean(0) for states in run.hidden_states]).cpu() for run in runs]
        return torch.stack(rows, dim=1)


def measure(model: Any = None, *, count: int = SENTENCES, peer: int = PEER, rounds: int = 3) -> list[Row]:
    """Sentences in five languages, the mean over their tokens, all layers; the peer runs every eighth."""
    model = shl.load("gemma-3-270m", backend="bridge") if model is None else model
    texts = [text for column in zip(*sentences().values(), strict=True) for text in column][:count]
    listed = [shl.Prompt.from_text(model, text) for text in texts]
    some = listed[:: count // peer]
    sides = {
        "ours": lambda: shl.residual_stream(model, listed, read="raw_mean", progress=False),
        "peer": lambda: one_by_one(model, some),
    }
    took = in_turn(sides, rounds)
    note = f"peer: one pass a sentence, {len(some)} timed and scaled by tokens"
    scaled = took["peer"].times(sum(map(len, listed)) / sum(map(len, some)))
    name = f"`residual_stream`, {count} sentences, {sum(map(len, listed))} tokens"
    return [Row(name, took["ours"], scaled, bar="9 times", memory=extra_memory(sides["ours"]), note=note)]
