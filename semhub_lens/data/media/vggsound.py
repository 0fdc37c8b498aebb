"""Reader for a VGGSound folder, or your own clips in the same layout. Nothing of VGGSound is bundled."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import in_utf8, user_path
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.waves import read_wave

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SMALL_WORDS = frozenset(
    re.findall(r"\S+", "a an and at by etc for from in into of off on or other out over the their to up with")
)


@dataclass(frozen=True)
class _Row:
    clip: str
    start: int
    label: str
    split: str


@checked
def read_vggsound(folder: str | Path, *, split: str | None = None) -> list[MediaItem]:
    """Clips with their labels, in the order of the list; they open as mono samples at 16 kHz.

    Expected layout, as VGGSound is published and usually cut::

        FOLDER/vggsound.csv     id,start,label[,split]   the only .csv there; a first line "id,..." or "#..." is skipped
        FOLDER/.../{id}_{start:06d}.wav                  or {id}_{start}.wav; also .flac, .ogg, .mp3

    VGGSound lists seconds of YouTube videos, many of which no longer exist. Lines without a clip are left out.

    Args:
        folder: the folder.
        split: only lines of this split ("train" or "test"); None reads all lines.

    Returns:
        Items with the label as their English name; the style is the split.

    Raises:
        SemhubError: no folder, not exactly one list, a malformed line (the message gives file and line), two lines for
            one clip, an unknown split, or no clip at all.

    Source: Chen et al. 2020 (VGGSound).

    Example:
        >>> read_vggsound("vggsound", split="test")[0].names["en"]  # doctest: +SKIP
    """
    root = user_path(folder)
    lists = sorted(root.glob("*.csv"))
    if len(lists) != 1:
        names = ", ".join(path.name for path in lists) or "none"
        raise SemhubError(f"Expected one .csv with lines id,start,label[,split] in the folder {root}, found {names}.")
    rows = list(_rows(lists[0]))
    if split is not None and split not in (known := sorted({row.split for row in rows} - {""})):
        raise SemhubError(f"{lists[0]} has no split {split!r}; it has {', '.join(known) or 'none'}.")
    clips = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in SUFFIXES}
    wanted = [row for row in rows if split is None or row.split == split]
    items = [_item(row, path) for row in wanted if (path := _clip(row, clips)) is not None]
    if not items:
        first = f"{wanted[0].clip}_{wanted[0].start:06d}.wav" if wanted else "ID_000030.wav"
        raise SemhubError(
            f"None of the {len(wanted)} lines of {lists[0]} has a clip below {root}; expected names such as {first}."
        )
    return items


@checked
def label_words(label: str) -> tuple[str, ...]:
    """The words of a label, without function words.

    Example:
        >>> from semhub_lens.data.media.vggsound import label_words
        >>> label_words("bee, wasp, etc. buzzing")
        ('bee', 'wasp', 'buzzing')
    """
    words = re.findall(r"[^\W\d_]+", label.lower())
    return tuple(dict.fromkeys(word for word in words if word not in SMALL_WORDS and len(word) > 1))


def _rows(path: Path) -> Iterator[_Row]:
    seen: dict[tuple[str, int], int] = {}
    with in_utf8(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for number, cells in enumerate(reader, 1):
            cells = [cell.strip() for cell in cells]
            head = number == 1 and (cells[:1] == ["id"] or "".join(cells[:1]).startswith("#"))
            if head or not any(cells):
                continue
            if len(cells) not in (3, 4) or not cells[0] or not cells[1].isdecimal() or not label_words(cells[2]):
                raise SemhubError(
                    f"{path}:{number}: expected id,start,label[,split] with whole seconds and a text label (in quotes "
                    f"if it has commas), got {','.join(cells)!r}."
                )
            row = _Row(cells[0], int(cells[1]), cells[2], cells[3] if len(cells) == 4 else "")
            if (earlier := seen.setdefault((row.clip, row.start), number)) != number:
                raise SemhubError(f"{path}:{number} is the same clip as line {earlier}; keep one of them.")
            yield row


def _clip(row: _Row, clips: dict[str, Path]) -> Path | None:
    return clips.get(f"{row.clip}_{row.start:06d}") or clips.get(f"{row.clip}_{row.start}")


def _item(row: _Row, path: Path) -> MediaItem:
    """The hash covers the file's name, size and time, so that listing a large folder reads no clip."""
    stat = path.stat()
    content = fingerprint([path.name, stat.st_size, stat.st_mtime_ns])
    label = " ".join(row.label.split())
    return MediaItem(path.stem, row.split or "clip", label, {"en": (label,)}, content, partial(read_wave, path))
