"""The recipe of the experiments that steer: a sweep with its controls and placebo, and the legs of its scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.evidence.draws import told_apart
from semhub_lens.evidence.legs import Leg, LegText, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.job import Job, Text
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.interventions.direction import unembedding
from semhub_lens.interventions.sweep import Controls, Measure, Recipe, adding, sweep
from semhub_lens.interventions.sweep_result import FLIPPED, LAST, RANDOM, STEERED, UNRELATED, SweepResult
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.hooking import Hooks, n_layers

BEYOND = {
    FLIPPED: "beyond the sign-flipped direction",
    UNRELATED: "beyond an unrelated direction",
    LAST: "beyond the same vector at the last layer only",
}
SIGNS = "the sign of steered minus random flipped at random"
DAMAGE = "KL to clean"
UNRELATED_PAIR = (" red", " blue")
"""Tokens whose difference should have no effect."""
PAPER_STRENGTHS = (10.0, 20.0, 40.0, 80.0)
"""Strengths as factors of the raw difference of unembedding rows."""
Directions = Float[Tensor, "layer *item d_model"]
"""A direction for every residual entry, or one for each entry and item."""


def at_prompt_end(job: Job) -> Recipe:
    """Add at the last position of the prompt; `convention="paper"` adds one block later."""
    plain, last = adding(job.model), n_layers(job.model)

    def one_block_later(direction: Tensor, strength: float, layer: int) -> Hooks:
        return plain(direction, strength, min(layer + 1, last))

    return one_block_later if job.paper else plain


@dataclass(frozen=True, eq=False, kw_only=True)
class Steering:
    """The vectors added to a model's states and the scores of the result; functions also run with random weights."""

    name: str
    """The sweep's name, unique within its experiment."""
    directions: Callable[[Job], Directions]
    unrelated: Callable[[Job], Directions]
    """Directions that should have no effect; they are rescaled to the same norms."""
    hooks: Callable[[Job], Recipe] = at_prompt_end
    measure: Callable[[Job], Measure]
    placebo: Callable[[Job], Measure] | None = None
    """The scores measured on a random-weight model; None measures none."""
    graded: str = ""
    """The score whose leg has that placebo."""
    entries: int = 3
    """Number of residual entries, spread over the depth."""
    strengths: Sequence[float]
    last_layer: bool = True
    """Whether the same vector at the last entry is a control."""
    others: Mapping[str, Callable[[Job], Recipe]] = field(default_factory=dict)
    """By name of the check: other hooks of the same directions, whose effect is subtracted."""
    damage: Sequence[str] = (DAMAGE,)
    texts: Mapping[str, LegText]
    """Titles and claims of the legs, by score."""
    labels: Sequence[str]
    """A label for each item."""
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class Steered:
    """The legs of a `Steering`, and the sweeps behind them."""

    legs: tuple[Leg, ...]
    sweep: SweepResult
    others: Mapping[str, SweepResult]


def steer(job: Job, steering: Steering) -> Steered:
    """Sweep over layers and strengths with all controls, then with other hooks and with random weights.

    Raises:
        SemhubError: as `sweep` and `make_leg`.
    """
    measure, unrelated = steering.measure(job), steering.unrelated(job)
    controls = Controls(seed=job.seed, unrelated=lambda layer: unrelated[layer], last_layer=steering.last_layer)
    swept = _swept(job, steering, steering.name, measure, steering.hooks, controls, steering.damage)
    none = Controls(random=0, flipped=False, last_layer=False)
    others = {
        check: _swept(job, steering, f"{steering.name}, {check}", measure, hooks, none)
        for check, hooks in steering.others.items()
    }
    noise = None
    if job.baseline and steering.placebo is not None:
        measure, controls = steering.placebo(job.random()), Controls(seed=job.seed, flipped=False, last_layer=False)
        noise = _swept(job.random(), steering, steering.name, measure, steering.hooks, controls)
    legs = [
        steering_leg(
            swept,
            score,
            text,
            steering.provenance,
            job.seed,
            labels=steering.labels,
            random=noise if score == steering.graded else None,
            others=others,
        )
        for score, text in steering.texts.items()
    ]
    return Steered(tuple(legs), swept, others)


def _swept(
    job: Job,
    steering: Steering,
    name: str,
    measure: Measure,
    hooks: Callable[[Job], Recipe],
    controls: Controls,
    damage: Sequence[str] = (),
) -> SweepResult:
    directions = steering.directions(job)
    return sweep(
        job.model,
        measure,
        lambda layer: directions[layer],
        spread(n_layers(job.model), steering.entries),
        steering.strengths,
        recipe=hooks(job),
        controls=controls,
        damage=damage,
        name=f"{job.model.cfg.model_name}-{name}",
        provenance=steering.provenance,
        store=job.store,
        progress=job.progress,
    )


def steering_text(data_type: str, title: str, claim: str, *, share: bool = False) -> LegText:
    """Title and claim of a leg of steering, in nats or in shares of the items."""
    return LegText(
        title=title,
        data_type=data_type,
        kind="causality",
        claim=claim,
        control=SIGNS,
        unit="share" if share else "nats",
        curve_unit="share / nats" if share else "log-probability / nats",
    )


def spread(last: int, count: int = 5) -> tuple[int, ...]:
    """Residual entries spread over the depth, without the embedding and the last entry (`last`).

    Example:
        >>> from semhub_lens.experiments.steering_legs import spread
        >>> spread(18), spread(3)
        ((3, 6, 9, 12, 15), (1, 2))
    """
    return tuple(sorted({min(max(round(last * k / (count + 1)), 1), max(last - 1, 1)) for k in range(1, count + 1)}))


def steering_leg(
    swept: SweepResult,
    score: str,
    text: LegText,
    provenance: Provenance,
    seed: int,
    *,
    labels: Sequence[str] = (),
    random: SweepResult | None = None,
    others: Mapping[str, SweepResult] | None = None,
) -> Leg:
    """The leg of one score of a sweep: steered minus norm-matched random directions, for each item and cell.

    The null flips the sign of each item's contrast. So it generalizes to other items, not to other directions.

    Args:
        swept: a sweep with at least one random direction.
        score: one of its scores, positive if the effect is as predicted.
        text: title and claim of the leg.
        provenance, seed, labels: as in `make_leg`.
        random: the same sweep on a random-weight model, as a placebo.
        others: sweeps with other hooks by the name of their check; their effect is subtracted.

    Raises:
        SemhubError: the sweep has no random direction, the score is unknown, or scores are NaN.
    """
    clean = swept.clean[swept.names.index(score)]
    effect = told_apart(_cells(swept.contrast(score)), clean)
    controls = {
        name: _cells(swept.contrast(score, condition))
        for condition, name in BEYOND.items()
        if condition in swept.conditions
    }
    for name, other in (others or {}).items():
        controls[name] = _cells(swept.effect(score) - other.effect(score))
    measured = [name for name in (STEERED, RANDOM, *BEYOND) if name in swept.conditions]
    curves = {name: _cells(swept.effect(score, name) + clean).mean(1) for name in measured}
    curves["clean"] = clean.mean().expand(len(effect))
    for name in swept.damage:
        curves[f"damage: {name}"] = _cells(swept.effect(name)).nanmean(1)
        curves[f"damage, random direction: {name}"] = _cells(swept.effect(name, RANDOM)).nanmean(1)
    placebos = {}
    if random is not None:
        placebo = told_apart(_cells(random.contrast(score)), random.clean[random.names.index(score)])
        placebos[NOT_RANDOM] = (placebo, sign_flips(placebo))
    return make_leg(
        effect,
        sign_flips(effect),
        text,
        provenance=provenance,
        seed=seed,
        curves=curves,
        controls=controls,
        placebos=placebos,
        labels=labels,
        grid=[(layer, strength) for layer in swept.layers for strength in swept.strengths],
    )


def _cells(values: Float[Tensor, "layer strength item"]) -> Float[Tensor, "cell item"]:
    return rearrange(values, "layer strength item -> (layer strength) item")


def text_differences(
    job: Job, name: str, plus: Sequence[Text], minus: Sequence[Text]
) -> Float[Tensor, "layer item d_model"]:
    """States at the last tokens of some texts minus those of others, for each item."""
    states = job.states(name, [*plus, *minus])
    return states[:, : len(plus)] - states[:, len(plus) :]


def word_differences(
    job: Job, pairs: Sequence[tuple[str, str]], norms: Float[Tensor, " layer"] | None = None
) -> Float[Tensor, "layer item d_model"]:
    r"""$W_U[plus] - W_U[minus]$ of pairs of tokens for every residual entry: raw, or scaled to the norms in `norms`.

    An unembedding row is short compared with most states, so a factor of the raw difference is hard to interpret.
    """
    rows = torch.stack([unembedding(job.model, plus, minus) for plus, minus in pairs])
    if norms is None:
        return repeat(rows, "item d_model -> layer item d_model", layer=n_layers(job.model) + 1)
    units = torch.nn.functional.normalize(rows, dim=-1)
    return einsum(units, norms, "item d_model, layer -> layer item d_model")


def mean_norms(job: Job, prompts: Sequence[Prompt], positions: Sequence[Sequence[int]]) -> Float[Tensor, " layer"]:
    """Mean norm of the states of every residual entry, over the given positions of all prompts."""

    def measure(part: Sequence[tuple[Prompt, Sequence[int]]]) -> Float[Tensor, "layer item"]:
        norms = torch.empty(n_layers(job.model) + 1, len(part), dtype=torch.float32)
        for batch in prompt_states(job.model, [prompt for prompt, _ in part]):
            for item, states in batch:
                norms[:, item] = reduce(states[:, list(part[item][1])].norm(dim=-1), "layer pos -> layer", "mean")
        return norms

    return job.measured("norms", list(zip(prompts, positions, strict=True)), measure).mean(1)


def scale_note(job: Job, positions: str) -> str:
    """A sentence on the unit of the strengths of `word_differences`."""
    if job.paper:
        return "Strengths multiply the raw difference of unembedding rows."
    return f"Strengths are in mean norms of the residual states at {positions}, layer by layer."


def shares_note(steered: Steered, leg: Leg, scores: Sequence[str], title: str) -> str:
    """A sentence with mean scores over all items, clean and in every condition, at the leg's layer and strength."""
    swept = steered.sweep
    cell = swept.layers.index(leg.layer), swept.strengths.index(leg.strength or 0.0)

    def means(result: SweepResult, condition: str | None) -> str:
        rows = {name: result.clean[result.names.index(name)] for name in scores}
        if condition is not None:
            rows = {name: row + result.effect(name, condition)[cell] for name, row in rows.items()}
        return ", ".join(f"{name} {float(row.mean()):.0%}" for name, row in rows.items())

    listed = [f"{condition or 'clean'}: {means(swept, condition)}" for condition in (None, *swept.conditions)]
    listed += [f"{check.removeprefix('beyond ')}: {means(other, STEERED)}" for check, other in steered.others.items()]
    return f"{title} at layer {leg.layer}, strength {leg.strength:g} (all items). " + "; ".join(listed) + "."
