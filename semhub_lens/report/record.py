"""The report as data: report.json next to the page, written with it, and read to compare reports.

`report.schema.json` in this folder is its JSON schema.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import inside, require_file, user_path, write_aside
from semhub_lens.base.json_text import in_json
from semhub_lens.base.processes import is_main
from semhub_lens.base.results import Provenance
from semhub_lens.evidence.depth import DepthShare, depth_shares
from semhub_lens.evidence.legs import ExperimentResult, Leg, describe
from semhub_lens.evidence.stats import percentiles
from semhub_lens.evidence.verdict_row import VerdictRow
from semhub_lens.experiments.runs import RESULT
from semhub_lens.model.facts import Model
from semhub_lens.report.hub_page import HubPage
from semhub_lens.report.orchestration import Measured
from semhub_lens.views.page import write_page

SCHEMA = 1
"""Version of report.json; it increases when a reader of the last version would be misled."""
SIZES = ("n_layers", "d_model", "n_heads", "d_mlp", "d_vocab", "n_ctx")


def json_beside(page: str | Path) -> Path:
    """Path of a page's report.json: the same name, with ".json".

    Raises:
        SemhubError: the page itself has that name, or it cannot be written.
    """
    path = require_file(page)
    if path.suffix == ".json":
        raise SemhubError(f"The page {path} has the name of its own report.json. Give a name that ends with .html.")
    return path.with_suffix(".json")


@dataclass(frozen=True, eq=False)
class ReportFiles:
    """A report's page and its report.json, written together; each appears complete or not at all."""

    page: HubPage
    path: Path
    runs: Path
    model: Model

    def write(self, measured: Measured, stopped: str = "") -> None:
        """Rewrite both with the results so far; in a launch, only the main process writes."""
        if not is_main():
            return
        shares = depth_shares(measured.results)
        text = in_json(self._record(measured, stopped, shares)) + "\n"
        write_aside(json_beside(self.path), lambda aside: aside.write_text(text, encoding="utf-8"))
        write_page(self.page.html(measured, stopped, shares), self.path)

    def _record(self, measured: Measured, stopped: str, shares: Sequence[DepthShare]) -> dict[str, Any]:
        near = self.runs.resolve().is_relative_to(self.path.parent.resolve())
        runs = self.runs.resolve().relative_to(self.path.parent.resolve()) if near else self.runs.resolve()
        where = measured.results[0].provenance if measured.results else self.page.where
        sizes = {name: getattr(self.model.cfg, name, None) for name in SIZES}
        return {
            "schema": SCHEMA,
            "semhub_lens": where.semhub_lens,
            "complete": not (stopped or measured.running or measured.coming),
            "stopped": stopped,
            "size": self.page.size,
            "runs": runs.as_posix(),
            "provenance": asdict(where),
            "model": sizes | {"parameters": sum(each.numel() for each in self.model.parameters())},
            "shares": [asdict(share) for share in shares],
            "experiments": [_experiment(result) for result in measured.results],
            "not_measured": measured.unmeasured,
        }


def _experiment(result: ExperimentResult) -> dict[str, Any]:
    legs = [describe(result.id, leg) | _curves(leg) for leg in result.legs]
    return {"id": result.id, "title": result.title, "notes": result.notes, "legs": legs}


def _curves(leg: Leg) -> dict[str, Any]:
    """The part of a leg's record besides the verdict."""
    null_low, null_high = percentiles(leg.null.T)
    names = ("effect", "low", "high", "null_low", "null_high")
    return {
        "p": leg.p_value,
        "claim": leg.wording.claim,
        "control": leg.wording.control,
        "data": leg.provenance.data,
        "data_hash": leg.provenance.data_hash,
        "measured_items": leg.effect.shape[1],
        "layers": leg.layers,
        "strengths": leg.strengths,
        "curves": dict(zip(names, map(_short, (leg.mean, leg.low, leg.high, null_low, null_high)), strict=True)),
        "behind": {name: _short(curve) for name, curve in zip(leg.curve_names, leg.curves, strict=True)},
        "behind_unit": leg.wording.curve_unit,
    }


def _short(curve: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in curve.tolist()]


@dataclass(frozen=True, eq=False)
class SavedReport:
    """A report.json, with those of its saved runs that still exist."""

    path: Path
    provenance: Provenance
    size: str
    layers: int
    """L: blocks of the model."""
    shares: tuple[DepthShare, ...]
    rows: Mapping[tuple[str, str], VerdictRow]
    """Verdict rows by experiment and leg."""
    curves: Mapping[tuple[str, str], Float[Tensor, "figure depth"]]
    """Depth, mean effect and its interval; for a sweep, at the chosen strength."""
    legs: Mapping[tuple[str, str], Leg]
    """The saved leg with its items, if the saved run is the one that was reported."""


@checked
def read_report(source: str | Path, results: Sequence[ExperimentResult] | None = None) -> SavedReport:
    """Read a report.json, or the one next to a page.

    Args:
        source: a report.json, or the page.
        results: the experiments of that report, to use in place of its saved runs.

    Raises:
        SemhubError: the file is missing, is no report.json, or is of a newer version.

    Example:
        >>> read_report("semhub_report.html")  # doctest: +SKIP
    """
    path = user_path(source)
    path = path if path.suffix == ".json" else path.with_suffix(".json")
    if not path.is_file():
        raise SemhubError(f"No report at {source}: expected {path}, which `semhub report` writes next to its page.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] > SCHEMA:
            raise SemhubError(f"{path} is of a newer semhub_lens (schema {record['schema']}): upgrade semhub-lens.")
        return _decoded(path, record, results)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SemhubError):
            raise
        raise SemhubError(
            f"{path} is not a report.json of semhub_lens ({error!r}). Run `semhub report` again."
        ) from error


def _decoded(path: Path, record: dict[str, Any], results: Sequence[ExperimentResult] | None) -> SavedReport:
    rows, curves, legs = {}, {}, {}
    for experiment in record["experiments"]:
        run = inside(path.parent / record["runs"], experiment["id"]) / RESULT
        saved = [result for result in results or () if result.id == experiment["id"]]
        if results is None and run.is_file():
            saved = [ExperimentResult.load(run)]
        held = {leg.title: leg for result in saved for leg in result.legs}
        for leg in experiment["legs"]:
            key = (experiment["id"], leg["leg"])
            known: dict[str, Any] = {
                field.name: leg[field.name] for field in fields(VerdictRow) if field.name != "title"
            }
            known |= {name: tuple(leg[name]) for name in ("holds", "fails")}
            rows[key] = VerdictRow(**known, title=leg["leg"])
            chosen = [i for i, at in enumerate(leg["strengths"] or leg["layers"]) if at == leg["strength"]]
            chosen = chosen if leg["strengths"] else list(range(len(leg["layers"])))
            figures = [torch.tensor(leg["curves"][name], dtype=torch.float32) for name in ("effect", "low", "high")]
            depth = torch.tensor(leg["layers"], dtype=torch.float32) / record["model"]["n_layers"]
            curves[key] = torch.stack([depth, *figures])[:, chosen]
            found = held.get(leg["leg"])
            if found is not None and _same(found, leg):
                legs[key] = found
    provenance = Provenance(**record["provenance"] | {"notes": tuple(record["provenance"]["notes"])})
    shares = tuple(DepthShare(**share | {"left_out": tuple(share["left_out"])}) for share in record["shares"])
    return SavedReport(path, provenance, record["size"], record["model"]["n_layers"], shares, rows, curves, legs)


def _same(leg: Leg, record: dict[str, Any]) -> bool:
    """Whether a saved leg is the reported one: its folder may contain another run by now."""
    return leg.verdict.estimate == record["estimate"] and _short(leg.mean) == record["curves"]["effect"]
