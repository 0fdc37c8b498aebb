"""The lens against the bare matrix products, the plain definition, and the logit lens of transformer-lens 4."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import semhub_lens as shl
from benchmarks.table import Row, extra_memory, in_turn
from semhub_lens.data.text.texts import sentences
from semhub_lens.lens.kernel import COLUMNS, contrast_targets, reduce_logits
from semhub_lens.lens.logit_lens import STANDARD
from semhub_lens.model.capture import prompt_states

TOKENS, TOP, PROMPTS, WORDS = 48, 10, 100, 50
FLOOR_ENTRIES = 1 << 25
"""Logits of one product of the floor: 128 MiB."""


def running_text(model: Any, tokens: int = TOKENS) -> shl.Prompt:
    """Bundled sentences, cut to so many tokens."""
    text = " ".join(text for column in zip(*sentences().values(), strict=True) for text in column)
    return shl.Prompt.from_ids(shl.Prompt.from_text(model, text[: 12 * tokens]).ids[:tokens], bos=True)


def states_of(model: Any, prompt: shl.Prompt) -> Tensor:
    """`[layer pos d_model]`."""
    [(_, states)] = next(iter(prompt_states(model, [prompt])))
    return states


@torch.no_grad()
def products(weight: Tensor, rows: Tensor) -> Callable[[], None]:
    """Every state times the unembedding, block by block, always into the same memory."""
    size = max(1, FLOOR_ENTRIES // weight.shape[1])
    memory = weight.new_empty(min(size, len(rows)), weight.shape[1])

    def task() -> None:
        for part in rows.to(weight.device).split(size):
            torch.mm(part, weight, out=memory[: len(part)])

    return torch.no_grad()(task)


def pieces(readout: shl.Readout, states: Tensor) -> Callable[[], None]:
    """The same products in the kernel's own pieces, which nothing reads."""
    layers = list(range(len(states)))

    def task() -> None:
        for _ in readout.pieces(states, layers, columns=COLUMNS[0]):
            pass

    return torch.no_grad()(task)


def plain(model: Any, ids: Tensor, tops: int) -> list[tuple[Tensor, ...]]:
    """The lens by its definition, from Hugging Face's states: top tokens, entropy and distance to the last layer."""
    hugging_face = model.original_model
    with torch.no_grad():
        *hidden, final = hugging_face(ids, output_hidden_states=True).hidden_states  # the last one is normed already
        last = hugging_face.lm_head(final)[0].log_softmax(-1)
        found = []
        for states in hidden:
            read = hugging_face.lm_head(hugging_face.model.norm(states))[0].log_softmax(-1)
            entropy = -(read.exp() * read).sum(-1)
            found.append((read.topk(tops).indices, entropy, (last.exp() * (last - read)).sum(-1)))
    return found


def by_transformer_lens(model: Any, ids: Tensor) -> Callable[[], object] | None:
    """The logit lens of transformer-lens 4 at all positions; None where the installed line has none."""
    try:
        from transformer_lens.tools.analysis import logit_lens
    except ImportError:
        return None
    return lambda: logit_lens(model, ids, positions=None, top_k=TOP)


def kernel_rows(model: Any, tokens: int, rounds: int) -> list[Row]:
    """Kernel alone and the whole call, both over the same products."""
    prompt = running_text(model, tokens)
    states, readout = states_of(model, prompt), shl.Readout(model)
    size = f"{len(states)} layers x {states.shape[1]} tokens, top {TOP}"
    ids = prompt.ids[None].to(model.W_U.device)
    sides: dict[str, Callable[[], object]] = {
        "floor": products(model.W_U, states.flatten(0, 1)),
        "pieces": pieces(readout, states),
        "kernel": lambda: reduce_logits(readout, states, STANDARD, top_k=TOP),
        "whole": lambda: shl.logit_lens(model, prompt, top_k=TOP, progress=False),
        "plain": lambda: plain(model, ids, TOP),
    }
    theirs = by_transformer_lens(model, ids)
    if theirs is not None:
        sides["theirs"] = theirs
    took = in_turn(sides, rounds)
    whole = Row(
        f"`logit_lens`, {size}, whole call", took["whole"], took["plain"], took["floor"], "1.35 of floor",
        extra_memory(sides["whole"]), "peer: the plain definition on Hugging Face's states",
    )  # fmt: skip
    rows = [
        Row(f"lens kernel, {size}", took["kernel"], None, took["floor"], "1.2 of floor"),
        Row(
            f"lens kernel, {size}", took["kernel"], None, took["pieces"], note="floor: products in the kernel's pieces"
        ),
        whole,
    ]
    if theirs is not None:
        note = "peer: transformer-lens' logit lens, top tokens without entropy and distance"
        rows.append(Row(f"`logit_lens`, {size}, whole call", took["whole"], took["theirs"], note=note))
    return rows


def contrast_row(model: Any, prompts: int, rounds: int) -> Row:
    """Words against words, from their own columns, against the full read-out of the same states."""
    states = torch.randn(int(model.cfg.n_layers) + 1, prompts, int(model.cfg.d_model))
    readout, draw = shl.Readout(model), torch.Generator().manual_seed(0)
    words = [(int(i),) for i in torch.randperm(readout.d_vocab, generator=draw)[:WORDS]]
    took = in_turn(
        {
            "ours": lambda: contrast_targets(readout, states, common=words),
            "full": lambda: reduce_logits(readout, states, ["targets"], common=words),
        },
        rounds,
    )
    name = f"`contrast=True`, {prompts} prompts x {len(states)} layers x {len(words)} words"
    return Row(name, took["ours"], took["full"], bar="20 times", note="peer: the full read-out of the same states")


def half_row(model: Any, tokens: int, rounds: int) -> Row:
    """The read-out in the model's own bfloat16 against the one in float32."""
    states = states_of(model, running_text(model, tokens))
    own, wide = (shl.Readout(model, dtype=dtype) for dtype in ("model", "float32"))

    def task(readout: shl.Readout) -> Callable[[], dict[str, Tensor]]:
        return lambda: reduce_logits(readout, states, STANDARD, top_k=TOP)

    took = in_turn({"ours": task(own), "wide": task(wide)}, rounds)
    error = (task(own)()["entropy"] - task(wide)()["entropy"]).abs().max()
    note = f"peer: the read-out in float32; entropies differ by up to {error:.2g} nats"
    return Row(f'`Readout(dtype="model")`, bfloat16, {tokens} tokens', took["ours"], took["wide"], note=note)


def measure(model: Any = None, half: Any = None, *, tokens: int = TOKENS, rounds: int = 3) -> list[Row]:
    """All rows on Gemma 3 270M as a bridge, whose Hugging Face model is at hand."""
    model = shl.load("gemma-3-270m", backend="bridge") if model is None else model
    rows = [*kernel_rows(model, tokens, rounds), contrast_row(model, PROMPTS, rounds)]
    half = shl.load("gemma-3-270m", backend="bridge", dtype="bfloat16") if half is None else half
    return [*rows, half_row(half, min(tokens, 8), rounds)]
