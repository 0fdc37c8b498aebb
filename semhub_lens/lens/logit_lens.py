r"""Logit lens: what the model would predict from each intermediate residual state.

$$p_\ell = \operatorname{softmax}\bigl(\operatorname{readout}(h_\ell)\bigr)$$

`logit_lens` reads every layer and position of one prompt. `targets.target_lens` reads given words at one position of
many prompts. A lens shows what can be read through the unembedding, not what the model "thinks". Early layers are read
with a norm and an unembedding that were not trained for them.

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
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.quantities import Quantities
from semhub_lens.base.results import check_finite, same_weights
from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import printable
from semhub_lens.lens.attribution import AttributionResult
from semhub_lens.lens.calls import call_of, entries_to_read, tokens_to_keep
from semhub_lens.lens.curves import leading_curves
from semhub_lens.lens.kernel import QUANTITIES, reduce_logits, require_quantities
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.model.capture import Capture, prompt_states
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hook_names, require_hooks
from semhub_lens.model.readout import Norm, Readout, make_readout, output_size
from semhub_lens.model.resolve import one_prompt

DISTANCES = ("entropy", "kl_to_final")
STANDARD = ("top_ids", "top_logprobs", *DISTANCES)
"""The default quantities of `logit_lens`."""


@dataclass(frozen=True, eq=False)
class LensResult(Quantities):
    r"""The lens over one prompt: the requested quantities at every layer and position, as `logit_lens` reads them.

    - `.top_ids`, `.top_logprobs` [layer pos k]: the most probable tokens, most probable first, and their
      log-probabilities in nats;
    - `.entropy` [layer pos]: the entropy of the lens distribution in nats;
    - `.kl_to_final` [layer pos]: $D_{KL}(p_L \Vert p_\ell)$ in nats, the divergence from the final distribution.
    """

    token_ids: Int[Tensor, " pos"]
    """The token ids; -1 if the probe did not get them."""
    labels: tuple[str, ...]
    """The prompt's tokens as printable texts."""
    vocabulary: tuple[tuple[int, str], ...]
    """Printable text of every id in `top_ids`."""
    languages: tuple[str, ...] = ()
    token_languages: Float[Tensor, "token lang"] | None = None
    """p(language | token) for each entry of `vocabulary`; None without a table."""
    layers: tuple[int, ...] = ()
    """The residual entries that were read, if not all; see `entries`."""
    attributions: tuple[AttributionResult, ...] = ()
    """Attributions of tokens at some positions; see `with_attribution`."""
    curve_ids: Int[Tensor, "pos curve"] | None = None
    """At each position, the tokens that lead at some layer, at most 12, the final one first; -1 if there are fewer."""
    curve_logprobs: Float[Tensor, "layer pos curve"] | None = None
    """Their log-probabilities at every layer; None without `top_ids` and `top_logprobs`."""
    call: Mapping[str, str] | None = None
    """Arguments of `logit_lens` that the other fields do not show, as code; a bare name is an object of the user's.
    None for another call."""

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
        """The same lens with the languages of its tokens, so that the page can colour them.

        Args:
            table: from `language_table(model)`, for the same model.

        Raises:
            SemhubError: the table is for another vocabulary.

        Example:
            >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
            >>> lens.with_languages(shl.script_table(tiny_model)).languages[:2]
            ('latin', 'han')
        """
        ids = torch.tensor([token for token, _ in self.vocabulary], dtype=torch.long)
        if len(ids) and int(ids.max()) >= len(table.weights):
            raise SemhubError(
                f"The table covers {len(table.weights)} tokens, but the lens has token {int(ids.max())}; build the "
                "table for the same model."
            )
        return replace(self, languages=table.languages, token_languages=table.weights[ids])

    @checked
    def with_attribution(self, *found: AttributionResult) -> "LensResult":
        """The same lens with attributions, so that the page shows them at a pinned position.

        Args:
            found: from `direct_attribution`, for the same prompt and model.

        Raises:
            SemhubError: not an attribution, a position past the end, or an attribution of another model.
        """
        for one in found:
            if one.position >= len(self.labels):
                raise SemhubError(
                    f"The attribution is for position {one.position}, the lens has {len(self.labels)}; take its prompt."
                )
            if not same_weights(one.provenance, self.provenance):
                raise SemhubError(f"The attribution is for another model, {one.provenance.model}; use the lens's.")
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
        """One row per layer and position, and per rank if the most probable tokens were requested."""
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
        """The measured quantities with one number per layer and position, by name."""
        return {name: values for name, values in self.measured.items() if values.ndim == 2}


@checked
class LogitLens:
    """Probe that reads a run through the logit lens: read-only hooks and a `result()`.

    Args:
        model: any TransformerLens model.
        top_k: the number of most probable tokens to keep per cell; None means 10, or all of a smaller vocabulary.
        norm: "final", "none", "paper" or "tuned"; see `Readout`.
        readout: your own `Readout` (for example with a translator) in place of `norm`.
        quantities: the quantities to read; see `logit_lens`.

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
        self._top_k = tokens_to_keep(top_k, self._readout.d_vocab)
        self._model = model
        self._states = Capture(model)
        self.hooks = self._states.hooks

    @checked
    def result(self, row: int = 0, *, tokens: Int[Tensor, "..."] | Sequence[int] | Prompt | None = None) -> LensResult:
        """Read out one row of the latest run.

        Args:
            row: the row of the batch.
            tokens: the row's token ids, `[pos]` or `[1, pos]`, to label the columns (hooks do not see them); without
                them, columns are labelled by position.

        Raises:
            SemhubError: nothing ran yet, no such row, or `tokens` with another length than the run.
        """
        states = self._states.result(row)
        if tokens is None:
            tokens = torch.full((states.shape[1],), -1)
        prompt = tokens if isinstance(tokens, Prompt) else Prompt.from_ids(tokens)
        if len(prompt) != states.shape[1]:
            raise SemhubError(f"The run had {states.shape[1]} positions, but {len(prompt)} tokens were given.")
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
    r"""Read every layer and position of a prompt through the logit lens.

    $$p_\ell = \operatorname{softmax}\bigl(\operatorname{readout}(h_\ell)\bigr)$$

    A lens shows what can be read through the unembedding. It does not show what the model uses or in which language it
    "thinks", and in early layers part of it is noise.

    Args:
        model: any TransformerLens model.
        prompt: a text, a `Prompt`, token ids or chat messages.
        top_k: the number of most probable tokens to keep per cell; None means 10, or all of a smaller vocabulary.
        norm: "final" (the model's final norm, then the unembedding), "none" (no norm), "paper" (no norm except at the
            last layer) or "tuned" (through the packaged translators); see `Readout`.
        readout: your own `Readout` in place of `norm`.
        quantities: names in `lens.kernel.QUANTITIES`; only these are computed.
        table: from `language_table(model)`, to colour the tokens by language; see `LensResult.with_languages`.
        layers: the residual entries to read, negative ones from the end; the last is always included. None reads all.
            For a short prompt, reading out takes most of the time.
        hooks: interventions during the run.
        progress: show a progress bar.

    Returns:
        `.top_ids`, `.top_logprobs` [layer pos k]; `.entropy`, `.kl_to_final` [layer pos], in nats.

    Raises:
        SemhubError: empty text, several prompts, top_k or a layer out of range, an unknown quantity, a table for
            another vocabulary, both `norm="none"` and `readout`.

    Example:
        >>> lens = logit_lens(tiny_model, "three plus two", top_k=2, progress=False)
        >>> lens.top_logprobs.shape[-1], len(lens.strings()[-1][-1]), list(lens.per_position())
        (2, 2, ['entropy', 'kl_to_final'])
    """
    one = one_prompt(model, prompt, "logit_lens")
    top_k, quantities = tokens_to_keep(top_k, output_size(model)), require_quantities(quantities)
    if table is not None and len(table.weights) != output_size(model):
        raise SemhubError(
            f"The table covers {len(table.weights)} tokens, the model's vocabulary has {output_size(model)}; build it "
            "for this model."
        )
    chosen = None if layers is None else entries_to_read(layers, int(model.cfg.n_layers))
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
    curve_ids, curve_logprobs = leading_curves(readout, states, measured, layers)
    return LensResult(
        token_ids=prompt.ids,
        labels=tuple(_labels(model.tokenizer, prompt)),
        vocabulary=tuple(zip(known, printable(model.tokenizer, known), strict=True)),
        measured=measured,
        layers=layers or (),
        call=call,
        curve_ids=curve_ids,
        curve_logprobs=curve_logprobs,
        provenance=provenance_of(model, norm=readout.name, bos=bos),
    )


def _labels(tokenizer: Any, prompt: Prompt) -> list[str]:
    """The label of every position: its token, the index of a spoke's vector, or, if unknown, its number."""
    if int(prompt.ids[0]) < 0:
        return [f"#{i}" for i in range(len(prompt))]
    labels = printable(tokenizer, prompt.ids.tolist())
    for name in prompt.embeddings:
        for place, position in enumerate(prompt.spans[name]):
            labels[position] = f"{name} {place + 1}"
    return labels
