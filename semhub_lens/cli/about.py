"""Versions and checks for a bug report, and the packaged models."""

import importlib.util
import platform
from dataclasses import asdict
from importlib.metadata import version

import torch
import typer
from rich.table import Table

from semhub_lens.base.json_text import in_json
from semhub_lens.cli.options import cell, console, say
from semhub_lens.model.host import HostCheck
from semhub_lens.model.packaged import PACKAGED, PackagedModel

PACKAGES = ("semhub-lens", "transformer-lens", "transformers", "torch", "numpy", "safetensors")


def told(found: HostCheck | None, as_json: bool) -> None:
    """Print the machine, the versions, and the checks of a model."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    here = {"Python": platform.python_version(), "system": platform.platform()}
    here |= {"device": device, "threads": str(torch.get_num_threads())} | {name: version(name) for name in PACKAGES}
    if as_json:
        checked = {} if found is None else {"provenance": asdict(found.provenance), "findings": findings(found)}
        typer.echo(in_json(here | checked))
        return
    say("\n".join(f"{name}: {value}" for name, value in here.items()))
    if found is not None:
        say(f"\n{found!r}\n\n{found.provenance.line()}")


def checks(found: HostCheck) -> Table:
    """The rows of a check."""
    table = Table("what", "verified", "deviation", "at most", "what runs do", padding=(0, 1))
    for row in found.findings:
        figures = ("" if value is None else f"{value:.1e}" for value in (row.figure, row.tolerance))
        table.add_row(row.what, row.verified, *figures, cell(row.runs))
    return table


def findings(found: HostCheck) -> list[dict[str, object]]:
    """The rows of a check, for JSON."""
    return [vars(row) for row in found.findings]


def packaged(as_json: bool) -> None:
    """Print the packaged models."""
    rows = [(entry.name, _installed(entry), entry.install, entry.licence) for entry in PACKAGED.values()]
    if as_json:
        typer.echo(in_json([dict(zip(("name", "installed", "install", "licence"), row, strict=True)) for row in rows]))
        return
    table = Table("name", "installed", "how to install", "licence")
    for name, here, install, licence in rows:
        table.add_row(name, "yes" if here else "no", install, licence)
    console.print(table)
    console.print(
        "Also: any local folder, GGUF file, or Hugging Face name that the installed transformer-lens supports."
    )


def _installed(entry: PackagedModel) -> bool:
    return all(importlib.util.find_spec(module) is not None for module, _ in entry.parts)
