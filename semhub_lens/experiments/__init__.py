"""Experiments: items, a measurement and its control, wired together. `run` runs one by its id."""

from collections.abc import Callable
from dataclasses import dataclass

from semhub_lens.experiments import arithmetic, code, multilingual
from semhub_lens.legs import ExperimentResult
from semhub_lens.models import Model


@dataclass(frozen=True)
class Experiment:
    """One experiment (the documentation's Methods page describes each), with its default number of items."""

    id: str
    data_type: str
    title: str
    n: int
    run: Callable[[Model, int, int, bool], ExperimentResult]


EXPERIMENTS = {
    experiment.id: experiment
    for experiment in (
        Experiment(
            "multilingual.similarity",
            "languages",
            "translations against unrelated sentences",
            150,
            multilingual.run_similarity,
        ),
        Experiment(
            "multilingual.logit_lens", "languages", "English glosses in running text", 100, multilingual.run_logit_lens
        ),
        Experiment(
            "multilingual.language_mass",
            "languages",
            "probability mass of each language",
            20,
            multilingual.run_language_mass,
        ),
        Experiment(
            "arithmetic.similarity", "arithmetic", "expressions against number words", 200, arithmetic.run_similarity
        ),
        Experiment(
            "arithmetic.logit_lens",
            "arithmetic",
            "number words where a digit comes next",
            120,
            arithmetic.run_logit_lens,
        ),
        Experiment(
            "code.logit_lens_list", "code", '"and" at the commas of list literals', 100, code.run_logit_lens_list
        ),
    )
}


def run(
    experiment: str, model: Model, *, n: int | None = None, seed: int = 0, progress: bool = True
) -> ExperimentResult:
    """Run an experiment on a model.

    Args:
        experiment: its id; `EXPERIMENTS` lists them.
        model: any TransformerLens model with a tokenizer.
        n: number of items (at least 8); None takes the experiment's default. Where the data has fewer, all are used.
        seed: chooses the items and feeds bootstrap, null and split.
        progress: show progress bars.

    Raises:
        ValueError: unknown id, too few items, or a tokenizer that the items do not fit.

    Example:
        >>> run("arithmetic.logit_lens", model)  # doctest: +SKIP
    """
    if experiment not in EXPERIMENTS:
        raise ValueError(f"Unknown experiment {experiment!r}; there are {', '.join(EXPERIMENTS)}.")
    chosen = EXPERIMENTS[experiment]
    return chosen.run(model, chosen.n if n is None else n, seed, progress)
