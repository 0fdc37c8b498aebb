"""The strength at which an intervention causes a given damage, to compare directions at equal damage."""

from dataclasses import dataclass
from math import isfinite

from torch import Tensor

from semhub_lens.base.arguments import checked, is_complex, shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.interventions.sweep import Measure, Recipe, adding
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import require_entry

DOUBLINGS = 20


@dataclass(frozen=True)
class Calibration:
    """A strength whose damage is just within a budget, as `calibrate` finds it."""

    strength: float
    damage: float
    """Mean damage at this strength."""
    budget: float
    tried: tuple[tuple[float, float], ...]
    """Every measured strength with its mean damage, in the order of measurement."""


@checked
def calibrate(
    model: Model,
    measure: Measure,
    direction: Tensor,
    layer: int,
    *,
    budget: float,
    recipe: Recipe | None = None,
    start: float = 1.0,
    tolerance: float = 0.05,
) -> Calibration:
    r"""Find the largest strength before the mean damage first reaches a budget.

    The strength is doubled from `start` until the damage reaches the budget. Then the last bracket is bisected until
    the damage at its lower end is within `tolerance` of the budget. Damage does not always grow with strength: it may
    fall again at larger strengths. If it crosses the budget and comes back between two doublings, this is not detected.

    Args:
        model: any TransformerLens model.
        measure: returns one score, the damage (`steering_scores.damage`); higher is worse.
        direction: `[d_model]` or `[item d_model]`.
        layer: residual entry (0 = embedding).
        budget: the mean damage to reach, in the measure's unit.
        recipe: makes the hooks for a direction; None adds it at the last position of each text (`adding`).
        start: the first strength.
        tolerance: the largest distance below the budget, as a share of it.

    Returns:
        The strength, its damage, and the damage at every strength that was tried.

    Raises:
        SemhubError: budget, start or tolerance not above 0, a measure with several scores, NaN damage, or a budget that
            is not reached at `start` times $2^{20}$.

    Example:
        >>> cost = steering_scores.damage(tiny_model, ["three plus two"], items=1, read_at="last", progress=False)
        >>> just = calibrate(tiny_model, cost, torch.ones(tiny_model.cfg.d_model), 1, budget=0.1)
        >>> 0.095 <= just.damage <= 0.1
        True
    """
    for name, value in (("budget", budget), ("start", start), ("tolerance", tolerance)):
        if not value > 0:
            raise SemhubError(f"calibrate needs {name} above 0, got {value}.")
    require_entry(model, layer)
    recipe = recipe or adding(model)
    tried: dict[float, float] = {}

    def cost(strength: float) -> float:
        scores = measure(recipe(direction, strength, layer))
        if len(scores) != 1:
            raise SemhubError(
                f"calibrate needs a measure with one score, the damage; got {', '.join(scores) or 'none'}."
            )
        found = next(iter(scores.values()))
        if is_complex(found):
            raise SemhubError(f"calibrate needs a measure with real scores, got complex ones: {shown(found)}.")
        tried[strength] = float(found.mean())
        if not isfinite(tried[strength]):
            raise SemhubError(f"The damage at strength {strength:g} is {tried[strength]}.")
        return tried[strength]

    low, high = 0.0, start
    while cost(high) < budget:
        if len(tried) > DOUBLINGS:
            raise SemhubError(
                f"The damage never reached {budget:g}: the largest was {max(tried.values()):.3g}, up to strength "
                f"{high:g}. Lower the budget, or change layer or positions."
            )
        low, high = high, 2 * high
    while tried.get(low, 0.0) < budget * (1 - tolerance) and high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return Calibration(low, tried.get(low, 0.0), budget, tuple(tried.items()))
