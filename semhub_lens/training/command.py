"""The command `semhub train-spoke`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_place, user_path
from semhub_lens.base.json_text import in_json
from semhub_lens.base.shown_text import harmless
from semhub_lens.model.loading import load
from semhub_lens.training.checkpoints import require_name
from semhub_lens.training.recipes import audio_plan, run_plan, vision_plan
from semhub_lens.training.sampler import TrainingSettings
from semhub_lens.training.sources import require_sources, styles
from semhub_lens.views.page import write_html

console = Console(markup=False)
app = typer.Typer(add_completion=False)


@app.command(epilog="Example: semhub train-spoke vision --out eyes --font NotoColorEmoji.ttf")
def train_spoke(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="vision or audio.")],
    out: Annotated[Path, typer.Option(help="Folder of this training; a stopped one resumes there.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Packaged model, folder, GGUF file or hub name.")] = (
        "gemma-3-270m"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the spoke; default: KIND-MODEL.")] = None,
    stamps: Annotated[Path | None, typer.Option(help="Tux Paint's stamps (a folder).")] = None,
    font: Annotated[Path | None, typer.Option(help="Vision: a colour font of emoji (Noto).")] = None,
    more: Annotated[list[str] | None, typer.Option(help="Vision: STYLE=FOLDER of further emoji.")] = None,
    named: Annotated[
        list[str] | None, typer.Option(help="STYLE=FOLDER of files whose names say what they show or say.")
    ] = None,
    words: Annotated[int, typer.Option(help="Audio: number of English words.")] = 1200,
    cache: Annotated[Path | None, typer.Option(help="Folder of encoder features; default: OUT/features.")] = None,
    views: Annotated[int | None, typer.Option(help="Views of each item; default: 6 vision, 2 audio.")] = None,
    grid: Annotated[int, typer.Option(help="Vision: regions per side.")] = 3,
    embeddings: Annotated[
        int | None, typer.Option(help="Number of vectors; default: one per region, or 4 for audio.")
    ] = None,
    hidden: Annotated[int, typer.Option(help="Size of the projector's hidden layer.")] = 512,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2000,
    batch: Annotated[int, typer.Option(help="Items a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="At the peak.")] = 1e-3,
    dropout: Annotated[float, typer.Option(help="Dropout of the hidden layer.")] = 0.2,
    weight_decay: Annotated[float, typer.Option(help="AdamW's.")] = 0.05,
    mixup: Annotated[float, typer.Option(help="Mix features of two items; 0 is off.")] = 0.0,
    english: Annotated[float, typer.Option(help="Share of English names.")] = 0.5,
    regions: Annotated[int, typer.Option(help="Vision: number of random vectors shown in a step; 0 shows all.")] = 0,
    candidates: Annotated[int, typer.Option(help="Number of tokens that the loss compares.")] = 8000,
    every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    pretraining: Annotated[
        int, typer.Option(help="Pretraining steps as a classifier of names, without the model.")
    ] = 0,
    codes: Annotated[
        bool, typer.Option(metavar="", help="Learn one vector for each name and mix these; needs --pretraining.")
    ] = False,
    rank: Annotated[
        int, typer.Option(help="Dimensions of a code, for a smaller table; 0: as many as the vectors have.")
    ] = 0,
    folds: Annotated[
        int, typer.Option(help=("Number of folds: codes also learn from classifiers that have not seen the item."))
    ] = 0,
    summed: Annotated[
        bool, typer.Option(metavar="", help="Learn a name's whole log-likelihood instead of its mean per token.")
    ] = False,
    shuffle_pairs: Annotated[bool, typer.Option(metavar="", help="The null: train on names of other items.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the items, views and starting weights.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: cuda where there is one.")] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the frozen model in training; tests run in float32.")
    ] = "bfloat16",
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON value and nothing else.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", help="Print errors only, no progress and no tables.")
    ] = False,
) -> None:
    """Train and test a projector that lets a text-only model read pictures or sound."""
    if kind not in ("vision", "audio"):
        raise SemhubError(f"Unknown kind {kind!r}; expected vision or audio.")
    if kind == "vision" and font is None:
        raise SemhubError("A vision spoke learns from emoji. Give a colour font with --font.")
    sizes = {"words": words, "views": views, "grid": grid, "embeddings": embeddings, "hidden": hidden, "every": every}
    if wrong := [f"--{name} {size}" for name, size in sizes.items() if size is not None and size < 1]:
        raise SemhubError(f"Sizes are at least 1, got {', '.join(wrong)}.")
    if rank < 0 or (codes and not pretraining) or (rank and not codes):
        raise SemhubError(f"--codes need --pretraining, and --rank needs --codes, 0 or more; got --rank {rank}.")
    name = require_name(f"{kind}-{Path(model).name}" if name is None else name)
    drawn, spelled = styles(kind, more or [], named or [])
    require_place(out)
    kept, shown = user_path(cache or out / "features"), not quiet
    joint = kind == "audio" or embeddings is not None
    settings = TrainingSettings(
        steps, batch, learning_rate, dropout=dropout, weight_decay=weight_decay, mixup=mixup, candidates=candidates,
        english=english, regions=regions, summed=summed, pretraining=pretraining, folds=folds, seed=seed,
        shuffle_pairs=shuffle_pairs,
    )  # fmt: skip
    require_sources(kind, font=font, stamps=stamps, more=drawn, named=spelled, words=words, cache=kept)
    frozen = load(model, device=device, dtype=dtype)  # before the features, which take a while
    if font is not None and kind == "vision":
        plan = vision_plan(
            font, stamps, more=drawn, named=spelled, grid=grid, views=views or 6, cache=kept, seed=seed, progress=shown
        )
    else:
        plan = audio_plan(stamps, named=spelled, words=words, views=views or 2, cache=kept, seed=seed, progress=shown)
    _, curve, result = run_plan(
        frozen,
        plan,
        out,
        name=name,
        settings=settings,
        hidden=hidden,
        embeddings=embeddings or (4 if joint else grid * grid),
        joint=joint,
        standardised=kind == "vision",
        codes=codes,
        rank=rank,
        every=every,
        judge=None if dtype == "float32" else load(model, device=device),
        progress=shown,
    )
    write_html(curve, out / "curve.html")
    table, saved = result.summary(), str(user_path(out))
    if as_json:
        typer.echo(in_json({"results": table.to_dict("records"), "saved": saved}))
    elif not quiet:
        console.print(harmless(table.round(3).to_string(index=False), kept="\n"))
        console.print(f"saved: {harmless(saved)}/*.safetensors, curve.csv, curve.html, items.csv, summary.csv")
