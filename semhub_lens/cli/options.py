"""Shared parts of the commands: options, printing, and loading a model."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from semhub_lens.base.arguments import nearest
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.processes import in_step, is_main
from semhub_lens.base.shown_text import harmless
from semhub_lens.experiments.job import Convention
from semhub_lens.experiments.runs import Experiment
from semhub_lens.model import loading
from semhub_lens.model.facts import Model
from semhub_lens.model.readout import Norm

console = Console(markup=False)


def _versions(wanted: bool) -> bool:
    """Print this package's version and that of transformer-lens, which decides the model classes."""
    if wanted:
        typer.echo(f"semhub-lens {version('semhub-lens')}, transformer-lens {version('transformer-lens')}")
        raise typer.Exit
    return wanted


FLAG = ""
"""The metavar of an option without a value; else its help would show the type `<bool>`."""


def _one_of(option: str, words: tuple[str, ...], told: str) -> Any:
    """An option that refuses other words before a model is loaded, and names the nearest one; `told` is its help."""

    def taken(value: str | None) -> str | None:
        if value is None or value in words:
            return value
        wanted = ", ".join(map(repr, words))
        raise SemhubError(f"{option} takes one of {wanted}, got {value!r}{nearest(value, words)}.")

    return typer.Option(help=told, callback=taken)


HOST = "Packaged model, folder, GGUF file or hub name."
MODEL = typer.Argument(metavar="MODEL", help=HOST)
ModelName = Annotated[str, typer.Option("--model", "-m", help=HOST)]
Backend = Annotated[str, _one_of("--backend", get_args(loading.Backend), "auto, hooked or bridge.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")]
Dtype = Annotated[str, _one_of("--dtype", tuple(loading.DTYPES), "float32, bfloat16 or float16.")]
Seed = Annotated[int, typer.Option(help="Seed of the items, bootstrap, null and split.")]
Items = Annotated[int | None, typer.Option("--n", "-n", help="Items per experiment; default: each experiment's own.")]
InJson = Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print one JSON value and nothing else.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", metavar=FLAG, help="Print errors only, no progress and no tables.")
]
READ = "final (the model's norm), none (bare states), paper (as the reference code) or tuned (translators"
LensNorm = Annotated[str, _one_of("--norm", get_args(Norm), f"{READ}).")]
RunNorm = Annotated[str | None, _one_of("--norm", get_args(Norm), f"{READ}; needs --no-baseline). Default: final.")]
ConventionName = Annotated[
    str, _one_of("--convention", get_args(Convention), "corrected, or paper for the choices of the reference code.")
]
Languages = Annotated[
    bool,
    typer.Option(metavar=FLAG, help="Colour by language. The table of a vocabulary is built once and then cached."),
]
Reference = Annotated[
    bool,
    typer.Option(metavar=FLAG, help="Compare with the Hugging Face model of the same weights, which is loaded first."),
]
Baseline = Annotated[bool, typer.Option(metavar=FLAG, help="Also measure a random-weight model of the same shape.")]
SpokeName = Annotated[
    str | None,
    typer.Option(help="Pictures and sound: a packaged spoke or a projector file; default: the model's own."),
]
Template = Annotated[
    str, typer.Option(help="Multimodal models: the format around a text, such as 'USER: {} ASSISTANT:'.")
]
Full = Annotated[
    bool,
    typer.Option(
        "--full",
        metavar=FLAG,
        help="Each experiment's own number of items instead of at most 32: about half an hour.",
    ),
]
Steering = Annotated[
    bool, typer.Option(metavar=FLAG, help="Also run the steering sweeps and vision.patching (some minutes each).")
]
ReportPage = Annotated[
    Path | None, typer.Option(help="The page; default: semhub_report.html, with --compare semhub_comparison.html.")
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(help="Two report pages or report.json files to compare on one page; measures nothing."),
]
Version = Annotated[
    bool,
    typer.Option("--version", metavar=FLAG, is_eager=True, callback=_versions, help="Print the version and exit."),
]
DEFAULT = "gemma-3-270m"


DASHED = "Put a text that starts with a dash after --, and options before it: semhub lens --top-k 5 -- '-1 + 1 ='"


def example(arguments: str) -> str:
    """The last line of a command's help."""
    return f"Example: semhub {arguments}"


class Commands(TyperGroup):
    """All commands. They refuse an empty value, because typer reads an empty path as the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after `semhub`."""
        if not ctx.resilient_parsing:  # of a shell that completes a command
            _require_values(args[: args.index("--")] if "--" in args else args)
        return super().parse_args(ctx, args)


def _require_values(words: Sequence[str]) -> None:
    for before, word in pairwise(("", *words)):
        joined = re.fullmatch(r"(--[\w-]+)=", word)
        if joined or (not word and before.startswith("-")):
            option = joined[1] if joined else before
            raise SemhubError(f"The value of {option} is empty (''). Give a value, or leave out {option}.")
        if not word:
            raise SemhubError("An argument is empty (''). See semhub COMMAND --help for what a command takes.")


class TextCommand(TyperCommand):
    """A command whose argument is a text that may start with a dash."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; refuse a text that would be read as an option."""
        options = args[: args.index("--")] if "--" in args else list(args)
        for entry in options:
            if entry.startswith("-") and len(entry.partition("=")[0].split()) > 1:
                raise SemhubError(f"{entry!r} is not an option. {DASHED}.")
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if "extra argument" in getattr(error, "message", ""):
                raise SemhubError("Put the text in quotes: semhub lens 'La casa es'") from error
            if not hasattr(error, "possibilities"):  # the class is in click or, in newer versions, in typer
                raise
            name, near = getattr(error, "option_name", ""), " or ".join(getattr(error, "possibilities", None) or ())
            meant = f"did you mean {near}?" if near else "see semhub lens --help."
            raise SemhubError(f"There is no option {name!r}; {meant} {DASHED}.") from error


def cell(text: str, style: str = "") -> Text:
    """Text of a table cell, unchanged except for control characters."""
    return Text(harmless(text), style=style)


def say(text: str, style: str = "") -> None:
    """Print lines unchanged except for control characters; long lines are not wrapped."""
    console.print(Text(harmless(text, kept="\n"), style=style), soft_wrap=True)


def only_ours() -> None:
    """Hide the warnings and notes of other libraries, unless Python was started with an option to show warnings."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)


@contextmanager
def one_voice() -> Iterator[None]:
    """In a launch, only the main process prints; an error in another process becomes its error too."""
    with in_step("the command"):
        if is_main():
            yield
            return
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield


def require_media_options(experiment: Experiment, spoke: str | None, template: str) -> None:
    """Refuse a spoke or a template for an experiment that reads text only.

    Raises:
        SemhubError: one of them is given, and the experiment has no pictures or sound.
    """
    if not experiment.modality and (spoke is not None or template != "{}"):
        given = f"--template {template!r}" if spoke is None else f"--spoke {spoke!r}"
        raise SemhubError(f"{experiment.id} reads text, but {given} is for pictures and sound. Leave it out.")


def load_model(name: str, backend: str, device: str | None, dtype: str, check: bool = True) -> Model:
    """Load a model by the values of the options."""
    return loading.load(name, backend=cast(loading.Backend, backend), device=device, dtype=dtype, check=check)
