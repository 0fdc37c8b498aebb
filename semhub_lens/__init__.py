"""semhub_lens: read, compare and steer the semantic hub of any TransformerLens model.

>>> import semhub_lens as shl  # doctest: +SKIP
>>> model = shl.load("gemma-3-270m")  # doctest: +SKIP
>>> shl.logit_lens(model, "El color del cielo es")  # doctest: +SKIP
"""

from semhub_lens import experiments, spokes
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.results import Provenance, Result, load_result
from semhub_lens.data.text.columns import Column
from semhub_lens.evidence.comparison import ReportComparison
from semhub_lens.evidence.legs import ExperimentResult, Leg
from semhub_lens.geometry.cosine import CosineResult, CosineTo
from semhub_lens.geometry.similarity import SimilarityResult, similarity
from semhub_lens.inputs.media import Media
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import printable, word_tokens
from semhub_lens.interventions import direction, hooks, metric
from semhub_lens.interventions.calibration import Calibration, calibrate
from semhub_lens.interventions.concept_items import TranslationItems, translation_items, translation_prompt
from semhub_lens.interventions.concepts import ConceptPatchResult, concept_patch
from semhub_lens.interventions.hooks import at
from semhub_lens.interventions.patch_results import ApproximatePatchResult, PatchResult
from semhub_lens.interventions.patching import attribution_grid, patch_grid
from semhub_lens.interventions.patchscope import PatchscopeResult, patchscope
from semhub_lens.interventions.readings import reading_prompt
from semhub_lens.interventions.sweep import Controls, adding, sweep
from semhub_lens.interventions.sweep_result import Choice, SweepResult
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.lens.attribution import AttributionResult, direct_attribution
from semhub_lens.lens.comparison import LensComparison, compare
from semhub_lens.lens.language_mass import MassResult, language_mass
from semhub_lens.lens.language_tables import LanguageTable, language_table, script_table
from semhub_lens.lens.logit_lens import LensResult, LogitLens, logit_lens
from semhub_lens.lens.targets import TargetResult, target_lens
from semhub_lens.lens.translator_fit import TranslatorSetup
from semhub_lens.lens.translator_training import train_translators
from semhub_lens.model.capture import Capture
from semhub_lens.model.generation import Generation, generate
from semhub_lens.model.hooking import residual_names
from semhub_lens.model.host import HostCheck, check
from semhub_lens.model.loading import load
from semhub_lens.model.readout import Readout
from semhub_lens.model.residual import residual_stream
from semhub_lens.model.stacks import StateStack, open_states
from semhub_lens.model.translators import Translators
from semhub_lens.model.untrained import untrained
from semhub_lens.probes.attached import ClassResult, LinearClassifier, LinearProbe, train_probe
from semhub_lens.probes.fitting import ProbeSetup
from semhub_lens.probes.predictions import Peak, Predictions
from semhub_lens.probes.probe import ProbeResult, linear_probe
from semhub_lens.probes.transfer import TransferResult, transfer_matrix
from semhub_lens.report.compare import compare_reports
from semhub_lens.scores import steering_scores
from semhub_lens.scores.classifier import SentimentClassifier, sentiment
from semhub_lens.scores.damage import kl_to_clean
from semhub_lens.scores.language import language_of
from semhub_lens.scores.lexicon import lexicon_sentiment
from semhub_lens.scores.likelihood import SentimentFrame, continuation_perplexity, likelihood_sentiment
from semhub_lens.scores.relevance import SentenceEncoder, relevance
from semhub_lens.views.figure import figure
from semhub_lens.views.media_maps import picture_map, sound_map
from semhub_lens.views.page import write_html
from semhub_lens.views.sign_map import sign_map
from semhub_lens.views.token_strip import token_strip
from semhub_lens.workbench.explorer import Explorer, explore

__all__ = [
    "ApproximatePatchResult",
    "AttributionResult",
    "Calibration",
    "Capture",
    "Choice",
    "ClassResult",
    "Column",
    "ConceptPatchResult",
    "Controls",
    "CosineResult",
    "CosineTo",
    "ExperimentResult",
    "Explorer",
    "Generation",
    "HostCheck",
    "LanguageTable",
    "Leg",
    "LensComparison",
    "LensResult",
    "LinearClassifier",
    "LinearProbe",
    "LogitLens",
    "MassResult",
    "Media",
    "PatchResult",
    "PatchscopeResult",
    "Peak",
    "Predictions",
    "ProbeResult",
    "ProbeSetup",
    "Prompt",
    "Provenance",
    "Readout",
    "ReportComparison",
    "Result",
    "SemhubError",
    "SentenceEncoder",
    "SentimentClassifier",
    "SentimentFrame",
    "SimilarityResult",
    "StateStack",
    "SteeringVector",
    "SweepResult",
    "TargetResult",
    "TransferResult",
    "TranslationItems",
    "TranslatorSetup",
    "Translators",
    "Unfit",
    "adding",
    "at",
    "attribution_grid",
    "calibrate",
    "check",
    "compare",
    "compare_reports",
    "concept_patch",
    "continuation_perplexity",
    "direct_attribution",
    "direction",
    "experiments",
    "explore",
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
    "load_result",
    "logit_lens",
    "metric",
    "open_states",
    "patch_grid",
    "patchscope",
    "picture_map",
    "printable",
    "reading_prompt",
    "relevance",
    "residual_names",
    "residual_stream",
    "script_table",
    "sentiment",
    "sign_map",
    "similarity",
    "sound_map",
    "spokes",
    "steering_scores",
    "sweep",
    "target_lens",
    "token_strip",
    "train_probe",
    "train_translators",
    "transfer_matrix",
    "translation_items",
    "translation_prompt",
    "untrained",
    "word_tokens",
    "write_html",
]


def __dir__() -> list[str]:
    """Names to begin with: functions, and classes that one makes. Results come from functions, so they are left out."""
    return [name for name in __all__ if not name.endswith(("Result", "Comparison"))]
