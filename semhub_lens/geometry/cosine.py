"""`CosineTo`: the cosine of every position and layer with given reference states, in any run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Result, check_finite
from semhub_lens.geometry.alignment import unit
from semhub_lens.model.capture import Capture
from semhub_lens.model.facts import Model, provenance_of


@dataclass(frozen=True, eq=False)
class CosineResult(Result):
    """Cosine of one run's residual states with reference states, between -1 and 1; `CosineTo.result` makes it."""

    cosine: Float[Tensor, "layer pos ref"]
    names: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, position and reference."""
        layers, positions, _ = self.cosine.shape
        index = pd.MultiIndex.from_product([range(layers), range(positions), self.names], names=["layer", "pos", "ref"])
        return pd.DataFrame({"cosine": self.cosine.flatten().numpy()}, index).reset_index()


@checked
class CosineTo:
    r"""Probe that compares every residual state of a run with reference states: $\cos(h_{\ell,p}, r_{\ell,k})$.

    A high cosine alone shows little: residual states are anisotropic. Compare with unrelated references.

    Args:
        model: any TransformerLens model.
        references: one state per layer and reference, as `residual_stream` returns them.
        names: the references' names; None numbers them.

    Raises:
        SemhubError: references whose shape does not match the model's residual axis, NaN, a zero
            reference, or a wrong number of names.

    Example:
        >>> refs = residual_stream(tiny_model, ["two", "five"], progress=False)
        >>> probe = CosineTo(tiny_model, refs, names=["two", "five"])
        >>> _ = tiny_model.run_with_hooks("two", fwd_hooks=probe.hooks)
        >>> round(float(probe.result().cosine[-1, -1, 0]), 4)
        1.0
    """

    def __init__(
        self, model: Model, references: Float[Tensor, "layer ref d_model"], names: Sequence[str] | None = None
    ) -> None:
        self._capture = Capture(model)
        expected = (len(self._capture.names), model.cfg.d_model)
        if references.ndim != 3 or (references.shape[0], references.shape[2]) != expected:
            raise SemhubError(
                f"Expected references [{expected[0]} ref {expected[1]}], got shape {tuple(references.shape)}."
            )
        check_finite(references, "references")
        self._names = tuple(names or (str(i) for i in range(references.shape[1])))
        if len(self._names) != references.shape[1]:
            raise SemhubError(f"Got {len(self._names)} names for {references.shape[1]} references.")
        zero = (references == 0).all(-1).nonzero().tolist()
        if zero:
            raise SemhubError(
                f"references has a zero state at [layer, reference] = {zero[0]}: its cosine is undefined."
            )
        self._references = unit(references.cpu())
        self._model = model
        self.hooks: list[tuple[str, Any]] = self._capture.hooks

    @checked
    def result(self, row: int = 0) -> CosineResult:
        """Cosines `[layer pos ref]` of one `row` of the latest run.

        Raises:
            SemhubError: nothing ran yet, or no such row.
        """
        states = unit(self._capture.result(row))
        cosine = torch.einsum("lpd,lrd->lpr", states, self._references)
        return CosineResult(cosine, self._names, provenance=provenance_of(self._model))
