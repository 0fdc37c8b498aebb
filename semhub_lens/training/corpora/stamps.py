"""Reader for Tux Paint's stamps: pictures with captions in many languages, their sounds, and captions read aloud.

No stamps are bundled. They are under the GPL-2: Debian's package `tuxpaint-stamps-default`, or
https://tuxpaint.org/stamps/.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.fingerprints import file_fingerprint
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.media.items import MediaItem

CODES = {"fr": "fr", "es": "es", "de": "de", "zh": "zh_CN"}
ARTICLES = {
    "en": r"(an?|the|some|our|two)\s+",
    "fr": r"(une?|le|la|les|des|du|deux)\s+|l['’]|de l['’]",
    "es": r"(un|una|unos|unas|el|la|los|las)\s+",
    "de": r"(ein|eine|einen|einige|der|die|das)\s+",
    "zh": r"[一两][只个条张把朵颗棵头匹座辆架艘件顶双副片块支枝根台间幢位名瓶杯盒串粒株本部面]",
}
MEASURES = (
    r"(very\s+|(open|closed)\s+)?(pair|bunch|cluster|cup|glass|slice|head|bulb|tube|string|quarter|piece)s? of\s+"
)
MODIFIERS = frozenset(
    re.findall(
        r"\S+",
        "red green yellow white black blue brown grey gray pink purple orange big large small little very tiny tall "
        "young old open closed lit ripe sliced raw fresh digital silver wooden plain rubber sweet colorful colourful "
        "folded spiral full new modern old-fashioned",
    )
)
LONGEST = {"en": 3, "fr": 3, "es": 3, "de": 3, "zh": 1}
ADVICE = "Install Debian's package tuxpaint-stamps-default, or unpack it and give the folder share/tuxpaint/stamps."


@dataclass(frozen=True)
class Stamp:
    """One stamp: its files and its captions."""

    path: Path
    """The `.txt` file."""
    captions: dict[str, str]
    """By language (en, fr, es, de, zh); as written."""
    picture: Path | None
    sound: Path | None
    """The sound of the thing."""
    spoken: dict[str, Path]
    """The caption read aloud, by language."""


@checked
def read_stamps(root: str | Path, *, symbols: bool = False) -> list[Stamp]:
    """All stamps below a folder, in a fixed order; without letters, digits and coins unless `symbols`.

    Raises:
        SemhubError: the folder has no stamps.

    Example:
        >>> [stamp.captions["en"] for stamp in read_stamps("stamps")[:3]]  # doctest: +SKIP
    """
    folder = user_path(root)
    texts = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
    stamps = [_stamp(path) for path in texts if symbols or "symbols" not in path.relative_to(folder).parts]
    if not stamps:
        raise SemhubError(f"There are no stamps (.txt files next to pictures) below {folder}. {ADVICE}")
    return stamps


def _stamp(path: Path) -> Stamp:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    matches = (re.match(r"([\w@]+)\.utf8=(.*)", line) for line in lines[1:])
    found = {str(match[1]): str(match[2]) for match in matches if match}
    captions = {"en": lines[0].strip() if lines else ""}
    captions |= {ours: found[theirs].strip() for ours, theirs in CODES.items() if found.get(theirs, "").strip()}
    beside = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    spoken = {code: path.with_name(f"{path.stem}_desc_{code}.ogg") for code in ("fr", "es", "de")}
    spoken["en"] = path.with_name(f"{path.stem}_desc.ogg")
    sound = path.with_suffix(".ogg")
    return Stamp(
        path,
        captions,
        next((file for file in beside if file.is_file()), None),
        sound if sound.is_file() else None,
        {code: file for code, file in spoken.items() if file.is_file()},
    )


def caption_name(caption: str, language: str) -> str | None:
    """The name in a caption, without its article; None for a caption that is more than a name.

    Example:
        >>> from semhub_lens.training.corpora.stamps import caption_name
        >>> caption_name("A pair of pliers.", "en"), caption_name("Say cheese!", "en")
        ('pliers', None)
    """
    text = caption.strip().rstrip(".。 ")
    text = re.sub(rf"^({ARTICLES[language]})", "", text, flags=re.IGNORECASE)
    text = re.sub(rf"^{MEASURES}", "", text, flags=re.IGNORECASE) if language == "en" else text
    named = caption.strip() != text or len(text.split()) == 1
    plain = re.fullmatch(r"[^\W\d_]+([ '’-][^\W\d_]+)*", text)
    if not plain or not named or len(text.split()) > LONGEST[language] or (language == "zh" and len(text) > 5):
        return None
    return text if language == "de" else text[:1].lower() + text[1:]


def require_style(style: str) -> None:
    """Raise a SemhubError for a name of a style that is blank or cannot be printed."""
    if not style.strip() or not style.isprintable():
        raise SemhubError(f"A style's name is printable text, got {style!r}.")


def bare(name: str) -> str:
    """An English name of the concept, without leading colours, sizes and similar words."""
    words = name.split()
    while len(words) > 1 and words[0].lower() in MODIFIERS:
        words = words[1:]
    return " ".join(words)


def stamp_names(stamp: Stamp) -> dict[str, tuple[str, ...]]:
    """Names by language, the shortest English name first; empty if the English caption is not a name."""
    names = {code: caption_name(text, code) for code, text in stamp.captions.items()}
    if not (english := names.pop("en")):
        return {}
    return {"en": tuple(dict.fromkeys((bare(english), english)))} | {k: (v,) for k, v in names.items() if v}


@checked
def stamp_pictures(root: str | Path, *, svg: bool = True) -> list[MediaItem]:
    """Stamps with a picture and an English name; `svg` also takes drawings (needs `resvg-py`)."""
    items = []
    for stamp in read_stamps(root):
        names = stamp_names(stamp)
        if not names or stamp.picture is None or (stamp.picture.suffix == ".svg" and not svg):
            continue
        path = stamp.picture
        key = f"stamp:{path.relative_to(user_path(root)).as_posix()}"
        opened = partial(read_picture, path)
        items.append(MediaItem(key, "stamp", names["en"][0].lower(), names, file_fingerprint(path), opened))
    return items


@checked
def stamp_speech(root: str | Path, languages: Sequence[str] = ("en", "fr", "es")) -> list[MediaItem]:
    """Captions read aloud by people, one item for each language.

    Args:
        root: folder of the stamps.
        languages: some of en, fr, es, de and zh.

    Raises:
        SemhubError: the folder has no stamps, or an unknown language.
    """
    if not languages or set(languages) - {"en", *CODES}:
        raise SemhubError(f"languages= is some of en, {', '.join(CODES)}; got {list(languages)}.")
    items = []
    for stamp in read_stamps(root):
        names = stamp_names(stamp)
        for code in languages:
            if code in names and code in stamp.spoken:
                path = stamp.spoken[code]
                key = f"spoken:{code}:{path.stem}"
                concept = names["en"][0].lower()
                content = file_fingerprint(path)
                items.append(
                    MediaItem(
                        key, f"human {code}", concept, {code: names[code]}, content, partial(read_recording, path)
                    )
                )
    return items


@checked
def stamp_sounds(root: str | Path) -> list[MediaItem]:
    """Sounds of animals and things."""
    items = []
    for stamp in read_stamps(root):
        names = stamp_names(stamp)
        if names and stamp.sound is not None:
            path, concept = stamp.sound, names["en"][0].lower()
            content = file_fingerprint(path)
            items.append(
                MediaItem(f"sound:{path.stem}", "sound", concept, names, content, partial(read_recording, path))
            )
    return items


def read_picture(path: Path) -> Any:
    """A picture (PIL) from a file, also from an SVG."""
    image = optional("PIL.Image", "pillow", "train")
    if path.suffix != ".svg":
        with image.open(path) as opened:
            return opened.copy()
    drawn = optional("resvg_py", "resvg-py", "train").svg_to_bytes(svg_path=str(path), width=320, dpi=96.0)
    return image.open(BytesIO(bytes(drawn)))


def read_recording(path: Path) -> tuple[Any, int]:
    """Samples and their rate from a sound file."""
    return optional("soundfile", "soundfile", "train").read(str(path), dtype="float32")
