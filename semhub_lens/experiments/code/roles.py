"""Code: parameter names in the lens, just before an argument of a call."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import torch
from einops import rearrange
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.base.rng import generator
from semhub_lens.data.code.calls import Argument, Call, Calls, call_arguments
from semhub_lens.data.code.source_files import source_id
from semhub_lens.evidence.legs import ExperimentResult, Leg
from semhub_lens.evidence.stats import FEWEST_ITEMS
from semhub_lens.experiments.job import FEW, Job
from semhub_lens.experiments.legs_in_common import LensItems, Preference, preference_legs
from semhub_lens.experiments.sampling import sample
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import Speller, encode
from semhub_lens.model.facts import Model

SHORTEST_NAME = 3
"""Characters; shorter names (`x`, `fn`) do not state a role in words."""
NEIGHBOURS = 2
"""Other parameters of the same file with which an item's own is compared."""
NEW, SEEN, ALL = "name not in sight", "name in sight", "all calls"
ROLES = Preference(
    data_type="code",
    control="parameter names exchanged between calls",
    over_own=("parameter over argument", "the lens prefers the parameter's name over the argument that comes next"),
    over_wrong=(
        "own parameter over others",
        "the lens prefers the name of the parameter to be filled over other calls' parameter names",
    ),
    own="argument that comes next",
    matched="its parameter's name",
    wrong="other calls' parameter names",
)
FILE_CONTROL = "over other parameters of the same file"


@dataclass(frozen=True, eq=False, kw_only=True)
class Role:
    """A place right before an argument of a call."""

    prompt: Prompt
    """The program up to the argument."""
    name: tuple[int, int]
    """First token of the parameter's name without a space before it, and with one."""
    spaced: bool
    """Whether the program has a space before the argument; every name is then spelled with one too."""
    argument: int
    """First token of the argument."""
    neighbours: tuple[int, ...]
    """First tokens of other parameters of the same file, spelled in the same way."""
    label: str
    shows_def: bool


def run_logit_lens_roles(job: Job) -> ExperimentResult:
    """Eq. 2 before an argument of a call: is the first token of the parameter's name more probable than the argument's?

    Two legs use names that the program so far does not show. Two more use names that could be copied from it. In each
    pair, one leg compares the name with the argument that comes next. The other compares it with the parameter names of
    other calls.
    """
    groups, report = role_items(job.model, call_arguments(job.data), job.n, job.seed, paper=job.paper)
    corpus = source_id() if job.data is None else f"Python files in {job.data}"
    legs: list[Leg] = []
    for name, roles in groups.items():
        random = _read_roles(job.random(), name, roles)[0] if job.baseline else None
        read, beyond = _read_roles(job, name, roles)
        legs += preference_legs(
            read,
            replace(ROLES, prefix=f"{name}: "),
            job.provenance(corpus, [role.label for role in roles], lens=FEW, bos=roles[0].prompt.bos),
            job.seed,
            random=random,
            labels=[role.label for role in roles],
            controls={} if beyond is None else {FILE_CONTROL: beyond},
        )
    notes = (
        *report,
        "Names and arguments are read by their first token, with a space before it where the program has one. That "
        "token is often only a piece of the name.",
        "Only functions of the same file are used: models know the parameter names of built-in functions from "
        "documentation.",
    )
    title = " and ".join(f"{len(roles)} arguments ({name})" for name, roles in groups.items())
    return ExperimentResult("code.logit_lens_roles", title, tuple(legs), notes, provenance=legs[0].provenance)


def _read_roles(job: Job, name: str, roles: Sequence[Role]) -> tuple[LensItems, Tensor | None]:
    """Log-probabilities of the argument and of every name, and the right name's lead over names of the same file."""
    index = {named: i for i, named in enumerate(dict.fromkeys(role.name for role in roles))}
    key = torch.tensor([index[role.name] for role in roles])
    own = [[role.argument, *role.neighbours] for role in roles]
    spellings = [token for named in index for token in named]
    prompts = [role.prompt for role in roles]
    log_probs = job.compared(f"roles-{name}", prompts, own, common=spellings, variants="exact")
    near, both = log_probs[..., 1 : len(own[0])], log_probs[..., len(own[0]) :]
    bare, spaced = rearrange(both, "layer item (name space) -> space layer item name", space=2)
    words = torch.where(torch.tensor([role.spaced for role in roles])[:, None], spaced, bare)
    lead = words[:, torch.arange(len(roles)), key] - near.mean(2) if near.shape[2] else None
    return LensItems(log_probs[..., 0], words, key), lead


def role_items(
    model: Model, calls: Calls, n: int, seed: int, *, paper: bool = False
) -> tuple[dict[str, list[Role]], list[str]]:
    """Choose up to `n` arguments whose parameter's name is not in the program so far, and `n` whose name is.

    A name is "in sight" if the program up to the argument contains it as a word, or contains the text of its first
    token, in any case. Within a group, no two names share a first token. With `paper` all calls form one group, names
    may repeat and be short, and no other parameter of the file is needed.

    Returns:
        The groups, and a sentence on what was kept and dropped.

    Raises:
        SemhubError: `n` is too small, or both groups have too few arguments.
    """
    finder = _Finder(model, calls, seed, paper)
    listed = [(call, argument) for call in calls.calls for argument in call.arguments]
    groups: dict[str, list[Role]] = {ALL: []} if paper else {NEW: [], SEEN: []}
    owners: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in groups}
    dropped: Counter[str] = Counter()
    for index in torch.randperm(len(listed), generator=generator(seed)).tolist():
        read = finder.read(*listed[index])
        if isinstance(read, str):
            dropped[read] += 1
            continue
        group, role = read
        owner = [owners[group].get(token, role.name) for token in role.name]
        if owner != [role.name] * 2 or (role.name[0] in owners[group] and not paper):
            dropped["repeated first token of a name"] += 1
            continue
        owners[group] |= dict.fromkeys(role.name, role.name)
        groups[group].append(role)
    kept = {name: roles for name, roles in groups.items() if len(roles) >= FEWEST_ITEMS}
    if not kept:
        raise Unfit(
            f"{' and '.join(f'{len(roles)} arguments ({name})' for name, roles in groups.items())} fit, at least "
            f"{FEWEST_ITEMS} are needed; dropped: {_counts(dropped)}."
        )
    chosen = {name: [roles[i] for i in sample(len(roles), n, seed)] for name, roles in kept.items()}
    report = [f"dropped: {calls.same_name} named as their parameter, {_counts(dropped)}"]
    for name, roles in groups.items():
        shown = sum(role.shows_def for role in chosen.get(name, []))
        report.append(
            f"{name}: {len(chosen[name])} of {len(roles)} arguments; the function's def line is in {shown} programs"
            if name in chosen
            else f"{name}: not measured, only {len(roles)} arguments"
        )
    return chosen, report


def _counts(dropped: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"


class _Finder:
    """Finds the place before an argument in a tokenised program."""

    def __init__(self, model: Model, calls: Calls, seed: int, paper: bool) -> None:
        self.model, self.paper = model, paper
        self.speller, self.rng = Speller(model.tokenizer), generator(seed + 1)
        self.known: dict[tuple[str, str], int | None] = {}
        self.by_file: dict[str, list[str]] = defaultdict(list)
        for call in calls.calls:
            names = [argument.parameter for argument in call.arguments]
            self.by_file[_file(call)] += [name for name in names if len(name) >= SHORTEST_NAME]

    def read(self, call: Call, argument: Argument) -> tuple[str, Role] | str:
        """The argument's group and place, or the reason for dropping it."""
        if len(argument.parameter) < SHORTEST_NAME and not self.paper:
            return f"names of fewer than {SHORTEST_NAME} characters"
        span = (argument.offset, argument.offset + len(argument.text))
        whole = Prompt.from_text(self.model, call.snippet, spans={"argument": span})
        at = whole.spans["argument"][0]
        text = self.speller.text(int(whole.ids[at]))
        spaced = text.startswith(" ")
        if not text.strip() or not argument.text.startswith(text[spaced:]) or at < 1 + bool(whole.bos):
            return "merged with the text around the argument"
        bare, behind_space = self.first(argument.parameter, ""), self.first(argument.parameter, " ")
        if bare is None or behind_space is None:
            return "names without a first token of letters"
        name = (bare, behind_space)
        if name[spaced] == int(whole.ids[at]):
            return "same first token as the argument"
        before = call.snippet[: argument.offset]
        seen = argument.parameter_seen or self.shown(name[spaced], before)
        near = () if self.paper else self.neighbours(call, spaced, {name[spaced], int(whole.ids[at])}, before, seen)
        if not near and not self.paper:
            return "no other parameter name in the file"
        role = Role(
            prompt=Prompt.from_ids(whole.ids[:at], bos=whole.bos),
            name=name,
            spaced=spaced,
            argument=int(whole.ids[at]),
            neighbours=near,
            label=f"{call.function}({argument.parameter}={argument.text}), {call.origin}",
            shows_def=f"def {call.function}(" in before,
        )
        return (ALL if self.paper else SEEN if seen else NEW), role

    def neighbours(self, call: Call, spaced: bool, taken: set[int], before: str, seen: bool) -> tuple[int, ...]:
        """First tokens of other parameters of the file. For a name not in sight, only parameters not in sight count."""
        tokens = [self.first(name, " " * spaced) for name in self.by_file[_file(call)]]
        fresh = [t for t in dict.fromkeys(tokens) if t is not None and t not in taken]
        fit = [t for t in fresh if seen or not self.shown(t, before)]
        chosen = torch.randperm(len(fit), generator=self.rng).tolist()
        return tuple(islice(cycle([fit[i] for i in chosen]), NEIGHBOURS))

    def first(self, name: str, space: str) -> int | None:
        """First token of a name in a program, if that token starts with letters of the name.

        Some tokenizers put a space before any text, but not after a parenthesis.
        """
        if (name, space) not in self.known:
            self.known[name, space] = self._look_up(name, space)
        return self.known[name, space]

    def _look_up(self, name: str, space: str) -> int | None:
        tokenizer = self.model.tokenizer
        for token in (*encode(tokenizer, space + name)[:1], *encode(tokenizer, f"({space}{name}")[1:2]):
            text = self.speller.text(token)
            piece = text[len(space) :]
            if text.startswith(space) and piece and name.startswith(piece) and any(map(str.isalpha, piece)):
                return token
        return None

    def shown(self, token: int, before: str) -> bool:
        """Whether the text of a token occurs in the program so far."""
        return self.speller.text(token).strip().lower() in before.lower()


def _file(call: Call) -> str:
    return call.origin.rsplit(":", 1)[0]
