"""Choosing items: texts that stop before a one-token proper name."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.data.semantics.lexicon import NAMES
from semhub_lens.data.semantics.logical_forms import ROLES, SemanticItem, read_cogs
from semhub_lens.data.semantics.roles import role_items
from semhub_lens.experiments.job import Job
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import encode
from semhub_lens.model.facts import Model

FEWEST_NAMES = 8
"""One-token names that the tokenizer must have, so that redrawing names has an effect."""


@dataclass(frozen=True)
class RolePrompt:
    """A text up to the token before a name, and the name's role in the whole sentence."""

    prefix: str
    name: str
    role: str
    earlier: int
    """Another, random position of the text."""
    cleft: bool = False
    """Whether position and preceding word are the same for every role."""

    @property
    def key(self) -> int:
        """The role's index."""
        return ROLES.index(self.role)


@dataclass(frozen=True)
class RolePrompts:
    """Items of `semantics.logit_lens`."""

    listed: list[RolePrompt]
    undetermined: list[RolePrompt]
    """Subjects, whose role is still open before them; empty for the user's own data."""
    corpus: str
    report: tuple[str, ...]
    """A sentence on what was kept and dropped."""


def role_prompts(job: Job) -> RolePrompts:
    """The prompts, generated or from the user's COGS files, with one-token names.

    Raises:
        SemhubError: there are too few one-token names, or too few sentences of some role.
    """
    sample(job.n, job.n, job.seed)  # refuses too small an n
    names = [name for name in NAMES if len(encode(job.model.tokenizer, " " + name)) == 1]
    names = [name for name in names if encode(job.model.tokenizer, " " + name)[0] != _unknown(job.model)]
    if len(names) < FEWEST_NAMES:
        raise Unfit(
            f"For this tokenizer {len(names)} of {len(NAMES)} names are one token each; expected at least "
            f"{FEWEST_NAMES}. Choose a model whose tokenizer keeps common first names whole."
        )
    report = f"{len(NAMES) - len(names)} of {len(NAMES)} names are several tokens and are not drawn"
    if job.data is not None:
        prompts, dropped = _from_cogs(job, names)
        return RolePrompts(prompts, [], f"COGS, {Path(job.data).name}", (f"{report}; {dropped}.",))
    chosen, control = (role_items(job.n, job.seed, names, determined=fixed) for fixed in (True, False))
    rng = random.Random(job.seed)
    determined, left_open = (
        [_role_prompt(job.model, item.prefix, item.name, item.role, rng, item.cleft) for item in items]
        for items in (chosen, control)
    )
    both = [(a, b) for a, b in zip(determined, left_open, strict=True) if a and b]
    dropped = f"{job.n - len(both)} of {job.n} sentences dropped because the name joins the token before it"
    sample(len(both), job.n, job.seed)
    listed, undetermined = (list(side) for side in zip(*both, strict=True))
    return RolePrompts(listed, undetermined, "generated role sentences", (f"{report}; {dropped}.",))


def _unknown(model: Model) -> int | None:
    return getattr(model.tokenizer, "unk_token_id", None)


def _role_prompt(
    model: Model, prefix: str, name: str, role: str, rng: random.Random, cleft: bool = False
) -> RolePrompt | None:
    """The prompt; None where the name does not start its own token, or the text has no other position."""
    before, whole = (encode(model.tokenizer, text) for text in (prefix, f"{prefix} {name}"))
    prompt = Prompt.from_text(model, prefix)
    positions = range(int(bool(prompt.bos)), len(prompt) - 1)
    if whole[:-1] != before or not positions:
        return None
    return RolePrompt(prefix, name, role, rng.choice(positions), cleft)


def _from_cogs(job: Job, names: Sequence[str]) -> tuple[list[RolePrompt], str]:
    """One name per sentence, not at its start; equally many of each role, as the rarest allows; all names redrawn."""
    assert job.data is not None
    every, rng = read_cogs(job.data), random.Random(job.seed)
    rng.shuffle(every)
    by_prefix: dict[str, RolePrompt] = {}
    joined = 0
    for item in every:
        inner = [entry for entry in item.names if entry.start > 0]
        if inner and len(item.names) <= len(names):
            target = rng.choice(inner)
            prompt = _role_prompt(job.model, *_redrawn(item, target.start, names, rng), target.role, rng)
            joined += prompt is None
            if prompt:
                by_prefix.setdefault(prompt.prefix, prompt)
    groups = [[prompt for prompt in by_prefix.values() if prompt.role == role] for role in ROLES]
    each = min(job.n // len(ROLES), *map(len, groups))
    counts = ", ".join(f"{len(group)} {role}" for role, group in zip(ROLES, groups, strict=True))
    if each < FEWEST_NAMES:
        raise SemhubError(
            f"{job.data} has too few sentences with a name after the first word: {counts}; expected at least "
            f"{FEWEST_NAMES} of each role."
        )
    report = f"{each} of each role, from {counts}; {joined} dropped because the name joins the token before it"
    return [prompt for row in zip(*(group[:each] for group in groups), strict=True) for prompt in row], report


def _redrawn(item: SemanticItem, at: int, names: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """The text before the name at `at`, and that name, after all names are redrawn."""
    drawn = dict(zip((entry.start for entry in item.names), rng.sample(list(names), len(item.names)), strict=True))
    prefix = item.sentence[:at]
    for entry in sorted(item.names, key=lambda e: -e.start):
        if entry.start < at:
            prefix = prefix[: entry.start] + drawn[entry.start] + prefix[entry.start + len(entry.name) :]
    return prefix.rstrip(" "), drawn[at]
