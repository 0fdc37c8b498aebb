r"""Damage: the change of the model's predictions on texts that an intervention should not change.

$$\mathrm{damage}(x) = \frac{1}{|P|} \sum_{t \in P} D_{KL}\bigl(p(\cdot \mid x_{\le t}) \,\Vert\,
p_{\text{steered}}(\cdot \mid x_{\le t})\bigr)$$

An effect together with large damage says little: a direction that breaks the model changes everything. A small mean can
still hide a few broken positions.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.capture import check_edits
from semhub_lens.model.facts import Model
from semhub_lens.model.hooking import BEFORE_THE_END, Hooks, require_hooks
from semhub_lens.model.readout import Readout
from semhub_lens.model.reads import read_positions
from semhub_lens.model.resolve import as_prompts
from semhub_lens.scores.final_states import divergence, last_states


@checked
def kl_to_clean(
    model: Model,
    prompts: Prompts,
    hooks: Hooks,
    *,
    read_at: str | SupportsIndex | Sequence[Sequence[int]] = "mean",
    progress: bool = True,
) -> Float[Tensor, " item"]:
    r"""Return the mean $D_{KL}(\text{clean} \Vert \text{steered})$ of the next-token distribution, in nats.

    $$\frac{1}{|P|} \sum_{t \in P}
    D_{KL}\bigl(p(\cdot \mid x_{\le t}) \,\Vert\, p_{\text{steered}}(\cdot \mid x_{\le t})\bigr)$$

    The mean is over positions; a strength of 0 gives exactly 0. In the clean run, the model runs as it is: your own
    attached hooks act in both runs. A small mean can still hide a few broken positions.

    Args:
        model: any TransformerLens model.
        prompts: texts that the hooks should not change, such as `data.text.texts.sentences()["en"][:40]`.
        hooks: the intervention, as `(hook name, function)` pairs.
        read_at: the positions to average over. "mean": all except BOS. A position, a span's name, "last"; or a list of
            positions for each prompt.
        progress: show progress bars.

    Returns:
        One number per prompt, in nats.

    Raises:
        SemhubError: empty input, unknown hook, a hook after the last block (its effect is not measured here), a hook
            that never fired, or a position or span that a prompt lacks.

    Example:
        >>> steer = lambda s: at(2, hooks.add(torch.ones(tiny_model.cfg.d_model), strength=s))
        >>> float(kl_to_clean(tiny_model, "three plus two", steer(0.0), progress=False))
        0.0
        >>> float(kl_to_clean(tiny_model, "three plus two", steer(3.0), progress=False)) > 0
        True
    """
    return CleanRun(model, prompts, read_at=read_at, progress=progress)(hooks)


class CleanRun:
    """The clean run of some prompts, made once and compared with runs with many hooks, as in `kl_to_clean`."""

    def __init__(
        self,
        model: Model,
        prompts: Prompts,
        *,
        read_at: str | SupportsIndex | Sequence[Sequence[int]] = "mean",
        progress: bool = True,
    ) -> None:
        self._model, self._progress = model, progress
        self._prompts = as_prompts(model, prompts)
        self._positions = _positions(self._prompts, read_at)

    @cached_property
    def _clean(self) -> tuple[Readout, Float[Tensor, "row d_model"]]:
        return Readout(self._model), self._states(())

    def _states(self, hooks: Hooks) -> Float[Tensor, "row d_model"]:
        return last_states(self._model, self._prompts, self._positions, hooks, self._progress)

    @checked
    def __call__(self, hooks: Hooks) -> Float[Tensor, " item"]:
        """Mean divergence of each prompt's distributions with the hooks from the clean ones."""
        names = [name for name, _ in hooks]
        require_hooks(self._model, names)
        behind = [name for name in names if not name.startswith(BEFORE_THE_END)]
        if behind:
            raise SemhubError(
                f"The hook(s) {', '.join(behind)} come after the last block, but damage is read before; leave them out."
            )
        check_edits(hooks, self._prompts)
        readout, clean = self._clean
        rows = divergence(readout, clean, self._states(hooks))
        return torch.stack([row.mean() for row in rows.split([len(positions) for positions in self._positions])])


def _positions(prompts: list[Prompt], read_at: Any) -> list[tuple[int, ...]]:
    if isinstance(read_at, str) or is_index(read_at):
        return [read_positions(prompt, read_at) for prompt in prompts]
    if len(read_at) != len(prompts) or not all(read_at):
        raise SemhubError(f"Expected one or more positions for each of {len(prompts)} prompts, got {read_at!r}.")
    return [
        tuple(read_positions(prompt, i)[0] for i in positions)
        for prompt, positions in zip(prompts, read_at, strict=True)
    ]
