r"""Activation patching over whole grids, exact and fast, and its gradient approximation.

A patch writes the clean run's activation at one layer and position into the corrupted run (Vig et al. 2020; Meng et al.
2022; Heimersheim and Nanda 2024). With m the metric and $h^{c}$, $h^{k}$ the clean and corrupted activations:

$$e_{\ell,p} = m\bigl(\text{corrupted run} \mid h_{\ell,p} \leftarrow h^{c}_{\ell,p}\bigr) - m(\text{corrupted run})$$

A patch with an effect shows that the activation is enough to move this metric between these two prompts. It does not
show that the activation is needed, or what it means. Another corrupted prompt tests something else. Effects do not add
up.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, TypeVar

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.base.progress import tqdm
from semhub_lens.inputs.given import OnePrompt
from semhub_lens.inputs.media import joined
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import printable
from semhub_lens.interventions.grid import Cell, Reference, final_states, reference, unplaced
from semhub_lens.interventions.metric import LogitsMetric, Metric, MetricFunction, read_position
from semhub_lens.interventions.patch_results import ApproximatePatchResult, PatchResult
from semhub_lens.lens.kernel import BLOCK_ENTRIES
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hooked, n_layers, require_hooks, residual_names, site_name
from semhub_lens.model.readout import Readout
from semhub_lens.model.resolve import one_prompt

R = TypeVar("R", bound=PatchResult)
Pairs = Sequence[tuple[int, int]]
"""`(clean position, corrupted position)`; negative ones count from the prompt's end."""
WHOLE = "A function of logits [batch pos vocab] to one number, as in TransformerLens, goes in shl.metric.of_logits(...)"
PATCH_SITES = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "z")


@checked
def patch_grid(
    model: Model,
    clean: OnePrompt,
    corrupted: OnePrompt,
    metric: MetricFunction | LogitsMetric,
    *,
    site: str = "resid_pre",
    positions: Pairs | None = None,
    all_positions: bool = False,
    read: str | int = "last",
    max_tokens: int = 1024,
    progress: bool = True,
) -> PatchResult:
    r"""Patch clean activations into the corrupted run, one cell of layers x positions at a time.

    $e_{\ell,p} = m(\text{corrupted} \mid h_{\ell,p} \leftarrow h^{c}_{\ell,p}) - m(\text{corrupted})$ is `.effect`. It
    shows that an activation is enough to move the metric between these two prompts, not that it is needed.

    Every cell equals a separate run. Many cells share a forward pass, which they join at their layer. Only the
    positions from the patched one on are run, and only the position that is read is unembedded. Cells with two
    identical activations are not run. If a model's rows cannot join a pass at their layer (ALiBi, keys that layers
    share), they run from the start, which is slower; `notes` in the provenance says so.

    Args:
        model: any causal TransformerLens model.
        clean, corrupted: two prompts, as texts, `Prompt`s or token ids; activations go from the first to the second.
        metric: a function from the logits `[batch vocab]` *at the position that is read* to `[batch]`: from
            `shl.metric` (`logit_difference`, `log_prob`, `kl`) or your own. Wrap a metric of TransformerLens' own
            patching in `shl.metric.of_logits`.
        site: "resid_pre", "resid_mid", "attn_out", "mlp_out", or "z" for single heads (`[layer pos head]`).
        positions: pairs (clean, corrupted); needed for prompts of unequal length. None pairs equal positions.
        all_positions: with `site="z"`, patch a head at all positions at once (`[layer head]`).
        read: the position at which the metric reads each prompt; see `residual_stream`. It must be one position.
        max_tokens: the largest product of rows and columns in a forward pass.
        progress: show a progress bar.

    Returns:
        `.values` [layer pos] (the metric after each patch), `.clean`, `.corrupted`, and `.normalised`.

    Raises:
        SemhubError: prompts of unequal length without `positions`, positions past the end, unknown site, a `read` with
            several positions, a metric that returns NaN, infinity or another shape, or a model whose batched passes do
            not reproduce its own run (not causal).

    Example:
        >>> metric = shl.metric.logit_difference(tiny_model, " two", " five")
        >>> result = patch_grid(tiny_model, "three plus two", "four plus two", metric, progress=False)
        >>> [round(float(e), 4) for e in result.normalised[0]]  # BOS, the word that differs, the rest
        [0.0, 1.0, 0.0, 0.0]
    """
    task = _Task(
        model, clean, corrupted, metric, site=site, positions=positions, heads_at_once=all_positions, read=read,
        max_tokens=max_tokens,
    )  # fmt: skip
    good, bad = task.reference(0), task.reference(1, cached=True)
    ends = torch.cat([task.scores(run.final[None], side) for side, run in enumerate((good, bad))])
    shape, cells = _cells(good, bad, task.pairs, all_positions)
    values = ends[1].repeat(shape)
    with tqdm(total=len(cells), desc="patching", unit="cell", disable=not progress, leave=False) as bar:
        states, notes = final_states(model, good, bad, list(cells.values()), site, max_tokens=max_tokens, bar=bar)
    if cells:
        values.view(-1)[list(cells)] = task.scores(states)
    return task.result(PatchResult, values, ends, notes)


@checked
def attribution_grid(
    model: Model,
    clean: OnePrompt,
    corrupted: OnePrompt,
    metric: MetricFunction | LogitsMetric,
    *,
    site: str = "resid_pre",
    positions: Pairs | None = None,
    all_positions: bool = False,
    read: str | int = "last",
) -> ApproximatePatchResult:
    r"""Approximate `patch_grid` to first order, from two forward passes and one backward pass.

    $$\hat e_{\ell,p} = (h^{c}_{\ell,p} - h^{k}_{\ell,p}) \cdot \frac{\partial m}{\partial h_{\ell,p}}$$

    at the corrupted run (attribution patching, Nanda 2023; Syed et al. 2023). It is exact only if the metric is linear
    along the patch. Norms and softmaxes are not linear, so the error is largest for whole residual states. Check the
    cells that matter with `patch_grid`.

    Args:
        model, clean, corrupted, metric, site, positions, all_positions, read: as in `patch_grid`; the metric must be
            differentiable.

    Raises:
        SemhubError: as for `patch_grid`; a metric without a gradient.

    Example:
        >>> metric = shl.metric.logit_difference(tiny_model, " two", " five")
        >>> attribution_grid(tiny_model, "three plus two", "four plus two", metric).values.shape
        torch.Size([3, 4])
    """
    task = _Task(
        model, clean, corrupted, metric, site=site, positions=positions, heads_at_once=all_positions, read=read
    )
    good = task.reference(0)
    states, gradient, bad = task.gradient()
    ends = torch.cat([task.scores(good.final[None], 0), bad])
    cleans, corrupted_ones = (list(side) for side in zip(*task.pairs, strict=True))
    difference = good.states[:, cleans].to(states).float() - states[:, corrupted_ones].float()
    effect = einsum(
        difference, gradient[:, corrupted_ones].float(), "layer pos ... d, layer pos ... d -> layer pos ..."
    )
    effect = effect.cpu().sum(1) if all_positions else effect.cpu()
    return task.result(ApproximatePatchResult, ends[1] + effect, ends)


class _Task:
    """Two prompts, the patches from the first into the second, and the metric."""

    def __init__(
        self,
        model: Model,
        clean: OnePrompt,
        corrupted: OnePrompt,
        metric: MetricFunction | LogitsMetric,
        *,
        site: str,
        positions: Pairs | None,
        heads_at_once: bool,
        read: str | int,
        max_tokens: int = 1,
    ) -> None:
        if site not in PATCH_SITES:
            raise SemhubError(f"Unknown site {site!r}; expected one of {', '.join(PATCH_SITES)}.")
        if max_tokens < 1:
            raise SemhubError(
                f"max_tokens= is the largest product of rows and columns in a pass, at least 1, got {max_tokens}."
            )
        if heads_at_once and site != "z":
            raise SemhubError(f"all_positions=True patches heads (site='z'), got site={site!r}.")
        if not callable(metric) and not isinstance(metric, LogitsMetric):
            raise SemhubError(f"A metric is a function logits [batch vocab] -> [batch], got {metric!r}.")
        self._model, self._site = model, site
        self._pair = [one_prompt(model, prompt, "A patch grid") for prompt in (clean, corrupted)]
        require_hooks(model, [site_name(layer, site) for layer in range(n_layers(model))])
        self.pairs = _pairs(model, self._pair, positions)
        if heads_at_once and len({target for _, target in self.pairs}) < len(self.pairs):
            raise SemhubError(
                "all_positions=True writes all pairs at once, but a corrupted position occurs twice in them."
            )
        self._axes = ("layer", "head") if heads_at_once else ("layer", "pos", "head")
        self._reads = [read_position(prompt, read) for prompt in self._pair]
        self._readout = Readout(model)
        self._tokens = metric.tokens if isinstance(metric, Metric) else None
        named = isinstance(metric, Metric | LogitsMetric)
        self._name = metric.name if named else getattr(metric, "__name__", type(metric).__name__)
        self._metrics = [
            metric.at(read, len(prompt)) if isinstance(metric, LogitsMetric) else metric
            for read, prompt in zip(self._reads, self._pair, strict=True)
        ]

    def reference(self, side: int, *, cached: bool = False) -> Reference:
        """The unpatched run of the clean (0) or the corrupted prompt (1)."""
        return reference(self._model, self._pair[side], self._site, self._reads[side], cached=cached)

    def scores(self, states: Float[Tensor, "cell d_model"], side: int = 1) -> Float[Tensor, " cell"]:
        """The metric of final residual states of the clean (0) or the corrupted prompt, a block of logits at a time."""
        step = max(1, BLOCK_ENTRIES // (self._readout.d_vocab if self._tokens is None else len(self._tokens)))
        with torch.no_grad():
            return torch.cat([self._measured(block, side).cpu() for block in states.split(step)])

    def _measured(self, states: Float[Tensor, "cell d_model"], side: int = 1) -> Float[Tensor, " cell"]:
        logits, metric = self._readout(states, tokens=self._tokens), self._metrics[side]
        some = isinstance(metric, Metric) and self._tokens is not None
        try:
            values: Any = metric.reduce(logits) if some else metric(logits)
        except IndexError as error:
            raise SemhubError(f"The metric {self._name!r} failed on logits [batch vocab]: {error}. {WHOLE}.") from error
        expected = (len(states),)
        if not isinstance(values, Tensor) or tuple(values.shape) != expected:
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise SemhubError(
                f"The metric {self._name!r} must map logits [batch vocab] to a tensor [batch] = {expected}, it "
                f"returned {got}. {WHOLE}."
            )
        if values.is_complex() or not bool(torch.isfinite(values).all()):
            raise SemhubError(f"The metric {self._name!r} returned NaN, infinity or complex numbers.")
        return values.float()

    def gradient(self) -> tuple[Tensor, Tensor, Tensor]:
        """The corrupted run's activations at the site, the metric's gradient there, and the metric."""
        kept: list[Tensor] = []
        model, prompt = self._model, self._pair[1]

        def start(activation: Tensor, hook: Any) -> Tensor:
            return activation.detach().requires_grad_()  # the graph begins here, whether or not weights need gradients

        def keep(activation: Tensor, hook: Any) -> Tensor:
            kept.append(activation)
            return activation

        sites = [site_name(layer, self._site) for layer in range(n_layers(model))]
        hooks: Hooks = [
            (site_name(0, "resid_pre"), start),
            *((name, keep) for name in (*sites, residual_names(model)[-1])),
        ]
        with torch.enable_grad(), hooked(model, hooks) as run:
            run(prompt.ids[None], unplaced(prompt), **joined([prompt.media]))
            *states, final = kept
            value = self._measured(final[0, self._reads[1]][None])
            if not value.requires_grad:
                raise SemhubError(f"No gradient flows through the metric {self._name!r}; use patch_grid.")
            gradients = torch.autograd.grad(value.sum(), states)
        both = [torch.stack([each[0].detach().to(final.device) for each in of]) for of in (states, gradients)]
        return both[0], both[1], value.detach().cpu()

    def result(
        self, kind: type[R], values: Float[Tensor, "layer ..."], ends: Float[Tensor, " 2"], notes: tuple[str, ...] = ()
    ) -> R:
        """The measured patches, with the metric of the clean and the corrupted run."""
        labels = [printable(getattr(self._model, "tokenizer", None), prompt.ids) for prompt in self._pair]
        return kind(
            values=values.detach().float().cpu(),
            clean=float(ends[0]),
            corrupted=float(ends[1]),
            site=self._site,
            metric=self._name,
            positions=tuple(self.pairs),
            clean_labels=tuple(labels[0][position] for position, _ in self.pairs),
            labels=tuple(labels[1][position] for _, position in self.pairs),
            axes=self._axes[: values.ndim],
            provenance=provenance_of(self._model, norm=self._readout.name, bos=self._pair[1].bos, notes=notes),
        )


def _pairs(model: Model, pair: list[Prompt], positions: Pairs | None) -> list[tuple[int, int]]:
    lengths = [len(prompt) for prompt in pair]
    if positions is None:
        if lengths[0] != lengths[1]:
            shown = " and ".join(str(printable(getattr(model, "tokenizer", None), prompt.ids)) for prompt in pair)
            raise SemhubError(
                f"The prompts have {lengths[0]} and {lengths[1]} tokens ({shown}): pass prompts of equal length, or "
                "positions=[(clean position, corrupted position), ...]."
            )
        return [(i, i) for i in range(lengths[0])]
    listed: list[Any] = [tuple(entry) if isinstance(entry, tuple | list) else (entry,) for entry in positions]
    if not listed or any(len(entry) != 2 or not all(map(is_index, entry)) for entry in listed):
        raise SemhubError(
            f"positions= takes pairs (clean position, corrupted position), at least one; got {positions!r}."
        )
    listed = [tuple(map(int, entry)) for entry in listed]
    for entry in listed:
        for name, position, length in zip(("clean", "corrupted"), entry, lengths, strict=True):
            if not -length <= position < length:
                raise SemhubError(
                    f"Position {position} is past the end of the {name} prompt, which has {length} tokens."
                )
    return [(entry[0] % lengths[0], entry[1] % lengths[1]) for entry in listed]


def _cells(
    good: Reference, bad: Reference, pairs: list[tuple[int, int]], all_positions: bool
) -> tuple[tuple[int, ...], dict[int, Cell]]:
    """The shape of the grid, and the cells whose patch can affect the position that is read, by flat index."""
    cleans, targets = [position for position, _ in pairs], [position for _, position in pairs]
    changes = (good.states[:, cleans].to(bad.states) != bad.states[:, targets]).any(-1)
    changes &= (torch.tensor(targets) <= bad.read).to(changes.device).view(1, -1, *[1] * (changes.ndim - 2))
    if not all_positions:
        heads = range(changes.shape[2]) if changes.ndim == 3 else (None,)
        axes = product(range(len(changes)), pairs, heads)
        chosen = zip(changes.flatten().tolist(), axes, strict=True)
        return tuple(changes.shape), {i: Cell(at, (p,), h) for i, (on, (at, p, h)) in enumerate(chosen) if on}
    layers, _, count = changes.shape
    patched = {
        layer * count + head: [p for p, on in zip(pairs, changes[layer, :, head].tolist(), strict=True) if on]
        for layer in range(layers)
        for head in range(count)
    }
    return (layers, count), {i: Cell(i // count, tuple(on), i % count) for i, on in patched.items() if on}
