"""Measures for a sweep: scores of items with hooks, one number per item.

Each function here checks and prepares its items once and returns a function `hooks -> {name: scores}`; `together` joins
several.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.tokens import Target, Variants, target_ids
from semhub_lens.interventions.sweep import Measure
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.capture import check_edits
from semhub_lens.model.facts import Model
from semhub_lens.model.generation import Generation, generate, require_settings
from semhub_lens.model.hooking import Hooks
from semhub_lens.model.readout import Readout, output_size
from semhub_lens.model.resolve import as_prompts
from semhub_lens.scores.damage import CleanRun
from semhub_lens.scores.final_states import last_states

Scores = Mapping[str, Float[Tensor, " item"]]


@checked
def next_token(
    model: Model,
    prompts: Prompts,
    targets: Mapping[str, Target | Sequence[Target]],
    *,
    margins: Sequence[tuple[str, str]] = (),
    variants: Variants = "all",
    progress: bool = True,
) -> Measure:
    r"""Log-probability of targets as the next token of each prompt, and margins between two of them.

    $$m_i = \log p(t_i \mid x_i), \qquad m_i^{a, b} = \log p(a_i \mid x_i) - \log p(b_i \mid x_i)$$

    Args:
        model: any TransformerLens model.
        prompts: the items.
        targets: for each score, a word or token id for all prompts, or a list with one for each prompt. The
            probabilities of a target's spellings are summed.
        margins: pairs of these names; each gives a score "a over b".
        variants: the spellings that count; see `word_tokens`.
        progress: show a progress bar.

    Returns:
        A function `hooks -> {name: scores}`, in nats. A margin compares two words; it does not show that either is
        probable.

    Raises:
        SemhubError: no targets, a target without a one-token spelling, lists with another length than the prompts, or
            an unknown name or two targets that share a token in `margins`.

    Example:
        >>> measure = next_token(tiny_model, ["three plus"], {"2": "2", "3": "3"}, margins=[("2", "3")], progress=False)
        >>> list(measure(()))
        ['2', '3', '2 over 3']
    """
    listed = as_prompts(model, prompts)
    columns = [_column(model, name, target, len(listed), variants) for name, target in targets.items()]
    names = list(targets)
    if not names or any(name not in names for pair in margins for name in pair):
        raise SemhubError(
            f"targets must not be empty, and margins must be pairs of their names; got {names} and {list(margins)}."
        )
    ids = [list(row) for row in zip(*columns, strict=True)]
    for token in {token for row in ids for target in row for token in target}:
        if not 0 <= token < output_size(model):
            raise SemhubError(f"Target token id {token} is outside the model's vocabulary of {output_size(model)}.")
    for a, b in margins:
        one, other = (columns[names.index(name)] for name in (a, b))
        shared = sorted({token for row in zip(one, other, strict=True) for token in {*row[0]} & {*row[1]}})
        if shared:
            raise SemhubError(
                f"The margin {a!r} over {b!r} would compare tokens with themselves: both have the ids {shared}. Choose "
                "other words, or fewer spellings with variants=."
            )
    positions = [[len(prompt) - 1] for prompt in listed]
    readout = Readout(model)

    def measure(hooks: Hooks) -> Scores:
        check_edits(hooks, listed)
        states = last_states(model, listed, positions, hooks, progress)
        log_probs = reduce_logits(readout, states[None], ["targets"], targets=ids)["targets"][0]
        scores = dict(zip(names, log_probs.unbind(1), strict=True))
        return scores | {f"{a} over {b}": scores[a] - scores[b] for a, b in margins}

    return measure


def _column(model: Model, name: str, target: Any, count: int, variants: Variants) -> list[tuple[int, ...]]:
    if isinstance(target, str) or is_index(target):
        return [target_ids(model.tokenizer, target, variants=variants)] * count
    if len(target) != count:
        raise SemhubError(f"The score {name!r} has {len(target)} targets for {count} prompts; pass one for each.")
    return [target_ids(model.tokenizer, one, variants=variants) for one in target]


@checked
def continuations(
    model: Model,
    prompts: Prompts,
    score: Callable[[Generation], Scores],
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    progress: bool = True,
) -> Measure:
    """Scores of continuations that the model writes with the hooks, greedily or by sampling.

    Args:
        model: any TransformerLens model.
        prompts: the items.
        score: `Generation -> {name: one number per item}`; it runs without the hooks.
        max_new_tokens: length of the continuations.
        temperature: 0 is greedy.
        seed: for sampling; the same in every run, so that runs differ only by their hooks.
        progress: show progress bars.

    Returns:
        A function `hooks -> {name: scores}`. A score sees the continuations, not why the model wrote them.

    Raises:
        SemhubError: no prompts, a negative temperature or `max_new_tokens` below 1; in a run, the errors of `generate`.

    Example:
        >>> length = lambda written: {"characters": torch.tensor([float(len(text)) for text in written.texts])}
        >>> measure = continuations(tiny_model, ["three plus"], length, max_new_tokens=2, progress=False)
        >>> float(measure(())["characters"][0]) > 0
        True
    """
    listed = as_prompts(model, prompts)
    require_settings(seed, max_new_tokens, temperature)

    def measure(hooks: Hooks) -> Scores:
        written = generate(
            model,
            listed,
            hooks=hooks,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            progress=progress,
        )
        return score(written)

    return measure


@checked
def damage(
    model: Model,
    texts: Prompts,
    *,
    items: int,
    read_at: str | int = "mean",
    name: str = "KL to clean",
    progress: bool = True,
) -> Measure:
    r"""Mean $D_{KL}(\text{clean} \Vert \text{steered})$ on unrelated texts, in nats (`kl_to_clean`).

    Item i is measured on text i (modulo the number of texts), so a hook can have a direction for each item. Read at the
    positions that the hooks can change: an edit of the last position changes nothing before it, so read its damage at
    "last".

    Args:
        model: any TransformerLens model.
        texts: unrelated texts.
        items: the number of items in the sweep.
        read_at: positions to average over.
        name: the name of the score.
        progress: show a progress bar.

    Returns:
        A function `hooks -> {name: scores}`.

    Raises:
        SemhubError: no texts or items, or a position that a text lacks.

    Example:
        >>> measure = damage(tiny_model, ["three plus two", "dog"], items=3, progress=False)
        >>> measure(())["KL to clean"]
        tensor([0., 0., 0.])
    """
    listed = as_prompts(model, texts)
    if items < 1:
        raise SemhubError(f"Damage is measured for at least one item, got items={items}.")
    run = CleanRun(model, [listed[i % len(listed)] for i in range(items)], read_at=read_at, progress=progress)
    return lambda hooks: {name: run(hooks) if hooks else torch.zeros(items, dtype=torch.float32)}


@checked
def together(*parts: Measure) -> Measure:
    """Join several measures of the same items into one.

    Args:
        parts: functions `hooks -> {name: scores}`, such as those of `next_token` and `damage`.

    Returns:
        A function `hooks -> {name: scores}` with the scores of all parts.

    Raises:
        SemhubError: one is not a function; (when run) two of them return a score with the same name.

    Example:
        >>> one = damage(tiny_model, ["three plus two"], items=1, name="damage", progress=False)
        >>> two = next_token(tiny_model, ["three plus"], {"2": "2"}, progress=False)
        >>> list(together(one, two)(()))
        ['damage', '2']
    """

    def measure(hooks: Hooks) -> Scores:
        joined: dict[str, Tensor] = {}
        for part in parts:
            scores = part(hooks)
            if both := joined.keys() & scores.keys():
                raise SemhubError(f"Two measures return {', '.join(sorted(both))}; rename one.")
            joined |= scores
        return joined

    return measure
