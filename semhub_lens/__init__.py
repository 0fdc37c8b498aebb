"""semhub_lens: read, compare and move the semantic hub of any TransformerLens model.

>>> import semhub_lens as shl  # doctest: +SKIP
>>> model = shl.load("gemma-3-270m")  # doctest: +SKIP
>>> shl.logit_lens(model, "El color del cielo es")  # doctest: +SKIP
"""

from semhub_lens import experiments
from semhub_lens.activations import Capture, residual_stream
from semhub_lens.cosine_probe import CosineResult, CosineTo
from semhub_lens.hook_points import residual_names
from semhub_lens.interventions import directions as direction
from semhub_lens.interventions import hooks
from semhub_lens.interventions.concepts import ConceptPatchResult, concept_patch
from semhub_lens.interventions.generation import Generation, generate
from semhub_lens.interventions.hooks import at
from semhub_lens.interventions.translation import TranslationItems, translation_items, translation_prompt
from semhub_lens.language_mass import MassResult, language_mass
from semhub_lens.languages import LanguageTable, language_table, script_table
from semhub_lens.legs import ExperimentResult, Leg
from semhub_lens.logit_lens import LensResult, LogitLens, TargetResult, logit_lens, target_lens
from semhub_lens.models import load
from semhub_lens.prompts import Prompt
from semhub_lens.readout import Readout
from semhub_lens.results import Provenance, Result
from semhub_lens.similarity import SimilarityResult, similarity
from semhub_lens.tokens import printable, word_tokens
from semhub_lens.viz import figure, token_strip, write_html

__all__ = [
    "Capture",
    "ConceptPatchResult",
    "CosineResult",
    "CosineTo",
    "ExperimentResult",
    "Generation",
    "LanguageTable",
    "Leg",
    "LensResult",
    "LogitLens",
    "MassResult",
    "Prompt",
    "Provenance",
    "Readout",
    "Result",
    "SimilarityResult",
    "TargetResult",
    "TranslationItems",
    "at",
    "concept_patch",
    "direction",
    "experiments",
    "figure",
    "generate",
    "hooks",
    "language_mass",
    "language_table",
    "load",
    "logit_lens",
    "printable",
    "residual_names",
    "residual_stream",
    "script_table",
    "similarity",
    "target_lens",
    "token_strip",
    "translation_items",
    "translation_prompt",
    "word_tokens",
    "write_html",
]
