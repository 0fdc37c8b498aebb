"""The table of modalities: inputs other than text. To add one, start with an entry here."""

from dataclasses import dataclass

from semhub_lens.base.errors import SemhubError


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of media, with all its names in the library and in models."""

    name: str
    """The name of its span in a prompt, of the processor's token (`image_token`), and in `spoke.modality`."""
    domain: str
    """The first word of its experiments' ids, and the extra that its encoder and items need."""
    argument: str
    """The keyword argument of a Hugging Face processor for it."""
    question: str
    """A text that the name of the shown thing would complete."""

    @property
    def placeholder(self) -> str:
        """The placeholder for the media in a text."""
        return f"<{self.name}>"


IMAGE = Modality(name="image", domain="vision", argument="images", question="<image> This is a picture of a")
AUDIO = Modality(name="audio", domain="audio", argument="audio", question="<audio> The word is")
MODALITIES = {modality.name: modality for modality in (IMAGE, AUDIO)}


def modality_of(name: str) -> Modality:
    """The entry with that name.

    Raises:
        SemhubError: no such modality.

    Example:
        >>> from semhub_lens.inputs.modalities import modality_of
        >>> modality_of("image").placeholder
        '<image>'
    """
    if name not in MODALITIES:
        raise SemhubError(f"Unknown modality {name!r}; expected one of {', '.join(map(repr, MODALITIES))}.")
    return MODALITIES[name]
