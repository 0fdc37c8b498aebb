"""Readers of media: what turns a text with a picture or a sound into a prompt, whichever model reads it.

A spoke is one (`spokes.load(...)`), and `ProcessorReader` wraps the processor of a multimodal model, so that an
experiment does not know which of the two it runs on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from semhub_lens.base.errors import SemhubError
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.rng import generator
from semhub_lens.inputs.modalities import AUDIO, IMAGE, modality_of
from semhub_lens.inputs.processors import placeholder
from semhub_lens.inputs.prompts import Prompt


@runtime_checkable
class MediaReader(Protocol):
    """What an experiment on pictures or sound is given."""

    @property
    def name(self) -> str:
        """For tables and provenance."""
        ...

    @property
    def hash(self) -> str:
        """Of all that decides its prompts, for settings of saved runs."""
        ...

    @property
    def modality(self) -> str:
        """What it reads, by its name in `modalities`: a text has "<image>", "<audio>", ... in its place."""
        ...

    def prompt(self, text: str, media: Any) -> Prompt:
        """The prompt with a span of the modality's name."""
        ...


@dataclass(frozen=True, eq=False)
class ProcessorReader:
    """The processor of a Hugging Face multimodal model as a reader.

    Args:
        processor: what `AutoProcessor.from_pretrained(name)` gives.
        modality: a name in `modalities`: "image" or "audio".
        template: the model's own format around a text, with "{}" in its place, such as "USER: {} ASSISTANT:".

    Example:
        >>> from semhub_lens.inputs.readers import ProcessorReader
        >>> eyes = ProcessorReader(processor, "image", "USER: {} ASSISTANT:")  # doctest: +SKIP
        >>> eyes.prompt("<image> What is this?", picture).spans["image"]  # doctest: +SKIP
    """

    processor: Any
    modality: str = IMAGE.name
    template: str = "{}"

    def __post_init__(self) -> None:
        placeholder(self.processor, modality_of(self.modality))
        if self.template.count("{}") != 1:
            raise SemhubError(f"The template needs '{{}}' once, where the text goes; got {self.template!r}.")

    @property
    def name(self) -> str:
        """The processor's class."""
        return type(self.processor).__name__

    @property
    def hash(self) -> str:
        """Of the processor's settings and the template."""
        return fingerprint([self.processor.to_json_string(), self.modality, self.template])

    def prompt(self, text: str, media: Any) -> Prompt:
        """The prompt; media are a picture, a waveform, or (waveform, sampling rate)."""
        modality = modality_of(self.modality)
        written, _ = placeholder(self.processor, modality)
        whole = self.template.replace("{}", text.replace(modality.placeholder, written))
        shown, rate = media if modality is AUDIO and isinstance(media, tuple) else (media, None)
        return Prompt.from_processor(self.processor, text=whole, sampling_rate=rate, **{modality.argument: shown})


def noise_like(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Put noise in place of what prompts show: embeddings of the same norms, media of the same mean and spread.

    Raises:
        SemhubError: a prompt without embeddings and media.
    """
    drawn = []
    for index, prompt in enumerate(prompts):
        if not prompt.embeddings and prompt.media is None:
            raise SemhubError(f"Prompt {index} has neither media nor embeddings, so there is nothing to replace.")
        rng = generator(seed + index)
        vectors = {name: _same_norms(embedded, rng) for name, embedded in prompt.embeddings.items()}
        media = prompt.media
        if media is not None:
            inputs = {name: _same_moments(values, rng) for name, values in media.inputs.items()}
            media = replace(media, inputs=inputs)
        drawn.append(replace(prompt, embeddings=vectors, media=media))
    return drawn


def _same_norms(vectors: Tensor, rng: torch.Generator) -> Tensor:
    noise = torch.randn(vectors.shape, generator=rng, dtype=torch.float32)
    return noise * (vectors.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))


def _same_moments(values: Tensor, rng: torch.Generator) -> Tensor:
    if not values.is_floating_point():
        return values
    return values.mean() + values.std() * torch.randn(values.shape, generator=rng, dtype=torch.float32)
