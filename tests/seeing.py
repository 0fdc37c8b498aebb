"""A reader that sees colours: every region becomes the direction that the unembedding reads as its name."""

from functools import partial

import numpy as np
import torch
from PIL import Image

import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.data.media.items import MediaItem
from semhub_lens.inputs.media import Tile

NAMES = "zero one two three four five six seven eight nine plus minus equals red blue green dog cat house chat".split()  # noqa: SIM905
PALETTE = {name: (12 * i, 255 - 12 * i, (97 * i) % 256) for i, name in enumerate(NAMES)}


def plain(colour):
    return Image.new("RGB", (8, 8), colour)


def named_pictures(names=NAMES):
    """Plain pictures with names."""
    return [
        MediaItem(name, "plain", name, {"en": (name,)}, name, partial(plain, PALETTE.get(name, (0, 0, 0))))
        for name in names
    ]


class Seeing:
    """A grid of regions of the squared picture, each shown by the name whose colour lies nearest to its mean."""

    name, hash, modality = "seeing", "-", "image"

    def __init__(self, model, side=2, strength=6.0, palette=None, tokens="three plus two is"):
        self.model, self.side, self.strength, self.tokens = model, side, strength, tokens
        self.palette = palette or PALETTE

    def prompt(self, text, media):
        plain = Prompt.from_text(self.model, self.tokens)
        count = self.side**2
        ids = torch.cat([plain.ids[:1], plain.ids[1:2].expand(count), plain.ids[1:]])
        span = tuple(range(1, 1 + count))
        vectors = torch.stack([self._vector(colour) for colour in self._regions(media)])
        grids = {"image": Tile(span, self.side, self.side)}
        return Prompt(ids, {"image": span}, text, plain.bos, embeddings={"image": vectors}, grids=grids)

    def _regions(self, media):
        size = media.size[0] // self.side
        pixels = np.asarray(media, dtype=float)[: size * self.side, : size * self.side]
        blocks = pixels.reshape(self.side, size, self.side, size, 3).mean((1, 3))
        return blocks.reshape(-1, 3)

    def _vector(self, colour):
        near = min(self.palette, key=lambda name: np.abs(colour - self.palette[name]).sum())
        token = shl.word_tokens(self.model.tokenizer, near, variants="exact").ids[0]
        direction = self.model.W_U[:, token].detach().float().cpu()
        return self.strength * direction / direction.norm()
