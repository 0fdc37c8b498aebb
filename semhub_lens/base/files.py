"""Paths as users write them, and files that appear only when complete, one process at a time."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError

UNWRITTEN = (OSError, SafetensorError)
"""The errors of a full or read-only disk."""
PARTIAL = ".partial"
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""The errors of a path where nothing is, or no folder; who reads or writes there says more."""


def user_path(path: Any) -> Path:
    """The path with `~` as the home folder.

    Raises:
        SemhubError: not a path, an empty text, the home folder of an unknown user, or a path that the system does not
            look up: a name that is too long, half a character, a null character, a folder that may not be entered.

    Example:
        >>> from semhub_lens.base.files import user_path
        >>> user_path("~/lens.html") == Path.home() / "lens.html"
        True
    """
    if isinstance(path, str) and not path.strip():
        raise SemhubError(f"The path is empty ({path!r}); give the path of a file or folder.")
    try:
        whole = Path(path).expanduser()
    except TypeError as error:
        raise SemhubError(f"Expected the path of a file (a text or a Path), got {path!r}.") from error
    except RuntimeError as error:
        raise SemhubError(f"The path {str(path)!r} has an unknown home folder; write the whole path.") from error
    try:
        whole.stat()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in ABSENT:
            raise SemhubError(
                f"The path {shown(str(path))} cannot be used: {reason(error)}. Give another path."
            ) from error
    return whole


@contextmanager
def in_utf8(path: Path) -> Iterator[None]:
    """Name the file if a text is read from it that is not UTF-8.

    Raises:
        SemhubError: the bytes are not UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise SemhubError(
            f"{path} is not a text in UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error


def read_utf8(path: Path) -> str:
    """The text of a file, without the mark that some editors write at its start.

    Raises:
        SemhubError: the bytes are not UTF-8.
    """
    with in_utf8(path):
        return path.read_text(encoding="utf-8-sig")


def inside(folder: Path, name: str) -> Path:
    """The file with that name in a folder, for a name that comes from another file.

    Raises:
        SemhubError: a name that leads out of the folder.
    """
    path = Path(name)
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise SemhubError(f"The name {name!r} leads out of the folder {folder}, where its file should be.")
    return folder / path


def write_aside(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let `write` fill a temporary file in the same folder, move it to its path, and return the path.

    Raises:
        SemhubError: it could not be written; the old file is unchanged.
    """
    path = user_path(path)
    if not path.name:
        raise SemhubError(f"Expected the path of a file, got {str(path)!r}, which names none.")
    aside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.touch()
            mode = aside.stat().st_mode  # what the user's umask gives; safetensors would make files for one user alone
            write(aside)
            aside.chmod(mode)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except UNWRITTEN as error:
        raise SemhubError(
            f"{path} could not be written ({reason(error)}); the old file is unchanged. Free some space, or choose "
            "another path."
        ) from error
    return path


def reason(error: BaseException) -> str:
    """The system's short text for a file error, or else the error's own text."""
    return getattr(error, "strerror", None) or str(error)


def require_folder(folder: Path, advice: str = "Choose another folder.") -> None:
    """Make a folder, or raise a SemhubError that says why it cannot be written."""
    folder = user_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # without a name, so that no kill can leave it there
            pass
    except OSError as error:
        raise SemhubError(f"The folder {folder} cannot be written ({error.strerror}). {advice}") from error


def require_place(folder: Path) -> None:
    """Like `require_folder`, but make nothing: check a future folder before there is anything to write.

    Raises:
        SemhubError: the folder, or the nearest existing folder above it, cannot be written.
    """
    folder = user_path(folder).absolute()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        require_folder(there)
    except SemhubError as error:
        raise SemhubError(f"Nothing can be written in {folder}. {error}") from error


def require_file(path: str | Path) -> Path:
    """The path of a file that will be written.

    Raises:
        SemhubError: it is a folder, or nothing can be written there.
    """
    path = user_path(path)
    if path.is_dir():
        raise SemhubError(f"{path} is a folder; give the path of a file in it.")
    require_place(path.parent)
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the context is open; the lock of a killed process is released.

    Unfinished files of a killed process are removed. After an error, so are folders that were made here and are empty.

    Raises:
        SemhubError: another process is writing there, or the folder around it cannot be written.
    """
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    require_folder(folder.parent)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise SemhubError(
            f"Another process is writing in {folder}: wait until it is done, or choose another folder."
        ) from error
    try:
        for begun in folder.glob(f".*{PARTIAL}"):
            begun.unlink(missing_ok=True)
        yield
    except BaseException:
        with suppress(OSError):  # one that has something in it stays, and so do those around it
            for one in new:
                if one == folder.parent:
                    Path(lock.lock_file).unlink(missing_ok=True)
                if one.exists():
                    one.rmdir()
        raise
    finally:
        lock.release()
