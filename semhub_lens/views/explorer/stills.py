"""A map as one small SVG, for places without scripts: a code host, a printed notebook."""

import html
from collections.abc import Sequence
from typing import Any
from unicodedata import category, east_asian_width

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.shown_text import harmless
from semhub_lens.lens.comparison import LensComparison
from semhub_lens.lens.language_tables import UNKNOWN
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.languages import TELLING, leading, ordered

Number = int | float
Colour = tuple[Number, Number, Number]

COLUMNS, WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 14, 78, 20, 40, 30, 46
LONGEST, TITLE, NOTE = 9, 130, 150
STORED = {"top_ids", "top_logprobs"}
WHITE, GREY, BLUE = (255, 255, 255), (122, 131, 146), (29, 74, 165)
HUES = ((33, 96, 186), (222, 120, 0), (0, 142, 108), (170, 68, 153), (150, 56, 30), (140, 132, 0))
OTHER = (92, 82, 120)
DARK = 0.19
"""White text is used below this luminance; the colours are those of `colour.js`."""


def lens_still(result: LensResult) -> str | None:
    """The last tokens of a lens, coloured by language if known, otherwise by probability; None without top tokens."""
    if STORED - result.measured.keys():
        return None
    hues = _hues(result)
    what = f"language of the most probable token ({_key(result)})" if hues else "probability"
    title = f"Logit lens, by {what}: {''.join(result.labels[-COLUMNS:]).replace('␣', ' ')}"
    return _map(title, result, hues, torch.ones(len(result.entries), len(result.labels)))


def comparison_still(result: LensComparison) -> str | None:
    """The words of the second lens, coloured if the first differs; None without top tokens in both."""
    _, b = result.sides()
    if STORED - (result.a.measured.keys() & b.measured.keys()):
        return None
    one, two = result.names
    return _map(f"{one} | {two}: the words of {two}, coloured where {one} has another", b, _hues(b), result.changed)


def media_still(result: LensResult, part: dict[str, Any], row: int) -> str | None:
    """The top tokens of a picture's patches, or of the first moments of a sound, at one layer; None without top tokens.

    `part` is from `media.picture_part` or `media.sound_part`.
    """
    if STORED - result.measured.keys():
        return None
    rows, columns = part.get("rows", 1), part.get("columns") or min(len(part["positions"]), COLUMNS)
    text, hues = dict(result.vocabulary), _hues(result)
    ids, shares = result.top_ids[row, :, 0].tolist(), result.top_logprobs[row, :, 0].double().exp().sqrt().tolist()
    words, colours = [], []
    for first in reversed(range(0, rows * columns, columns)):
        places = part["positions"][first : first + columns]
        words.append([text[ids[pos]] for pos in places])
        fills = [hues.get(ids[pos], GREY) if hues else BLUE for pos in places]
        colours.append([mixed(WHITE, fill, 0.05 + 0.95 * shares[pos]) for fill, pos in zip(fills, places, strict=True)])
    heads = [f"{time:.2f} s" for time in part.get("times", ())][:columns] or [str(i + 1) for i in range(columns)]
    what = "moment" if "times" in part else "patch"
    title = f"{part['name']}, layer {result.entries[row]}: what each {what} reads as"
    return still(title, [str(i) for i in range(rows, 0, -1)], heads, words, colours, result.provenance.line())


def _map(title: str, result: LensResult, hues: dict[int, Colour], coloured: Float[Tensor, "layer pos"]) -> str:
    """Each cell's colour is as strong as its token's probability; white if `coloured` is 0 or NaN."""
    positions = range(max(0, len(result.labels) - COLUMNS), len(result.labels))
    text, p = dict(result.vocabulary), result.top_logprobs[..., 0].double().exp()
    shares = ((0.05 + 0.95 * p.sqrt()) * coloured).nan_to_num(0.0).tolist()
    words, colours = [], []
    for ids, strong in zip(result.top_ids[..., 0].tolist(), shares, strict=True):
        words.append([text[ids[pos]] for pos in positions])
        colours.append([mixed(WHITE, hues.get(ids[pos], GREY) if hues else BLUE, strong[pos]) for pos in positions])
    rows = ["emb" if entry == 0 else str(entry) for entry in result.entries]
    return still(title, rows, [result.labels[pos] for pos in positions], words, colours, result.provenance.line())


def still(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    words: Sequence[Sequence[str]],
    colours: Sequence[Sequence[Colour]],
    note: str,
) -> str:
    """Cells with their words, the first row at the bottom."""
    width, height = LEFT + WIDTH * len(columns) + 10, TOP + HEIGHT * len(rows) + BOTTOM
    title, note = _cut(title, TITLE), _cut(note, NOTE)
    width = max(width, round(6.8 * _wide(title)) + 16, round(5.2 * _wide(note)) + 16)
    parts = [_text(8, 18, title, "#1b2330", "font-weight='bold'")]
    for row, name in enumerate(rows):
        y = TOP + HEIGHT * (len(rows) - 1 - row)
        parts.append(_text(LEFT - 6, y + 14, name, "#5d6879", "text-anchor='end'"))
        for column, (word, colour) in enumerate(zip(words[row], colours[row], strict=True)):
            x = LEFT + WIDTH * column
            fill = "#" + "".join(f"{round(channel):02x}" for channel in colour)
            parts.append(f"<rect x='{x}' y='{y}' width='{WIDTH - 1}' height='{HEIGHT - 1}' fill='{fill}'/>")
            parts.append(_text(x + 4, y + 14, _cut(word), _ink(colour)))
    for column, name in enumerate(columns):
        parts.append(_text(LEFT + WIDTH * column + 4, TOP + HEIGHT * len(rows) + 15, _cut(name), "#1b2330"))
    parts.append(_text(8, height - 10, note, "#5d6879", "font-size='8.5'"))
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' "
        "font-family='DejaVu Sans Mono, Menlo, Consolas, Noto Sans CJK SC, Noto Sans Arabic, monospace' font-size='11'>"
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>{''.join(parts)}</svg>"
    )


def mixed(ground: Colour, colour: Colour, share: Number) -> Colour:
    """A share of the way from the ground to a colour."""
    red, green, blue = (a + (b - a) * share for a, b in zip(ground, colour, strict=True))
    return red, green, blue


def _text(x: Number, y: Number, text: str, fill: str, more: str = "") -> str:
    return f"<text x='{x}' y='{y}' fill='{fill}' {more}>{html.escape(harmless(text))}</text>"


def _cut(text: str, longest: int = LONGEST) -> str:
    """As much of a text as fits, and an ellipsis; a character is not cut off from its marks."""
    if _wide(text) <= longest:
        return text
    kept = text
    while kept and (_wide(kept) >= longest or category(text[len(kept)])[0] == "M"):
        kept = kept[:-1]
    return kept + "…"


def _wide(text: str) -> int:
    """Columns that a text takes: two for a wide character, none for a mark above or below another."""
    return sum(0 if category(char) in ("Mn", "Me", "Cf") else 1 + (east_asian_width(char) in "WF") for char in text)


def _ink(colour: Colour) -> str:
    linear = [v / 3294.6 if v <= 10.3 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    light = sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))
    return "#10151d" if light > DARK else "#ffffff"


def _places(result: LensResult) -> dict[str, int]:
    """The place of each language among the page's colours."""
    if result.token_languages is None:
        return {}
    names = [name for name in ordered(result)[0] if name != UNKNOWN]
    return {name: place for place, name in enumerate(names)}


def _hues(result: LensResult) -> dict[int, Colour]:
    """The colour of each listed token that belongs to one language by at least half."""
    places = _places(result)
    return {
        token: HUES[places[name]] if places[name] < len(HUES) else OTHER
        for token, name in leading(result).items()
        if name in places
    }


def _key(result: LensResult) -> str:
    colours = ("blue", "orange", "green", "purple")
    names = list(_places(result))[: len(colours)]
    told = [f"{name} script" if name in TELLING else name for name in names]
    return ", ".join(f"{colour} {name}" for colour, name in zip(colours, told, strict=False))
