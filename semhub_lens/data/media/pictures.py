"""79 bundled pictures of everyday things, with their names in five languages.

They are Noto emoji (Copyright Google Inc., Apache License 2.0), drawn at 136 x 128 on white with 48 colours. The names
are our own concepts; see `bundled/pictures/NOTICE`.
"""

from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from semhub_lens.base.fingerprints import file_fingerprint
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.text.texts import BUNDLED, bundled_rows

FOLDER = "pictures"


def bundled_pictures() -> list[MediaItem]:
    """The pictures in the order of `concept_items`; they open as PIL images (extra `vision`).

    Example:
        >>> from semhub_lens.data.media.pictures import bundled_pictures
        >>> bundled_pictures()[0].names["fr"]
        ('chien',)
    """
    names = {row["en"]: row for row in bundled_rows("concepts.tsv")}
    items = []
    for row in bundled_rows(f"{FOLDER}/pictures.tsv"):
        concept = names[row["en"]]
        path = Path(str(files("semhub_lens.data") / "bundled" / FOLDER / f"{row['en']}.png"))
        spoken = {code: (concept[code],) for code in BUNDLED}
        key = f"{concept['category']}:{row['en']}"
        items.append(MediaItem(key, "emoji", row["en"], spoken, file_fingerprint(path), partial(open_picture, path)))
    return items


def bundled_code_points() -> frozenset[str]:
    """Code points of the bundled emoji, in hex: the experiments show them, so a spoke must not be trained on them."""
    return frozenset(f"{ord(row['emoji'][0]):x}" for row in bundled_rows(f"{FOLDER}/pictures.tsv"))


def open_picture(path: Path) -> Any:
    """A picture file as a PIL image in RGB."""
    with optional("PIL.Image", "pillow", "vision").open(path) as opened:
        return opened.convert("RGB")
