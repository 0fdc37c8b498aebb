"""The experiments: each one wires items, a measurement and its controls together. Nothing is estimated or drawn here.

- `registry`: `EXPERIMENTS` and `run`, which runs one by its id.
- `runs`: saving a run and resuming it.
- `job`: what an experiment is given: `RunSettings` and `Job`.
- `sampling`: choosing items.
- `legs_in_common`: legs of several data types.
- `steering_legs`: the recipe shared by the experiments that steer.
- `languages`, `arithmetic`, `code`, `semantics`, `media`, `probing`: the experiments.
"""

from semhub_lens.experiments.registry import EXPERIMENTS, Experiment, run, unreadable

__all__ = ["EXPERIMENTS", "Experiment", "run", "unreadable"]
