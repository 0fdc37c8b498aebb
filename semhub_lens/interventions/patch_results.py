"""Results of activation patching and of its gradient approximation."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.results import Result


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchResult(Result):
    """A metric after every patch of a grid, with its value in the clean and in the corrupted run.

    `patch_grid` makes it. Layer l is block l; at `resid_pre` that is entry l of the residual axis (0 = embedding).
    """

    values: Float[Tensor, "layer ..."]
    """The metric after the patch: `[layer pos]`, `[layer pos head]`, or `[layer head]` (all positions at once)."""
    clean: float
    """The metric of the clean run."""
    corrupted: float
    """The metric of the corrupted run."""
    site: str
    metric: str
    positions: tuple[tuple[int, int], ...]
    """(clean, corrupted) position of every entry of the axis `pos`."""
    clean_labels: tuple[str, ...]
    """The clean prompt's token at every entry."""
    labels: tuple[str, ...]
    """The corrupted prompt's token at every entry."""
    axes: tuple[str, ...]
    """Names of the axes of `values`."""
    method: ClassVar[str] = "Activation patching"

    @property
    def effect(self) -> Float[Tensor, "layer ..."]:
        """The change of the corrupted run's metric by the patch."""
        return self.values - self.corrupted

    @property
    def normalised(self) -> Float[Tensor, "layer ..."]:
        """The effect as a share of the difference between corrupted (0) and clean (1); NaN if the two are equal."""
        span = self.clean - self.corrupted
        return self.effect / span if span else torch.full_like(self.values, torch.nan)

    def to_frame(self) -> pd.DataFrame:
        """One row per patch; `pos` is the corrupted position."""
        index = np.indices(self.values.shape).reshape(len(self.axes), -1)
        columns: dict[str, object] = dict(zip(self.axes, index, strict=True))
        if "pos" in columns:
            at = index[self.axes.index("pos")]
            columns["pos"] = [self.positions[i][1] for i in at]
            columns["clean_pos"] = [self.positions[i][0] for i in at]
            columns["token"] = [self.labels[i] for i in at]
            columns["clean_token"] = [self.clean_labels[i] for i in at]
        for name in ("values", "effect", "normalised"):
            columns[name.removesuffix("s")] = getattr(self, name).flatten().numpy()
        return pd.DataFrame(columns)


@dataclass(frozen=True, eq=False, kw_only=True)
class ApproximatePatchResult(PatchResult):
    """The gradient approximation of a `PatchResult`: `attribution_grid` extrapolates `values`, and measures none."""

    method: ClassVar[str] = "Attribution patching (gradient approximation)"
