"""A Hugging Face processor's output for text, pictures and sound: token ids, spans, tiles and times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.foreign import unpadding_of
from semhub_lens.inputs.media import Media, Tile
from semhub_lens.inputs.modalities import AUDIO, IMAGE, Modality
from semhub_lens.inputs.raw_media import pixels, samples

DROPPED = ("input_ids", "attention_mask")
EDGE = 4
"""Frames that may be missing at the end of a sound, if no whole frame fits."""


@dataclass(frozen=True)
class Read:
    """A processor's output, with the positions of its media."""

    ids: Int[Tensor, " pos"]
    spans: dict[str, tuple[int, ...]]
    media: Media


def read(processor: Any, text: str, images: Any, audio: Any, sampling_rate: int | None) -> Read:
    """Run the processor on one prompt and find its media among the tokens.

    Raises:
        SemhubError: see `Prompt.from_processor`.
    """
    if not hasattr(processor, "tokenizer"):
        raise SemhubError(f"processor= takes what AutoProcessor.from_pretrained(name) gives, got {processor!r}.")
    shown = {IMAGE: _listed(images), AUDIO: _listed(audio)}
    counts = {modality.name: len(media) for modality, media in shown.items()}
    if not text.strip() or not any(counts.values()):
        raise SemhubError(
            f"Expected a text and at least one picture or sound, got {text!r} with {counts}; for text alone use "
            "Prompt.from_text."
        )
    if sampling_rate is not None and sampling_rate < 1:
        raise SemhubError(f"sampling_rate= counts samples a second, at least 1; got {sampling_rate}.")
    for modality, media in shown.items():
        _check_placeholders(processor, text, modality, len(media))
    rate = _rate(processor, sampling_rate) if shown[AUDIO] else None
    shown[AUDIO] = [_waveform(sound) for sound in shown[AUDIO]]
    shown[IMAGE] = [_picture(one) for one in shown[IMAGE]]
    encoded = _call(processor, text, shown, rate)
    _require_heard(processor, encoded, shown[AUDIO])
    if (mask := encoded.get("attention_mask")) is not None and not bool(mask.all()):
        raise SemhubError("The processor padded the prompt; turn its padding off.")
    ids = encoded["input_ids"][0]
    parts = {modality: _parts(ids, processor, modality, media, rate) for modality, media in shown.items() if media}
    tiles = {
        f"{IMAGE.name}:{i}": picture_tiles(processor, encoded, part, i) for i, part in enumerate(parts.get(IMAGE, ()))
    }
    times = {
        f"{AUDIO.name}:{i}": _times(processor, len(shown[AUDIO][i]), len(part))
        for i, part in enumerate(parts.get(AUDIO, ()))
    }
    spans: dict[str, tuple[int, ...]] = {}
    for modality, positions in parts.items():
        spans |= _named(modality.name, positions)
    inputs = {name: value for name, value in encoded.items() if name not in DROPPED and isinstance(value, Tensor)}
    return Read(ids, spans, Media(inputs, tiles, times))


def _picture(media: Any) -> Any:
    """A PIL image as it is, or pixels; a processor would fetch what a text names, from the network too."""
    if isinstance(media, Tensor | np.ndarray):
        return pixels(media)
    if not hasattr(media, "convert"):  # no PIL image
        raise SemhubError(f"A picture is a PIL image or an array of pixels, got {media!r}; open a file with PIL.")
    return media


def _waveform(sound: Any) -> np.ndarray:
    wave = samples(sound)
    if wave.ndim != 1 or not len(wave):
        raise SemhubError("Each sound must be one finite mono waveform, a one-dimensional array that is not empty.")
    return wave


def _require_heard(processor: Any, encoded: Mapping[str, Tensor], sounds: Sequence[np.ndarray]) -> None:
    """Refuse sound that the feature extractor has cut; without a mask of its frames, this cannot be detected."""
    features = encoded.get("input_features")
    mask = encoded.get("feature_attention_mask", encoded.get("input_features_mask"))
    if not sounds or features is None or mask is None or mask.shape[-1] not in features.shape[1:]:
        return
    extractor = processor.feature_extractor
    given, heard = sum(map(len, sounds)), int(mask.sum()) * extractor.hop_length
    if given - heard > EDGE * extractor.hop_length:
        rate = extractor.sampling_rate
        raise SemhubError(
            f"The processor reads {heard / rate:.2f} of the {given / rate:.2f} seconds of sound and drops the rest: "
            "shorten the sound, or split it."
        )


def _listed(media: Any) -> list[Any]:
    if media is None:
        return []
    return list(media) if isinstance(media, list | tuple) else [media]


def placeholder(processor: Any, modality: Modality) -> tuple[str, int]:
    """The placeholder for a picture or sound in the text, and the id of the tokens that replace it.

    Raises:
        SemhubError: the processor does not take such media.
    """
    token = getattr(processor, f"{modality.name}_token", None)
    if token is None:
        raise Unfit(f"{type(processor).__name__} takes no {modality.name}: give media and a processor that fit.")
    if modality is IMAGE and hasattr(processor, "boi_token"):  # Gemma 3 writes the opening token and expands it
        return str(processor.boi_token), int(processor.tokenizer.image_token_id)
    own = getattr(processor, f"{modality.name}_token_id", None)
    return str(token), int(processor.tokenizer.convert_tokens_to_ids(str(token)) if own is None else own)


def _check_placeholders(processor: Any, text: str, modality: Modality, count: int) -> None:
    if not count and getattr(processor, f"{modality.name}_token", None) is None:
        return
    token, _ = placeholder(processor, modality)
    if (seen := text.count(token)) != count:
        raise SemhubError(
            f"The text has {seen} placeholders {token!r} for {count} of kind {modality.name}: {text!r}. Write one for "
            "each, for example with processor.apply_chat_template."
        )


def _rate(processor: Any, asked: int | None) -> int:
    own = int(processor.feature_extractor.sampling_rate)
    if asked not in (None, own):
        raise SemhubError(f"The processor takes sound at {own} Hz, got {asked} Hz; resample it.")
    return own


def _call(processor: Any, text: str, shown: Mapping[Modality, list[Any]], rate: int | None) -> Mapping[str, Tensor]:
    settings: dict[str, Any] = {modality.argument: media for modality, media in shown.items() if media}
    if shown.get(AUDIO):
        settings["sampling_rate"] = rate
    return processor(text=[text], return_tensors="pt", **settings)


def _parts(
    ids: Tensor, processor: Any, modality: Modality, media: list[Any], rate: int | None
) -> list[tuple[int, ...]]:
    """The placeholder positions of each picture or sound, in order."""
    written, token = placeholder(processor, modality)
    positions = (ids == token).nonzero()[:, 0].tolist()
    if len(media) == 1:
        return [tuple(positions)]
    alone = [_call(processor, written, {modality: [entry]}, rate)["input_ids"][0] for entry in media]
    counts = [int((row == token).sum()) for row in alone]
    if sum(counts) != len(positions):
        raise SemhubError(
            f"The prompt has {len(positions)} {modality.name} positions, but its media need {counts}; pass one picture "
            "or sound at a time."
        )
    ends = list(accumulate(counts))
    return [tuple(positions[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def _named(name: str, parts: Sequence[tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The span of all pictures or sounds, and the span of each."""
    spans = {name: tuple(position for part in parts for position in part)}
    return spans | {f"{name}:{i}": part for i, part in enumerate(parts)}


def _times(processor: Any, samples: int, positions: int) -> tuple[float, ...]:
    """The second at which each position starts; each has a whole number of the feature extractor's frames."""
    extractor = processor.feature_extractor
    frames = samples / extractor.hop_length
    stride = 2 ** round(math.log2(max(1.0, frames / positions)))  # encoders halve their input some times
    return tuple(i * stride * extractor.hop_length / extractor.sampling_rate for i in range(positions))


def runs_of(positions: Sequence[int]) -> list[tuple[int, ...]]:
    """Split positions into runs without gaps.

    Example:
        >>> from semhub_lens.inputs.processors import runs_of
        >>> runs_of([1, 2, 5, 6, 7])
        [(1, 2), (5, 6, 7)]
    """
    starts = [0, *(i for i in range(1, len(positions)) if positions[i] != positions[i - 1] + 1), len(positions)]
    return [tuple(positions[a:b]) for a, b in pairwise(starts)]


def picture_tiles(
    processor: Any, encoded: Mapping[str, Tensor], positions: tuple[int, ...], index: int
) -> tuple[Tile, ...]:
    """The rectangles of patches of one picture."""
    family = type(processor).__name__
    if "image_grid_thw" in encoded:  # Qwen-VL, GLM-V: patches merged in squares
        _, rows, columns = encoded["image_grid_thw"][index].tolist()
        merge = int(processor.image_processor.merge_size)
        return (Tile(positions, rows // merge, columns // merge),)
    runs = runs_of(positions)
    if unpadding_of(processor) is not None:  # LLaVA-NeXT, OneVision
        return _any_resolution(processor, encoded, positions, index)
    if family == "PixtralProcessor":  # every row ends with a token of its own
        return (Tile(positions, len(runs), len(runs[0])),)
    tiles = []
    first = family.startswith("Gemma3")  # there the whole picture comes before its crops, elsewhere behind its parts
    for number, run in enumerate(runs):  # a picture, or each part that it is cut into, is a square
        side = math.isqrt(len(run))
        if side * side != len(run):
            raise SemhubError(
                f"{family} gave a picture {len(run)} positions in a row, which is not a square number, so its grid is "
                "unknown."
            )
        tiles.append(Tile(run, side, side, whole=number == (0 if first else len(runs) - 1)))
    return tuple(tiles)


def _any_resolution(
    processor: Any, encoded: Mapping[str, Tensor], positions: tuple[int, ...], index: int
) -> tuple[Tile, ...]:
    """The whole picture at a small size, then at full resolution, where each row ends with a newline position."""
    height, width = encoded["pixel_values"].shape[-2:]
    whole = getattr(processor, "num_image_tokens", None)
    side = math.isqrt(whole) if whole else height // processor.patch_size
    first, rest = positions[: side * side], positions[side * side :]
    overview = Tile(first, side, side)
    if not rest:
        return (overview,)
    original = encoded["image_sizes"][index].tolist()
    scale = _best_scale(processor, original, height, width)
    unpadded, newlines = unpadding_of(processor)(*original, side, side, *scale)[:2]
    columns = unpadded // newlines
    if len(rest) != newlines * (columns + 1):
        raise SemhubError(
            f"The picture has {len(rest)} positions in full resolution, expected {newlines * (columns + 1)}."
        )
    kept = tuple(p for i, p in enumerate(rest) if i % (columns + 1) < columns)
    return overview, Tile(kept, newlines, columns)


def _best_scale(processor: Any, original: Sequence[int], height: int, width: int) -> tuple[int, int]:
    from transformers.image_processing_utils import select_best_resolution

    rows, columns = select_best_resolution(tuple(original), processor.image_processor.image_grid_pinpoints)
    return rows // height, columns // width
