"""`semhub report --compare A B`: two saved reports on one page."""

from pathlib import Path

import typer
from rich.table import Table

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.json_text import in_json
from semhub_lens.cli.options import cell, console, say
from semhub_lens.report.compare import compare_reports


def compared(a: Path, b: Path, out: Path | None, as_json: bool, quiet: bool, *, measuring: bool) -> None:
    """Write the page; print every leg of both as JSON, or the table, or nothing.

    Raises:
        SemhubError: an option beside it that asks for a measurement (`measuring`).
    """
    if measuring:
        raise SemhubError("--compare reads two reports and measures nothing: leave out --runs, --full, --steering, -n.")
    out = out or Path("semhub_comparison.html")
    found = compare_reports(a, b, path=out)
    if as_json:
        rows = found.to_frame().to_dict("records")
        typer.echo(in_json({"models": found.names, "legs": rows, "page": str(out.resolve())}))
    if as_json or quiet:
        return
    table = Table("leg", *(cell(name) for name in found.names), "difference", padding=(0, 1))
    for leg in found.legs:
        verdicts = [f"{row.effect} at {depth}, {row.status}" for row, depth in zip(leg.rows, leg.depths, strict=True)]
        mean, interval = leg.printed
        shown = f"{mean} [{interval}]" if mean else ""
        table.add_row(*map(cell, (f"{leg.rows[0].experiment}: {leg.rows[0].title}", *verdicts, shown)))
    console.print(table)
    say(f"The page is at {out.resolve()}")
