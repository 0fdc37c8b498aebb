"""The table of results: every experiment on some models, as one Markdown page."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from semhub_lens import experiments
from semhub_lens.base.allocator import keep_freed_memory
from semhub_lens.base.errors import Missing, SemhubError, Unfit
from semhub_lens.base.files import require_folder, write_aside
from semhub_lens.evidence.legs import ExperimentResult, Leg
from semhub_lens.experiments.runs import RECORD, RESULT
from semhub_lens.model.loading import load
from semhub_lens.model.untrained import untrained
from semhub_lens.spokes import fitting

HEADER = """# Results

What this library measures on the models that it can load offline. {command} makes this page; with the runs of an
earlier call in `{runs}` it goes on from there. A number shows what its experiment's claim says and no more; see
[Methods](methods.md) and [Limits](limits.md).

The layer (and the strength, for interventions) is chosen on one half of the items; effect and 95 % bootstrap interval
are those of the other half. *Supported*: the interval lies above 0, and the effect exceeds the 95th percentile of the
null's maximum over layers ("null"). *Opposite*: the interval lies below 0. *Not supported*: neither. "Layer 0" is the
mean effect at the embedding, a baseline that cannot be chosen. "Holds" and "fails" name the controls: what is left of
the effect after the control is above 0 (95 % interval), or the control shows no effect of its own.
"""


def results_page(
    models: Sequence[str],
    path: str | Path = "docs/results.md",
    *,
    runs: str | Path = "runs",
    only: Sequence[str] | None = None,
    n: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: bool = True,
) -> tuple[Path, list[ExperimentResult]]:
    """Run the experiments on some models, keep the runs, and write the page.

    Args:
        models: names that `load` takes.
        path: the Markdown file; it appears only when complete.
        runs: folder of the saved runs, one folder a model; finished runs there are read, not repeated.
        only: ids of experiments; None runs all.
        n: items per experiment; None takes each experiment's default.
        seed: for items, bootstrap, nulls and splits.
        jobs: models measured at the same time, each in a process of its own with its share of the processor.
        progress: show progress bars.

    Raises:
        SemhubError: unknown model or experiment, `jobs` below 1, a model that no experiment fits, or a path that cannot
            be written.
    """
    chosen = list(experiments.EXPERIMENTS) if only is None else list(only)
    unknown = [name for name in chosen if name not in experiments.EXPERIMENTS]
    if unknown or not chosen or not models:
        raise SemhubError(
            f"Expected models and experiments out of {', '.join(experiments.EXPERIMENTS)}, got {list(models)} and "
            f"{unknown or chosen}."
        )
    if jobs < 1:
        raise SemhubError(f"jobs= counts processes, at least 1; got {jobs}.")
    require_folder(Path(path).parent)
    require_folder(Path(runs))
    settings = _Settings(tuple(chosen), Path(runs), n, seed, progress, max(1, (os.cpu_count() or 1) // jobs))
    measured = _measured(list(models), settings, jobs)
    sections = [_section(one.model, one.results, one.unfit, one.seconds) for one in measured]
    found = [result for one in measured for result in one.results]
    options = [f"--model {name}" for name in models] + [f"--only {name}" for name in only or ()]
    options += [f"-n {n}"] if n else []
    options += [f"--jobs {jobs}"] if jobs > 1 else []
    command = f"`semhub results {' '.join(options)}`"
    page = "\n".join([HEADER.format(command=command, runs=runs), *sections])
    return write_aside(Path(path), lambda aside: aside.write_text(page, encoding="utf-8")), found


@dataclass(frozen=True)
class _Settings:
    chosen: tuple[str, ...]
    runs: Path
    n: int | None
    seed: int
    progress: bool
    threads: int


@dataclass(frozen=True)
class _Measured:
    """What one model gave; the results themselves lie in its folder."""

    model: str
    folder: Path
    done: tuple[str, ...]
    unfit: dict[str, str]

    @property
    def seconds(self) -> float:
        """What the finished runs took, in this call or earlier ones."""
        records = [json.loads((self.folder / name / RECORD).read_text(encoding="utf-8")) for name in self.done]
        return sum(record["seconds"] for record in records)

    @property
    def results(self) -> list[ExperimentResult]:
        return [ExperimentResult.load(self.folder / name / RESULT) for name in self.done]


def _measured(models: list[str], settings: _Settings, jobs: int) -> list[_Measured]:
    if jobs == 1:
        return [_measure(name, settings) for name in models]
    with ProcessPoolExecutor(min(jobs, len(models)), get_context("spawn")) as pool:
        return [job.result() for job in [pool.submit(_alone, name, settings) for name in models]]


def _alone(name: str, settings: _Settings) -> _Measured:
    """As `_measure`, in a process of its own that shares the processor with others."""
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    return _measure(name, settings)


def _measure(name: str, settings: _Settings) -> _Measured:
    model = load(name)
    random = untrained(model, seed=settings.seed)
    readers, missing = fitting(model)
    chosen = [experiments.EXPERIMENTS[name] for name in settings.chosen]
    unfit = experiments.unreadable(chosen, readers, missing)
    folder = settings.runs / _plain(name)
    done = []
    for entry in (entry for entry in settings.chosen if entry not in unfit):
        try:
            experiments.run(
                entry,
                model,
                n=settings.n,
                seed=settings.seed,
                baseline=random,
                out=folder,
                reader=readers.get(experiments.EXPERIMENTS[entry].modality),
                progress=settings.progress,
            )
            done.append(entry)
        except (Unfit, Missing) as error:
            unfit[entry] = str(error)
    if not done:
        raise SemhubError(f"No experiment fits {name}. " + " ".join(f"{key}: {why}" for key, why in unfit.items()))
    return _Measured(name, folder, tuple(done), unfit)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _section(name: str, found: Sequence[ExperimentResult], unfit: Mapping[str, str], seconds: float) -> str:
    legs = [leg for result in found for leg in result.legs]
    counts = {status: sum(leg.verdict.status == status for leg in legs) for status in ("supported", "opposite")}
    provenance = found[0].provenance
    lines = [
        f"## {name}",
        "",
        f"{len(legs)} leg{'s' * (len(legs) != 1)}: {counts['supported']} supported, {counts['opposite']} opposite, "
        f"{len(legs) - sum(counts.values())} not supported. {provenance.model_class}, {provenance.dtype}, "
        f"{provenance.device}, weights {provenance.weights}, transformer-lens {provenance.transformer_lens}, "
        f"semhub-lens {provenance.semhub_lens}, seed {provenance.seed}. Its runs took {seconds / 60:.0f} minutes.",
        "",
        "### Nulls and surprises",
        "",
        *_surprises(found),
        *(f"- `{key}` is not measured on this model: {_cell(why)}" for key, why in unfit.items()),
        "",
    ]
    for result in found:
        lines += _experiment(name, result)
    return "\n".join(lines)


def _surprises(found: Sequence[ExperimentResult]) -> list[str]:
    """Legs that did not come out as the hypothesis says, and controls that took an effect away."""
    lines = []
    for result in found:
        for leg in result.legs:
            failed = [check.name for check in leg.checks if not check.holds]
            if leg.verdict.status != "supported":
                lines.append(f"- `{result.id}`, {_cell(leg.title)}: **{leg.verdict.status}** ({_effect(leg)}).")
            elif failed:
                lines.append(f"- `{result.id}`, {_cell(leg.title)}: supported, but fails: {'; '.join(failed)}.")
    return lines or ["- None: every leg is supported and holds against its controls."]


def _experiment(model: str, result: ExperimentResult) -> list[str]:
    claims = dict.fromkeys(f"{leg.wording.claim} (null: {leg.wording.control})" for leg in result.legs)
    rows = [
        "| leg | verdict | effect [95 %] | null | layer | layer 0 | items | holds | fails |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(leg) for leg in result.legs),
    ]
    return [
        f"### `{result.id}`: {result.title}",
        "",
        f"`semhub run {result.id} --model {model}`. A positive effect means: {'; '.join(claims)}.",
        "",
        *rows,
        "",
        *(f"- {note}" for note in result.notes),
        "",
    ]


def _row(leg: Leg) -> str:
    place = str(leg.layer) if leg.strength is None else f"{leg.layer}, strength {leg.strength:g}"
    cells: list[Any] = [
        _cell(leg.title),
        leg.verdict.status,
        _effect(leg),
        f"{leg.verdict.threshold:.3g}",
        place,
        "" if leg.strengths else f"{float(leg.mean[0]):.3g}",
        leg.verdict.items,
        "; ".join(check.name for check in leg.checks if check.holds),
        "; ".join(check.name for check in leg.checks if not check.holds),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _effect(leg: Leg) -> str:
    found = leg.verdict
    return f"{found.estimate:.3g} [{found.low:.3g}, {found.high:.3g}] {leg.wording.unit}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
