"""One leg's verdict as a row, as report, results page, command line, `summary` and run.json print it."""

from dataclasses import dataclass

from semhub_lens.base.results import Part


@dataclass(frozen=True, kw_only=True)
class VerdictRow(Part):
    """The numbers of one leg, from the half of the items that did not choose the layer.

    A field added here is automatically in `ExperimentResult.summary` and in run.json.

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
    """The threshold for the estimate (`stats.Verdict`)."""
    layer: int
    strength: float | None
    """The strength of an intervention; None without one."""
    embedding: float | None
    """Mean effect at layer 0, over all items; None for interventions."""
    unit: str
    items: int
    holds: tuple[str, ...]
    """The controls that hold: an effect remains beyond them."""
    fails: tuple[str, ...]

    @property
    def effect(self) -> str:
        """The estimate, as printed."""
        return number(self.estimate)

    @property
    def interval(self) -> str:
        """The interval, as printed."""
        return f"{number(self.low)} to {number(self.high)}"

    @property
    def null(self) -> str:
        """The threshold, as printed."""
        return number(self.threshold)

    @property
    def at(self) -> str:
        """The layer and, for interventions, the strength, as printed."""
        return str(self.layer) if self.strength is None else f"{self.layer}, strength {self.strength:g}"

    @property
    def baseline(self) -> str:
        """The effect at layer 0, as printed; empty for interventions."""
        return "" if self.embedding is None else number(self.embedding)

    @property
    def surprises(self) -> bool:
        """Whether the verdict differs from the hypothesis, or a control fails."""
        return self.status != "supported" or bool(self.fails)


def number(value: float) -> str:
    """A number as all tables print it: three digits, or one decimal from 10 on."""
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
