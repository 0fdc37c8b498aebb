r"""Logit lens: what the model would predict from each intermediate residual state.

$$p_\ell = \operatorname{softmax}\bigl(\operatorname{readout}(h_\ell)\bigr)$$

`logit_lens` reads every layer and position of one prompt, `targets.target_lens` given words at one position of many. A
lens shows readability through the unembedding, not what the model "thinks in"; early layers are read through a norm and
an unembedding that they were not trained for.

Source: nostalgebraist 2020 (logit lens); Belrose et al. 2023 (KL to the final layer, translators); Wu et al. 2025, Eq.
2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, whole_number
from semhub_lens.base.quantities import Quantities
from semhub_lens.base.results import check_finite
from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import printable
from semhub_lens.lens.attribution import AttributionResult
from semhub_lens.lens.calls import call_of
from semhub_lens.lens.kernel import QUANTITIES, reduce_logits, require_quantities
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.model.capture import Capture, prompt_states
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hook_names, require_hooks
from semhub_lens.model.readout import Norm, Readout, make_readout, output_size
from semhub_lens.model.resolve import one_prompt

DISTANCES = ("entropy", "kl_to_final")
STANDARD = ("top_ids", "top_logprobs", *DISTANCES)
"""What `logit_lens` reads unless it is told otherwise."""


@dataclass(frozen=True, eq=False)
class LensResult(Quantities):
    r"""The lens over one prompt: what was asked for, at every layer and position.

    `.top_ids`, `.top_logprobs` [layer pos k], the most probable tokens and their log-probabilities in nats, most
    probable first; `.entropy` [layer pos] of the lens distribution in nats; `.kl_to_final` [layer pos],
    $D_{KL}(p_L \Vert p_\ell)$ in nats: what the layer's distribution misses of the final one.
    """

    token_ids: Int[Tensor, " pos"]
    """-1 where the probe was not told the tokens."""
    labels: tuple[str, ...]
    """The prompt's tokens, printable."""
    vocabulary: tuple[tuple[int, str], ...]
    """Printable text of every id in `top_ids`."""
    languages: tuple[str, ...] = ()
    token_languages: Float[Tensor, "token lang"] | None = None
    """p(language | token) for each entry of `vocabulary`; None where no table was given."""
    layers: tuple[int, ...] = ()
    """The residual entries that were read, where not all were; see `entries`."""
    attributions: tuple[AttributionResult, ...] = ()
    """Who wrote the tokens at some positions; see `with_attribution`."""
    call: Mapping[str, str] | None = None
    """Arguments of `logit_lens` that the rest does not show, as code; a bare name is an object of the user's. None for
    another call."""

    ask: ClassVar[Mapping[str, str]] = {name: f"quantities=[{name!r}]" for name in QUANTITIES}

    def __repr__(self) -> str:
        layers, positions, *_ = next(iter(self.measured.values())).shape
        text = "".join(self.labels[:24]).replace("␣", " ") + ("…" if positions > 24 else "")
        lines = [f"Logit lens of {text!r}: {layers} layers x {positions} tokens, {', '.join(self.measured)}"]
        if "top_ids" in self.measured:
            listed = dict(self.vocabulary)
            likeliest = ", ".join(listed[i] for i in self.top_ids[-1, -1, :5].tolist())
            lines.append(f"Most probable after the last token: {likeliest}")
        lines.append('Next: write_html(lens, "lens.html") for the page, .to_frame() for the numbers, .save(path)')
        return "\n".join([*lines, self.provenance.line()])

    @checked
    def with_languages(self, table: LanguageTable) -> "LensResult":
        """The same lens, with the languages of its tokens, by which the page colours them.

        Args:
            table: from `language_table(model)`, of the model that was read.

        Raises:
            SemhubError: the table is of another vocabulary.

        Example:
            >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
            >>> lens.with_languages(shl.script_table(tiny_model)).languages[:2]
            ('latin', 'han')
        """
        ids = torch.tensor([token for token, _ in self.vocabulary], dtype=torch.long)
        if len(ids) and int(ids.max()) >= len(table.weights):
            raise SemhubError(
                f"The table covers {len(table.weights)} tokens, the lens holds token {int(ids.max())}; build the table "
                "for the model that was read."
            )
        return replace(self, languages=table.languages, token_languages=table.weights[ids])

    @checked
    def with_attribution(self, *found: AttributionResult) -> "LensResult":
        """The same lens, whose page shows at a pinned position who wrote its tokens.

        Args:
            found: from `direct_attribution`, of the same prompt and model.

        Raises:
            SemhubError: a position past the end, or another model's.
        """
        for one in found:
            if one.position >= len(self.labels):
                raise SemhubError(f"The attribution is of position {one.position}, the lens has {len(self.labels)}.")
            if one.provenance.weights != self.provenance.weights:
                raise SemhubError(f"The attribution is of another model ({one.provenance.model}, other weights).")
        return replace(self, attributions=(*self.attributions, *found))

    @property
    def entries(self) -> tuple[int, ...]:
        """The residual entry of every row: 0 is the embedding."""
        return self.layers or tuple(range(len(next(iter(self.measured.values())))))

    def strings(self) -> list[list[list[str]]]:
        """Printable `top_ids`, nested as [layer][pos][k]."""
        text = dict(self.vocabulary)
        return [[[text[i] for i in cell] for cell in row] for row in self.top_ids.tolist()]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, position and, where the most probable tokens were asked for, rank."""
        top = [self.measured[name] for name in ("top_ids", "top_logprobs") if name in self.measured]
        _, positions, k = top[0].shape if top else (*next(iter(self.measured.values())).shape[:2], 1)
        index = pd.MultiIndex.from_product([self.entries, range(positions), range(k)], names=["layer", "pos", "rank"])
        frame = pd.DataFrame(index=index)
        if "top_ids" in self.measured:
            frame["id"] = self.top_ids.flatten().numpy()
            frame["token"] = frame["id"].map(dict(self.vocabulary))
        if "top_logprobs" in self.measured:
            frame["logprob"] = self.top_logprobs.flatten().numpy()
        for name, values in self.per_position().items():
            frame[name] = values.flatten().repeat_interleave(k).numpy()
        frame["input"] = [self.labels[pos] for pos in frame.index.get_level_values("pos")]
        return frame.reset_index() if top else frame.reset_index().drop(columns="rank")

    def per_position(self) -> dict[str, Float[Tensor, "layer pos"]]:
        """The measured quantities that are one number at every layer and position, by name."""
        return {name: values for name, values in self.measured.items() if values.ndim == 2}


@checked
class LogitLens:
    """Probe that reads a run through the logit lens: read-only hooks and a `result()`.

    Args:
        model: any TransformerLens model.
        top_k: most probable tokens to keep per cell; None is 10, or all of a smaller vocabulary.
        norm: "final", "none" or "tuned"; see `Readout`.
        readout: a `Readout` of your own (with a translator, for instance) in place of `norm`.
        quantities: what to read; see `logit_lens`.

    Example:
        >>> lens = LogitLens(tiny_model, top_k=3)
        >>> _ = tiny_model.run_with_hooks("three plus two", fwd_hooks=lens.hooks)
        >>> lens.result().top_ids.shape[-1]
        3
    """

    def __init__(
        self,
        model: Model,
        *,
        top_k: int | None = None,
        norm: Norm = "final",
        readout: Readout | None = None,
        quantities: Sequence[str] = STANDARD,
    ) -> None:
        self._readout = make_readout(model, norm, readout)
        self._quantities = require_quantities(quantities)
        self._top_k = _kept(top_k, self._readout.d_vocab)
        self._model = model
        self._states = Capture(model)
        self.hooks = self._states.hooks

    @checked
    def result(self, row: int = 0, *, tokens: Int[Tensor, "..."] | Sequence[int] | Prompt | None = None) -> LensResult:
        """Read the latest run's `row` out.

        Args:
            row: which row of the batch.
            tokens: the row's token ids, `[pos]` or `[1, pos]`, to label the columns (hooks do not see them); without
                them columns carry their positions.

        Raises:
            SemhubError: nothing ran yet, no such row, or `tokens` of another length than the run.
        """
        states = self._states.result(row)
        if tokens is None:
            tokens = torch.full((states.shape[1],), -1)
        prompt = tokens if isinstance(tokens, Prompt) else Prompt.from_ids(tokens)
        if len(prompt) != states.shape[1]:
            raise SemhubError(f"The run had {states.shape[1]} positions, the given tokens are {len(prompt)}.")
        return _lens_result(self._model, self._readout, states, prompt, self._quantities, self._top_k, bos=None)


@checked
def logit_lens(
    model: Model,
    prompt: OnePrompt,
    *,
    top_k: int | None = None,
    norm: Norm = "final",
    readout: Readout | None = None,
    quantities: Sequence[str] = STANDARD,
    table: LanguageTable | None = None,
    layers: Sequence[int] | None = None,
    hooks: Hooks = (),
    progress: bool = True,
) -> LensResult:
    """Read every layer and position of a prompt through the logit lens.

    Args:
        model: any TransformerLens model.
        prompt: a text, a `Prompt`, token ids or chat messages.
        top_k: most probable tokens to keep per cell; None is 10, or all of a smaller vocabulary.
        norm: "final" (the model's final norm, then the unembedding), "none" (the bare state) or "tuned" (through the
            packaged translators); see `Readout`.
        readout: a `Readout` of your own in place of `norm`.
        quantities: what to read, by names in `lens.kernel.QUANTITIES`; nothing else is computed.
        table: from `language_table(model)`, to colour the tokens by language; see `LensResult.with_languages`.
        layers: the residual entries to read, negative ones from the end; the last is always read as well. None reads
            all. Reading out is most of the time of a short prompt.
        hooks: interventions to run under.
        progress: show a progress bar.

    Returns:
        `.top_ids`, `.top_logprobs` [layer pos k]; `.entropy`, `.kl_to_final` [layer pos], in nats.

    Raises:
        SemhubError: empty text, several prompts, top_k or a layer out of range, an unknown quantity, a table for
            another vocabulary, both `norm="none"` and `readout`.

    Example:
        >>> lens = logit_lens(tiny_model, "three plus two", top_k=2, progress=False)
        >>> lens.top_logprobs.shape[-1]
        2
    """
    one = one_prompt(model, prompt, "logit_lens")
    top_k, quantities = _kept(top_k, output_size(model)), require_quantities(quantities)
    if table is not None and len(table.weights) != output_size(model):
        raise SemhubError(
            f"The table covers {len(table.weights)} tokens, the model's vocabulary has {output_size(model)}; build it "
            "for this model."
        )
    chosen = None if layers is None else _chosen(layers, int(model.cfg.n_layers))
    require_hooks(model, hook_names(hooks))
    reader = make_readout(model, norm, readout)
    (((_, states),),) = prompt_states(model, [one], hooks)
    call = call_of(prompt, one, norm, {"hooks": hooks, "readout": readout})
    known = {"bos": one.bos, "layers": chosen, "call": call, "progress": progress}
    read = _lens_result(model, reader, states, one, quantities, top_k, **known)
    return read if table is None else read.with_languages(table)


def _lens_result(
    model: Model,
    readout: Readout,
    states: Tensor,
    prompt: Prompt,
    quantities: Sequence[str],
    top_k: int,
    *,
    bos: bool | None,
    layers: tuple[int, ...] | None = None,
    call: Mapping[str, str] | None = None,
    progress: bool = False,
) -> LensResult:
    check_finite(states, "The residual stream")
    measured = reduce_logits(readout, states, quantities, top_k=top_k, layers=layers, progress=progress)
    known = measured["top_ids"].unique().tolist() if "top_ids" in measured else []
    return LensResult(
        token_ids=prompt.ids,
        labels=tuple(_labels(model.tokenizer, prompt)),
        vocabulary=tuple(zip(known, printable(model.tokenizer, known), strict=True)),
        measured=measured,
        layers=layers or (),
        call=call,
        provenance=provenance_of(model, norm=readout.name, bos=bos),
    )


def _labels(tokenizer: Any, prompt: Prompt) -> list[str]:
    """What stands at every position: its token, a place of what a spoke shows, or, where unknown, its number."""
    if int(prompt.ids[0]) < 0:
        return [f"#{i}" for i in range(len(prompt))]
    labels = printable(tokenizer, prompt.ids.tolist())
    for name in prompt.embeddings:
        for place, position in enumerate(prompt.spans[name]):
            labels[position] = f"{name} {place + 1}"
    return labels


def _chosen(layers: Sequence[int], last: int) -> tuple[int, ...]:
    """Residual entries in their order, the last among them."""
    wanted = [whole_number(layer, "A layer") for layer in layers]
    if not wanted or any(not -last - 1 <= layer <= last for layer in wanted):
        raise SemhubError(f"layers= takes residual entries 0 to {last} (negative from the end), got {wanted}.")
    return tuple(sorted({layer % (last + 1) for layer in wanted} | {last}))


def _kept(top_k: int | None, d_vocab: int) -> int:
    """How many of a vocabulary's tokens are kept."""
    if top_k is None:
        return min(10, d_vocab)
    if not 1 <= top_k <= d_vocab:
        raise SemhubError(f"top_k must lie between 1 and the vocabulary's {d_vocab}, got {top_k}.")
    return top_k
