"""`explore`: the explorer of a model in a notebook, as an anywidget; its script is that of a lens's page."""

import json
import time
from typing import Any

from semhub_lens.base.arguments import checked
from semhub_lens.base.arguments import shown as in_short
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import optional
from semhub_lens.lens.comparison import LensComparison
from semhub_lens.lens.language_tables import LanguageTable
from semhub_lens.lens.logit_lens import DISTANCES, LensResult
from semhub_lens.model.facts import Model, provenance_of, require_model
from semhub_lens.model.generation import Generation
from semhub_lens.model.hooking import n_layers
from semhub_lens.views.explorer.packing import packed_written
from semhub_lens.views.explorer.page import as_json, contents, shown, widget_script
from semhub_lens.workbench.asked import Asked
from semhub_lens.workbench.bench import Answer, Bench
from semhub_lens.workbench.newest import Newest
from semhub_lens.workbench.script import script

FIRST = {
    "prompt": "", "more": [], "quantities": list(DISTANCES), "layers": "", "top_k": 10, "new_tokens": 12,
    "interventions": [], "written": [],
}  # fmt: skip
"""The first request of an explorer."""
NO_FORM = (
    "<p>The form needs the package anywidget where Jupyter itself runs. Install it there, reload this page and run "
    'the cell again. Or ask from Python: <code>explorer.ask(prompt="...").wait()</code>, then show '
    "<code>explorer.result</code>.</p>"
)
"""Text in place of the form, for places without widgets."""


@checked
class Explorer:
    """An interactive view of a model in a notebook: a form, the lens of the typed prompt, and the results behind it.

    Args:
        model: any TransformerLens model; runs happen in a separate thread.
        widget: the widget, with traits `setup`, `asked`, `pages`, `wrote` and `answer`, as `explore` makes it.
        table: from `language_table(model)`, to colour tokens by language.

    Raises:
        SemhubError: not a TransformerLens model, or not a widget.

    Example:
        >>> explorer = explore(model, "El color del cielo es")  # doctest: +SKIP
        >>> explorer.ask(prompt="Le ciel est").wait(60).result.top_ids  # doctest: +SKIP
    """

    def __init__(self, model: Model, widget: Any, table: LanguageTable | None = None) -> None:
        require_model(model)
        if not hasattr(widget, "observe"):
            raise SemhubError(f"widget= takes a widget with traits, as `explore` makes it, got {in_short(widget)}.")
        self.widget = widget
        self._bench = Bench(model, table)
        self._newest = Newest(self._bench.answer, self._show, self._fail)
        self._answer: Answer | None = None
        self._drawn: list[tuple[tuple[LensResult, ...], str]] = []
        self._error: Exception | None = None
        self._since, self._number = 0.0, 0
        widget.setup = {"model": provenance_of(model).model, "layers": n_layers(model), "quantities": list(DISTANCES)}
        widget.observe(self._asked, names="asked")
        if dict(widget.asked).get("prompt"):
            self._asked(None)

    def ask(self, **settings: Any) -> "Explorer":
        """Make a request from Python, like the form: `prompt=`, `more=` prompts, `quantities=`, `interventions=`, ...

        `written=[{"position": 3, "token": 12}]` requests the attribution of a token; it is dropped for a new prompt.

        Raises:
            SemhubError: a name or value that the form does not have.
        """
        forgotten = {"written": []} if {"prompt", "more"} & settings.keys() else {}
        asked = {**dict(self.widget.asked), **forgotten, **settings}
        Asked.read({name: value for name, value in asked.items() if name != "number"})
        self.widget.asked = {**asked, "number": int(asked.get("number", 0)) + 1}
        return self

    @checked
    def wait(self, timeout: float | None = None) -> "Explorer":
        """Wait for the newest answer.

        Args:
            timeout: seconds to wait; None waits without end.

        Raises:
            SemhubError: the request was refused, or took more than `timeout` seconds.
        """
        if timeout is not None and timeout < 0:
            raise SemhubError(f"timeout= is how many seconds to wait, at least 0; got {timeout}.")
        if not self._newest.wait(timeout):
            raise SemhubError(f"No answer within {timeout} seconds; request less, or wait longer.")
        if self._error:
            raise self._error
        return self

    @property
    def result(self) -> LensResult:
        """The lens of the first prompt, with the interventions if there are any."""
        return self.results[0]

    @property
    def results(self) -> list[LensResult]:
        """The lens of every prompt."""
        return [read.lens for read in self._answered().reads]

    @property
    def clean(self) -> LensResult:
        """The lens of the first prompt without interventions."""
        return self._answered().reads[0].attributed().clean

    @property
    def comparison(self) -> LensComparison | None:
        """The clean and the changed lens of the first prompt; without interventions, those of two prompts, or None."""
        return self._answered().reads[0].comparison or self._answered().both

    @property
    def texts(self) -> tuple[Generation | None, Generation | None]:
        """The continuations of the prompts, clean and with the interventions; None if not requested or not finished."""
        return self._answered().text, self._answered().changed_text

    @property
    def code(self) -> str:
        """A script that makes the same results from `model` and, if there is one, `table`."""
        return script(self._answered().asked, self._bench.table is not None, self._answered().by_head)

    def __repr__(self) -> str:
        lines = [f"Explorer of {self.widget.setup['model']}: a form that runs the model as you type"]
        lines.append('Next: .ask(prompt="...").wait(), then .result for the lens and .code for its script')
        return "\n".join(lines)

    def _repr_mimebundle_(self, **settings: Any) -> Any:
        """The widget, and for nbconvert or a code host the last answer and a few words."""
        bundle = self.widget._repr_mimebundle_(**settings)
        data, *rest = bundle if isinstance(bundle, tuple) else (bundle,)
        frames = [shown(one)["text/html"] for one in (self._answer.shown() if self._answer else ())]
        data = {**data, "text/html": "\n".join([*frames, NO_FORM]), "text/plain": repr(self)}
        return (data, *rest) if rest else data

    def _answered(self) -> Answer:
        if self._answer is None:
            raise SemhubError("The explorer has no answer yet: type a prompt, or explorer.ask(prompt=...).wait().")
        return self._answer

    def _asked(self, change: Any) -> None:
        """A new request from the form or from `ask`."""
        self._newest.drop()  # from here on, nothing of an older request is told
        self._since, self._error = time.monotonic(), None
        given = dict(self.widget.asked)
        self._number = given.pop("number", 0)
        try:
            asked = Asked.read(given)
        except SemhubError as error:
            self._fail(error)
            return
        self.widget.answer = {"number": self._number, "state": "running"}
        self._newest.ask(asked)

    def _show(self, answer: Answer) -> None:
        self._answer = answer
        known = dict(self._drawn)
        shown = [(_behind(one), one) for one in answer.shown(attributed=False)]
        self._drawn = [(lenses, known.get(lenses) or as_json(contents(one))) for lenses, one in shown]
        wrote = [packed_written(one) for one in answer.shown()]
        self.widget.wrote = json.loads(as_json({"pages": wrote}))  # first: a new page is drawn with its own
        self.widget.pages = [page for _, page in self._drawn]
        texts = [one and list(one.texts) for one in (answer.text, answer.changed_text)]
        self._tell(state="done" if answer.done else "partial", texts=json.loads(as_json(texts)), code=self.code)

    def _fail(self, error: Exception) -> None:
        self._error = error
        kind = "" if isinstance(error, SemhubError) else f"{type(error).__name__}: "
        self._tell(state="error", error=f"{kind}{error}")

    def _tell(self, **answer: Any) -> None:
        seconds = round(time.monotonic() - self._since, 2)
        self.widget.answer = {"number": self._number, "seconds": seconds, **answer}


def _behind(result: LensResult | LensComparison) -> tuple[LensResult, ...]:
    return (result,) if isinstance(result, LensResult) else (result.a, result.b)


@checked
def explore(model: Model, prompt: str = "", *, table: LanguageTable | None = None) -> Explorer:
    """Explore a model in a notebook: type prompts, change their runs, and see lens, difference and continuation.

    The form selects quantities and layers. Interventions steer with a word pair or a saved vector, project a word pair
    out, or patch one position from another prompt. At a pinned position, the model can attribute a token to blocks and
    heads. A newer request stops an older run. The results on screen are in `explorer.results` (`.result` for the first
    prompt), `.clean`, `.comparison` and `.texts`, and as a script in `explorer.code`.

    An intervention shows that a direction is enough to change the read-out, not that the model uses it.

    Args:
        model: any TransformerLens model.
        prompt: the first prompt.
        table: from `language_table(model)`, to colour tokens by language; without it, by script.

    Returns:
        The explorer; write it on the last line of a cell to show it.

    Raises:
        SemhubError: the package anywidget is not installed (`pip install "semhub-lens[notebooks]"`).

    Example:
        >>> explorer = explore(model, "El color del cielo es")  # doctest: +SKIP
        >>> explorer.result.top_ids  # doctest: +SKIP
    """
    require_model(model)
    anywidget, traitlets = (optional(name, name, "notebooks") for name in ("anywidget", "traitlets"))
    traits = {name: traitlets.Dict().tag(sync=True) for name in ("setup", "asked", "wrote", "answer")}
    body = {"_esm": widget_script(), "pages": traitlets.List(traitlets.Unicode()).tag(sync=True), **traits}
    widget = type("ExplorerWidget", (anywidget.AnyWidget,), body)(asked={**FIRST, "prompt": prompt, "number": 0})
    return Explorer(model, widget, table)
