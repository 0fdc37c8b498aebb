"""One leg's verdict as one row: what report, results page, command line, `summary` and run.json print."""

from dataclasses import dataclass

from semhub_lens.base.results import Part


@dataclass(frozen=True, kw_only=True)
class VerdictRow(Part):
    """The figures of one leg, on the half of the items that did not choose the layer.

    A field that is added here stands in `ExperimentResult.summary` and in run.json without further ado.

    Example:
        >>> from semhub_lens.evidence.verdict_row import number
        >>> number(0.12345), number(123.45)
        ('0.123', '123.5')
    """

    experiment: str
    title: str
    data_type: str
    kind: str
    status: str
    estimate: float
    """Mean effect, in `unit`."""
    low: float
    high: float
    """95 % bootstrap interval of the estimate."""
    threshold: float
    """What the estimate must exceed (`stats.Verdict`)."""
    layer: int
    strength: float | None
    """Of an intervention; None where nothing is changed."""
    embedding: float | None
    """Mean effect at layer 0, over all items; None for interventions."""
    unit: str
    items: int
    holds: tuple[str, ...]
    """The controls after which something of the effect is left."""
    fails: tuple[str, ...]

    @property
    def effect(self) -> str:
        """The estimate, as it is printed."""
        return number(self.estimate)

    @property
    def interval(self) -> str:
        """The interval, as it is printed."""
        return f"{number(self.low)} to {number(self.high)}"

    @property
    def null(self) -> str:
        """The threshold, as it is printed."""
        return number(self.threshold)

    @property
    def at(self) -> str:
        """The layer and, for interventions, the strength, as they are printed."""
        return str(self.layer) if self.strength is None else f"{self.layer}, strength {self.strength:g}"

    @property
    def baseline(self) -> str:
        """The effect at layer 0, as it is printed; empty for interventions."""
        return "" if self.embedding is None else number(self.embedding)

    @property
    def surprises(self) -> bool:
        """Not as the hypothesis says, or a control took the effect away."""
        return self.status != "supported" or bool(self.fails)


def number(value: float) -> str:
    """A figure as all tables print it: three digits, or one behind the point from 10 on."""
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
