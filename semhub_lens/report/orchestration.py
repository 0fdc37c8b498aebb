"""Experiments on one model: which can be measured, with which readers, and why the others cannot."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semhub_lens import experiments
from semhub_lens.base.allocator import return_freed_memory
from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import Missing, SemhubError, Unfit
from semhub_lens.base.processes import is_main
from semhub_lens.base.progress import display_in_words, duration
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.experiments.registry import require_experiments
from semhub_lens.experiments.runs import Experiment
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.model.facts import Model
from semhub_lens.model.untrained import untrained
from semhub_lens.spokes import fitting

QUICK = 32
"""Items of each experiment at the quick size, or the experiment's own number if that is smaller. It was chosen by time
alone, and is the same for all.
"""
POSITIONS = 2
"""Positions of each text at which the quick size reads the whole vocabulary; the full size reads it at all positions.
"""
USUAL = 15.0
"""Seconds of an experiment at the quick size: the first estimate of the time left, before one is done."""
INTERVENING = (".steering", ".patching")
"""Endings of the ids of experiments that change states; these need a grid of runs for each item."""


def choose(only: Sequence[str] | None, *, steering: bool, quick: bool = False) -> list[Experiment]:
    """The experiments with these ids; None takes all, or without `steering` all but those that intervene.

    With `quick`, None also leaves out those that the quick report does not measure.

    Raises:
        SemhubError: an id is unknown, or the list is empty.

    Example:
        >>> from semhub_lens.report.orchestration import choose
        >>> [experiment.id for experiment in choose(["probing"], steering=False)]
        ['probing']
    """
    if only is not None:
        return require_experiments(only)
    chosen = [entry for entry in experiments.EXPERIMENTS.values() if entry.quick or not quick]
    return [entry for entry in chosen if steering or not entry.id.endswith(INTERVENING)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The results of one model so far."""

    results: list[ExperimentResult]
    unmeasured: dict[str, str]
    """The reason why an experiment has no result, by id."""
    running: str = ""
    """Id of the running experiment; empty if none is running."""
    coming: list[str] = field(default_factory=list)
    """Ids of the waiting experiments, in order."""
    rate: float = 0.0
    """Items per second so far."""
    left: float = 0.0
    """Estimated seconds for the running and waiting experiments."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The experiments of one model, before they run."""

    name: str
    """Name of the model, for messages."""
    model: Model
    chosen: Sequence[Experiment]
    readers: Mapping[str, MediaReader]
    """Readers by modality."""
    unreadable: Mapping[str, str]
    """The reason why an experiment has no reader, by its id."""

    @classmethod
    def of(
        cls, name: str, model: Model, chosen: Sequence[Experiment], readers: Sequence[MediaReader] | None = None
    ) -> "Plan":
        """The plan with these readers; None takes the packaged spokes of the model.

        Raises:
            SemhubError: an object that is not a reader.
        """
        if not all(hasattr(reader, "modality") for reader in readers or ()):
            raise SemhubError(
                f"readers= takes spokes or processors (`spokes.load`, `ProcessorReader`), got {shown(readers)}."
            )
        if readers is None:
            by_modality, missing = fitting(model)
        else:
            by_modality, missing = {reader.modality: reader for reader in readers}, {}
        unreadable = experiments.unreadable(chosen, by_modality, missing)
        return cls(name=name, model=model, chosen=chosen, readers=by_modality, unreadable=unreadable)

    def run(self, *, n: int | None, seed: int, out: str | Path | None, quick: bool = False) -> Iterator[Measured]:
        """Run the experiments that have a reader, against one untrained model; leave out misfits with their reason.

        Args:
            n: items per experiment; None takes each experiment's own number, at most `QUICK` with `quick`.
            seed: seed of items, bootstrap, nulls and splits.
            out: folder of saved runs.
            quick: whether to take a small sample of each.

        Yields: The results so far, before each experiment and at the end.

        Raises:
            SemhubError: no experiment fits.
        """
        results, unmeasured = [], dict(self.unreadable)
        able = [experiment for experiment in self.chosen if experiment.id not in unmeasured]
        sizes = {e.id: n if n is not None else min(e.n, QUICK) if quick else e.n for e in able}
        pace = _Pace(sizes)
        random = None
        for index, experiment in enumerate(able):
            coming = [later.id for later in able[index + 1 :]]
            left = pace.seconds(experiment.id, *coming)
            yield Measured(
                results=[*results], unmeasured={**unmeasured}, running=experiment.id, coming=coming, rate=pace.rate,
                left=left,
            )  # fmt: skip
            return_freed_memory()  # of the model's conversion, of the experiment before
            random = untrained(self.model, seed=seed) if random is None else random
            shared = {"baseline": random, "reader": self.readers.get(experiment.modality)}
            try:
                result = experiments.run(
                    experiment.id,
                    self.model,
                    n=sizes[experiment.id],
                    seed=seed,
                    out=out,
                    progress=False,
                    positions=POSITIONS if quick and n is None else None,
                    **shared,
                )
            except (Unfit, Missing) as error:
                unmeasured[experiment.id] = str(error)
            else:
                results.append(result)
            pace.done(experiment.id)
        yield Measured(results=results, unmeasured=unmeasured, rate=pace.rate)
        if not results:
            raise SemhubError(f"No experiment fits {self.name}. {' '.join(reasons(unmeasured))}")


class _Pace:
    """The speed of experiments of these sizes on this machine."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes, self._begun = sizes, time.monotonic()
        self._items, self._expected, self._took = 0, 0.0, 0.0

    def done(self, name: str) -> None:
        self._items += self._sizes[name]
        self._expected += self._cost(name)
        self._took = time.monotonic() - self._begun

    @property
    def rate(self) -> float:
        return self._items / self._took if self._took else 0.0

    def seconds(self, *names: str) -> float:
        slower = self._took / self._expected if self._expected else 1.0
        return slower * sum(map(self._cost, names))

    def _cost(self, name: str) -> float:
        return USUAL * self._sizes[name] / QUICK


def watched(steps: Iterable[Measured], shown: bool) -> Iterator[Measured]:
    """The same steps, shown on the terminal in one line; each new step is shown before it is passed on."""
    with display_in_words(shown=shown and is_main()) as bar:
        task = bar.add_task("experiments", total=None, rate="", left="")
        for step in steps:
            done = len(step.results) + len(step.unmeasured)
            rate = f"{step.rate:.1f} items/s" if step.rate else ""
            left = f"{duration(step.left)} left" if step.running else ""
            total = done + bool(step.running) + len(step.coming)
            bar.update(task, description=step.running or "done", completed=done, total=total, rate=rate, left=left)
            yield step


def reasons(unmeasured: Mapping[str, str]) -> list[str]:
    """One sentence for each reason, with the experiments that it prevents."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unmeasured.items():
        by_reason.setdefault(reason[:1].upper() + reason[1:].rstrip("."), []).append(name)
    return [f"{', '.join(names)}: not measured. {reason}." for reason, names in by_reason.items()]
