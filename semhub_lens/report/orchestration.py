"""Experiments on one model: which can be measured, with what reads pictures and sound, and why the others cannot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from semhub_lens import experiments
from semhub_lens.base.errors import SemhubError
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.experiments.registry import require_experiments
from semhub_lens.experiments.runs import Experiment
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.model.facts import Model
from semhub_lens.model.untrained import untrained
from semhub_lens.spokes import fitting

INTERVENING = (".steering", ".patching")
"""How the ids of experiments end that change states: a grid of runs for each item."""


def choose(only: Sequence[str] | None, *, steering: bool) -> list[Experiment]:
    """The experiments of some ids; None takes all, or without `steering` all but those that intervene.

    Raises:
        SemhubError: unknown ids, or an empty list.

    Example:
        >>> from semhub_lens.report.orchestration import choose
        >>> [experiment.id for experiment in choose(["probing"], steering=False)]
        ['probing']
    """
    if only is not None:
        return require_experiments(only)
    return [entry for name, entry in experiments.EXPERIMENTS.items() if steering or not name.endswith(INTERVENING)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What one model gave."""

    results: list[ExperimentResult]
    unmeasured: dict[str, str]
    """Why the other experiments have no result, by id."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The experiments of one model, before they run."""

    name: str
    """Of the model, for messages."""
    model: Model
    chosen: Sequence[Experiment]
    readers: Mapping[str, MediaReader]
    """What reads media, by modality."""
    unreadable: Mapping[str, str]
    """Why nothing reads what an experiment shows, by its id."""

    @classmethod
    def of(
        cls, name: str, model: Model, chosen: Sequence[Experiment], readers: Sequence[MediaReader] | None = None
    ) -> "Plan":
        """With these readers; None takes the packaged spokes of the model."""
        if readers is None:
            by_modality, missing = fitting(model)
        else:
            by_modality, missing = {reader.modality: reader for reader in readers}, {}
        unreadable = experiments.unreadable(chosen, by_modality, missing)
        return cls(name=name, model=model, chosen=chosen, readers=by_modality, unreadable=unreadable)

    def run(self, *, n: int | None, seed: int, out: str | Path | None, progress: bool) -> Measured:
        """Run what can be read, against one untrained model; what does not fit the model is left out with its reason.

        Raises:
            SemhubError: no experiment fits.
        """
        random = untrained(self.model, seed=seed)
        results, unmeasured = [], dict(self.unreadable)
        able = [experiment for experiment in self.chosen if experiment.id not in unmeasured]
        for experiment in (bar := tqdm(able, desc="experiments", unit="experiment", disable=not progress)):
            bar.set_postfix_str(experiment.id)
            shared = {"baseline": random, "reader": self.readers.get(experiment.modality)}
            try:
                result = experiments.run(
                    experiment.id, self.model, n=n, seed=seed, out=out, progress=progress, **shared
                )
            except SemhubError as error:
                unmeasured[experiment.id] = str(error)
            else:
                results.append(result)
        if not results:
            raise SemhubError(f"No experiment fits {self.name}. {' '.join(reasons(unmeasured))}")
        return Measured(results=results, unmeasured=unmeasured)


def reasons(unmeasured: Mapping[str, str]) -> list[str]:
    """One sentence for each reason, with the experiments that it keeps from being measured."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unmeasured.items():
        by_reason.setdefault(reason[:1].upper() + reason[1:].rstrip("."), []).append(name)
    return [f"{', '.join(names)}: not measured. {reason}." for reason, names in by_reason.items()]
