"""A spoke: an encoder and a projector that give a text-only language model eyes or ears.

**A spoke is an adapter probe.** The language model was never trained with the encoder. The projector was trained
through the frozen model so that the model says names. Findings at a picture's positions are partly an effect of that
training, which is weaker evidence than a model trained on both from the start.

Source: Liu et al. 2023 (Visual Instruction Tuning): a frozen encoder, a trained projector, a language model.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import Missing, SemhubError
from semhub_lens.base.files import user_path
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.inputs.media import Tile
from semhub_lens.inputs.modalities import AUDIO, MODALITIES, modality_of
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import MediaReader, ProcessorReader, require_template
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.loading import load as load_model
from semhub_lens.spokes.encoders import AudioEncoder, Encoder, VisionEncoder
from semhub_lens.spokes.layout import layout, unembedding_hash, vocabulary_hash
from semhub_lens.spokes.projector import Card, Projector, load_projector

SUFFIX = ".safetensors"


@checked
class Spoke:
    """An encoder and a projector, bound to the language model that the projector was trained through.

    Args:
        model: the language model.
        encoder: makes features from media.
        projector: makes vectors for the residual stream.
        card: the origin of the projector; None for your own (then nothing is checked).

    `load` makes the packaged ones.

    Raises:
        SemhubError: encoder, projector and model do not match, or the projector was trained through another model or
            another tokenizer.
    """

    def __init__(self, model: Model, encoder: Encoder, projector: Projector, card: Card | None = None) -> None:
        require_model(model)
        if not isinstance(encoder, Encoder):
            raise SemhubError(
                f"encoder= has modality, name, chunks and d, and is called with media; got {shown(encoder)}."
            )
        shape, named = projector.shape, f" {card.name!r}" if card else ""
        if (encoder.chunks, encoder.d) != (shape.chunks, shape.d_in):
            raise SemhubError(
                f"The projector{named} reads {shape.chunks} chunks of {shape.d_in} features, but the encoder gives "
                f"{encoder.chunks} of {encoder.d}."
            )
        if shape.d_model != model.cfg.d_model:
            raise SemhubError(
                f"The projector{named} writes vectors of {shape.d_model}, but d_model is {model.cfg.d_model}: it was "
                "trained through another model."
            )
        if card is not None:
            _check(model, encoder, card)
        self.model, self.encoder, self.projector, self.card = model, encoder, projector.eval(), card

    @property
    def name(self) -> str:
        """The projector's name."""
        return self.card.name if self.card else f"{self.encoder.modality} spoke"

    @property
    def modality(self) -> str:
        """Its modality, by the name in `inputs.modalities`."""
        return self.encoder.modality

    @property
    def hash(self) -> str:
        """A hash of the projector's weights and the encoder: spokes with one name may differ."""
        return fingerprint([self.projector.state_dict(), self.encoder.name])

    @property
    def grid(self) -> int | None:
        """The number of regions per side of the picture, padded to a square, if every position represents one region.

        None for sounds, and if all regions together make all vectors. A region's vector also depends on the mean of all
        regions, and its features see beyond its edges.
        """
        return None if self.projector.shape.joint else getattr(self.encoder, "grid", None)

    def __repr__(self) -> str:
        return f"Spoke({self.name!r}, {self.encoder.name}, {self.projector.shape.embeddings} embeddings)"

    @checked
    @torch.no_grad()
    def embed(self, media: Any) -> Float[Tensor, "k d_model"]:
        """Vectors of one picture or sound, as they enter block 0 (float32, CPU).

        Args:
            media: as in `prompt`.

        Raises:
            SemhubError: unreadable media.

        Example:
            >>> spoke.embed("cow.png").shape  # doctest: +SKIP
            torch.Size([9, 640])
        """
        return self.projector(self.encoder([media]))[0].float().cpu()

    @checked
    def prompt(self, text: str, media: Any) -> Prompt:
        """A prompt with the media in place of `<image>` or `<audio>` in its text.

        Args:
            text: a text with exactly one placeholder. A space after it belongs to the next word.
            media: a PIL image, an array of pixels or a path; or (samples, rate) or a path.

        Returns:
            A `Prompt` with a span "image" or "audio" and its vectors. `prompt.hooks` writes them in your own run.

        Raises:
            SemhubError: no such placeholder in the text, or several; unreadable media.

        Example:
            >>> spoke = shl.spokes.load("vision-gemma-3-270m", model)  # doctest: +SKIP
            >>> spoke.prompt("<image> This is a picture of a", "cow.png").spans["image"]  # doctest: +SKIP
            (1, 2, 3, 4, 5, 6, 7, 8, 9)
        """
        modality = self.encoder.modality
        ids, positions, bos = layout(self.model, text, modality, self.projector.shape.embeddings)
        vectors = {modality: self.embed(media)}
        side = self.grid
        grids = {} if side is None else {modality: Tile(positions, side, side)}
        return Prompt(torch.tensor(ids), {modality: positions}, text, bos, embeddings=vectors, grids=grids)


def _check(model: Model, encoder: Encoder, card: Card) -> None:
    for what, own, expected in (
        ("language model (fingerprint of its weights)", unembedding_hash(model), card.weights),
        ("tokenizer", vocabulary_hash(model), card.vocabulary),
        ("encoder", encoder.name, card.encoder),
    ):
        if own != expected:
            raise SemhubError(
                f"The projector {card.name!r} was trained with another {what}: this one is {own!r}, expected "
                f"{expected!r} ({card.model})."
            )


@checked
def load(name: str | Path, model: Model | None = None) -> Spoke:
    """Load a trained spoke and bind it to its language model.

    Args:
        name: a packaged spoke (see `available`) or the path of a projector that `semhub train-spoke` wrote.
        model: the language model that it was trained through; None loads that model as `spoke.model`.

    Returns:
        The spoke; pass its `prompt(text, media)` to any function of this library.

    Raises:
        SemhubError: unknown name, corrupted file, an encoder whose package is missing, or another language model.

    Example:
        >>> spoke = shl.spokes.load("vision-gemma-3-270m")  # doctest: +SKIP
        >>> prompt = spoke.prompt("<image> This is a picture of a", "cow.png")  # doctest: +SKIP
        >>> shl.logit_lens(spoke.model, prompt)  # doctest: +SKIP
    """
    if model is not None:
        require_model(model)
    path = user_path(name) if str(name).endswith(SUFFIX) else _folder() / f"{name}{SUFFIX}"
    if not path.is_file():
        listed = ", ".join(available()) or "none in this version"
        raise SemhubError(
            f"There is no spoke {str(name)!r}; packaged ones: {listed}. To train one: semhub train-spoke --help."
        )
    projector, card = load_projector(path)
    encoder = encoder_for(card.modality, projector.shape.chunks)
    return Spoke(load_model(card.model) if model is None else model, encoder, projector, card)


def available() -> list[str]:
    """Names of the packaged spokes.

    Example:
        >>> shl.spokes.available()
        ['audio-gemma-3-270m', 'vision-gemma-3-270m']
    """
    return sorted(path.stem for path in _folder().glob(f"*{SUFFIX}"))


@checked
def fitting(model: Model) -> tuple[dict[str, Spoke], dict[str, str]]:
    """The packaged spokes of a language model by modality, and for other modalities the reason why there is none.

    Args:
        model: any TransformerLens model.

    Returns:
        Two mappings by modality: spokes, and reasons.

    Raises:
        SemhubError: not a TransformerLens model.

    Example:
        >>> readers, missing = shl.spokes.fitting(tiny_model)
        >>> readers, sorted(missing)
        ({}, ['audio', 'image'])
    """
    require_model(model)
    cards = {name: load_projector(_folder() / f"{name}{SUFFIX}")[1] for name in available()}
    own = unembedding_hash(model)
    readers: dict[str, Spoke] = {}
    missing: dict[str, str] = {}
    for modality in MODALITIES:
        names = [name for name, card in cards.items() if card.modality == modality and card.weights == own]
        if not names:
            listed = ", ".join(f"{name} for {card.model}" for name, card in cards.items() if card.modality == modality)
            missing[modality] = f"no packaged spoke was trained through this model ({listed or 'there is none'})"
            continue
        try:
            readers[modality] = load(names[0], model)
        except Missing as error:  # the encoder's package is an extra
            missing[modality] = str(error)
    return readers, missing


@checked
def reader_for(
    model: Model, modality: str, *, spoke: str | Path | None = None, processor: str | None = None, template: str = "{}"
) -> MediaReader:
    """The reader of pictures or sound for a model: the given spoke, the model's processor, or its packaged spoke.

    Args:
        model: any TransformerLens model.
        modality: a name in `inputs.modalities`.
        spoke: a packaged spoke or a projector's file.
        processor: the name or folder of a multimodal model's processor.
        template: a multimodal model's own format around a text.

    Returns:
        The reader, for `experiments.run(..., reader=reader)`.

    Raises:
        SemhubError: a spoke or processor that cannot be loaded, a spoke of another modality, no reader of this
            modality for this model, or a template without a place for the text.

    Example:
        >>> shl.spokes.reader_for(model, "image").prompt("<image> This is a", "cow.png")  # doctest: +SKIP
    """
    require_model(model)
    modality_of(modality)
    require_template(template)
    if spoke is not None:
        found = load(spoke, model)
        if found.modality != modality:
            raise SemhubError(
                f"The spoke {found.name!r} reads {found.modality}, but {modality} is asked for. Take a spoke for it."
            )
        return found
    if processor is not None and getattr(model.cfg, "is_multimodal", False):
        return ProcessorReader(_processor(processor), modality, template)
    readers, missing = fitting(model)
    if modality not in readers:
        raise SemhubError(f"This needs a reader for {modality}, but {missing[modality]}. Pass a spoke (--spoke).")
    return readers[modality]


def _processor(name: str) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name)
    except Exception as error:  # no such folder, a damaged one, no network: types of every kind
        raise SemhubError(f"No processor could be read from {name!r}: {error}") from error


def encoder_for(modality: str, chunks: int) -> Encoder:
    """The encoder of a modality with this number of feature vectors.

    Raises:
        SemhubError: unknown modality, or a number of picture regions that is not a square.
    """
    if modality_of(modality) is AUDIO:
        return AudioEncoder(chunks)
    grid = round(chunks**0.5)
    if grid * grid != chunks:
        raise SemhubError(f"A picture's regions form a square, so their number cannot be {chunks}.")
    return VisionEncoder(grid)


def _folder() -> Path:
    return Path(str(files("semhub_lens.spokes"))) / "weights"
