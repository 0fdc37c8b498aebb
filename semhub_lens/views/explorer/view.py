"""A separate page: `write_html` writes it, and a notebook shows it in a frame."""

import html
from dataclasses import dataclass
from typing import Any

from semhub_lens.base.shown_text import harmless

ROW, AROUND, TALLEST = 24, 386, 860
"""Pixels of a notebook's frame: one row, the space around the map, and the maximum."""


@dataclass(frozen=True)
class View:
    """A page of the explorer.

    Example:
        >>> lens = logit_lens(tiny_model, "three plus two", progress=False)
        >>> shl.sound_map(lens, [1, 2], [0.0, 0.04])
        What each moment reads as: 2 positions, 4 layers
        Next: write_html(view, "view.html") for the page
    """

    title: str
    document: str
    """The whole page, as HTML."""
    text: str
    """A description in one or two lines."""
    height: int
    """Pixels of its frame in a notebook."""
    picture: str | None = None
    """A still picture of it as SVG, for places without scripts."""

    def __repr__(self) -> str:
        return f'{self.text}\nNext: write_html(view, "view.html") for the page'

    def frame(self) -> str:
        """The page in an isolated frame, as HTML."""
        return framed(self.document, self.title, self.text, self.height)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/html": self.frame(), "text/plain": repr(self)}
        return bundle | ({"image/svg+xml": self.picture} if self.picture else {})


def framed(document: str, title: str, text: str, height: int) -> str:
    """A page in a sandboxed frame; `text` is shown if frames are not."""
    page = document.replace("&", "&amp;").replace("'", "&#39;")
    instead = html.escape(harmless(text, kept="\n"))
    return (
        f'<iframe sandbox="allow-scripts allow-downloads" title="{html.escape(title)}" srcdoc=\'{page}\' '
        f'style="width:100%;height:{height}px;border:0;resize:vertical">{instead}</iframe>'
    )
