r"""`Readout`: from residual states to logits the way the model itself does it.

$$\operatorname{logits}(h) = g\bigl(W_U^\top \operatorname{norm}(h) + b_U\bigr)$$

with the final norm, the unembedding $W_U$, its bias and the model's soft-cap or logit scale g. The read-out treats any
state like the last one. It does not show that the model uses the state in this way.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit, require_size
from semhub_lens.base.foreign import is_hung_on
from semhub_lens.model import products
from semhub_lens.model.checks import require_one_turn
from semhub_lens.model.facts import (
    Model,
    evaluating,
    input_device,
    require_model,
    require_weights,
    weight_processing,
)
from semhub_lens.model.final_norm import final_norm, normed
from semhub_lens.model.hooking import require_hooks, residual_names, windowed
from semhub_lens.model.readable import plain_layers, require_ids, require_width
from semhub_lens.model.translators import Translators
from semhub_lens.model.weights import editions, require_readable, unembedding_device

Norm = Literal["final", "none", "paper", "tuned"]
Precision = Literal["float32", "model"]
Translator = Callable[[Tensor, int], Tensor]
"""`(states [... d_model], layer) -> states`: a trained map to the last layer's space (a tuned lens)."""
_verified: "WeakKeyDictionary[Model, tuple]" = WeakKeyDictionary()
"""For each model, the version of its read-out weights that was checked last."""


@checked
class Readout:
    r"""The model's own read-out of a residual state, checked against the model's own logits.

    $$\operatorname{logits}(h) = g\bigl(W_U^\top \operatorname{norm}(h) + b_U\bigr)$$

    Here g is the model's own soft-cap or logit scale, if it has one. The check is one pass over five tokens. It is done
    once per model, and again after the weights of the final norm or the unembedding were replaced or changed in place
    (but not through `.data`, which changes both sides equally). An older read-out then uses the new weights.

    Args:
        model: any TransformerLens model.
        norm: "final" applies the final norm, like the model. "none" reads the state without a norm,
            $g(W_U^\top h + b_U)$; it needs unfolded weights. "paper" is "none" except at the last layer, which is
            normed. The reference code of the Semantic Hub paper reads this way, because the last of Hugging Face's
            hidden states is already normed. "tuned" is "final" through the translators that are packaged for the model.
        translator: a map before the norm at every layer except the last: `Translators` (a tuned lens), which refuse any
            other model than their own, or any function of states and layer.
        dtype: for a model in half precision, "float32" computes norm and logits in float32, and "model" rounds like the
            model, so that close tokens tie. Other models are always read in their own dtype.

    Raises:
        SemhubError: the read-out of the last residual state does not reproduce the model's own log-probabilities on a
            short input, the hook of that state never fires, NaN logits, `norm="none"` on folded weights, `norm="tuned"`
            for a model without packaged translators or together with a translator, or translators of another model.

    Example:
        >>> readout = Readout(tiny_model)
        >>> states = residual_stream(tiny_model, "three plus two", progress=False)[-1]
        >>> readout(states).shape[-1] == tiny_model.cfg.d_vocab, readout.normed(states).shape == states.shape
        (True, True)
    """

    def __init__(
        self,
        model: Model,
        *,
        norm: Norm = "final",
        translator: Translator | None = None,
        dtype: Precision = "float32",
    ) -> None:
        if norm not in ("final", "none", "paper", "tuned"):
            raise SemhubError(
                f"Unknown norm {norm!r}; expected 'final' (the model's own), 'none', 'paper' (none, except at the last "
                "layer) or 'tuned' (the packaged translators, then the model's own)."
            )
        if norm == "tuned" and translator is not None:
            raise SemhubError("norm='tuned' uses the packaged translators, so it takes no other translator.")
        if dtype not in ("float32", "model"):
            raise SemhubError(
                f"Unknown dtype {dtype!r} of a read-out; expected 'float32' or 'model' (the model's own)."
            )
        require_model(model)
        require_weights(model)
        require_one_turn(model)
        if norm == "tuned":
            norm, translator = "final", Translators.packaged(model)
        elif isinstance(translator, Translators):
            translator.check(model)
        self.norm = norm
        self.translator = translator
        self.dtype = dtype
        self.n_layers = int(model.cfg.n_layers)
        self._model = model
        self._require_raw()
        version = _version(model)
        if version is None or _verified.get(model) != version:
            _check(self)
        if version is not None:
            _verified[model] = version

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary."""
        return output_size(self._model)

    @property
    def device(self) -> torch.device:
        """The device of the logits."""
        return unembedding_device(self._model)

    @property
    def name(self) -> str:
        """A description of the read-out for a result's provenance; for a model in half precision with its dtype."""
        through = "translator" if not isinstance(self.translator, Translators) else self.translator.signature
        name = self.norm if self.translator is None else f"{self.norm} + {through}"
        half = _is_half(self._model.W_U.dtype)
        return f"{name} in {str(self._dtype).removeprefix('torch.')}" if half else name

    @checked
    def __call__(
        self,
        states: Float[Tensor, "*rows d_model"],
        layer: int | Sequence[int] | None = None,
        tokens: Int[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "*rows vocab"]:
        """Logits (float32) of residual states.

        `layer` (0 = embedding) selects the translator's map. With a list of layers, one for each entry of the
        first axis, the unembedding is read once for all of them. With `tokens` only their logits are computed.

        Raises:
            SemhubError: states of another width, a layer or a token that the model does not have.
        """
        self._require_raw()
        require_width(states, self._model)
        layer = plain_layers(layer, states, self.n_layers)
        require_ids(tokens, self.d_vocab)
        return products.logits(self._model, self._ready(states, layer), self._dtype, tokens)

    @property
    def in_pieces(self) -> bool:
        """Whether `pieces` computes only the columns of a piece; else it cuts up whole logits.

        It cuts up those of a subclass with a `__call__` of its own, and of a quantised unembedding.
        """
        return type(self).__call__ is Readout.__call__ and products.is_plain(self._model)

    @checked
    def pieces(
        self, states: Float[Tensor, "... d_model"], layer: int | Sequence[int] | None = None, *, columns: int = 4096
    ) -> Iterator[tuple[int, Float[Tensor, "... id"]]]:
        """The logits (float32) of all tokens, a number of `columns` at a time: the first token id, and the logits.

        A piece is valid until the next one is asked for, and you may overwrite it.

        Raises:
            SemhubError: states of another width, a layer that the model does not have, or no columns.

        Example:
            >>> states = residual_stream(tiny_model, "three plus two", progress=False)[-1]
            >>> sum(piece.shape[-1] for _, piece in Readout(tiny_model).pieces(states)) == tiny_model.cfg.d_vocab
            True
        """
        require_size("columns", columns)
        if not self.in_pieces:
            return self._cut_up(states, layer, columns)
        self._require_raw()
        require_width(states, self._model)
        ready = self._ready(states, plain_layers(layer, states, self.n_layers))
        made = products.pieces(self._model, ready.flatten(0, -2), self._dtype, columns)
        return ((start, piece.unflatten(0, states.shape[:-1])) for start, piece in made)

    def _cut_up(self, states: Tensor, layer: int | Sequence[int] | None, width: int) -> Iterator[tuple[int, Tensor]]:
        whole = self(states, layer)
        for start in range(0, self.d_vocab, width):
            yield start, whole[..., start : start + width].clone(memory_format=torch.contiguous_format)

    def _ready(self, states: Tensor, layer: int | Sequence[int] | None) -> Tensor:
        """States in the form that the unembedding takes."""
        alike = self.translator is None and self.norm != "paper"
        if isinstance(layer, Sequence) and not alike:
            return torch.stack([self._ready(part, one) for part, one in zip(states, layer, strict=True)])
        if self.translator is not None and isinstance(layer, int) and layer < self.n_layers:
            states = self.translator(states, layer)
            require_width(states, self._model)
        if self.norm == "final" or (self.norm == "paper" and layer == self.n_layers):
            return self.normed(states)
        return states.to(self.device, self._dtype)

    @checked
    def normed(self, states: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """States after the final norm as the model computes it, on the unembedding's device.

        Raises:
            SemhubError: states of another width.
        """
        require_width(states, self._model)
        return normed(self._model, states, self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        own = self._model.W_U.dtype
        return torch.float32 if self.dtype == "float32" and _is_half(own) else own

    def _require_raw(self) -> None:
        if self.norm != "final" and (processing := weight_processing(self._model)) != "none":
            raise SemhubError(
                f"norm={self.norm!r} needs raw weights, but these are {processing}: folding moves the norm's gain into "
                "W_U. Load the model without processing (shl.load, or from_pretrained_no_processing)."
            )


class ColumnReadout(Readout):
    """A read-out of a few tokens only: they are its whole vocabulary, in their order."""

    def __init__(self, readout: Readout, tokens: Sequence[int]) -> None:
        self.n_layers = readout.n_layers
        self._whole, self._few = readout, torch.tensor(tokens, dtype=torch.long, device=readout.device)

    @property
    def d_vocab(self) -> int:
        """The number of tokens."""
        return len(self._few)

    @property
    def device(self) -> torch.device:
        """The device of the logits."""
        return self._few.device

    def __call__(
        self,
        states: Float[Tensor, "*rows d_model"],
        layer: int | Sequence[int] | None = None,
        tokens: Int[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "*rows vocab"]:
        """Logits of these tokens, or of some of them by their index."""
        return self._whole(states, layer, self._few if tokens is None else self._few[tokens])


def make_readout(model: Model, norm: Norm, readout: Readout | None) -> Readout:
    """The given read-out, or a new one with this norm; both together are an error."""
    if readout is None:
        return Readout(model, norm=norm)
    if norm != "final":
        raise SemhubError("Pass either norm= or readout=, not both: the read-out already has its norm.")
    return readout


def output_size(model: Model) -> int:
    """Number of tokens that the model predicts; the input vocabulary may differ."""
    require_readable(model)
    return int(model.W_U.shape[1])


def _is_half(dtype: torch.dtype) -> bool:
    return dtype.itemsize < 4


def _version(model: Model) -> tuple | None:
    """The version of final norm and unembedding and their weights; None if it is unknown because they have hooks."""
    norm = final_norm(model)
    modules = [*(() if norm is None else norm.modules()), *model.unembed.modules()]
    weights = [weight for module in modules for weight in module.parameters(recurse=False)]
    hung = any(is_hung_on(module) for module in [model, *modules])
    if hung or any(weight.is_inference() for weight in weights):
        return None
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    editions_of = [edition for part in (norm, model.unembed) if part is not None for edition in editions(part)]
    return (*map(id, modules), *editions_of, *(weight.dtype for weight in weights), cap)


def _check(readout: Readout) -> None:
    """Refuse a read-out that does not reproduce the model's own log-probabilities, with the model's own rounding."""
    model = readout._model
    name = residual_names(model)[-1]
    require_hooks(model, [name])
    count = min(5, int(model.cfg.n_ctx))
    ids = (torch.arange(1, count + 1) * 17 % int(model.cfg.d_vocab))[None].to(input_device(model))
    states: list[Tensor] = []

    def keep(activation: Tensor, hook: object) -> None:
        states.append(activation.detach().clone())

    # interventions of the user's that are attached stay out of it, and so do layers that training leaves out
    with torch.no_grad(), evaluating(model), windowed(model):
        own = model.run_with_hooks(ids, fwd_hooks=[(name, keep)], return_type="logits")
        if not states:
            raise Unfit(f"{name} never fires in {model.cfg.model_name}, so its residual stream cannot be read.")
        width, entering = states[0].shape[-1], model.W_U.shape[0]
        if width != entering:
            raise Unfit(
                f"The last residual states of {model.cfg.model_name!r} have {width} entries, its unembedding takes "
                f"{entering}: the model does something else after the last block, so a logit lens would be wrong."
            )
        dtype = model.W_U.dtype
        ours = products.logits(model, normed(model, states[0], dtype), dtype)
    own = own.float().log_softmax(-1)
    error = (ours.log_softmax(-1).to(own.device) - own).abs().max().item()
    spread = own.std(-1).mean().item()
    tolerance = 0.1 if _is_half(model.W_U.dtype) else 1e-3
    if not error <= tolerance * max(spread, 1e-3):
        raise Unfit(
            "The read-out (final norm, unembedding, soft-cap) does not reproduce this model's own log-probabilities: "
            f"they differ by {error:.3g} (their spread is {spread:.3g}). {type(model).__name__} of "
            f"{model.cfg.model_name!r} does something else after the last block, so a logit lens would be wrong."
        )
