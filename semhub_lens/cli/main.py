"""The command `semhub`: new, lens, check, run, report, results, experiments, info, models, train-spoke."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from semhub_lens import spokes
from semhub_lens.base.allocator import keep_freed_memory
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_file, require_place, user_path
from semhub_lens.base.json_text import in_json
from semhub_lens.base.processes import is_main
from semhub_lens.base.progress import said
from semhub_lens.cli.about import checks, findings, packaged, told
from semhub_lens.cli.compared import compared
from semhub_lens.cli.lens_shown import lens_json, lens_table
from semhub_lens.cli.options import (
    DEFAULT,
    MODEL,
    Backend,
    Baseline,
    Commands,
    Compare,
    ConventionName,
    Device,
    Dtype,
    Full,
    InJson,
    Items,
    Languages,
    LensNorm,
    ModelName,
    Quiet,
    Reference,
    ReportPage,
    RunNorm,
    Seed,
    SpokeName,
    Steering,
    Template,
    TextCommand,
    Version,
    console,
    example,
    load_model,
    one_voice,
    only_ours,
    require_media_options,
    say,
)
from semhub_lens.cli.printed import answer
from semhub_lens.cli.starter import starter
from semhub_lens.experiments import registry
from semhub_lens.experiments.job import Convention
from semhub_lens.lens.language_tables import language_table
from semhub_lens.lens.logit_lens import logit_lens
from semhub_lens.model import host
from semhub_lens.model.packaged import PACKAGED
from semhub_lens.model.readout import Norm
from semhub_lens.model.sources import resolve
from semhub_lens.report import report as hub_report
from semhub_lens.report import results_page
from semhub_lens.views.page import write_html

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app = typer.Typer(
    cls=Commands,
    help="Read, compare and steer the semantic hub of a language model.",
    no_args_is_help=True,
    epilog="Exit status: 0 done, 1 a check failed, 2 an error that you can fix, 130 stopped.",
)
START, MEASURE, LISTS = "Start", "Measure", "Lists and training"


@app.callback()
def semhub(version: Version = False) -> None:
    """Options before the command."""


@app.command(rich_help_panel=START, epilog=example("new start.ipynb --model gemma-3-270m"))
def new(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write: a script (.py) or a notebook (.ipynb).")
    ],
    model: ModelName = DEFAULT,
    data: Annotated[
        Path | None,
        typer.Option(help=("Pairs of texts: a file with two columns separated by a tab; default: bundled pairs.")),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a starter script or notebook for your own model and texts: check, lens, similarity, steering."""
    if model not in PACKAGED:
        resolve(model)
    written = starter(path, model, data)
    if not quiet:
        say(f"written: {written.resolve()}")


@app.command(cls=TextCommand, rich_help_panel=START, epilog=example("lens 'El color del cielo es' --html lens.html"))
def lens(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The prompt, in quotes.")],
    model: ModelName = DEFAULT,
    html: Annotated[Path | None, typer.Option(help="Write an interactive page to this file.")] = None,
    as_json: InJson = False,
    languages: Languages = True,
    top_k: Annotated[int, typer.Option(min=1, help="Alternatives to keep in each cell.")] = 10,
    norm: LensNorm = "final",
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
    quiet: Quiet = False,
) -> None:
    """Show what the model would predict at every layer of TEXT."""
    if not text.strip():
        raise SemhubError(f"The prompt text is empty ({text!r}); give a text of at least one word.")
    if html is not None:
        require_file(html)
    loaded = load_model(model, backend, device, dtype)
    result = logit_lens(loaded, text, top_k=top_k, norm=cast(Norm, norm), progress=False)
    if languages:  # after the lens, which refuses wrong values, because the table takes a while
        result = result.with_languages(language_table(loaded, progress=False))
    written = None if html is None else write_html(result, html)
    if as_json:
        typer.echo(lens_json(result, written))
    if as_json or quiet:
        return
    styled = bool(console.color_system)
    console.print(lens_table(result, console.width, colours=styled and not console.no_color, shades=styled))
    say("--html FILE writes an interactive page" if written is None else f"page: {written.resolve()}")


@app.command(rich_help_panel=START, epilog=example("check smollm2-135m"))
def check(
    model: Annotated[str, MODEL] = DEFAULT,
    reference: Reference = True,
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
    as_json: InJson = False,
    quiet: Quiet = False,
) -> None:
    """Verify MODEL. The exit status is 1 if its read-out or its agreement with Hugging Face fails."""
    found = _verified(model, backend, device, dtype, reference)
    if as_json:
        typer.echo(in_json({"model": found.provenance.model, "sound": found.sound, "findings": findings(found)}))
    elif not quiet:
        console.print(checks(found))
    if not found.sound:
        raise typer.Exit(1)


def _verified(model: str, backend: str, device: str | None, dtype: str, reference: bool = True) -> host.HostCheck:
    expected = host.recorded(model, dtype) if reference else None
    return host.check(load_model(model, backend, device, dtype, check=False), reference=expected)


@app.command(rich_help_panel=MEASURE, epilog=example("run arithmetic.logit_lens -n 40 --out out"))
def run(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="An id from `semhub experiments`.")],
    model: ModelName = DEFAULT,
    n: Items = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for the saved run; a stopped run resumes there.")] = Path("out"),
    norm: RunNorm = None,
    convention: ConventionName = "corrected",
    data: Annotated[str | None, typer.Option(help="Your own corpus: folder, file or name of a data set.")] = None,
    baseline: Baseline = True,
    spoke: SpokeName = None,
    template: Template = "{}",
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
    as_json: InJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one experiment; print its verdicts and save table, tensors, record and figure."""
    (chosen,) = registry.require_experiments([experiment])
    require_media_options(chosen, spoke, template)
    registry.require_sample(n, seed)  # before the model is loaded
    registry.require_norm(norm, baseline)
    require_place(out)
    loaded = load_model(model, backend, device, dtype)
    reader = None
    if chosen.modality:
        reader = spokes.reader_for(loaded, chosen.modality, spoke=spoke, processor=model, template=template)
    result = registry.run(
        experiment, loaded, n=n, seed=seed, norm=cast(Norm | None, norm), convention=cast(Convention, convention),
        data=data, baseline=baseline, out=out, reader=reader, progress=not quiet,
    )  # fmt: skip
    saved = user_path(out) / experiment
    files = f"saved: {saved}/items.parquet, result.safetensors, run.json, figure.html"
    answer([result], {"saved": str(saved)}, files, as_json, quiet)


@app.command(rich_help_panel=MEASURE, epilog=example("report --out semhub_report.html"))
def report(
    model: ModelName = DEFAULT,
    out: ReportPage = None,
    compare: Compare = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of saved runs to resume from; default: next to the page.")
    ] = None,
    full: Full = False,
    steering: Steering = False,
    n: Items = None,
    seed: Seed = 0,
    backend: Backend = "bridge",  # stores tied embeddings once, like the random-weight model next to it
    device: Device = None,
    dtype: Dtype = "float32",
    as_json: InJson = False,
    quiet: Quiet = False,
) -> None:
    """Run all experiments and write the hub report: one offline page, which appears within a minute and fills up."""
    if compare is not None:
        return compared(*compare, out, as_json, quiet, measuring=bool(runs or full or steering or n is not None))
    out = out or Path("semhub_report.html")
    registry.require_sample(n, seed)
    said(f"Loading {model}.", shown=is_main() and not quiet)
    loaded = load_model(model, backend, device, dtype)
    try:
        path, measured = hub_report.report(
            loaded, out, n=n, seed=seed, full=full, steering=steering, runs=runs, progress=not quiet
        )
    except hub_report.Stopped as stop:
        say(str(stop))
        raise typer.Exit(130) from stop
    answer(measured, {"page": str(path.resolve())}, f"\nThe report is at {path.resolve()}", as_json, quiet)


@app.command(rich_help_panel=MEASURE, epilog=example("results -m gemma-3-270m -m smollm2-135m --out results.md"))
def results(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Repeat for several models.")] = None,
    out: Annotated[Path, typer.Option(help="The Markdown page to write.")] = Path("results.md"),
    runs: Annotated[Path, typer.Option(help="Folder of the saved runs; stopped runs resume there.")] = Path("runs"),
    only: Annotated[list[str] | None, typer.Option(help="Ids of experiments; repeat for several.")] = None,
    n: Items = None,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(help="Number of models measured at the same time.")] = 1,
    as_json: InJson = False,
    quiet: Quiet = False,
) -> None:
    """Run all experiments on several models and write one table."""
    path, measured = results_page.results_page(
        model or [DEFAULT], out, runs=runs, only=only or None, n=n, seed=seed, jobs=jobs, progress=not quiet
    )
    answer(measured, {"page": str(path.resolve())}, f"\nThe table is at {path.resolve()}", as_json, quiet)


@app.command(rich_help_panel=LISTS, epilog=example("experiments"))
def experiments(as_json: InJson = False) -> None:
    """List the experiments."""
    if as_json:
        rows = registry.EXPERIMENTS.values()
        typer.echo(in_json([{"id": e.id, "title": e.title, "items": e.n, "data": e.takes} for e in rows]))
        return
    table = Table(padding=(0, 1))
    table.add_column("id", no_wrap=True)
    for name in ("what", "items", "your own data"):
        table.add_column(name)
    for entry in registry.EXPERIMENTS.values():
        table.add_row(entry.id, entry.title, str(entry.n), entry.takes)
    console.print(table)


@app.command(rich_help_panel=LISTS, epilog=example("info gemma-3-270m"))
def info(
    model: Annotated[str | None, MODEL] = None,
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
    as_json: InJson = False,
) -> None:
    """Print text for a bug report: versions, and the facts and checks of MODEL."""
    told(None if model is None else _verified(model, backend, device, dtype), as_json)


@app.command(rich_help_panel=LISTS, epilog=example("models --json"))
def models(as_json: InJson = False) -> None:
    """List the packaged offline models and whether their weights are installed."""
    packaged(as_json)


@app.command("train-spoke", rich_help_panel=LISTS, add_help_option=False, context_settings=PASSED_ON)
def train_spoke(context: typer.Context) -> None:
    """Train and test a projector that lets a text-only model read pictures or sound (extra `train`)."""
    from semhub_lens.training.command import app as training  # the extra `train` may be missing

    training(context.args, prog_name="semhub train-spoke", standalone_mode=False)


def main() -> None:
    """Entry point: user errors are one message, not a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    only_ours()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow encoding must not lose a measurement
    try:
        with one_voice():
            app()
    except SemhubError as error:
        if is_main():  # in a launch it is the error of all
            say(f"semhub: {error}", "red")
        sys.exit(2)


if __name__ == "__main__":
    main()
