"""A reader for your own COCO folder: pictures, segments with the name of their category, captions.

Nothing of COCO is bundled. Source of the format: Lin et al. 2014 (Microsoft COCO) and the public description of its
annotation files.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.base.files import inside, user_path
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.pictures import open_picture
from semhub_lens.data.media.segments import Masks, SegmentedPicture

LAYOUT = "FOLDER/annotations/instances_NAME.json (and captions_NAME.json), pictures in FOLDER/NAME or FOLDER/images"
FINE = 4
"""Polygons are drawn this many times finer than the picture, because Pillow also fills the pixels on the outline."""


@dataclass(frozen=True, eq=False)
class CocoPicture:
    """One picture of a COCO folder with its annotations."""

    path: Path
    size: tuple[int, int]
    """Height and width."""
    segments: Mapping[str, tuple[Any, ...]]
    """For each category name, its segmentations as in the file."""
    captions: tuple[str, ...]

    def masks(self) -> dict[str, np.ndarray]:
        """For each category name, the pixels `[y x]` that any of its segments covers."""
        return {
            name: np.any([decoded(s, *self.size) for s in listed], axis=0) for name, listed in self.segments.items()
        }


@checked
def read_coco(path: str | Path) -> list[CocoPicture]:
    """Read the pictures of a COCO folder, or of one `instances_*.json` in its `annotations`.

    Expected layout::

        FOLDER/annotations/instances_NAME.json
        FOLDER/annotations/captions_NAME.json       (optional)
        FOLDER/NAME/*.jpg, FOLDER/images/NAME/*.jpg, FOLDER/images/*.jpg or FOLDER/*.jpg

    Crowds (`iscrowd`) count as segments of their category. Pictures without a segment are left out.

    Raises:
        SemhubError: no annotations, several `instances_*.json` in a folder, a malformed file, or a picture that is
            missing or outside its folder.

    Example:
        >>> read_coco("coco")[0]  # doctest: +SKIP
    """
    file = _instances(user_path(path))
    root, name = file.parent.parent, file.stem.removeprefix("instances_")
    instances = _json(file, ("images", "annotations", "categories"))
    captions_file = file.with_name(f"captions_{name}.json")
    written = _json(captions_file, ("annotations",))["annotations"] if captions_file.is_file() else []
    captions: dict[int, list[str]] = defaultdict(list)
    segments: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    try:
        names = {entry["id"]: str(entry["name"]) for entry in instances["categories"]}
        for entry in written:
            captions[entry["image_id"]].append(entry["caption"])
        for entry in instances["annotations"]:
            segments[entry["image_id"]][names[entry["category_id"]]].append(entry["segmentation"])
        listed = [(e["id"], str(e["file_name"]), (int(e["height"]), int(e["width"]))) for e in instances["images"]]
    except (KeyError, TypeError, ValueError) as error:
        raise SemhubError(f"{file} is not a COCO annotation file ({error!r}); expected {LAYOUT}.") from error
    folder = _pictures(root, name, [file_name for key, file_name, _ in listed if key in segments])
    return [
        CocoPicture(folder / file_name, size, {k: tuple(v) for k, v in segments[key].items()}, tuple(captions[key]))
        for key, file_name, size in listed
        if key in segments
    ]


def _instances(path: Path) -> Path:
    files = [path] if path.suffix == ".json" else sorted((path / "annotations").glob("instances_*.json"))
    if len(files) != 1 or not files[0].is_file():
        several = f"several files ({', '.join(f.name for f in files)}): name one of them" if files[1:] else "none"
        raise SemhubError(f"Expected a COCO folder, {LAYOUT}; in {path} there is {several}.")
    return files[0]


def _json(file: Path, keys: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SemhubError(f"{file} is not JSON ({error}); expected {LAYOUT}.") from error
    if missing := [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]:
        raise SemhubError(f"{file} is not a COCO annotation file: it has no list {', '.join(missing)}.")
    return content


def _pictures(root: Path, name: str, files: Sequence[str]) -> Path:
    """The folder with the pictures."""
    if not files:
        raise SemhubError(f"instances_{name}.json of {root} has no picture with a segment.")
    tried = [root / name, root / "images" / name, root / "images", root]
    folder = next((folder for folder in tried if inside(folder, files[0]).is_file()), None)
    if folder is None:
        raise SemhubError(f"The picture {files[0]} is in none of {', '.join(map(str, tried))}; expected {LAYOUT}.")
    if missing := [file for file in files if not inside(folder, file).is_file()]:
        raise SemhubError(f"{len(missing)} of {len(files)} pictures are not in {folder}, the first is {missing[0]}.")
    return folder


@checked
def coco_segments(path: str | Path) -> list[SegmentedPicture]:
    """Pictures with a mask for each of their categories, the rarest category first.

    Example:
        >>> [item.labels for item in coco_segments("val2017/annotations/instances_val2017.json")]  # doctest: +SKIP
    """
    read = read_coco(path)
    frequent = Counter(name for picture in read for name in picture.segments)
    return [
        SegmentedPicture(
            picture.path.name,
            tuple(sorted(picture.segments, key=lambda name: (frequent[name], name))),
            partial(_segmented, picture),
        )
        for picture in read
    ]


def _segmented(picture: CocoPicture) -> tuple[Any, Masks]:
    opened = open_picture(picture.path)
    if opened.size != picture.size[::-1]:
        raise SemhubError(f"{picture.path} has {opened.size[::-1]} rows and columns, its annotation {picture.size}.")
    return opened, picture.masks()


@checked
def coco_captions(path: str | Path) -> list[MediaItem]:
    """Pictures with the nouns of their captions as English names, the rarest first; others are left out.

    A noun is the name of one of the picture's categories that occurs in a caption as a whole word, in the singular or
    with -s or -es. Other nouns ("man" for a person) are ignored.

    Raises:
        SemhubError: as for `read_coco`; no caption contains the name of a category.

    Example:
        >>> coco_captions("coco")[0].names["en"]  # doctest: +SKIP
    """
    read = read_coco(path)
    named = [(picture, caption_nouns(picture.captions, list(picture.segments))) for picture in read]
    frequent = Counter(noun for _, nouns in named for noun in nouns)
    items = []
    for picture, nouns in named:
        if nouns:
            listed = tuple(sorted(nouns, key=lambda noun: (frequent[noun], noun)))
            content = f"{picture.path.name} {picture.path.stat().st_size}"
            opened = partial(open_picture, picture.path)
            items.append(MediaItem(picture.path.name, "photo", listed[0], {"en": listed}, content, opened))
    if not items:
        raise SemhubError(f"No caption of {path} contains a category of its picture; is there a captions_*.json?")
    return items


def caption_nouns(captions: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that occur in a caption.

    Example:
        >>> from semhub_lens.data.media.coco import caption_nouns
        >>> caption_nouns(["Two Dogs chase a catfish."], ["dog", "cat", "person"])
        ['dog']
    """
    text = "\n".join(captions)
    return [name for name in names if re.search(rf"\b{re.escape(name)}(?:e?s)?\b", text, re.IGNORECASE)]


@checked
def decoded(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The pixels `[y x]` of a COCO segmentation: polygons, or run lengths as numbers or compressed.

    A polygon covers the pixels whose centre is inside. Other programs treat pixels on the outline differently.

    Raises:
        SemhubError: another form, a picture without pixels, or run lengths that do not fill the picture.

    Example:
        >>> from semhub_lens.data.media.coco import decoded
        >>> decoded({"counts": [1, 2, 3], "size": [2, 3]}, 2, 3).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
    """
    if min(height, width) < 1:
        raise SemhubError(f"height= and width= are the picture's pixels, at least 1; got {height} and {width}.")
    if isinstance(segmentation, list):
        return _filled(segmentation, height, width)
    if not isinstance(segmentation, Mapping) or not {"counts", "size"} <= segmentation.keys():
        raise SemhubError(f"A segmentation is a list of polygons or has counts and size, got {segmentation!r:.80}.")
    counts = segmentation["counts"]
    runs = list(counts) if isinstance(counts, list) else run_lengths(counts)
    whole = all(is_index(run) and run >= 0 for run in runs)
    if segmentation["size"] not in ([height, width], (height, width)) or not whole or sum(runs) != height * width:
        raise SemhubError(
            f"Run lengths are whole numbers that fill the picture; {shown(counts)} and size "
            f"{shown(segmentation['size'])} do not fit a picture of {height} x {width}."
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T  # COCO's runs go down the columns


def _filled(polygons: Sequence[Sequence[float | int]], height: int, width: int) -> np.ndarray:
    canvas = optional("PIL.Image", "pillow", "vision").new("1", (FINE * width, FINE * height))
    draw = optional("PIL.ImageDraw", "pillow", "vision").Draw(canvas)
    for polygon in polygons:
        numbers = isinstance(polygon, list | tuple) and all(isinstance(one, int | float) for one in polygon)
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise SemhubError(f"A polygon has x and y of at least three corners, got {shown(polygon)}.")
        draw.polygon([FINE * number for number in polygon], fill=1)
    return np.asarray(canvas, dtype=bool)[FINE // 2 :: FINE, FINE // 2 :: FINE]  # at the centres of the pixels


@checked
def run_lengths(text: str | bytes) -> list[int]:
    """Run lengths that COCO has packed into characters.

    Each is written in groups of five bits, the lowest first, offset by 48. Bit 5 says that another group follows, and
    the highest bit of the last group is the sign. From the fourth on, each is a difference from the run two before it.

    Raises:
        SemhubError: a character outside the code, or a text that breaks off.

    Example:
        >>> from semhub_lens.data.media.coco import run_lengths
        >>> run_lengths("23X1")
        [2, 3, 40]
    """
    codes = [ord(c) - 48 for c in (text.decode("latin-1") if isinstance(text, bytes) else text)]
    if any(not 0 <= code < 64 for code in codes) or (codes and codes[-1] & 32):
        raise SemhubError(f"These are not compressed run lengths: {text!r:.60}. Give the counts of a COCO file.")
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
