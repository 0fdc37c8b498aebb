"""Arithmetic: steering sums with the difference of two sentences in English words."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.data.numbers.arithmetic import Expression, number_word, sums
from semhub_lens.data.text.texts import sentences
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.experiments import steering_legs
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.sampling import sample
from semhub_lens.interventions.sweep import Measure
from semhub_lens.model.generation import Generation
from semhub_lens.scores import steering_scores

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
UNRELATED = ("the door to the garden is open and", "the door to the garden is closed and")
LOWER, RIGHT, MARGIN = "one lower", "right", "one lower over right"
PREDICTED, UNCHANGED, OTHER = "predicted change", "unchanged", "other"
NEW_TOKENS = 4
"""Enough for "1+1" and for seeing that no digit follows."""
UNRELATED_TEXTS = 40
TEXTS = {
    MARGIN: steering_legs.steering_text(
        "arithmetic",
        "steered towards the operand one lower",
        "the number-word direction moves the next token from the right operand to the one that fits a first "
        "operand one higher, more than a random direction of its norm",
    ),
    PREDICTED: steering_legs.steering_text(
        "arithmetic",
        "predicted change of the answer",
        "the number-word direction makes the model write the sum as if its first operand were one higher, more "
        "often than a random direction of its norm",
        share=True,
    ),
}


def run_steering(job: Job) -> ExperimentResult:
    r"""Does the direction from "three plus" to "four plus" make the model continue "5=3+" as if it read "5=4+"?

    $v_i = h(\text{five equals to four plus}) - h(\text{five equals to three plus})$ is read at the last position of a
    residual layer. It is added at the last position of "5=3+" at the same layer (`convention="paper"`: at the next
    one). Three layers are steered, spread over the depth. The operand is at least 2, so that the answer can be one
    lower.
    """
    every = [e for e in sums() if e.second > 1]
    items = [every[i] for i in sample(len(every), job.n, job.seed)]
    prompts = [f"{e.result}={e.first}+" for e in items]
    own, higher = (
        [f"{number_word(e.result)} equals to {number_word(e.first + step)} plus" for e in items] for step in (0, 1)
    )
    provenance = replace(job.provenance("generated sums", prompts), padding="right, left in generation")
    steered = steering_legs.steer(
        job,
        steering_legs.Steering(
            name="steering",
            directions=lambda job: steering_legs.text_differences(job, "words", higher, own),
            unrelated=lambda job: steering_legs.text_differences(job, "unrelated", UNRELATED[:1], UNRELATED[1:])[:, 0],
            measure=lambda job: _measure(job, prompts, items),
            placebo=lambda job: _next_number(job, prompts, items),
            graded=MARGIN,
            strengths=STRENGTHS,
            texts=TEXTS,
            labels=[f"{prompt}{e.second}" for prompt, e in zip(prompts, items, strict=True)],
            provenance=provenance,
        ),
    )
    title = f"{len(items)} sums steered with number words"
    notes, extras = _notes(steered), (steered.sweep,)
    return ExperimentResult("arithmetic.steering", title, steered.legs, notes, extras, provenance=provenance)


def _next_number(job: Job, prompts: Sequence[str], items: Sequence[Expression]) -> Measure:
    targets = {LOWER: [str(e.second - 1) for e in items], RIGHT: [str(e.second) for e in items]}
    return steering_scores.next_token(
        job.model, prompts, targets, margins=[(LOWER, RIGHT)], variants="exact", progress=job.progress
    )


def _measure(job: Job, prompts: Sequence[str], items: Sequence[Expression]) -> Measure:
    answers = steering_scores.continuations(
        job.model,
        prompts,
        lambda generation: answer_shares(generation, items),
        max_new_tokens=NEW_TOKENS,
        progress=job.progress,
    )
    unrelated = sentences()["en"][:UNRELATED_TEXTS]
    cost = steering_scores.damage(job.model, unrelated, items=len(items), read_at="last", progress=job.progress)
    return steering_scores.together(_next_number(job, prompts, items), answers, cost)


def answer_shares(generation: Generation, items: Sequence[Expression]) -> dict[str, Float[Tensor, " item"]]:
    """Whether each continuation has the predicted change ("1+1..." for t = 2), is unchanged ("2..."), or neither.

    "answers one lower" looks at the first number only.
    """
    numbers = [re.match(r"\s*(\d+)(\+1(?!\d))?", text) for text in generation.texts]
    first = torch.tensor([float(match[1]) if match else -1.0 for match in numbers], dtype=torch.float32)
    plus_one = torch.tensor([bool(match and match[2]) for match in numbers])
    right = torch.tensor([float(e.second) for e in items], dtype=torch.float32)
    lower, same = first == right - 1, first == right
    predicted = lower & plus_one
    shares = {PREDICTED: predicted, UNCHANGED: same, OTHER: ~(predicted | same), f"answers {LOWER}": lower}
    return {name: share.float() for name, share in shares.items()}


def _notes(steered: steering_legs.Steered) -> tuple[str, ...]:
    swept = steered.sweep
    right = float(swept.clean[swept.names.index(UNCHANGED)].mean())
    return (
        f"The clean model answers {right:.0%} of these sums correctly. Where it cannot add, no answer can change as "
        "predicted: see the graded leg.",
        steering_legs.shares_note(steered, steered.legs[0], (PREDICTED, UNCHANGED, OTHER), "Shares of the answers"),
        "Damage is the KL divergence at the last token of unrelated English sentences that get the same directions.",
        "Three layers, spread over the depth. The random-weight model's scores are log-probabilities only.",
    )
