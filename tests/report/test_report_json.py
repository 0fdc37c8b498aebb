"""report.json beside a page holds what its schema says, and two reports stand side by side with honest differences."""

import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
import torch
from typer.testing import CliRunner

import models
import semhub_lens as shl
from samples import leg_text
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.cli import main as command
from semhub_lens.evidence.comparison import difference, nearest_entries, same_items
from semhub_lens.evidence.draws import halves
from semhub_lens.evidence.legs import ExperimentResult, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.runs import RESULT
from semhub_lens.report.hub_page import HubPage
from semhub_lens.report.orchestration import Measured
from semhub_lens.report.record import ReportFiles, read_report
from semhub_lens.report.report import report

SCHEMA = json.loads(files("semhub_lens.report").joinpath("report.schema.json").read_text(encoding="utf-8"))
IDS = ("code.similarity", "semantics.similarity")
LABELS = tuple(f"item {i}" for i in range(40))


def where(model, **changes):
    return replace(
        Provenance(model, "w", "-", "float32", "cpu", "none", False, data="d", data_hash="h", seed=0), **changes
    )


def planted(model, layers, size, seed=0, items=24, split=0, **changes):
    effect = size + torch.randn(layers, items, generator=generator(seed))
    left = {"beyond something": effect - 0.1}
    curves = {"raw": effect.mean(1)}
    own = where(model, **changes)
    return make_leg(
        effect, sign_flips(effect), leg_text(), provenance=own, seed=split, curves=curves, controls=left,
        labels=LABELS[:items],
    )  # fmt: skip


def experiment(name, leg):
    return ExperimentResult(name, f"title of {name}", (leg,), ("a <note>",), provenance=leg.provenance)


def written(folder, name, results, model, **settings):
    """A report's files as `report` writes them, of saved runs."""
    runs = folder / f"{name}_runs"
    for result in results:
        result.save(runs / result.id / RESULT)
    page = HubPage(where=results[0].provenance, size="small")
    done = Measured(results=list(results), unmeasured={"probing": "Too <few> items."}, **settings)
    ReportFiles(page, folder / f"{name}.html", runs, model).write(done)
    return folder / f"{name}.html"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two reports of a model of 4 and one of 7 entries: one leg on the same items, one on other items."""
    folder, model = tmp_path_factory.mktemp("pair"), models.tiny("bridge")
    one = [experiment(IDS[0], planted("m1", 4, 1.0)), experiment(IDS[1], planted("m1", 4, 0.0))]
    two = [
        experiment(IDS[0], planted("m2", 7, 0.5, 1)),
        experiment(IDS[1], planted("m2", 7, 0.5, 1, data="other", data_hash="x")),
    ]
    first = written(folder, "one", one, model)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(model.cfg, "n_layers", 6)
        return first, written(folder, "two", two, model), one, two


def test_the_record_beside_a_page_is_what_its_schema_says(pair):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    page, _, (first, _), _ = pair
    record = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    jsonschema.validate(record, SCHEMA)
    assert (record["complete"], record["runs"]) == (True, "one_runs")
    assert record["not_measured"] == {"probing": "Too <few> items."} and record["model"]["n_layers"] == 3
    leg, row = record["experiments"][0]["legs"][0], first.rows()[0]
    assert (leg["status"], leg["estimate"], leg["layer"]) == (row.status, row.estimate, row.layer)
    assert leg["p"] == first.legs[0].p_value == pytest.approx(1 / 501)
    assert leg["curves"]["effect"] == pytest.approx(first.legs[0].mean.tolist(), rel=1e-5)
    assert len(leg["behind"]["raw"]) == len(leg["layers"]) == 4
    (share,) = record["shares"]
    assert (share["data_type"], share["legs"], share["share"]) == ("languages", 2, 0.0)
    row = page.read_text(encoding="utf-8").partition('<tr class="share">')[2].partition("</tr>")[0]
    assert "all 2 legs hold" in row and share["weakest"] in row and "0.00" in row
    assert not list(page.parent.glob(".*partial"))


def test_the_schema_refuses_what_is_partial(pair):
    record = json.loads(pair[0].with_suffix(".json").read_text(encoding="utf-8"))
    del record["experiments"][0]["legs"][0]["p"]
    with pytest.raises(jsonschema.ValidationError, match="'p' is a required property"):
        jsonschema.validate(record, SCHEMA)


def test_it_is_written_with_the_page_while_the_page_fills(tmp_path, monkeypatch):
    import sys

    from semhub_lens import experiments

    page, seen = tmp_path / "page.html", []

    def run(name, model, **settings):
        record = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
        jsonschema.validate(record, SCHEMA)
        seen.append((record["complete"], [entry["id"] for entry in record["experiments"]]))
        if len(seen) == 2:
            raise ValueError("it broke")
        return experiment(name, planted("m", 4, 1.0))

    monkeypatch.setattr(experiments, "run", run)
    monkeypatch.setattr(sys.modules["semhub_lens.report.report"], "LENS_PROMPTS", ("three plus",))
    with pytest.raises(ValueError, match="it broke"):
        report(models.tiny("bridge"), page, only=IDS, progress=False)
    assert seen == [(False, []), (False, [IDS[0]])]
    record = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    jsonschema.validate(record, SCHEMA)
    assert not record["complete"] and "it broke" in record["stopped"] and len(record["experiments"]) == 1
    with pytest.raises(SemhubError, match=r"the name of its own report\.json"):
        report(models.tiny("bridge"), tmp_path / "page.json", only=IDS, progress=False)


def test_verdicts_curves_and_differences_of_both_stand_side_by_side(pair, tmp_path):
    one, two, ((a, _)), ((b, _)) = pair
    found = shl.compare_reports(one, two.with_suffix(".json"), path=tmp_path / "both.html")
    assert found.names == ("m1", "m2") and [leg.layers for leg in found.legs] == [(3, 6)] * 2
    first, second = found.legs
    assert first.rows == (a.rows()[0], b.rows()[0])
    assert first.curves[0][0].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    left = a.legs[0].effect - b.legs[0].effect[[0, 2, 4, 6]]
    assert torch.allclose(first.difference.curve[1], left.mean(1), atol=1e-6)
    _, report_half = halves(24, 0)
    chosen = a.legs[0].effect[a.legs[0].verdict.row] - b.legs[0].effect[b.legs[0].verdict.row]
    mean, low, high = first.difference.verdicts
    assert mean == pytest.approx(a.rows()[0].estimate - b.rows()[0].estimate, abs=1e-5)
    assert mean == pytest.approx(float(chosen[report_half].mean()), abs=1e-5) and low < mean < high
    assert first.difference.items == 12
    assert second.difference.verdicts is None and second.difference.curve is None
    assert second.difference.reason == "other data: d and other"
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert all(f'<section id="{name}">' in page for name in IDS) and "No difference, other data" in page
    frame = found.to_frame()
    assert frame["difference"].isna().tolist() == [False, True] and frame["depth_a"][0] == a.legs[0].layer / 3


def test_without_the_saved_runs_there_is_no_difference_and_the_page_says_so(pair, tmp_path):
    one, two, *_ = pair
    alone = tmp_path / "alone.json"
    alone.write_text(one.with_suffix(".json").read_text(encoding="utf-8"), encoding="utf-8")
    found = shl.compare_reports(alone, two)
    assert {leg.difference.reason for leg in found.legs} == {
        "the saved runs of m1 are missing or were replaced by another run"
    }
    given = shl.compare_reports((alone.with_suffix(".html"), pair[2]), two)
    assert given.legs[0].difference.verdicts is not None
    changed = [experiment(IDS[0], planted("m1", 4, 2.0)), pair[2][1]]
    again = shl.compare_reports((alone.with_suffix(".html"), changed), two)
    assert again.legs[0].difference.verdicts is None


def test_a_report_beside_itself_differs_by_nothing(pair):
    found = shl.compare_reports(pair[0], pair[0])
    assert found.names == ("m1 (a)", "m1 (b)")
    for leg in found.legs:
        assert leg.difference.verdicts == (0.0, 0.0, 0.0) and not leg.difference.curve[1:].any()


def test_items_are_paired_by_hash_or_by_labels_in_any_order_and_never_otherwise():
    a = planted("m1", 4, 1.0)
    order = torch.randperm(24, generator=generator(5))
    effect, labels = a.effect[:, order], tuple(LABELS[i] for i in order)
    moved = make_leg(
        effect, sign_flips(effect), leg_text(), provenance=where("m2", data_hash="y"), seed=0, curves={}, labels=labels
    )
    assert same_items(a, planted("m2", 4, 1.0))[1] == "the same data"
    assert same_items(a, moved)[1] == "the same labels" and not difference(a, moved).curve[1:].any()
    twice = replace(moved, labels=(labels[1], *labels[1:]))
    assert same_items(a, twice) == (None, "other items: 24 and 24, which no labels tell apart")
    other = replace(moved, labels=("new", *labels[1:]))
    assert same_items(a, other) == (None, "other items: 23 in both of 24 and 24")
    assert difference(a, other).verdicts is None and difference(a, other).curve is None


def test_entries_are_matched_by_the_nearest_depth():
    one, two = nearest_entries(19, 31)
    for i, j in zip(one.tolist(), two.tolist(), strict=True):
        assert abs(i / 18 - j / 30) == pytest.approx(min(abs(i / 18 - k / 30) for k in range(31)))
    assert [e.tolist() for e in nearest_entries(31, 19)] == [two.tolist(), one.tolist()]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not a report.json"), ("[]", "is not a report.json"), ('{"schema": 9}', "newer semhub_lens .schema 9")],
)
def test_what_is_no_report_is_refused_in_words(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SemhubError, match=message):
        read_report(tmp_path / "x.html")
    with pytest.raises(SemhubError, match=r"No report at .*y\.html: expected .*y\.json"):
        read_report(tmp_path / "y.html")


def test_a_report_that_leads_out_of_its_runs_is_refused(pair, tmp_path):
    record = json.loads(pair[0].with_suffix(".json").read_text(encoding="utf-8"))
    record["experiments"][0]["id"] = "../../elsewhere"
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(SemhubError, match="leads out of the folder"):
        read_report(tmp_path / "x.json")


def test_the_command_writes_one_page_and_measures_nothing(pair, tmp_path):
    one, two, *_ = map(str, pair[:2])
    out = tmp_path / "both.html"
    ended = CliRunner().invoke(command.app, ["report", "--compare", one, two, "--out", str(out), "--json"])
    assert ended.exit_code == 0, ended.output
    answer = json.loads(ended.stdout)
    assert answer["models"] == ["m1", "m2"] and answer["legs"][1]["difference"] is None and out.is_file()
    shown = CliRunner().invoke(command.app, ["report", "--compare", one, two, "--out", str(out)])
    assert shown.exit_code == 0 and "code.similarity" in shown.output
    for wrong, message in ((["-n", "16"], "measures nothing"), (["--out", one], "is the page of one of the two")):
        ended = CliRunner().invoke(command.app, ["report", "--compare", one, two, *wrong])
        assert message in str(ended.exception)


def test_verdicts_of_other_splits_are_compared_over_as_many_items_as_a_verdict_needs():
    """Halves of two seeds have about half of their items in common; an interval of few is too narrow."""
    for items, enough in ((16, False), (40, True)):
        a, b = (planted("m", 4, 1.0, items=items, split=seed, seed=seed) for seed in (0, 1))
        b = replace(b, provenance=replace(b.provenance, seed=1))
        both = len({*halves(items, 0)[1].tolist()} & {*halves(items, 1)[1].tolist()})
        found = difference(a, b)
        assert (both >= 8) == enough and found.items == (both if enough else 0) and found.curve is not None
        assert (found.verdicts is None) != enough
        assert found.reason == ("" if enough else f"the reporting halves have {both} items in common, fewer than 8")
