"""Encoder features of items in several views, computed once and stored on disk."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError, require_size
from semhub_lens.base.files import user_path
from semhub_lens.base.progress import tqdm
from semhub_lens.base.rng import generator
from semhub_lens.base.store import Store
from semhub_lens.data.media.items import MediaItem
from semhub_lens.spokes.encoders import Encoder
from semhub_lens.training.augmentation import changed_picture, changed_sound

VERSION = 1
"""Version of the augmentation: features of another version are not read."""


@checked
def features(
    encoder: Encoder,
    items: Sequence[MediaItem],
    *,
    views: int,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Float[Tensor, "item view chunk d"]:
    """Features of items (float16): view 0 is the unchanged item, the others are changed at random.

    Args:
        encoder: the encoder of the features.
        items: pictures or sounds.
        views: number of views, at least 1.
        folder: where finished parts of 32 items are stored, by encoder, settings and content; None stores nothing.
        seed: seed of the changes; every item and view has its own draw.
        progress: whether to show a bar.

    Raises:
        SemhubError: there are no items, fewer than one view, no encoder, or a folder that cannot be written.

    Example:
        >>> seen = features(VisionEncoder(), emoji_pictures("emoji.ttf"), views=2, folder="features")  # doctest: +SKIP
    """
    require_size("views", views)
    if not hasattr(encoder, "modality") or not callable(encoder):
        raise SemhubError(f"encoder= takes an encoder, such as VisionEncoder(); got {shown(encoder)}.")
    generator(seed)
    settings = {"encoder": encoder.name, "views": views, "seed": seed, "version": VERSION}
    by_key = {f"{item.key} {item.content}": item for item in items}
    store = Store(None if folder is None else user_path(folder), settings)
    with tqdm(total=len(items), desc="encoding", disable=not progress, unit="item") as bar:

        def measure(keys: Sequence[str]) -> Tensor:
            media = [one for key in keys for one in _views(encoder, by_key[key], key, views, seed)]
            bar.update(len(keys))
            return encoder(media).unflatten(0, (len(keys), views)).half()

        return store.tensors("features", [f"{item.key} {item.content}" for item in items], measure, axis=0)


def _views(encoder: Encoder, item: MediaItem, key: str, views: int, seed: int) -> list[Any]:
    media = item.open()
    change = changed_picture if encoder.modality == "image" else changed_sound
    return [media, *(change(media, _source(key, view, seed)) for view in range(1, views))]


def _source(key: str, view: int, seed: int) -> torch.Generator:
    return generator(int.from_bytes(hashlib.sha256(f"{key} {view} {seed}".encode()).digest()[:6], "big"))
