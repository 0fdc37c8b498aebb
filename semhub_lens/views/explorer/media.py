"""Pictures and sound in a page: PNG and WAV, which any browser opens, made without another package."""

import base64
import io
import struct
import wave
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs import raw_media
from semhub_lens.inputs.media import Tile

LARGEST = 800
"""Pixels of a picture's longer side; a larger one is reduced."""
FULL_SCALE = 2**15 - 1


def picture_part(picture: Any, tile: Tile, name: str) -> dict[str, Any]:
    """A picture with its patches.

    Raises:
        SemhubError: an array that is not a picture.
    """
    pixels = raw_media.pixels(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or not pixels.size:
        raise SemhubError(f"A picture is an array [height width channel] with 3 or 4 channels, got {pixels.shape}.")
    height, width = pixels.shape[:2]
    return {
        "kind": "picture",
        "name": name,
        "source": base64.b64encode(png(_reduced(pixels))).decode(),
        "width": width,
        "height": height,
        "rows": tile.rows,
        "columns": tile.columns,
        "positions": tile.positions,
    }


def sound_part(
    positions: Sequence[int], times: Sequence[float], sound: tuple[Any, int] | None, name: str
) -> dict[str, Any]:
    """A sound with its moments; each ends where the next starts, and the last one after the usual step.

    Raises:
        SemhubError: samples that are not mono sound, or a rate that is not positive.
    """
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else 0.04
    length, source = times[-1] + step, None
    if sound is not None:
        samples, rate = raw_media.samples(sound[0]), int(sound[1])
        samples = samples.mean(1) if samples.ndim == 2 else samples
        if samples.ndim != 1 or not samples.size or rate <= 0:
            raise SemhubError(f"A sound is (samples, rate), got samples {samples.shape} at {rate} a second.")
        source, length = base64.b64encode(wav(samples, rate)).decode(), max(length, len(samples) / rate)
    ends = [*times[1:], length if sound is not None else times[-1] + step]
    return {
        "kind": "sound",
        "name": name,
        "source": source,
        "positions": list(positions),
        "times": list(times),
        "ends": ends,
    }


def png(pixels: np.ndarray) -> bytes:
    """A PNG of pixels [height width channel] of 8 bits, three or four channels."""
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV with one channel and 16 bits; values beyond full scale are cut."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * FULL_SCALE).round().astype("<i2").tobytes())
    return held.getvalue()


def _reduced(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    share = LARGEST / max(height, width)
    if share >= 1:
        return pixels
    size = [max(1, round(side * share)) for side in (height, width)]
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    area = torch.nn.functional.interpolate(planes, size=size, mode="area")[0]
    return area.permute(1, 2, 0).round().to(torch.uint8).numpy()
