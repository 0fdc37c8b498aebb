"""The same table on a CUDA device, after its numbers were checked: `make bench ARGS=gpu`, under eight minutes.

Float32: states and lens equal Hugging Face's model in float64 on the processor. Bfloat16: the read-out of its states
equals float64 from the same weights. The share of the roofline is that of the matrix products alone: operations a
second of a large product, against those that the task needs.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import semhub_lens as shl
from benchmarks import extraction, generation, lens, similarity
from benchmarks.table import Row, products_a_second
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.lens.logit_lens import STANDARD

ALONE = True
"""Not among what runs without a name."""
BOUNDS = {"entropy": 1e-3, "kl_to_final": 1e-3, "top_logprobs": 1e-3}
"""Nats by which the device may be off; TF32, where it is on, is off by more."""


def by_definition(model: Any, states: Tensor, top_ids: Tensor) -> dict[str, Tensor]:
    """The lens of the states in float64 on the processor: entropy, distance, log-probabilities of the given tokens."""
    norm, weight = model.ln_final, model.W_U.detach().cpu().double()
    read = []
    for rows in states.cpu().double():
        scale = (rows.pow(2).mean(-1, keepdim=True) + float(model.cfg.eps)).rsqrt()
        gain = dict(norm.named_parameters())
        read.append((rows * scale * _gain(model, next(iter(gain.values())))) @ weight)
    found = torch.stack(read).log_softmax(-1)
    last = found[-1]
    return {
        "entropy": -(found.exp() * found).sum(-1),
        "kl_to_final": (last.exp() * (last - found)).sum(-1),
        "top_logprobs": found.gather(-1, top_ids),
    }


def _gain(model: Any, weight: Tensor) -> Tensor:
    """Gemma multiplies by one plus the stored gain."""
    own = weight.detach().cpu().double()
    return own + 1 if "gemma" in str(model.cfg.model_name).lower() else own


def errors(model: Any, tokens: int) -> dict[str, float]:
    """Largest differences of the lens on the model's device from the definition."""
    states = lens.states_of(model, lens.running_text(model, tokens))
    found = reduce_logits(shl.Readout(model), states, STANDARD, top_k=lens.TOP)
    right = by_definition(model, states, found["top_ids"])
    return {name: float((found[name].double() - right[name]).abs().max()) for name in BOUNDS}


def require_exact(name: str, model: Any, tokens: int) -> str:
    """What the errors are; SystemExit where one is too large."""
    found = errors(model, tokens)
    said = ", ".join(f"{quantity} {error:.1e}" for quantity, error in found.items())
    if bad := [quantity for quantity, error in found.items() if not error <= BOUNDS[quantity]]:
        raise SystemExit(f"{name} is not exact on this device: {said} nats off; {bad} above {BOUNDS[bad[0]]}.")
    return f"{name}: {said} nats off"


def measure(model: Any = None, half: Any = None, *, device: str = "cuda", tokens: int = 512) -> list[Row]:
    """Checks, then the table; the first row's note says what was checked."""
    if model is None:
        if device == "cuda" and not torch.cuda.is_available():
            raise SystemExit("No CUDA device here: gpu is measured on a machine that has one.")
        load = {"backend": "bridge", "device": device}
        model, half = (shl.load("gemma-3-270m", **load, dtype=dtype) for dtype in ("float32", "bfloat16"))
    checked = [require_exact("float32", model, 24), require_exact("bfloat16", half, 24)]
    rows = lens.measure(model, half, tokens=tokens, rounds=3)
    products = 2 * model.W_U.numel() * (int(model.cfg.n_layers) + 1) * tokens
    share = products / rows[0].ours.wall / products_a_second(device)
    rows[0] = replace(rows[0], note=f"{share:.0%} of the roofline; {'; '.join(checked)}")
    return [*rows, *extraction.measure(model), *similarity.measure(), *generation.measure(model)]
