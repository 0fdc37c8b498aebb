"""The inputs of an experiment: the model, the run's settings, the reader of media, and the store of finished parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.results import Provenance
from semhub_lens.base.store import Store
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.inputs.tokens import Target, Variants
from semhub_lens.lens.kernel import contrast_targets, reduce_logits
from semhub_lens.lens.targets import states_at, target_lens, target_sets
from semhub_lens.model import checks
from semhub_lens.model.capture import residual_reads
from semhub_lens.model.facts import Model, provenance_of
from semhub_lens.model.generation import generate
from semhub_lens.model.hooking import Hooks
from semhub_lens.model.readout import Norm, Readout
from semhub_lens.model.reads import spread
from semhub_lens.model.residual import residual_stream
from semhub_lens.model.resolve import as_prompts
from semhub_lens.model.untrained import untrained
from semhub_lens.model.weights import content_of

Convention = Literal["corrected", "paper"]
Text = str | Prompt
LEVELS = 8
"""Items whose log-probabilities are read in full, for the height of curves where otherwise only differences are read.
"""
COLUMNS = "Words are compared by their own columns of the unembedding: at one state the normalizer cancels."
FEW = f"{COLUMNS} The height of the log-probability curves is that of the first {LEVELS} items."


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run: everything besides the model that its numbers depend on."""

    n: int
    """Items."""
    seed: int = 0
    norm: Norm = "final"
    """How the lens reads states."""
    convention: Convention = "corrected"
    """"paper" reproduces the choices of the reference code, which the Methods page of the documentation lists."""
    data: str | None = None
    """The user's own corpus (folder, file or dataset name); None takes the bundled or generated items."""
    baseline: bool = True
    """Also measure a random-weight model of the same shape."""
    reader: str | None = None
    """Name and hash of the reader of pictures or sound."""
    positions: int | None = None
    """Number of positions of an item over which probabilities are averaged; None takes all."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """One run of an experiment; `states`, `lens`, `continuations` and `measured` keep finished parts."""

    model: Model
    settings: RunSettings
    untrained_model: Model | None = None
    """A random-weight model of the same shape, if the caller already has one."""
    reader: MediaReader | None = None
    """The reader of pictures or sound, for the experiments that use them."""
    store: Store = field(default_factory=Store)
    progress: bool = True

    @property
    def n(self) -> int:
        """Number of items to measure."""
        return self.settings.n

    @property
    def seed(self) -> int:
        """The seed of items, bootstrap, null and split."""
        return self.settings.seed

    @property
    def data(self) -> str | None:
        """The user's own corpus, if any."""
        return self.settings.data

    def places(self, positions: Sequence[int]) -> list[int]:
        """The positions of an item at which the whole vocabulary is read."""
        return spread(positions, self.settings.positions)

    @property
    def whole(self) -> str:
        """The sentence of the provenance on averages over such positions."""
        count = self.settings.positions
        read = "every one" if count is None else f"at most {count} of each stretch (with random weights at one)"
        return f"Probabilities are averaged over positions: the whole vocabulary is read at {read}."

    @property
    def baseline(self) -> bool:
        """Whether a random-weight model is also measured."""
        return self.settings.baseline

    @property
    def paper(self) -> bool:
        """Whether to reproduce the choices of the reference code."""
        return self.settings.convention == "paper"

    @cached_property
    def readout(self) -> Readout:
        """The read-out of the model."""
        return Readout(self.model, norm=self.settings.norm)

    def random(self) -> "Job":
        """The same job on a random-weight model; every call returns one job, so model and read-out are made once."""
        return self._on_random_weights

    @cached_property
    def _on_random_weights(self) -> "Job":
        model = untrained(self.model, seed=self.seed) if self.untrained_model is None else self.untrained_model
        few = None if self.settings.positions is None else 1  # of noise, one position tells what many do
        return replace(self, model=model, settings=replace(self.settings, baseline=False, positions=few))

    def states(
        self, name: str, prompts: Sequence[Text], read: str | int = "last", hooks: Hooks = ()
    ) -> Float[Tensor, "layer item d_model"]:
        """Residual states of prompts; `convention="paper"` normalizes the last layer, as in the reference code."""
        states = self.store.tensors(
            self._named(name, read),
            prompts,
            lambda part: residual_stream(self.model, part, read=read, hooks=hooks, progress=self.progress),
        )
        return self._last_normed(states) if self.paper else states

    def reads(
        self, name: str, prompts: Sequence[Text], reads: Sequence[str]
    ) -> dict[str, Float[Tensor, "layer item d_model"]]:
        """Like `states`, for several reads of the same runs."""
        stacks = self.store.tensors(
            self._named(name, "reads", *reads),
            prompts,
            lambda part: residual_reads(self.model, part, reads, progress=self.progress),
            axis=2,
        )
        return {
            read: self._last_normed(states) if self.paper else states
            for read, states in zip(reads, stacks, strict=True)
        }

    def _last_normed(self, states: Float[Tensor, "layer item d_model"]) -> Float[Tensor, "layer item d_model"]:
        states[-1] = self.readout.normed(states[-1]).detach().float().cpu()
        return states

    def lens(
        self,
        name: str,
        prompts: Sequence[Text],
        targets: Sequence[Sequence[Target]] = (),
        *,
        common: Sequence[Target] = (),
        read_at: Sequence[Sequence[int]] | None = None,
        variants: Variants = "all",
        first_token: bool = False,
    ) -> Float[Tensor, "layer item target"]:
        """Log-probabilities of targets at every layer: at the last token, or at `read_at` positions of each prompt.

        `targets` has one entry per position read, or is empty. The targets in `common` are read at every position,
        after the position's own targets.
        """
        wanted = [[len_of(p, self.model) - 1] for p in prompts] if read_at is None else [list(at) for at in read_at]
        grouped, start = [], 0
        for prompt, at in zip(prompts, wanted, strict=True):
            grouped.append((prompt, at, list(targets[start : start + len(at)])))
            start += len(at)
        if targets and start != len(targets):
            raise SemhubError(f"{start} positions are read, got {len(targets)} entries of targets.")

        def measure(part: Sequence[tuple[Text, list[int], list[Sequence[Target]]]]) -> Tensor:
            return target_lens(
                self.model,
                [prompt for prompt, _, _ in part],
                [row for _, _, rows in part for row in rows],
                common=common,
                read_at=[at for _, at, _ in part],
                readout=self.readout,
                variants=variants,
                first_token=first_token,
                quantities=(),
                progress=self.progress,
            ).log_probs

        named = self._named(name, variants, first_token, fingerprint(list(common)))
        return self.store.tensors(named, grouped, measure)

    def compared(
        self,
        name: str,
        prompts: Sequence[Text],
        targets: Sequence[Sequence[Target]] = (),
        *,
        common: Sequence[Target] = (),
        read_at: Sequence[Sequence[int]] | None = None,
        variants: Variants = "all",
    ) -> Float[Tensor, "layer item target"]:
        """Like `lens`, if only differences at one position and means over items matter; `level` gives their height."""
        settings: dict[str, Any] = {"common": common, "variants": variants}
        if (len(prompts) if read_at is None else sum(map(len, read_at))) <= LEVELS:
            return self.lens(name, prompts, targets, read_at=read_at, **settings)
        states = self.states_at(name, prompts, read_at)
        return self.contrast(states, targets, **settings) + self.level(states, targets, **settings)

    def states_at(
        self, name: str, prompts: Sequence[Text], read_at: Sequence[Sequence[int]] | None = None
    ) -> Float[Tensor, "layer item d_model"]:
        """Residual states at positions of prompts (None: at their last token), in one run each."""
        wanted = [[len_of(p, self.model) - 1] for p in prompts] if read_at is None else [list(at) for at in read_at]

        def measure(part: Sequence[tuple[Text, list[int]]]) -> Tensor:
            listed, places = zip(*part, strict=True)
            return states_at(self.model, as_prompts(self.model, list(listed)), places, progress=self.progress)

        return self.store.tensors(self._named(name, "at"), list(zip(prompts, wanted, strict=True)), measure)

    def contrast(
        self,
        states: Float[Tensor, "layer item d_model"],
        targets: Sequence[Sequence[Target]],
        *,
        common: Sequence[Target] = (),
        variants: Variants = "all",
    ) -> Float[Tensor, "layer item target"]:
        """How the log-probabilities of targets differ at each state."""
        sets = target_sets(self.model, targets, common, states.shape[1], variants, first_token=False)
        return contrast_targets(self.readout, states, sets.own, sets.common, progress=self.progress)

    def level(
        self,
        states: Float[Tensor, "layer item d_model"],
        targets: Sequence[Sequence[Target]],
        *,
        common: Sequence[Target] = (),
        variants: Variants = "all",
    ) -> Float[Tensor, "layer 1 1"]:
        """Mean log-probability of all targets at the first `LEVELS` states, read in full."""
        few = states[:, :LEVELS]
        sets = target_sets(self.model, targets[:LEVELS], common, few.shape[1], variants, first_token=False)
        read = reduce_logits(
            self.readout, few, ["targets"], targets=sets.own, common=sets.common, progress=self.progress
        )
        return read["targets"].mean((1, 2), keepdim=True)

    def continuations(
        self,
        name: str,
        prompts: Sequence[Text],
        *,
        hooks: Callable[[Sequence[int]], Hooks] | Hooks = (),
        max_new_tokens: int,
        temperature: float = 0.0,
    ) -> list[tuple[int, ...]]:
        """Token ids that continue each prompt; prompt i samples from seed + i whatever part it is in.

        `hooks` may be a function of item numbers, for hooks that differ between items.
        """

        def measure(part: Sequence[tuple[int, Text]]) -> list[tuple[int, ...]]:
            items = [i for i, _ in part]
            chosen = hooks(items) if callable(hooks) else hooks
            made = generate(
                self.model,
                [prompt for _, prompt in part],
                hooks=chosen,
                max_new_tokens=max_new_tokens,
                seed=self.seed + items[0],
                temperature=temperature,
                progress=self.progress,
            )
            return list(made.token_ids)

        named = self._named(name, max_new_tokens, temperature)
        return [tuple(ids) for ids in self.store.lists(named, list(enumerate(prompts)), measure)]

    def measured(
        self, name: str, items: Sequence[Any], measure: Callable[[Sequence[Any]], Tensor], axis: int = 1
    ) -> Tensor:
        """Any other measurement of items, in parts that are stored as they finish."""
        return self.store.tensors(self._named(name), items, measure, axis)

    def provenance(self, data: str, items: Any, *, lens: bool | str = False, bos: bool | None = None) -> Provenance:
        """Provenance of a leg: the data's name and the hash of the items; `lens` says how states are read out."""
        notes = checks.notes(checks.right_padding(self.model).packing)
        return provenance_of(
            self.model,
            norm=self.readout.name if lens else None,
            data=data,
            data_hash=fingerprint(items),
            seed=self.seed,
            bos=bos,
            notes=(*notes, lens) if isinstance(lens, str) else notes,
        )

    def _named(self, name: str, *settings: Any) -> str:
        return f"{self.model.cfg.model_name}-{self._weights}-{name}" + "".join(f"-{setting}" for setting in settings)

    @cached_property
    def _weights(self) -> str:
        """A hash of the weights: it separates the model's parts from those of a baseline with the same name."""
        return content_of(self.model)


def len_of(prompt: Text, model: Model) -> int:
    """Length of a prompt in tokens."""
    return len(prompt if isinstance(prompt, Prompt) else Prompt.from_text(model, prompt))
