"""The hub report's page: finished, running and waiting experiments."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from semhub_lens.base.progress import duration
from semhub_lens.base.results import Provenance
from semhub_lens.base.shown_text import harmless
from semhub_lens.evidence.depth import DepthShare
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.verdict_row import VerdictRow
from semhub_lens.experiments.registry import EXPERIMENTS
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.report.orchestration import INTERVENING, Measured, reasons
from semhub_lens.report.templates import filled
from semhub_lens.views.explorer.page import shown as lens_shown
from semhub_lens.views.explorer.view import View
from semhub_lens.views.figure import figure
from semhub_lens.views.style import FONT, VERDICT_COLOURS

LONG = "{names}: not measured here. A sweep takes some minutes; semhub report --steering includes them."
FULL = "{names}: not measured here; semhub report --full includes it."
Drawable = LensResult | View | go.Figure


@dataclass(kw_only=True, eq=False)
class HubPage:
    """One page that is rewritten as results arrive; each result is drawn once.

    Args:
        where: model and settings, for a page without results.
        size: a sentence on the number of items of an experiment.
        lenses: lenses of some texts.
        glimpses: lenses of a picture and a sound.
    """

    where: Provenance
    size: str
    lenses: Sequence[Drawable] = ()
    glimpses: Sequence[Drawable] = ()
    _begun: float = field(default_factory=time.monotonic, init=False)
    _drawn: dict[int, tuple[Any, str]] = field(default_factory=dict, init=False)

    def html(self, measured: Measured, stopped: str = "", shares: Sequence[DepthShare] = ()) -> str:
        """The page.

        Args:
            measured: finished and waiting experiments.
            stopped: if the work stopped early, the reason and how to resume.
            shares: the share of depth of every data type.
        """
        results = measured.results
        rows = [row for result in results for row in result.rows()]
        settings = asdict(results[0].provenance if results else self.where)
        del settings["data"], settings["data_hash"]
        settings = {name.replace("_", " "): value for name, value in settings.items() if value not in (None, ())}
        took = f"{time.monotonic() - self._begun:.0f} s"
        return filled(
            "report.html",
            model=settings["model"],
            font=FONT,
            plotly=get_plotlyjs(),
            state=self._state(measured, stopped),
            size=self.size,
            cards=_cards(rows),
            rows=rows,
            shares=shares,
            colours=VERDICT_COLOURS,
            missing=_missing(measured),
            lenses=[self._of(lens) for lens in self.lenses],
            glimpses=[self._of(lens) for lens in self.glimpses],
            parts=[self._part(result) for result in results],
            intervened=any(result.id.endswith(INTERVENING) for result in results),
            settings=settings | {"size": self.size, "the page took": took},
        )

    def _state(self, measured: Measured, stopped: str) -> dict[str, Any] | None:
        """The progress of the work; None when it is done."""
        unfinished = [*([measured.running] if measured.running else []), *measured.coming]
        if not unfinished and not stopped:
            return None
        done = [result.id for result in measured.results]
        known = len(done) + len(measured.unmeasured) + len(unfinished)
        return {
            "stopped": stopped,
            "done": done,
            "running": "" if stopped else measured.running,
            "coming": unfinished if stopped else measured.coming,
            "left": duration(measured.left),
            "share": round(100 * (len(done) + len(measured.unmeasured)) / known) if known else 0,
            "count": f"{len(done)} of {known - len(measured.unmeasured)}",
            "written": time.strftime("%H:%M:%S"),
        }

    def _of(self, shown: Any) -> str:
        """A lens as the explorer in a frame; another result or a figure as plotly draws it."""
        if id(shown) not in self._drawn:
            self._drawn[id(shown)] = (shown, _drawn(shown))  # kept beside it, so that no other object gets its id
        return self._drawn[id(shown)][1]

    def _part(self, result: ExperimentResult) -> dict[str, Any]:
        claims = dict.fromkeys(
            f"A positive effect means: {leg.wording.claim}. Null: {leg.wording.control}." for leg in result.legs
        )
        return {
            "id": result.id,
            "title": result.title,
            "claims": claims,
            "figure": "".join(self._of(shown) for shown in (result, *result.extras)),
            "notes": result.notes,
        }


def _drawn(shown: Any) -> str:
    if isinstance(shown, LensResult):
        return harmless(lens_shown(shown)["text/html"], kept="\n\t")
    if isinstance(shown, View):
        return harmless(shown.frame(), kept="\n\t")
    drawn = shown if isinstance(shown, go.Figure) else figure(shown)
    return drawn.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})


def _missing(measured: Measured) -> list[str]:
    """Experiments that the page leaves out, and why."""
    planned = {measured.running, *measured.coming, *(result.id for result in measured.results)}
    left = [name for name in EXPERIMENTS if name not in planned | {*measured.unmeasured}]
    sorts = {
        LONG: [name for name in left if name.endswith(INTERVENING)],
        FULL: [name for name in left if not EXPERIMENTS[name].quick],
    }
    said = [text.format(names=", ".join(names)) for text, names in sorts.items() if names]
    return [*said, *reasons(measured.unmeasured)]


def _cards(rows: Sequence[VerdictRow]) -> Mapping[str, list[str]]:
    """For each data type, a line for each kind of evidence."""
    grouped: dict[str, dict[str, list[VerdictRow]]] = {}
    for row in rows:
        grouped.setdefault(row.data_type, {}).setdefault(row.kind, []).append(row)
    return {name: [_line(kind, alike) for kind, alike in kinds.items()] for name, kinds in grouped.items()}


def _line(kind: str, rows: Sequence[VerdictRow]) -> str:
    layers = sorted({row.layer for row in rows if row.status == "supported"})
    ends = dict.fromkeys([*layers[:1], *layers[-1:]])
    at = f", at layer{'s' * (len(ends) > 1)} {'-'.join(map(str, ends))}" if layers else ""
    return f"{kind}: {sum(row.status == 'supported' for row in rows)} of {len(rows)} supported{at}"
