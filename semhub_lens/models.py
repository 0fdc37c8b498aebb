"""Loading models, and the facts about them that the measurements need.

Only this module knows whether a model is a `HookedTransformer` (transformer-lens 3.9) or a
`TransformerBridge` (3.9 and 4.x).
"""

import difflib
import hashlib
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

from semhub_lens._packaged import PACKAGED, packaged_files, plain_folder
from semhub_lens._prefix import whole_cache
from semhub_lens.results import Provenance

try:
    from transformer_lens import HookedTransformer as _Hooked
except ImportError:  # removed in transformer-lens 4
    _Hooked = None
HookedTransformer: Any = _Hooked

HOOKED_NAMES = {*OFFICIAL_MODEL_NAMES, *(alias for names in MODEL_ALIASES.values() for alias in names)}
Backend = Literal["auto", "hooked", "bridge"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


Model = Any
"""A `HookedTransformer` or a `TransformerBridge`; this module alone knows which."""


def load(
    name: str | Path, *, backend: Backend = "auto", device: str | None = None, dtype: str | torch.dtype = torch.float32
) -> Any:
    """Load a model with raw (unfolded, uncentred) weights.

    Args:
        name: a packaged offline model (`gemma-3-270m`, `smollm2-135m`), a local folder, a GGUF file, or a hub name.
        backend: "hooked" gives a `HookedTransformer` (transformer-lens 3.9 only), "bridge" a `TransformerBridge`;
            "auto" takes "hooked" where the installed line has it, else "bridge" (also for a hub name that
            `HookedTransformer` lacks).
        device: None takes CUDA when there is one.
        dtype: a torch dtype or its name.

    Returns:
        The model itself, in eval mode. Any `HookedTransformer` or `TransformerBridge` of your own works as well.

    Raises:
        ValueError: unknown name (the nearest known ones are listed), package not installed, corrupted file, unwritable
            cache, or a backend that the installed transformer-lens lacks.

    Example:
        >>> model = load("gemma-3-270m", backend="bridge")  # doctest: +SKIP
    """
    dtype = _dtype(dtype)
    device = _device(device)
    known = _backend(backend)
    folder, official = _resolve(str(name))
    if folder is None:
        model = _from_hub(
            str(name), backend if backend != "auto" or str(name) in HOOKED_NAMES else "bridge", device, dtype
        )
    else:
        model = _from_folder(folder, str(name), official, known, device, dtype)
    if type(model) is HookedTransformer:
        _lay_out(model)
    return model.eval()


@torch.no_grad()
def _lay_out(model: Any) -> None:
    """Store matrices that HookedTransformer transposes in every pass as it reads them; else each pass copies them."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and name.rpartition(".")[2] in ("W_gate", "W_in", "W_out", "W_U"):
            parameter.data = parameter.data.T.contiguous().T


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The device {device!r} is not available here: {error}. Try device='cpu'.") from error
    return device


def _backend(backend: str) -> str:
    if backend not in ("auto", "hooked", "bridge"):
        raise ValueError(f"Unknown backend {backend!r}; expected 'auto', 'hooked' or 'bridge'.")
    if backend == "hooked" and HookedTransformer is None:
        raise ValueError(
            "backend='hooked' needs HookedTransformer, which transformer-lens removed in version 4. Use "
            "backend='bridge', "
            'or install the 3.9 line: pip install "semhub-lens[hooked]".'
        )
    if backend == "auto":
        return "bridge" if HookedTransformer is None else "hooked"
    return backend


def _resolve(name: str) -> tuple[Path | None, str | None]:
    """Folder with the weights (None: ask the hub) and the official name of the architecture, if known."""
    if packaged := PACKAGED.get(name):
        return plain_folder(name, packaged_files(packaged), packaged.sha256), packaged.official_name
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ValueError(f"No GGUF file at {path}.")
        return plain_folder(path.stem, [path]), None
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"The folder {path} holds no config.json; expected a Hugging Face model folder.")
        return path, None
    if "/" not in name and name not in HOOKED_NAMES:
        raise ValueError(_unknown(name))
    return None, None


def _unknown(name: str) -> str:
    known = [*PACKAGED, *OFFICIAL_MODEL_NAMES]
    short = {full.split("/")[-1].lower(): full for full in reversed(known)}
    close = difflib.get_close_matches(name.split("/")[-1].lower(), short, n=5, cutoff=0.4)
    nearest = ", ".join(short[key] for key in close) or ", ".join(PACKAGED)
    return (
        f"Unknown model {name!r}: not a packaged model ({', '.join(PACKAGED)}), not an existing folder or GGUF file, "
        f"and not a hub name that could be loaded. Nearest known names: {nearest}."
    )


def _from_hub(name: str, backend: str, device: str, dtype: torch.dtype) -> Any:
    if backend == "auto":
        backend = _backend(backend)
    try:
        if backend == "hooked":
            return HookedTransformer.from_pretrained_no_processing(name, device=device, dtype=dtype)
        return TransformerBridge.boot_transformers(name, device=device, dtype=dtype)
    except (OSError, ValueError) as error:
        hint = "" if name in HOOKED_NAMES else _unknown(name) + " "
        raise ValueError(f"{hint}Loading {name!r} from the hub failed: {error}") from error


def _from_folder(folder: Path, name: str, official: str | None, backend: str, device: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        hf: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged folder raises anything from OSError to the readers' own types
        raise ValueError(f"The folder {folder} does not hold a complete model with its tokenizer: {error}") from error
    if backend == "hooked":
        model = _hooked(hf, tokenizer, official, device, dtype)
    else:
        model = TransformerBridge.boot_transformers(
            official or str(folder), hf_model=hf.to(device), tokenizer=tokenizer, device=device, dtype=dtype
        )
    model.cfg.model_name = name
    return model


def _hooked(hf: Any, tokenizer: Any, official: str | None, device: str, dtype: torch.dtype) -> Any:
    if official is not None:
        return HookedTransformer.from_pretrained_no_processing(
            official, hf_model=hf, tokenizer=tokenizer, device=device, dtype=dtype
        )
    model = _hooked_by_config(hf, tokenizer, device, dtype)
    ids = torch.arange(8)[None] + 1
    with torch.inference_mode():
        ours = model(ids.to(device)).float().log_softmax(-1).cpu()
        reference = hf.to(device)(ids.to(device)).logits.float().log_softmax(-1).cpu()
    if (error := (ours - reference).abs().max().item()) > (1e-2 if dtype == torch.float32 else 0.5):
        raise ValueError(
            f"HookedTransformer does not reproduce this model (log-probabilities differ by {error:.3g}); use "
            "backend='bridge'."
        )
    return model


def _hooked_by_config(hf: Any, tokenizer: Any, device: str, dtype: torch.dtype) -> Any:
    """Build a `HookedTransformer` from any Hugging Face model whose architecture it can convert."""
    from transformer_lens import loading_from_pretrained as loading

    hf.config.architectures = [type(hf).__name__]
    try:
        with tempfile.TemporaryDirectory(
            prefix="tlcfg_"
        ) as folder:  # a name without "llama" or "gemma": they select branches
            hf.config.save_pretrained(folder)
            cfg = loading.get_pretrained_model_config(
                folder, hf_cfg=hf.config.to_dict(), fold_ln=False, device=device, dtype=dtype
            )
            weights = loading.get_pretrained_state_dict(folder, cfg, hf, dtype=dtype)
    except Exception as error:  # conversion fails in many ways on an architecture that HookedTransformer does not know
        raise ValueError(
            f"HookedTransformer cannot convert {type(hf).__name__}: {error!r}. Use backend='bridge'."
        ) from error
    cfg.tokenizer_name = None
    model = HookedTransformer(cfg, tokenizer, move_to_device=False)
    model.load_and_process_state_dict(
        weights, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    model.move_model_modules_to_device()
    return model


def require_model(model: Model) -> None:
    """Raise a ValueError for an object that is not a TransformerLens model."""
    if not hasattr(model, "run_with_hooks"):
        raise ValueError(
            f"Expected a HookedTransformer or a TransformerBridge, got {type(model).__name__}. Wrap a Hugging Face "
            "model with TransformerBridge.boot_transformers(name, hf_model=..., tokenizer=...), or use shl.load(name)."
        )


def is_bridge(model: Model) -> bool:
    """Whether the model is a `TransformerBridge`; for this module only."""
    return isinstance(model, TransformerBridge)


def input_device(model: Model) -> torch.device:
    """Device on which the model expects token ids."""
    return next(model.parameters()).device


def output_transform(model: Model, logits: Tensor) -> Tensor:
    """Apply what the model does after the unembedding: a soft-cap c * tanh(x / c) or a logit scale."""
    if is_bridge(model):
        return model.adapter.apply_output_logits_transform(logits)
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits


def weight_processing(model: Model) -> str:
    """Say what TransformerLens did to the weights: "none", or a list of "folded" and "centred"."""
    found = []
    if model.cfg.normalization_type in ("LNPre", "RMSPre") or getattr(model, "_weights_processed", False):
        found.append("folded")
    embedding = model.W_E[:256].float()
    if embedding.mean(-1).abs().max() < 1e-6 * embedding.abs().max():
        found.append("centred")
    return ", ".join(found) or "none"


def new_cache(model: Model, rows: int) -> Any:
    """An empty key-value cache, or None where the model has none."""
    if not is_bridge(model):
        from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

        return TransformerLensKeyValueCache.init_cache(model.cfg, input_device(model), rows)
    from transformers import DynamicCache, PreTrainedModel

    inner = model.original_model
    return DynamicCache(config=inner.config) if isinstance(inner, PreTrainedModel) else None


def recording_cache(model: Model) -> Any:
    """An empty cache that keeps every position of one prompt, or None where it would not hold all that a prefix is."""
    if not is_bridge(model):
        return new_cache(model, 1)
    config = getattr(model.original_model, "config", None)
    return None if new_cache(model, 1) is None else whole_cache(config, int(model.cfg.n_layers))


def step_inputs(model: Model, cache: Any, mask: Bool[Tensor, "batch seen"], columns: int) -> dict[str, Any]:
    """Keyword arguments of a pass over the last `columns` of left-padded rows; `mask` marks the real tokens so far."""
    mask = mask.long()
    if not is_bridge(model):
        return {"attention_mask": mask[:, -columns:] if cache is not None else mask, "past_kv_cache": cache}
    inputs: dict[str, Any] = {"attention_mask": mask, "past_key_values": cache, "use_cache": cache is not None}
    if cache is not None or bool((mask == 0).any()):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -columns:]
        inputs["position_ids"] = positions.to(input_device(model))
    return inputs


def provenance(
    model: Model,
    *,
    norm: str | None = None,
    data: str | None = None,
    data_hash: str | None = None,
    seed: int | None = None,
    bos: bool | None = None,
) -> Provenance:
    """Describe a measurement on `model`."""
    unembedding = model.W_U
    step = max(1, unembedding.shape[1] // 64)
    sample = unembedding[:, ::step].detach().float().cpu().contiguous()
    return Provenance(
        model=str(getattr(model.cfg, "model_name", None) or type(model).__name__),
        weights=hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:12],
        model_class=type(model).__name__,
        dtype=str(unembedding.dtype).removeprefix("torch."),
        device=str(input_device(model)),
        processing=weight_processing(model),
        bos=bool(model.cfg.default_prepend_bos) if bos is None else bos,
        norm=norm,
        data=data,
        data_hash=data_hash,
        seed=seed,
    )
