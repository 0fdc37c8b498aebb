"""Finished parts of a long measurement, kept on disk so that a killed run goes on where it stopped.

A store belongs to one set of settings: its parts lie in a folder named by their hash, so parts of other settings are
never read. A part appears only when complete. Without a folder nothing is kept, and the numbers are the same.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_folder, user_path, write_aside
from semhub_lens.base.fingerprints import fingerprint

Item = TypeVar("Item")
CHUNK = 32
"""Items of one part: what a killed run repeats at most."""


class Store:
    """Parts of one run.

    Args:
        folder: where the parts lie; None keeps nothing.
        settings: everything that the numbers depend on.

    Raises:
        SemhubError: the folder cannot be written.

    Example:
        >>> Store().tensor("answer", lambda: torch.tensor(42.0))
        tensor(42.)
    """

    def __init__(self, folder: str | Path | None = None, settings: Mapping[str, Any] | None = None) -> None:
        self.settings = dict(settings or {})
        self.folder = None if folder is None else user_path(folder) / f"parts-{fingerprint(self.settings)}"
        if self.folder is not None:
            require_folder(self.folder)

    def tensor(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """The part of that name; computed and kept where it is missing or damaged."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{_plain(name)}.safetensors"
        try:
            return load_file(path)["part"]
        except (OSError, KeyError, SafetensorError):
            part = compute()
        write_aside(path, lambda aside: save_file({"part": part.detach().cpu().contiguous()}, aside))
        return part

    def rows(self, name: str, compute: Callable[[], Sequence[Any]]) -> list[Any]:
        """As `tensor`, for a list of what JSON can hold (texts, token ids)."""
        if self.folder is None:
            return json.loads(json.dumps(list(compute())))
        path = self.folder / f"{_plain(name)}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            text = json.dumps(list(compute()), ensure_ascii=False)
        write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))
        return json.loads(text)

    def tensors(
        self, name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], Tensor], axis: int = 1
    ) -> Tensor:
        """Measure items in parts of `CHUNK` and join them along `axis`.

        The parts are the same with and without a folder, so a resumed run gives the same numbers to the last bit.
        """
        return torch.cat(
            [self.tensor(part, lambda chunk=chunk: measure(chunk)) for part, chunk in _parts(name, items)], dim=axis
        )

    def lists(self, name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], Sequence[Any]]) -> list[Any]:
        """As `tensors`, for one JSON value an item."""
        rows = []
        for part, chunk in _parts(name, items):
            rows += self.rows(part, lambda chunk=chunk: measure(chunk))
        return rows

    def clear(self) -> None:
        """Forget the parts, when the run they belong to is saved."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _parts(name: str, items: Sequence[Item]) -> list[tuple[str, Sequence[Item]]]:
    if not items:
        raise SemhubError(f"There are no items to measure for {name!r}.")
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    return [(f"{name}-{i:03d}-{fingerprint(list(chunk))}", chunk) for i, chunk in enumerate(chunks)]


def _plain(name: str) -> str:
    """A file name; names that differ only in other characters stay apart."""
    plain = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name)
    return plain if plain == name else f"{plain}-{fingerprint(name)}"
