"""Paths as users write them, and files that appear only when complete."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semhub_lens.base.errors import SemhubError


def user_path(path: str | Path) -> Path:
    """The path with `~` as the home folder.

    Raises:
        SemhubError: the home folder of an unknown user.

    Example:
        >>> from semhub_lens.base.files import user_path
        >>> user_path("~/lens.html") == Path.home() / "lens.html"
        True
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SemhubError(f"The path {str(path)!r} names a home folder that is not known; write it out.") from error


def inside(folder: Path, name: str) -> Path:
    """The file of that name in a folder, for a name that another file holds.

    Raises:
        SemhubError: a name that leads out of the folder.
    """
    path = Path(name)
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise SemhubError(f"The name {name!r} leads out of the folder {folder}, where its file should lie.")
    return folder / path


def write_aside(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a file beside its place, move it there, and return the path."""
    path = user_path(path)
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
    folder = user_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SemhubError(f"The folder {folder} cannot be written ({error.strerror}). {advice}") from error
