"""Comparing two reports, as a result and as one page."""

from dataclasses import asdict
from pathlib import Path

from plotly.offline import get_plotlyjs

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_file
from semhub_lens.evidence.comparison import (
    Difference,
    LegComparison,
    ReportComparison,
    difference,
    side_by_side,
)
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.report.record import SavedReport, read_report
from semhub_lens.report.templates import filled
from semhub_lens.views.compared import compared_figure
from semhub_lens.views.page import write_page
from semhub_lens.views.style import FONT, PALETTE, VERDICT_COLOURS

ReportLike = str | Path | tuple[Path, list[ExperimentResult]]
"""A report.json, its page, or the value that `report` returned."""
GONE = "the saved runs of {} are missing or were replaced by another run"


@checked
def compare_reports(a: ReportLike, b: ReportLike, *, path: str | Path | None = None) -> ReportComparison:
    r"""Compare two saved reports: verdicts, curves over depth, and differences over the same items.

    Depth is a fraction, $\ell / L$: 0 is the embedding, 1 the last layer. A difference is the mean over items of
    $e^a_{\ell i} - e^b_{m(\ell) i}$ with its 95 % bootstrap interval, where both reports measured the same items; m is
    the nearest entry by depth. Differences need the saved runs next to both pages. No model is loaded.

    A difference does not show that it comes from the model alone. Tokens, vocabulary and the anisotropy of states
    differ as well, and nats or cosines of two models do not share a scale.

    Args:
        a, b: a report.json, the page next to it, or the value that `report` returned.
        path: where to write the page; None writes none.

    Returns:
        The comparison. Its `to_frame()` has a row for each leg in both reports.

    Raises:
        SemhubError: a report is missing or of a newer version, the reports share no leg, or the page cannot be written
            or is one of the two.

    Example:
        >>> compare_reports("gemma.html", "smollm.html", path="both.html")  # doctest: +SKIP
    """
    target = None if path is None else require_file(path)
    one, two = (read_report(*each) if isinstance(each, tuple) else read_report(each) for each in (a, b))
    if target is not None and target.with_suffix(".json").resolve() in (one.path.resolve(), two.path.resolve()):
        raise SemhubError(f"{target} is the page of one of the two reports. Give another path.")
    compared = _compared(one, two)
    if target is not None:
        write_page(_page(compared, one, two), target)
    return compared


def _compared(a: SavedReport, b: SavedReport) -> ReportComparison:
    both = [key for key in a.rows if key in b.rows]
    if not both:
        raise SemhubError(f"No leg is in both {a.path} and {b.path}. Give two reports of the same experiments.")
    names = (a.provenance.model, b.provenance.model)
    names = names if names[0] != names[1] else (f"{names[0]} (a)", f"{names[1]} (b)")
    only = tuple(
        f"{key[0]}, {key[1]}: measured on {name} only"
        for own, other, name in ((a, b, names[0]), (b, a, names[1]))
        for key in own.rows
        if key not in other.rows
    )
    return ReportComparison(
        names,
        tuple(_leg(a, b, key, names) for key in both),
        (a.shares, b.shares),
        only,
        provenance=side_by_side(a.provenance, b.provenance),
    )


def _leg(a: SavedReport, b: SavedReport, key: tuple[str, str], names: tuple[str, str]) -> LegComparison:
    absent = [name for side, name in zip((a, b), names, strict=True) if key not in side.legs]
    gone = Difference(paired_by="", reason=GONE.format(" and ".join(absent)))
    return LegComparison(
        rows=(a.rows[key], b.rows[key]),
        curves=(a.curves[key], b.curves[key]),
        layers=(a.layers, b.layers),
        difference=gone if absent else difference(a.legs[key], b.legs[key]),
    )


def _page(compared: ReportComparison, a: SavedReport, b: SavedReport) -> str:
    parts: dict[str, list[LegComparison]] = {}
    for leg in compared.legs:
        parts.setdefault(leg.rows[0].experiment, []).append(leg)
    drawn = {"full_html": False, "include_plotlyjs": False, "config": {"displaylogo": False, "responsive": True}}
    figures = {name: compared_figure(legs, compared.names).to_html(**drawn) for name, legs in parts.items()}
    reasons: dict[str, list[str]] = {}
    for leg in compared.legs:
        if leg.difference.reason:
            reasons.setdefault(leg.difference.reason, []).append(f"{leg.rows[0].experiment}, {leg.rows[0].title}")
    settings = [asdict(side.provenance) | {"size": side.size, "layers": side.layers} for side in (a, b)]
    shown = {
        name: [one[name] for one in settings] for name in settings[0] if name not in ("data", "data_hash", "notes")
    }
    types = {share.name: None for shares in compared.shares for share in shares}
    shares = {name: [next((s for s in own if s.name == name), None) for own in compared.shares] for name in types}
    return filled(
        "compare.html",
        names=compared.names,
        font=FONT,
        plotly=get_plotlyjs(),
        colours=VERDICT_COLOURS,
        inks=PALETTE[:2],
        legs=compared.legs,
        supported=[sum(leg.rows[i].status == "supported" for leg in compared.legs) for i in (0, 1)],
        differing=sum(leg.rows[0].status != leg.rows[1].status for leg in compared.legs),
        shares=shares,
        figures=figures,
        reasons=reasons,
        only=compared.only,
        settings=shown,
    )
