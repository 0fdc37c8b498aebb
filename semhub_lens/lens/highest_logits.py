"""The highest logits of each row, found while pieces of the logits pass."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

GROUPED = 32
"""Token ids in a group, of which only the highest logit is compared first."""
PENDING = 8
"""Groups a row, on average, that may wait before they are compared with each other."""

Entries = tuple[Int[Tensor, "group id"], Int[Tensor, "group id"], Float[Tensor, "group id"]]
"""Row, token id and logit."""


def group_peaks(logits: Float[Tensor, "row id"]) -> Float[Tensor, "row group"]:
    """The highest logit of each group; group i has the ids i, i + groups, i + 2 groups, ... of the piece.

    In a piece that has no whole number of groups, each token id is its own group.
    """
    size = _group_size(logits)
    return logits if size == 1 else logits.unflatten(-1, (size, -1)).amax(-2)


def _group_size(logits: Float[Tensor, "row id"]) -> int:
    return 1 if logits.shape[-1] % GROUPED else GROUPED


class RunningHighest:
    """The k highest logits of each row so far.

    A logit that enters them is above the lowest of them, so its group is too. After a few pieces that is rare: the
    number of such groups grows with the logarithm of the vocabulary.

    Args:
        rows: the number of rows.
        k: the number of logits to keep.
        device: where the logits are.
        sort: look at every piece as a whole. Other devices than a CPU do, since counting groups would make the
            processor wait for them.
    """

    def __init__(self, rows: int, k: int, device: torch.device, *, sort: bool | None = None) -> None:
        self._rows, self._k = rows, k
        self._sort = device.type != "cpu" if sort is None else sort
        self._seen, self._pieces, self._groups = 0, 0, 0
        self._values = torch.empty(rows, 0, dtype=torch.float32, device=device)
        self._ids = torch.empty(rows, 0, dtype=torch.long, device=device)
        self._sorted: list[tuple[Tensor, Tensor]] = []
        self._waiting: list[Entries] = []

    def add(self, logits: Float[Tensor, "row id"], best: Float[Tensor, "row group"], start: int) -> None:
        """Compare the next piece, whose first token id is `start`; `best` has its `group_peaks`."""
        if not self._k:
            return
        self._pieces += 1
        if self._sort or self._seen < self._k:
            self._sort_in(logits, start)
        else:
            self._gather(logits, best, start)
            doubled = self._pieces & (self._pieces - 1) == 0
            if doubled or self._groups > PENDING * self._rows:
                self._settle()
        self._seen += logits.shape[-1]

    def result(self) -> tuple[Float[Tensor, "row k"], Int[Tensor, "row k"]]:
        """The highest logits in falling order, and their token ids; of equal logits, the one that came first."""
        self._merge()
        self._settle()
        return self._values, self._ids

    def _sort_in(self, logits: Float[Tensor, "row id"], start: int) -> None:
        """Take the highest of a piece; until there are k of them, they are not compared with those of other pieces."""
        values, ids = logits.topk(min(self._k, logits.shape[-1]), dim=-1)
        self._sorted.append((values, ids + start))
        if self._seen + logits.shape[-1] >= self._k:
            self._merge()

    def _merge(self) -> None:
        if not self._sorted:
            return
        values, ids = (torch.cat(part, dim=1) for part in zip((self._values, self._ids), *self._sorted, strict=True))
        self._sorted = []
        values, order = values.sort(dim=-1, descending=True, stable=True)
        self._values, self._ids = values[:, : self._k], ids.gather(1, order)[:, : self._k]

    def _gather(self, logits: Float[Tensor, "row id"], best: Float[Tensor, "row group"], start: int) -> None:
        """Put aside the groups whose highest logit is above the lowest one that is kept."""
        rows, groups = (best > self._values[:, -1:]).nonzero(as_tuple=True)
        if not len(rows):
            return
        size = _group_size(logits)
        values = logits.unflatten(-1, (size, -1))[rows, :, groups]
        ids = start + groups[:, None] + best.shape[-1] * torch.arange(size)
        self._waiting.append((rows[:, None].expand_as(ids), ids, values))
        self._groups += len(rows)

    def _settle(self) -> None:
        """Compare what was put aside with what is kept."""
        if not self._waiting:
            return
        rows, ids, values = (torch.cat([some.flatten() for some in part]) for part in zip(*self._waiting, strict=True))
        self._waiting, self._groups = [], 0
        above = values > self._values[rows, -1]
        rows, ids, values = rows[above], ids[above], values[above]
        kept = torch.arange(self._rows).repeat_interleave(self._k)
        rows, ids = torch.cat([kept, rows]), torch.cat([self._ids.flatten(), ids])
        values = torch.cat([self._values.flatten(), values])
        order = values.argsort(descending=True, stable=True)
        order = order[rows[order].argsort(stable=True)]  # row by row, the highest first
        counts = rows.bincount(minlength=self._rows)
        first = counts.cumsum(0) - counts
        best = order[first[:, None] + torch.arange(self._k)]
        self._values, self._ids = values[best], ids[best]
