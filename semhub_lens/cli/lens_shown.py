"""A lens in the terminal: a table with a colour for each language, or one JSON object for scripts."""

import json
import math
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any
from unicodedata import bidirectional

from rich.box import HEAVY_HEAD, Box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from semhub_lens.cli.options import cell
from semhub_lens.lens.language_tables import UNKNOWN
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.languages import TELLING, leading, ordered

HUES = ("#2675d9", "#ab6614", "#158661", "#b64ea6", "#bf573b", "#7f7822")
"""The page's colours in its order, as mid-tones that are read on light and on dark terminals."""
OTHERS = "#7b6ea5"
SHADES = "bold: above 50 %, dim: below 10 %"
LEFT_TO_RIGHT = "\u200e"
"""A mark without width, after which text is written from the left."""
WIDEST_CELL, AROUND = 11, 3
FIRST = 8
"""Width of the column of layers, in characters."""


def lens_table(result: LensResult, width: int, colours: bool = True, shades: bool = True) -> Table:
    """A table of as many last columns as fit. Colour shows the language; bold is above a half, dim below a tenth.

    A key below explains `colours` and `shades`; a file has neither, and no key.
    """
    strings, probability = result.strings(), result.top_logprobs[..., 0].exp()
    layers, positions = probability.shape
    hues = _hues(result)
    shown = _fitting(result.labels, strings, width)
    left = f"; the last {len(shown)} of {positions} tokens" if len(shown) < positions else ""
    title = f"most probable next token, by layer (final layer on top) and input token{left}"
    table = Table(
        title=title,
        title_justify="left",
        padding=(0, 1),
        caption=_key(hues if colours else {}, shades),
        caption_justify="left",
        box=_box([*(result.labels[pos] for pos in shown), *(row[pos][0] for row in strings for pos in shown)]),
    )
    table.add_column("layer", justify="right", style="dim")
    for pos in shown:
        table.add_column(cell(result.labels[pos]), max_width=WIDEST_CELL, no_wrap=True)
    main = leading(result) if result.languages else {}
    for layer in reversed(range(layers)):
        row = []
        for pos in shown:
            colour = hues.get(main.get(int(result.top_ids[layer, pos, 0]), ""), "")
            row.append(cell(strings[layer][pos][0], f"{_shade(float(probability[layer, pos]))} {colour}".strip()))
        table.add_row("emb" if result.entries[layer] == 0 else str(result.entries[layer]), *row)
    return table


def lens_json(result: LensResult, page: Path | None) -> str:
    """The lens as one JSON object in ASCII; undefined values are null."""
    main = {token: name for token, name in leading(result).items() if name in result.languages}
    text = dict(result.vocabulary)
    cells = [
        [
            [
                {"id": token, "token": text[token], "probability": _number(math.exp(logprob))}
                | ({"language": main.get(token)} if result.languages else {})
                for token, logprob in zip(tokens, logprobs, strict=True)
            ]
            for tokens, logprobs in zip(*rows, strict=True)
        ]
        for rows in zip(result.top_ids.tolist(), result.top_logprobs.tolist(), strict=True)
    ]
    whole = {
        "model": result.provenance.model,
        "layers": list(result.entries),
        "input": list(result.labels),
        "top": cells,
        **{
            name: [[_number(v) for v in row] for row in values.tolist()]
            for name, values in result.per_position().items()
        },
        "page": None if page is None else str(page.resolve()),
        "provenance": result.provenance.line(),
    }
    return json.dumps(whole, allow_nan=False)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shade(probability: float) -> str:
    return "bold" if probability > 0.5 else "" if probability > 0.1 else "dim"


def _fitting(labels: tuple[str, ...], strings: list[list[list[str]]], width: int) -> range:
    """The last positions whose columns together fit the terminal; at least one."""
    room, first = width - FIRST, len(labels)
    while first:
        words = [labels[first - 1], *(row[first - 1][0] for row in strings)]
        room -= min(WIDEST_CELL, max(cell_len(cell(word).plain) for word in words)) + AROUND
        if room < 0 and first < len(labels):
            break
        first -= 1
    return range(first, len(labels))


def _hues(result: LensResult) -> dict[str, str]:
    """A colour for every language that leads a cell, in the order of the page's colours."""
    if not result.languages:
        return {}
    main, places = leading(result), [name for name in ordered(result)[0] if name != UNKNOWN]
    led = {main.get(token) for token in result.top_ids[..., 0].flatten().tolist()}
    return {name: HUES[i] if i < len(HUES) else OTHERS for i, name in enumerate(places) if name in led}


def _key(hues: dict[str, str], shades: bool) -> Text | None:
    told = {name: f"{name} script" if name in TELLING else name for name in hues}
    parts: list[Any] = [part for name, colour in hues.items() for part in (("■ ", colour), f"{told[name]}  ")]
    parts += [("no colour: unknown or shared  ", "dim")] * bool(hues) + [(SHADES, "dim")] * shades
    return Text.assemble(*parts) if parts else None


def _box(texts: Iterable[str]) -> Box:
    """The lines of the table. Between words written from the right, a mark keeps each in its own column."""
    if not any(bidirectional(char) in ("R", "AL") for text in texts for char in text):
        return HEAVY_HEAD
    marked = copy(HEAVY_HEAD)
    for name in ("left", "vertical", "right"):
        for part in ("head", "mid", "foot"):
            setattr(marked, f"{part}_{name}", LEFT_TO_RIGHT + getattr(marked, f"{part}_{name}"))
    return marked
