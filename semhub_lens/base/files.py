"""Writing files so that they appear only when complete."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semhub_lens.base.errors import SemhubError


def write_aside(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a file beside its place, move it there, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def require_folder(folder: Path, advice: str = "Choose another folder.") -> None:
    """Make a folder, or raise a SemhubError that says why it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SemhubError(f"The folder {folder} cannot be written ({error.strerror}). {advice}") from error
