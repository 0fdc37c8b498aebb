"""semhub_lens: read, compare and move the semantic hub of any TransformerLens model.

>>> import semhub_lens as shl  # doctest: +SKIP
>>> model = shl.load("gemma-3-270m")  # doctest: +SKIP
>>> shl.logit_lens(model, "El color del cielo es")  # doctest: +SKIP
"""

from semhub_lens import experiments, spokes
from semhub_lens.activations import Capture, residual_stream
from semhub_lens.cosine_probe import CosineResult, CosineTo
from semhub_lens.hook_points import residual_names
from semhub_lens.interventions import directions as direction
from semhub_lens.interventions import hooks
from semhub_lens.interventions import metrics as metric
from semhub_lens.interventions.calibration import Calibration, calibrate
from semhub_lens.interventions.concepts import ConceptPatchResult, concept_patch
from semhub_lens.interventions.generation import Generation, generate
from semhub_lens.interventions.hooks import at
from semhub_lens.interventions.patch_results import ApproximatePatchResult, PatchResult
from semhub_lens.interventions.patching import attribution_grid, patch_grid
from semhub_lens.interventions.sweep import Controls, adding, sweep
from semhub_lens.interventions.sweep_result import Choice, SweepResult
from semhub_lens.interventions.translation import TranslationItems, translation_items, translation_prompt
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.language_mass import MassResult, language_mass
from semhub_lens.languages import LanguageTable, language_table, script_table
from semhub_lens.legs import ExperimentResult, Leg
from semhub_lens.linear_probes import (
    ClassResult,
    LinearClassifier,
    LinearProbe,
    Peak,
    Predictions,
    ProbeResult,
    ProbeSetup,
    TransferResult,
    linear_probe,
    train_probe,
    transfer_matrix,
)
from semhub_lens.loading import load
from semhub_lens.logit_lens import LensResult, LogitLens, TargetResult, logit_lens, target_lens
from semhub_lens.media import Media
from semhub_lens.prompts import Prompt
from semhub_lens.readout import Readout
from semhub_lens.results import Provenance, Result
from semhub_lens.scores import measures
from semhub_lens.scores.classifier import SentimentClassifier, sentiment
from semhub_lens.scores.damage import kl_to_clean
from semhub_lens.scores.language import language_of
from semhub_lens.scores.lexicon import lexicon_sentiment
from semhub_lens.scores.likelihood import SentimentFrame, continuation_perplexity, likelihood_sentiment
from semhub_lens.scores.relevance import SentenceEncoder, relevance
from semhub_lens.similarity import SimilarityResult, similarity
from semhub_lens.tokens import printable, word_tokens
from semhub_lens.untrained import untrained
from semhub_lens.viz import figure, token_strip, write_html

__all__ = [
    "ApproximatePatchResult",
    "Calibration",
    "Capture",
    "Choice",
    "ClassResult",
    "ConceptPatchResult",
    "Controls",
    "CosineResult",
    "CosineTo",
    "ExperimentResult",
    "Generation",
    "LanguageTable",
    "Leg",
    "LensResult",
    "LinearClassifier",
    "LinearProbe",
    "LogitLens",
    "MassResult",
    "Media",
    "PatchResult",
    "Peak",
    "Predictions",
    "ProbeResult",
    "ProbeSetup",
    "Prompt",
    "Provenance",
    "Readout",
    "Result",
    "SentenceEncoder",
    "SentimentClassifier",
    "SentimentFrame",
    "SimilarityResult",
    "SteeringVector",
    "SweepResult",
    "TargetResult",
    "TransferResult",
    "TranslationItems",
    "adding",
    "at",
    "attribution_grid",
    "calibrate",
    "concept_patch",
    "continuation_perplexity",
    "direction",
    "experiments",
    "figure",
    "generate",
    "hooks",
    "kl_to_clean",
    "language_mass",
    "language_of",
    "language_table",
    "lexicon_sentiment",
    "likelihood_sentiment",
    "linear_probe",
    "load",
    "logit_lens",
    "measures",
    "metric",
    "patch_grid",
    "printable",
    "relevance",
    "residual_names",
    "residual_stream",
    "script_table",
    "sentiment",
    "similarity",
    "spokes",
    "sweep",
    "target_lens",
    "token_strip",
    "train_probe",
    "transfer_matrix",
    "translation_items",
    "translation_prompt",
    "untrained",
    "word_tokens",
    "write_html",
]
