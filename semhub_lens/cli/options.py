"""What the commands share: options, the console, and loading a model by their values."""

from typing import Annotated, cast

import typer
from rich.console import Console

from semhub_lens.model import loading
from semhub_lens.model.facts import Model

console = Console()

ModelName = Annotated[str, typer.Option("--model", "-m", help="Packaged model, folder, GGUF file or hub name.")]
Backend = Annotated[str, typer.Option(help="auto, hooked or bridge.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Seed = Annotated[int, typer.Option(help="Chooses items and feeds bootstrap, null and split.")]
Items = Annotated[int | None, typer.Option("--n", "-n", help="Items per experiment; default: each experiment's own.")]
DEFAULT = "gemma-3-270m"


def load_model(name: str, backend: str, device: str | None, dtype: str, check: bool = True) -> Model:
    """A model by the values of the options."""
    return loading.load(name, backend=cast(loading.Backend, backend), device=device, dtype=dtype, check=check)
