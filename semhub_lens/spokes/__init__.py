"""Eyes and ears for a text-only language model: what is needed to use them. The room `training` makes them.

- `spoke`: `load(name, model)` gives a `Spoke`; its `prompt(text, media)` goes into every function of this library.
- `encoders`, `whisper`: frozen encoders of pictures and sound.
- `projector`: features to vectors of the residual stream's size.
- `layout`: token ids with placeholders.
"""

from semhub_lens.spokes.encoders import AudioEncoder, Encoder, VisionEncoder
from semhub_lens.spokes.projector import Card, Projector, Shape, load_projector, save_projector
from semhub_lens.spokes.spoke import Spoke, available, fitting, load, reader_for

__all__ = [
    "AudioEncoder",
    "Card",
    "Encoder",
    "Projector",
    "Shape",
    "Spoke",
    "VisionEncoder",
    "available",
    "fitting",
    "load",
    "load_projector",
    "reader_for",
    "save_projector",
]
