"""Random changes of a picture or a sound that keep its name. Every draw is explicit."""

from typing import Any

import numpy as np
import torch
from scipy.signal import fftconvolve, resample

from semhub_lens.spokes.encoders import RATE, clip, picture

GROUNDS = ("white", "white", "lightgray", "beige", "lightblue", "black", "palegreen", "lavender")


def changed_picture(media: Any, rng: torch.Generator) -> Any:
    """A picture that is turned, moved, resized or mirrored, in other light, on another background."""
    from PIL import Image, ImageEnhance, ImageFilter

    draw = torch.rand(12, generator=rng, dtype=torch.float32).tolist()
    layered = media.convert("RGBA") if hasattr(media, "convert") else picture(media).convert("RGBA")
    if draw[0] < 0.5:
        layered = layered.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = 320
    size = side * (0.45 + 0.65 * draw[1]) / max(layered.size)
    stretch = 0.85 + 0.3 * draw[2]
    width, height = (max(8, round(s * size * f)) for s, f in zip(layered.size, (stretch, 1 / stretch), strict=True))
    layered = layered.resize((width, height), Image.Resampling.BICUBIC)
    layered = layered.rotate(40 * (draw[3] - 0.5), Image.Resampling.BICUBIC, expand=True)
    ground = Image.new("RGBA", (side, side), GROUNDS[int(draw[4] * len(GROUNDS))])
    room = [side - layered.width, side - layered.height]
    ground.alpha_composite(
        *_placed(layered, [round(r * (0.5 + 0.8 * (d - 0.5))) for r, d in zip(room, draw[5:7], strict=True)])
    )
    out = ground.convert("RGB")
    for change, amount in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), draw[7:10], strict=True
    ):
        out = change(out).enhance(0.7 + 0.6 * amount)
    return out.filter(ImageFilter.GaussianBlur(2 * draw[11])) if draw[10] < 0.3 else out


def _placed(layered: Any, corner: list[int]) -> tuple[Any, tuple[int, int]]:
    """Crop parts outside on the left or top, which `alpha_composite` does not accept."""
    cut = [max(0, -place) for place in corner]
    layered = layered.crop((cut[0], cut[1], layered.width, layered.height))
    return layered, (max(0, corner[0]), max(0, corner[1]))


def changed_sound(media: Any, rng: torch.Generator) -> tuple[np.ndarray, int]:
    """A sound played faster or slower (which also changes the pitch), with a room's echo, another tone and noise."""
    draw = torch.rand(6, generator=rng, dtype=torch.float32).tolist()
    samples = clip(media)
    samples = np.asarray(resample(samples, round(len(samples) * (0.85 + 0.3 * draw[0]))), dtype=np.float32)
    decay = np.exp(-np.arange(RATE // 5) / (RATE * (0.01 + 0.05 * draw[1])))
    room = decay * torch.randn(len(decay), generator=rng, dtype=torch.float32).numpy() * 0.3 * draw[2]
    room[0] = 1.0
    samples = fftconvolve(samples, room)[: len(samples) + RATE // 20]
    tone = np.array([1.0, 1.2 * (draw[3] - 0.5)])
    samples = fftconvolve(samples, tone)
    power = np.sqrt((samples**2).mean()) * 10 ** (-(15 + 25 * draw[4]) / 20)
    noise = torch.randn(len(samples), generator=rng, dtype=torch.float32).numpy()
    return (samples + power * noise).astype(np.float32), RATE
