"""`target_lens`: the log-probability of given words at chosen positions of many prompts, at every layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, product
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.base.progress import tqdm
from semhub_lens.base.quantities import Quantities
from semhub_lens.base.results import check_finite
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import Target, Variants, target_ids
from semhub_lens.lens.kernel import contrast_targets, reduce_logits, require_quantities
from semhub_lens.lens.logit_lens import DISTANCES, LensResult
from semhub_lens.model.capture import prompt_states, read_positions
from semhub_lens.model.checks import batch_notes, right_padding
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hook_names, require_hooks
from semhub_lens.model.readout import Norm, Readout, make_readout, output_size
from semhub_lens.model.resolve import as_prompts
from semhub_lens.model.rotary import length_effect


@dataclass(frozen=True, eq=False)
class TargetResult(Quantities):
    """Log-probabilities of targets at one position of each prompt; also `.entropy`, `.kl_to_final` [layer item].

    `target_lens` makes it; all are in nats.
    """

    log_probs: Float[Tensor, "layer item target"]
    """Log of the summed probability of each target's tokens, in nats. With `contrast`, the mean over the item's targets
    is subtracted, so that only differences within an item and layer have a meaning.
    """
    names: tuple[tuple[str, ...], ...]
    """For each item, its own targets."""
    collisions: tuple[tuple[int, int, int], ...]
    """(item, target, target) for two targets that share a token, so that it is partly compared with itself. Item -1
    means all items, if both targets are common.
    """
    common_names: tuple[str, ...] = ()
    """The targets that all items have in common; they come after an item's own."""
    contrast: bool = False
    """Whether only differences between targets were read."""

    ask: ClassVar[Mapping[str, str]] = LensResult.ask

    @checked
    def name(self, item: int, target: int) -> str:
        """The target's name.

        Args:
            item, target: the indices, from 0; common targets come after the item's own.

        Raises:
            SemhubError: no such item or target.
        """
        _, items, targets = self.log_probs.shape
        if not (0 <= item < items and 0 <= target < targets):
            raise SemhubError(f"There are {items} items of {targets} targets, counted from 0; got {item} and {target}.")
        return (*self.names[item], *self.common_names)[target]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, item and target."""
        layers, items, targets = self.log_probs.shape
        index = pd.MultiIndex.from_product(
            [range(layers), range(items), range(targets)], names=["layer", "item", "target"]
        )
        frame = pd.DataFrame({"log_prob": self.log_probs.flatten().numpy()}, index).reset_index()
        frame["name"] = [name for row in self.names for name in (*row, *self.common_names)] * layers
        return frame


@checked
def target_lens(
    model: Model,
    prompts: Prompts,
    targets: Sequence[Target | Sequence[Target]] = (),
    *,
    common: Sequence[Target] = (),
    read_at: str | int | Sequence[Sequence[int]] = "last",
    norm: Norm = "final",
    readout: Readout | None = None,
    variants: Variants = "all",
    first_token: bool = False,
    contrast: bool = False,
    quantities: Sequence[str] | None = None,
    hooks: Hooks = (),
    progress: bool = True,
) -> TargetResult:
    r"""Return the log-probability of given words at chosen positions of prompts, at every layer.

    $$\log p_\ell(w) = \log \sum_{v \in V(w)} p_\ell(v)$$

    A probable word can be read out at that layer. This does not show that the model uses it. Compare with words that
    mean something else.

    Args:
        model: any TransformerLens model.
        prompts: texts, `Prompt`s, token ids or chat messages. End a text without a blank: most tokenizers make it a
            token of its own, and the distribution after it is another one.
        targets: one entry per item (position to read): a word or token id, or a list of targets. In such a list, a word
            means its variants, an id means itself, and a list of words or ids means all of them together (probabilities
            summed). Every item has the same number of targets; () if all are common.
        common: targets for every item; in the result they come after an item's own.
        read_at: "last", a position, or "NAME:last" / the name of a span of one token: one item per prompt. Or, for each
            prompt, a list of positions: one item each, in order.
        norm: "final", "none", "paper" or "tuned"; see `Readout`.
        readout: your own `Readout` in place of `norm`.
        variants: the spellings of a word that count; see `word_tokens`.
        first_token: represent a word of several tokens by its first token.
        contrast: read only the differences between an item's targets,
            $\log p_\ell(w) - \operatorname{mean}_{w'} \log p_\ell(w')$. The normaliser cancels at one state, so only
            the targets' columns of the unembedding are read. The differences are those of the full read-out, hundreds
            of times faster. The normaliser does not cancel between states, or in a mean of probabilities over
            positions.
        quantities: other quantities to read, as in `logit_lens`; () is faster. None means entropy and KL divergence to
            the final layer, or nothing with `contrast`.
        hooks: interventions during the runs.
        progress: show a progress bar.

    Returns:
        `.log_probs` [layer item target] in nats, and the other quantities [layer item].

    Raises:
        SemhubError: empty input, unequal numbers of items and targets, a word of several tokens, a position past the
            end; with `contrast`, a single target or other quantities, which need the whole vocabulary.

    Example:
        >>> found = target_lens(tiny_model, ["three plus"], [["two", "five"]], progress=False)
        >>> found.log_probs.shape[1:], found.name(0, 1)
        (torch.Size([1, 2]), 'five')
    """
    listed = as_prompts(model, prompts)
    wanted = positions(listed, read_at)
    if quantities is None:
        quantities = () if contrast else DISTANCES
    measures = require_quantities(["targets", *quantities])
    sets = target_sets(model, targets, common, sum(map(len, wanted)), variants, first_token)
    if contrast:
        _require_contrast(sets, quantities)
    require_hooks(model, hook_names(hooks))
    reader = make_readout(model, norm, readout)
    states = states_at(model, listed, wanted, hooks, progress=progress)
    if contrast:
        measured = {"targets": contrast_targets(reader, states, sets.own, sets.common, progress=progress)}
    else:
        measured = reduce_logits(reader, states, measures, targets=sets.own, common=sets.common, progress=progress)
    return TargetResult(
        log_probs=measured.pop("targets"),
        names=sets.names,
        collisions=sets.collisions(),
        common_names=sets.common_names,
        contrast=contrast,
        measured=measured,
        provenance=provenance_of(model, norm=reader.name, bos=listed[0].bos, notes=batch_notes(model, listed)),
    )


def states_at(
    model: Model,
    prompts: Sequence[Prompt],
    wanted: Sequence[Sequence[int]],
    hooks: Hooks = (),
    *,
    progress: bool = True,
) -> Float[Tensor, "layer item d_model"]:
    """Residual states at positions of each prompt (counted from its start): one item per position, in order.

    Tokens after the last of these positions are not run if they cannot matter: without hooks, in a causal model.
    """
    ends = [max(places, default=0) + 1 for places in wanted]
    if not hooks and any(end < len(prompt) for end, prompt in zip(ends, prompts, strict=True)):
        fixed = length_effect(model, min(ends), max(map(len, prompts))) is None
        if fixed and right_padding(model).packing == "padded":
            prompts = [_head(prompt, end) for end, prompt in zip(ends, prompts, strict=True)]
    read: dict[int, Tensor] = {}
    with tqdm(total=len(prompts), desc="target lens", unit="prompt", disable=not progress, leave=False) as bar:
        for batch in prompt_states(model, prompts, hooks):
            read.update((item, states[:, list(wanted[item])]) for item, states in batch)
            bar.update(len(batch))
    states = torch.cat([read[i] for i in range(len(prompts))], dim=1)
    check_finite(states, "The residual stream")
    return states


def _head(prompt: Prompt, length: int) -> Prompt:
    """Only the first tokens; pictures, sound and embeddings are not cut."""
    if prompt.media is not None or prompt.embeddings:
        return prompt
    return Prompt(ids=prompt.ids[:length], bos=prompt.bos)


def _require_contrast(sets: "TargetSets", quantities: Sequence[str]) -> None:
    if quantities:
        raise SemhubError(
            f"contrast=True reads no quantities, because they need the whole vocabulary; got {list(quantities)}."
        )
    if len(sets.own[0]) + len(sets.common) < 2:
        raise SemhubError("contrast=True compares the targets of an item, so it needs at least two; got one.")


def positions(prompts: list[Prompt], read_at: str | int | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The positions to read in every prompt."""
    if isinstance(read_at, str) or is_index(read_at):
        wanted = [read_positions(prompt, cast(str | int, read_at)) for prompt in prompts]
        for prompt, positions in zip(prompts, wanted, strict=True):
            if len(positions) != 1:
                raise SemhubError(
                    f"read_at={read_at!r} means {len(positions)} positions of {prompt.text!r}, but a lens reads one: "
                    "use 'NAME:last', or list the positions."
                )
        return wanted
    listed = cast(Sequence[Sequence[int]], read_at)
    if len(listed) != len(prompts):
        raise SemhubError(f"Expected positions for each of {len(prompts)} prompts, got {len(listed)} lists.")
    return [tuple(read_positions(p, i)[0] for i in positions) for p, positions in zip(prompts, listed, strict=True)]


@dataclass(frozen=True, kw_only=True)
class TargetSets:
    """Token ids and names of every item's own targets, and of those that all items have in common."""

    own: list[list[tuple[int, ...]]]
    names: tuple[tuple[str, ...], ...]
    common: list[tuple[int, ...]]
    common_names: tuple[str, ...]

    def collisions(self) -> tuple[tuple[int, int, int], ...]:
        """(item, target, target) for two targets that share a token; item -1 if all items have both in common."""
        of_all = _owners(self.common, len(self.own[0]))

        @cache  # many items have the same targets
        def shared(row: tuple[tuple[int, ...], ...]) -> list[tuple[int, int]]:
            own = _owners(row, 0)
            across = {pair for token, listed in own.items() for pair in product(listed, of_all.get(token, ()))}
            return sorted(_pairs(own) | across)

        each = [(item, *pair) for item, row in enumerate(self.own) for pair in shared(tuple(row))]
        return (*((-1, *pair) for pair in sorted(_pairs(of_all))), *each)


def _owners(sets: Sequence[tuple[int, ...]], start: int) -> dict[int, list[int]]:
    """The targets, numbered from `start`, that include each token."""
    owners: dict[int, list[int]] = {}
    for target, ids in enumerate(sets, start):
        for token in set(ids):
            owners.setdefault(token, []).append(target)
    return owners


def _pairs(owners: dict[int, list[int]]) -> set[tuple[int, int]]:
    return {pair for listed in owners.values() for pair in combinations(listed, 2)}


def target_sets(
    model: Model,
    targets: Sequence[Target | Sequence[Target]],
    common: Sequence[Target],
    items: int,
    variants: Variants,
    first_token: bool,
) -> TargetSets:
    """Look up the tokens of every item's targets, and of the common ones."""
    if isinstance(common, str):
        raise SemhubError(f"Expected a list of common targets, got the text {common!r}.")
    targets, common = _plain(targets), _plain(common)
    if not targets and common:
        targets = [[]] * items
    if isinstance(targets, str) or len(targets) != items:
        raise SemhubError(
            f"Expected one entry of targets per item: {items} positions are read, got "
            f"{1 if isinstance(targets, str) else len(targets)} entries."
        )
    rows = [[entry] if isinstance(entry, str | int) else list(entry) for entry in targets]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or (0 in widths and not common):
        raise SemhubError(f"Every item needs the same number of targets, at least one; got {sorted(widths)}.")

    size = output_size(model)

    @lru_cache(maxsize=None, typed=True)  # tokenizing a word's spellings costs more than reading its probability
    def known(target: Target) -> tuple[int, ...]:
        ids = target_ids(model.tokenizer, target, variants=variants, first_token=first_token)
        for token in ids:
            if not 0 <= token < size:
                raise SemhubError(f"Target token id {token} is outside the model's vocabulary of {size}.")
        return ids

    def looked_up(row: Sequence[Target]) -> list[tuple[int, ...]]:
        return [known(tuple(t) if isinstance(t, list) else t) for t in row]

    return TargetSets(
        own=[looked_up(row) for row in rows],
        names=tuple(map(_names, rows)),
        common=looked_up(common),
        common_names=_names(common),
    )


def _plain(target: Any) -> Any:
    """A target, or several, without arrays, tensors and their numbers."""
    if not isinstance(target, str) and is_index(target):
        return int(target)
    several = isinstance(target, list | tuple | range | np.ndarray | Tensor)
    return (tuple if isinstance(target, tuple) else list)(map(_plain, target)) if several else target


def _names(row: Sequence[Target]) -> tuple[str, ...]:
    return tuple(target if isinstance(target, str) else repr(target) for target in row)
