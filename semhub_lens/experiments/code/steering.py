"""Code: steering the model to a second argument of `range(` with the English words "start" and "end"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.base.rng import generator
from semhub_lens.base.store import CHUNK
from semhub_lens.data.code.arguments import split_arguments
from semhub_lens.data.code.calls import RangePrompt, range_prompts
from semhub_lens.data.code.source_files import source_id
from semhub_lens.data.text.texts import sentences
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments import steering_legs
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import token_id
from semhub_lens.interventions.sweep import Measure
from semhub_lens.model.facts import Model
from semhub_lens.model.generation import Generation, generate
from semhub_lens.model.hooking import WINDOW, Hooks, residual_names
from semhub_lens.model.readout import Readout
from semhub_lens.scores import steering_scores
from semhub_lens.scores.final_states import log_probs_of

PLUS, MINUS = " start", " end"
STRENGTHS = (0.25, 0.5, 1.0)
"""Strengths in mean norms of the residual state at the last position."""
NEW_TOKENS = 12
LONGEST = 48
"""Tokens of a prompt; most of the cost of generation is the prompt."""
CHANGED, UNCHANGED, OTHER = "changed as predicted", "unchanged", "other"
FIRST = "0"
GRADED = 'log p("0")'
UNRELATED_TEXTS = 16
TEXTS = {
    CHANGED: steering_legs.steering_text(
        "code",
        'range(n) becomes range(0, n) with "start"',
        'the direction from "end" to "start" makes the model write a start of 0 before its own argument, more '
        "often than a random direction of its norm",
        share=True,
    ),
    GRADED: steering_legs.steering_text(
        "code",
        '"0" as the next token with "start"',
        'the direction from "end" to "start" raises the log-probability of "0" right after range(, more than a '
        "random direction of its norm",
    ),
}


@dataclass(frozen=True, eq=False)
class RangeItem:
    """A prompt that ends in `range(`, and the one argument that the unsteered model writes."""

    prompt: Prompt
    default: str
    label: str
    generated: bool
    """Whether it is a generated stub, not real code."""


def run_steering(job: Job) -> ExperimentResult:
    r"""Does W_U[" start"] - W_U[" end"] make the model write `range(0, n)` where it wrote `range(n)`?

    $$v_\ell = \frac{W_U[\text{start}] - W_U[\text{end}]}{\lVert W_U[\text{start}] - W_U[\text{end}] \rVert}\;
    \overline{\lVert h_\ell \rVert}$$

    is added with strengths .25, .5 and 1 at the last prompt position of residual entry $\ell$, in the prompt pass only.
    The mean norm is taken over the items at that layer and position, because an unembedding row is short compared with
    these states. `convention="paper"` adds the raw difference times 10 to 80, after the block whose index is $\ell$
    (entry $\ell + 1$). Three layers are steered, spread over the depth. The model writes 12 greedy tokens.

    A direction may write "start" into the output without any block reading it. The control at the last layer shows
    this.

    Raises:
        SemhubError: the model writes one argument in fewer than 16 prompts, or a word is several tokens.
    """
    _check_words(job.model)
    items, report = range_items(job, range_prompts(job.data))
    corpus = source_id() if job.data is None else f"Python files in {job.data}"
    provenance = job.provenance(corpus, [(i.prompt.ids.tolist(), i.default) for i in items], bos=items[0].prompt.bos)
    provenance = replace(provenance, padding="right, left in generation")
    steered = steering_legs.steer(
        job,
        steering_legs.Steering(
            name="steering",
            directions=lambda job: _directions(job, items),
            unrelated=lambda job: steering_legs.word_differences(job, [steering_legs.UNRELATED_PAIR])[:, 0],
            measure=lambda job: _measure(job, items),
            placebo=lambda job: steering_scores.next_token(
                job.model, [item.prompt for item in items], {GRADED: FIRST}, variants="exact", progress=job.progress
            ),
            graded=GRADED,
            strengths=steering_legs.PAPER_STRENGTHS if job.paper else STRENGTHS,
            damage=(OTHER, steering_legs.DAMAGE),
            texts=TEXTS,
            labels=[item.label for item in items],
            provenance=provenance,
        ),
    )
    notes = (
        *report,
        steering_legs.shares_note(steered, steered.legs[0], (CHANGED, UNCHANGED, OTHER), "Shares"),
        steering_legs.scale_note(job, "the last position"),
        "Where no list changes as predicted, see the graded leg. An unembedding direction can write itself into the "
        "output: the check against the last layer tests whether blocks take part.",
        f"Damage: the share of other lists, and the KL divergence at the last token of {UNRELATED_TEXTS} unrelated "
        "English sentences. The random-weight model's scores are log-probabilities only.",
    )
    title = f"{len(items)} one-argument range( calls"
    return ExperimentResult("code.steering", title, steered.legs, notes, (steered.sweep,), provenance=provenance)


def _check_words(model: Model) -> None:
    for word in (PLUS, MINUS, *steering_legs.UNRELATED_PAIR, FIRST):
        token_id(model.tokenizer, word)


def range_items(job: Job, candidates: Sequence[RangePrompt]) -> tuple[list[RangeItem], list[str]]:
    """Draw prompts until in `job.n` of them the unsteered model writes exactly one argument and a closing bracket.

    The first lines of a prompt are dropped until it has at most 48 tokens.

    Returns:
        The items, and a sentence on what was kept and dropped.

    Raises:
        SemhubError: `n` or the number of such prompts is below 16.
    """
    sample(len(candidates), job.n, job.seed)  # refuses too few before the model runs
    order = torch.randperm(len(candidates), generator=generator(job.seed)).tolist()
    drawn = [(candidates[i], shortened(job.model, candidates[i].snippet)) for i in order]
    fitting = [(candidate, prompt) for candidate, prompt in drawn if prompt is not None]
    items: list[RangeItem] = []
    dropped = {"another number of arguments": 0, f"no end within {NEW_TOKENS} tokens": 0}
    for start in range(0, len(fitting), CHUNK):
        part = fitting[start : start + CHUNK]
        written = job.continuations("clean", [prompt.text or "" for _, prompt in part], max_new_tokens=NEW_TOKENS)
        for (candidate, prompt), ids in zip(part, written, strict=True):
            if len(items) == job.n:
                break
            arguments = split_arguments(job.model.tokenizer.decode(ids, skip_special_tokens=True))
            if arguments is not None and len(arguments) == 1:
                label = f"{candidate.origin} range({arguments[0]})"
                items.append(RangeItem(prompt, arguments[0], label, candidate.generated))
            else:
                dropped[list(dropped)[arguments is None]] += 1
        if len(items) == job.n:
            break
    counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    counts += f", {len(drawn) - len(fitting)} with a last line that is too long"
    if len(items) < FEWEST_ITEMS:
        raise Unfit(
            f"The unsteered model writes exactly one argument after only {len(items)} of {len(candidates)} prompts "
            f"(dropped: {counts}); at least {FEWEST_ITEMS} are needed. Give more programs as data, or a model that "
            "knows code."
        )
    made = sum(item.generated for item in items)
    return items, [f"{len(items)} prompts ({made} of them generated stubs) of {len(candidates)}; dropped: {counts}."]


def shortened(model: Model, snippet: str) -> Prompt | None:
    """The last lines of a snippet, at most 48 tokens in all; None where its last line alone is longer."""
    room = min(LONGEST, int(model.cfg.n_ctx) - NEW_TOKENS)
    lines = snippet.split("\n")
    for first in range(len(lines)):
        prompt = Prompt.from_text(model, "\n".join(lines[first:]))
        if len(prompt) <= room:
            return prompt
    return None


def _directions(job: Job, items: Sequence[RangeItem]) -> steering_legs.Directions:
    """One direction for all items: the raw difference (paper), or scaled to the mean norm at the last position."""
    prompts = [item.prompt for item in items]
    norms = None if job.paper else steering_legs.mean_norms(job, prompts, [[len(prompt) - 1] for prompt in prompts])
    return steering_legs.word_differences(job, [(PLUS, MINUS)], norms)[:, 0]


def _measure(job: Job, items: Sequence[RangeItem]) -> Measure:
    texts = sentences()["en"][:UNRELATED_TEXTS]
    cost = steering_scores.damage(job.model, texts, items=UNRELATED_TEXTS, read_at="last", progress=job.progress)

    def spread_cost(hooks: Hooks) -> Mapping[str, Tensor]:
        """All items share one direction, so each text runs once and its cost is repeated over the items."""
        return {steering_legs.DAMAGE: cost(hooks)[steering_legs.DAMAGE][torch.arange(len(items)) % UNRELATED_TEXTS]}

    return steering_scores.together(_written(job, items), spread_cost)


def _written(job: Job, items: Sequence[RangeItem]) -> Measure:
    """Outcome shares of the continuations, and log p("0") from the same passes, which halves the cost."""
    prompts = [item.prompt for item in items]
    zero = torch.full((len(items),), token_id(job.model.tokenizer, FIRST))
    readout = Readout(job.model)

    def measure(hooks: Hooks) -> Mapping[str, Tensor]:
        states: dict[int, Tensor] = {}

        def keep(activation: Tensor, hook) -> None:
            window = hook.ctx[WINDOW]
            if not window.generated:
                states.update(zip(window.items.tolist(), activation[:, -1].detach().float().cpu(), strict=True))

        watched = [*hooks, (residual_names(job.model)[-1], keep)]
        made = generate(job.model, prompts, hooks=watched, max_new_tokens=NEW_TOKENS, progress=job.progress)
        final = torch.stack([states[i] for i in range(len(items))])
        return outcomes(made, [item.default for item in items]) | {GRADED: log_probs_of(readout, final, zero)}

    return measure


def outcomes(generation: Generation, defaults: Sequence[str]) -> dict[str, Float[Tensor, " item"]]:
    """Whether each argument list is ["0", default], [default], or other; a list that never closes is "other"."""
    written = [split_arguments(text) for text in generation.texts]
    changed = torch.tensor([a == [FIRST, d] for a, d in zip(written, defaults, strict=True)])
    same = torch.tensor([a == [d] for a, d in zip(written, defaults, strict=True)])
    shares = {CHANGED: changed, UNCHANGED: same, OTHER: ~(changed | same)}
    return {name: share.float() for name, share in shares.items()}
