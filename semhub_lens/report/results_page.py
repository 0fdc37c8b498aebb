"""The table of results: every experiment on several models, as one Markdown page."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import torch

from semhub_lens.base.allocator import keep_freed_memory
from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_file, require_place, user_path, write_aside
from semhub_lens.base.processes import is_main, place
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.verdict_row import VerdictRow
from semhub_lens.experiments.registry import require_sample
from semhub_lens.experiments.runs import RECORD, RESULT
from semhub_lens.model.loading import load
from semhub_lens.model.sources import resolve
from semhub_lens.report.orchestration import Plan, choose, reasons, watched
from semhub_lens.report.templates import filled


@checked
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
    """Run the experiments on several models, save the runs, and write one Markdown page.

    Args:
        models: names that `load` takes.
        path: the Markdown file; it appears only when complete.
        runs: folder of the saved runs, with one folder for each model; finished runs are read, not repeated.
        only: ids of experiments; None runs all.
        n: items per experiment; None takes each experiment's default.
        seed: seed of items, bootstrap, nulls and splits.
        jobs: number of models measured at the same time, each in its own process with a share of the processor.
        progress: show one progress display, unless there are several `jobs`.

    Returns:
        The page's path and the results.

    Raises:
        SemhubError: there is no model, a model or experiment is unknown, there are too few items, `jobs` is below 1
            (or, in a launch, above 1), no experiment fits a model, or the path cannot be written.

    Example:
        >>> results_page(["gemma-3-270m"], "results.md", only=["arithmetic.similarity"])  # doctest: +SKIP
    """
    chosen = tuple(experiment.id for experiment in choose(only, steering=True))
    if not models:
        raise SemhubError("Expected at least one model, got none. `semhub models` lists the packaged models.")
    require_sample(n, seed)
    if jobs < 1:
        raise SemhubError(f"jobs= is a number of processes, at least 1; got {jobs}.")
    if jobs > 1 and place()[1] > 1:
        raise SemhubError(
            f"jobs={jobs} would start further processes, but the {place()[1]} processes of this launch already share "
            "each model. Use jobs=1."
        )
    require_file(path)
    require_place(user_path(runs))
    for name in models:  # before the first one is measured, which may take an hour
        resolve(name)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    shown = progress and jobs == 1  # several displays would write over each other
    settings = _Settings(chosen=chosen, runs=user_path(runs), n=n, seed=seed, progress=shown, threads=threads)
    sections = _sections(models, settings, jobs)
    options = [f"--model {name}" for name in models] + [f"--only {name}" for name in only or ()]
    options += [f"-n {n}"] if n else []
    options += [f"--jobs {jobs}"] if jobs > 1 else []
    page = filled("results.md", command=" ".join(["semhub results", *options]), runs=runs, sections=sections)
    written = user_path(path)
    if is_main():
        write_aside(written, lambda aside: aside.write_text(page, encoding="utf-8"))
    return written, [result for section in sections for result in section.results]


@dataclass(frozen=True, kw_only=True)
class _Settings:
    chosen: tuple[str, ...]
    runs: Path
    n: int | None
    seed: int
    progress: bool
    threads: int


@dataclass(frozen=True, kw_only=True)
class _Section:
    """One model's part of the page. The results are in its folder, which another process may have filled."""

    model: str
    folder: Path
    done: tuple[str, ...]
    unmeasured: dict[str, str]

    @property
    def seconds(self) -> float:
        """Duration of the finished runs, in this call or earlier ones."""
        records = [json.loads((self.folder / name / RECORD).read_text(encoding="utf-8")) for name in self.done]
        return sum(record["seconds"] for record in records)

    @cached_property
    def results(self) -> list[ExperimentResult]:
        return [ExperimentResult.load(self.folder / name / RESULT) for name in self.done]

    @property
    def rows(self) -> list[VerdictRow]:
        return [row for result in self.results for row in result.rows()]

    @property
    def reasons(self) -> list[str]:
        return reasons(self.unmeasured)

    @staticmethod
    def claims(result: ExperimentResult) -> list[str]:
        return list(dict.fromkeys(f"{leg.wording.claim} (null: {leg.wording.control})" for leg in result.legs))


def _sections(models: Sequence[str], settings: _Settings, jobs: int) -> list[_Section]:
    if jobs == 1:
        return [_section(name, settings) for name in models]
    with ProcessPoolExecutor(min(jobs, len(models)), get_context("spawn")) as pool:
        return [job.result() for job in [pool.submit(_alone, name, settings) for name in models]]


def _alone(name: str, settings: _Settings) -> _Section:
    """Like `_section`, in a separate process that shares the processor with others."""
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    return _section(name, settings)


def _section(name: str, settings: _Settings) -> _Section:
    folder = settings.runs / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    plan = Plan.of(name, load(name), choose(settings.chosen, steering=True))
    *_, measured = watched(plan.run(n=settings.n, seed=settings.seed, out=folder), settings.progress)
    done = tuple(result.id for result in measured.results)
    return _Section(model=name, folder=folder, done=done, unmeasured=measured.unmeasured)
