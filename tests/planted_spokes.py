"""Planted pictures: a direction in feature space for every name, and a projector that learns them."""

import torch

from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem
from semhub_lens.training.evaluation import evaluate
from semhub_lens.training.sampler import TrainingSet, TrainingSettings
from semhub_lens.training.train import train

NAMES = ("dog", "cat", "house", "red", "blue", "green", "two", "three", "nine", "five")
TEMPLATES = {"en": ("<image> this is a", "<image> plus")}
CHUNKS, D = 2, 12


class FakeEncoder:
    """Features are what it is given."""

    modality = "image"
    name = "fake"
    chunks = CHUNKS
    d = D

    def __call__(self, media):
        return torch.stack(list(media))


def planted(per_name=6, seed=0):
    """Features of a linear world: a direction for every name, and noise."""
    source = generator(seed)
    directions = torch.randn(len(NAMES), CHUNKS, D, generator=source)
    labels = torch.arange(len(NAMES)).repeat_interleave(per_name)
    noise = 0.2 * torch.randn(len(labels), CHUNKS, D, generator=source)
    return directions[labels] + noise, labels


def training_set(features, labels):
    return TrainingSet(features[:, None], [[("en", NAMES[i])] for i in labels], TEMPLATES, "image")


SHORT = TrainingSettings(steps=200, batch=20, learning_rate=5e-3, warmup=5, candidates=40, dropout=0.1, seed=3)


def learn(model, settings=SHORT, **options):
    features, labels = planted()
    held = torch.arange(len(labels)) % 6 == 5
    projector, curve = train(
        model,
        training_set(features[~held], labels[~held]),
        settings,
        hidden=32,
        embeddings=2,
        progress=False,
        **options,
    )
    items = [MediaItem(f"{i}", "plain", f"{NAMES[k]} {i}", {"en": (NAMES[k],)}, "", str) for i, k in enumerate(labels)]
    chosen = held.nonzero()[:, 0].tolist()
    result = evaluate(
        model, projector, features[held], [items[i] for i in chosen], ["new_item"] * len(chosen),
        templates={"en": TEMPLATES["en"][0]}, modality="image",
    )  # fmt: skip
    return projector, curve, result
