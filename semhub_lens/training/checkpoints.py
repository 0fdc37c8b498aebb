"""Checkpoints of a training: weights, optimizer state and losses so far, in one complete file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_folder, user_path, write_aside
from semhub_lens.spokes.projector import Projector

NAME = "checkpoint.safetensors"
EVALUATION = "evaluation.safetensors"
LONGEST = 200
"""Bytes of a name; most file systems take 255 for a file with its ending."""
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def require_name(name: str) -> str:
    """The name of a spoke, which names its file.

    Raises:
        SemhubError: no file can have this name, or another file of the training has it.
    """
    fits = name.strip() and name.isprintable() and not set('/\\:*?"<>|') & set(name)
    if not fits or len(name.encode()) > LONGEST:
        raise SemhubError(
            f"The name {name!r} is none of a file. Give letters, digits, blanks and marks such as '-', "
            f"at most {LONGEST} bytes."
        )
    if f"{name.lower()}.safetensors" in (NAME, EVALUATION):
        raise SemhubError(f"The name {name!r} is that of another file of the training. Choose another one.")
    return name


def save(
    folder: str | Path | None, identity: str, projector: Projector, optimiser: Any, history: dict[str, list[float]]
) -> None:
    """Write a checkpoint; None writes none."""
    if folder is None:
        return
    tensors = {f"weight.{name}": value for name, value in projector.state_dict().items()}
    for name, parameter in _learned(projector, optimiser):
        tensors |= {f"{key}.{name}": optimiser.state[parameter][key] for key in MOMENTS}
    header = {"identity": identity, "history": history}
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_aside(Path(folder) / NAME, lambda aside: save_file(whole, aside, {"semhub_lens": json.dumps(header)}))


def restore(folder: str | Path | None, identity: str, projector: Projector, optimiser: Any) -> dict[str, list[float]]:
    """Load a checkpoint into projector and optimizer, and return the losses so far (none without a checkpoint).

    Raises:
        SemhubError: the folder cannot be written, or its checkpoint is damaged or of other settings.
    """
    path = None if folder is None else user_path(folder) / NAME
    if path is not None:
        require_folder(path.parent)
    if path is None or not path.is_file():
        return {"train": []}
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["semhub_lens"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # the reader raises its own types on a file of another kind
        raise SemhubError(f"The checkpoint {path} is damaged ({error}). Remove it to start again.") from error
    if header["identity"] != identity:
        raise SemhubError(
            f"The folder {folder} contains a training with other settings, data or model. Choose another folder."
        )
    device = next(projector.parameters()).device
    projector.load_state_dict({k.removeprefix("weight."): v for k, v in tensors.items() if k.startswith("weight.")})
    for name, parameter in _learned(projector, optimiser):
        moments = {key: tensors[f"{key}.{name}"] for key in MOMENTS}
        optimiser.state[parameter] = {k: v.clone() if k == "step" else v.to(device) for k, v in moments.items()}
    with torch.no_grad():
        return {split: list(losses) for split, losses in header["history"].items()}


def _learned(projector: Projector, optimiser: Any) -> list[tuple[str, Tensor]]:
    moved = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    return [(name, parameter) for name, parameter in projector.named_parameters() if id(parameter) in moved]
