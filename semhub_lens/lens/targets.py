"""What `target_lens` reads: positions of prompts, and sets of tokens for every target."""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import combinations

from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import Target, Variants, target_ids
from semhub_lens.model.capture import read_positions
from semhub_lens.model.facts import Model


def positions(prompts: list[Prompt], read_at: str | int | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Positions to read in every prompt."""
    if isinstance(read_at, str | int):
        wanted = [read_positions(prompt, read_at) for prompt in prompts]
        for prompt, positions in zip(prompts, wanted, strict=True):
            if len(positions) != 1:
                raise SemhubError(
                    f"read_at={read_at!r} names {len(positions)} positions of {prompt.text!r}, a lens reads one: use "
                    "'NAME:last', or list the positions."
                )
        return wanted
    if len(read_at) != len(prompts):
        raise SemhubError(f"Expected positions for each of {len(prompts)} prompts, got {len(read_at)} lists.")
    return [tuple(read_positions(p, i)[0] for i in positions) for p, positions in zip(prompts, read_at, strict=True)]


def collisions(sets: list[list[tuple[int, ...]]]) -> tuple[tuple[int, int, int], ...]:
    """(item, target, target) where two targets of an item share a token."""
    shared = cache(_shared)  # many items have the same targets
    return tuple((item, *pair) for item, row in enumerate(sets) for pair in shared(tuple(row)))


def _shared(row: tuple[tuple[int, ...], ...]) -> list[tuple[int, int]]:
    owners: dict[int, list[int]] = {}
    for target, ids in enumerate(row):
        for token in set(ids):
            owners.setdefault(token, []).append(target)
    return sorted({pair for listed in owners.values() for pair in combinations(listed, 2)})


def target_sets(
    model: Model, targets: Sequence[Target | Sequence[Target]], items: int, variants: Variants, first_token: bool
) -> tuple[list[list[tuple[int, ...]]], tuple[tuple[str, ...], ...]]:
    """Token ids of every item's targets, and their names."""
    if isinstance(targets, str) or len(targets) != items:
        raise SemhubError(
            f"Expected one entry of targets per item: {items} positions are read, got "
            f"{1 if isinstance(targets, str) else len(targets)} entries."
        )
    rows = [[entry] if isinstance(entry, str | int) else list(entry) for entry in targets]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        raise SemhubError(f"Every item needs equally many targets, at least one; got {sorted(widths)}.")

    @lru_cache(maxsize=None, typed=True)  # tokenizing a word's spellings costs more than reading its probability
    def known(target: Target) -> tuple[int, ...]:
        return target_ids(model.tokenizer, target, variants=variants, first_token=first_token)

    sets = [[known(tuple(t) if isinstance(t, list) else t) for t in row] for row in rows]
    for token in {token for row in sets for ids in row for token in ids}:
        if not 0 <= token < model.cfg.d_vocab:
            raise SemhubError(f"Target token id {token} is outside the model's vocabulary of {model.cfg.d_vocab}.")
    return sets, tuple(tuple(t if isinstance(t, str) else repr(t) for t in row) for row in rows)
