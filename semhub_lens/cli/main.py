"""The command `semhub`: lens, run, report, results, experiments, models, train-spoke."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table
from rich.text import Text

from semhub_lens.base.allocator import keep_freed_memory
from semhub_lens.base.errors import SemhubError
from semhub_lens.cli.options import DEFAULT, Backend, Device, Dtype, Items, ModelName, Seed, console, load_model

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app = typer.Typer(
    help="Read, compare and move the semantic hub of a language model.", no_args_is_help=True, add_completion=False
)


@app.command()
def lens(
    text: Annotated[str, typer.Argument(help="The prompt.")],
    model: ModelName = DEFAULT,
    html: Annotated[Path | None, typer.Option(help="Write the interactive heat map to this file.")] = None,
    top_k: Annotated[int, typer.Option(help="Alternatives to keep in each cell.")] = 10,
    norm: Annotated[str, typer.Option(help="final (the model's norm, then unembed) or none (bare states).")] = "final",
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Show what the model would predict at every layer of TEXT."""
    if not text.strip():
        raise SemhubError(f"The prompt text is empty ({text!r}); give a text of at least one word.")
    import semhub_lens as shl
    from semhub_lens.model.readout import Norm

    result = shl.logit_lens(
        load_model(model, backend, device, dtype), text, top_k=top_k, norm=cast(Norm, norm), progress=False
    )
    console.print(_lens_table(result, max(1, (console.width - 8) // 14)))
    if html is not None:
        console.print(f"heat map: {shl.write_html(result, html)}")


def _lens_table(result: "object", columns: int) -> Table:
    from semhub_lens.lens.logit_lens import LensResult

    assert isinstance(result, LensResult)
    strings, probability = result.strings(), result.top_logprobs[..., 0].exp()
    layers, positions = probability.shape
    shown = range(max(0, positions - columns), positions)
    table = Table(
        title="most probable next token, by layer (top: final) and input token", title_justify="left", padding=(0, 1)
    )
    table.add_column("layer", justify="right", style="dim")
    for pos in shown:
        table.add_column(Text(result.labels[pos]), max_width=11, no_wrap=True)
    for layer in reversed(range(layers)):
        cells = [Text(strings[layer][pos][0], style=_shade(float(probability[layer, pos]))) for pos in shown]
        table.add_row("emb" if layer == 0 else str(layer), *cells)
    return table


def _shade(probability: float) -> str:
    return "bold" if probability > 0.5 else "" if probability > 0.1 else "dim"


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="An id from `semhub experiments`.")],
    model: ModelName = DEFAULT,
    n: Items = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder for the saved run; a killed run goes on there.")] = Path("out"),
    norm: Annotated[str | None, typer.Option(help="final, none or paper; default: final.")] = None,
    convention: Annotated[
        str, typer.Option(help="corrected, or paper for the reference code's choices.")
    ] = "corrected",
    data: Annotated[str | None, typer.Option(help="Your own corpus: folder, file or dataset name.")] = None,
    baseline: Annotated[bool, typer.Option(help="Also measure a random-weight model of the same shape.")] = True,
    spoke: Annotated[
        str | None, typer.Option(help="Pictures, sound: packaged spoke or projector file; default: the model's own.")
    ] = None,
    template: Annotated[
        str, typer.Option(help="Multimodal models: their format around a text, such as 'USER: {} ASSISTANT:'.")
    ] = "{}",
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Run one experiment; print its verdicts and save table, tensors, record and figure."""
    import semhub_lens as shl
    from semhub_lens.experiments.job import Convention
    from semhub_lens.model.readout import Norm

    if experiment not in shl.experiments.EXPERIMENTS:
        raise SemhubError(f"Unknown experiment {experiment!r}; there are {', '.join(shl.experiments.EXPERIMENTS)}.")
    from semhub_lens.base.files import require_folder

    require_folder(out)
    loaded = load_model(model, backend, device, dtype)
    result = shl.experiments.run(
        experiment,
        loaded,
        n=n,
        seed=seed,
        norm=cast(Norm | None, norm),
        convention=cast(Convention, convention),
        data=data,
        baseline=baseline,
        out=out,
        reader=_reader(loaded, model, shl.experiments.EXPERIMENTS[experiment].modality, spoke, template),
    )
    console.print(_summary_table([result]))
    console.print(f"saved: {out / experiment}/items.parquet, result.safetensors, run.json, figure.html")


def _reader(model: Any, name: str, modality: str, spoke: str | None, template: str) -> Any:
    """What reads pictures or sound: the spoke that was named, the model's own processor, or its packaged spoke."""
    from semhub_lens import spokes
    from semhub_lens.inputs import readers

    if not modality:
        return None
    if spoke is not None:
        return spokes.load(spoke, model)
    if getattr(model.cfg, "is_multimodal", False):
        from transformers import AutoProcessor

        return readers.ProcessorReader(AutoProcessor.from_pretrained(name), cast(readers.Modality, modality), template)
    found, missing = spokes.fitting(model)
    if modality not in found:
        raise SemhubError(
            f"This experiment needs what reads {modality}, but {missing[modality]}. Give one with --spoke."
        )
    return found[modality]


@app.command()
def report(
    model: ModelName = DEFAULT,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("semhub_report.html"),
    runs: Annotated[Path | None, typer.Option(help="Folder of saved runs, to go on from and to keep.")] = None,
    steering: Annotated[
        bool, typer.Option(help="Run the steering sweeps and vision.patching as well (some minutes each).")
    ] = False,
    n: Items = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    device: Device = None,
    dtype: Dtype = "float32",
) -> None:
    """Run all experiments and write the hub report, one offline page."""
    from semhub_lens.report.report import report as make

    path, found = make(load_model(model, backend, device, dtype), out, n=n, seed=seed, steering=steering, runs=runs)
    console.print(_summary_table(found))
    console.print(f"\nThe report is at [bold]{path.resolve()}[/bold]")


@app.command()
def results(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Repeat for several models.")] = None,
    out: Annotated[Path, typer.Option(help="The Markdown page to write.")] = Path("results.md"),
    runs: Annotated[Path, typer.Option(help="Folder of the saved runs; killed runs go on there.")] = Path("runs"),
    only: Annotated[list[str] | None, typer.Option(help="Ids of experiments; repeat for several.")] = None,
    n: Items = None,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(help="Models measured at the same time.")] = 1,
) -> None:
    """Run all experiments on some models and write one table."""
    from semhub_lens.report.results_page import results_page

    path, found = results_page(model or [DEFAULT], out, runs=runs, only=only or None, n=n, seed=seed, jobs=jobs)
    console.print(_summary_table(found))
    console.print(f"\nThe table is at [bold]{path.resolve()}[/bold]")


def _summary_table(results: "list") -> Table:
    table = Table(
        title="effect on the half of the items that did not choose the layer", title_justify="left", padding=(0, 1)
    )
    table.add_column("leg")
    table.add_column("verdict", no_wrap=True)
    for name in ("effect", "95 % interval", "null 95 %", "layer"):
        table.add_column(name, justify="right", no_wrap=True)
    colours = {"supported": "green", "opposite": "red"}
    for result in results:
        table.add_section()
        table.add_row(Text(result.id, style="bold"))
        for leg in result.legs:
            found = leg.verdict
            status = Text(found.status, style=colours.get(found.status, "dim"))
            interval = f"{found.low:.3g} to {found.high:.3g}"
            table.add_row(leg.title, status, f"{found.estimate:.3g}", interval, f"{found.threshold:.3g}", _place(leg))
    return table


def _place(leg: "object") -> str:
    from semhub_lens.evidence.legs import Leg

    assert isinstance(leg, Leg)
    return str(leg.layer) if leg.strength is None else f"{leg.layer} x{leg.strength:g}"


@app.command()
def experiments() -> None:
    """List the experiments."""
    from semhub_lens.experiments.registry import EXPERIMENTS

    table = Table(padding=(0, 1))
    table.add_column("id", no_wrap=True)
    for name in ("what", "items", "your own data"):
        table.add_column(name)
    for entry in EXPERIMENTS.values():
        table.add_row(entry.id, entry.title, str(entry.n), Text(entry.takes))
    console.print(table)


@app.command()
def models() -> None:
    """List the packaged offline models, and whether their weights are installed."""
    from semhub_lens.model.packaged import PACKAGED

    table = Table("name", "installed", "how to install", "licence")
    for entry in PACKAGED.values():
        here = all(importlib.util.find_spec(module) is not None for module, _ in entry.parts)
        table.add_row(entry.name, "yes" if here else "no", Text(entry.install), entry.licence)
    console.print(table)
    console.print(
        "Also: any local folder, GGUF file, or Hugging Face name that the installed transformer-lens supports."
    )


@app.command("train-spoke", add_help_option=False, context_settings=PASSED_ON)
def train_spoke(context: typer.Context) -> None:
    """Train and test a projector that gives a text-only model eyes or ears (extra `train`)."""
    from semhub_lens.training.command import app as training

    training(context.args, prog_name="semhub train-spoke", standalone_mode=False)


def main() -> None:
    """Entry point: user errors are one message, not a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    try:
        app()
    except SemhubError as error:
        console.print(Text(f"semhub: {error}", style="red"), soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
