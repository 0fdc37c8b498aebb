"""Facts about models that the measurements need.

Only this module and `loading` know whether a model is a `HookedTransformer` (transformer-lens 3.9) or a
`TransformerBridge` (3.9 and 4.x).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Module
from transformer_lens.model_bridge import TransformerBridge

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.fingerprints import values_fingerprint, weights_fingerprint
from semhub_lens.base.foreign import is_processed
from semhub_lens.base.results import Provenance, same_weights
from semhub_lens.model import weights
from semhub_lens.model.prefix import forget_states, whole_cache

try:
    from transformer_lens import HookedTransformer as _Hooked
except ImportError:  # removed in transformer-lens 4
    _Hooked = None
HookedTransformer: Any = _Hooked


OLD_CACHE, NEW_CACHE = "past_key_values", "cache"
"""Names by which Hugging Face models take a cache: until and from transformers 5.24."""

Model = Any
"""A `HookedTransformer` or a `TransformerBridge`."""


def require_model(model: Model) -> None:
    """Raise a SemhubError for an object that is not a TransformerLens model."""
    if not hasattr(model, "run_with_hooks"):
        raise SemhubError(
            f"Expected a HookedTransformer or a TransformerBridge, got {type(model).__name__}. Wrap a Hugging Face "
            "model with TransformerBridge.boot_transformers(name, hf_model=..., tokenizer=...), or use shl.load(name)."
        )


def require_media(model: Model) -> None:
    """Raise a SemhubError for a model that takes no pictures or sound, or that reads them wrongly."""
    if not is_bridge(model) or not getattr(model.cfg, "is_multimodal", False):
        raise Unfit(
            f"The prompt has pictures or sound, which {model.cfg.model_name} ({type(model).__name__}) cannot read: "
            "load a multimodal model as a TransformerBridge."
        )
    if HookedTransformer is not None and type(model.adapter).__name__ == "Gemma3MultimodalArchitectureAdapter":
        raise Unfit(
            "transformer-lens 3.9 computes the layer norms of Gemma 3's vision tower as RMS norms, so it reads "
            "pictures wrongly; install transformer-lens 4."
        )


def require_weights(model: Model) -> None:
    """Refuse a model whose weights a pass or a read-out cannot access, before anything runs.

    Raises:
        Unfit: weights without values; an offloaded bridge of transformer-lens 3.9; a quantised (un)embedding.
    """
    if is_bridge(model) and HookedTransformer is not None and weights.is_offloaded(model):
        raise Unfit(
            "Weights of this TransformerBridge are offloaded, which transformer-lens 3.9 cannot run: its components "
            "bypass accelerate when they read weights. Install transformer-lens 4, offload a HookedTransformer, or "
            "spread the bridge over devices with room for all of it (device_map)."
        )
    weights.require_values(model)
    weights.require_readable(model)


def require_fired(silent: Sequence[str]) -> None:
    """Raise an Unfit that names hooks which a run, or one pass of it, did not reach."""
    if silent:
        raise Unfit(
            f"These hooks never fired during the run: {', '.join(silent)}. The model does not pass through them: take "
            "other ones, or a model that was not compiled before."
        )


def is_bridge(model: Model) -> bool:
    """Whether the model is a `TransformerBridge`; for this module only."""
    return isinstance(model, TransformerBridge)


def has_own_forward(model: Model) -> bool:
    """Whether a bridge's model is of a class that neither transformers nor transformer-lens wrote."""
    inner = type(getattr(model, "original_model", None))
    return is_bridge(model) and inner.__module__.partition(".")[0] not in ("transformers", "transformer_lens")


def training_modules(model: Model) -> list[torch.nn.Module]:
    """Modules in training mode; a bridge keeps the wrapped model beside its own modules."""
    trees = [model, getattr(model, "original_model", None)]
    modules = (module for tree in trees if isinstance(tree, torch.nn.Module) for module in tree.modules())
    return [module for module in modules if module.training]


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Switch all modules to evaluation mode for as long: dropout would give other numbers at every call."""
    training = training_modules(model)
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def input_device(model: Model) -> torch.device:
    """Device on which the model expects token ids."""
    return weights.home_of(model, next(model.parameters()))


def mid_lies_behind(model: Model) -> bool:
    """Whether a bridge's `resid_mid` is after the MLP: if a block norms its output (OPT 350M, BERT)."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    behind = getattr(config, "do_layer_norm_before", True) is False or getattr(config, "model_type", "") == "bert"
    return is_bridge(model) and behind


def output_transform(model: Model, logits: Tensor) -> Tensor:
    """Apply the model's transform after the unembedding: a soft-cap c * tanh(x / c) or a logit scale."""
    if is_bridge(model):
        return model.adapter.apply_output_logits_transform(logits)
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits


def weight_processing(model: Model) -> str:
    """TransformerLens' processing of the weights: "none", or a list of "folded" and "centred"."""
    steps = []
    if model.cfg.normalization_type in ("LNPre", "RMSPre") or is_processed(model):
        steps.append("folded")
    embedding = weights.first_rows_of_the_embedding(model, 256).float()
    if embedding.mean(-1).abs().max() < 1e-6 * embedding.abs().max():
        steps.append("centred")
    return ", ".join(steps) or "none"


def new_cache(model: Model, rows: int) -> Any:
    """An empty key-value cache, or None if the model has none."""
    if not is_bridge(model):
        from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

        return TransformerLensKeyValueCache.init_cache(model.cfg, input_device(model), rows)
    from transformers import DynamicCache

    forget_states(model.original_model)
    return DynamicCache(config=model.original_model.config) if _cache_name(model) else None


def _cache_name(model: Model) -> str | None:
    """The argument of a bridge's model for a cache, or None: other models accept the name but ignore the past."""
    from transformers import PreTrainedModel

    inner = model.original_model
    known = signature(inner.forward).parameters if isinstance(inner, PreTrainedModel) else ()
    return next((name for name in (OLD_CACHE, NEW_CACHE) if name in known), None)


@contextmanager
def cache_passed_on(model: Model) -> Iterator[None]:
    """Let a bridge's attention find the cache while the context is open.

    transformers 5.24 passes it as `cache`; the attention of transformer-lens's bridges (3.9 and 4.3) looks for
    `past_key_values`. It gets both names; a module of transformers inside it gets only its own name, without a warning.
    """
    if not is_bridge(model) or _cache_name(model) != NEW_CACHE:
        yield
        return
    from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge

    parts = [part for part in model.modules() if isinstance(part, AttentionBridge)]
    inner = [part.original_component for part in parts if part.original_component is not None]
    hooks = [(part, _both_names) for part in parts] + [(part, _new_alone) for part in inner]
    with ExitStack() as stack:
        for part, hook in hooks:
            stack.callback(part.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _both_names(module: Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return args, {OLD_CACHE: inputs[NEW_CACHE]} | inputs if NEW_CACHE in inputs else inputs


def _new_alone(module: Module, args: tuple, inputs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    return args, {name: value for name, value in inputs.items() if name != OLD_CACHE or NEW_CACHE not in inputs}


def recording_cache(model: Model) -> Any:
    """An empty cache that keeps every position of one prompt, or None if it could not store a whole prefix."""
    if not is_bridge(model):
        return new_cache(model, 1)
    config = getattr(model.original_model, "config", None)
    return None if new_cache(model, 1) is None else whole_cache(config, int(model.cfg.n_layers))


def require_filled(cache: Any) -> None:
    """Refuse a Hugging Face cache that a pass has left empty: later passes would not see the prompt.

    Raises:
        SemhubError: no attention layer has stored keys and values.
    """
    from transformers import Cache
    from transformers import __version__ as version
    from transformers.cache_utils import DynamicLayer

    if not isinstance(cache, Cache):
        return
    attention = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    if (attention or not cache.layers) and not any(layer.is_initialized for layer in attention):
        raise Unfit(
            "The model has kept nothing in its key-value cache: with transformers "
            f"{version}, this transformer-lens does not pass it on."
        )


def plain_ids(config: Any, vocabulary: int, length: int) -> Int[Tensor, " length"]:
    """Ids of ordinary words: none that a Hugging Face config lists as a mark of text, pictures or sound."""
    named = {} if config is None else config.to_dict()
    marks = {i for name, i in named.items() if name.endswith(("token_id", "token_index")) and type(i) is int}
    plain = [i for i in range(min(1000, vocabulary)) if i not in marks] or [0]
    return torch.tensor([plain[(i + 1) * len(plain) // (length + 1)] for i in range(length)])


def can_grow_mid_pass(model: Model) -> bool:
    """Whether rows may join a batch between blocks; not if a block gets picture features for each row."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    return not getattr(getattr(config, "vision_config", None), "deepstack_visual_indexes", None)


def step_inputs(
    model: Model, cache: Any, mask: Bool[Tensor, "batch seen"], columns: int, *, media: bool = False
) -> dict[str, Any]:
    """Keyword arguments of a pass over the last `columns` of left-padded rows; `mask` marks the real tokens so far.

    Rows with media are never padded. Their model numbers positions itself (those of a picture in two dimensions), and
    with a cache this is right only without a mask.
    """
    mask = mask.long()
    if not is_bridge(model):
        return {"attention_mask": mask[:, -columns:] if cache is not None else mask, "past_kv_cache": cache}
    inputs: dict[str, Any] = {"attention_mask": mask}
    if cache is not None:  # not `use_cache=False` without one: some bridges fail at it
        inputs |= {str(_cache_name(model)): cache, "use_cache": True}
    if media:
        return inputs | {"attention_mask": mask if columns == mask.shape[1] else None}
    if cache is not None or bool((mask == 0).any()):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -columns:]
        inputs["position_ids"] = positions.to(input_device(model))
    return inputs


def weights_of(model: Model) -> str:
    """Fingerprint of a sample of all weights; the two backends name and store them differently."""
    return weights_fingerprint(weights.stored(model))


def unembedding_sample(model: Model) -> Float[Tensor, "d_model column"]:
    """64 columns of the unembedding."""
    unembedding = weights.unembedding(model, device="cpu")
    return unembedding[:, :: max(1, unembedding.shape[1] // 64)].detach().cpu()


def provenance_of(
    model: Model,
    *,
    norm: str | None = None,
    data: str | None = None,
    data_hash: str | None = None,
    seed: int | None = None,
    bos: bool | None = None,
    notes: tuple[str, ...] = (),
) -> Provenance:
    """Describe a measurement on `model`."""
    own, sample = weights_of(model), unembedding_sample(model)
    return Provenance(
        model=str(getattr(model.cfg, "model_name", None) or type(model).__name__),
        weights=own,
        content=weights.known_content(model, own),
        model_class=type(model).__name__,
        dtype=str(sample.dtype).removeprefix("torch."),
        device=input_device(model).type,  # not which of several: the processes of a launch each have their own
        processing=weight_processing(model),
        bos=bool(model.cfg.default_prepend_bos) if bos is None else bos,
        norm=norm,
        data=data,
        data_hash=data_hash,
        seed=seed,
        unembedding=values_fingerprint(sample.float()),
        notes=notes,
    )


def same_model(own: Provenance, made: Provenance) -> bool:
    """Whether something was made for the model with this name and these weights.

    Files of 0.1.0, the other backend and other lines of transformer-lens name weights differently. For these, only the
    unembeddings can be compared.
    """
    named = [(each.model_class, each.transformer_lens.partition(".")[0]) for each in (own, made)]
    if made.weights == made.unembedding or named[0] != named[1]:
        return own.model == made.model and own.unembedding == made.unembedding
    return own.model == made.model and same_weights(own, made)


def identity(provenance: Provenance) -> str:
    """A text that identifies the model."""
    known = "" if provenance.content is None else f", content {provenance.content}"
    return f"{provenance.model} (weights {provenance.weights}, unembedding {provenance.unembedding}{known})"
