"""The deviation of a TransformerLens model from the Hugging Face model with the same weights.

A bridge changes the Hugging Face model that it wraps. So the model's own numbers are recorded before wrapping
(`reference_of`), and compared afterwards (`disagreement`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.model.checks import IMPOSSIBLE
from semhub_lens.model.facts import Model, evaluating, input_device, plain_ids, weight_processing
from semhub_lens.model.hooking import HookFunction, residual_names, windowed
from semhub_lens.model.weights import home_of

LENGTH = 24
"""Tokens of the text that both models read, if their context is long enough."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The numbers of a Hugging Face model for some tokens, in float32 on the CPU."""

    ids: Int[Tensor, "batch pos"]
    log_probs: Float[Tensor, "batch pos vocab"]
    states: tuple[Float[Tensor, "batch pos d_model"], ...]
    """The embedding, then the state after every block except the last, which Hugging Face returns only normed."""


@dataclass(frozen=True)
class Agreement:
    """The largest deviations of a TransformerLens model from a reference."""

    log_probs: float
    """Largest absolute difference of a log-probability. In half precision, rounding can move single unlikely tokens
    far, so there it is the largest mean over a position.
    """
    states: tuple[float, ...]
    """For each residual entry except the last: the largest difference of a state, relative to its norm. Empty for
    processed weights, whose states differ by design, and if the two models return different kinds of states.
    """
    tolerance: float
    """The tolerance for log-probabilities."""
    state_tolerance: float

    @property
    def holds(self) -> bool:
        """Whether all deviations are within the size of rounding errors."""
        return self.log_probs <= self.tolerance and max(self.states, default=0.0) <= self.state_tolerance


@torch.no_grad()
def reference_of(hf: Any, ids: Int[Tensor, "batch pos"] | None = None) -> Reference:
    """Record the numbers of a Hugging Face model before it is wrapped.

    Args:
        hf: a Hugging Face model with logits, in eval mode.
        ids: tokens without padding; None means 24 ordinary tokens. The comparison does not cover a sliding window or a
            rotary scaling that starts after them.

    Raises:
        SemhubError: not such a model, a model in training mode, one that a bridge has already changed, or one that
            needs more than tokens.

    Example:
        >>> hf = transformers.AutoModelForCausalLM.from_pretrained("gpt2").eval()  # doctest: +SKIP
        >>> reference = reference_of(hf)  # doctest: +SKIP
        >>> model = TransformerBridge.boot_transformers("gpt2", hf_model=hf)  # doctest: +SKIP
        >>> disagreement(model, reference).log_probs < 1e-3  # doctest: +SKIP
        True
    """
    config = getattr(hf, "config", None)
    if config is None or not hasattr(hf, "get_input_embeddings"):
        raise SemhubError(f"Expected a Hugging Face model with logits as the reference, got {type(hf).__name__}.")
    if any(type(module).__module__.startswith("transformer_lens.") for module in hf.modules()):
        raise SemhubError(
            "This Hugging Face model is inside a TransformerBridge, which has changed it. Load it again, or record "
            "reference_of(hf) before wrapping it."
        )
    if any(module.training for module in hf.modules()):
        raise SemhubError("The Hugging Face model is in training mode; call .eval() on it before the comparison.")
    embedding = hf.get_input_embeddings().weight
    if ids is None:
        context = getattr(config.get_text_config(), "max_position_embeddings", None) or LENGTH
        ids = plain_ids(config, len(embedding), min(LENGTH, context))[None]
    try:
        out = hf(input_ids=ids.to(home_of(hf, embedding)), output_hidden_states=True)
        logits, states = out.logits, out.hidden_states or ()
    except IMPOSSIBLE as error:
        raise Unfit(
            f"{type(hf).__name__} gives no logits for tokens alone, so it cannot be compared: {error}"
        ) from error
    kept = tuple(state.float().cpu() for state in states[:-1])
    return Reference(ids.cpu(), logits.float().log_softmax(-1).cpu(), kept)


@torch.no_grad()
def disagreement(model: Model, reference: Reference) -> Agreement:
    """Largest deviations of a model's log-probabilities and states from those of the reference.

    This is one pass over the reference's tokens. It shows only that the two agree on these tokens, not on other inputs,
    such as texts longer than a sliding window.

    Raises:
        SemhubError: the model has another vocabulary, or another run is in progress.

    Example:
        >>> disagreement(model, reference_of(hf_model))  # doctest: +SKIP
    """
    size, expected = int(model.W_U.shape[1]), reference.log_probs.shape[-1]
    if size != expected:
        raise Unfit(f"{model.cfg.model_name} has {size} logits, the reference {expected}: they are different models.")
    names = residual_names(model)[:-1]
    logits, kept = whole_pass(model, reference.ids, names)
    ours = logits.float().log_softmax(-1).cpu()
    differences = torch.where(ours == reference.log_probs, 0.0, (ours - reference.log_probs).abs())
    states = [kept[name] for name in names if name in kept]
    if weight_processing(model) != "none" or [s.shape for s in states] != [s.shape for s in reference.states]:
        states = []
    both = [zip(states[skip:], reference.states, strict=False) for skip in (0, 1)]  # some leave the embedding out
    found = [tuple(_deviation(one, other) for one, other in pairs) for pairs in both]
    deviations = min(found, key=lambda errors: max(errors, default=torch.inf))
    if logits.dtype.itemsize >= 4:
        return Agreement(_worst(differences), deviations, 1e-2, 1e-3)
    return Agreement(_worst(differences.mean(-1)), deviations, 1.5, 0.2)


@torch.no_grad()
def whole_pass(
    model: Model, ids: Int[Tensor, "batch pos"], names: Sequence[str]
) -> tuple[Float[Tensor, "batch pos vocab"], dict[str, Tensor]]:
    """Logits of a pass in evaluation mode, and what fired of these hook points; attached interventions stay out."""
    kept: dict[str, Tensor] = {}

    def keeper(name: str) -> HookFunction:
        def keep(activation: Tensor, hook: Any) -> None:
            kept[name] = activation.detach().float().cpu()

        return keep

    ids = ids.to(input_device(model))
    hooks = [(name, keeper(name)) for name in names if name in model.hook_dict]
    with evaluating(model), windowed(model):
        logits = model.run_with_hooks(ids, fwd_hooks=hooks, return_type="logits", attention_mask=torch.ones_like(ids))
    return logits, kept


def _deviation(ours: Tensor, theirs: Tensor) -> float:
    return _worst((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-12))


def _worst(errors: Tensor) -> float:
    worst = float(errors.max())
    return worst if worst == worst else torch.inf
