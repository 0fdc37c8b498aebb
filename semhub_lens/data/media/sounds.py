"""Bundled clips: words spoken by eSpeak NG in a voice that no spoke is trained on (extra `audio`).

They are 79 everyday things, the same as in the bundled pictures, and 48 animals, mammals and others. The speech is
synthetic, made by `training.bundled_sounds`; see `bundled/sounds/NOTICE`. No clip has the sound of the thing itself.
"""

from functools import partial
from importlib.resources import files
from pathlib import Path

from semhub_lens.base.fingerprints import file_fingerprint
from semhub_lens.data.media.items import MediaItem
from semhub_lens.data.media.waves import read_wave
from semhub_lens.data.text.texts import BUNDLED, bundled_rows

FOLDER = "sounds"
VOICE = "en-us+m4"
"""One of the two voices that are never trained (`corpus_speech.HELD`)."""
MAMMAL = "mammal"


def bundled_sounds() -> list[MediaItem]:
    """Clips of 79 things, in the order of `bundled_pictures`; they open as (samples, rate), mono at 16 kHz.

    The spoken words are English; the items also have the concept's names in the other languages.

    Example:
        >>> from semhub_lens.data.media.sounds import bundled_sounds
        >>> bundled_sounds()[0].key, bundled_sounds()[0].names["fr"]
        ('animals:dog', ('chien',))
    """
    concepts = {row["en"]: row for row in bundled_rows("concepts.tsv")}
    rows = [concepts[row["en"]] for row in bundled_rows("pictures/pictures.tsv")]
    return [_item(row["category"], row["en"], {code: (row[code],) for code in BUNDLED}) for row in rows]


def animal_sounds() -> list[MediaItem]:
    """Clips of 24 mammals and 24 other animals; the key is "CLASS:NAME" (`animals` lists the classes).

    Example:
        >>> len(animal_sounds())
        48
    """
    spoken = {row["en"] for row in bundled_rows(f"{FOLDER}/sounds.tsv")}
    return [_item(kind, name, {"en": (name,)}) for name, kind in animals().items() if name in spoken]


def animals() -> dict[str, str]:
    """Names of animals, also without a clip, and their class: "mammal", "bird", "fish", "insect", ...

    Example:
        >>> from semhub_lens.data.media.sounds import animals
        >>> animals()["dog"], animals()["owl"]
        ('mammal', 'bird')
    """
    return {row["en"]: row["class"] for row in bundled_rows(f"{FOLDER}/animals.tsv")}


def _item(group: str, name: str, names: dict[str, tuple[str, ...]]) -> MediaItem:
    path = Path(str(files("semhub_lens.data") / "bundled" / FOLDER / f"{name}.flac"))
    return MediaItem(f"{group}:{name}", VOICE, name, names, file_fingerprint(path), partial(read_wave, path))
