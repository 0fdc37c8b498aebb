"""`figure`: any result as a plotly figure. Importing this module registers all drawing functions of the room.

Nothing here runs a model, shows a figure on its own or changes plotly's defaults.
"""

import plotly.graph_objects as go

from semhub_lens.base.arguments import checked
from semhub_lens.base.results import Result, drawn
from semhub_lens.views import (  # noqa: F401 (each registers what it draws)
    compared,
    concepts,
    curves,
    generation,
    lens,
    patching,
    patchscope,
    probes,
    stills,
    sweep,
    trajectories,
)


@checked
def figure(result: Result) -> go.Figure:
    """Draw any result as a plotly figure.

    Args:
        result: any result of this library.

    Returns:
        A plotly figure, to edit or export. Nothing is shown.

    Raises:
        SemhubError: an object that is not one of this library's results.

    Example:
        >>> figure(logit_lens(tiny_model, "three plus two", progress=False)).data[0].type
        'heatmap'
    """
    return drawn(result)
