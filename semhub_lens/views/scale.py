"""The colours of numbers around zero: one scale for a page, its figure and its still."""

import math
from typing import Any

from torch import Tensor

from semhub_lens.views.style import BLUES, number

AMBER = "#b25800"
DIVERGING = ((0.0, BLUES[-1][1]), (0.5, "#ffffff"), (1.0, AMBER))
"""Blue below zero, white at zero, amber above: the colours of the explorer's pages."""
UNKNOWN = "#dddddd"
"""The ground of a grid: a cell without a number and the lines between cells are grey, not white like zero."""


def reach(values: Tensor, most: float = math.inf) -> float:
    """The number with the strongest colour: the largest absolute finite value, at most `most`; 1 for zeros alone.

    Example:
        >>> from semhub_lens.views.scale import reach
        >>> reach(torch.tensor([0.0, -0.25, torch.nan])), reach(torch.tensor([0.5, 3.0]), most=1.0)
        (0.25, 1.0)
    """
    sizes = values[values.isfinite()].abs()
    largest = float(sizes.max()) if len(sizes) else 0.0
    return min(largest, most) or min(1.0, most)


def diverging(full: float, title: str, first: str = "z") -> dict[str, Any]:
    """Settings of a heat map (`first="z"`) or of a colour axis ("c"), with the ends of the scale written out."""
    ticks = [-full, -full / 2, 0.0, full / 2, full]
    form = ".2g" if full < 100 else ".3g"
    bar = {"tickvals": ticks, "ticktext": [number(tick, form) for tick in ticks], "thickness": 10}
    return {
        f"{first}min": -full,
        f"{first}max": full,
        "colorscale": [list(stop) for stop in DIVERGING],
        "colorbar": {"title": {"text": title}, **bar},
    }
