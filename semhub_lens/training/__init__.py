"""All that makes spokes. Nothing imports this room but the command line, when asked; it needs the extra `train`.

- `corpora`: readers of pictures and speech; `bundled_sounds`: how the bundled clips were made.
- `augmentation`, `features`: changed views, and encoder features of them.
- `sampler`, `frozen`, `pretraining`, `stacking`, `checkpoints`, `train`: the loss, its stages, the loop.
- `recipes`: what a vision and an audio spoke are trained on.
- `evaluation`: how often a spoke names what it reads; `curve_figure`: the loss curve.
- `command`: `semhub train-spoke`.
"""

from semhub_lens.training import curve_figure  # noqa: F401 (registers what it draws)
from semhub_lens.training.evaluation import SpokeEvaluation, evaluate
from semhub_lens.training.features import features
from semhub_lens.training.recipes import TrainingPlan, audio_plan, run_plan, vision_plan
from semhub_lens.training.sampler import TrainingSet, TrainingSettings
from semhub_lens.training.train import TrainingCurve, train

__all__ = [
    "SpokeEvaluation",
    "TrainingCurve",
    "TrainingPlan",
    "TrainingSet",
    "TrainingSettings",
    "audio_plan",
    "evaluate",
    "features",
    "run_plan",
    "train",
    "vision_plan",
]
