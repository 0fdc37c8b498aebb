r"""Patchscopes: what does the model read from a state in the slot of another prompt?

The state $h_{\ell}$ of residual entry l replaces the state in the slot of a reading prompt at entry $\ell^*$. The rest
of the reading prompt does not change, and the blocks from $\ell^*$ on read the state. At the end of the reading prompt,
the probability of words as the next token is read:

$$p_{\ell \to \ell^*}(w \mid h) = \sum_{t \in w} \operatorname{softmax}\operatorname{readout}
  \bigl(\text{reading prompt} \mid h^{slot}_{\ell^*} \leftarrow h_\ell\bigr)_t$$

If the slot is the last token and $\ell^* = L$, this is the logit lens of the state.

A probable word shows that the state is enough for it in this prompt: later blocks can compute it from the state. It
does not show that the model's own run uses the state in this way.

Sources: Ghandeharioun et al. 2024, "Patchscopes" (arXiv 2401.06102), section 3. Dumas et al. 2024, "Separating Tongue
from Thought" (arXiv 2411.08745), for states read in another language.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import Result, check_finite
from semhub_lens.inputs.given import OnePrompt, Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import Target, Variants, printable
from semhub_lens.interventions.grid import Cell, Reference, final_states, reference
from semhub_lens.interventions.hooks import at, replace
from semhub_lens.interventions.readings import reading_prompt
from semhub_lens.lens.kernel import contrast_targets, reduce_logits
from semhub_lens.lens.targets import states_at, target_sets
from semhub_lens.model.checks import batch_notes
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.generation import generate
from semhub_lens.model.hooking import HookFunction, Hooks, n_layers, require_entry
from semhub_lens.model.readout import Readout
from semhub_lens.model.reads import read_positions
from semhub_lens.model.resolve import as_prompts, one_prompt


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchscopeResult(Result):
    """Log-probabilities of words at the end of a reading prompt, in nats, for every state in its slot.

    `patchscope` makes it.
    """

    cells: tuple[tuple[int, int], ...]
    """Source entry and target entry of each cell."""
    words: tuple[str, ...]
    """The candidates."""
    labels: tuple[str, ...]
    """The items: the texts whose states are read."""
    reading: str
    """The reading prompt."""
    log_probs: Float[Tensor, "cell item word"]
    """With `contrast`, minus the mean over the words."""
    unpatched: Float[Tensor, " word"]
    """The log-probabilities for the unchanged reading prompt."""
    texts: tuple[tuple[str, ...], ...]
    """For each cell and item, the continuation; empty if none was requested."""
    contrast: bool = False
    """Whether only differences between the words were read."""

    @property
    def best(self) -> Int[Tensor, "cell item"]:
        """The index of the most probable word."""
        return self.log_probs.argmax(-1)

    def to_frame(self) -> pd.DataFrame:
        """One row per cell, item and word."""
        axes = [range(len(self.cells)), range(len(self.labels)), self.words]
        frame = pd.MultiIndex.from_product(axes, names=["cell", "item", "word"]).to_frame(index=False)
        cells = frame.pop("cell")
        for place, name in enumerate(("source_entry", "target_entry")):
            frame.insert(place, name, [self.cells[cell][place] for cell in cells])
        frame.insert(3, "label", [self.labels[item] for item in frame["item"]])
        frame["log_prob"] = self.log_probs.flatten().numpy()
        if self.texts:
            frame["text"] = [self.texts[cell][item] for cell, item in zip(cells, frame["item"], strict=True)]
        return frame


@checked
def patchscope(
    model: Model,
    source: Prompts | Float[Tensor, "layer item d_model"],
    words: Sequence[Target],
    *,
    reading: OnePrompt | None = None,
    slot: str | int = "slot:last",
    read: str | int = "last",
    source_entries: Sequence[int] | None = None,
    target_entries: Sequence[int] | None = None,
    variants: Variants = "all",
    contrast: bool = False,
    new_tokens: int = 0,
    max_tokens: int = 1024,
    progress: bool = True,
) -> PatchscopeResult:
    r"""Put states of any layer into the slot of a reading prompt, and read words at its end.

    $p_{\ell \to \ell^*}(w \mid h)$ is the probability of w at the end of the reading prompt, after the state h of entry
    $\ell$ replaces the slot at entry $\ell^*$. States share passes of the reading prompt: they join at their target
    entry, after the keys and values of the tokens before the slot. Each cell equals a separate run with
    `at(target, hooks.replace(state, positions=slot))`.

    A probable word shows that later blocks can compute it from the state in this prompt. It does not show that the
    model's own run does so.

    Args:
        model: any causal TransformerLens model.
        source: prompts whose states are read, or states `[layer item d_model]` at every residual entry.
        words: the candidates, the same for every state; each is a word or token id, or several (summed).
        reading: the reading prompt; None means `reading_prompt(model)`, the English identity prompt.
        slot: the position in it to replace; see `residual_stream`. It must be one position.
        read: the position in each source prompt; it must be one position.
        source_entries: the residual entries of the states; None means all.
        target_entries: the residual entries to put each state into; None means its own.
        variants: the spellings of a word that count; see `word_tokens`.
        contrast: read only the differences between the words' log-probabilities, from their own columns of the
            unembedding. This is faster for a large vocabulary.
        new_tokens: also continue the reading prompt greedily by this number of tokens for every state.
        max_tokens: the largest product of rows and columns in a forward pass.
        progress: show progress bars.

    Returns:
        `.log_probs` [cell item word] in nats, with `.cells`, the pairs of source and target entry.

    Raises:
        SemhubError: no words (or one, with `contrast`), a word of several tokens, an entry out of range, a `slot` or
            `read` that is not one position, states of another model or with NaN; all before the model runs.

    Example:
        >>> reading = Prompt.from_text(tiny_model, "red red dog", spans={"slot": "dog"})
        >>> result = patchscope(tiny_model, ["three plus two", "cat"], ["two", "cat"], reading=reading, progress=False)
        >>> result.log_probs.shape == (tiny_model.cfg.n_layers + 1, 2, 2)
        True
    """
    prompt = one_prompt(model, reading_prompt(model) if reading is None else reading, "patchscope")
    place = _one_place(prompt, slot, "slot")
    cells = _cells(model, source_entries, target_entries)
    if len(words) < 1 + contrast:
        raise SemhubError(f"words= are the candidates, at least {1 + contrast}, got {list(words)}.")
    sets = target_sets(model, [], words, 1, variants, first_token=False)
    if whole_number(new_tokens, "new_tokens=") < 0 or whole_number(max_tokens, "max_tokens=") < 1:
        raise SemhubError(f"Expected new_tokens >= 0 and max_tokens >= 1, got {new_tokens} and {max_tokens}.")
    states, labels, notes = _states(model, source, read, progress)
    base = reference(model, prompt, "resid_pre", len(prompt) - 1, cached=True)
    items = len(labels)
    vectors, targets = states[[own for own, _ in cells]].flatten(0, 1), [to for _, to in cells for _ in range(items)]
    finals, slower = _finals(model, base, place, vectors, targets, max_tokens, progress)
    readout = Readout(model)
    ends = torch.cat([finals, base.final[None]])[None]
    if contrast:
        (read_out,) = contrast_targets(readout, ends, common=sets.common, progress=progress)
    else:
        (read_out,) = reduce_logits(readout, ends, ["targets"], common=sets.common, progress=progress)["targets"]
    texts: tuple[str, ...] = ()
    if new_tokens:
        hooks = slot_hooks(vectors, targets, place)
        copies = [prompt] * len(targets)
        texts = generate(model, copies, hooks=hooks, max_new_tokens=new_tokens, progress=progress).texts
    return PatchscopeResult(
        cells=tuple(cells),
        words=sets.common_names,
        labels=tuple(labels),
        reading=prompt.text or " ".join(printable(getattr(model, "tokenizer", None), prompt.ids)),
        log_probs=read_out[:-1].unflatten(0, (len(cells), items)),
        unpatched=read_out[-1],
        contrast=contrast,
        texts=tuple(texts[start : start + items] for start in range(0, len(texts), items)),
        provenance=provenance_of(model, norm=readout.name, bos=prompt.bos, notes=(*notes, *slower)),
    )


def slot_hooks(vectors: Float[Tensor, "row d_model"], targets: Sequence[int], place: int) -> Hooks:
    """Hooks for a run of several copies of a prompt: each row gets its vector at its own target entry."""
    hooks: list[tuple[str, HookFunction]] = []
    for target in dict.fromkeys(targets):
        mask = torch.zeros(len(targets), place + 1, dtype=torch.bool)
        mask[[row for row, own in enumerate(targets) if own == target], place] = True
        hooks += at(target, replace(vectors, positions=mask, each="item"))
    return hooks


def _one_place(prompt: Prompt, read: str | int, name: str) -> int:
    positions = read_positions(prompt, read)
    if len(positions) != 1 or read in ("mean", "raw_mean"):
        raise SemhubError(
            f"{name}={read!r} is not one position of {prompt.text!r}: pass a position, 'last' or 'NAME:last'."
        )
    return positions[0]


def _cells(
    model: Model, source_entries: Sequence[int] | None, target_entries: Sequence[int] | None
) -> list[tuple[int, int]]:
    for name, entries in (("source_entries", source_entries), ("target_entries", target_entries)):
        if entries is not None and not len(entries):
            raise SemhubError(f"{name}=[] has no entry: pass at least one, or None.")
    every = range(n_layers(model) + 1)
    own = [require_entry(model, entry) for entry in (every if source_entries is None else source_entries)]
    into = None if target_entries is None else [require_entry(model, entry) for entry in target_entries]
    return [(entry, target) for entry in own for target in ([entry] if into is None else into)]


def _states(
    model: Model, source: Prompts | Tensor, read: str | int, progress: bool
) -> tuple[Float[Tensor, "layer item d_model"], list[str], tuple[str, ...]]:
    """States at every entry, the items' names, and notes on the runs."""
    if isinstance(source, Tensor) and source.is_floating_point():
        shape = (n_layers(model) + 1, int(model.cfg.d_model))
        if source.ndim != 3 or (source.shape[0], source.shape[2]) != shape or not source.shape[1]:
            raise SemhubError(
                f"States of this model have shape [{shape[0]} item {shape[1]}] with at least one item, got "
                f"{tuple(source.shape)}."
            )
        check_finite(source, "The stack of states")
        return source.float().cpu(), [f"state {i}" for i in range(source.shape[1])], ()
    prompts = as_prompts(model, source)
    places = [[_one_place(prompt, read, "read")] for prompt in prompts]
    tokenizer = getattr(model, "tokenizer", None)
    labels = [prompt.text or " ".join(printable(tokenizer, prompt.ids)) for prompt in prompts]
    return states_at(model, prompts, places, progress=progress), labels, batch_notes(model, prompts)


def _finals(
    model: Model,
    base: Reference,
    place: int,
    vectors: Float[Tensor, "row d_model"],
    targets: Sequence[int],
    max_tokens: int,
    progress: bool,
) -> tuple[Float[Tensor, "row d_model"], tuple[str, ...]]:
    """The final residual state at the end of the reading prompt, with each row's state in its slot."""
    last, vectors = n_layers(model), vectors.to(base.final)
    given = Reference(prompt=base.prompt, read=0, states=vectors.expand(last, -1, -1), final=base.final, cache=None)
    run = [row for row, target in enumerate(targets) if target < last]
    cells = [Cell(targets[row], ((row, place),)) for row in run]
    with tqdm(total=len(cells), desc="reading", unit="state", disable=not progress, leave=False) as bar:
        patched, notes = final_states(model, given, base, cells, "resid_pre", max_tokens=max_tokens, bar=bar)
    # nothing reads the last entry but the position itself
    at_the_end = vectors if place == base.read else base.final.expand(len(vectors), -1)
    finals = at_the_end.clone()
    finals[run] = patched
    return finals, notes
