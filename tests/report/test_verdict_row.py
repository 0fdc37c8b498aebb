"""One leg is one row: report, results page, command line, `summary` and run.json print the same figures."""

import dataclasses
import html
import json
import re

import pytest
import torch
from rich.console import Console

from samples import leg_text
from semhub_lens import experiments
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.cli import main
from semhub_lens.cli import printed as cli_printed
from semhub_lens.cli.printed import summary_table
from semhub_lens.evidence.legs import COLUMNS, ExperimentResult, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.evidence.verdict_row import VerdictRow
from semhub_lens.experiments.runs import RECORD, save_run
from semhub_lens.report import orchestration, results_page
from semhub_lens.report.hub_page import HubPage
from semhub_lens.report.orchestration import Measured

PLANTED = Provenance("planted", "-", "-", "float32", "cpu", "none", False)
ID = "arithmetic.steering"


def leg_of(name, size, seed, **settings):
    effect = size + size * torch.randn(4, 40, generator=generator(seed))
    words = leg_text(name, "arithmetic", "causality", "nats")
    controls = {"kept": effect + 5, "lost": effect - 50}
    settings |= {"curves": {"effect": effect.mean(1)}, "controls": controls}
    return make_leg(effect, sign_flips(effect), words, provenance=PLANTED, seed=seed, **settings)


@pytest.fixture(scope="module")
def result():
    grid = [(1, 2.0), (1, 4.0), (2, 2.0), (2, 4.5)]
    legs = (leg_of("a | leg", 1.3, 0), leg_of("moved", 23.456, 1, grid=grid))
    return ExperimentResult(ID, "planted", legs, ("a note",), provenance=PLANTED)


def printed(row):
    """What every table prints of a leg."""
    return [row.status, row.effect, row.interval, row.null, row.at]


def of_report(result):
    page = HubPage(where=PLANTED, size="small").html(Measured(results=[result], unmeasured={}))
    table = page[page.index('<section id="verdicts">') : page.index('id="missing"')]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row, re.S) for row in table.split("<tr>")[2:]]
    cells = [[html.unescape(re.sub(r"<.*?>", "", cell)) for cell in row] for row in rows]
    return [[row[i] for i in (2, 3, 4, 5, 7)] for row in cells]


def of_results_page(result, folder, monkeypatch):
    monkeypatch.setattr(experiments, "run", lambda *_, out, **__: save_run(result, out / ID, {}, seconds=1.0) or result)
    monkeypatch.setattr(results_page, "load", lambda name: name)
    monkeypatch.setattr(results_page, "resolve", lambda name: (None, None))
    monkeypatch.setattr(orchestration, "untrained", lambda model, seed: model)
    monkeypatch.setattr(orchestration, "fitting", lambda model: ({}, {}))
    path, _ = results_page.results_page(["one"], folder / "page.md", runs=folder, only=[ID], progress=False)
    lines = re.findall(r"^\| (?:a \\\| leg|moved) .*", path.read_text(), re.M)
    cells = [re.split(r" (?<!\\)\| ", line) for line in lines]
    effects = [re.fullmatch(r"(\S+) \[(.*)\] nats", row[2]).groups() for row in cells]
    return [[row[1], *effect, row[3], row[4]] for row, effect in zip(cells, effects, strict=True)]


def of_command_line(result, monkeypatch):
    monkeypatch.setattr(results_page, "results_page", lambda *_, **__: (main.Path("page.md"), [result]))
    console = Console(width=200, record=True)
    monkeypatch.setattr(cli_printed, "console", console)
    main.results(jobs=1)
    lines = [line for line in console.export_text().splitlines() if "a | leg" in line or "moved" in line]
    return [[cell.strip() for cell in line.strip("│ ").split("│")][1:] for line in lines]


def test_the_five_outputs_agree_on_every_figure(result, tmp_path, monkeypatch):
    rows = result.rows()
    assert [row.strength is None for row in rows] == [True, False]
    expected = [printed(row) for row in rows]
    assert of_report(result) == expected
    assert of_results_page(result, tmp_path, monkeypatch) == expected
    assert of_command_line(result, monkeypatch) == expected
    recorded = json.loads((tmp_path / "one" / ID / RECORD).read_text())["verdicts"]
    summary = result.summary().rename(columns={name: field for field, name in COLUMNS.items()})
    for row, saved, (_, listed) in zip(rows, recorded, summary.iterrows(), strict=True):
        saved["title"] = saved.pop("leg")
        for name, value in dataclasses.asdict(row).items():
            assert saved[name] == (list(value) if isinstance(value, tuple) else value), name
            assert listed[name] == value or (value is None and listed[name] != listed[name]), name
        assert [check["name"] for check in saved["checks"] if check["holds"]] == list(row.holds) == ["kept"]


def test_a_new_figure_of_the_row_stands_in_the_summary_and_the_record(result):
    fields = {field.name for field in dataclasses.fields(VerdictRow)}
    assert {COLUMNS.get(name, name) for name in fields} == set(result.summary().columns)


@pytest.mark.parametrize("value, text", [(0.12345, "0.123"), (-9.987, "-9.99"), (123.456, "123.5"), (1e-5, "1e-05")])
def test_figures_are_short(result, value, text):
    row = dataclasses.replace(result.rows()[0], estimate=value, low=value, high=value, threshold=value, embedding=value)
    assert {row.effect, row.null, row.baseline} == {text} and row.interval == f"{text} to {text}"


@pytest.mark.parametrize("status", ["supported", "not supported", "opposite"])
@pytest.mark.parametrize("fails", [(), ("lost",)])
def test_only_a_supported_leg_that_holds_against_every_control_is_no_surprise(result, status, fails):
    row = dataclasses.replace(result.rows()[0], status=status, fails=fails)
    assert row.surprises == ((status, fails) != ("supported", ()))


def test_on_a_terminal_of_80_columns_no_figure_is_cut(result, monkeypatch):
    console = Console(width=80, record=True)
    monkeypatch.setattr(cli_printed, "console", console)
    console.print(summary_table([result]))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines()) and "…" not in text
    for row in result.rows():
        line = next(line for line in text.splitlines() if row.interval in line)
        at = str(row.layer) if row.strength is None else f"{row.layer} × {row.strength:g}"
        assert row.status in line and row.effect in line and line.rstrip().endswith(at)


def test_every_figure_is_printed_in_its_own_place(result):
    row = dataclasses.replace(result.rows()[0], estimate=1.0, low=2.0, high=3.0, threshold=4.0, embedding=5.0, layer=6)
    assert (row.effect, row.interval, row.null, row.baseline, row.at) == ("1", "2 to 3", "4", "5", "6")
    assert dataclasses.replace(row, strength=0.5, embedding=None).at == "6, strength 0.5"
