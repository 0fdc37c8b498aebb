"""A model of the same shape with random weights: the baseline for an architecture without training."""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from semhub_lens.base.arguments import checked
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.foreign import WRAPPED
from semhub_lens.base.rng import generator
from semhub_lens.model.facts import Model, require_model, weights_of
from semhub_lens.model.weights import editions, require_plain

ROLE = re.compile(r"(pos_|un)?embed|blocks\.\d+\.(attn\.[qkvo]|mlp\.(in|gate|out))")
"""Weights that both backends have, by the bridge's names."""
HOOKED = {"W_Q": "q", "W_K": "k", "W_V": "v", "W_O": "o", "W_in": "in", "W_gate": "gate", "W_out": "out"}
"""Their names in a block of a `HookedTransformer`; `W_E`, `W_pos` and `W_U` are alone in their modules."""
AXES = {
    "W_Q": (0, 2, 1), "W_K": (0, 2, 1), "W_V": (0, 2, 1), "W_O": (2, 0, 1),
    "W_in": (1, 0), "W_gate": (1, 0), "W_out": (1, 0), "W_U": (1, 0), "Conv1D": (1, 0),
}  # fmt: skip
"""The order of their axes in a linear layer, outputs first (heads stay separate; the order of entries is the same)."""
GAIN = re.compile(r"norm|(^|[._])ln", re.IGNORECASE)
BIAS = re.compile(r"(^|_)bias$|^_?b(_|$)")
BLOCK, DRAWN = 1 << 22, 16
"""The number of entries that are summed in double precision, or drawn, at a time; the size of torch's draws."""


_origins: "WeakKeyDictionary[Model, tuple[tuple, int, tuple]]" = WeakKeyDictionary()
"""For each drawn model: the weights that it was drawn from, the seed, and its own weights at that time."""


class Weight(NamedTuple):
    """A parameter by its role."""

    name: str
    parameter: nn.Parameter
    axes: tuple[int, ...] | None
    """The order of its axes in a linear layer; None if it has that order."""

    def laid_out(self, values: Tensor) -> Tensor:
        """A view with the axes of a linear layer."""
        return values if self.axes is None else values.permute(self.axes)


@torch.no_grad()
@checked
def untrained(model: Model, *, seed: int) -> Model:
    """Copy a model and replace its weights by random ones.

    Every matrix, including embedding and unembedding, becomes Gaussian noise with the mean and standard deviation of
    the trained matrix. Norm gains and biases are kept, by name and in any shape. So states keep their scale, but
    everything that the weights have learned is gone. Tied embeddings stay tied.

    The noise depends on the seed and on the role of a weight, in the layout of a linear layer. So for raw weights, a
    `HookedTransformer` and a `TransformerBridge` of the same checkpoint become the same random function. Folded or
    centred weights have other means and deviations, and experts or position tables may have other layouts. Then each
    backend has its own baseline.

    An effect in this model comes from the architecture, the kept parameters or the inputs, not from training.

    Args:
        model: any TransformerLens model; it is not changed. The copy needs the same amount of memory.
        seed: for the noise.

    Returns:
        The random-weight model, of the same class and shape.

    Raises:
        SemhubError: not a TransformerLens model.
        Unfit: a model with offloaded or quantised weights.

    Example:
        >>> random = untrained(tiny_model, seed=0)
        >>> bool((random.W_U == tiny_model.W_U).all())
        False
    """
    require_model(model)
    require_plain(model)
    generator(seed)
    tokenizer = getattr(model, "tokenizer", None)
    own = {p for module in model.modules() for p in _parameters_of(module).values() if type(p) is nn.Parameter}
    copies = {id(p): nn.Parameter(torch.empty_like(p), requires_grad=p.requires_grad) for p in own}
    loose = {id(tensor): tensor.detach() for tensor in _in_a_graph(model)}
    drawn = copy.deepcopy(model, {id(tokenizer): tokenizer} | copies | loose)
    weights = {id(weight.parameter): weight for weight in _weights(model)}
    tied = _tied({weight.name: weight for weight in weights.values()})
    for parameter in own:
        weight = weights.get(id(parameter))
        if weight is None:
            copies[id(parameter)].copy_(parameter)
        else:
            name = "embed" if tied and weight.name == "unembed" else weight.name
            _draw(weight.laid_out(copies[id(parameter)]), weight.laid_out(parameter), name, seed)
    drawn.cfg.model_name = f"{model.cfg.model_name} (random weights)"
    _origins[drawn] = (_state(model), seed, _state(drawn))
    return drawn


def _state(model: Model) -> tuple:
    """A value that changes with the weights, as far as PyTorch records it or a sample shows it."""
    return weights_of(model), editions(model)


def is_drawn_from(random: Model, model: Model, seed: int) -> bool:
    """Whether `untrained(model, seed=seed)` made this model, and neither has changed since."""
    return _origins.get(random) == (_state(model), seed, _state(random))


def _parameters_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """A module's own parameters; a bridge's `named_parameters` omits some names."""
    return dict(nn.Module.named_parameters(module, recurse=False, remove_duplicate=False))


def _weights(model: nn.Module) -> Iterator[Weight]:
    """Every parameter that is a matrix by its role, once; not norm gains and biases."""
    named: dict[int, list[tuple[str, str, Weight]]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        path = path.replace(WRAPPED, "")
        for last, parameter in _parameters_of(module).items():
            kind = last.lstrip("_")
            role = HOOKED.get(kind, "" if kind in ("W_E", "W_pos", "W_U", "weight") else last)
            axes = AXES.get(kind if kind in AXES else type(module).__name__)
            axes = axes if parameter.ndim == len(axes or ()) else None
            weight = Weight(".".join(part for part in (path, role) if part), parameter, axes)
            named.setdefault(id(parameter), []).append((path, last, weight))
    for entries in named.values():
        gain = any(GAIN.search(path) for path, _, _ in entries)
        first = entries[0][2].parameter
        if gain or BIAS.search(entries[0][1]) or first.ndim < 2 or not first.is_floating_point():
            continue
        yield min((w for *_, w in entries), key=lambda w: (not ROLE.fullmatch(w.name), len(w.name), w.name))


def _tied(weights: Mapping[str, Weight]) -> bool:
    """Whether the unembedding is the embedding, up to a factor; a `HookedTransformer` keeps a copy of tied ones."""
    if "embed" not in weights or "unembed" not in weights:
        return False
    one, other = (weights[name].laid_out(weights[name].parameter) for name in ("embed", "unembed"))
    rows = slice(None, None, max(1, len(one) // 256))
    if one.shape != other.shape:
        return False
    return float(cosine_similarity(*(side[rows].flatten().double().cpu() for side in (one, other)), dim=0)) > 0.999


def _draw(into: Tensor, values: Tensor, name: str, seed: int) -> None:
    """Noise with the values' mean and deviation, computed exactly: float32 results do not depend on summation order."""
    entries = values.numel()
    mean = sum(float(block.double().sum()) for block in _blocks(values)) / entries
    square = sum(float((block.double() - mean).square().sum()) for block in _blocks(values)) / max(1, entries - 1)
    deviation, centre = torch.tensor(square, dtype=torch.float32).sqrt(), torch.tensor(mean, dtype=torch.float32)
    source = generator(int(fingerprint([name, seed]), 16))
    for block in _blocks(into):
        noise = torch.randn(block.shape, generator=source, dtype=torch.float32)
        block.copy_(noise.mul_(deviation).add_(centre))


def _blocks(values: Tensor) -> Iterable[Tensor]:
    """Blocks of rows, chosen so that drawing them one by one equals a single draw."""
    row = max(1, values[0].numel())
    rows = max(1, BLOCK // row // DRAWN) * DRAWN
    rest = len(values) % rows * row
    return values.split(len(values) if 0 < rest < DRAWN else rows)


def _in_a_graph(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that modules keep from passes with gradients; they cannot be copied directly."""
    kept: list[Any] = [vars(module) for module in model.modules()]
    while kept:
        value = kept.pop()
        if isinstance(value, Tensor) and value.grad_fn is not None:
            yield value
        elif isinstance(value, Mapping):
            kept += list(value.values())
        elif isinstance(value, list | tuple):
            kept += value
