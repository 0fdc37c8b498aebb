"""Making the bundled clips: eSpeak NG speaks every word of the bundled `sounds.tsv` (extra `train`)."""

from pathlib import Path

import numpy as np

from semhub_lens.base.arguments import checked
from semhub_lens.base.files import require_folder, user_path, write_aside
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.media.sounds import FOLDER
from semhub_lens.data.media.waves import HERTZ, resampled
from semhub_lens.data.text.texts import bundled_rows
from semhub_lens.training.corpora.speech import speak

PEAK = 0.3
QUIET, MARGIN = 0.01, 400
"""Silence at the ends (below this share of the peak) is cut, except for this many samples."""


@checked
def write_sounds(folder: str | Path) -> list[Path]:
    """Speak every word of the bundled `sounds.tsv` again and write `WORD.flac` to a folder.

    The clips sound the same as the bundled ones but are not identical: eSpeak's voices flutter slightly.

    Raises:
        SemhubError: a package of the extra `train` is missing, or the folder cannot be written.

    Example:
        >>> write_sounds("sounds")  # doctest: +SKIP
    """
    target = user_path(folder)
    require_folder(target)
    written = []
    for row in bundled_rows(f"{FOLDER}/sounds.tsv"):
        samples, rate = speak(row["en"], row["voice"], rate=int(row["rate"]), pitch=int(row["pitch"]))
        _write(target / f"{row['en']}.flac", _trimmed(resampled(samples, rate)))
        written.append(target / f"{row['en']}.flac")
    return written


def _trimmed(samples: np.ndarray) -> np.ndarray:
    peak = np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > QUIET * peak)
    return samples[max(0, loud[0] - MARGIN) : loud[-1] + MARGIN] * (PEAK / peak)


def _write(path: Path, samples: np.ndarray) -> None:
    package = optional("soundfile", "soundfile", "train")
    write_aside(
        path,
        lambda aside: package.write(str(aside), samples, HERTZ, format="FLAC", subtype="PCM_16", compression_level=1.0),
    )
