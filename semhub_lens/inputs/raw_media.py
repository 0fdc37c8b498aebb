"""Numbers of pictures and sound as users have them, on the one scale that encoders and processors expect."""

from typing import Any

import numpy as np
from torch import Tensor

from semhub_lens.base.errors import SemhubError

PCM = {"uint8": (128, 128), "int16": (0, 2**15), "int32": (0, 2**31)}
"""Types of samples as sound files hold them: the value of silence, and what full scale is from there."""
LOUDEST = 100.0
"""Samples beyond, 40 dB above full scale (no mix or echo gets there), are integers written as floats."""


def samples(sound: Any) -> np.ndarray:
    """Samples as float32 with a full scale of 1; 16-bit, 32-bit and unsigned 8-bit ones are divided by theirs.

    Raises:
        SemhubError: integers of another type, whose scale is not known; floats on a scale of integers; no finite
            numbers.

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
            "(numpy.int16) as a sound file holds them."
        )
    if array.size and not np.isfinite(array).all():
        raise SemhubError("A sound needs finite samples, these hold NaN or infinite ones.")
    if array.size and (peak := float(np.abs(array).max())) > LOUDEST:
        raise SemhubError(
            f"Floating-point samples lie from -1 to 1, these reach {peak:.6g}: divide them by the full scale of what "
            "they were read from (32768 for 16 bits)."
        )
    return array.astype(np.float32)


def pixels(picture: Any) -> np.ndarray:
    """Pixels as uint8, 0 to 255, in the given shape; floats from 0 to 1 are multiplied by 255.

    Floats of which one is above 1 are taken for 0 to 255 and rounded. A picture on that scale whose floats all stay
    below 1 cannot be told from one of 0 to 1; give it as uint8.

    Raises:
        SemhubError: numbers outside 0 to 255 (pixels that a processor has normalised, 16-bit pictures), or no numbers.

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
            f"to {array.max():.6g}. Give the picture in 8 bits, before a processor has normalised it."
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
