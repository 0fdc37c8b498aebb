r"""`shl.metric`: metrics for patches, one number from the logits at the position that is read.

A metric maps logits `[batch vocab]` at one position to `[batch]`. Any function of that form works in `patch_grid` and
`attribution_grid`. The metrics made here also say which logits they need, so that the others are never computed.
`of_logits` wraps a metric of TransformerLens' own patching. A metric sees one position of one prompt. It does not show
what else a patch breaks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import Target, Variants, target_ids
from semhub_lens.interventions.grid import reference
from semhub_lens.model.capture import read_positions
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.readout import Readout, output_size
from semhub_lens.model.resolve import one_prompt

MetricFunction = Callable[[Float[Tensor, "batch vocab"]], Float[Tensor, " batch"]]
"""A function of the logits at the position that is read."""


@dataclass(frozen=True, eq=False)
class Metric:
    """A function of the logits at one position, with its name; made by `logit_difference`, `log_prob` and `kl`."""

    name: str
    reduce: MetricFunction
    """Takes the logits of `tokens`, in their order, or all logits if `tokens` is None."""
    tokens: Int[Tensor, " k"] | None = None

    @checked
    def __call__(self, logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
        """The metric of full logits at one position.

        Raises:
            SemhubError: logits of another vocabulary.
        """
        try:
            return self.reduce(logits if self.tokens is None else logits[:, self.tokens.to(logits.device)])
        except (IndexError, RuntimeError) as error:
            raise SemhubError(
                f"The metric {self.name!r} reads logits [batch vocab] of its own model, got {shown(logits)} ({error})."
            ) from error


@dataclass(frozen=True, eq=False)
class LogitsMetric:
    """A function from logits `[1 pos vocab]` to one number, made by `of_logits`."""

    name: str
    function: Callable[[Float[Tensor, "batch pos vocab"]], Any]

    def at(self, read: int, length: int) -> MetricFunction:
        """The metric for logits at position `read` of a prompt of some `length`; the function gets NaN elsewhere."""

        def measured(logits: Float[Tensor, "batch vocab"]) -> Float[Tensor, " batch"]:
            return torch.stack([self._one(row, read, length) for row in logits])

        return measured

    def _one(self, row: Float[Tensor, " vocab"], read: int, length: int) -> Float[Tensor, ""]:
        logits = row.new_full((1, length, len(row)), torch.nan)
        logits[0, read] = row
        try:
            value = torch.as_tensor(self.function(logits))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise SemhubError(
                f"The metric {self.name!r} failed on logits {list(logits.shape)}: {error}. A patch grid measures one "
                "pair of prompts, so the metric must be for that pair."
            ) from error
        one = value.numel() == 1 and not value.is_complex()
        if not one or not bool(value.isfinite()):
            raise SemhubError(
                f"The metric {self.name!r} must map logits [1 pos vocab] to one finite number, it returned "
                f"{float(value) if one else shown(value)}. It gets logits only at position {read}, and "
                "NaN elsewhere: choose its position with read=."
            )
        return value.reshape(())


@checked
def of_logits(function: Callable[[Float[Tensor, "batch pos vocab"]], Any], *, name: str | None = None) -> LogitsMetric:
    """Wrap a metric of `transformer_lens.patching`: from logits `[batch pos vocab]` to one number.

    The function is called for one run at a time, with logits `[1 pos vocab]`. Only the position of the grid's `read=`
    has values ("last" by default); all others are NaN. So a metric of several positions is refused, not measured
    wrongly. Each call makes `pos` times `vocab` numbers, so a metric like `logit_difference` is faster.

    Args:
        function: the metric.
        name: its name in figures; None means the function's own name.

    Raises:
        SemhubError: (in the grid) a function that fails, that returns several numbers, or that reads another position.

    Example:
        >>> two, five = (tiny_model.tokenizer.convert_tokens_to_ids(word) for word in ("▁two", "▁five"))
        >>> metric = of_logits(lambda logits: (logits[:, -1, two] - logits[:, -1, five]).mean(), name="two - five")
        >>> metric.name
        'two - five'
    """
    return LogitsMetric(name or getattr(function, "__name__", type(function).__name__), function)


@checked
def logit_difference(model: Model, right: Target, wrong: Target, *, variants: Variants = "exact") -> Metric:
    r"""Return the metric $\log \sum_{v \in R} e^{z_v} - \log \sum_{v \in W} e^{z_v}$, in logits.

    With one spelling on each side, this is the plain difference of two logits.

    Args:
        model: the model; its tokenizer is used.
        right, wrong: a word with its leading space, a token id, or several of them (probabilities summed).
        variants: the spellings of a word that count; see `word_tokens`.

    Raises:
        SemhubError: a word without a one-token spelling, a token id outside the vocabulary, or a token on both sides.

    Example:
        >>> metric = logit_difference(tiny_model, " two", " five")
        >>> metric.name
        "logit difference: ' two' - ' five'"
    """
    one, other = (_ids(model, side, variants) for side in (right, wrong))
    if shared := set(one) & set(other):
        raise SemhubError(f"{right!r} and {wrong!r} share the token ids {sorted(shared)}; their logits would cancel.")

    def difference(logits: Tensor) -> Tensor:
        return logits[:, : len(one)].logsumexp(-1) - logits[:, len(one) :].logsumexp(-1)

    return Metric(f"logit difference: {right!r} - {wrong!r}", difference, torch.tensor([*one, *other]))


@checked
def log_prob(model: Model, word: Target, *, variants: Variants = "exact") -> Metric:
    r"""Return the metric $\log \sum_{v \in V(w)} p_v$, in nats.

    Args:
        model: the model; its tokenizer is used.
        word: a word with its leading space, a token id, or several of them (probabilities summed).
        variants: the spellings of a word that count; see `word_tokens`.

    Raises:
        SemhubError: a word without a one-token spelling, or a token id outside the vocabulary.

    Example:
        >>> uniform = torch.zeros(1, tiny_model.cfg.d_vocab)
        >>> round(log_prob(tiny_model, " two")(uniform).exp().item() * tiny_model.cfg.d_vocab, 4)
        1.0
    """
    ids = torch.tensor(_ids(model, word, variants))

    def log_probability(logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)[:, ids.to(logits.device)].logsumexp(-1)

    return Metric(f"log p({word!r})", log_probability)


@checked
def kl(model: Model, prompt: OnePrompt, *, read: str | int = "last") -> Metric:
    r"""Return the metric $\sum_v p_v \log (p_v / q_v)$, in nats, with p for `prompt` and q for the patched run.

    With the clean prompt it is 0 in the clean run, so the normalised effect of a patch is the share of the divergence
    that it removes.

    Args:
        model: any TransformerLens model; it is run once.
        prompt: usually the clean prompt.
        read: the position in the prompt; see `residual_stream`. It must be one position.

    Raises:
        SemhubError: empty prompt, or a `read` that is not one position.

    Example:
        >>> metric = kl(tiny_model, "three plus two")
        >>> metric(torch.zeros(1, tiny_model.cfg.d_vocab)).shape
        torch.Size([1])
    """
    one = one_prompt(model, prompt, "kl")
    position = read_position(one, read)
    final = reference(model, one, "resid_pre", position).final
    with torch.no_grad():
        clean = Readout(model)(final[None]).log_softmax(-1)

    def divergence(logits: Tensor) -> Tensor:
        return (clean.exp() * (clean - logits.log_softmax(-1))).sum(-1)

    return Metric("KL to the clean run", divergence)


@checked
def read_position(prompt: Prompt, read: str | int) -> int:
    """The single position of `read`.

    Args:
        prompt: the prompt.
        read: the position to read; see `residual_stream`.

    Raises:
        SemhubError: it has none or several.

    Example:
        >>> read_position(Prompt.from_text(tiny_model, "three plus two"), "last")
        3
    """
    positions = read_positions(prompt, read)
    if len(positions) != 1 or read in ("mean", "raw_mean"):
        raise SemhubError(
            f"read={read!r} is not one position of {prompt.text!r}, but a metric reads one: use 'last', a position, or "
            "'NAME:last'."
        )
    return positions[0]


def _ids(model: Model, target: Target, variants: Variants) -> tuple[int, ...]:
    require_model(model)
    ids = target_ids(model.tokenizer, target, variants=variants)
    for token in ids:
        if not 0 <= token < output_size(model):
            raise SemhubError(f"Token id {token} is outside the model's vocabulary of {output_size(model)}.")
    return ids
