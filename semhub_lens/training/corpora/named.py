"""Files named after their content: drawings for a word game, and words read by people or programs.

None of them are bundled. Debian's package `pysiogame` has about 380 drawings of things in `res/images/art4apps`.
"""

import re
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.fingerprints import file_fingerprint
from semhub_lens.data.media.items import MediaItem
from semhub_lens.training.corpora.stamps import bare, read_picture, read_recording, require_style

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".svg")
RECORDED = (".wav", ".flac", ".ogg", ".mp3")
Said = Mapping[str, Mapping[str, tuple[str, str]]]
"""By language and lower-case word: the word as written, and its concept."""
NO_THINGS = frozenset({"actions", "sport", "body", "people"})
"""Folders of drawings of actions, and of things that an arrow points at."""


@checked
def named_pictures(folder: str | Path, style: str, *, skip: Collection[str] = NO_THINGS) -> list[MediaItem]:
    """Pictures below a folder with their file names as English names.

    Args:
        folder: `guinea_pig.jpg` or `animals/guinea pig 2.png` shows a guinea pig; names of more than three words, or
            with characters other than letters, are left out.
        style: name of the style.
        skip: names of subfolders to leave out.

    Raises:
        SemhubError: the folder does not exist or has no pictures.

    Example:
        >>> named_pictures("art4apps", "drawing")[0].concept  # doctest: +SKIP
    """
    require_style(style)
    root = user_path(folder)
    items = []
    for path in sorted(root.rglob("*")) if root.is_dir() else []:
        inside = path.relative_to(root)
        name = " ".join(re.split(r"[\s_-]+", re.sub(r"[\s_-]*\d+$", "", path.stem.lower())))
        if path.suffix.lower() not in KINDS or set(inside.parts[:-1]) & set(skip):
            continue
        if re.fullmatch(r"[a-z]+( [a-z]+){0,2}", name):
            names = {"en": tuple(dict.fromkeys((bare(name), name)))}
            opened = partial(read_picture, path)
            key = f"{style}:{inside.as_posix()}"
            items.append(MediaItem(key, style, bare(name), names, file_fingerprint(path), opened))
    if not items:
        raise SemhubError(
            f"There are no pictures below {root} with names of what they show. Expected files such as guinea_pig.jpg."
        )
    return items


@checked
def named_recordings(folder: str | Path, style: str, said: Said) -> list[MediaItem]:
    """Recordings of words, in one folder for each language, with the spoken word as file name.

    Args:
        folder: `en/guinea pig.wav` or `en/guinea_pig_2.ogg` says "guinea pig", alone or with an article.
        style: name of the voice.
        said: the words to accept; other files and folders are left out.

    Raises:
        SemhubError: the folder does not exist, or has no recording of one of the words.

    Example:
        >>> named_recordings("voices/flite-slt", "flite-slt", known_words(spoken_words()))  # doctest: +SKIP
    """
    require_style(style)
    root = user_path(folder)
    items = []
    for path in sorted(root.glob("*/*")) if root.is_dir() else []:
        word = re.sub(r"[\s_]+", " ", re.sub(r"[\s_]*\d*$", "", path.stem)).lower()
        code, known = path.parent.name, said.get(path.parent.name, {}).get(word)
        if known and path.suffix.lower() in RECORDED:
            key, opened = f"{style}:{code}:{path.name}", partial(read_recording, path)
            items.append(MediaItem(key, style, known[1], {code: (known[0],)}, file_fingerprint(path), opened))
    if not items:
        example = next((f"{code}/{next(iter(words))}.wav" for code, words in said.items() if words), "en/dog.wav")
        raise SemhubError(
            f"There are no recordings of words below {root}. Expected files such as {example} ({', '.join(RECORDED)}), "
            "each named after a word of the training."
        )
    return items
