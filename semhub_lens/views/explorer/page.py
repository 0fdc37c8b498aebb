"""The page of a lens: our own script, style and the numbers in one file, and the same in a frame for notebooks.

Tokens are untrusted text. They are in a data block that never runs, and become text nodes of the page. A policy in the
page forbids all other scripts and all requests.
"""

import base64
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from semhub_lens.base.arguments import shown as in_short
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.fingerprints import sha256
from semhub_lens.base.results import shows
from semhub_lens.base.shown_text import harmless
from semhub_lens.lens.comparison import LensComparison
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.code import code_of
from semhub_lens.views.explorer.packing import packed, packed_pair
from semhub_lens.views.explorer.stills import comparison_still, lens_still
from semhub_lens.views.explorer.view import AROUND, ROW, TALLEST, framed

MODULES = (
    "dom", "data", "colour", "store", "strip", "map", "overview", "panel", "written", "pins", "reading", "difference",
    "pane", "part", "sound", "media", "grid", "saved_media", "picture", "code", "toolbar", "explorer",
)  # fmt: skip
"""The files of the explorer, each after those that it imports."""
ONLY = {
    **dict.fromkeys(("part", "sound", "media", "saved_media"), ("media",)),
    "difference": ("rows", "sides"),
    "grid": ("rows",),
}
"""Files that a page needs only if its data has one of these entries."""
COMMENT = r"^ *(?://.*|/\*\*(?:.|\n)*?\*/)\n"
"""A comment on lines of its own."""
PLACE = '<main id="explorer"'
STATE = ("s", "c", "w", "x", "at", "p", "q", "log", "r", "l", "h")
"""Names in a page's address, those of `store.js`."""


def document(result: LensResult | LensComparison, media: dict[str, Any] | None = None) -> str:
    """The whole page of one lens or of two, to open from a file or in a frame.

    Args:
        result: the lens or comparison.
        media: pictures or sound to show above the map, from `media`.

    Raises:
        SemhubError: no measured quantity can be shown in a cell.
    """
    return whole(_title(result), contents(result) | ({"media": media} if media else {}), code_of(result, media))


def whole(title: str, drawn: dict[str, Any], code: Mapping[str, str]) -> str:
    """The page for the output of `contents` or `grids.grid_view`, with its `code`."""
    needed = (name for name in MODULES if any(entry in drawn for entry in ONLY.get(name, drawn)))
    script, style = joined((*needed, "standing")), _file("explorer.css")
    data = {**drawn, "code": code}
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
        "form-action 'none'" + ("; img-src data:; media-src data:" if "media" in drawn else "")
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(harmless(title))}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n{PLACE}></main>\n"
        f'<script type="application/json" id="data">{as_json(data)}</script>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def opened_at(document: str, view: str) -> str:
    """The same page, which opens with this view where its address says nothing else.

    Args:
        document: from `document`.
        view: what a page's address has behind its #.

    Raises:
        SemhubError: not such a text.
    """
    if not view:
        return document
    names = [name for name, _ in parse_qsl(view, keep_blank_values=True)]
    if not names or {*names} - {*STATE}:
        raise SemhubError(
            f"view= takes what a page's address has behind its #, as 'c=entropy&p=2,5' ({', '.join(STATE)}); got "
            f"{in_short(view)}."
        )
    return document.replace(PLACE, f'{PLACE} data-view="{html.escape(harmless(view))}"', 1)


def contents(result: LensResult | LensComparison) -> dict[str, Any]:
    """The data that the script draws, ready for JSON."""
    return packed(result) if isinstance(result, LensResult) else packed_pair(result)


@shows(LensComparison)
@shows(LensResult)
def shown(result: LensResult | LensComparison) -> dict[str, str]:
    """A notebook's output: the page in an isolated frame, a picture, and a few lines of text."""
    layers = len((result if isinstance(result, LensResult) else result.a).entries)
    height = min(AROUND + ROW * layers, TALLEST)
    text = repr(result)
    bundle = {"text/html": framed(document(result), "Logit lens", text, height), "text/plain": text}
    still = lens_still(result) if isinstance(result, LensResult) else comparison_still(result)
    return bundle | ({"image/svg+xml": still} if still else {})


@cache
def widget_script() -> str:
    """The explorer as an anywidget's module; it draws into a shadow root, which takes its style along."""
    style = f"const STYLE = {as_json(_file('explorer.css') + _file('form.css'))};"
    return f"{style}\n{joined((*MODULES, 'form', 'widget'))}"


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def joined(modules: tuple[str, ...]) -> str:
    """The modules as one, because a page in a single file cannot import: without comments and indents, to be small.

    Default exports stay.
    """
    whole = "\n".join(re.sub(COMMENT, "", _file(f"{name}.js"), flags=re.M) for name in modules)
    whole = re.sub(r"^export (?!default)", "", re.sub(r"^import .*\n", "", whole, flags=re.M), flags=re.M)
    return re.sub(r"\n\s+", "\n", whole)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(bytes.fromhex(sha256(text.encode()))).decode()


def as_json(value: object) -> str:
    """JSON that cannot end its script block, of characters that UTF-8 has."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _title(result: LensResult | LensComparison) -> str:
    if isinstance(result, LensComparison):
        return f"Two lenses: {result.names[0]} | {result.names[1]}"
    text = "".join(result.labels[:40]).replace("␣", " ")
    return re.sub("[\ud800-\udfff]", "�", f"Logit lens: {text}")[:102]
