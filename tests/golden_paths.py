"""Plain paths for `golden.py`: curves of a pinned position, states among anchors, and a text past Gemma's window."""

import torch

PINNED, KEPT = 3, 5
"""The position, and the number of tokens that a lens keeps."""
CLEAR = 1e-3
"""Neighbours in the order of tokens are further apart, so that rounding cannot exchange them."""
LONG, REPEATED = "no " * 700, [" no", " yes", " the"]
"""702 tokens; five of six blocks attend to the last 512 only."""
ANCHORS = [" blue", " red", " green", " azul", " verde"]


def curves(plain, ids):
    """What a lens keeps at the pinned position: the most probable tokens of every layer."""
    states, _ = plain.run(ids)
    top = plain.read(states[:, PINNED]).topk(KEPT + 1)
    if (top.values.diff(dim=-1) > -CLEAR).any():
        raise ValueError("Two tokens are nearly equally probable: choose another position.")
    return {"ids": top.indices[:, :KEPT], "logprobs": top.values[:, :KEPT]}


def paths(plain, prompts):
    """States behind the final norm in the plane of anchors, and their cosines with them."""
    anchors = plain.hf.lm_head.weight[[plain.token(word) for word in ANCHORS]].detach()
    states = torch.stack([plain.run(ids)[0][:, -1] for ids in prompts], 1)
    with torch.no_grad():
        states = plain.hf.model.norm(states)
    unit, fixed = (vectors / vectors.norm(dim=-1, keepdim=True) for vectors in (states, anchors))
    away = fixed - fixed.mean(0)
    values, axes = torch.linalg.eigh(away.T @ away)
    values, plane = values.flip(0), axes.flip(1)[:, :2]
    plane = plane * (away[0] @ plane).sign()  # an axis has no sign of its own: the first anchor decides
    return {
        "path": (unit - fixed.mean(0)) @ plane, "anchors": away @ plane, "cosine": unit @ fixed.T,
        "explained": values[:2] / values.sum(),
    }  # fmt: skip


@torch.no_grad()
def long(plain, layers):
    """Words behind the long text, read at some entries, and the mean state of all tokens but BOS."""
    ids = plain.ids(LONG)
    out = plain.hf.model(ids, output_hidden_states=True, use_cache=False)
    states = torch.stack([out.hidden_states[layer][0] for layer in layers[:-1]])  # the last one comes normed
    read = torch.cat([plain.read(states[:, -1]), plain.hf.lm_head(out.last_hidden_state[0, -1:]).log_softmax(-1)])
    return {
        "tokens": ids.shape[1], "targets": read[:, [plain.token(word) for word in REPEATED]],
        "entropy": -(read.exp() * read).sum(-1), "mean": states[:, 1:].mean(1),
    }  # fmt: skip
