r"""Concept patching across prompts: does a state encode a concept independently of the language around it?

The state of a source concept's last token replaces the state of a target concept's last token in another prompt, at
residual entries l to L. At the target's last position, the probabilities of {source, target} concept x {source, target}
language are read. If the source concept becomes probable in the *target's* language, the patched states encode the
concept, and the output language comes from elsewhere. The patched state can be a mean over several prompts (languages).

A rise shows that the patched states are enough for that output. It does not show that the model itself separates
concept and language, or at which layer it computes either, because the patch covers all later entries. Few-shot prompts
can be answered partly by copying, so the source of a random other item is patched as a control.

With `whole=True`, all positions of a span are patched, also between pictures and words.

Source: Dumas et al. 2024, "Separating Tongue from Thought" (arXiv 2411.08745).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import pandas as pd
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import Result
from semhub_lens.base.rng import derangement, generator
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import Target, Variants, target_ids
from semhub_lens.interventions.direction import SALT
from semhub_lens.interventions.hooks import PositionedHook
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.capture import prompt_states, read_positions, residual_reads
from semhub_lens.model.checks import batch_notes
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, n_layers, residual_names
from semhub_lens.model.readout import Readout
from semhub_lens.model.resolve import as_prompts

FOUR_WAY = (
    "source concept, source language",
    "source concept, target language",
    "target concept, source language",
    "target concept, target language",
)

ROWS = 512
"""The number of prompt copies in one pass."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ConceptPatchResult(Result):
    """Log-probabilities of the words at the target's last position, in nats, for each patch of `concept_patch`."""

    layers: tuple[int, ...]
    """The first patched residual entry of each row on the layer axis; all later entries are patched too."""
    names: tuple[str, ...]
    """The meaning of the targets."""
    words: tuple[tuple[str, ...], ...]
    """For each item, its targets."""
    items: tuple[int, ...]
    """The measured items: those whose targets share no token."""
    averaged: tuple[int, ...]
    """For each item, the number of source prompts in the mean."""
    log_probs: Float[Tensor, "layer item target"]
    random_source: Float[Tensor, "layer item target"]
    """Control: patched with another item's source."""
    random_states: Float[Tensor, "layer item target"]
    """Control: patched with random states of the same norms."""
    unpatched: Float[Tensor, "item target"]
    dropped: int
    """Items left out because two of their targets share a token."""

    @property
    def probs(self) -> Float[Tensor, "layer item target"]:
        """Probabilities under the patch."""
        return self.log_probs.exp()

    def conditions(self) -> dict[str, Float[Tensor, "layer item target"]]:
        """Log-probabilities by condition: "patch", "random source", "random states", "no patch"."""
        return {
            "patch": self.log_probs,
            "random source": self.random_source,
            "random states": self.random_states,
            "no patch": self.unpatched.expand_as(self.log_probs),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per condition, first patched layer, item and target."""
        index = pd.MultiIndex.from_product([self.layers, self.items, self.names], names=["layer", "item", "target"])
        words = [word for _ in self.layers for row in self.words for word in row]
        frames = [
            pd.DataFrame({"condition": name, "word": words, "log_prob": values.flatten().numpy()}, index).reset_index()
            for name, values in self.conditions().items()
        ]
        return pd.concat(frames, ignore_index=True)


@checked
def concept_patch(
    model: Model,
    source_prompts: Sequence[Prompts],
    target_prompts: Prompts,
    words: Sequence[Sequence[Target]],
    *,
    seed: int,
    names: Sequence[str] = FOUR_WAY,
    span: str = "word",
    source_span: str | None = None,
    whole: bool = False,
    layers: Sequence[int] | None = None,
    variants: Variants = "space",
    max_tokens: int = 2048,
    progress: bool = True,
) -> ConceptPatchResult:
    r"""Patch a concept's states into another prompt, from each layer on, and read four words.

    For every first layer l, $h^{target}_{e,p} \leftarrow \frac1{|S|} \sum_{s \in S} h^{s}_{e,q_s}$ at all residual
    entries $e \ge l$, where p and q are the last token of the span in the target and in the source s. A rise beyond the
    random source does not show at which layer the model computes the concept.

    Args:
        model: any TransformerLens model.
        source_prompts: for each item, one prompt or several (their mean is patched), each with the span.
        target_prompts: for each item, the prompt to patch, with the span.
        words: for each item, the words to read in the order of `names`; each is a word or token id, or several
            (summed).
        seed: for the two random controls.
        names: the meaning of the words.
        span: the name of the span whose last token is patched.
        source_span: the span's name in the source prompts, if it differs.
        whole: patch all positions of the span. Spans of equal length are patched position by position; otherwise one
            source state, or the mean of several, goes into every target position.
        layers: first patched residual entries (0 = embedding, n_layers = the last state); None means all.
        variants: the spellings of a word that count; see `word_tokens`.
        max_tokens: the largest number of tokens in a batch; items, layers and controls share batches.
        progress: show a progress bar.

    Returns:
        `.log_probs` [layer item word], in nats, and the same for the controls.

    Raises:
        SemhubError: unequal numbers of items, a missing span, a layer out of range, a word of several tokens, fewer
            than two items whose words share no token (the control needs another item's source), or sources of one item
            whose whole spans differ in length.

    Example:
        >>> prompt = lambda text: Prompt.from_text(tiny_model, text, spans={"word": text.split()[1]})
        >>> result = concept_patch(
        ...     tiny_model,
        ...     [prompt("one two is"), prompt("one five is")],
        ...     [prompt("chat red is"), prompt("dog blue is")],
        ...     [["two", "2", "red", "cat"], ["five", "5", "blue", "dog"]],
        ...     seed=0,
        ...     progress=False,
        ... )
        >>> result.conditions()["random source"].shape == result.log_probs.shape == (tiny_model.cfg.n_layers + 1, 2, 4)
        True
    """
    sources = [as_prompts(model, entry) for entry in source_prompts]
    targets = as_prompts(model, target_prompts)
    _check_counts(sources, targets, words, names)
    chosen = _chosen_layers(model, layers)
    ids = [[target_ids(model.tokenizer, word, variants=variants) for word in row] for row in words]
    kept = _without_shared_tokens(ids)
    ids, targets = [ids[i] for i in kept], [targets[i] for i in kept]
    which, others = "" if whole else ":last", derangement(len(kept), generator(seed)).tolist()
    written = [read_positions(prompt, span + which) for prompt in targets]
    concepts = _concept_states(
        model, [sources[i] for i in kept], (span if source_span is None else source_span) + which, max_tokens
    )
    states = _over_positions(concepts, written)
    patches = (states, _over_positions([concepts[i] for i in others], written), _random_like(states, seed))
    readout = Readout(model)
    log_probs = []
    for patch in tqdm(patches, desc="concept patch", unit="condition", disable=not progress, leave=False):
        finals = _patched_finals(model, targets, patch, chosen, written, max_tokens)
        log_probs.append(_log_probs(readout, finals, ids))
    clean = _final_states(model, targets, (), max_tokens)
    return ConceptPatchResult(
        layers=tuple(chosen),
        names=tuple(names),
        words=tuple(tuple(word if isinstance(word, str) else repr(word) for word in words[i]) for i in kept),
        items=tuple(kept),
        averaged=tuple(len(sources[i]) for i in kept),
        log_probs=log_probs[0],
        random_source=log_probs[1],
        random_states=log_probs[2],
        unpatched=_log_probs(readout, clean[None], ids)[0],
        dropped=len(words) - len(kept),
        provenance=provenance_of(
            model, norm=readout.name, seed=seed, bos=targets[0].bos, notes=batch_notes(model, targets)
        ),
    )


def _without_shared_tokens(ids: list[list[tuple[int, ...]]]) -> list[int]:
    """The items whose words share no token."""
    kept = [i for i, row in enumerate(ids) if len({token for word in row for token in word}) == sum(map(len, row))]
    if len(kept) < 2:
        raise SemhubError(
            f"The control needs two items whose words share no token; {len(kept)} of {len(ids)} are left."
        )
    return kept


def _check_counts(
    sources: list[list[Prompt]], targets: list[Prompt], words: Sequence[Sequence[Target]], names: Sequence[str]
) -> None:
    if not len(sources) == len(targets) == len(words):
        raise SemhubError(
            f"Expected one entry per item, got {len(sources)} sources, {len(targets)} targets and {len(words)} rows of "
            "words."
        )
    for i, row in enumerate(words):
        if isinstance(row, str) or len(row) != len(names):
            raise SemhubError(f"Item {i} has the words {row!r}; expected {len(names)} of them: {'; '.join(names)}.")


def _chosen_layers(model: Model, layers: Sequence[int] | None) -> list[int]:
    entries = len(residual_names(model))
    chosen = list(range(entries)) if layers is None else list(layers)
    if not chosen or not all(0 <= layer < entries for layer in chosen):
        raise SemhubError(f"layers={layers!r} must be residual entries from 0 to {entries - 1}, at least one.")
    return chosen


def _concept_states(model: Model, sources: list[list[Prompt]], read: str, max_tokens: int) -> list[Tensor]:
    """For each item, the mean over its sources of the states at the span's positions, `[layer pos d_model]`."""
    flat = [prompt for prompts in sources for prompt in prompts]
    wanted = [read_positions(prompt, read) for prompt in flat]
    read_out: dict[int, Tensor] = {}
    for batch in prompt_states(model, flat, max_tokens=max_tokens):
        read_out.update((index, states[:, list(wanted[index])]) for index, states in batch)
    ordered = iter([read_out[index] for index in range(len(flat))])
    means = []
    for item, prompts in enumerate(sources):
        parts = list(islice(ordered, len(prompts)))
        if len({part.shape[1] for part in parts}) > 1:
            raise SemhubError(
                f"The sources of item {item} have spans of {', '.join(str(part.shape[1]) for part in parts)} "
                "positions; their states can only be averaged position by position."
            )
        means.append(torch.stack(parts).mean(0))
    return means


def _over_positions(concepts: list[Tensor], written: list[tuple[int, ...]]) -> Float[Tensor, "layer item k d_model"]:
    """Each item's states over its target positions (position by position, or one for all), padded to the longest."""
    widest = max(map(len, written))
    rows = []
    for states, positions in zip(concepts, written, strict=True):
        if states.shape[1] != len(positions):
            states = repeat(states.mean(1), "layer d_model -> layer k d_model", k=len(positions))
        rows.append(torch.nn.functional.pad(states, (0, 0, 0, widest - len(positions)), value=1.0))
    return torch.stack(rows, dim=1)


def _random_like(states: Float[Tensor, "layer item k d_model"], seed: int) -> Float[Tensor, "layer item k d_model"]:
    drawn = torch.randn(states.shape, generator=generator(seed + SALT), dtype=torch.float32)
    return drawn * (states.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True))


def _patched_finals(
    model: Model,
    targets: list[Prompt],
    states: Float[Tensor, "entry item k d_model"],
    layers: list[int],
    written: list[tuple[int, ...]],
    max_tokens: int,
) -> Float[Tensor, "layer item d_model"]:
    """The final state at the last position of every target, patched from each layer on; layers share batches."""
    step = max(1, ROWS // len(layers))
    finals = []
    for start in range(0, len(targets), step):
        block = targets[start : start + step]
        rows = [prompt for prompt in block for _ in layers]
        positions = [row for row in written[start : start + step] for _ in layers]
        first = torch.tensor(layers).repeat(len(block))
        hooks = _hooks(model, states[:, start : start + step], positions, first, len(layers))
        finals.append(_final_states(model, rows, hooks, max_tokens))
    return rearrange(torch.cat(finals), "(item layer) d_model -> layer item d_model", layer=len(layers))


def _final_states(model: Model, prompts: list[Prompt], hooks: Hooks, max_tokens: int) -> Float[Tensor, "item d_model"]:
    last = [n_layers(model)]
    read = residual_reads(model, prompts, ["last"], layers=last, hooks=hooks, max_tokens=max_tokens, progress=False)
    return read[0, 0]


def _hooks(
    model: Model, states: Tensor, written: list[tuple[int, ...]], first: Int[Tensor, " batch"], copies: int
) -> Hooks:
    """At every residual entry, the hook that writes the state into the rows whose patch has started."""

    def writer(entry: int) -> PositionedHook:
        def write_concept(current: Tensor, item: Tensor, rank: Tensor) -> Tensor:
            return states[entry].to(current.device)[item // copies, rank].to(current.dtype)

        mask = torch.zeros(len(written), max(map(max, written)) + 1, dtype=torch.bool)
        for row, (positions, begins) in enumerate(zip(written, first.tolist(), strict=True)):
            mask[row, list(positions)] = begins <= entry
        return PositionedHook("concept patch", write_concept, mask)

    names = residual_names(model)
    return [(names[entry], writer(entry)) for entry in range(int(first.min()), len(names))]


def _log_probs(
    readout: Readout, states: Float[Tensor, "layer item d_model"], sets: list[list[tuple[int, ...]]]
) -> Float[Tensor, "layer item target"]:
    """Log-probabilities of every item's targets."""
    rows = rearrange(states, "layer item d_model -> 1 (layer item) d_model")
    log_probs = reduce_logits(readout, rows, ["targets"], targets=sets * len(states))["targets"]
    return rearrange(log_probs, "1 (layer item) target -> layer item target", layer=len(states))
