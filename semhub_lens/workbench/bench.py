"""The runs for a request to an explorer: lenses, clean lenses for comparison, attributions, continuations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.lens.attribution import AttributionResult, direct_attribution
from semhub_lens.lens.comparison import LensComparison, compare
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.lens.logit_lens import LensResult, logit_lens
from semhub_lens.model.facts import Model, weights_of
from semhub_lens.model.generation import Generation, generate
from semhub_lens.model.hooking import HookFunction, Hooks, n_layers, residual_names
from semhub_lens.model.readout import Readout
from semhub_lens.model.weights import editions
from semhub_lens.workbench.asked import Asked
from semhub_lens.workbench.newest import Stop

T = TypeVar("T")
TEXTS = ("text", "changed_text")
KEPT = 16
"""Results of each kind to keep: a new intervention runs the prompt once, a new attribution runs nothing else."""


@dataclass(frozen=True)
class Read:
    """The results for one prompt so far."""

    clean: LensResult
    changed: LensResult | None = None
    wrote: tuple[AttributionResult, ...] = ()
    changed_wrote: tuple[AttributionResult, ...] = ()

    @property
    def lens(self) -> LensResult:
        """The lens with interventions, if there are any, and with its attributions."""
        both = self.attributed()
        return both.clean if both.changed is None else both.changed

    @property
    def comparison(self) -> LensComparison | None:
        """The lens with interventions, compared with the clean one."""
        both = self.attributed()
        return None if both.changed is None else compare(both.clean, both.changed, names=("clean", "changed"))

    def attributed(self) -> "Read":
        """The same, with the attributions in the lenses."""
        clean = self.clean.with_attribution(*self.wrote) if self.wrote else self.clean
        changed = self.changed
        if changed is not None and self.changed_wrote:
            changed = changed.with_attribution(*self.changed_wrote)
        return Read(clean, changed)


@dataclass(frozen=True)
class Answer:
    """The results so far."""

    asked: Asked
    reads: tuple[Read, ...]
    """The results of the prompts, in order."""
    text: Generation | None = None
    changed_text: Generation | None = None
    done: bool = False

    @property
    def both(self) -> LensComparison | None:
        """Two prompts side by side, aligned at the last token; None with interventions or another number of prompts."""
        if len(self.reads) != 2 or len(self.asked.more) != 1 or self.asked.interventions:
            return None
        return compare(self.reads[0].lens, self.reads[1].lens, names=("first", "second"), align="end")

    @property
    def by_head(self) -> bool:
        """Whether every attribution includes heads."""
        return all(one.heads is not None for read in self.reads for one in (*read.wrote, *read.changed_wrote))

    def shown(self, attributed: bool = True) -> list[LensResult | LensComparison]:
        """The views: for every prompt its lens or both of its lenses, then two prompts side by side."""
        reads = self.reads if attributed else tuple(Read(read.clean, read.changed) for read in self.reads)
        both = replace(self, reads=reads).both
        return [read.comparison or read.lens for read in reads] + ([both] if both else [])


@dataclass(frozen=True)
class _Side:
    """One way to run the prompts: clean, or with the interventions."""

    key: tuple[Any, ...]
    """The identity of weights and interventions."""
    edits: Hooks
    watch: Hooks

    @property
    def hooks(self) -> Hooks:
        return [*self.edits, *self.watch]


class Bench:
    """Runs one model for an explorer; every pass and read-out can stop early for a newer request."""

    def __init__(self, model: Model, table: LanguageTable | None = None) -> None:
        self.model, self.table = model, table
        self._kept: dict[str, dict[Any, Any]] = {}

    def answer(self, asked: Asked, stop: Stop) -> Iterator[Answer]:
        """The lenses first, prompt by prompt, then the attributions, then the continuations.

        Raises:
            SemhubError: an empty prompt, and the errors of lens, interventions, attribution and generation.
        """
        prompts = asked.prompts()
        if not all(prompts):
            raise SemhubError("Type a prompt." if len(prompts) == 1 else "One of the prompts is empty.")
        watch, weights = _watching(self.model, stop), (weights_of(self.model), editions(self.model))
        edits = [pair for one in asked.interventions for pair in one.hooks(self.model)]
        stop()
        changes = tuple((one, one.stamp()) for one in asked.interventions)
        sides = [_Side((weights,), [], watch)] + [_Side((weights, changes), edits, watch)] * bool(edits)
        known = [self._kept.get("text", {}).get(_text_key(asked, side)) for side in sides]
        found = replace(Answer(asked, ()), **dict(zip(TEXTS, known, strict=False)))
        steps: list[Callable[[Answer], Answer]] = [partial(self._read, sides, stop, prompt) for prompt in prompts]
        steps += [partial(self._attributed, sides)] * bool(asked.written)
        for name, side in zip(TEXTS, sides, strict=False):
            if asked.new_tokens and getattr(found, name) is None:
                steps.append(partial(self._continued, side, name))
        for number, step in enumerate(steps, 1):
            found = replace(step(found), done=number == len(steps))
            yield found

    def _once(self, kind: str, key: Any, make: Callable[[], T]) -> T:
        kept = self._kept.get(kind, {})
        if key not in kept:
            made = make()
            self._kept[kind] = {**dict(list(kept.items())[1 - KEPT :]), key: made}
        return self._kept[kind][key]

    def _read(self, sides: list[_Side], stop: Stop, prompt: str, found: Answer) -> Answer:
        asked = found.asked
        how = replace(asked, prompt=prompt, more=(), interventions=(), written=(), new_tokens=0)
        lenses = [
            self._once("lens", (side.key, how), partial(self._lens, asked, prompt, side.edits, side.watch, stop))
            for side in sides
        ]
        return replace(found, reads=(*found.reads, Read(lenses[0], lenses[1] if len(sides) > 1 else None)))

    def _lens(self, asked: Asked, prompt: str, hooks: Hooks, watch: Hooks, stop: Stop) -> LensResult:
        settings = asked.reading()
        readout = _Leaving(self.model, settings.pop("norm", "final"), stop)
        with_table = {"table": self.table, "readout": readout, "progress": False, "hooks": [*hooks, *watch]}
        read = logit_lens(self.model, prompt, **settings, **with_table)
        return replace(read, call=asked.call(prompt, changed=bool(hooks)))

    def _attributed(self, sides: list[_Side], found: Answer) -> Answer:
        prompts, reads = found.asked.prompts(), list(found.reads)
        for (place, position), tokens in found.asked.attributed().items():
            known = [reads[place].wrote, reads[place].changed_wrote]
            for i, side in enumerate(sides):
                key = (side.key, prompts[place], position, tuple(tokens))
                known[i] += (self._once("wrote", key, partial(self._wrote, prompts[place], position, tokens, side)),)
            reads[place] = replace(reads[place], wrote=known[0], changed_wrote=known[1])
        return replace(found, reads=tuple(reads))

    def _wrote(self, prompt: str, position: int, tokens: list[int], side: _Side) -> AttributionResult:
        """By head if the model has the hook points; otherwise the provenance says why not."""
        settings = {"token": tokens, "position": position, "hooks": side.hooks}
        try:
            return direct_attribution(self.model, prompt, by_head=range(n_layers(self.model)), **settings)
        except Unfit as error:
            found = direct_attribution(self.model, prompt, **settings)
            notes = (*found.provenance.notes, f"no heads: {error}")
            return replace(found, provenance=replace(found.provenance, notes=notes))

    def _continued(self, side: _Side, name: str, found: Answer) -> Answer:
        settings = {"max_new_tokens": found.asked.new_tokens, "progress": False}
        made = partial(generate, self.model, found.asked.prompts(), hooks=side.hooks, **settings)
        return replace(found, **{name: self._once("text", _text_key(found.asked, side), made)})


def _text_key(asked: Asked, side: _Side) -> tuple[Any, ...]:
    return (side.key, *asked.prompts(), asked.new_tokens)


class _Leaving(Readout):
    """A read-out that stops early for a newer request."""

    def __init__(self, model: Model, norm: Any, stop: Stop) -> None:
        super().__init__(model, norm=norm)
        self._stop = stop

    def pieces(
        self, states: Tensor, layer: int | Sequence[int] | None = None, *, columns: int = 4096
    ) -> Iterator[tuple[int, Tensor]]:
        """Like the model's own; between two pieces it looks for a newer request."""
        for start, piece in super().pieces(states, layer, columns=columns):
            self._stop()
            yield start, piece


def _watching(model: Model, stop: Stop) -> list[tuple[str, HookFunction]]:
    """Hooks that read nothing, but stop the pass for a newer request."""

    def look(activation: Tensor, hook: Any) -> None:
        stop()

    return [(name, look) for name in residual_names(model)]
