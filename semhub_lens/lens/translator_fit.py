r"""One layer's translator: least squares first, then steps on the KL divergence over candidate tokens.

With standardised states $z = (h - m) / s$, a map is $k h + s\,(L R z + c)$, where L R has the chosen rank. Training
starts from a ridge regression of the final states (scaled to the length of h if the final norm ignores length),
truncated to that rank with the least loss. Several penalties and several factors k are tried, and the ones with the
lowest KL on the validation states are used. The factor is needed because a low-rank map could not remove the rest of
the state.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Part
from semhub_lens.base.rng import generator
from semhub_lens.model.readout import Readout

SEEN = 64
"""Training states whose most probable tokens are candidates in every step."""
READ = 32
"""States that are read over the whole vocabulary at a time."""
RIDGES = (0.01, 0.1, 1.0)
"""Penalties of the start, in units of a standardised state's variance."""
KEPT = (1.0, 0.3, 0.0)
"""Factors k for a low-rank map; a map of full rank has k = 1."""
WARMUP = 10
Maps = list[Tensor]
"""The factors L `[d_model rank]` and R `[rank d_model]`, and c `[d_model]`; at full rank, L R and c."""


@checked
@dataclass(frozen=True)
class TranslatorSetup(Part):
    """Settings of `train_translators`: AdamW from a least-squares start, with ten steps of warm-up, then decay to 0.

    Raises:
        SemhubError: a number that is not positive, fewer than two candidates, or a negative weight decay.
    """

    rank: int | None = None
    """Rank of every layer's map; None does not restrict it."""
    steps: int = 200
    """The largest number of steps for each layer."""
    batch: int = 64
    """States in a step, equally many from each group."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    """Weight decay, towards the plain lens."""
    candidates: int = 8192
    """Tokens that a step sums over; a smaller vocabulary is summed in full."""
    states: int = 20_000
    """The largest number of training states, equally many from each group; those of all layers are in memory at once.
    """
    held_states: int = 1000
    """The largest number of held-out states, read in full at every layer; there are half as many validation states."""
    every: int = 20
    """Steps between two evaluations on the validation states."""
    patience: int = 4
    """The number of evaluations without improvement after which a layer's training stops."""
    half: bool = False
    """Whether the maps are stored and measured in bfloat16; the biases stay in float32."""

    def __post_init__(self) -> None:
        for name in ("rank", "steps", "batch", "learning_rate", "states", "held_states", "every", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SemhubError(f"{name} must be positive, got {value}.")
        if self.candidates < 2 or not 0 <= self.weight_decay < math.inf:
            raise SemhubError(
                f"Expected two candidates or more and no negative weight_decay, got {self.candidates} and "
                f"{self.weight_decay}."
            )


@dataclass(frozen=True)
class Sample:
    """States at some positions of some texts; the positions of a group are contiguous."""

    states: Float[Tensor, "layer pos d_model"]
    texts: Int[Tensor, " pos"]
    counts: Int[Tensor, " group"]
    """The number of positions in each group."""
    groups: tuple[str, ...]
    """The number of positions in each text."""

    def draw(self, count: int, rng: torch.Generator) -> Int[Tensor, " count"]:
        """Random positions: first a group is drawn, then a position in it."""
        group = torch.randint(len(self.counts), (count,), generator=rng)
        within = (torch.rand(count, generator=rng, dtype=torch.float64) * self.counts[group]).long()
        return (self.counts.cumsum(0) - self.counts)[group] + within


class Candidates:
    """A sample of the vocabulary: tokens that are probable in the layer or at the end, and other random ones."""

    @torch.no_grad()
    def __init__(self, reader: Readout, layer: int, train: Sample, count: int, rng: torch.Generator) -> None:
        self._count, self._device = count, reader.device
        self._always, self._others = torch.arange(reader.d_vocab), torch.arange(0)
        if count >= reader.d_vocab:
            return
        likely = torch.zeros(2, reader.d_vocab, device=reader.device, dtype=torch.float32)
        for places in train.draw(SEEN, rng).split(READ):
            likely += torch.stack([reader(train.states[entry, places]).softmax(-1).sum(0) for entry in (-1, layer)])
        self._always = likely.topk(max(1, count // 4)).indices.unique().cpu()
        among = torch.ones(reader.d_vocab, dtype=torch.bool)
        among[self._always] = False
        self._others = among.nonzero()[:, 0]

    def draw(self, rng: torch.Generator) -> tuple[Int[Tensor, " token"], Float[Tensor, " token"]]:
        """Token ids, and the logarithm of the number of tokens that each represents."""
        count = self._count - len(self._always) if len(self._others) else 0
        others = self._others[torch.randint(max(1, len(self._others)), (count,), generator=rng)]
        weights = torch.zeros(len(self._always) + count, dtype=torch.float32)
        weights[len(self._always) :] = math.log(max(1, len(self._others)) / max(1, count))
        return torch.cat([self._always, others]).to(self._device), weights.to(self._device)


class Fit:
    """The training of one layer from a sample; calling it returns the input of `unpacked`."""

    def __init__(
        self,
        reader: Readout,
        layer: int,
        samples: tuple[Sample, Sample],
        setup: TranslatorSetup,
        seed: int,
        step_done: Callable[[], object],
    ) -> None:
        self._reader, self._layer, self._setup, self._seed = reader, layer, setup, seed
        self._train, self._stop = samples
        self._step_done = step_done

    def __call__(self) -> Float[Tensor, "row d_model"]:
        """Train, and keep the maps with the lowest KL on the validation states."""
        setup, rng = self._setup, generator(self._seed)
        with torch.no_grad():
            own = self._states(self._train, slice(None))[0]
            self._mean, self._scale = own.mean(0), own.std(0).clamp(min=1e-6)
            candidates = Candidates(self._reader, self._layer, self._train, setup.candidates, rng)
            watched = candidates.draw(rng)
            plain, starts = self._agreement(watched, None), self._starts()
            losses = [self._agreement(watched, maps, keep) for keep, maps in starts]
        best = min(losses)
        keep, kept = starts[losses.index(best)]
        maps, at, waited = [part.clone().requires_grad_() for part in kept], 0, 0
        optimiser = torch.optim.AdamW(maps, lr=setup.learning_rate, weight_decay=setup.weight_decay)
        for step in range(1, setup.steps + 1):
            falling = min(1, step / WARMUP) * (1 - (step - 1) / setup.steps)
            optimiser.param_groups[0]["lr"] = setup.learning_rate * falling
            loss = self._loss(self._train, self._train.draw(setup.batch, rng), candidates.draw(rng), maps, keep)
            for part, gradient in zip(maps, torch.autograd.grad(loss, maps), strict=True):
                part.grad = gradient
            optimiser.step()
            self._step_done()
            if step % setup.every and step < setup.steps:
                continue
            with torch.no_grad():
                found, waited = self._agreement(watched, maps, keep), waited + 1
            if found < best:
                best, kept, at, waited = found, [part.detach().clone() for part in maps], step, 0
            if waited == setup.patience:
                break
        if best < plain:
            return self._packed(kept, keep, at)
        return plain_rows(len(self._mean), setup)

    def _states(self, sample: Sample, places: slice | Tensor) -> tuple[Tensor, Tensor]:
        own, final = sample.states[self._layer, places], sample.states[-1, places]
        return own.to(self._reader.device), final.to(self._reader.device)

    def _agreement(self, tokens: tuple[Tensor, Tensor], maps: Maps | None, keep: float = 1.0) -> float:
        """The loss on the validation states; infinite if it is undefined, so that no such map is kept."""
        loss = float(self._loss(self._stop, slice(None), tokens, maps, keep))
        return max(0.0, loss) if math.isfinite(loss) else math.inf

    def _loss(
        self, sample: Sample, places: slice | Tensor, tokens: tuple[Tensor, Tensor], maps: Maps | None, keep: float
    ) -> Float[Tensor, ""]:
        """Mean KL divergence from the final distribution to that of the mapped states, over the candidates."""
        (own, final), (ids, weights) = self._states(sample, places), tokens
        with torch.no_grad():
            wanted = (self._reader(final, tokens=ids) + weights).log_softmax(-1)
        if maps is not None:
            *factors, shift = maps
            moved = (own - self._mean) / self._scale
            for factor in reversed(factors):
                moved = moved @ factor.T
            own = keep * own + self._scale * (moved + shift)
        read = (self._reader(own, tokens=ids) + weights).log_softmax(-1)
        return (wanted.exp() * (wanted - read)).sum(-1).mean()

    def _starts(self) -> list[tuple[float, Maps]]:
        """The regressions of the final states for every penalty and factor k."""
        own, final = self._states(self._train, slice(None))
        standard = (own - self._mean) / self._scale
        target = final * (own.norm(dim=-1, keepdim=True) / final.norm(dim=-1, keepdim=True) if self._free(final) else 1)
        gain = (self._reader.normed(final).std(0) / target.std(0)).clamp(min=1e-6).double() * self._scale
        spread = (standard.T @ standard / len(own)).double()
        one = torch.eye(len(spread), dtype=torch.float64, device=spread.device)
        found = []
        for keep in KEPT if self._cuts(len(one)) else KEPT[:1]:
            wanted = (target - keep * own) / self._scale
            shift = wanted.mean(0)
            common = (standard.T @ (wanted - shift) / len(own)).double()
            wholes = (torch.linalg.solve(spread + ridge * one, common).T for ridge in RIDGES)
            found += [(keep, [*self._cut(whole, spread, gain), shift]) for whole in wholes]
        return found

    def _cuts(self, width: int) -> bool:
        return self._setup.rank is not None and self._setup.rank < width

    def _cut(self, whole: Tensor, spread: Tensor, gain: Tensor) -> list[Tensor]:
        """The factors of a truncated map that keep the most of its output after the final norm."""
        rank = self._setup.rank
        if rank is None or not self._cuts(len(whole)):
            return [whole.float()]
        seen = gain[:, None] * whole
        axes = torch.linalg.eigh(seen @ spread @ seen.T).eigenvectors[:, -rank:]
        left, right = axes / gain[:, None], axes.T @ seen
        even = (left.norm() / right.norm().clamp(min=1e-9)).sqrt()  # the optimiser's steps are of one size for both
        return [(left / even).float(), (right * even).float()]

    def _free(self, final: Tensor) -> bool:
        """Whether the read-out ignores the length of a state."""
        few, ids = final[:8], torch.arange(min(8, self._reader.d_vocab), device=self._reader.device)
        return torch.allclose(self._reader(2 * few, tokens=ids), self._reader(few, tokens=ids), rtol=1e-2, atol=1e-3)

    def _packed(self, maps: Maps, keep: float, step: int) -> Float[Tensor, "row d_model"]:
        """The columns of L, the rows of R, the bias, the factor k and the step, for raw states."""
        *factors, shift = maps
        left, right = self._scale[:, None] * factors[0], factors[-1] / self._scale
        whole = [left / self._scale] if len(factors) == 1 else [left, right]
        if self._setup.half:  # before the bias, which then makes up for the rounding at the mean state
            whole = [factor.bfloat16().float() for factor in whole]
        mean = self._mean
        for factor in reversed(whole):
            mean = factor @ mean
        ends = [self._scale * shift - mean, torch.full_like(mean, keep), torch.full_like(mean, step)]
        return torch.cat([whole[0].T, *whole[1:], torch.stack(ends)]).detach().cpu()


def plain_rows(width: int, setup: TranslatorSetup) -> Float[Tensor, "row d_model"]:
    """The output of a `Fit` if the plain lens is best."""
    factors = width if setup.rank is None or setup.rank >= width else 2 * setup.rank
    ends = torch.tensor([[0.0], [1.0], [-1.0]], dtype=torch.float32).expand(3, width)
    return torch.cat([torch.zeros(factors, width, dtype=torch.float32), ends])


def unpacked(packed: Float[Tensor, "layer row d_model"], setup: TranslatorSetup) -> dict[str, Any]:
    """The fields of `Translators` for the maps of all layers."""
    width, dtype = packed.shape[2], torch.bfloat16 if setup.half else torch.float32
    cut = [width] if setup.rank is None or setup.rank >= width else [setup.rank] * 2
    left, *right = (part.to(dtype) for part in packed[:, :-3].split(cut, dim=1))
    return {
        "left": left.mT.contiguous(),
        "right": right[0].contiguous() if right else None,
        "bias": packed[:, -3].contiguous(),
        "keep": packed[:, -2, 0].contiguous(),
        "steps": tuple(packed[:, -1, 0].long().tolist()),
    }
