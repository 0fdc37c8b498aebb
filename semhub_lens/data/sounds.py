"""Bundled clips: words that eSpeak NG says in a voice that no spoke is trained on (extra `audio` to open them).

79 everyday things, the same as the bundled pictures, and 48 animals, mammals and others. Synthetic speech, made by
`write_sounds`; see `bundled/sounds/NOTICE`. What the thing itself sounds like is in none of them.
"""

from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np

from semhub_lens._extras import optional
from semhub_lens.data.corpus_speech import speak
from semhub_lens.data.corpus_stamps import content_hash
from semhub_lens.data.media import MediaItem
from semhub_lens.data.texts import BUNDLED, bundled_rows
from semhub_lens.data.waves import HERTZ, read_wave, resampled
from semhub_lens.files import require_folder, write_aside

FOLDER = "sounds"
VOICE = "en-us+m4"
"""One of the two variants that are never trained (`corpus_speech.HELD`)."""
PEAK = 0.3
QUIET, MARGIN = 0.01, 400
"""Silence at the ends (below this share of the peak) is cut, but for so many samples."""
MAMMAL = "mammal"


def bundled_sounds() -> list[MediaItem]:
    """Clips of 79 things, in the order of `bundled_pictures`; they open as (samples, rate), mono at 16 kHz.

    The words are English; the names in the other languages are those of the same concept.

    Example:
        >>> from semhub_lens.data.sounds import bundled_sounds
        >>> bundled_sounds()[0].key, bundled_sounds()[0].names["fr"]
        ('animals:dog', ('chien',))
    """
    concepts = {row["en"]: row for row in bundled_rows("concepts.tsv")}
    rows = [concepts[row["en"]] for row in bundled_rows("pictures/pictures.tsv")]
    return [_item(row["category"], row["en"], {code: (row[code],) for code in BUNDLED}) for row in rows]


def animal_sounds() -> list[MediaItem]:
    """Clips of 24 mammals and 24 other animals; the key is "CLASS:NAME" (`animals` says which classes there are)."""
    spoken = {row["en"] for row in bundled_rows(f"{FOLDER}/sounds.tsv")}
    return [_item(kind, name, {"en": (name,)}) for name, kind in animals().items() if name in spoken]


def animals() -> dict[str, str]:
    """Names of animals (more than have a clip) and their class: "mammal", "bird", "fish", "insect", ...

    Example:
        >>> from semhub_lens.data.sounds import animals
        >>> animals()["dog"], animals()["owl"]
        ('mammal', 'bird')
    """
    return {row["en"]: row["class"] for row in bundled_rows(f"{FOLDER}/animals.tsv")}


def write_sounds(folder: str | Path) -> list[Path]:
    """Speak every word of the bundled `sounds.tsv` anew and write `WORD.flac` to a folder.

    The clips sound the same but are not the bundled ones to the last bit: eSpeak's voices flutter a little.

    Raises:
        ValueError: a missing package of the extra `audio`, or a folder that cannot be written.
    """
    target = Path(folder)
    require_folder(target)
    written = []
    for row in bundled_rows(f"{FOLDER}/sounds.tsv"):
        samples, rate = speak(row["en"], row["voice"], rate=int(row["rate"]), pitch=int(row["pitch"]))
        _write(target / f"{row['en']}.flac", _trimmed(resampled(samples, rate)))
        written.append(target / f"{row['en']}.flac")
    return written


def _item(group: str, name: str, names: dict[str, tuple[str, ...]]) -> MediaItem:
    path = Path(str(files("semhub_lens.data") / "bundled" / FOLDER / f"{name}.flac"))
    return MediaItem(f"{group}:{name}", VOICE, name, names, content_hash(path), partial(read_wave, path))


def _trimmed(samples: np.ndarray) -> np.ndarray:
    peak = np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > QUIET * peak)
    return samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN] * (PEAK / peak)


def _write(path: Path, samples: np.ndarray) -> None:
    package = optional("soundfile", "soundfile", "audio")
    write_aside(
        path,
        lambda aside: package.write(str(aside), samples, HERTZ, format="FLAC", subtype="PCM_16", compression_level=1.0),
    )
