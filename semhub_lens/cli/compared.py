"""`semhub report --compare A B`: two saved reports on one page."""

from itertools import groupby
from pathlib import Path

import typer
from rich.box import SIMPLE
from rich.table import Table

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.json_text import in_json
from semhub_lens.cli.options import cell, console, say
from semhub_lens.report.compare import compare_reports

WIDEST_ID = 27
"""Width of the longest id of an experiment, in columns."""


def compared(a: Path, b: Path, out: Path | None, as_json: bool, quiet: bool, *, measuring: bool) -> None:
    """Write the page; print every leg of both as JSON, or the table, or nothing.

    Raises:
        SemhubError: another option requests a measurement (`measuring`).
    """
    if measuring:
        raise SemhubError(
            "--compare reads two reports and measures nothing. Leave out --runs, --full, --steering and -n."
        )
    out = out or Path("semhub_comparison.html")
    found = compare_reports(a, b, path=out)
    if as_json:
        rows = found.to_frame().to_dict("records")
        typer.echo(in_json({"models": found.names, "legs": rows, "page": str(out.resolve())}))
    if as_json or quiet:
        return
    table = Table(title="effect at its depth", box=SIMPLE)
    for header in ("leg", *found.names, "difference [95 %]"):
        table.add_column(cell(header), min_width=WIDEST_ID if header == "leg" else None)
    for name, legs in groupby(found.legs, lambda leg: leg.rows[0].experiment):
        table.add_section()
        table.add_row(cell(name, "bold"))
        for leg in legs:
            sides = [f"{row.status}, {row.effect} at {at}" for row, at in zip(leg.rows, leg.depths, strict=True)]
            mean, interval = leg.printed
            table.add_row(*map(cell, (leg.rows[0].title, *sides, f"{mean} [{interval}]" if mean else "")))
    console.print(table)
    say(f"The page is at {out.resolve()}")
