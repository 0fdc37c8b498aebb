"""Running an experiment, and saving its measurements.

`DIR/<id>/` contains the tidy per-item table (items.parquet), the whole result (result.safetensors), the settings,
provenance, versions and verdicts (run.json), and the figure (figure.html; further figures are numbered). Until a run
ends, its finished parts are in the same folder. A run with the same settings resumes from them; a run with other
settings ignores them. The settings cover all that the numbers depend on: the whole model, the items, and the code of
this package.
"""

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_place, user_path, write_aside
from semhub_lens.base.fingerprints import fingerprint, source_fingerprint
from semhub_lens.base.processes import in_step, is_main, together_in
from semhub_lens.base.store import Store
from semhub_lens.evidence.legs import ExperimentResult, describe
from semhub_lens.experiments.job import Job
from semhub_lens.inputs.modalities import MODALITIES
from semhub_lens.model.facts import provenance_of
from semhub_lens.model.untrained import is_drawn_from
from semhub_lens.model.weights import content_of
from semhub_lens.views.page import write_html

NAMED = ("data set", "human_eval")
"""In `Experiment.takes`: the data may be a name, and not a path."""
RESULT, TABLE, RECORD, FIGURE = "result.safetensors", "items.parquet", "run.json", "figure.html"


@dataclass(frozen=True)
class Experiment:
    """One experiment, with its default number of items; the Methods page of the documentation describes each."""

    id: str
    title: str
    n: int
    run: Callable[[Job], ExperimentResult]
    takes: str = ""
    """What `data=` accepts; empty where the items are always generated or bundled."""
    quick: bool = True
    """Whether the quick report measures it."""

    @property
    def modality(self) -> str:
        """The input besides text, which needs a reader; empty for text alone."""
        domain = self.id.partition(".")[0]
        return next((modality.name for modality in MODALITIES.values() if modality.domain == domain), "")


def run_experiment(experiment: Experiment, job: Job, out: str | Path | None = None) -> ExperimentResult:
    """Run an experiment; with `out`, resume a stopped run there, and save the result.

    With `out`, the processes of a launch share the parts of a run. The main process saves the result, and all return
    it.

    Raises:
        SemhubError: the experiment takes no data, there is none at that path, the folder cannot be written, another
            process is writing there, or files there are damaged or not from this library.
    """
    if job.data is not None:
        _require_data(experiment, job.data)
    folder = None if out is None else user_path(out) / experiment.id
    if folder is not None:
        content_of(job.model)  # what is saved is compared with another process's model
    used = {
        "experiment": experiment.id,
        **asdict(job.settings),
        "data_hash": _file_hash(job.data),
        "model": asdict(provenance_of(job.model)),
        "untrained": _other_baseline(job),
        "source": source_fingerprint(),
        "torch": version("torch"),
        "python": platform.python_version(),
    }
    if folder is None:
        return experiment.run(replace(job, store=Store()))
    require_place(folder)
    with together_in(folder, f"{experiment.id} {fingerprint(used)}"):
        begun = time.monotonic()
        with in_step(f"the measurements of {experiment.id}"):
            finished = _finished(folder, used)
            store = Store(folder, used, shared=True)
            shown = job.progress and is_main()
            result = finished or experiment.run(replace(job, store=store, progress=shown))
        with in_step(f"the files of {experiment.id}"):
            if is_main():
                if finished is None:
                    save_run(result, folder, used, seconds=time.monotonic() - begun)
                store.clear()  # also of a finished run: a kill may have come between its record and this
        return result


def _require_data(experiment: Experiment, data: str) -> None:
    """Refuse data that cannot be right, before a folder is made."""
    if not experiment.takes:
        raise SemhubError(
            f"{experiment.id} takes no data, because its items are bundled or generated; got {data!r}. Leave data out."
        )
    if not any(name in experiment.takes for name in NAMED) and not user_path(data).exists():
        raise SemhubError(f"{experiment.id} takes {experiment.takes}, but there is nothing at {data!r}.")


def _other_baseline(job: Job) -> str | None:
    """The random-weight model that was given; None for the one that the job would make."""
    random = job.untrained_model
    return None if random is None or is_drawn_from(random, job.model, job.seed) else content_of(random)


def _file_hash(data: str | None) -> str | None:
    """Names, sizes and times of a user's files, so that a changed corpus is a changed setting."""
    if data is None:
        return None
    named = [user_path(entry.partition("=")[2] or entry) for entry in data.split(",")]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return fingerprint([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.is_file()])


def _finished(folder: Path, used: dict[str, Any]) -> ExperimentResult | None:
    """The saved result, if it has these settings; one with other settings may be replaced."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
        same = settings == json.loads(json.dumps(used))
        return ExperimentResult.load(folder / RESULT) if same and (folder / RESULT).is_file() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SemhubError(
            f"{folder} is damaged or not a run of this library ({error}). Remove it to run again, or choose another "
            "folder."
        ) from error


def save_run(result: ExperimentResult, folder: Path, used: dict[str, Any], *, seconds: float) -> None:
    """Write table, tensors and figure, and last the record that marks them complete.

    `seconds` is the duration of the call that finished the run.
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
        "verdicts": [describe(result.id, leg) for leg in result.legs],
        "seconds": round(seconds, 1),
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_aside(folder / RECORD, lambda aside: aside.write_text(text + "\n", encoding="utf-8"))


def _versions() -> dict[str, str]:
    names: Sequence[str] = ("semhub-lens", "transformer-lens", "torch", "transformers", "numpy", "pandas", "plotly")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
