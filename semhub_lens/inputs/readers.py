"""Readers of media: objects that turn a text with a picture or a sound into a prompt.

A spoke is a reader (`spokes.load(...)`), and `ProcessorReader` wraps the processor of a multimodal model. An experiment
runs the same with both.
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
    """The reader of an experiment on pictures or sound."""

    @property
    def name(self) -> str:
        """The name for tables and provenance."""
        ...

    @property
    def hash(self) -> str:
        """A hash of everything that its prompts depend on, for the settings of saved runs."""
        ...

    @property
    def modality(self) -> str:
        """Its modality, by the name in `modalities`; the placeholder in a text is "<image>", "<audio>", ..."""
        ...

    def prompt(self, text: str, media: Any) -> Prompt:
        """The prompt, with a span named after the modality."""
        ...


@dataclass(frozen=True, eq=False)
class ProcessorReader:
    """The processor of a Hugging Face multimodal model as a reader.

    Args:
        processor: the output of `AutoProcessor.from_pretrained(name)`.
        modality: a name in `modalities`: "image" or "audio".
        template: the model's own format, with "{}" in place of the text, such as "USER: {} ASSISTANT:".

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
        require_template(self.template)

    @property
    def name(self) -> str:
        """The processor's class."""
        return type(self.processor).__name__

    @property
    def hash(self) -> str:
        """A hash of the processor's settings and the template."""
        return fingerprint([self.processor.to_json_string(), self.modality, self.template])

    def prompt(self, text: str, media: Any) -> Prompt:
        """The prompt; media is a picture, a waveform, or (waveform, sampling rate)."""
        modality = modality_of(self.modality)
        written, _ = placeholder(self.processor, modality)
        whole = self.template.replace("{}", text.replace(modality.placeholder, written))
        shown, rate = media if modality is AUDIO and isinstance(media, tuple) else (media, None)
        return Prompt.from_processor(self.processor, text=whole, sampling_rate=rate, **{modality.argument: shown})


def require_template(template: str) -> None:
    """Refuse a format around a text that has no place for the text.

    Raises:
        SemhubError: "{}" is not in it exactly once.
    """
    if template.count("{}") != 1:
        raise SemhubError(f"The template needs '{{}}' exactly once, in place of the text; got {template!r}.")


def noise_like(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Replace the media of prompts by noise: embeddings with the same norms, media with the same mean and spread.

    Raises:
        SemhubError: a prompt without embeddings and media.
    """
    drawn = []
    for index, prompt in enumerate(prompts):
        if not prompt.embeddings and prompt.media is None:
            raise SemhubError(f"Prompt {index} has no media and no embeddings, so there is nothing to replace.")
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
