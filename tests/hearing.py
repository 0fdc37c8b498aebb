"""Planted sounds: a clip is heard as a direction of the model's own."""

import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.data.media.items import MediaItem


class Planted:
    """Shows a word as the unembedding's direction, or as the embedding, of a name."""

    name, hash, modality = "planted", "-", "audio"

    def __init__(self, model, side="W_U", others=None, strength=6.0):
        self.model, self.side, self.others, self.strength = model, side, others or {}, strength

    def prompt(self, text, media):
        plain = Prompt.from_text(self.model, f"= = {text.removeprefix('<audio> ')}")
        token = shl.word_tokens(self.model.tokenizer, self.others.get(media, media), variants="exact").ids[0]
        rows = self.model.W_U.T if self.side == "W_U" else self.model.W_E
        row = rows[token].detach().float().cpu()
        row = self.strength * row / row.norm() if self.side == "W_U" else row
        vectors = {"audio": row.expand(2, -1)}
        return Prompt.from_ids(plain.ids, spans={"audio": (1, 2)}, bos=plain.bos, embeddings=vectors)


def clip(name, **more):
    return MediaItem(name, "planted", name, {"en": (name,), **{k: (v,) for k, v in more.items()}}, name, lambda: name)


def checks(leg):
    """Whether each control holds."""
    return {check.name: check.holds for check in leg.checks}
