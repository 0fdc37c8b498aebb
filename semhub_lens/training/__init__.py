"""Training and testing spokes. Only `semhub train-spoke` imports this room; it needs the extra `train`.

- `corpora`: readers of pictures and speech; `bundled_sounds`: how the bundled clips were made.
- `augmentation`, `features`: changed views of items, and their encoder features.
- `sampler`, `frozen`, `pretraining`, `stacking`, `checkpoints`, `train`: the loss, its stages, the loop.
- `recipes`: the training data of vision and audio spokes; `sources`: a look at what they will read.
- `evaluation`: how often a spoke gives the right name; `curve_figure`: the loss curve.
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
