"""The frozen language model behind a spoke: prompts with placeholders, and passes that let gradients reach them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.hook_points import Run, Window, hooked, residual_names
from semhub_lens.models import Model, input_device
from semhub_lens.store import digest
from semhub_lens.tokens import encode

INPUT = "blocks.0.hook_resid_pre"


def fingerprint(model: Model) -> str:
    """First 12 hex digits of a SHA-256 over a sample of the unembedding in bfloat16: the same for every dtype."""
    unembedding = model.W_U
    sample = unembedding[:, :: max(1, unembedding.shape[1] // 64)].detach().cpu().bfloat16().contiguous()
    return sha256(sample.view(torch.int16).numpy().tobytes()).hexdigest()[:12]


def vocabulary_hash(model: Model) -> str:
    """First 12 hex digits of a SHA-256 over the tokenizer's vocabulary."""
    return digest(sorted(_tokenizer(model).get_vocab().items()))


def placeholder(model: Model) -> int:
    """The token id that holds a place for a vector: the tokenizer's unknown token, or where it has none, the full stop.

    Vectors are written over it, so it plays no part; a padding token would be masked.
    """
    tokenizer = _tokenizer(model)
    return encode(tokenizer, ".")[-1] if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)


def layout(model: Model, text: str, name: str, count: int) -> tuple[list[int], tuple[int, ...], bool]:
    """Token ids of a text with one placeholder `<name>`, the placeholder's positions, and whether it begins with BOS.

    Raises:
        ValueError: the text has no such placeholder, or several.
    """
    mark = f"<{name}>"
    if text.count(mark) != 1:
        raise ValueError(f"The text {text!r} has {text.count(mark)} placeholders {mark}; expected exactly one.")
    tokenizer = _tokenizer(model)
    before, after = text.split(mark)
    first = tokenizer.bos_token_id if model.cfg.default_prepend_bos else None
    ids = ([] if first is None else [first]) + (encode(tokenizer, before) if before else [])
    positions = tuple(range(len(ids), len(ids) + count))
    return (
        ids + [placeholder(model)] * count + (encode(tokenizer, after) if after else []),
        positions,
        first is not None,
    )


def _tokenizer(model: Model) -> Any:
    if getattr(model, "tokenizer", None) is None:
        raise ValueError("The model has no tokenizer; a spoke needs one to build its prompts.")
    return model.tokenizer


@dataclass
class FrozenModel:
    """A model in whose passes some positions hold given vectors; made by `frozen`."""

    run: Run
    inputs: list
    """What the next pass writes: (vectors `[batch k d_model]`, positions `[batch k]`)."""
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
    """Freeze the model's weights and yield it as a `FrozenModel`; afterwards its weights are as they were."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
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
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with hooked(model, [(INPUT, write), (residual_names(model)[-1], keep)]) as run:
            yield FrozenModel(run, inputs, kept)
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


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
    """Rows of token ids, filled up on the right (in a causal model nothing before it sees that)."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])


Progress = Callable[[int, int, float], None]
"""`(step, steps, loss)`: called after each step."""


def device_of(model: Model) -> torch.device:
    """Where vectors have to be."""
    return input_device(model)
