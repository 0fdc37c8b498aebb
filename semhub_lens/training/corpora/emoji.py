"""Emoji as pictures: drawn from a colour font or read from a folder, with their CLDR names.

No emoji are bundled. The font is Debian's `fonts-noto-color-emoji` (Apache-2.0 / OFL-1.1); the names come with the
package `emoji` (CLDR, Unicode licence).
"""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.fingerprints import file_fingerprint
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.media.items import MediaItem
from semhub_lens.training.corpora.stamps import bare, read_picture, require_style

SIZE = 109
"""The only size of the font's bitmaps, in points."""
LANGUAGES = ("en", "fr", "es", "de", "zh")
ANIMALS = (range(0x1F400, 0x1F440), range(0x1F980, 0x1F9B0))
THINGS = (
    range(0x1F300, 0x1F600), range(0x1F680, 0x1F700), range(0x1F93F, 0x1F970), range(0x1F97B, 0x1F9B0),
    range(0x1F9C0, 0x1F9CD), range(0x1F9E0, 0x1FAE0), range(0x2600, 0x2648), range(0x2654, 0x26CE),
    range(0x26CF, 0x27C0),
)  # fmt: skip
"""Unicode blocks of pictures, without faces (1F600 to 1F64F) and shapes."""
NOT_THINGS = re.compile(
    r"button|sign$|symbol|clock|o’clock|thirty|arrow|medium|keycap|face$|square|circle|diamond|blood type|mark$|heart|"
    r"person|people|^(man|woman|men|women)\s|ing$|flag|hand|finger|family|kiss|couple|silhouette|prohibited|^no |"
    r"suit$|religion|cross$|star of|dharma|orthodox|recycling|peace|latin|bright|dim |radio|trident|infinity|sparkle|"
    r"skin tone|^[A-Z]|place medal|pointed|speech|thought|bubble$|loop$|check|^input|hair$|bald|plus|minus|multiply|"
    r"divide|asterisk|fist|thumbs|gesture|banknote|gibbous|quarter|facing|oncoming|palms|"
    r"^(sun|moon|cloud) (behind|with)"
)
ANIMAL_FACE = re.compile(r"(?<!moon) face$")
HEAD = {"fr": r"^(tête|face) d['e]\s?(une?\s)?", "es": r"^cara de ", "de": r"(gesicht|kopf)$", "zh": r"[头脸]$"}
GREY = 16
"""The largest difference between the colours of a grey point, of 255."""
ADVICE = "Install Debian's package fonts-noto-color-emoji, or give another colour font with bitmaps of size 109."


def emoji_names() -> dict[str, dict[str, tuple[str, ...]]]:
    """English, French, Spanish, German and Chinese names of emoji that show things, keyed by emoji.

    Names of an animal's face are those of the animal.

    Raises:
        SemhubError: the package `emoji` is missing.

    Example:
        >>> from semhub_lens.training.corpora.emoji import emoji_names
        >>> emoji_names()["🐶"]["en"]
        ('dog',)
    """
    package = optional("emoji", "emoji", "train")
    folder = Path(package.__path__[0]) / "unicode_codes"
    tables = {code: _table(folder / f"emoji_{code}.json") for code in LANGUAGES[1:]}
    english = _table(folder / "emoji.json")
    found = {}
    for symbol, entry in english.items():
        name = entry["en"].strip(":").replace("_", " ")
        plain = symbol.rstrip("\ufe0f")
        animal = any(ord(plain[0]) in block for block in ANIMALS) and bool(ANIMAL_FACE.search(name))
        thing = len(plain) == 1 and any(ord(plain) in block for block in THINGS)
        if not thing or entry["status"] > 2 or (NOT_THINGS.search(name) and not animal):
            continue
        whole = name.removesuffix(" face") if animal else name
        names = {"en": tuple(dict.fromkeys((bare(whole), whole)))}
        for code, table in tables.items():
            if translated := _translated(table.get(symbol), code, animal):
                names[code] = (translated,)
        found[symbol] = names
    return found


def _table(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _translated(entry: Any, code: str, animal: bool) -> str | None:
    text = entry if isinstance(entry, str) else (entry or {}).get(code, "")
    text = text.strip(":").replace("_", " ")
    if animal:
        text, removed = re.subn(HEAD[code], "", text)
        text = text if removed and code != "de" else ""  # what is left of a German compound is no word
    text = text[:1].upper() + text[1:] if code == "de" else text
    return text if text and len(text.split()) <= 3 and not re.search(r"[\d:()“”]", text) else None


@checked
def emoji_pictures(source: str | Path, style: str = "emoji") -> list[MediaItem]:
    """Emoji of things, as pictures.

    Args:
        source: a colour font with bitmaps of size 109, or a folder of PNG, WebP or SVG files named by code points in
            hex (as the npm packages `emoji-datasource-...`, `openmoji` and `@lobehub/fluent-emoji-3d` have them).
        style: name of the style.

    Raises:
        SemhubError: the font or folder does not exist, or is empty.

    Example:
        >>> emoji_pictures("NotoColorEmoji.ttf")[0].open()  # doctest: +SKIP
    """
    require_style(style)
    path = user_path(source)
    if not path.exists():
        raise SemhubError(f"There is no font or folder {path}. {ADVICE}")
    font = None if path.is_dir() else _font(path)
    whole = "" if font is None else file_fingerprint(path)
    items = []
    for symbol, names in emoji_names().items():
        code = f"{ord(symbol[0]):x}"
        if font is not None:
            draw, content = partial(_drawn, font, symbol), f"{whole} {code}"
        else:
            if (file := _file(path, code)) is None:
                continue
            draw, content = partial(read_picture, file), file_fingerprint(file)
        items.append(MediaItem(f"{style}:{code}", style, names["en"][0].lower(), names, content, draw))
    if not items:
        raise SemhubError(f"There are no emoji pictures in {path}. Expected files such as 1f436.png.")
    return items


def _file(folder: Path, code: str) -> Path | None:
    stems = [name for stem in (code, f"{code}-fe0f") for name in (stem, stem.upper())]
    listed = (folder / f"{stem}.{kind}" for stem in stems for kind in ("png", "webp", "svg"))
    return next((file for file in listed if file.is_file()), None)


def _font(path: Path) -> Any:
    try:
        font = optional("PIL.ImageFont", "pillow", "train").truetype(str(path), SIZE)
    except OSError as error:
        raise SemhubError(f"The font {path} could not be read at size {SIZE}: {error}. {ADVICE}") from error
    if not _in_colour(_drawn(font, "🐶")):
        raise SemhubError(f"The font {path} has no picture in colour of 🐶 (1f436). {ADVICE}")
    return font


def _in_colour(picture: Any) -> bool:
    """Whether a point of the picture is neither transparent nor grey."""
    points = np.asarray(picture.convert("RGBA")).reshape(-1, 4).astype(int)
    seen = points[points[:, 3] > 0, :3]
    return bool((seen.max(1, initial=0) > seen.min(1, initial=255) + GREY).any())


def _drawn(font: Any, symbol: str) -> Any:
    image = optional("PIL.Image", "pillow", "train").new("RGBA", (136, 128))
    optional("PIL.ImageDraw", "pillow", "train").Draw(image).text((0, 0), symbol, font=font, embedded_color=True)
    return image
