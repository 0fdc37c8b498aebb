"""Sound: do English words, added at an animal's sound, change the answer to a question about the animal?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.sounds import MAMMAL, animal_sounds, animals
from semhub_lens.data.media.vggsound import label_words, read_vggsound
from semhub_lens.data.text.texts import sentences
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments import steering_legs
from semhub_lens.experiments.job import Job, Text
from semhub_lens.experiments.media.audio import SOUNDS
from semhub_lens.experiments.media.legs import ADAPTER, name_of, reader_of
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, noise_like
from semhub_lens.inputs.tokens import is_single_token, token_id, word_tokens
from semhub_lens.interventions.sweep import Measure, Recipe, adding
from semhub_lens.model.hooking import Hooks, n_layers
from semhub_lens.scores import steering_scores

QUESTION = "<audio> Is this animal a mammal? Answer:"
YES, NO = "Yes", "No"
OTHER = "other animal"
STRENGTHS = (0.5, 1.0, 2.0)
"""Strengths in mean norms of the residual states at the sound's positions."""
SPAN, AFTER = "audio", "after"
TEXT = steering_legs.steering_text(
    SOUNDS.data_type,
    "{old} heard, {new} added",
    "the direction from the name of the animal heard ({old}) to that of another ({new}), added at the sound's "
    'positions, makes "{answer}" a likelier answer to "Is this animal a mammal?", more than a random direction of its '
    "norm",
    share=True,
)
"""Each arm completes the title and the claim."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A clip with the animal that it names or records."""

    item: MediaItem
    name: str
    mammal: bool


def run_steering(job: Job) -> ExperimentResult:
    r"""Does W_U[another animal] - W_U[the animal heard] change the answer to "Is this animal a mammal?"?

    $$v_{\ell i} = \frac{W_U[\text{new}_i] - W_U[\text{old}_i]}{\lVert W_U[\text{new}_i] - W_U[\text{old}_i] \rVert}\;
    \overline{\lVert h_\ell \rVert}$$

    is added with strengths .5, 1 and 2 at all positions of the sound at residual entry $\ell$. The mean norm is taken
    over items and these positions. The old word is the animal's own name, the new word that of a random animal of the
    other class. The score is P(Yes) / (P(Yes) + P(No)) or its complement, whichever should rise. `convention="paper"`
    adds the raw difference times 10 to 80 at the middle layer.

    The answer is not read where the vector is added. So the control at the last layer adds the vector at the last
    token, where the answer is read. It shows the direct effect of the vector on the output.

    Raises:
        SemhubError: a class has fewer than 16 animals with a one-token name, or an answer is several tokens.
    """
    reader = reader_of(job, "audio")
    for word in (YES, NO):
        word_tokens(job.model.tokenizer, word)
    for word in steering_legs.UNRELATED_PAIR:
        token_id(job.model.tokenizer, word)
    heard, data, counted = animals_heard(job)
    mammals = arm_of(reader, heard[True], heard[False], MAMMAL, job.seed)
    others = arm_of(reader, heard[False], heard[True], OTHER, job.seed)
    steered = [_steered(job, data, arm) for arm in (mammals, others)]
    notes = (
        ADAPTER,
        counted,
        _answers(job, mammals, others),
        steering_legs.scale_note(job, "the sounds' positions"),
        "The control at the last layer adds the vector at the last token, where the answer is read. At the sound's "
        "positions, nothing would read it.",
        "Damage is the KL divergence over an unrelated English sentence after the same sound. The random-weight "
        "model's damage is not measured.",
    )
    title = f"{len(mammals.names)} mammals and {len(others.names)} other animals heard"
    legs, sweeps = tuple(one.legs[0] for one in steered), tuple(one.sweep for one in steered)
    return ExperimentResult("audio.steering", title, legs, notes, sweeps, provenance=legs[0].provenance)


def animals_heard(job: Job) -> tuple[dict[bool, list[Heard]], str, str]:
    """Mammals (True) and other animals (False) whose name is one token, the data's name, and what was dropped.

    In a VGGSound folder, a clip is used if its label names animals of the list `data.sounds.animals`, either all
    mammals or none. The first animal is the name.

    Raises:
        SemhubError: a class has fewer than 16 animals.
    """
    every = animal_sounds() if job.data is None else read_vggsound(job.data)
    named = [one for item in every if (one := _animal(item)) is not None]
    single = [one for one in named if is_single_token(job.model.tokenizer, f" {one.name}", "exact")]
    chosen = {}
    for mammal in (True, False):
        listed = [one for one in single if one.mammal == mammal]
        if min(job.n, len(listed)) < FEWEST_ITEMS:
            what = "mammals" if mammal else "other animals"
            raise SemhubError(
                f"An experiment needs at least {FEWEST_ITEMS} {what} with a one-token name, got n={job.n} and "
                f"{len(listed)} of them. Of {len(every)} clips, {len(named)} name one animal or class, and "
                f"{len(single)} of these names are one token."
            )
        chosen[mammal] = [listed[i] for i in sample(len(listed), job.n, job.seed)]
    through = (
        f"{'animals' if job.data is None else f'VGGSound folder {job.data}'} through {reader_of(job, 'audio').name}"
    )
    counted = f"In {len(single)} of {len(every)} clips, the animal's name is one token and its class is clear."
    return chosen, through, counted


def _animal(item: MediaItem) -> Heard | None:
    """The animal in a label, singular or plural; None where there is none, or where there are animals of both kinds."""
    classes = animals()
    named = [name for word in label_words(name_of(item)) for name in (word, word.removesuffix("s")) if name in classes]
    kinds = {classes[name] == MAMMAL for name in named}
    return Heard(item, named[0], kinds.pop()) if len(kinds) == 1 else None


@dataclass(frozen=True, eq=False, kw_only=True)
class SteeringArm:
    """One direction of steering: the animals heard, the animals added, and the predicted answer."""

    old: str
    """Class of the animals heard."""
    names: list[str]
    """The animals heard."""
    new: list[str]
    """The animals whose names are added."""
    shown: list[Prompt]
    """The question after each sound."""
    unrelated: list[Prompt]
    """An unrelated sentence after each sound."""

    @property
    def answers(self) -> tuple[str, str]:
        """The answer predicted for the animal added, and the one for the animal heard."""
        return (NO, YES) if self.old == MAMMAL else (YES, NO)

    @property
    def score(self) -> str:
        """Name of the score."""
        return f"P({self.answers[0]})"


def arm_of(reader: MediaReader, heard: Sequence[Heard], others: Sequence[Heard], old: str, seed: int) -> SteeringArm:
    """The animals heard, each with a random animal of the other class; those are used about equally often."""
    order = torch.randperm(len(others), generator=generator(seed)).tolist()
    texts = sentences()["en"]
    opened = [one.item.open() for one in heard]
    return SteeringArm(
        old=old,
        names=[one.name for one in heard],
        new=[others[order[i % len(order)]].name for i in range(len(heard))],
        shown=[reader.prompt(QUESTION, sound) for sound in opened],
        unrelated=[_continued(reader, sound, texts[i % len(texts)]) for i, sound in enumerate(opened)],
    )


def _continued(reader: MediaReader, sound: object, text: str) -> Prompt:
    """The sound, followed by a text whose positions are a span."""
    prompt = reader.prompt(f"<audio> {text}", sound)
    after = tuple(range(max(prompt.spans[SPAN]) + 1, len(prompt)))
    return replace(prompt, spans={**prompt.spans, AFTER: after})


def _steered(job: Job, data: str, arm: SteeringArm) -> steering_legs.Steered:
    spelt = {"old": arm.old, "new": OTHER if arm.old == MAMMAL else MAMMAL, "answer": arm.answers[0]}
    text = replace(TEXT, title=TEXT.title.format(**spelt), claim=TEXT.claim.format(**spelt))
    return steering_legs.steer(
        job,
        steering_legs.Steering(
            name=f"steering-{arm.old}",
            directions=lambda job: steering_vectors(job, arm),
            unrelated=lambda job: steering_legs.word_differences(job, [steering_legs.UNRELATED_PAIR])[:, 0],
            hooks=at_sound,
            measure=lambda job: _measure(job, arm),
            placebo=lambda job: _share(job, arm),
            graded=arm.score,
            entries=1 if job.paper else 3,
            strengths=steering_legs.PAPER_STRENGTHS if job.paper else STRENGTHS,
            texts={arm.score: text},
            labels=[f"{own} to {other}" for own, other in zip(arm.names, arm.new, strict=True)],
            provenance=job.provenance(data, [arm.shown, arm.names, arm.new], bos=arm.shown[0].bos),
        ),
    )


def at_sound(job: Job) -> Recipe:
    """Add at the sound's positions. At the last entry, where no block reads those, add at the last token."""
    sound, answer, last = adding(job.model, SPAN), adding(job.model, -1), n_layers(job.model)

    def hooks(direction: Tensor, strength: float, layer: int) -> Hooks:
        return (answer if layer == last else sound)(direction, strength, layer)

    return hooks


def steering_vectors(job: Job, arm: SteeringArm) -> Float[Tensor, "layer item d_model"]:
    """Every item's difference of unembedding rows: raw (paper), or scaled to the mean norm of the sounds' states."""
    norms = (
        None if job.paper else steering_legs.mean_norms(job, arm.shown, [prompt.spans[SPAN] for prompt in arm.shown])
    )
    return steering_legs.word_differences(
        job, [(f" {new}", f" {old}") for new, old in zip(arm.new, arm.names, strict=True)], norms
    )


def _share(job: Job, arm: SteeringArm) -> Measure:
    read = steering_scores.next_token(
        job.model, arm.shown, {YES: YES, NO: NO}, margins=[arm.answers], progress=job.progress
    )
    predicted, other = arm.answers
    return lambda hooks: {arm.score: read(hooks)[f"{predicted} over {other}"].sigmoid()}


def _measure(job: Job, arm: SteeringArm) -> Measure:
    cost = steering_scores.damage(
        job.model,
        arm.unrelated,
        items=len(arm.unrelated),
        read_at=AFTER,
        name=steering_legs.DAMAGE,
        progress=job.progress,
    )
    return steering_scores.together(_share(job, arm), cost)


def _answers(job: Job, mammals: SteeringArm, others: SteeringArm) -> str:
    """Answers of the unsteered model: with the sounds, with noise instead, and with the animals' written names."""
    listed = []
    for name, prompts in (
        ("the sound", (mammals.shown, others.shown)),
        ("noise in its place", tuple(noise_like(side.shown, job.seed) for side in (mammals, others))),
        ("the written name", tuple([QUESTION.replace("<audio>", n) for n in side.names] for side in (mammals, others))),
    ):
        right, wrong = (_yes(job, f"answers-{name}-{i}", texts) for i, texts in enumerate(prompts))
        listed.append(f"with {name} {told_apart(right, wrong)}")
    return "Clean answers: " + "; ".join(listed) + ". Where they are no better than chance, there is little to change."


def _yes(job: Job, name: str, prompts: Sequence[Text]) -> Float[Tensor, " item"]:
    def measure(part: Sequence[Text]) -> Float[Tensor, "1 item"]:
        read = steering_scores.next_token(
            job.model, part, {YES: YES, NO: NO}, margins=[(YES, NO)], progress=job.progress
        )
        return read(())[f"{YES} over {NO}"].sigmoid()[None]

    return job.measured(name, prompts, measure)[0]


def told_apart(mammals: Float[Tensor, " item"], others: Float[Tensor, " other"]) -> str:
    """Accuracy of P(Yes) > .5 (mean of both classes), and how often a mammal's P(Yes) exceeds another animal's.

    Example:
        >>> from semhub_lens.experiments.media.audio_steering import told_apart
        >>> told_apart(torch.tensor([0.9, 0.6]), torch.tensor([0.8, 0.2]))
        'accuracy 75% (Yes to 100% of mammals, 50% of others), P(Yes) higher for the mammal in 75% of pairs'
    """
    yes, wrong = (float((side > 0.5).float().mean()) for side in (mammals, others))
    above = (mammals[:, None] > others).float() + 0.5 * (mammals[:, None] == others).float()
    return (
        f"accuracy {(yes + 1 - wrong) / 2:.0%} (Yes to {yes:.0%} of mammals, {wrong:.0%} of others), P(Yes) higher for "
        f"the mammal in {float(above.mean()):.0%} of pairs"
    )
