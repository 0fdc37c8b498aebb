"""The page of a lens: our own script, style and the numbers in one file, and the same in a frame for notebooks.

Tokens are untrusted text. They lie in a data block that nothing runs, reach the page as text nodes, and a policy in the
page forbids it every script but ours and every request.
"""

import base64
import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from semhub_lens.base.fingerprints import sha256
from semhub_lens.base.results import shows
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.packing import packed
from semhub_lens.views.explorer.view import AROUND, ROW, TALLEST, framed

MODULES = ("dom", "data", "colour", "store", "map", "overview", "panel", "pins", "media", "explorer")
"""The script's files, each after those that it imports."""


def document(result: LensResult, media: dict[str, Any] | None = None) -> str:
    """The whole page of a lens, to be opened from a file or framed; above its map pictures or sound, where given.

    Raises:
        SemhubError: nothing was measured that a cell could show.
    """
    script, style = _script(), _file("explorer.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'; "
        "form-action 'none'" + ("; img-src data:; media-src data:" if media else "")
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Logit lens: {html.escape(_title(result))}</title>\n<style>{style}</style>\n</head>\n"
        '<body>\n<main id="explorer"></main>\n'
        f'<script type="application/json" id="data">{_json(packed(result) | {"media": media})}</script>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


@shows(LensResult)
def shown(result: LensResult) -> dict[str, str]:
    """What a notebook shows: the page in a frame that can reach nothing around it, and a few lines of text."""
    layers = next(iter(result.measured.values())).shape[0]
    height = min(AROUND + ROW * layers, TALLEST)
    text = repr(result)
    return {"text/html": framed(document(result), "Logit lens", text, height), "text/plain": text}


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """The modules as one: a page that is a single file cannot import."""
    joined = "\n".join(_file(f"{name}.js") for name in MODULES)
    return re.sub(r"^import .*\n", "", joined, flags=re.M).replace("\nexport ", "\n")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(bytes.fromhex(sha256(text.encode()))).decode()


def _json(value: object) -> str:
    """JSON that cannot end its script block, of characters that UTF-8 has."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _title(result: LensResult) -> str:
    text = "".join(result.labels[:40]).replace("␣", " ")
    return re.sub("[\ud800-\udfff]", "�", text)[:90]
