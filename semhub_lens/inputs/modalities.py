"""The table of modalities: what a model can be shown beside text. A new one begins with its entry here."""

from dataclasses import dataclass

from semhub_lens.base.errors import SemhubError


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of media, under every name by which the library and its hosts know it."""

    name: str
    """Of its span in a prompt, of the processor's token (`image_token`), and in `spoke.modality`."""
    domain: str
    """First word of the ids of its experiments; also the extra that its encoder and its items need."""
    argument: str
    """The keyword under which a Hugging Face processor takes it."""
    question: str
    """A text after which a name of what is shown would come."""

    @property
    def placeholder(self) -> str:
        """What stands in a text where the media go."""
        return f"<{self.name}>"


IMAGE = Modality(name="image", domain="vision", argument="images", question="<image> This is a picture of a")
AUDIO = Modality(name="audio", domain="audio", argument="audio", question="<audio> The word is")
MODALITIES = {modality.name: modality for modality in (IMAGE, AUDIO)}


def modality_of(name: str) -> Modality:
    """The entry of that name.

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
