"""The hub report: every experiment on one model, as one offline page that fills while it runs."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import require_file, require_place, user_path
from semhub_lens.base.processes import is_main
from semhub_lens.base.progress import said
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.segments import squared
from semhub_lens.data.media.sounds import bundled_sounds
from semhub_lens.evidence.legs import ExperimentResult
from semhub_lens.experiments.registry import require_sample
from semhub_lens.inputs.modalities import AUDIO, IMAGE, modality_of
from semhub_lens.inputs.readers import MediaReader
from semhub_lens.lens.language_tables import language_table
from semhub_lens.lens.logit_lens import LensResult, logit_lens
from semhub_lens.model.facts import Model, require_model
from semhub_lens.report.hub_page import Drawable, HubPage
from semhub_lens.report.orchestration import POSITIONS, QUICK, Measured, Plan, choose, reasons, watched
from semhub_lens.report.record import ReportFiles, json_beside
from semhub_lens.views.media_maps import picture_map

SHOWN = {
    IMAGE.name: lambda: squared(next(item for item in bundled_pictures() if item.concept == "dog").open()),
    AUDIO.name: lambda: next(item for item in bundled_sounds() if item.concept == "dog").open(),
}
"""A bundled item of each modality, for the page's example lens."""
LENS_PROMPTS = ("El color del cielo es", "苹果是一种水果，天空的颜色是")
INTERRUPTED = "Stopped before the end."
NEEDS_TABLE = "multilingual.language_mass"
"""Experiments that build the table of the tokens' languages if it is not in the cache (about twenty seconds). After
them, the page's lenses are coloured by it.
"""
GO_ON = "To resume, run the same command again: finished parts are in {runs} and are not repeated."


class Stopped(KeyboardInterrupt):
    """A report was interrupted; its page has the results until then, and the message tells how to resume."""


@checked
def report(
    model: Model,
    path: str | Path = "semhub_report.html",
    *,
    n: int | None = None,
    seed: int = 0,
    full: bool = False,
    only: Sequence[str] | None = None,
    steering: bool = False,
    runs: str | Path | None = None,
    readers: Sequence[MediaReader] | None = None,
    progress: bool = True,
) -> tuple[Path, list[ExperimentResult]]:
    """Run the experiments on a model and write one page, updated after each experiment.

    The page appears after the lens of two prompts. While it fills, it shows which experiments are done, running and
    waiting, and the time left. It is complete at any moment and needs no network. The report.json next to it (the
    page's name with ".json") contains the same figures as data.

    A report on one model is not evidence about other models. With many legs, some differ from their null by chance.

    Args:
        model: any TransformerLens model with a tokenizer.
        path: the HTML file.
        n: items per experiment; None takes at most 32 and reads the whole vocabulary at two positions of each text or
            picture. With `full`, None takes each experiment's own number of items and all positions.
        seed: seed of items, bootstrap, nulls and splits.
        full: the large size, which adds `multilingual.patchscope`. Intervals are narrower, and more effects differ from
            their null.
        only: ids of experiments; None runs all but those that intervene, on pictures and sound if there is a reader.
        steering: also run the steering sweeps and `vision.patching`, up to ten minutes each on two cores.
        runs: folder of saved runs: finished runs are read, stopped runs resume. None takes a folder next to the page,
            `semhub_report_runs` for `semhub_report.html`.
        readers: readers of pictures and sound; None takes the packaged spokes of the model (extras `vision`, `audio`).
        progress: print the page's path as soon as it exists, and show one progress display.

    Returns:
        The page's path and the results.

    Raises:
        SemhubError: an experiment is unknown, one of `only` has no reader, no experiment fits, there are fewer items
            than an experiment needs, or the path cannot be written.
        Stopped: on a KeyboardInterrupt, after the page is written.

    Example:
        >>> path, results = report(model, "hub.html", only=["arithmetic.similarity"])  # doctest: +SKIP
    """
    require_model(model)
    require_sample(n, seed)
    path = require_file(path)
    json_beside(path)
    chosen = choose(only, steering=steering, quick=not full)
    runs = path.with_name(f"{path.stem}_runs") if runs is None else user_path(runs)
    require_place(runs)
    plan = Plan.of(str(model.cfg.model_name), model, chosen, readers)
    if only is not None and plan.unreadable:
        raise SemhubError(" ".join(reasons(plan.unreadable)))
    lenses = [logit_lens(model, prompt, progress=False) for prompt in LENS_PROMPTS]
    page = HubPage(where=lenses[0].provenance, size=size_in_words(n, full), lenses=lenses)
    files = ReportFiles(page, path, runs, model)
    coming = [experiment.id for experiment in chosen if experiment.id not in plan.unreadable]
    measured = Measured(results=[], unmeasured=dict(plan.unreadable), coming=coming)
    try:
        files.write(measured)
        said(f"The report is at {path.resolve()}\nIt fills while the experiments run.", shown=progress and is_main())
        page.glimpses = [shown for reader in plan.readers.values() for shown in glimpse(model, reader)]
        for measured in watched(plan.run(n=n, seed=seed, out=runs, quick=not full), progress):
            if measured.results and measured.results[-1].id == NEEDS_TABLE:
                page.lenses = _by_language(model, lenses)
            files.write(measured)
    except BaseException as error:
        why = INTERRUPTED if isinstance(error, KeyboardInterrupt) else f"An error ended it: {error}"
        go_on = GO_ON.format(runs=runs)
        with suppress(SemhubError):  # a full disk, say: the page that is there stays
            files.write(measured, f"{why} {go_on}")
        if isinstance(error, KeyboardInterrupt):
            raise Stopped(f"{why} Finished results are in {path.resolve()}\n{go_on}") from error
        raise
    return path, measured.results


def size_in_words(n: int | None, full: bool) -> str:
    """A sentence on the number of items of a report's experiments."""
    if n is not None:
        return f"{n} items in each experiment"
    if full:
        return "full: each experiment's own number of items"
    where = f"the whole vocabulary at {POSITIONS} positions of each, with random weights at one"
    return f"quick: at most {QUICK} items in each experiment, {where} (semhub report --full measures more)"


def _by_language(model: Model, lenses: Sequence[LensResult]) -> list[LensResult]:
    table = language_table(model, progress=False)
    return [lens.with_languages(table) for lens in lenses]


def glimpse(model: Model, reader: MediaReader) -> list[Drawable]:
    """The lens of one bundled picture or clip, drawn over the picture if its positions form a grid."""
    media = SHOWN[reader.modality]()
    prompt = reader.prompt(modality_of(reader.modality).question, media)
    lens = logit_lens(model, prompt, progress=False)
    tiles = [tile for tile in prompt.tiles if tile.whole]
    return [picture_map(lens, [media] * len(tiles), tiles)] if tiles else [lens]
