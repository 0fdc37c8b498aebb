"""Pictures: does a difference of colour words at the patches of one half change the model's answer about that half?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.rng import generator
from semhub_lens.data.media.colours import COLOURS, TwoColours, two_colour_pictures
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.experiments import steering_legs
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.media.legs import ADAPTER, reader_of
from semhub_lens.experiments.media.segments import whole_tile
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, noise_like
from semhub_lens.inputs.tokens import is_single_token, target_ids
from semhub_lens.interventions import hooks
from semhub_lens.interventions.sweep import Measure, Recipe
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.capture import check_edits
from semhub_lens.model.hooking import Hooks, residual_names
from semhub_lens.model.readout import Readout
from semhub_lens.scores.final_states import divergence, last_states

SIDES = ("left", "right")
QUESTION = "<image> The color on the {} is"
STRENGTHS = (0.25, 0.5, 1.0)
"""Strengths in mean norms of the states at the picture's positions, entry by entry."""
LAYERS = 5
FEWEST_COLOURS = 5
"""Two colours of the picture, a new one, and an unrelated pair."""
KEPT, NEW, OTHER = "kept", "new", "other"
MARGIN = "new over kept"
ELSEWHERE = "beyond the same vector at the other half"
ADDED, REPLACED = "added", "in place of the states"
TEXTS = {
    MARGIN: steering_legs.steering_text(
        "images",
        "new colour over the old one, vector {}",
        "the difference of two colour words at the patches of a half moves the answer about that half from the old "
        "colour to the new one, more than a random direction of its norm",
    ),
    NEW: steering_legs.steering_text(
        "images",
        "answers with the new colour, vector {}",
        "the difference of two colour words at the patches of a half makes the model give that half the new colour, "
        "more often than a random direction of its norm",
        share=True,
    ),
}
"""Titles end with the way the vector is applied."""


@dataclass(frozen=True, eq=False)
class ColourItem:
    """A question about one half of a two-coloured picture, and the colour that its answer should change to."""

    prompt: Prompt
    kept: str
    """The colour of the half that is asked about."""
    new: str
    unrelated: tuple[str, str]
    """Two words whose difference should have no effect."""
    asked: tuple[int, ...]
    """Positions of the patches of the half that is asked about."""
    elsewhere: tuple[int, ...]
    """Positions of the patches of the other half."""


def run_steering(job: Job) -> ExperimentResult:
    r"""Does W_U[new] - W_U[old] at the patches of a half change the model's answer to the new colour?

    $$v = \frac{W_U[\text{new}] - W_U[\text{old}]}{\lVert W_U[\text{new}] - W_U[\text{old}] \rVert}, \qquad
    h_{e,p} \leftarrow h_{e,p} + s\,\bar n_e\,v \quad\text{or}\quad h_{e,p} \leftarrow \bar n_e\,v
    \qquad\text{for all } e \ge \ell \text{ and } p \text{ of that half}$$

    with $\bar n_e$ the mean norm of the states at the pictures' positions at entry e. Two things are read at the end of
    "The color on the left is". One is log p(new) - log p(old). The other is whether the most probable next token is the
    new colour, the old one or neither. The positions of the text are never changed.

    Raises:
        SemhubError: there are fewer than 16 items or five one-token colour words, or the reader's positions are not a
            grid.
    """
    reader = reader_of(job, "image")
    return steering_result(job, reader, colour_items(job, reader))


def colour_items(job: Job, reader: MediaReader) -> list[ColourItem]:
    """Two-coloured pictures, with questions on the left and the right half in turn."""
    colours = [name for name in COLOURS if is_single_token(job.model.tokenizer, f" {name}", "exact")]
    if len(colours) < FEWEST_COLOURS:
        raise Unfit(
            f"This needs {FEWEST_COLOURS} one-token colour words (with a space before them). The tokenizer has "
            f"{len(colours)}: {', '.join(colours) or 'none'}."
        )
    sample(job.n, job.n, job.seed)  # refuses too few before a picture is drawn
    pictures = two_colour_pictures(colours, job.n, job.seed)
    rng = generator(job.seed + 1)
    items = []
    for i, picture in enumerate(pictures):
        free = [name for name in colours if name not in (picture.left, picture.right)]
        new, *pair = [free[k] for k in torch.randperm(len(free), generator=rng)[:3].tolist()]
        items.append(colour_item(reader, picture, SIDES[i % 2], new, (pair[0], pair[1])))
    return items


def colour_item(
    reader: MediaReader, picture: TwoColours, side: str, new: str, unrelated: tuple[str, str]
) -> ColourItem:
    """The question about one side of a picture, and the positions of both halves.

    Raises:
        SemhubError: the grid of positions is too coarse to split in halves.
    """
    prompt = reader.prompt(QUESTION.format(side), picture.open())
    tile = whole_tile(prompt)
    halves = {name: tile.covered(picture.mask(name)) for name in SIDES}
    if not all(halves.values()):
        raise SemhubError(
            f"A grid of {tile.rows} x {tile.columns} positions cannot be split in a left and a right half: give a "
            "reader with at least two columns."
        )
    other = SIDES[1 - SIDES.index(side)]
    return ColourItem(prompt, getattr(picture, side), new, unrelated, halves[side], halves[other])


def steering_result(job: Job, reader: MediaReader, items: Sequence[ColourItem]) -> ExperimentResult:
    """The four legs of items: vector added or replacing the states, scored by margin or by answer."""
    added, replaced = (_steered(job, reader, items, manner) for manner in (ADDED, REPLACED))
    shares = [
        steering_legs.shares_note(
            steered, steered.legs[0], (NEW, KEPT, OTHER), f"Answers (vector {manner}, from the entry on)"
        )
        for manner, steered in ((ADDED, added), (REPLACED, replaced))
    ]
    notes = (
        ADAPTER,
        _clean_note(job, items),
        *shares,
        "Edits are at patches, from the chosen entry on. Nothing reads the same vector at the last entry alone, so "
        "its effect is 0 by construction: the effect of the legs went through attention. Damage is the share of "
        "other answers, and the KL divergence of the next token from the clean run. The change of colour itself "
        "raises the KL divergence; that of a random direction is drawn next to it.",
    )
    return ExperimentResult(
        "vision.steering",
        f"{len(items)} questions on two-coloured pictures",
        (*added.legs, *replaced.legs),
        notes,
        (added.sweep, replaced.sweep),
        provenance=added.legs[0].provenance,
    )


def _steered(job: Job, reader: MediaReader, items: Sequence[ColourItem], manner: str) -> steering_legs.Steered:
    prompts = [item.prompt for item in items]
    here, elsewhere = (
        mask_of(prompts, positions) for positions in ([i.asked for i in items], [i.elsewhere for i in items])
    )
    norms = cache(lambda job: steering_legs.mean_norms(job, prompts, [prompt.spans["image"] for prompt in prompts]))
    return steering_legs.steer(
        job,
        steering_legs.Steering(
            name=f"steering-{manner}",
            directions=lambda job: steering_legs.word_differences(
                job, [(f" {i.new}", f" {i.kept}") for i in items], norms(job)
            ),
            unrelated=lambda job: steering_legs.word_differences(
                job, [(f" {a}", f" {b}") for a, b in (i.unrelated for i in items)]
            ),
            hooks=lambda job: from_entry_on(job, norms(job), here, manner),
            others={ELSEWHERE: lambda job: from_entry_on(job, norms(job), elsewhere, manner)},
            measure=lambda job: colour_answers(job, items),
            placebo=lambda job: colour_answers(job, items),
            graded=MARGIN,
            entries=LAYERS,
            strengths=STRENGTHS if manner == ADDED else (1.0,),
            damage=(OTHER, steering_legs.DAMAGE),
            texts={score: replace(text, title=text.title.format(manner)) for score, text in TEXTS.items()},
            labels=[f"{item.kept} to {item.new}" for item in items],
            provenance=job.provenance(
                f"two-coloured pictures through {reader.name}",
                [prompts, [(i.kept, i.new, i.unrelated, i.asked) for i in items]],
                bos=prompts[0].bos,
            ),
        ),
    )


def from_entry_on(job: Job, norms: Float[Tensor, " layer"], positions: Bool[Tensor, "item pos"], manner: str) -> Recipe:
    """Edit the positions from residual entry `layer` on, with the direction scaled to each entry's mean norm."""
    names = residual_names(job.model)
    edit = hooks.add if manner == ADDED else hooks.replace

    def recipe(direction: Tensor, strength: float, layer: int) -> Hooks:
        return [
            (names[entry], edit(direction * (norms[entry] / norms[layer]), strength, positions, each="item"))
            for entry in range(layer, len(names))
        ]

    return recipe


def mask_of(prompts: Sequence[Prompt], positions: Sequence[Sequence[int]]) -> Bool[Tensor, "item pos"]:
    """The positions of every prompt as a mask."""
    mask = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.bool)
    for row, listed in enumerate(positions):
        mask[row, list(listed)] = True
    return mask


def colour_answers(job: Job, items: Sequence[ColourItem], prompts: Sequence[Prompt] | None = None) -> Measure:
    """Margin, answer and damage of every item, from one run for each cell; `prompts` replace the items' own."""
    shown = [item.prompt for item in items] if prompts is None else list(prompts)
    tokenizer, readout = job.model.tokenizer, Readout(job.model)
    targets = [[target_ids(tokenizer, word) for word in (item.new, item.kept)] for item in items]
    last = [[len(prompt) - 1] for prompt in shown]
    clean: list[Tensor] = []

    def states(edits: Hooks) -> Tensor:
        return last_states(job.model, shown, last, edits, job.progress)

    def measure(edits: Hooks) -> Mapping[str, Tensor]:
        check_edits(edits, shown)
        if not clean:
            clean.append(states(()))
        now = states(edits) if edits else clean[0]
        reading = reduce_logits(readout, now[None], ["top_ids", "targets"], top_k=1, targets=targets)
        first = reading["top_ids"][0, :, 0].tolist()
        new, kept = (
            torch.tensor(
                [float(token in row[k]) for token, row in zip(first, targets, strict=True)], dtype=torch.float32
            )
            for k in (0, 1)
        )
        cost = divergence(readout, clean[0], now) if edits else torch.zeros(len(shown), dtype=torch.float32)
        margin = reading["targets"][0, :, 0] - reading["targets"][0, :, 1]
        return {MARGIN: margin, NEW: new, KEPT: kept, OTHER: 1 - new - kept, steering_legs.DAMAGE: cost}

    return measure


def _clean_note(job: Job, items: Sequence[ColourItem]) -> str:
    prompts = [item.prompt for item in items]
    blurred = noise_like(prompts, job.seed)

    def right(name: str, shown: Sequence[Prompt]) -> float:
        part = f"{job.model.cfg.model_name}-{name}-{fingerprint(shown)}"
        return float(job.store.tensor(part, lambda: colour_answers(job, items, shown)(())[KEPT]).mean())

    return (
        f"The clean model's next token is the colour of the half asked about in {right('right', prompts):.0%} of the "
        f"questions, with noise in place of the picture in {right('right-noise', blurred):.0%}. Where it does not know "
        "the colour, no answer can change as predicted: see the graded legs."
    )
