"""The frozen language model of a training: prompts with placeholders, and passes whose gradients reach them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.model.checks import right_padding
from semhub_lens.model.facts import Model, input_device
from semhub_lens.model.hooking import Run, Window, hooked, residual_names
from semhub_lens.spokes.layout import layout

INPUT = "blocks.0.hook_resid_pre"


@dataclass
class FrozenModel:
    """A model whose passes take given vectors at some positions; made by `frozen`."""

    run: Run
    inputs: list
    """Input of the next pass: (vectors `[batch k d_model]`, positions `[batch k]`)."""
    kept: list

    def __call__(
        self,
        tokens: Int[Tensor, "batch pos"],
        vectors: Float[Tensor, "batch k d_model"],
        positions: Int[Tensor, "batch k"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """The last residual state, with gradients to the vectors."""
        rows = len(tokens)
        items, zeros = torch.arange(rows), torch.zeros(rows, dtype=torch.long)
        self.inputs[:], self.kept[:] = [(vectors, positions)], []
        self.run(tokens, Window(items, zeros, torch.full_like(items, tokens.shape[1])))
        return self.kept.pop()


@contextmanager
def frozen(model: Model) -> Iterator[FrozenModel]:
    """Freeze the model's weights and yield it as a `FrozenModel`; afterwards restore the weights' settings.

    Raises:
        Unfit: padding a batch on the right would change the states of its rows.
    """
    if (found := right_padding(model)).packing != "padded":
        raise Unfit(
            f"Training pads the rows of a batch on the right, which changes the states of {model.cfg.model_name} "
            f"(relative error {found.error:.2g}): it is not causal. Train on a causal model."
        )
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    inputs: list = []
    kept: list = []

    def write(activation: Tensor, hook: Any) -> Tensor:
        vectors, positions = inputs[0]
        out = activation.clone()
        rows = torch.arange(len(out), device=out.device)[:, None]
        out[rows, positions.to(out.device)] = vectors.to(out)
        return out

    def keep(activation: Tensor, hook: Any) -> None:
        kept[:] = [activation]

    try:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        with hooked(model, [(INPUT, write), (residual_names(model)[-1], keep)]) as run:
            yield FrozenModel(run, inputs, kept)
    finally:
        for name, parameter in model.named_parameters():  # offloading makes new ones at every pass
            parameter.requires_grad_(flags[name])


def input_norm(model: Model, texts: Sequence[str]) -> float:
    """Mean norm of a token's vector at the input of block 0, over texts without their BOS."""
    norms: list[Tensor] = []
    first = int(bool(model.cfg.default_prepend_bos))

    def keep(activation: Tensor, hook: Any) -> None:
        norms.append(activation[0, first:].detach().float().norm(dim=-1).cpu())

    with torch.no_grad(), hooked(model, [(INPUT, keep)]) as run:
        for text in texts:
            ids = layout(model, f"<text>{text}", "text", 0)[0]
            length = torch.tensor([len(ids)])
            run(torch.tensor([ids]), Window(torch.zeros_like(length), torch.zeros_like(length), length))
    return float(torch.cat(norms).mean())


def padded(rows: Sequence[Sequence[int]], fill: int) -> Int[Tensor, "batch pos"]:
    """Rows of token ids, padded on the right (which changes no earlier state of a causal model)."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])


Progress = Callable[[int, int, float], None]
"""`(step, steps, loss)`: called after each step."""


def device_of(model: Model) -> torch.device:
    """The device for vectors."""
    return input_device(model)
