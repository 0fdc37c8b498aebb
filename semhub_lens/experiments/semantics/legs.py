"""Formal semantics: sentences and their logical forms, and role words in the lens before a name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance
from semhub_lens.data.semantics.logical_forms import ROLES, SemanticItem, read_cogs, semantic_items, shuffled, swapped
from semhub_lens.evidence.legs import ExperimentResult, Leg, LegText, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, centred_contrast, centred_keys, other_keys, permuted_keys
from semhub_lens.experiments.job import COLUMNS, Job, len_of
from semhub_lens.experiments.legs_in_common import NOT_RANDOM, matched_negatives, similarity_legs, stacks_of
from semhub_lens.experiments.sampling import sample
from semhub_lens.experiments.semantics.rivals import READS, Rivals, StatesOfTexts, rivals_leg
from semhub_lens.experiments.semantics.role_prompts import RolePrompt, RolePrompts, role_prompts

OWN_FORM = LegText(
    title="own form",
    data_type="semantics",
    kind="similarity",
    claim="a sentence lies closer to its own logical form than to others",
    control="partners exchanged at random",
    unit="cosine",
    curve_unit="cosine / share",
)
GOLD_ROLE = LegText(
    title="gold role over other roles",
    data_type="semantics",
    kind="readability",
    claim="before a name, the lens prefers the word for the name's role to the words for other roles",
    control="roles shuffled among the sentences",
    unit="nats",
    curve_unit="log-probability minus its mean over roles",
)
UNDETERMINED = "absent where the words before the name leave its role open"
"""Name of the placebo: subjects, whose role depends on the later verb."""

CONFOUNDS = (
    "The state before a name does not see the name, only the words before it. In plain sentences agents follow "
    '"by" or "that", recipients "to" or a dative verb, and themes a verb of persons. So a role word can follow from '
    "the last word or from the verb alone. In clefts the last word is the same for every role; only the relative "
    "pronoun and the verb's voice differ.",
    '"Agent" and "theme" also have everyday meanings: a preference need not concern semantic roles.',
)
OWN_CONFOUNDS = (
    "The state before a name does not see the name or what follows it. In COGS the word before a name differs by "
    "role, and only the later verb tells the role of a subject.",
    CONFOUNDS[1],
)


def run_similarity(job: Job) -> ExperimentResult:
    """Eq. 1 on sentences and logical forms, against other sentences' forms and against false forms of the same words.

    The false form has the two proper names exchanged. A second pair of forms also has its conjuncts in another order,
    both true and false. With `convention="paper"` only the false form has them in another order, and only the last
    token is read.
    """
    items, named, corpus = _sentences(job)
    contests = [_swapped(named), _shuffled(named, job.seed, both=not job.paper)]
    sentences, forms = [item.sentence for item in items], [item.form for item in items]
    listed = [sentences, forms] + [texts for c in contests for texts in (c.sentences, c.true, c.false)]
    measured = _measure(job, [text for texts in listed for text in texts])
    provenance = job.provenance(corpus, listed)
    negatives = matched_negatives(job.model, sentences, forms)
    legs: list[Leg] = []
    for read in ("last",) if job.paper else READS:
        stacks = stacks_of(measured.of(sentences, read), measured.of(forms, read), negatives)
        text = replace(OWN_FORM, title=f"{OWN_FORM.title}, {READS[read]}")
        legs += similarity_legs(stacks, text, provenance, job.seed, labels=sentences)
        legs += [rivals_leg(measured, contest, read, provenance, job.seed) for contest in contests]
    notes = (
        "The false form has the same tokens as the true one. So by construction the two do not differ at the "
        "embedding layer or in a bag of embeddings.",
        f"True forms name the persons in the sentence's order in {_share(contests[0])} of the items (names swapped) "
        f"and in {_share(contests[1])} (names swapped, conjuncts shuffled). Where this is all of them, that order "
        "alone tells the forms apart.",
        "Last tokens: the sentence's full stop, the form's closing bracket.",
    )
    return ExperimentResult(
        "semantics.similarity", f"{len(items)} sentences", tuple(legs), notes, provenance=provenance
    )


def _sentences(job: Job) -> tuple[list[SemanticItem], list[SemanticItem], str]:
    """All items, the items with two names to exchange, and the data's name."""
    if job.data is None:
        sample(job.n, job.n, job.seed)  # refuses too small an n
        every = semantic_items(job.n, job.seed)
        return every, every, "generated sentences and logical forms"
    every = read_cogs(job.data)
    two = [item for item in every if len({entry.name for entry in item.names}) == len(item.names) == 2]
    if len(two) < FEWEST_ITEMS:
        raise SemhubError(
            f"{len(two)} of {len(every)} sentences in {job.data} have exactly two different names, each with one role "
            f"(agent, theme or recipient). Exchanging names needs at least {FEWEST_ITEMS} such sentences."
        )
    chosen, named = ([some[i] for i in sample(len(some), job.n, job.seed)] for some in (every, two))
    return chosen, named, f"COGS, {Path(job.data).name}"


def _swapped(items: Sequence[SemanticItem]) -> Rivals:
    return _rivals("names swapped", items, list(items), [swapped(item) for item in items])


def _shuffled(items: Sequence[SemanticItem], seed: int, *, both: bool) -> Rivals:
    """With `both`, the true and false forms share one new order, so that only the places of the names differ."""
    other = [shuffled(item, seed + i) for i, item in enumerate(items)]
    false = [swapped(item) for item in other]
    if both:
        return _rivals("names swapped, conjuncts shuffled in both", items, other, false)
    return _rivals("names swapped, conjuncts shuffled in the false form", items, list(items), false)


def _rivals(
    title: str, items: Sequence[SemanticItem], true: Sequence[SemanticItem], false: Sequence[SemanticItem]
) -> Rivals:
    words = [item.form.split(" ") for item in true]
    in_order = [
        form.index(item.names[0].name) < form.index(item.names[1].name) for item, form in zip(items, words, strict=True)
    ]
    return Rivals(
        title=title,
        sentences=[item.sentence for item in items],
        true=[item.form for item in true],
        false=[item.form for item in false],
        in_order=in_order,
    )


def _share(rivals: Rivals) -> str:
    return f"{sum(rivals.in_order)} of {len(rivals.in_order)}"


def _measure(job: Job, texts: Sequence[str]) -> StatesOfTexts:
    unique, reads = list(dict.fromkeys(texts)), list(READS)
    random = job.random().reads("texts", unique, reads) if job.baseline else None
    return StatesOfTexts({text: i for i, text in enumerate(unique)}, job.reads("texts", unique, reads), random)


def run_logit_lens(job: Job) -> ExperimentResult:
    """Eq. 2 before a proper name: does the lens prefer the word for the name's role to the words for other roles?

    Every role word's log-probability is taken minus its mean over the roles, so that a word that is always likely has
    no advantage. There are two legs: all sentences, and clefts only.
    """
    prompts = role_prompts(job)
    here, earlier = _role_words(job, "roles", prompts.listed)
    roles = Roles(
        prompts=prompts,
        here=here,
        earlier=earlier,
        random=_role_words(job.random(), "roles", prompts.listed)[0] if job.baseline else None,
        undetermined=_role_words(job, "open", prompts.undetermined)[0] if prompts.undetermined else None,
        provenance=job.provenance(
            prompts.corpus, [(p.prefix, p.name, p.role) for p in prompts.listed], lens=job.paper or COLUMNS
        ),
    )
    legs, notes = [_roles_leg(job, roles)], list(prompts.report)
    clefts = [i for i, prompt in enumerate(prompts.listed) if prompt.cleft]
    if len(clefts) >= FEWEST_ITEMS:
        legs.append(_roles_leg(job, roles.at(clefts), ", clefts only"))
    else:
        notes.append(f"Clefts only: not measured, {len(clefts)} clefts (fewer than {FEWEST_ITEMS}).")
    notes += CONFOUNDS if job.data is None else OWN_CONFOUNDS
    title = f"{len(prompts.listed)} sentences that break off before a name"
    return ExperimentResult("semantics.logit_lens", title, tuple(legs), tuple(notes), provenance=roles.provenance)


@dataclass(frozen=True, eq=False, kw_only=True)
class Roles:
    """Lens scores of every role word, at every item."""

    prompts: RolePrompts
    here: Float[Tensor, "layer item role"]
    earlier: Float[Tensor, "layer item role"]
    random: Float[Tensor, "layer item role"] | None
    undetermined: Float[Tensor, "layer item role"] | None
    provenance: Provenance

    def at(self, items: list[int]) -> "Roles":
        """The scores of some items."""
        undetermined = self.prompts.undetermined
        return replace(
            self,
            prompts=replace(
                self.prompts,
                listed=[self.prompts.listed[i] for i in items],
                undetermined=[undetermined[i] for i in items] if undetermined else [],
            ),
            here=self.here[:, items],
            earlier=self.earlier[:, items],
            random=None if self.random is None else self.random[:, items],
            undetermined=None if self.undetermined is None else self.undetermined[:, items],
        )


def _role_words(job: Job, name: str, prompts: Sequence[RolePrompt]) -> tuple[Tensor, Tensor]:
    """Log-probability of every role word minus their mean, before the name and at an earlier position.

    The reference code takes the probability, which needs the whole vocabulary.
    """
    words = [(" " if job.paper else "") + role for role in ROLES]
    prefixes = [prompt.prefix for prompt in prompts]
    at = [[prompt.earlier, len_of(prompt.prefix, job.model) - 1] for prompt in prompts]
    if job.paper:
        read = job.lens(name, prefixes, common=words, read_at=at, variants="exact", first_token=True)
        values = read.exp()
    else:
        values = job.contrast(job.states_at(name, prefixes, at), (), common=words)
    earlier, here = rearrange(values, "layer (item place) role -> place layer item role", place=2)
    return here, earlier


def _roles_leg(job: Job, roles: Roles, suffix: str = "") -> Leg:
    key = _keys(roles.prompts.listed)
    effect, centred = centred_contrast(roles.here, key), centred_keys(roles.here, key)
    own = centred[:, torch.arange(len(key)), key]
    curves = {"gold role's word": own.mean(1), "other roles' words": other_keys(centred, key).mean(1)}
    curves |= {f"gold {role} over others": effect[:, key == i].mean(1) for i, role in enumerate(ROLES)}
    placebos = {}
    if roles.random is not None:
        placebos[NOT_RANDOM] = (centred_contrast(roles.random, key), permuted_keys(roles.random, key))
    if roles.undetermined is not None:
        other = _keys(roles.prompts.undetermined)
        placebos[UNDETERMINED] = (
            centred_contrast(roles.undetermined, other),
            permuted_keys(roles.undetermined, other),
        )
    text = replace(GOLD_ROLE, title=GOLD_ROLE.title + suffix)
    if job.paper:
        text = replace(text, unit="probability", curve_unit="probability minus its mean over roles")
    return make_leg(
        effect,
        permuted_keys(roles.here, key),
        text,
        provenance=roles.provenance,
        seed=job.seed,
        curves=curves,
        controls={"more than at an earlier position": effect - centred_contrast(roles.earlier, key)},
        placebos=placebos,
        labels=[f"{prompt.prefix} [{prompt.role}]" for prompt in roles.prompts.listed],
    )


def _keys(prompts: Sequence[RolePrompt]) -> Tensor:
    return torch.tensor([prompt.key for prompt in prompts])
