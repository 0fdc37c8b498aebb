"""Code: the word "and" in the lens at the commas of list literals."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from semhub_lens.base.rng import generator
from semhub_lens.data.code.list_literals import ListLiteral, list_literals
from semhub_lens.data.code.source_files import source_id
from semhub_lens.evidence.draws import told_apart
from semhub_lens.evidence.legs import ExperimentResult, LegText, make_leg
from semhub_lens.evidence.stats import NullDraw, other_keys, paired_contrast, sign_flips
from semhub_lens.experiments.job import FEW, Job
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import token_texts
from semhub_lens.model.facts import Model

WORDS = (" and", " or", " not")
OVER_OTHERS = LegText(
    title='"and" over "or", "not", more than elsewhere',
    data_type="code",
    kind="readability",
    claim='the lens prefers " and" to other short words at commas more than at other positions of the program',
    control="comma and other position exchanged",
    unit="nats",
    curve_unit="log-probability at the comma",
)
OVER_NEXT = LegText(
    title='"and" over the next token',
    data_type="code",
    kind="readability",
    claim='the lens prefers " and" over the code that comes next',
    control='" or" and " not" in place of " and"',
    unit="nats",
    curve_unit="log-probability at the comma",
)


def run_logit_lens_list(job: Job) -> ExperimentResult:
    """Eq. 2 at one comma of each list literal: is " and" more probable than " or" and " not", and than the next token?

    There are two controls: the same contrast at another position of the same program, and the words exchanged.
    """
    prompts, read_at, following, origins = _items(job.model, list_literals(job.data), job.n, job.seed)
    targets = [[next_id] for pair in following for next_id in pair]
    first = torch.zeros(len(prompts), dtype=torch.long)

    at_places = {
        on: on.states_at("commas", prompts, read_at) for on in ([job, job.random()] if job.baseline else [job])
    }

    def measure(on: Job) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities at the comma; the lead of " and", minus that elsewhere; its lead over the next token."""
        log_probs = on.contrast(at_places[on], targets, common=WORDS, variants="exact")
        comma, elsewhere = rearrange(log_probs, "layer (item place) target -> place layer item target", place=2)
        contrast, control = (x[..., 1] - other_keys(x[..., 1:], first) for x in (comma, elsewhere))
        over_others = told_apart(contrast - control, comma[..., 1], elsewhere[..., 1])
        return comma, over_others, told_apart(comma[..., 1] - comma[..., 0], comma[..., 1], comma[..., 0])

    def legs_of(on: Job) -> tuple[Tensor, list[tuple[Tensor, NullDraw]]]:
        comma, over_others, over_next = measure(on)
        _, exchanged = paired_contrast(comma[..., 1:], first, comma[..., 0])
        return comma, [(over_others, sign_flips(over_others)), (over_next, exchanged)]

    comma, effects = legs_of(job)
    placebos = legs_of(job.random())[1] if job.baseline else None
    corpus = source_id() if job.data is None else f"Python files in {job.data}"
    provenance = job.provenance(corpus, origins, lens=FEW, bos=prompts[0].bos)
    level = job.level(at_places[job][:, ::2], targets[::2], common=WORDS, variants="exact")
    curves = {
        name: (comma + level)[..., i].mean(1) for i, name in enumerate(("next token", *(f'"{w}"' for w in WORDS)))
    }
    legs = tuple(
        make_leg(
            effect,
            draw,
            text,
            provenance=provenance,
            seed=job.seed,
            curves=curves,
            placebos={} if placebos is None else {NOT_RANDOM: placebos[number]},
            labels=origins,
        )
        for number, ((effect, draw), text) in enumerate(zip(effects, (OVER_OTHERS, OVER_NEXT), strict=True))
    )
    notes = (f"Programs: {corpus}, one comma of each list literal.",)
    return ExperimentResult("code.logit_lens_list", f"{len(prompts)} list literals", legs, notes, provenance=provenance)


def _items(
    model: Model, literals: Sequence[ListLiteral], n: int, seed: int
) -> tuple[list[Prompt], list[list[int]], list[tuple[int, int]], list[str]]:
    """Prompts, positions of each prompt's comma and of a control, the tokens after both, and the programs' origins."""
    rng = generator(seed + 1)
    prompts, read_at, following, origins = [], [], [], []
    for index in torch.randperm(len(literals), generator=generator(seed)).tolist():
        prompt, commas = _commas(model, literals[index])
        others = [p for p in range(3, len(prompt) - 1) if p not in commas]
        if not commas or not others:
            continue
        comma, other = (listed[int(torch.randint(len(listed), (1,), generator=rng))] for listed in (commas, others))
        prompts.append(prompt)
        read_at.append([comma, other])
        following.append((int(prompt.ids[comma + 1]), int(prompt.ids[other + 1])))
        origins.append(literals[index].origin)
        if len(prompts) == n:
            break
    sample(len(prompts), n, seed)  # refuses too small an n
    return prompts, read_at, following, origins


def _commas(model: Model, literal: ListLiteral) -> tuple[Prompt, list[int]]:
    """Positions of the tokens that end with a comma between the list's elements."""
    spans = {f"comma:{i}": (at, at + 1) for i, at in enumerate(literal.commas)}
    prompt = Prompt.from_text(model, literal.snippet, spans=spans)
    texts = token_texts(model.tokenizer, prompt.ids.tolist())
    last = [positions[-1] for positions in prompt.spans.values()]
    return prompt, [p for p in last if texts[p].endswith(",") and p + 1 < len(prompt)]
