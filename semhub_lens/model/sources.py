"""The location of a name's weights, and their configuration before they are read."""

import difflib
import re
from contextlib import nullcontext
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import transformers
from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES
from transformers.quantizers.auto import AutoHfQuantizer

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.files import user_path
from semhub_lens.base.progress import no_other_bars
from semhub_lens.model.packaged import PACKAGED, packaged_files, plain_folder
from semhub_lens.model.weights import require_read

ALIASES = {alias: full for full, names in MODEL_ALIASES.items() for alias in names}
HOOKED_NAMES = {*OFFICIAL_MODEL_NAMES, *ALIASES}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def resolve(name: str) -> tuple[Path | None, str | None]:
    """Folder with the weights (None: ask the hub) and the official name of the architecture, if known."""
    if packaged := PACKAGED.get(name):
        return plain_folder(name, packaged_files(packaged), packaged.sha256), packaged.official_name
    if not name.strip():
        raise SemhubError(f"The model's name is empty ({name!r}); pass a packaged model, a folder or a hub name.")
    path = user_path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SemhubError(f"No GGUF file at {path}. Give the path of one, a folder, or the name of a model.")
        return plain_folder(path.stem, [path]), None
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SemhubError(f"The folder {path} has no config.json; expected a Hugging Face model folder.")
        return path, None
    if name not in HOOKED_NAMES and (path.is_file() or not HUB_NAME.fullmatch(name)):
        raise SemhubError(unknown(name))
    return None, None


def unknown(name: str) -> str:
    """The message for an unknown name, with the nearest known names."""
    known = [*PACKAGED, *OFFICIAL_MODEL_NAMES]
    short = {full.split("/")[-1].lower(): full for full in reversed(known)}
    close = difflib.get_close_matches(name.split("/")[-1].lower(), short, n=5)
    close.sort(key=lambda key: key not in PACKAGED)  # those need no download
    nearest = f" Nearest known names: {', '.join(short[key] for key in close)}." if close else ""
    return (
        f"Unknown model {name!r}: not a packaged model ({', '.join(PACKAGED)}), not an existing folder or GGUF file, "
        f"and not a hub name that could be loaded.{nearest}"
    )


def config_of(source: str | Path) -> Any:
    """Configuration of a folder or hub model; None if there is none to read, which loading will report."""
    try:
        return transformers.AutoConfig.from_pretrained(ALIASES.get(str(source), source))
    except Exception:  # no such folder or name, no network, a damaged file: types of every kind
        return None


def multimodal(config: Any) -> bool:
    """Whether a configuration has a part for pictures or sound."""
    return any(hasattr(config, part) for part in ("vision_config", "audio_config"))


def require_decoder(config: Any, name: str) -> None:
    """Refuse a model by its configuration: without a single residual stream, or quantised in an unknown way.

    Raises:
        Unfit: an encoder-decoder model, one that transformers has no language model for, or one that is quantised in a
            way that it does not know: it would read the numbers as if they were plain.
    """
    method = quantisation(config)
    if method and not AutoHfQuantizer.supports_quant_method({"quant_method": method} | config.quantization_config):
        raise Unfit(
            f"{name!r} is quantised with {method}, which transformers {transformers.__version__} does not know. Take "
            "the model unquantised or with torchao."
        )
    if getattr(config, "is_encoder_decoder", False):
        raise Unfit(
            f"{name!r} is an encoder-decoder model ({config.model_type}): it has two residual streams, and the "
            "measurements read one, from the tokens to the logits. Use a decoder-only language model."
        )
    if config is not None and not multimodal(config) and not (readable(config) or hasattr(config, "auto_map")):
        raise Unfit(
            f"{name!r} is a {config.model_type} model, for which transformers has no causal language model. Use a "
            "decoder-only language model."
        )


def readable(config: Any) -> bool:
    """Whether transformers has a causal language model of this configuration."""
    return type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING


def read(source: str | Path, dtype: torch.dtype, device_map: Any = None) -> tuple[Any, Any]:
    """The Hugging Face model and the tokenizer of a folder or hub name, in eval mode.

    Attention is computed step by step ("eager"). Otherwise bridges of transformer-lens 3.9 lose the causal mask of
    latent attention, and no bridge shows attention patterns.

    Raises:
        SemhubError: one of the two is missing, damaged, or quantised with a package that is not installed.
    """
    offline = isinstance(source, Path)
    where = f"The folder {source}" if offline else f"The hub's {source!r}"
    try:
        with no_other_bars() if offline else nullcontext():  # a download may take minutes
            made: Any = transformers.AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, attn_implementation="eager", local_files_only=offline, device_map=device_map,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # a damaged folder raises anything from OSError to the readers' own types
        raise SemhubError(_unread(where, source, device_map, error)) from error
    hf, told = made
    require_read(hf, told, where)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=offline)
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes up where there are no files
            raise OSError("its vocabulary is empty")
        if tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
            tokenizer.init_kwargs.setdefault("add_bos_token", True)  # else transformer-lens reads it a second time
    except Exception as error:
        raise SemhubError(
            f"{where} has no readable tokenizer ({shorten(str(error), 300)}). Save the model's tokenizer there: "
            "tokenizer.save_pretrained(folder)."
        ) from error
    return hf.eval(), tokenizer


def quantisation(config: Any) -> str:
    """What the weights of a configuration are quantised with, such as "gptq"; empty where they are not."""
    settings = getattr(config, "quantization_config", None)
    return str(settings.get("quant_method", "a method without a name")) if settings else ""


def _unread(where: str, source: str | Path, device_map: Any, error: Exception) -> str:
    """Why transformers does not read a model."""
    if method := quantisation(config_of(source)):
        return (
            f"{where} is quantised with {method}, and transformers does not read it here: "
            f"{str(error).rstrip('. ')}. Install what it needs, or take the model unquantised or with torchao."
        )
    how = "does not hold a complete model" if device_map is None else f"cannot be spread by {device_map=}"
    return f"{where} {how}: {error}"
