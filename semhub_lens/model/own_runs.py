"""Positions in a user's own runs, where no runner says which they are."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from semhub_lens.base.errors import Unfit
from semhub_lens.model.hooking import WINDOW, Window


class PassCounter:
    """The window of each pass at a hook point: the runner's, or one that is counted from earlier passes.

    The count is for the user's own runs. There, a longer pass starts a run and single tokens continue it (a KV cache).
    A one-token prompt directly after another one counts as its continuation. Without a cache, every longer pass counts
    as a new prompt. Use new hooks for each such run, or `semhub_lens.generate`.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Window] = {}

    def window(self, activation: Tensor, hook: Any) -> tuple[Window, int]:
        """The pass's window and its number of columns.

        Raises:
            Unfit: rows and columns are one axis of the activation, so nothing says which position is which.
        """
        if activation.ndim < 3:
            raise Unfit(
                f"At {hook.name} this model has the rows and positions of a batch on one axis. Use a run of this "
                "library (residual_stream, generate, ...), which tells them apart, or the residual stream."
            )
        rows, columns = activation.shape[:2]
        if WINDOW in hook.ctx:
            return hook.ctx[WINDOW], columns
        latest = self._latest.get(hook.name)
        if columns > 1 or latest is None:
            items, zeros = torch.arange(rows), torch.zeros(rows, dtype=torch.long)
            window = Window(items, zeros, torch.full_like(items, columns), run=object())
        else:
            step = latest.generated + 1
            window = replace(latest, starts=latest.lengths + step - 1, generated=step)
        self._latest[hook.name] = window
        return window, columns
