"""Eyes and ears for a text-only language model: an encoder, a small trained projector, a frozen language model.

`load(name, model)` gives a `Spoke`; its `prompt(text, media)` is a `Prompt` that every function of this library takes.
"""

from semhub_lens.spokes.encoders import AudioEncoder, Encoder, VisionEncoder
from semhub_lens.spokes.evaluation import SpokeEvaluation, evaluate
from semhub_lens.spokes.features import features
from semhub_lens.spokes.projector import Card, Projector, Shape, load_projector, save_projector
from semhub_lens.spokes.recipes import Course, audio_course, run_course, vision_course
from semhub_lens.spokes.spoke import Spoke, available, fitting, load
from semhub_lens.spokes.teacher import Lesson, Settings
from semhub_lens.spokes.training import TrainingCurve, train

__all__ = [
    "AudioEncoder",
    "Card",
    "Course",
    "Encoder",
    "Lesson",
    "Projector",
    "Settings",
    "Shape",
    "Spoke",
    "SpokeEvaluation",
    "TrainingCurve",
    "VisionEncoder",
    "audio_course",
    "available",
    "evaluate",
    "features",
    "fitting",
    "load",
    "load_projector",
    "run_course",
    "save_projector",
    "train",
    "vision_course",
]
