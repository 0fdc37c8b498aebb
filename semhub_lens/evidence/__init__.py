"""From items to evidence. No model is called, nothing is drawn.

- `stats`: bootstrap intervals, nulls, contrasts, the verdict.
- `legs`: `Leg` and `ExperimentResult`: an effect with interval, null, controls and verdict.
"""
