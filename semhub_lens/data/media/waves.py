"""Sound files as mono samples at one rate."""

from pathlib import Path

import numpy as np

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.optional_packages import optional

HERTZ = 16_000
"""The sampling rate of the audio encoders."""


@checked
def resampled(samples: np.ndarray, rate: int, to: int = HERTZ) -> np.ndarray:
    """Samples at another rate (polyphase filter); unchanged if the rates are equal.

    Raises:
        SemhubError: a rate below 1.

    Example:
        >>> import numpy as np
        >>> from semhub_lens.data.media.waves import resampled
        >>> len(resampled(np.zeros(44_100, np.float32), 44_100))
        16000
    """
    from scipy.signal import resample_poly

    if min(rate, to) < 1:
        raise SemhubError(f"rate= and to= are samples per second, at least 1; got {rate} and {to}.")
    if rate == to:
        return samples
    common = np.gcd(rate, to)
    return resample_poly(samples, to // common, rate // common).astype(np.float32)


@checked
def read_wave(path: str | Path, to: int = HERTZ) -> tuple[np.ndarray, int]:
    """A sound file (wav, flac, ogg, mp3) as mono samples, float32, and their rate.

    Raises:
        SemhubError: the package soundfile is missing, no such file, one that cannot be read, one without samples, or a
            rate below 1.

    Example:
        >>> samples, rate = read_wave("dog.wav")  # doctest: +SKIP
    """
    if to < 1:
        raise SemhubError(f"to= is a number of samples per second, at least 1; got {to}.")
    file = user_path(path)
    if not file.is_file():
        raise SemhubError(f"No sound file at {file}. Give the path of a wav, flac, ogg or mp3 file.")
    package = optional("soundfile", "soundfile", "audio")
    try:
        samples, rate = package.read(str(file), dtype="float32", always_2d=True)
    except package.LibsndfileError as error:
        raise SemhubError(f"{file} cannot be read as sound ({error}); expected wav, flac, ogg or mp3.") from error
    if not len(samples):
        raise SemhubError(f"{file} has no samples. Give a file with sound.")
    return resampled(samples.mean(axis=1), int(rate), to), to
