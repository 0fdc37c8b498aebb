"""What a training would read and write, looked at before it reads a model."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from semhub_lens.base.errors import SemhubError, require_size
from semhub_lens.base.files import require_place, user_path
from semhub_lens.base.optional_packages import optional
from semhub_lens.base.rng import generator
from semhub_lens.training.corpora.emoji import emoji_pictures
from semhub_lens.training.corpora.named import named_pictures, named_recordings
from semhub_lens.training.corpora.speech import HELD, TRAINED, known_words, spoken_words
from semhub_lens.training.corpora.stamps import read_stamps, require_style

OURS = {"vision": ("emoji", "stamp", "colour"), "audio": (*TRAINED, *HELD)}
"""Styles that a recipe has itself."""


def styles(kind: str, more: Sequence[str], named: Sequence[str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Folders by style, from STYLE=FOLDER.

    Raises:
        SemhubError: another form, a style that the recipe has itself, or one that comes twice.
    """
    found: list[dict[str, Path]] = []
    taken = {*OURS[kind]}
    for option, entries in (("--more", more), ("--named", named)):
        found.append({})
        for entry in entries:
            style, _, folder = entry.partition("=")
            if not style.strip() or not style.isprintable() or not folder.strip():
                raise SemhubError(f"{option} takes STYLE=FOLDER, got {entry!r}.")
            if style in taken:
                raise SemhubError(f"{option} {entry!r}: the style {style!r} is taken. Give every folder its own style.")
            taken.add(style)
            found[-1][style] = user_path(folder)
    return found[0], found[1]


def require_settings(kind: str, styles: Iterable[str], views: int, cache: str | Path | None, seed: int) -> None:
    """Look at the settings of a plan before it reads or encodes anything.

    Raises:
        SemhubError: a style that is blank or that the recipe has itself, fewer than one view, a cache that cannot be
            written, or a seed that is none.
    """
    require_size("views", views)
    generator(seed)
    if cache is not None:
        require_place(user_path(cache))
    for style in styles:
        require_style(style)
        if style in OURS[kind]:
            raise SemhubError(f"The style {style!r} is taken. Give every folder its own style.")


def require_sources(
    kind: str,
    *,
    font: Path | None,
    stamps: Path | None,
    more: dict[str, Path],
    named: dict[str, Path],
    words: int,
    cache: Path,
) -> None:
    """Read the lists of what a training would read.

    Raises:
        SemhubError: a font or folder that is missing or has nothing to learn from, options of the other kind, or a
            cache that cannot be written.
    """
    require_place(cache)
    if kind == "audio" and (font is not None or more):
        raise SemhubError(f"--font and --more are for vision, got {'--font' if font else '--more'} with audio.")
    if stamps is not None:
        read_stamps(stamps)
    if kind == "vision":
        for style, source in {**({} if font is None else {"emoji": font}), **more}.items():
            emoji_pictures(source, style)
        for style, folder in named.items():
            named_pictures(folder, style)
        return
    optional("espeakng_loader", "espeakng-loader", "train")
    known = known_words(spoken_words(stamps, english=words)) if named else {}
    for voice, folder in named.items():
        named_recordings(folder, voice, known)
