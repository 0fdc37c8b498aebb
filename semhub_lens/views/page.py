"""Offline pages: a figure or a document as one HTML file that needs no network."""

import html
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from semhub_lens.base.arguments import checked, shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import user_path, write_aside
from semhub_lens.base.results import Result
from semhub_lens.geometry.cosine import CosineResult
from semhub_lens.interventions.patch_results import PatchResult
from semhub_lens.interventions.sweep_result import SweepResult
from semhub_lens.lens.comparison import LensComparison
from semhub_lens.lens.logit_lens import LensResult
from semhub_lens.views.explorer.grids import grid_view
from semhub_lens.views.explorer.page import document, opened_at
from semhub_lens.views.explorer.view import View
from semhub_lens.views.figure import figure
from semhub_lens.views.style import FONT, NARROWEST


@checked
def write_html(result: Result | View | go.Figure, path: str | Path, *, view: str = "") -> Path:
    """Write a result as one HTML file that needs no network, and return its path.

    A lens, a comparison of two, `picture_map`, `sound_map`, and grids of patches, cosines and sweeps become interactive
    pages. Every other result, and a figure as in `write_html(figure(lens), path)`, becomes a plotly figure. Tokens are
    escaped, and the file appears only when complete.

    Args:
        result: a result, a page or a plotly figure.
        path: the file to write.
        view: how an interactive page opens: the part of such a page's address after its #. "Code" on a page gives it.

    Raises:
        SemhubError: an object that cannot be drawn, an unknown view or a view of a figure, or a file that cannot be
            written.

    Example:
        >>> write_html(logit_lens(tiny_model, "two", progress=False), "lens.html")  # doctest: +SKIP
    """
    if isinstance(result, PatchResult | CosineResult | SweepResult):
        result = grid_view(result)
    if isinstance(result, LensResult | LensComparison | View):
        explored = result.document if isinstance(result, View) else document(result)
        return write_page(opened_at(explored, view), path)
    if view:
        raise SemhubError(f"view= is of a page to explore; a {type(result).__name__} becomes a plotly figure.")
    drawn = result if isinstance(result, go.Figure) else figure(result)
    layout: Any = drawn.layout
    title = layout.title.text or "semhub_lens"
    body = drawn.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
    return write_page(page(html.unescape(title.replace("<b>", "").replace("</b>", "")), body), path)


@checked
def page(title: str, body: str, style: str = "") -> str:
    """A complete HTML document around a body."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>body{{margin:16px;font-family:{FONT};overflow-x:auto}}\n"
        f".plotly-graph-div{{min-width:{NARROWEST}px}}\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


@checked
def write_page(document: str, path: str | Path) -> Path:
    """Write a document completely or not at all.

    Raises:
        SemhubError: half a character in the document, or a path that cannot be written.
    """
    try:
        document.encode()
    except UnicodeEncodeError as error:
        half = document[error.start : error.end]
        raise SemhubError(f"The document {shown(document)} has half a character, {half!r}. Leave it out.") from error
    return write_aside(user_path(path), lambda aside: aside.write_text(document, encoding="utf-8"))
