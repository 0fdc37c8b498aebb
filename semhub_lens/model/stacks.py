"""States of a corpus on disk: shards that are complete or absent, and a stack that reads only the requested parts.

DIR/states.json                  settings; when finished, also the shards and the provenance
DIR/states-00000.safetensors     `states` [layer item d_model] of a window of items, float32
DIR/rows/rows-00000.parquet      for each item its number, tokens, characters and the prompt's fingerprint
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, count
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.base.files import require_place, user_path, write_aside
from semhub_lens.base.fingerprints import fingerprint, tensors_sha256
from semhub_lens.base.processes import in_step, is_main, share, together_in
from semhub_lens.base.results import Provenance
from semhub_lens.inputs.prompts import Prompt

INDEX = "states.json"
WINDOW = 4096
"""The largest number of items that are read, sorted by length, run and written together."""
LEAST = 256
"""The smallest number, however large their states are: batches of a few items would be full of padding."""
BYTES = 1 << 26
"""The size of a shard between these limits."""
DAMAGED = (OSError, SafetensorError, KeyError)


@dataclass(frozen=True, eq=False)
class StateStack:
    """States `[layer item d_model]` in the files of a folder, which are mapped into memory, not read.

    `stack[layer]`, `stack[2:5, items]` and `stack[:, 7]` read only these parts, as tensors. `for layer in stack` reads
    one layer at a time. `similarity`, `linear_probe` and `train_probe` accept a stack in place of a tensor. Items may
    be a slice, a number, or a list or mask of items; layers and entries are slices or numbers.
    """

    folder: Path
    shards: tuple[int, ...]
    """Items in each file."""
    shape: torch.Size
    """`[layer item d_model]`."""
    provenance: Provenance

    @property
    def ndim(self) -> int:
        """Three axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Float[Tensor, "item d_model"]]:
        return (self[layer] for layer in range(len(self)))

    def __getitem__(self, key: Any) -> Float[Tensor, "..."]:
        key = key if isinstance(key, tuple) else (key,)
        if len(key) > 3 or not all(isinstance(one, slice) or is_index(one) for one in (*key[:1], *key[2:])):
            raise SemhubError(f"A stack has the axes [layer, items, entry], with slices or numbers; got {key!r}.")
        layers, items, entries = (*key, *(slice(None),) * (3 - len(key)))
        try:
            chosen = torch.arange(self.shape[1])[items]
            kept = torch.empty(len(self), 0)[layers].shape[:-1]
            _ = torch.empty(self.shape[2])[entries]
        except (IndexError, TypeError, ValueError) as error:
            raise SemhubError(f"A stack of shape {tuple(self.shape)} has no {key!r}: {error}") from error
        wanted = chosen.reshape(-1)
        out = torch.empty(*kept, len(wanted), self.shape[2], dtype=torch.float32)
        for number, start in enumerate(self._starts):
            inside = (wanted >= start) & (wanted < start + self.shards[number])
            if inside.any():
                out[..., inside, :] = _states(_shard(self.folder, number))[layers][..., wanted[inside] - start, :]
        return out.reshape(*kept, *chosen.shape, self.shape[2])[..., entries]

    @property
    def _starts(self) -> list[int]:
        return list(accumulate(self.shards, initial=0))[:-1]

    def to_frame(self) -> pd.DataFrame:
        """One row per item: its number, tokens, characters (missing if it has no text), the prompt's fingerprint."""
        rows = [pd.read_parquet(_rows(self.folder, number)) for number in range(len(self.shards))]
        return pd.concat(rows, ignore_index=True)


States: TypeAlias = Float[Tensor, "layer item d_model"] | StateStack
"""States of items in memory or on disk."""


@checked
def open_states(folder: str | Path, *, verify: bool = True) -> StateStack:
    """Open the states that `residual_stream(..., out=folder)` wrote.

    Args:
        folder: the folder of that call.
        verify: compare every file with its SHA-256, which reads all of them once; False looks at their sizes only.

    Returns:
        A `StateStack` of shape `[layer item d_model]`, float32, all layers before the final norm.

    Raises:
        SemhubError: nothing found, not finished, or a file that is missing or damaged.

    Example:
        >>> open_states("states").shape  # doctest: +SKIP
        torch.Size([31, 100000, 576])
    """
    folder = user_path(folder)
    index = _index(folder)
    if index is None:
        raise SemhubError(f"No states in {folder}: expected a folder that residual_stream(..., out=folder) wrote.")
    if "shards" not in index:
        whole = len(list(folder.glob("states-*.safetensors")))
        raise SemhubError(
            f"The states in {folder} are not finished ({whole} parts of up to {index['settings'].get('window')} items "
            "are there). Make the same call again to continue. From endless prompts, take as many as are finished."
        )
    shape, prints, made = torch.Size(index["shape"]), [], index["provenance"]
    for number, items in enumerate(index["shards"]):
        path = _shard(folder, number)
        try:
            found = list(_states(path).shape) if not verify or _is_whole(path) else None
            prints.append(fingerprint(_told(path)["prompts"].split(",")))
        except DAMAGED:
            found = None
        if found != [shape[0], items, shape[2]]:
            raise SemhubError(
                f"{path} is missing or damaged. Repeat the call that wrote it; it measures only this part again."
            )
    if fingerprint(prints) != made["data_hash"]:
        raise SemhubError(
            f"The parts in {folder} are not those of its {INDEX}, or not in their order: their files were exchanged or "
            "renamed. Measure again in another folder."
        )
    provenance = Provenance.from_fields(made | {"notes": tuple(made["notes"])})
    return StateStack(folder, tuple(index["shards"]), shape, provenance)


def window_size(layers: int, d_model: int) -> int:
    """The number of items in a window, for states of this size."""
    return min(WINDOW, max(LEAST, BYTES // (4 * layers * d_model)))


def write_states(
    folder: Path,
    windows: Iterable[list[Prompt]],
    measure: Callable[[list[Prompt]], Float[Tensor, "layer item d_model"]],
    settings: Mapping[str, Any],
    provenance: Provenance,
    kept: Callable[[int], Any],
) -> StateStack:
    """Measure windows of prompts and write one shard for each; existing shards are kept and reported to `kept`.

    Args:
        folder: the folder; it is made when there is something to write.
        windows: prompts in their order, read one window at a time; in a launch, this process's share.
        measure: gives the states of a window.
        settings: besides the provenance, everything that the numbers depend on; `window` is the size of the windows.
        provenance: of the model.
        kept: gets the number of items in each shard that need not be measured.

    Raises:
        SemhubError: no prompts, a folder with states of another run or of other prompts, or one that cannot be written.
    """
    run = json.loads(json.dumps({**asdict(replace(provenance, notes=())), **settings}))
    require_place(folder)
    with together_in(folder, f"states of {fingerprint(run)}"):
        with in_step(f"the states in {folder}") as shards:
            _require_same(folder, run)
            begun = False
            for number, prompts in zip(share(count()), windows, strict=False):
                prints, start = [fingerprint(prompt) for prompt in prompts], number * settings["window"]
                path = _shard(folder, number)
                if _is_kept(path, prints, fingerprint(run), start) and _rows(folder, number).is_file():
                    kept(len(prompts))
                else:
                    states = measure(prompts).contiguous()
                    if not begun:
                        begun = bool(_write_json(folder / INDEX, {"settings": run}))
                    _write_rows(_rows(folder, number), prompts, prints, start)
                    _write_shard(path, states, prints, fingerprint(run))
                    del states  # before the next window's
                shards.append((number, len(prompts), fingerprint(prints)))
        with in_step(f"the index of {folder}"):
            if is_main():
                _write_index(folder, run, sorted(shards), provenance)
    return open_states(folder, verify=False)  # each shard was written or verified just now


def _write_index(
    folder: Path, run: dict[str, Any], shards: Sequence[tuple[int, int, str]], provenance: Provenance
) -> None:
    """Record that all shards are finished: the number, items and prompt fingerprint of each."""
    counts = [items for _, items, _ in shards]
    if _shard(folder, len(counts)).exists():
        raise SemhubError(f"{folder} has more items than these {sum(counts)}: pass all of them, or another folder.")
    layers, _, width = _states(_shard(folder, 0)).shape
    made = asdict(replace(provenance, data_hash=fingerprint([prints for *_, prints in shards])))
    _write_json(
        folder / INDEX,
        {"settings": run, "shape": [layers, sum(counts), width], "shards": counts, "provenance": made},
    )


def _require_same(folder: Path, run: dict[str, Any]) -> None:
    index = _index(folder)
    held = run if index is None else index["settings"]
    other = [f"{name} {held.get(name)!r}, not {run[name]!r}" for name in run if held.get(name) != run[name]]
    if other:
        raise SemhubError(f"{folder} has states of another run ({'; '.join(other)}): choose another folder.")


def _is_kept(path: Path, prints: list[str], run: str, start: int) -> bool:
    """Whether a shard is of these prompts; a missing, damaged or shorter shard is measured again.

    Raises:
        SemhubError: it is of another run or of other prompts.
    """
    try:
        told = _told(path)
        whole = _is_whole(path)
    except DAMAGED:
        return False
    if told.get("run") != run:
        raise SemhubError(f"{path} is of another run than {INDEX} in the same folder: choose another folder.")
    held = told["prompts"].split(",")
    if held != prints[: len(held)]:
        item = next((i for i, pair in enumerate(zip(held, prints, strict=False)) if pair[0] != pair[1]), len(prints))
        raise SemhubError(
            f"{path.parent} has states of other prompts: item {start + item} (from 0) differs there, or is not among "
            "these. Pass the prompts that it was started with, or another folder."
        )
    return whole and len(held) == len(prints)


def _is_whole(path: Path) -> bool:
    return _told(path).get("sha256") == tensors_sha256({"states": _states(path)})


def _write_shard(path: Path, states: Tensor, prints: list[str], run: str) -> None:
    tensors = {"states": states}
    told = {"prompts": ",".join(prints), "run": run, "sha256": tensors_sha256(tensors)}
    write_aside(path, lambda aside: save_file(tensors, aside, metadata=told))


def _write_rows(path: Path, prompts: list[Prompt], prints: list[str], start: int) -> None:
    lengths = [None if prompt.text is None else len(prompt.text) for prompt in prompts]
    columns = {
        "item": range(start, start + len(prompts)),
        "tokens": [len(prompt) for prompt in prompts],
        "characters": pd.array(lengths, dtype="Int64"),
        "prompt": prints,
    }
    write_aside(path, lambda aside: pd.DataFrame(columns).to_parquet(aside, index=False))


def _write_json(path: Path, content: dict[str, Any]) -> Path:
    return write_aside(
        path, lambda aside: aside.write_text(json.dumps({"schema": 1, **content}, indent=1), encoding="utf-8")
    )


def _index(folder: Path) -> dict[str, Any] | None:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["schema"] == 1 and isinstance(index["settings"], dict):
            return index
        raise KeyError("schema")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SemhubError(f"{path} cannot be read as an index of states ({error}): choose another folder.") from error


def _shard(folder: Path, number: int) -> Path:
    return folder / f"states-{number:05d}.safetensors"


def _rows(folder: Path, number: int) -> Path:
    return folder / "rows" / f"rows-{number:05d}.parquet"


def _told(path: Path) -> dict[str, str]:
    """What a shard says of its prompts, its run and its content."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _states(path: Path) -> Tensor:
    """The states of a shard, mapped into memory: a page is read only when needed."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("states")
