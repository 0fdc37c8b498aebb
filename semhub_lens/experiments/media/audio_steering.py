"""Sound: is the answer to a question about an animal moved by English words added where the animal is heard?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.sounds import MAMMAL, animal_sounds, animals
from semhub_lens.data.media.vggsound import label_words, read_vggsound
from semhub_lens.data.text.texts import sentences
from semhub_lens.evidence.legs import ExperimentResult, LegText
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments.job import Job, Text
from semhub_lens.experiments.media.audio import SOUNDS
from semhub_lens.experiments.media.legs import ADAPTER, name_of, reader_of
from semhub_lens.experiments.sampling import sample
from semhub_lens.experiments.steering_legs import SIGNS, run_sweep, spread, steering_leg
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, noise_like
from semhub_lens.inputs.tokens import is_single_token, token_id, word_tokens
from semhub_lens.interventions import direction as directions
from semhub_lens.interventions.sweep import Controls, Measure, Recipe, adding
from semhub_lens.interventions.sweep_result import SweepResult
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import Hooks, n_layers
from semhub_lens.scores import steering_scores

QUESTION = "<audio> Is this animal a mammal? Answer:"
YES, NO = "Yes", "No"
UNRELATED_PAIR = (" red", " blue")
STRENGTHS = (0.5, 1.0, 2.0)
"""In mean norms of the residual states at the sound's positions."""
PAPER_STRENGTHS = (10.0, 20.0, 40.0, 80.0)
"""Of the raw difference of unembedding rows."""
LAYERS = 3
DAMAGE = "KL to clean"
SPAN, AFTER = "audio", "after"
SIDES = ((MAMMAL, "other animal", NO), ("other animal", MAMMAL, YES))
"""What is heard, what is added, and the answer that is predicted then."""


@dataclass(frozen=True, eq=False)
class Heard:
    """A clip with the animal that it says or shows."""

    item: MediaItem
    name: str
    mammal: bool


def run_steering(job: Job) -> ExperimentResult:
    r"""Does W_U[another animal] - W_U[the animal heard] turn the answer to "Is this animal a mammal?"?

    $$v_{\ell i} = \frac{W_U[\text{new}_i] - W_U[\text{old}_i]}{\lVert W_U[\text{new}_i] - W_U[\text{old}_i] \rVert}\;
    \overline{\lVert h_\ell \rVert}$$

    added with strengths .5, 1 and 2 at all positions of the sound at residual entry $\ell$; the mean norm is taken over
    items and these positions. The old word is the animal's own name, the new one that of a random animal of the other
    class. The score is P(Yes) / (P(Yes) + P(No)), or its complement, whichever is predicted to rise.
    `convention="paper"` adds the raw difference times 10 to 80 at the middle layer.

    Nothing is read where the vector is added, so the control at the last layer adds it at the last token, where the
    answer is read: what the vector does to the output by itself.

    Raises:
        SemhubError: fewer than 16 animals of a class whose name is one token, or answers that are several tokens.
    """
    reader = reader_of(job, "audio")
    for word in (YES, NO):
        word_tokens(job.model.tokenizer, word)
    for word in UNRELATED_PAIR:
        token_id(job.model.tokenizer, word)
    heard, data, counted = animals_heard(job)
    sides = {old: side_of(job, reader, heard[old == MAMMAL], heard[old != MAMMAL], toward) for old, _, toward in SIDES}
    legs, sweeps = [], []
    for old, new, toward in SIDES:
        side = sides[old]
        provenance = job.provenance(data, [side.shown, side.names, side.new], bos=side.shown[0].bos)
        found = _sweep(side, provenance, f"steering-{old}", full=True)
        noise = (
            _sweep(replace(side, job=job.random()), provenance, f"random-{old}", full=False) if job.baseline else None
        )
        labels = [f"{own} to {other}" for own, other in zip(side.names, side.new, strict=True)]
        legs.append(
            steering_leg(
                found, side.score, _wording(old, new, toward), provenance, job.seed, labels=labels, random=noise
            )
        )
        sweeps.append(found)
    mammals, others = (sides[old] for old, _, _ in SIDES)
    notes = (ADAPTER, counted, _answers(job, mammals, others), *_remarks(job))
    title = f"{len(mammals.names)} mammals and {len(others.names)} other animals heard"
    return ExperimentResult("audio.steering", title, tuple(legs), notes, tuple(sweeps), provenance=legs[0].provenance)


def animals_heard(job: Job) -> tuple[dict[bool, list[Heard]], str, str]:
    """Mammals (True) and other animals (False) whose name is one token, the data's name, and what was dropped.

    In a VGGSound folder, a clip is taken if its label names animals of the list `data.sounds.animals`, all mammals or
    none; the first is the name.

    Raises:
        SemhubError: fewer than 16 of a class.
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
                f"An experiment needs at least {FEWEST_ITEMS} {what} whose name is one token, got n={job.n} of "
                f"{len(listed)} ({len(every)} clips, {len(named)} of one animal or class, {len(single)} of one token)."
            )
        chosen[mammal] = [listed[i] for i in sample(len(listed), job.n, job.seed)]
    through = (
        f"{'animals' if job.data is None else f'VGGSound folder {job.data}'} through {reader_of(job, 'audio').name}"
    )
    counted = f"{len(single)} of {len(every)} clips name animals of one class in one token."
    return chosen, through, counted


def _animal(item: MediaItem) -> Heard | None:
    """The animal in a label, also in the plural; None where there is none, or animals of both kinds."""
    classes = animals()
    found = [name for word in label_words(name_of(item)) for name in (word, word.removesuffix("s")) if name in classes]
    kinds = {classes[name] == MAMMAL for name in found}
    return Heard(item, found[0], kinds.pop()) if len(kinds) == 1 else None


@dataclass(frozen=True, eq=False)
class SteeringArm:
    """One direction of steering: what is heard, what is added, what should be answered."""

    job: Job
    names: list[str]
    new: list[str]
    answer: str
    shown: list[Prompt]
    """The question after each sound."""
    unrelated: list[Prompt]
    """An unrelated sentence after each sound."""

    @property
    def score(self) -> str:
        """Name of the score."""
        return f"P({self.answer})"


def side_of(job: Job, reader: MediaReader, heard: Sequence[Heard], others: Sequence[Heard], answer: str) -> SteeringArm:
    """What is heard with, for each, a random animal of the other class, each of these about equally often."""
    order = torch.randperm(len(others), generator=generator(job.seed)).tolist()
    new = [others[order[i % len(order)]].name for i in range(len(heard))]
    texts = sentences()["en"]
    opened = [one.item.open() for one in heard]
    shown = [reader.prompt(QUESTION, sound) for sound in opened]
    unrelated = [_continued(reader, sound, texts[i % len(texts)]) for i, sound in enumerate(opened)]
    return SteeringArm(job, [one.name for one in heard], new, answer, shown, unrelated)


def _continued(reader: MediaReader, sound: object, text: str) -> Prompt:
    """The sound with a text after it, whose positions are a span."""
    prompt = reader.prompt(f"<audio> {text}", sound)
    after = tuple(range(max(prompt.spans[SPAN]) + 1, len(prompt)))
    return replace(prompt, spans={**prompt.spans, AFTER: after})


def _sweep(side: SteeringArm, provenance: Provenance, name: str, *, full: bool) -> SweepResult:
    job, last = side.job, n_layers(side.job.model)
    unrelated = directions.unembedding(job.model, *UNRELATED_PAIR)
    controls = Controls(seed=job.seed, unrelated=lambda layer: unrelated)
    if not full:
        controls = Controls(seed=job.seed, flipped=False, last_layer=False)
    vectors = steering_vectors(side, name)
    return run_sweep(
        job,
        name,
        _measure(side, full),
        lambda layer: vectors[layer],
        spread(last, 1 if job.paper else LAYERS),
        PAPER_STRENGTHS if job.paper else STRENGTHS,
        provenance=provenance,
        recipe=recipe(job.model),
        controls=controls,
        damage=(DAMAGE,) if full else (),
    )


def recipe(model: Model) -> Recipe:
    """Add at the sound's positions; at the last entry, where no block reads them any more, at the last token."""
    at_sound, at_answer, last = adding(model, SPAN), adding(model, -1), n_layers(model)

    def hooks(direction: Tensor, strength: float, layer: int) -> Hooks:
        return (at_answer if layer == last else at_sound)(direction, strength, layer)

    return hooks


def steering_vectors(side: SteeringArm, name: str) -> Float[Tensor, "layer item d_model"]:
    """Every item's difference of unembedding rows: as it is (paper), or as long as the states of sounds are there."""
    job = side.job
    pairs = zip(side.new, side.names, strict=True)
    rows = torch.stack([directions.unembedding(job.model, f" {new}", f" {old}") for new, old in pairs])
    if job.paper:
        return rows.expand(n_layers(job.model) + 1, -1, -1)

    def measure(part: Sequence[Prompt]) -> Float[Tensor, "layer item"]:
        norms = torch.empty(n_layers(job.model) + 1, len(part))
        for batch in prompt_states(job.model, part):
            for item, states in batch:
                norms[:, item] = states[:, list(part[item].spans[SPAN])].norm(dim=-1).mean(1)
        return norms

    norms = job.measured(f"{name}-norms", side.shown, measure).mean(1)
    return rows / rows.norm(dim=-1, keepdim=True) * norms[:, None, None]


def _measure(side: SteeringArm, full: bool) -> Measure:
    job, other = side.job, NO if side.answer == YES else YES
    spelt = {YES: YES, NO: NO}
    read = steering_scores.next_token(
        job.model, side.shown, spelt, margins=[(side.answer, other)], progress=job.progress
    )

    def share(hooks: Hooks) -> Mapping[str, Tensor]:
        return {side.score: read(hooks)[f"{side.answer} over {other}"].sigmoid()}

    if not full:
        return share
    items = len(side.unrelated)
    cost = steering_scores.damage(
        job.model, side.unrelated, items=items, read_at=AFTER, name=DAMAGE, progress=job.progress
    )
    return steering_scores.together(share, cost)


def _wording(old: str, new: str, answer: str) -> LegText:
    return LegText(
        f"{old} heard, {new} added",
        SOUNDS.data_type,
        "causality",
        f"the direction from the name of the animal heard ({old}) to that of another ({new}), added at the sound's "
        f'positions, makes "{answer}" a likelier answer to "Is this animal a mammal?", more than a random direction of '
        "its norm",
        SIGNS,
        "share",
        "share / nats",
    )


def _answers(job: Job, mammals: SteeringArm, others: SteeringArm) -> str:
    """How the unsteered model answers: with the sounds, with noise in their place, with the animals' written names."""
    listed = []
    for name, prompts in (
        ("the sound", (mammals.shown, others.shown)),
        ("noise in its place", tuple(noise_like(side.shown, job.seed) for side in (mammals, others))),
        ("the written name", tuple([QUESTION.replace("<audio>", n) for n in side.names] for side in (mammals, others))),
    ):
        right, wrong = (_yes(job, f"answers-{name}-{i}", texts) for i, texts in enumerate(prompts))
        listed.append(f"with {name} {told_apart(right, wrong)}")
    return "Clean answers: " + "; ".join(listed) + ". Where they are no better than chance, there is little to turn."


def _yes(job: Job, name: str, prompts: Sequence[Text]) -> Float[Tensor, " item"]:
    def measure(part: Sequence[Text]) -> Float[Tensor, "1 item"]:
        read = steering_scores.next_token(
            job.model, part, {YES: YES, NO: NO}, margins=[(YES, NO)], progress=job.progress
        )
        return read(())[f"{YES} over {NO}"].sigmoid()[None]

    return job.measured(name, prompts, measure)[0]


def told_apart(mammals: Float[Tensor, " item"], others: Float[Tensor, " other"]) -> str:
    """Accuracy of P(Yes) > .5 (mean of both classes), and how often a mammal's P(Yes) is above another animal's.

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


def _remarks(job: Job) -> tuple[str, ...]:
    scale = (
        "Strengths multiply the raw difference of unembedding rows, at the middle layer."
        if job.paper
        else "Strengths are in mean norms of the residual states at the sounds' positions, layer by layer."
    )
    return (
        scale,
        "The control at the last layer adds the vector at the last token, where the answer is read: at the sound's "
        "positions nothing would read it any more.",
        "Damage: the KL divergence over an unrelated English sentence after the same sound. The random-weight model is "
        "not measured on it.",
    )
