"""Running an experiment by its id, and keeping what it found.

`DIR/<id>/` holds the tidy per-item table (items.parquet), the whole result (result.safetensors), the settings,
provenance, versions and verdicts (run.json) and the figure (figure.html; further figures are numbered). While a run
goes on, its finished parts lie beside them; a run with the same settings goes on from there, one with others does not
see them.
"""

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_folder, write_aside
from semhub_lens.base.fingerprints import digest
from semhub_lens.base.store import Store
from semhub_lens.evidence.legs import ExperimentResult, describe
from semhub_lens.experiments.job import Convention, Job
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.readout import Norm
from semhub_lens.views.page import write_html

FORMAT = 3
"""Raised when parts of an older version must not be read."""
RESULT, TABLE, RECORD, FIGURE = "result.safetensors", "items.parquet", "run.json", "figure.html"


@dataclass(frozen=True)
class Experiment:
    """One experiment (the documentation's Methods page describes each), with its default number of items."""

    id: str
    data_type: str
    title: str
    n: int
    run: Callable[[Job], ExperimentResult]
    takes: str = ""
    """What `data=` may name; empty where the items are always generated or bundled."""
    modality: str = ""
    """"image" or "audio" where a reader is needed."""


@dataclass(frozen=True)
class RunSettings:
    """How an experiment is run; what the numbers depend on beside the model."""

    n: int | None = None
    """Items; None takes the experiment's default."""
    seed: int = 0
    norm: Norm | None = None
    """How the lens reads states; None takes "final", with `convention="paper"` "paper"."""
    convention: Convention = "corrected"
    data: str | None = None
    baseline: bool = True
    reader: str | None = None
    """Name and hash of what reads pictures or sound."""


def run_experiment(
    experiment: Experiment,
    model: Model,
    settings: RunSettings,
    *,
    untrained: Model | None,
    out: str | Path | None,
    progress: bool,
    reader: MediaReader | None = None,
) -> ExperimentResult:
    """Run an experiment; with `out`, go on from what a killed run left there, and save the result."""
    norm: Norm = settings.norm or ("paper" if settings.convention == "paper" else "final")
    n = experiment.n if settings.n is None else settings.n
    if settings.data is not None and not experiment.takes:
        raise SemhubError(f"{experiment.id} takes no data: its items are bundled or generated; got {settings.data!r}.")
    folder = None if out is None else Path(out) / experiment.id
    used = {
        "experiment": experiment.id,
        **asdict(settings),
        "n": n,
        "norm": norm,
        "data_hash": _file_hash(settings.data),
        "model": asdict(provenance_of(model)),
        "untrained": None if untrained is None else provenance_of(untrained).weights,
        "format": FORMAT,
        "torch": version("torch"),
        "python": platform.python_version(),
    }
    if folder is not None:
        require_folder(folder)
        if (finished := _finished(folder, used)) is not None:
            return finished
    store = Store(folder, used)
    job = Job(
        model,
        n,
        settings.seed,
        norm,
        settings.convention,
        settings.data,
        settings.baseline,
        untrained,
        reader,
        store,
        progress,
    )
    begun = time.monotonic()
    result = experiment.run(job)
    if folder is not None:
        save_run(result, folder, used, seconds=time.monotonic() - begun)
        store.clear()
    return result


def _file_hash(data: str | None) -> str | None:
    """Names, sizes and times of a user's files, so that a changed corpus is a changed setting."""
    if data is None:
        return None
    named = [Path(entry.partition("=")[2] or entry) for entry in data.split(",")]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return digest([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.is_file()])


def _finished(folder: Path, used: dict[str, Any]) -> ExperimentResult | None:
    """The saved result, if these very settings made it."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = record.get("settings") == json.loads(json.dumps(used))
    return ExperimentResult.load(folder / RESULT) if same and (folder / RESULT).is_file() else None


def save_run(result: ExperimentResult, folder: Path, used: dict[str, Any], *, seconds: float) -> None:
    """Write table, tensors, figure, and last of all the record that says they are complete.

    `seconds` is how long the call took that finished the run.
    """
    (folder / RECORD).unlink(missing_ok=True)
    result.save(folder / RESULT)
    write_aside(folder / TABLE, lambda aside: result.to_frame().to_parquet(aside, index=False))
    write_html(result, folder / FIGURE)
    for number, extra in enumerate(result.extras, 1):
        write_html(extra, folder / f"{type(extra).__name__.removesuffix('Result').lower()}-{number}.html")
    record = {
        "experiment": result.id,
        "title": result.title,
        "settings": used,
        "provenance": [asdict(leg.provenance) for leg in result.legs],
        "versions": _versions(),
        "notes": list(result.notes),
        "verdicts": [describe(leg) for leg in result.legs],
        "seconds": round(seconds, 1),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_aside(folder / RECORD, lambda aside: aside.write_text(text + "\n", encoding="utf-8"))


def _versions() -> dict[str, str]:
    names: Sequence[str] = ("semhub-lens", "transformer-lens", "torch", "transformers", "numpy", "pandas", "plotly")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
