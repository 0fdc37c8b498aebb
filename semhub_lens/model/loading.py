"""Loading models: by the name of a packaged one, from a folder or a GGUF file, from the hub.

Besides `facts`, only this module knows the two model classes.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import torch
import transformers
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.progress import no_other_bars
from semhub_lens.model import hooked_weights
from semhub_lens.model.agreement import LENGTH, Reference, disagreement, reference_of
from semhub_lens.model.facts import HookedTransformer, plain_ids
from semhub_lens.model.sources import (
    ALIASES,
    HOOKED_NAMES,
    config_of,
    multimodal,
    quantisation,
    read,
    readable,
    require_decoder,
    resolve,
    unknown,
)
from semhub_lens.model.weights import home_of, require_read

Backend = Literal["auto", "hooked", "bridge"]
DeviceMap = str | Mapping[str, str | int]
"""The devices of a model's modules, for accelerate: "auto", or a device for each module name."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BRIDGE, OTHER = "use backend='bridge'", "take another model, or another version of transformer-lens"
FEWEST, LONGEST, BEYOND = 4, 64, 8
"""The smallest and largest number of tokens for comparing a loaded model, and the number beyond a sliding window. A
longer window is compared by its size.
"""
LARGE = 10**7
"""Number of parameters from which a model is compared on few tokens, so that loading does not take longer."""


@checked
def load(
    name: str | Path,
    *,
    backend: Backend = "auto",
    device: str | None = None,
    device_map: DeviceMap | None = None,
    dtype: str | torch.dtype = torch.float32,
    check: bool = True,
) -> Any:
    """Load a model with raw (unfolded, uncentred) weights.

    The loaded model is compared with Hugging Face's own on 4 to 64 tokens (more than a short sliding window): the
    log-probabilities, and the states of every layer if both models have them. Errors beyond these tokens, and small
    errors in half precision, are not detected. A multimodal model is compared on text. Quantised models, hub names that
    only transformer-lens can read, and models that need pictures or sound are not compared.

    Args:
        name: a packaged offline model (`gemma-3-270m`, `smollm2-135m`), a local folder, a GGUF file, or a hub name.
        backend: "hooked" gives a `HookedTransformer` (transformer-lens 3.9 only), and "bridge" a `TransformerBridge`.
            "auto" means "hooked" if the installed line has it and supports the model, and "bridge" otherwise.
        device: None means CUDA if there is a device.
        device_map: for a bridge, in place of `device`: spreads a model over several devices, the CPU or the disk. It is
            "auto", "balanced", or `{module: device}`, as in transformers. transformer-lens 3.9 cannot use the disk, and
            no version can mix GPUs with CPU or disk.
        dtype: a torch dtype or its name.
        check: with False, a model that differs from Hugging Face's is returned anyway.

    Returns:
        The model, in eval mode. Your own `HookedTransformer` or `TransformerBridge` works equally well.

    Raises:
        SemhubError: unknown name (the message lists the nearest ones), package not installed, corrupted file, read-only
            cache, a backend that the installed transformer-lens lacks, or `device_map` together with `device` or for a
            `HookedTransformer`.
        Unfit: an encoder-decoder model, one that transformer-lens cannot wrap or convert, or one that it computes
            wrongly.

    Example:
        >>> model = load("gemma-3-270m", backend="bridge")  # doctest: +SKIP
    """
    dtype = _dtype(dtype)
    known = _backend("bridge" if device_map is not None and backend == "auto" else backend)
    placing = _placing(device, device_map, known)
    folder, official = resolve("" if name == Path() else str(name))
    config = config_of(folder or str(name))
    require_decoder(config, str(name))
    quantised = bool(quantisation(config))
    if backend == "hooked" and (quantised or multimodal(config)):
        kind = "quantised" if quantised else "multimodal"
        raise Unfit(f"{str(name)!r} is a {kind} model, which HookedTransformer cannot represent; use backend='bridge'.")
    if folder is None and known == "hooked" and str(name) in HOOKED_NAMES:
        official = ALIASES.get(str(name), str(name))
    elif backend == "auto" and (folder is None or quantised):
        known = "bridge"
    if quantised and folder is not None and known == "bridge" and device_map is None:  # it is not moved once it is read
        placing = {"device_map": {"": placing["device"]}}
    check = check and not quantised
    if multimodal(config):
        model = _multimodal(folder or str(name), placing, dtype, check)
    elif folder is None and (not readable(config) or quantised):
        model = _by_transformer_lens(str(name), known, placing, dtype)
    else:
        model = _from_hugging_face(folder or official or str(name), str(name), official, known, placing, dtype, check)
    return model.eval()


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise SemhubError(f"Unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def _device(device: str | None) -> str:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.empty(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise SemhubError(f"The device {device!r} is not available here: {error}. Try device='cpu'.") from error
    return str(found) if found.type == "cuda" else device  # for transformer-lens "cuda" is the first one


def _placing(device: str | None, device_map: DeviceMap | None, backend: str) -> dict[str, Any]:
    """The placement of the weights, as an argument of `boot_transformers`."""
    if device_map is None:
        return {"device": _device(device)}
    if device is not None:
        raise SemhubError(f"Pass either device= ({device!r}) or device_map= ({device_map!r}), not both.")
    if not device_map:
        raise SemhubError("device_map= is empty; pass 'auto', or the device of every module ({'': 'cpu'}).")
    if backend == "hooked":
        raise SemhubError("device_map= places the modules of a bridge; use backend='bridge', or device=.")
    return {"device_map": device_map if isinstance(device_map, str) else dict(device_map)}


def _backend(backend: str) -> str:
    if backend not in ("auto", "hooked", "bridge"):
        raise SemhubError(f"Unknown backend {backend!r}; expected 'auto', 'hooked' or 'bridge'.")
    if backend == "hooked" and HookedTransformer is None:
        raise SemhubError(
            "backend='hooked' needs HookedTransformer, which transformer-lens removed in version 4. Use "
            "backend='bridge', "
            'or install the 3.9 line: pip install "semhub-lens[hooked]".'
        )
    if backend == "auto":
        return "bridge" if HookedTransformer is None else "hooked"
    return backend


def _by_transformer_lens(name: str, backend: str, placing: dict[str, Any], dtype: torch.dtype) -> Any:
    """A hub model that only transformer-lens can read."""
    try:
        if backend == "hooked":
            with redirect_stdout(io.StringIO()):  # it says there that it is done
                model = HookedTransformer.from_pretrained_no_processing(name, dtype=dtype, **placing)
            for parameter_name, parameter in model.named_parameters():
                parameter.data = hooked_weights.laid_out(parameter_name, parameter.data)
            return model
        return TransformerBridge.boot_transformers(name, dtype=dtype, **placing)
    except Exception as error:  # its readers raise types of every kind
        hint = "" if name in HOOKED_NAMES else unknown(name) + " "
        raise SemhubError(f"{hint}Loading {name!r} from the hub failed: {error}") from error


def _from_hugging_face(
    source: str | Path,
    name: str,
    official: str | None,
    backend: str,
    placing: dict[str, Any],
    dtype: torch.dtype,
    check: bool,
) -> Any:
    hf, tokenizer = read(source, dtype, placing.get("device_map"))
    device = placing.get("device")
    hf = hf if device is None else hf.to(device)
    reference = reference_of(hf, _compared(hf)) if check else None
    if backend == "hooked":
        model = _hooked(hf.cpu(), tokenizer, official, device or "cpu", dtype)
    else:
        model = _bridge(hf, tokenizer, official or str(source), device, dtype)
    model.cfg.model_name = name
    if reference is not None:
        _require_agreement(model.eval(), reference, hf)
    return model


def _require_agreement(model: Any, reference: Reference, hf: Any) -> None:
    hooked = type(model) is HookedTransformer
    wrong = _other_window(hf.config.get_text_config(), model.cfg) if hooked else ""
    with _refused(f"transformer-lens cannot run {type(hf).__name__} as it has wrapped it", OTHER):
        found = disagreement(model, reference)
    if not found.holds:
        states = f", states by {max(found.states):.3g} of their norm" if found.states else ""
        wrong = f"log-probabilities differ by {found.log_probs:.3g}{states}"
        if next(model.parameters()).dtype.itemsize < 4:  # rounding chooses other experts, say
            wrong += f" in {str(model.cfg.dtype).removeprefix('torch.')} (dtype='float32' tells rounding from a fault)"
    if wrong:
        raise Unfit(
            f"transformer-lens does not compute {type(hf).__name__} ({model.cfg.model_name}) as Hugging Face does: as "
            f"a {type(model).__name__}, {wrong}. To continue, {BRIDGE if hooked else OTHER}; check=False returns "
            "the model anyway."
        )


@contextmanager
def _refused(what: str, advice: str) -> Iterator[None]:
    """Turn errors of transformer-lens into errors that say what to do."""
    try:
        yield
    except (SemhubError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # wrapping and converting fail in many ways on a model that they were not written for
        raise Unfit(
            f"{what}: {shorten(f'{type(error).__name__}: {error}', 300).rstrip('.')}. To continue, {advice}."
        ) from error


def _compared(hf: Any) -> Int[Tensor, "batch pos"]:
    """Tokens to compare a model on: few for a large one, but more than a short sliding window."""
    config = hf.config.get_text_config()
    context = getattr(config, "max_position_embeddings", None) or LONGEST
    window = _window(config) or LONGEST
    few = LENGTH if hf.num_parameters() < LARGE else FEWEST
    length = min(context, max(few, window + BEYOND if window + BEYOND <= LONGEST else 0))
    return plain_ids(config, len(hf.get_input_embeddings().weight), length)[None]


def _window(config: Any) -> int | None:
    """Size of the sliding window of some layers."""
    if "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"]):
        return getattr(config, "sliding_window", None)
    return None


def _other_window(config: Any, cfg: Any) -> str:
    """What is wrong with the sliding window of a `HookedTransformer`, if the model has one."""
    window = _window(config)
    if window is None or window >= cfg.n_ctx or (cfg.use_local_attn and cfg.window_size == window):
        return ""
    return f"it ignores the sliding window of {window} tokens, so that longer texts come out wrong"


def _multimodal(source: str | Path, placing: dict[str, Any], dtype: torch.dtype, check: bool) -> Any:
    """A model with a vision or audio tower as a bridge, by the class in its config.

    `boot_transformers` would work too, but it installs torchvision on its own if a processor needs it.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        architecture = (config.architectures or ["(none named)"])[0]
        made = getattr(transformers, architecture)
        with no_other_bars():
            spread = {"device_map": placing["device_map"]} if "device_map" in placing else {}
            hf, told = made.from_pretrained(
                source, dtype=dtype, attn_implementation="eager", output_loading_info=True, **spread
            )
            require_read(hf, told, "It")
            hf = (hf if spread else hf.to(placing["device"])).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        reference = _text_reference(hf) if check else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Hook alias", UserWarning)  # of hook points that a vision tower lacks
            model = build_bridge_from_module(
                hf, architecture, hf_config=hf.config, tokenizer=tokenizer, dtype=dtype,
                device=str(home_of(hf, next(hf.parameters()))), model_name=str(source),
            )  # fmt: skip
    except Exception as error:  # a damaged folder, an unknown architecture, a missing library: types of every kind
        raise SemhubError(f"{str(source)!r} could not be loaded as a multimodal TransformerBridge: {error}") from error
    if reference is not None:
        _require_agreement(model.eval(), reference, hf)
    return model


def _text_reference(hf: Any) -> Reference | None:
    """The reference of a multimodal model for text; None if it does not run without pictures or sound."""
    try:
        return reference_of(hf, _compared(hf))
    except Unfit:
        return None


def _bridge(hf: Any, tokenizer: Any, label: str, device: str | None, dtype: torch.dtype) -> Any:
    with _refused(f"transformer-lens cannot wrap {type(hf).__name__}", OTHER):
        return TransformerBridge.boot_transformers(label, hf_model=hf, tokenizer=tokenizer, device=device, dtype=dtype)


def _hooked(hf: Any, tokenizer: Any, official: str | None, device: str, dtype: torch.dtype) -> Any:
    """A `HookedTransformer` with the weights of a Hugging Face model, which cannot be used afterwards.

    It equals the result of `from_pretrained_no_processing`, but it uses the converted tensors directly, without copying
    each into an empty model.
    """
    with _refused(f"HookedTransformer cannot hold {type(hf).__name__}", BRIDGE):
        cfg, weights = hooked_weights.converted(hf, official, device, dtype)
        model = HookedTransformer(cfg, tokenizer, move_to_device=False)
        hooked_weights.take_over(model, weights)
        model.move_model_modules_to_device()
    model.generation_config = hf.generation_config  # it names the tokens that end a text
    return model
