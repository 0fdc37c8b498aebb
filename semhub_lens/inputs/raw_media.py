"""Convert pictures and sound to the scale that encoders and processors expect."""

from typing import Any

import numpy as np
from torch import Tensor

from semhub_lens.base.errors import SemhubError

PCM = {"uint8": (128, 128), "int16": (0, 2**15), "int32": (0, 2**31)}
"""Sample types of sound files: the value of silence, and the full scale."""
LOUDEST = 100.0
"""Samples above this, 40 dB above full scale (no mix or echo is so loud), are integers stored as floats."""


def samples(sound: Any) -> np.ndarray:
    """Samples as float32 with a full scale of 1; 16-bit, 32-bit and unsigned 8-bit samples are rescaled.

    Raises:
        SemhubError: integers of another type, whose scale is unknown; floats on a scale of integers; NaN or infinite
            samples.

    Example:
        >>> import numpy as np
        >>> from semhub_lens.inputs.raw_media import samples
        >>> samples(np.array([0, 16384, -32768], dtype=np.int16)).tolist()
        [0.0, 0.5, -1.0]
    """
    array = _numbers(sound, "A sound")
    if array.dtype.name in PCM:
        silence, full = PCM[array.dtype.name]
        return ((array.astype(np.float64) - silence) / full).astype(np.float32)
    if array.dtype.kind != "f":
        raise SemhubError(
            f"Samples of type {array.dtype} have no known full scale; give floats from -1 to 1, or 16-bit integers "
            "(numpy.int16) as in a sound file."
        )
    if array.size and not np.isfinite(array).all():
        raise SemhubError("A sound needs finite samples; these include NaN or infinite values.")
    if array.size and (peak := float(np.abs(array).max())) > LOUDEST:
        raise SemhubError(
            f"Floating-point samples must be from -1 to 1, but these reach {peak:.6g}: divide them by the full scale "
            "of their source (32768 for 16 bits)."
        )
    return array.astype(np.float32)


def pixels(picture: Any) -> np.ndarray:
    """Pixels as uint8, 0 to 255, in the given shape; floats from 0 to 1 are multiplied by 255.

    If any float is above 1, the scale is taken as 0 to 255, and floats are rounded. A picture on that scale with all
    floats below 1 looks like one on the scale 0 to 1; pass it as uint8.

    Raises:
        SemhubError: numbers outside 0 to 255 (pixels that a processor has normalised, 16-bit pictures), or not numbers.

    Example:
        >>> from semhub_lens.inputs.raw_media import pixels
        >>> pixels([[0.0, 0.5, 1.0]]).tolist(), pixels([[0, 1, 255]]).tolist()
        ([[0, 128, 255]], [[0, 1, 255]])
    """
    array = _numbers(picture, "A picture")
    if array.dtype == np.uint8 or not array.size:
        return array.astype(np.uint8)
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
        raise SemhubError(
            f"Pixels are integers from 0 to 255 or floats from 0 to 1; these are {array.dtype} from {array.min():.6g} "
            f"to {array.max():.6g}. Pass the 8-bit picture, before a processor normalises it."
        )
    scale = 255 if array.dtype.kind == "f" and array.max() <= 1 else 1
    return np.rint(array.astype(np.float64) * scale).astype(np.uint8)


def _numbers(media: Any, what: str) -> np.ndarray:
    if isinstance(media, Tensor):
        media = media.detach().cpu()
        media = media.float() if media.is_floating_point() else media
    try:
        array = np.asarray(media)
    except ValueError as error:  # rows of unequal length
        raise SemhubError(f"{what} is an array of numbers: {error}") from error
    if array.dtype.kind not in "iuf":
        raise SemhubError(f"{what} is an array of numbers, got {type(media).__name__} of {array.dtype}.")
    return array
