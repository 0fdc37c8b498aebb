"""From items to evidence: no model calls, no plots.

- `draws`: bootstrap samples, null draws, and the split into halves.
- `stats`: bootstrap intervals, nulls, contrasts, the verdict.
- `verdict_row`: `VerdictRow`: the numbers of one leg that every table prints.
- `legs`: `Leg` and `ExperimentResult`: an effect with interval, null, controls and verdict.
- `depth`: the share of depth at which all legs of a data type hold.
- `comparison`: `ReportComparison`: two reports side by side, differences over the same items.
"""
