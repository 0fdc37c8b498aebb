"""Arithmetic: sums steered with the difference of two sentences in English words."""

import re
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.results import Provenance
from semhub_lens.data.numbers.arithmetic import Expression, number_word, sums
from semhub_lens.data.text.texts import sentences
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.sampling import sample
from semhub_lens.experiments.steering_legs import SIGNS, run_sweep, spread, steering_leg
from semhub_lens.interventions.sweep import Controls, Measure, adding
from semhub_lens.interventions.sweep_result import FLIPPED, RANDOM, STEERED, SweepResult
from semhub_lens.model.generation import Generation
from semhub_lens.model.hooking import Hooks, n_layers
from semhub_lens.scores import steering_scores

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
LAYERS = 3
UNRELATED = ("the door to the garden is open and", "the door to the garden is closed and")
LOWER, RIGHT, MARGIN = "one lower", "right", "one lower over right"
PREDICTED, UNCHANGED, OTHER = "predicted change", "unchanged", "other"
DAMAGE = "KL to clean"
NEW_TOKENS = 4
"""Enough for "1+1" and for seeing that no digit follows."""
UNRELATED_TEXTS = 40


def run_steering(job: Job) -> ExperimentResult:
    r"""Does the direction from "three plus" to "four plus" make the model add to "5=3+" as if it read "5=4+"?

    $v_i = h(\text{five equals to four plus}) - h(\text{five equals to three plus})$ at the last position of a residual
    layer, added at the last position of "5=3+" at the same layer (`convention="paper"`: at the next one). Three layers
    spread over the depth. Sums with an operand of 2 at least: one lower must exist.
    """
    every = [e for e in sums() if e.second > 1]
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    prompts = [f"{e.result}={e.first}+" for e in items]
    labels = [f"{prompt}{e.second}" for prompt, e in zip(prompts, items, strict=True)]
    provenance = replace(job.provenance("generated sums", prompts), padding="right, left in generation")
    found = _sweep(job, items, provenance, written=True)
    noise = _sweep(job.random(), items, provenance, written=False) if job.baseline else None
    legs = (
        steering_leg(found, MARGIN, _graded(), provenance, job.seed, labels=labels, random=noise),
        steering_leg(found, PREDICTED, _share(), provenance, job.seed, labels=labels),
    )
    title = f"{len(items)} sums steered with number words"
    return ExperimentResult("arithmetic.steering", title, legs, _notes(found, legs[0]), (found,), provenance=provenance)


def _sweep(job: Job, items: list[Expression], provenance: Provenance, *, written: bool) -> SweepResult:
    directions = _directions(job, items)
    ends = job.states("unrelated", UNRELATED)
    last = n_layers(job.model)
    controls = Controls(seed=job.seed, unrelated=lambda layer: ends[layer, 0] - ends[layer, 1])
    if not written:
        controls = Controls(seed=job.seed, flipped=False, last_layer=False)
    plain = adding(job.model)

    def one_block_later(direction: Tensor, strength: float, layer: int) -> Hooks:
        return plain(direction, strength, min(layer + 1, last))

    return run_sweep(
        job,
        "steering" if written else "steering-random",
        _measure(job, items, written),
        lambda layer: directions[layer],
        spread(last, LAYERS),
        STRENGTHS,
        provenance=provenance,
        recipe=one_block_later if job.paper else plain,
        controls=controls,
        damage=(DAMAGE,) if written else (),
    )


def _directions(job: Job, items: list[Expression]) -> Float[Tensor, "layer item d_model"]:
    """Each sum's direction: its first operand one higher, in words."""
    own, higher = (
        [f"{number_word(e.result)} equals to {number_word(e.first + step)} plus" for e in items] for step in (0, 1)
    )
    return job.states("words, one higher", higher) - job.states("words", own)


def _measure(job: Job, items: list[Expression], written: bool) -> Measure:
    prompts = [f"{e.result}={e.first}+" for e in items]
    targets = {LOWER: [str(e.second - 1) for e in items], RIGHT: [str(e.second) for e in items]}
    graded = steering_scores.next_token(
        job.model, prompts, targets, margins=[(LOWER, RIGHT)], variants="exact", progress=job.progress
    )
    if not written:
        return graded
    answers = steering_scores.continuations(
        job.model,
        prompts,
        lambda generation: answer_shares(generation, items),
        max_new_tokens=NEW_TOKENS,
        progress=job.progress,
    )
    unrelated = sentences()["en"][:UNRELATED_TEXTS]
    cost = steering_scores.damage(
        job.model, unrelated, items=len(items), read_at="last", name=DAMAGE, progress=job.progress
    )
    return steering_scores.together(graded, answers, cost)


def answer_shares(generation: Generation, items: list[Expression]) -> dict[str, Float[Tensor, " item"]]:
    """Whether each continuation is the predicted change ("1+1..." for t = 2), unchanged ("2..."), or neither.

    "answers one lower" asks for the first number only.
    """
    numbers = [re.match(r"\s*(\d+)(\+1(?!\d))?", text) for text in generation.texts]
    first = torch.tensor([float(found[1]) if found else -1.0 for found in numbers])
    plus_one = torch.tensor([bool(found and found[2]) for found in numbers])
    right = torch.tensor([float(e.second) for e in items])
    lower, same = first == right - 1, first == right
    predicted = lower & plus_one
    shares = {PREDICTED: predicted, UNCHANGED: same, OTHER: ~(predicted | same), f"answers {LOWER}": lower}
    return {name: share.float() for name, share in shares.items()}


def _graded() -> LegText:
    return LegText(
        "steered towards the operand one lower",
        "arithmetic",
        "causality",
        "the number-word direction moves the next token from the right operand to the one that fits a first operand "
        "one higher, more than a random direction of its norm",
        SIGNS,
        "nats",
        "log-probability / nats",
    )


def _share() -> LegText:
    return LegText(
        "predicted change of the answer",
        "arithmetic",
        "causality",
        "the number-word direction makes the model write the sum as if its first operand were one higher, more often "
        "than a random direction of its norm",
        SIGNS,
        "share",
        "share / nats",
    )


def _notes(found: SweepResult, leg: Leg) -> tuple[str, ...]:
    def shares(condition: str | None) -> str:
        rows = [found.clean[found.names.index(name)] for name in (PREDICTED, UNCHANGED, OTHER)]
        if condition is not None:
            cell = found.layers.index(leg.layer), found.strengths.index(leg.strength or 0.0)
            names = (PREDICTED, UNCHANGED, OTHER)
            rows = [row + found.effect(name, condition)[cell] for name, row in zip(names, rows, strict=True)]
        listed = zip((PREDICTED, UNCHANGED, OTHER), rows, strict=True)
        return f"{condition or 'clean'}: " + ", ".join(f"{name} {float(row.mean()):.0%}" for name, row in listed)

    right = float(found.clean[found.names.index(UNCHANGED)].mean())
    return (
        f"The clean model answers {right:.0%} of these sums rightly; where it cannot add, no answer can change as "
        "predicted, and the graded leg shows what there is.",
        f"Shares of the answers at layer {leg.layer}, strength {leg.strength:g} (all items). "
        + "; ".join(shares(condition) for condition in (None, STEERED, RANDOM, FLIPPED))
        + ".",
        "Damage is the KL divergence at the last token of unrelated English sentences that get the same directions.",
        f"Layers: {LAYERS}, spread over the depth. The random-weight model's scores are log-probabilities only.",
    )
