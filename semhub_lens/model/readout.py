r"""`Readout`: from residual states to logits the way the model itself does it.

$$\operatorname{logits}(h) = g\bigl(W_U^\top \operatorname{norm}(h) + b_U\bigr)$$

with the final norm, the unembedding $W_U$, its bias and the model's soft-cap or logit scale g. What a state reads out
to is what the last layer's reader would make of it; it does not show that the model uses it that way.
"""

from collections.abc import Callable
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.foreign import edits_of, is_hung_on
from semhub_lens.model.facts import Model, input_device, output_transform, require_model, weight_processing
from semhub_lens.model.hooking import residual_names, windowed

Norm = Literal["final", "none", "paper"]
Translator = Callable[[Tensor, int], Tensor]
"""`(states [... d_model], layer) -> states`: a trained map into the last layer's space (a tuned lens)."""
_verified: "WeakKeyDictionary[Model, tuple]" = WeakKeyDictionary()
"""By model: the version of what its read-out uses that was checked last. It dies with the model."""


class Readout:
    r"""The model's own read-out of a residual state, checked against the model's own logits.

    The check is one pass over five tokens. It is done once for a model, and again when the weights of its final norm or
    unembedding were replaced or changed in place (other than through `.data`, which changes both sides alike).

    Args:
        model: any TransformerLens model.
        norm: "final" applies the final norm, as the model does. "none" reads the bare state, $W_U^\top h + b_U$; it
            needs unfolded weights. "paper" is "none" but for the last layer, which is normed: what the reference code
            of the Semantic Hub paper reads, since the last of Hugging Face's hidden states is already normed.
        translator: applied before the norm at every layer but the last (tuned lens).

    Raises:
        SemhubError: the read-out of the last residual state does not reproduce the model's own log-probabilities on a
            short input (the architecture does something else between them), NaN logits, or `norm="none"` on folded
            weights.

    Example:
        >>> readout = Readout(tiny_model)
        >>> logits = readout(residual_stream(tiny_model, "three plus two", progress=False)[-1])
        >>> logits.shape[-1] == tiny_model.cfg.d_vocab
        True
    """

    def __init__(self, model: Model, *, norm: Norm = "final", translator: Translator | None = None) -> None:
        if norm not in ("final", "none", "paper"):
            raise SemhubError(
                f"Unknown norm {norm!r}; expected 'final' (the model's own), 'none' (bare states) or 'paper' (bare "
                "states, but for the last layer)."
            )
        require_model(model)
        if norm != "final" and (processing := weight_processing(model)) != "none":
            raise SemhubError(
                f"norm={norm!r} needs raw weights, but these are {processing}: folding moves the norm's gain into W_U. "
                "Load the model without processing (shl.load, or from_pretrained_no_processing)."
            )
        self.norm = norm
        self.translator = translator
        self.n_layers = int(model.cfg.n_layers)
        self._model = model
        self._unembedding = model.W_U
        bias = getattr(model, "b_U", None)
        self._bias = bias if bias is not None and bool((bias != 0).any()) else None
        version = _version(model)
        if version is None or _verified.get(model) != version:
            _check(model, self)
        if version is not None:
            _verified[model] = version

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary."""
        return int(self._unembedding.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the logits are."""
        return self._unembedding.device

    @property
    def name(self) -> str:
        """How states are read, for a result's provenance."""
        return self.norm if self.translator is None else f"{self.norm} + translator"

    def __call__(
        self, states: Float[Tensor, "*rows d_model"], layer: int | None = None, tokens: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, "*rows vocab"]:
        """Logits (float32) of residual states.

        `layer` (0 = embedding) tells the translator which map to use; with `tokens` only their logits are computed.
        """
        if self.translator is not None and layer is not None and layer < self.n_layers:
            states = self.translator(states, layer)
        last = self.norm == "paper" and layer == self.n_layers
        return self._logits(states, "final" if last else self.norm, tokens)

    def normed(self, states: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """States after the final norm as the model computes it, on the unembedding's device and in its dtype."""
        states = states.to(device=self._unembedding.device, dtype=self._unembedding.dtype)
        return self._model.ln_final(states.reshape(1, -1, states.shape[-1])).reshape(states.shape)

    def _logits(self, states: Tensor, norm: str, tokens: Tensor | None = None) -> Tensor:
        weight, bias = self._unembedding, self._bias
        if tokens is not None:
            tokens = tokens.to(weight.device)
            weight, bias = weight[:, tokens], bias if bias is None else bias[tokens]
        states = self.normed(states) if norm == "final" else states.to(device=weight.device, dtype=weight.dtype)
        logits = states @ weight
        if bias is not None:
            logits = logits + bias
        return output_transform(self._model, logits).float()


def make_readout(model: Model, norm: Norm, readout: Readout | None) -> Readout:
    """The read-out itself, or a new one with this norm; both at once is an error."""
    if readout is None:
        return Readout(model, norm=norm)
    if norm != "final":
        raise SemhubError("Give either norm= or readout=, not both: the read-out already has its norm.")
    return readout


def _version(model: Model) -> tuple | None:
    """Which final norm and unembedding, with which weights; None where one cannot tell: something hangs on them."""
    modules = [*model.ln_final.modules(), *model.unembed.modules()]
    weights = [weight for module in modules for weight in module.parameters(recurse=False)]
    hung = any(is_hung_on(module) for module in [model, *modules])
    if hung or any(weight.is_inference() for weight in weights):
        return None
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return (*map(id, modules), *((weight.data_ptr(), edits_of(weight), weight.dtype) for weight in weights), cap)


def _check(model: Model, readout: Readout) -> None:
    """Refuse a read-out that does not reproduce the model's own log-probabilities."""
    ids = (torch.arange(1, 6) * 17 % readout.d_vocab)[None].to(input_device(model))
    states: list[Tensor] = []

    def keep(activation: Tensor, hook: object) -> None:
        states.append(activation.detach().clone())

    with torch.no_grad(), windowed(model):  # interventions of the user's that are attached stay out of it
        own = model.run_with_hooks(ids, fwd_hooks=[(residual_names(model)[-1], keep)], return_type="logits")
        ours = readout._logits(states[0], "final")
    own = own.float().log_softmax(-1)
    error = (ours.log_softmax(-1).to(own.device) - own).abs().max().item()
    spread = own.std(-1).mean().item()
    tolerance = 1e-3 if readout._unembedding.dtype == torch.float32 else 0.1
    if not error <= tolerance * max(spread, 1e-3):
        raise Unfit(
            "The read-out (final norm, unembedding, soft-cap) does not reproduce this model's own log-probabilities: "
            f"they differ by {error:.3g} (their spread is {spread:.3g}). {type(model).__name__} of "
            f"{model.cfg.model_name!r} does something else after the last block, so a logit lens would be wrong."
        )
