"""The runs that answer a question to an explorer: the lens, the clean lens beside it, and how the text goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.lens.comparison import LensComparison, compare
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.lens.logit_lens import LensResult, logit_lens
from semhub_lens.model.facts import Model, weights_of
from semhub_lens.model.generation import Generation, generate
from semhub_lens.model.hooking import HookFunction, Hooks, residual_names
from semhub_lens.model.readout import Readout
from semhub_lens.workbench.asked import Asked
from semhub_lens.workbench.newest import Stop

KEPT = 8
"""Clean lenses that are kept: changing an intervention runs the prompt once, not twice."""


@dataclass(frozen=True)
class Answer:
    """What is known so far; the library's own results."""

    asked: Asked
    clean: LensResult
    changed: LensResult | None = None
    text: Generation | None = None
    changed_text: Generation | None = None

    @property
    def lens(self) -> LensResult:
        """Under the interventions, where there are some."""
        return self.clean if self.changed is None else self.changed

    @property
    def comparison(self) -> LensComparison | None:
        """The lens under interventions beside the clean one."""
        return None if self.changed is None else compare(self.clean, self.changed, names=("clean", "changed"))


class Bench:
    """Runs one model for an explorer; every pass and read-out may be left when a newer question waits."""

    def __init__(self, model: Model, table: LanguageTable | None = None) -> None:
        self.model, self.table = model, table
        self._clean: dict[Any, LensResult] = {}

    def answer(self, asked: Asked, stop: Stop) -> Iterator[Answer]:
        """The lens first, then the continuations.

        Raises:
            SemhubError: an empty prompt, and what the lens, the interventions and the generation refuse.
        """
        if not asked.prompt:
            raise SemhubError("Type a prompt.")
        watch = _watching(self.model, stop)
        hooks = [pair for one in asked.interventions for pair in one.hooks(self.model)]
        stop()
        key = (weights_of(self.model), replace(asked, interventions=(), new_tokens=0))
        if key not in self._clean:
            clean = self._lens(asked, [], watch, stop)
            self._clean = {**dict(list(self._clean.items())[1 - KEPT :]), key: clean}
        found = Answer(asked, self._clean[key])
        if hooks:
            found = replace(found, changed=self._lens(asked, hooks, watch, stop))
        yield found
        if not asked.new_tokens:
            return
        settings = {"max_new_tokens": asked.new_tokens, "progress": False}
        found = replace(found, text=generate(self.model, asked.prompt, hooks=watch, **settings))
        if hooks:
            yield found
            found = replace(found, changed_text=generate(self.model, asked.prompt, hooks=[*hooks, *watch], **settings))
        yield found

    def _lens(self, asked: Asked, hooks: Hooks, watch: Hooks, stop: Stop) -> LensResult:
        settings = asked.reading()
        readout = _Leaving(self.model, settings.pop("norm", "final"), stop)
        with_table = {"table": self.table, "readout": readout, "progress": False, "hooks": [*hooks, *watch]}
        return logit_lens(self.model, asked.prompt, **settings, **with_table)


class _Leaving(Readout):
    """A read-out that is left when a newer question waits."""

    def __init__(self, model: Model, norm: Any, stop: Stop) -> None:
        super().__init__(model, norm=norm)
        self._stop = stop

    def __call__(
        self, states: Tensor, layer: int | Sequence[int] | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """As the model's own."""
        self._stop()
        return super().__call__(states, layer, tokens)


def _watching(model: Model, stop: Stop) -> list[tuple[str, HookFunction]]:
    """Hooks that read nothing, and leave the pass where a newer question waits."""

    def look(activation: Tensor, hook: Any) -> None:
        stop()

    return [(name, look) for name in residual_names(model)]
