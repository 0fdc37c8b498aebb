"""Printing results: tables for people, one JSON object for scripts."""

from collections.abc import Mapping, Sequence

import typer
from rich.box import HEAVY_HEAD, SIMPLE
from rich.table import Table

from semhub_lens.base.json_text import in_json
from semhub_lens.cli.options import cell, console, say
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.evidence.verdict_row import VerdictRow

NARROW = 100
"""Width of a terminal without room for the null next to the effect; the page shows it."""


def summary_table(results: Sequence[ExperimentResult]) -> Table:
    """A table with one row for each leg."""
    narrow = console.width < NARROW
    names = ["effect", "95 % interval", *(["at"] if narrow else ["null 95 %", "layer"])]
    title = "effect on the half of the items that did not choose the layer"
    title = "effect on items that did not choose the layer; at: layer × strength" if narrow else title
    table = Table(title=title, title_justify="left", padding=(0, 1), box=SIMPLE if narrow else HEAVY_HEAD)
    table.add_column("leg", min_width=20)
    table.add_column("verdict", no_wrap=not narrow)
    for name in names:
        table.add_column(name, justify="right", no_wrap=not narrow)
    colours = {"supported": "green", "opposite": "red"}
    for result in results:
        table.add_section()
        table.add_row(cell(result.id, "bold"))
        for row in result.rows():
            status = cell(row.status, colours.get(row.status, "dim"))
            figures = [row.effect, row.interval, *([_short(row)] if narrow else [row.null, row.at])]
            table.add_row(cell(row.title), status, *figures)
    return table


def answer(
    results: Sequence[ExperimentResult], files: Mapping[str, str], note: str, as_json: bool, quiet: bool
) -> None:
    """Print all figures and the files as JSON, or the table and the note, or nothing."""
    if as_json:
        rows = [vars(row) for result in results for row in result.rows()]
        typer.echo(in_json({"results": rows, **files}))
    elif not quiet:
        console.print(summary_table(results))
        say(note)


def _short(row: VerdictRow) -> str:
    return str(row.layer) if row.strength is None else f"{row.layer} × {row.strength:g}"
