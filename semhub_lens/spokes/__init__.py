"""Eyes and ears for a text-only language model, ready to use. The room `training` trains them.

- `spoke`: `load(name, model)` gives a `Spoke`; pass its `prompt(text, media)` to any function of this library.
- `encoders`, `whisper`: frozen encoders for pictures and sound.
- `projector`: features to vectors of the residual stream's width.
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
