"""Generation with hooks, exact in batches and with a KV cache.

Prompts are padded on the left, and positions count from each prompt's own start. Hooks see absolute prompt positions in
every step. Each prompt has its own random generator, so a batch gives the same texts as one prompt at a time.
"""

from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit, whole_number
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import Result, check_finite
from semhub_lens.base.rng import generator
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.media import extended
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import decode_behind
from semhub_lens.model.batches import Batch, run_batches
from semhub_lens.model.capture import check_edits
from semhub_lens.model.checks import decoding, notes
from semhub_lens.model.facts import Model, new_cache, provenance_of, step_inputs
from semhub_lens.model.hooking import (
    HookFunction,
    Hooks,
    Run,
    Window,
    hook_names,
    hooked,
    require_hooks,
    residual_names,
)
from semhub_lens.model.readout import Readout
from semhub_lens.model.resolve import as_prompts


@dataclass(frozen=True, eq=False)
class Generation(Result):
    """Continuations of prompts, as `generate` writes them."""

    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    """The continuations without the prompts, starting with their first blank; an id without a token is shown as
    "<id 123>". Tokenised again they may be other tokens: read `token_ids`, or pass the result.
    """
    token_ids: tuple[tuple[int, ...], ...]
    """The tokens of the continuations; the last one may be a token that ends a text."""

    def to_frame(self) -> pd.DataFrame:
        """One row per prompt."""
        return pd.DataFrame(
            {"prompt": self.prompts, "text": self.texts, "n_tokens": [len(ids) for ids in self.token_ids]}
        )


@torch.no_grad()
@checked
def generate(
    model: Model,
    prompts: Prompts,
    *,
    hooks: Hooks = (),
    max_new_tokens: int = 32,
    seed: int = 0,
    temperature: float = 0.0,
    use_cache: bool | None = None,
    max_tokens: int = 4096,
    show_special: bool = False,
    progress: bool = True,
) -> Generation:
    r"""Continue prompts, greedily or by sampling, with interventions and probes.

    Each step takes the most probable token, or samples from $\operatorname{softmax}(\text{logits} / T)$. A
    continuation is one sample of what the model writes. To show the effect of hooks, compare with a run without them
    and with a control.

    Args:
        model: any TransformerLens model.
        prompts: texts, `Prompt`s, token ids or chat messages, of any lengths.
        hooks: `(hook name, function)` pairs; positions of `add`, `replace`, ... are absolute prompt indices, and
            "generated" means all new tokens.
        max_new_tokens: the largest number of new tokens; a text ends earlier at a token of `end_tokens`.
        seed: for sampling; prompt i uses seed + i in any batch.
        temperature: T; 0 is greedy.
        use_cache: keep keys and values between steps. None uses a cache if it gives the same numbers as passes over all
            tokens (checked once per model, like left padding). `notes` in the provenance says if a model needs to run
            without a cache or without prompts of other lengths.
        max_tokens: the largest number of tokens in a batch.
        show_special: keep the names of special tokens (`<end_of_turn>`) in the texts.
        progress: show a progress bar.

    Returns:
        The continuations: `.texts` without the prompts, and `.token_ids`.

    Raises:
        SemhubError: empty input, unknown hook, a hook that never fired, a position past the end, `max_new_tokens` below
            1, negative temperature, `use_cache=True` on a model whose cache is wrong, a token that the model predicts
            but cannot read, NaN or infinite logits.

    Example:
        >>> len(generate(tiny_model, "three plus", max_new_tokens=2, progress=False).token_ids[0])
        2
    """
    listed = as_prompts(model, prompts)
    seed, max_new_tokens = require_settings(seed, max_new_tokens, temperature, max_tokens)
    longest = max(map(len, listed)) + max_new_tokens
    if longest > model.cfg.n_ctx:
        raise Unfit(f"Prompt and continuation need {longest} tokens, the model's context holds {model.cfg.n_ctx}.")
    require_hooks(model, hook_names(hooks))
    check_edits(hooks, listed, max_new_tokens)
    readout, ends = Readout(model, dtype="model"), end_tokens(model)
    packing, uncached = decoding(model, listed, max_new_tokens)
    if use_cache and uncached:
        raise SemhubError(f"This model has no usable key-value cache ({uncached}); leave use_cache out.")
    cached, uncached = not uncached if use_cache is None else use_cache, "" if use_cache is False else uncached
    continuations: dict[int, list[int]] = {}
    last: list[Tensor] = []

    def keep_last(activation: Tensor, hook: object) -> None:
        last[:] = [activation[:, -1].clone()]

    watched: list[tuple[str, HookFunction]] = [*hooks, (residual_names(model)[-1], keep_last)]
    bar = tqdm(total=len(listed), desc="generating", unit="prompt", disable=not progress, leave=False)
    with bar, hooked(model, watched) as run:

        def decode(batch: Batch) -> None:
            items = batch.window.items.tolist()
            cache = new_cache(model, len(items)) if cached else None
            decoder = _Decoder(model, run, readout, ends, last, temperature, cache, batch.inputs)
            seeds = [seed + item for item in items]
            new = decoder.decode([listed[item] for item in items], batch.window, seeds, max_new_tokens)
            continuations.update(zip(items, new, strict=True))

        budget = max(1, max_tokens - max_new_tokens)
        for batch in run_batches(model, listed, decode, budget, packing, per_pass=max_tokens):
            bar.update(len(batch.tokens))
    ids = tuple(tuple(continuations[i]) for i in range(len(listed)))
    before = [prompt.ids.tolist() for prompt in listed]
    texts = (decode_behind(model.tokenizer, *both, special=show_special) for both in zip(before, ids, strict=True))
    how = notes(packing, uncached)
    provenance = provenance_of(model, norm="final", seed=seed, bos=listed[0].bos, notes=how)
    return Generation(
        prompts=tuple(p.text or "" for p in listed), texts=tuple(texts), token_ids=ids, provenance=provenance
    )


def require_settings(seed: int, new: int, temperature: float, max_tokens: int = 1) -> tuple[int, int]:
    """Seed and number of new tokens as whole numbers; a SemhubError for impossible settings."""
    seed, new = whole_number(seed, "seed="), whole_number(new, "max_new_tokens=")
    generator(seed)
    if new < 1 or not temperature >= 0:
        raise SemhubError(f"Expected max_new_tokens >= 1 and temperature >= 0, got {new} and {temperature}.")
    if whole_number(max_tokens, "max_tokens=") < 1:
        raise SemhubError(f"max_tokens= is the largest number of tokens in a batch, at least 1, got {max_tokens}.")
    return seed, new


def end_tokens(model: Model) -> frozenset[int]:
    """Tokens that end a text: the tokenizer's end of sequence, and those in the model's generation config.

    A chat model ends its turn with a special token (`<end_of_turn>`, `<|eot_id|>`) that only the generation config
    lists. A `HookedTransformer` has such a config only if `semhub_lens.load` made it.
    """
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    configured = [] if listed is None else [listed] if isinstance(listed, int) else listed
    return frozenset({getattr(model.tokenizer, "eos_token_id", None), *configured} - {None})


@dataclass
class _Decoder:
    """Decodes one left-padded batch, a token at a time."""

    model: Model
    run: Run
    readout: Readout
    ends: frozenset[int]
    last: list[Tensor]
    temperature: float
    cache: object
    media: dict[str, Tensor]

    def decode(self, prompts: list[Prompt], window: Window, seeds: list[int], steps: int) -> list[list[int]]:
        width = int(window.lengths.max())
        tokens = torch.stack([torch.nn.functional.pad(p.ids, (width - len(p), 0)) for p in prompts])
        mask = torch.arange(width)[None] >= width - window.lengths[:, None]
        rngs = [generator(seed) for seed in seeds]
        new: list[list[int]] = [[] for _ in prompts]
        for _ in range(steps):
            if int(tokens.max()) >= self.model.cfg.d_vocab:
                raise Unfit(f"The model predicts token {int(tokens.max())}, but reads {self.model.cfg.d_vocab} tokens.")
            chosen = self._choose(self._step(tokens, mask, window), rngs)
            for row, token in zip(new, chosen.tolist(), strict=True):
                if self.ends.isdisjoint(row[-1:]):
                    row.append(token)
            if not any(self.ends.isdisjoint(row[-1:]) for row in new):
                break
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            mask = torch.cat([mask, torch.ones(len(chosen), 1, dtype=torch.bool)], 1)
        return new

    def _step(
        self, tokens: Int[Tensor, "batch seen"], mask: Bool[Tensor, "batch seen"], window: Window
    ) -> Float[Tensor, "batch vocab"]:
        """Logits after the last column; with a cache only the columns not yet seen are run."""
        width = int(window.lengths.max())
        seen = tokens.shape[1]
        columns = 1 if self.cache is not None and seen > width else seen
        starts = window.lengths - width + (seen - columns)
        media = extended(self.media, seen - width) if columns == seen else {}
        self.run(
            tokens[:, -columns:],
            replace(window, starts=starts, generated=seen - width),
            **step_inputs(self.model, self.cache, mask, columns, media=bool(self.media)),
            **media,
        )
        return self.readout(self.last[0])

    def _choose(self, logits: Tensor, rngs: list[torch.Generator]) -> Int[Tensor, " batch"]:
        check_finite(logits.amax(-1), "The logits in generation")  # the largest one is NaN where any is
        if self.temperature == 0:
            return logits.argmax(-1).cpu()
        below = (logits - logits.amax(-1, keepdim=True)).cpu().double()  # logits themselves overflow at small ones
        ends = (below / self.temperature).softmax(-1).cumsum(-1)
        draws = torch.cat([torch.rand(1, 1, generator=rng, dtype=torch.float64) for rng in rngs])
        # right=True never takes a token of probability 0; the total may miss 1 by rounding
        return torch.searchsorted(ends, draws * ends[:, -1:], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
