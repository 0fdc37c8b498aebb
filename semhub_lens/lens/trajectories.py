r"""Trajectories: the path of a state through the layers, drawn in the plane of given anchors.

$$y_\ell = P\,\Bigl(\frac{\operatorname{norm}(h_\ell)}{\lVert \operatorname{norm}(h_\ell) \rVert} - \bar a\Bigr)$$

with P the first two principal axes of the anchors, all of unit length, and $\bar a$ their mean. States and anchors are
scaled in the same way: each is a unit vector. Two of several hundred dimensions show little. For distances, use the
cosines, which use all dimensions.

Source: Wu et al. 2025 (whose code standardises the states over layers, but not the anchors).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance, Result, check_finite


@dataclass(frozen=True, eq=False)
class TrajectoryResult(Result):
    """Paths of items through the layers, and their cosines with the anchors."""

    path: Float[Tensor, "layer item 2"]
    """Coordinates in the plane of the anchors."""
    anchors: Float[Tensor, "target 2"]
    anchor_names: tuple[str, ...]
    explained: Float[Tensor, "2"]
    """Share of the anchors' variance on each axis."""
    cosine: Float[Tensor, "layer item target"]
    """Cosine of every state with every anchor, in the full space."""
    labels: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and item."""
        layers, items, _ = self.path.shape
        index = pd.MultiIndex.from_product([range(layers), range(items)], names=["layer", "item"])
        flat = self.path.reshape(-1, 2).numpy()
        frame = pd.DataFrame({"x": flat[:, 0], "y": flat[:, 1]}, index).reset_index()
        frame.insert(2, "label", list(self.labels) * layers)
        return frame


@checked
def trajectories(
    states: Float[Tensor, "layer item d_model"],
    anchors: Float[Tensor, "target d_model"],
    *,
    anchor_names: Sequence[str],
    labels: Sequence[str],
    provenance: Provenance,
) -> TrajectoryResult:
    """Project paths of states into the plane of anchors, both scaled to unit length.

    Args:
        states: residual states after the final norm (as a lens reads them).
        anchors: rows of the unembedding.
        anchor_names: the words of the anchors.
        labels: the items as texts.
        provenance: of the model and the data.

    Raises:
        SemhubError: fewer than three anchors, unequal widths, NaN states, or a wrong number of names.

    Example:
        >>> states = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
        >>> made = shl.Provenance("none", "-", "-", "float32", "cpu", "none", False)
        >>> paths = trajectories(states, torch.eye(8)[:4], anchor_names=[*"abcd"], labels=["1", "2"], provenance=made)
        >>> paths.path.shape
        torch.Size([3, 2, 2])
    """
    if len(anchors) < 3 or states.shape[-1] != anchors.shape[-1]:
        raise SemhubError(
            f"Trajectories need at least three anchors of the states' width, got {tuple(anchors.shape)} for states of "
            f"width {states.shape[-1]}."
        )
    if len(anchor_names) != len(anchors) or len(labels) != states.shape[1]:
        raise SemhubError(
            f"Expected a name for each of {len(anchors)} anchors and a label for each of {states.shape[1]} items, got "
            f"{len(anchor_names)} names and {len(labels)} labels for states of the shape {tuple(states.shape)}."
        )
    check_finite(states, "states")
    check_finite(anchors, "anchors")
    unit, fixed = normalize(states.float(), dim=-1), normalize(anchors.float(), dim=-1)
    mean = fixed.mean(0)
    _, values, axes = torch.linalg.svd(fixed - mean, full_matrices=False)
    plane = axes[:2].T
    return TrajectoryResult(
        path=(unit - mean) @ plane,
        anchors=(fixed - mean) @ plane,
        anchor_names=tuple(anchor_names),
        explained=(values.square() / values.square().sum())[:2],
        cosine=unit @ fixed.T,
        labels=tuple(labels),
        provenance=provenance,
    )
