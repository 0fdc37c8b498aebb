"""Finished parts of a long measurement on disk, so that a killed run continues where it stopped.

A store belongs to one set of settings: its parts are in a folder named by their hash, so parts of other settings are
never read. A part appears only when complete. Without a folder nothing is kept, and the numbers are the same. Parts do
not depend on the number of processes, so neither do the numbers.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_place, user_path, write_aside
from semhub_lens.base.fingerprints import fingerprint, sha256, tensors_sha256
from semhub_lens.base.processes import in_step, place, share

Item = TypeVar("Item")
Kept = TypeVar("Kept")
LONGEST = 150
"""Bytes of a name that a part's file keeps: a model's name can be a long path, and file systems allow 255."""
CHUNK = 32
"""Items of one part: a killed run repeats at most this many."""


class Store:
    """Parts of one run.

    Args:
        folder: the place for the parts, which the first part makes; None keeps nothing.
        settings: everything that the numbers depend on.
        shared: the processes of a launch share the parts. All of them must request the same parts in the same order.

    Raises:
        SemhubError: the folder cannot be written.

    Example:
        >>> Store().tensor("answer", lambda: torch.tensor(42.0))
        tensor(42.)
    """

    def __init__(
        self, folder: str | Path | None = None, settings: Mapping[str, Any] | None = None, *, shared: bool = False
    ) -> None:
        self.settings, self._shared = dict(settings or {}), shared
        self.folder = None if folder is None else user_path(folder) / f"parts-{fingerprint(self.settings)}"
        if self.folder is not None:
            require_place(self.folder)

    def tensor(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """The part of that name; it is computed and kept if it is missing or damaged."""
        return next(self.each([(name, compute)]))

    def each(self, parts: Sequence[tuple[str, Callable[[], Tensor]]]) -> Iterator[Tensor]:
        """Like `tensor`, for several parts in order."""
        return self._each(self._tensor, parts)

    def rows(self, name: str, compute: Callable[[], Sequence[Any]]) -> list[Any]:
        """Like `tensor`, for a list of JSON values (texts, token ids)."""
        return next(self._each(self._rows, [(name, compute)]))

    def _each(
        self, keep: Callable[[str, Callable[[], Any]], Kept], parts: Sequence[tuple[str, Callable[[], Any]]]
    ) -> Iterator[Kept]:
        """Keep parts; with several processes, each computes its share, and then all read all of them."""
        if self._shared and self.folder is not None and place()[1] > 1:
            names = [name for name, _ in parts]
            with in_step(f"{names[0]} ({len(names)} parts, {fingerprint([self.folder.name, names])})"):
                for name, compute in share(parts):
                    keep(name, compute)
            parts = [(name, partial(self._unseen, name)) for name in names]
        for name, compute in parts:
            yield keep(name, compute)

    def _unseen(self, name: str) -> Any:
        raise SemhubError(
            f"The part {name!r} that another process wrote is not in {self.folder}: all processes of a launch must see "
            "the same folder."
        )

    def _tensor(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        if self.folder is None:
            return compute()
        path = self.folder / f"{_plain(name)}.safetensors"
        if (kept := _kept(path)) is not None:
            return kept
        part = compute()
        whole = {"part": part.detach().cpu().contiguous()}
        write_aside(path, lambda aside: save_file(whole, aside, metadata={"sha256": tensors_sha256(whole)}))
        return part

    def _rows(self, name: str, compute: Callable[[], Sequence[Any]]) -> list[Any]:
        if self.folder is None:
            return json.loads(json.dumps(list(compute())))
        path = self.folder / f"{_plain(name)}.rows"
        try:
            saved, text = path.read_text(encoding="utf-8").split("\n", 1)
            if saved == sha256(text.encode()):
                return json.loads(text)
        except (OSError, ValueError):
            pass
        text = json.dumps(list(compute()))
        write_aside(path, lambda aside: aside.write_text(f"{sha256(text.encode())}\n{text}", encoding="utf-8"))
        return json.loads(text)

    def tensors(
        self, name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], Tensor], axis: int = 1
    ) -> Tensor:
        """Measure items in parts of `CHUNK` and join them along `axis`.

        The parts are the same with and without a folder, so a resumed run gives the same numbers to the last bit.
        """
        return torch.cat(list(self.each(_parts(name, items, measure))), dim=axis)

    def lists(self, name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], Sequence[Any]]) -> list[Any]:
        """Like `tensors`, with one JSON value per item."""
        return [row for rows in self._each(self._rows, _parts(name, items, measure)) for row in rows]

    def clear(self) -> None:
        """Remove the parts once their run is saved."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _kept(path: Path) -> Tensor | None:
    """A complete part, or None if it is missing, damaged or changed."""
    try:
        with safe_open(path, framework="pt") as file:
            part, saved = file.get_tensor("part"), (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return part if saved == tensors_sha256({"part": part}) else None


def _parts(
    name: str, items: Sequence[Item], measure: Callable[[Sequence[Item]], Kept]
) -> list[tuple[str, Callable[[], Kept]]]:
    if not items:
        raise SemhubError(f"There are no items to measure for {name!r}.")
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    return [(f"{name}-{i:03d}-{fingerprint(list(chunk))}", partial(measure, chunk)) for i, chunk in enumerate(chunks)]


def _plain(name: str) -> str:
    """A file name; names that differ only in replaced characters, or at the end of a long name, stay different."""
    plain = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name)
    short = plain.encode()[:LONGEST].decode(errors="ignore")
    return name if short == name else f"{short}-{fingerprint(name)}"
