"""Legs of steering: a sweep over layers and strengths, its controls and its damage."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.evidence.legs import Leg, LegText, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.interventions.sweep import Controls, Direction, Measure, Recipe, sweep
from semhub_lens.interventions.sweep_result import FLIPPED, LAST, RANDOM, STEERED, UNRELATED, SweepResult

BEYOND = {
    FLIPPED: "beyond the sign-flipped direction",
    UNRELATED: "beyond an unrelated direction",
    LAST: "beyond the same vector at the last layer only",
}
SIGNS = "the sign of steered minus random flipped at random"


def spread(last: int, count: int = 5) -> tuple[int, ...]:
    """Some residual entries spread over the depth, the embedding and the last entry (`last`) left out.

    Example:
        >>> from semhub_lens.experiments.steering_legs import spread
        >>> spread(18), spread(3)
        ((3, 6, 9, 12, 15), (1, 2))
    """
    return tuple(sorted({min(max(round(last * k / (count + 1)), 1), max(last - 1, 1)) for k in range(1, count + 1)}))


def run_sweep(
    job: Job,
    name: str,
    measure: Measure,
    direction: Direction,
    layers: Sequence[int],
    strengths: Sequence[float],
    *,
    provenance: Provenance,
    recipe: Recipe | None = None,
    controls: Controls | None = None,
    damage: Sequence[str] = (),
) -> SweepResult:
    """A sweep whose cells are kept in the job's store; `name` tells the sweeps of one experiment apart."""
    return sweep(
        job.model,
        measure,
        direction,
        layers,
        strengths,
        recipe=recipe,
        controls=controls or Controls(seed=job.seed),
        damage=damage,
        name=f"{job.model.cfg.model_name}-{name}",
        provenance=provenance,
        store=job.store,
        progress=job.progress,
    )


def steering_leg(
    result: SweepResult,
    score: str,
    wording: LegText,
    provenance: Provenance,
    seed: int,
    *,
    damage: Sequence[str] | None = None,
    labels: Sequence[str] = (),
    random: SweepResult | None = None,
    others: Mapping[str, SweepResult] | None = None,
) -> Leg:
    """The leg of one score of a sweep: steered minus norm-matched random directions, item by item, in every cell.

    The null flips the sign of each item's contrast, so it speaks of other items, not of other directions.

    Args:
        result: a sweep with at least one random direction.
        score: which of its scores; positive as predicted.
        wording: what the leg is about.
        provenance: of the leg.
        seed: for bootstrap, null and split.
        damage: scores drawn as damage (their change from the clean run); None takes the sweep's own.
        labels: the items, in words.
        random: the same sweep on a random-weight model, as a placebo.
        others: sweeps of the same cells in which something is exchanged (the positions, say), by the name of the check:
            their effect is subtracted.

    Raises:
        SemhubError: no random direction, unknown score, NaN scores.
    """
    effect = _cells(result.contrast(score))
    controls = {
        name: _cells(result.contrast(score, condition))
        for condition, name in BEYOND.items()
        if condition in result.conditions
    }
    clean = result.clean[result.names.index(score)]
    for name, other in (others or {}).items():
        controls[name] = _cells(result.effect(score) - other.effect(score))
    measured = [name for name in (STEERED, RANDOM, *BEYOND) if name in result.conditions]
    curves = {name: _cells(result.effect(score, name) + clean).mean(1) for name in measured}
    curves["clean"] = clean.mean().expand(len(effect))
    for name in result.damage if damage is None else damage:
        curves[f"damage: {name}"] = _cells(result.effect(name)).nanmean(1)
        curves[f"damage, random direction: {name}"] = _cells(result.effect(name, RANDOM)).nanmean(1)
    placebos = {}
    if random is not None:
        placebo = _cells(random.contrast(score))
        placebos[NOT_RANDOM] = (placebo, sign_flips(placebo))
    return make_leg(
        effect,
        sign_flips(effect),
        wording,
        provenance=provenance,
        seed=seed,
        curves=curves,
        controls=controls,
        placebos=placebos,
        labels=labels,
        grid=[(layer, strength) for layer in result.layers for strength in result.strengths],
    )


def _cells(values: Tensor) -> Tensor:
    """`[layer strength item]` as the rows of a leg, strength running fastest."""
    return values.flatten(0, 1)
