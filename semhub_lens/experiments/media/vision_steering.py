"""Pictures: does a difference of colour words at the patches of one half change what the model says of that half?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.data.media.colours import COLOURS, TwoColours, two_colour_pictures
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.media.legs import ADAPTER, reader_of
from semhub_lens.experiments.media.segments import whole_tile
from semhub_lens.experiments.sampling import sample
from semhub_lens.experiments.steering_legs import SIGNS, run_sweep, spread, steering_leg
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, fingerprint, noise_like
from semhub_lens.inputs.tokens import is_single_token, target_ids
from semhub_lens.interventions import direction as directions
from semhub_lens.interventions import hooks
from semhub_lens.interventions.sweep import Controls, Measure, Recipe
from semhub_lens.interventions.sweep_result import FLIPPED, LAST, RANDOM, STEERED, UNRELATED, SweepResult
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.capture import check_edits, prompt_states
from semhub_lens.model.hooking import Hooks, n_layers, residual_names
from semhub_lens.model.readout import Readout
from semhub_lens.scores.final_states import divergence, last_states

SIDES = ("left", "right")
QUESTION = "<image> The color on the {} is"
STRENGTHS = (0.25, 0.5, 1.0)
"""In mean norms of the states at the picture's positions, entry by entry."""
LAYERS = 5
FEWEST_COLOURS = 5
"""Two in the picture, a new one, and an unrelated pair."""
KEPT, NEW, OTHER = "kept", "new", "other"
MARGIN = "new over kept"
DAMAGE = "KL to clean"
ELSEWHERE = "beyond the same vector at the other half"
ADDED, REPLACED = "added", "in place of the states"


@dataclass(frozen=True, eq=False)
class ColourItem:
    """A question about one half of a two-coloured picture, and the colour that its answer should change to."""

    prompt: Prompt
    kept: str
    """The colour of the half that is asked about."""
    new: str
    unrelated: tuple[str, str]
    """Two words whose difference should not matter."""
    asked: tuple[int, ...]
    """Positions of the patches of the half that is asked about."""
    elsewhere: tuple[int, ...]
    """Positions of the other half's."""


def run_steering(job: Job) -> ExperimentResult:
    r"""Does W_U[new] - W_U[old] at the patches of a half make the model give that half the new colour?

    $$v = \frac{W_U[\text{new}] - W_U[\text{old}]}{\lVert W_U[\text{new}] - W_U[\text{old}] \rVert}, \qquad
    h_{e,p} \leftarrow h_{e,p} + s\,\bar n_e\,v \quad\text{or}\quad h_{e,p} \leftarrow \bar n_e\,v
    \qquad\text{for all } e \ge \ell \text{ and } p \text{ of that half}$$

    with $\bar n_e$ the mean norm of the states at the pictures' positions at entry e. Read at the end of "The color on
    the left is": log p(new) - log p(old), and whether the most probable next token is the new colour, the old one or
    neither. The prompt's own positions are never changed.

    Raises:
        SemhubError: fewer than 16 items or five colour words of one token; a reader whose positions are no grid.
    """
    reader = reader_of(job, "image")
    return steering_result(job, reader, colour_items(job, reader))


def colour_items(job: Job, reader: MediaReader) -> list[ColourItem]:
    """Two-coloured pictures, asked about left and right in turn."""
    colours = [name for name in COLOURS if is_single_token(job.model.tokenizer, f" {name}", "exact")]
    if len(colours) < FEWEST_COLOURS:
        raise SemhubError(
            f"This needs {FEWEST_COLOURS} colour words of one token (with a space before it), the tokenizer has "
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
    """The question about one side of a picture, and where its halves lie.

    Raises:
        SemhubError: the grid of positions is too coarse for halves.
    """
    prompt = reader.prompt(QUESTION.format(side), picture.open())
    tile = whole_tile(prompt)
    halves = {name: tile.covered(picture.mask(name)) for name in SIDES}
    if not all(halves.values()):
        raise SemhubError(f"A grid of {tile.rows} x {tile.columns} positions has no columns for a half each.")
    other = SIDES[1 - SIDES.index(side)]
    return ColourItem(prompt, getattr(picture, side), new, unrelated, halves[side], halves[other])


def steering_result(job: Job, reader: MediaReader, items: Sequence[ColourItem]) -> ExperimentResult:
    """The four legs of items: added and replaced, graded and as shares of answers."""
    provenance = job.provenance(
        f"two-coloured pictures through {reader.name}",
        [fingerprint([item.prompt for item in items]), [(i.kept, i.new, i.unrelated, i.asked) for i in items]],
        bos=items[0].prompt.bos,
    )
    labels = [f"{item.kept} to {item.new}" for item in items]
    legs: list[Leg] = []
    extras: list[SweepResult] = []
    notes = [ADAPTER, _clean_note(job, items)]
    for manner in (ADDED, REPLACED):
        found = _sweep(job, items, provenance, manner, elsewhere=False, full=True)
        placed = _sweep(job, items, provenance, manner, elsewhere=True, full=False)
        noise = _sweep(job.random(), items, provenance, manner, elsewhere=False, full=False) if job.baseline else None
        for score, wording, random in ((MARGIN, _graded(manner), noise), (NEW, _share(manner), None)):
            legs.append(
                steering_leg(
                    found,
                    score,
                    wording,
                    provenance,
                    job.seed,
                    labels=labels,
                    random=random,
                    others={ELSEWHERE: placed},
                )
            )
        notes.append(_shares_note(found, placed, legs[-2], manner))
        extras.append(found)
    notes.append(
        "Edits lie at patches, from the chosen entry on. The same vector at the last entry alone is read by nothing, "
        "so its effect is 0 by construction: what the legs show went through attention. Damage: the share of other "
        "answers, and the KL divergence of the next token from the clean run, which the change of colour itself "
        "raises; a random direction's is drawn beside it."
    )
    title = f"{len(items)} questions on two-coloured pictures"
    return ExperimentResult("vision.steering", title, tuple(legs), tuple(notes), tuple(extras), provenance=provenance)


def _sweep(
    job: Job, items: Sequence[ColourItem], provenance: Provenance, manner: str, *, elsewhere: bool, full: bool
) -> SweepResult:
    vectors = _directions(job, [(item.new, item.kept) for item in items])
    other = _directions(job, [item.unrelated for item in items])
    norms = picture_norms(job, [item.prompt for item in items]).mean(1)
    positions = _mask(items, elsewhere)
    controls = Controls(seed=job.seed, unrelated=lambda layer: other)
    if not full:
        controls = Controls(random=1 - int(elsewhere), seed=job.seed, flipped=False, last_layer=False)
    return run_sweep(
        job,
        f"steering-{manner}" + ("-elsewhere" if elsewhere else "") + ("" if full or elsewhere else "-random"),
        colour_answers(job, items),
        lambda layer: vectors * norms[layer],
        spread(n_layers(job.model), LAYERS),
        STRENGTHS if manner == ADDED else (1.0,),
        provenance=provenance,
        recipe=from_entry_on(job, norms, positions, manner),
        controls=controls,
        damage=(OTHER, DAMAGE),
    )


def from_entry_on(job: Job, norms: Float[Tensor, " layer"], positions: Bool[Tensor, "item pos"], manner: str) -> Recipe:
    """Edit the positions at residual entry `layer` and all later ones, with the direction in each entry's mean norm."""
    names = residual_names(job.model)
    edit = hooks.add if manner == ADDED else hooks.replace

    def recipe(direction: Tensor, strength: float, layer: int) -> Hooks:
        return [
            (names[entry], edit(direction * (norms[entry] / norms[layer]), strength, positions, each="item"))
            for entry in range(layer, len(names))
        ]

    return recipe


def _directions(job: Job, pairs: Sequence[tuple[str, str]]) -> Float[Tensor, "item d_model"]:
    """Unit vectors along the differences of unembedding rows, an item each."""
    rows = [directions.unembedding(job.model, f" {plus}", f" {minus}") for plus, minus in pairs]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def _mask(items: Sequence[ColourItem], elsewhere: bool) -> Bool[Tensor, "item pos"]:
    found = torch.zeros(len(items), max(len(item.prompt) for item in items), dtype=torch.bool)
    for row, item in enumerate(items):
        found[row, list(item.elsewhere if elsewhere else item.asked)] = True
    return found


def picture_norms(job: Job, prompts: Sequence[Prompt]) -> Float[Tensor, "layer item"]:
    """Mean norm of the states at each picture's positions."""

    def measure(part: Sequence[Prompt]) -> Tensor:
        found: dict[int, Tensor] = {}
        for batch in prompt_states(job.model, part):
            found.update((i, states[:, list(part[i].spans["image"])].norm(dim=-1).mean(1)) for i, states in batch)
        return torch.stack([found[i] for i in range(len(part))], dim=1)

    return job.measured("norms", prompts, measure)


def colour_answers(job: Job, items: Sequence[ColourItem], prompts: Sequence[Prompt] | None = None) -> Measure:
    """Margin, answer and damage of every item, from one run a cell; `prompts` stand in for the items' own."""
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
            torch.tensor([float(token in row[k]) for token, row in zip(first, targets, strict=True)]) for k in (0, 1)
        )
        cost = divergence(readout, clean[0], now) if edits else torch.zeros(len(shown))
        margin = reading["targets"][0, :, 0] - reading["targets"][0, :, 1]
        return {MARGIN: margin, NEW: new, KEPT: kept, OTHER: 1 - new - kept, DAMAGE: cost}

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
        "the colour, no answer can change as predicted, and the graded legs show what there is."
    )


def _shares_note(found: SweepResult, placed: SweepResult, leg: Leg, manner: str) -> str:
    cell = found.layers.index(leg.layer), found.strengths.index(leg.strength or 0.0)

    def shares(result: SweepResult, condition: str) -> str:
        rows = {
            name: result.clean[result.names.index(name)] + result.effect(name, condition)[cell]
            for name in (NEW, KEPT, OTHER)
        }
        return ", ".join(f"{name} {float(row.mean()):.0%}" for name, row in rows.items())

    listed = [f"{condition}: {shares(found, condition)}" for condition in (STEERED, RANDOM, FLIPPED, UNRELATED, LAST)]
    listed.append(f"at the other half: {shares(placed, STEERED)}")
    return f"Answers, vector {manner}, from layer {leg.layer} on, strength {leg.strength:g}. " + "; ".join(listed) + "."


def _graded(manner: str) -> LegText:
    return LegText(
        f"new colour over the old one, vector {manner}",
        "images",
        "causality",
        "the difference of two colour words at the patches of a half moves the answer about that half from the old "
        "colour to the new one, more than a random direction of its norm",
        SIGNS,
        "nats",
        "log-probability / nats",
    )


def _share(manner: str) -> LegText:
    return replace(
        _graded(manner),
        title=f"answers with the new colour, vector {manner}",
        claim="the difference of two colour words at the patches of a half makes the model give that half the new "
        "colour, more often than a random direction of its norm",
        unit="share",
        curve_unit="share / nats",
    )
