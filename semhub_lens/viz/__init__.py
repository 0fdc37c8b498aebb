"""Results to figures and offline pages.

Nothing here runs a model, shows a figure by itself or changes plotly's defaults.
"""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from semhub_lens.cosine_probe import CosineResult
from semhub_lens.files import write_aside
from semhub_lens.interventions.concepts import ConceptPatchResult
from semhub_lens.interventions.generation import Generation
from semhub_lens.interventions.patch_results import PatchResult
from semhub_lens.interventions.sweep_result import SweepResult
from semhub_lens.interventions.vectors import SteeringVector
from semhub_lens.language_mass import MassResult
from semhub_lens.legs import ExperimentResult, Leg
from semhub_lens.linear_probes import ClassResult, LinearClassifier, ProbeResult, TransferResult
from semhub_lens.logit_lens import LensResult, TargetResult
from semhub_lens.results import Result
from semhub_lens.similarity import SimilarityResult
from semhub_lens.spokes.training import TrainingCurve
from semhub_lens.trajectories import TrajectoryResult
from semhub_lens.viz.concepts import concept_figure
from semhub_lens.viz.curves import experiment_figure, leg_figure, mass_figure, similarity_figure, target_figure
from semhub_lens.viz.heat import sign_map
from semhub_lens.viz.lens import cosine_figure, lens_figure
from semhub_lens.viz.patching import patch_figure
from semhub_lens.viz.paths import trajectory_figure
from semhub_lens.viz.pictures import picture_map, sound_map
from semhub_lens.viz.probes import class_figure, classifier_figure, probe_figure, transfer_figure
from semhub_lens.viz.style import FONT, escape, finish
from semhub_lens.viz.sweep import sweep_figure, vector_figure
from semhub_lens.viz.tokens import token_strip
from semhub_lens.viz.training import training_figure

__all__ = [
    "figure",
    "page",
    "picture_map",
    "sign_map",
    "sound_map",
    "sweep_figure",
    "token_strip",
    "write_html",
    "write_page",
]


def figure(result: Result) -> go.Figure:
    """Draw any result as a plotly figure.

    Raises:
        ValueError: an object that is not one of this library's results.

    Example:
        >>> figure(logit_lens(tiny_model, "three plus two", progress=False)).data[0].type
        'heatmap'
    """
    drawers: dict[type, Callable[[Any], go.Figure]] = {
        LensResult: lens_figure,
        TargetResult: target_figure,
        MassResult: mass_figure,
        SimilarityResult: similarity_figure,
        CosineResult: cosine_figure,
        ProbeResult: probe_figure,
        TransferResult: transfer_figure,
        LinearClassifier: classifier_figure,
        ClassResult: class_figure,
        Leg: leg_figure,
        ExperimentResult: experiment_figure,
        SweepResult: sweep_figure,
        SteeringVector: vector_figure,
        ConceptPatchResult: concept_figure,
        Generation: _generation_figure,
        TrajectoryResult: trajectory_figure,
        PatchResult: patch_figure,
        TrainingCurve: training_figure,
    }
    for kind, draw in drawers.items():
        if isinstance(result, kind):
            return draw(result)
    raise ValueError(
        f"Cannot draw a {type(result).__name__}; expected one of {', '.join(kind.__name__ for kind in drawers)}."
    )


def write_html(result: Result | go.Figure, path: str | Path) -> Path:
    """Write a result as one HTML file that needs no network.

    Tokens are escaped, and the file appears only when complete.

    Example:
        >>> write_html(logit_lens(tiny_model, "two", progress=False), "lens.html")  # doctest: +SKIP
    """
    drawn = result if isinstance(result, go.Figure) else figure(result)
    title = drawn.layout.title.text or "semhub_lens"
    body = drawn.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
    return write_page(page(html.unescape(title.replace("<b>", "").replace("</b>", "")), body), path)


def page(title: str, body: str, style: str = "") -> str:
    """A complete HTML document around a body."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>body{{margin:16px;font-family:{FONT};overflow-x:auto}}\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def write_page(document: str, path: str | Path) -> Path:
    """Write a document whole or not at all."""
    return write_aside(Path(path), lambda aside: aside.write_text(document, encoding="utf-8"))


def _generation_figure(result: Generation) -> go.Figure:
    cells = [[escape(text) for text in column] for column in (result.prompts, result.texts)]
    table = go.Table(
        header={"values": ["<b>prompt</b>", "<b>continuation</b>"], "align": "left"},
        cells={"values": cells, "align": "left"},
        columnwidth=[1, 2],
    )
    return finish(
        go.Figure(table), title="Generation", note=result.provenance.line(), height=160 + 40 * len(result.texts)
    )
