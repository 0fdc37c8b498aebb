"""Loading models: by the name of a packaged one, from a folder or a GGUF file, from the hub.

Beside `models`, only this module knows the two model classes.
"""

import difflib
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.model.facts import HookedTransformer
from semhub_lens.model.packaged import PACKAGED, packaged_files, plain_folder

HOOKED_NAMES = {*OFFICIAL_MODEL_NAMES, *(alias for names in MODEL_ALIASES.values() for alias in names)}
Backend = Literal["auto", "hooked", "bridge"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        SemhubError: unknown name (the nearest known ones are listed), package not installed, corrupted file, unwritable
            cache, or a backend that the installed transformer-lens lacks.

    Example:
        >>> model = load("gemma-3-270m", backend="bridge")  # doctest: +SKIP
    """
    dtype = _dtype(dtype)
    device = _device(device)
    known = _backend(backend)
    folder, official = _resolve(str(name))
    if backend == "hooked" and multimodal(folder or str(name)):
        raise Unfit(f"{str(name)!r} is a multimodal model, which HookedTransformer cannot hold; use backend='bridge'.")
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
        raise SemhubError(f"Unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SemhubError(f"The device {device!r} is not available here: {error}. Try device='cpu'.") from error
    return device


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


def multimodal(source: str | Path) -> bool:
    """Whether a folder's or hub model's config has a part for pictures or sound."""
    try:
        config = transformers.AutoConfig.from_pretrained(source)
    except Exception:  # no such folder or name, or no network: loading it says so
        return False
    return any(hasattr(config, part) for part in ("vision_config", "audio_config"))


def _resolve(name: str) -> tuple[Path | None, str | None]:
    """Folder with the weights (None: ask the hub) and the official name of the architecture, if known."""
    if packaged := PACKAGED.get(name):
        return plain_folder(name, packaged_files(packaged), packaged.sha256), packaged.official_name
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SemhubError(f"No GGUF file at {path}.")
        return plain_folder(path.stem, [path]), None
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SemhubError(f"The folder {path} holds no config.json; expected a Hugging Face model folder.")
        return path, None
    if "/" not in name and name not in HOOKED_NAMES:
        raise SemhubError(_unknown(name))
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
        if backend == "bridge" and multimodal(name):
            return _multimodal(name, device, dtype)
        if backend == "hooked":
            return HookedTransformer.from_pretrained_no_processing(name, device=device, dtype=dtype)
        return TransformerBridge.boot_transformers(name, device=device, dtype=dtype)
    except (OSError, ValueError) as error:
        hint = "" if name in HOOKED_NAMES else _unknown(name) + " "
        raise SemhubError(f"{hint}Loading {name!r} from the hub failed: {error}") from error


def _from_folder(folder: Path, name: str, official: str | None, backend: str, device: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if multimodal(folder):
        return _multimodal(folder, device, dtype)
    try:
        hf: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged folder raises anything from OSError to the readers' own types
        raise SemhubError(f"The folder {folder} does not hold a complete model with its tokenizer: {error}") from error
    if backend == "hooked":
        model = _hooked(hf, tokenizer, official, device, dtype)
    else:
        model = TransformerBridge.boot_transformers(
            official or str(folder), hf_model=hf.to(device), tokenizer=tokenizer, device=device, dtype=dtype
        )
    model.cfg.model_name = name
    return model


def _multimodal(source: str | Path, device: str, dtype: torch.dtype) -> Any:
    """A model with a vision or audio tower, by the class that its config names, as a bridge.

    `boot_transformers` would do, but it installs torchvision by itself where a processor asks for it.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        architecture = (config.architectures or ["(none named)"])[0]
        hf = getattr(transformers, architecture).from_pretrained(source, dtype=dtype).to(device).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Hook alias", UserWarning)  # of hook points that a vision tower lacks
            return build_bridge_from_module(
                hf, architecture, hf_config=hf.config, tokenizer=tokenizer, dtype=dtype, device=device,
                model_name=str(source),
            )  # fmt: skip
    except Exception as error:  # a damaged folder, an unknown architecture, a missing library: types of every kind
        raise SemhubError(f"{str(source)!r} could not be loaded as a multimodal TransformerBridge: {error}") from error


def _hooked(hf: Any, tokenizer: Any, official: str | None, device: str, dtype: torch.dtype) -> Any:
    if official is not None:
        model = HookedTransformer.from_pretrained_no_processing(
            official, hf_model=hf, tokenizer=tokenizer, device=device, dtype=dtype
        )
        model.generation_config = hf.generation_config  # it names the tokens that end a text
        return model
    model = _hooked_by_config(hf, tokenizer, device, dtype)
    ids = torch.arange(8)[None] + 1
    with torch.inference_mode():
        ours = model(ids.to(device)).float().log_softmax(-1).cpu()
        reference = hf.to(device)(ids.to(device)).logits.float().log_softmax(-1).cpu()
    if (error := (ours - reference).abs().max().item()) > (1e-2 if dtype == torch.float32 else 0.5):
        raise SemhubError(
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
        raise SemhubError(
            f"HookedTransformer cannot convert {type(hf).__name__}: {error!r}. Use backend='bridge'."
        ) from error
    cfg.tokenizer_name = None
    model = HookedTransformer(cfg, tokenizer, move_to_device=False)
    model.load_and_process_state_dict(
        weights, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    model.move_model_modules_to_device()
    model.generation_config = hf.generation_config
    return model
