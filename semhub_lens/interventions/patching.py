r"""Activation patching over whole grids, exact and fast, and its gradient approximation.

A patch writes the clean run's activation at one layer and position into the corrupted run (Vig et al. 2020; Meng et al.
2022; Heimersheim and Nanda 2024). With m the metric and $h^{c}$, $h^{k}$ the clean and corrupted activations:

$$e_{\ell,p} = m\bigl(\text{corrupted run} \mid h_{\ell,p} \leftarrow h^{c}_{\ell,p}\bigr) - m(\text{corrupted run})$$

A patch with an effect shows that the activation suffices to move this metric between these two prompts. It does not
show that it is needed, nor what it means; another corrupted prompt tests something else. Effects do not add up.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.media import joined
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import printable
from semhub_lens.interventions.grid import Cell, Reference, final_states, reference, unplaced
from semhub_lens.interventions.metric import Metric, MetricFunction, read_position
from semhub_lens.interventions.patch_results import ApproximatePatchResult, PatchResult
from semhub_lens.lens.kernel import BLOCK_ENTRIES
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.hooking import Hooks, hooked, n_layers, require_hooks, residual_names, site_name
from semhub_lens.model.readout import Readout
from semhub_lens.model.resolve import as_prompts

R = TypeVar("R", bound=PatchResult)
Pairs = Sequence[tuple[int, int]]
"""`(clean position, corrupted position)`; negative ones count from the prompt's end."""
PATCH_SITES = ("resid_pre", "resid_mid", "attn_out", "mlp_out", "z")


def patch_grid(
    model: Model,
    clean: str | Prompt,
    corrupted: str | Prompt,
    metric: MetricFunction,
    *,
    site: str = "resid_pre",
    positions: Pairs | None = None,
    all_positions: bool = False,
    read: str | int = "last",
    max_tokens: int = 1024,
    progress: bool = True,
) -> PatchResult:
    r"""Patch clean activations into the corrupted run, one cell of layers x positions at a time.

    Every cell equals a run of its own. Many cells share a forward pass, which they join at their layer; only the
    positions from the patched one on are run, and only the position that is read is unembedded. Cells whose two
    activations are identical are not run: their patch changes nothing.

    Args:
        model: any causal TransformerLens model.
        clean, corrupted: two prompts; activations go from the first to the second.
        metric: a function of the logits `[batch vocab]` *at the position that is read*, to `[batch]`; from
            `shl.metric` (`logit_difference`, `log_prob`, `kl`) or your own.
        site: "resid_pre", "resid_mid", "attn_out", "mlp_out", or "z" for single heads (`[layer pos head]`).
        positions: pairs (clean, corrupted); needed for prompts of unequal length. None pairs equal positions.
        all_positions: with `site="z"`, patch a head at all positions at once (`[layer head]`).
        read: where the metric reads each prompt; see `residual_stream`. It must name one position.
        max_tokens: rows times columns of one forward pass.
        progress: show a progress bar.

    Raises:
        SemhubError: prompts of unequal length without `positions`, positions past the end, unknown site, a `read` that
            names several positions, a metric that returns NaN, infinity or another shape, or a model whose batched
            passes do not reproduce its own run (not causal).

    Example:
        >>> metric = shl.metric.logit_difference(tiny_model, " two", " five")
        >>> found = patch_grid(tiny_model, "three plus two", "four plus two", metric, progress=False)
        >>> [round(float(e), 4) for e in found.normalised[0]]  # BOS, the word that differs, the rest
        [0.0, 1.0, 0.0, 0.0]
    """
    pair, pairs = _checked(model, clean, corrupted, site, positions, all_positions)
    reads = [read_position(prompt, read) for prompt in pair]
    readout = Readout(model)
    good = reference(model, pair[0], site, reads[0])
    bad = reference(model, pair[1], site, reads[1], cached=True)
    ends = _score(readout, metric, torch.stack([good.final, bad.final]))
    shape, cells = _cells(good, bad, pairs, all_positions)
    values = ends[1].repeat(shape)
    bar = tqdm(total=len(cells), desc="patching", unit="cell", disable=not progress, leave=False)
    with bar:
        states = final_states(model, good, bad, list(cells.values()), site, max_tokens=max_tokens, bar=bar)
    if cells:
        values.view(-1)[list(cells)] = _score(readout, metric, states)
    axes = ("layer", "head") if all_positions else ("layer", "pos", "head")[: len(shape)]
    return _result(PatchResult, model, pair, pairs, metric, values, ends, site, axes)


def attribution_grid(
    model: Model,
    clean: str | Prompt,
    corrupted: str | Prompt,
    metric: MetricFunction,
    *,
    site: str = "resid_pre",
    positions: Pairs | None = None,
    all_positions: bool = False,
    read: str | int = "last",
) -> ApproximatePatchResult:
    r"""Approximate `patch_grid` to first order, from two forward passes and one backward pass.

    $$\hat e_{\ell,p} = (h^{c}_{\ell,p} - h^{k}_{\ell,p}) \cdot \frac{\partial m}{\partial h_{\ell,p}}$$

    at the corrupted run (attribution patching, Nanda 2023; Syed et al. 2023). Exact only where the metric is linear
    along the patch; norms and softmaxes are not, least of all for whole residual states. Check the cells that matter
    with `patch_grid`.

    Args:
        model, clean, corrupted, metric, site, positions, all_positions, read: as in `patch_grid`; the metric must be
            differentiable.

    Raises:
        SemhubError: as `patch_grid`; a metric through which no gradient flows.

    Example:
        >>> metric = shl.metric.logit_difference(tiny_model, " two", " five")
        >>> attribution_grid(tiny_model, "three plus two", "four plus two", metric).values.shape
        torch.Size([3, 4])
    """
    pair, pairs = _checked(model, clean, corrupted, site, positions, all_positions)
    reads = [read_position(prompt, read) for prompt in pair]
    readout = Readout(model)
    good = reference(model, pair[0], site, reads[0])
    states, gradient, bad = _gradient(model, pair[1], site, reads[1], readout, metric)
    ends = torch.cat([_score(readout, metric, good.final[None]), bad])
    sources, targets = torch.tensor(pairs, device=states.device).T
    difference = good.states[:, sources].to(states).float() - states[:, targets].float()
    effect = (difference * gradient[:, targets].float()).sum(-1).cpu()
    axes = ("layer", "pos", "head")[: effect.ndim]
    if all_positions:
        effect, axes = effect.sum(1), ("layer", "head")
    return _result(ApproximatePatchResult, model, pair, pairs, metric, ends[1] + effect, ends, site, axes)


def _checked(
    model: Model,
    clean: str | Prompt,
    corrupted: str | Prompt,
    site: str,
    positions: Pairs | None,
    all_positions: bool,
) -> tuple[list[Prompt], list[tuple[int, int]]]:
    """The two prompts and the pairs of positions, or a ValueError before anything runs."""
    if site not in PATCH_SITES:
        raise SemhubError(f"Unknown site {site!r}; expected one of {', '.join(PATCH_SITES)}.")
    if all_positions and site != "z":
        raise SemhubError(f"all_positions=True patches heads (site='z'), got site={site!r}.")
    for name, prompt in (("clean", clean), ("corrupted", corrupted)):
        if not isinstance(prompt, str | Prompt):
            raise SemhubError(f"The {name} prompt must be one text or Prompt, got {type(prompt).__name__}.")
    pair = as_prompts(model, [clean, corrupted])
    require_hooks(model, [site_name(layer, site) for layer in range(n_layers(model))])
    pairs = _pairs(model, pair, positions)
    if all_positions and len({target for _, target in pairs}) < len(pairs):
        raise SemhubError("all_positions=True writes all pairs at once, but a corrupted position occurs twice in them.")
    return pair, pairs


def _pairs(model: Model, pair: list[Prompt], positions: Pairs | None) -> list[tuple[int, int]]:
    lengths = [len(prompt) for prompt in pair]
    if positions is None:
        if lengths[0] != lengths[1]:
            shown = " and ".join(str(printable(getattr(model, "tokenizer", None), prompt.ids)) for prompt in pair)
            raise SemhubError(
                f"The prompts have {lengths[0]} and {lengths[1]} tokens ({shown}): give prompts of equal length, or "
                "positions=[(clean position, corrupted position), ...]."
            )
        return [(i, i) for i in range(lengths[0])]
    listed: list[Any] = [tuple(entry) if isinstance(entry, tuple | list) else (entry,) for entry in positions]
    if not listed or any(len(entry) != 2 or not all(type(i) is int for i in entry) for entry in listed):
        raise SemhubError(
            f"positions= takes pairs (clean position, corrupted position), at least one; got {positions!r}."
        )
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
    """Shape of the grid, and the cells whose patch can reach the position that is read, by their flat index."""
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    changes = (good.states[:, sources].to(bad.states) != bad.states[:, targets]).any(-1)
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


def _score(readout: Readout, metric: MetricFunction, states: Float[Tensor, "cell d_model"]) -> Float[Tensor, " cell"]:
    """The metric of final residual states, a block of logits at a time."""
    if not callable(metric) and not isinstance(metric, Metric):
        raise SemhubError(f"A metric is a function logits [batch vocab] -> [batch], got {metric!r}.")
    tokens = metric.tokens if isinstance(metric, Metric) else None
    step = max(1, BLOCK_ENTRIES // (readout.d_vocab if tokens is None else len(tokens)))
    with torch.no_grad():
        return torch.cat([_measure(readout, metric, block).cpu() for block in states.split(step)])


def _measure(readout: Readout, metric: MetricFunction, states: Float[Tensor, "cell d_model"]) -> Float[Tensor, " cell"]:
    partial = isinstance(metric, Metric) and metric.tokens is not None
    logits = readout(states, tokens=metric.tokens) if partial else readout(states)
    found: Any = metric.reduce(logits) if partial else metric(logits)
    expected = (len(states),)
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise SemhubError(
            f"The metric {_name(metric)!r} must map logits [batch vocab] to a tensor [batch] = {expected}, it returned "
            f"{got}."
        )
    if not bool(torch.isfinite(found).all()):
        raise SemhubError(f"The metric {_name(metric)!r} returned NaN or infinity.")
    return found.float()


def _gradient(
    model: Model, prompt: Prompt, site: str, read: int, readout: Readout, metric: MetricFunction
) -> tuple[Tensor, Tensor, Tensor]:
    """The corrupted run's activations at the site, the metric's gradient there, and the metric."""
    kept: list[Tensor] = []
    last = residual_names(model)[-1]

    def start(activation: Tensor, hook: Any) -> Tensor:
        return activation.detach().requires_grad_()  # the graph begins here, whether or not the weights need gradients

    def keep(activation: Tensor, hook: Any) -> Tensor:
        kept.append(activation)
        return activation

    hooks: Hooks = [(site_name(0, "resid_pre"), start)]
    hooks = [*hooks, *((site_name(layer, site), keep) for layer in range(n_layers(model))), (last, keep)]
    with torch.enable_grad(), hooked(model, hooks) as run:
        run(prompt.ids[None], unplaced(prompt), **joined([prompt.media]))
        *states, final = kept
        value = _measure(readout, metric, final[0, read][None])
        if not value.requires_grad:
            raise SemhubError(f"No gradient flows through the metric {_name(metric)!r}; use patch_grid.")
        gradients = torch.autograd.grad(value.sum(), states)
    return torch.stack(states)[:, 0].detach(), torch.stack(gradients)[:, 0], value.detach().cpu()


def _name(metric: MetricFunction) -> str:
    return metric.name if isinstance(metric, Metric) else getattr(metric, "__name__", type(metric).__name__)


def _result(
    kind: type[R],
    model: Model,
    pair: list[Prompt],
    pairs: list[tuple[int, int]],
    metric: MetricFunction,
    values: Tensor,
    ends: Tensor,
    site: str,
    axes: tuple[str, ...],
) -> R:
    labels = [printable(getattr(model, "tokenizer", None), prompt.ids) for prompt in pair]
    return kind(
        values=values.detach().float().cpu(),
        clean=float(ends[0]),
        corrupted=float(ends[1]),
        site=site,
        metric=_name(metric),
        positions=tuple(pairs),
        clean_labels=tuple(labels[0][source] for source, _ in pairs),
        labels=tuple(labels[1][target] for _, target in pairs),
        axes=axes,
        provenance=provenance_of(model, norm="final", bos=pair[1].bos),
    )
