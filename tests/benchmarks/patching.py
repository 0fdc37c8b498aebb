"""`patch_grid` against `transformer_lens.patching` on Gemma 3 270M: 20 tokens, all layers and positions.

The peer's cells take equally long (each is one forward pass of all tokens), so a random sample of them is timed and
scaled to the grid. The same cells serve to compare the numbers.
"""

import sys

import pandas as pd
import torch
from transformer_lens import patching as peer

import models
import semhub_lens as shl
from benchmarks.table import Row, as_transformer_lens_makes_it, extra_memory, in_turn
from semhub_lens import Prompt

ROUNDS, CELLS, TOKENS = 3, 8, 20
RIGHT, WRONG = 1000, 2000
PEERS = {
    "resid_pre": ("resid_pre", peer.layer_pos_patch_setter),
    "z": ("z", peer.layer_pos_head_vector_patch_setter),
}


def prompts(shared):
    """Two prompts of random tokens that share the first ones."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(1000, 200_000, (2, TOKENS), generator=draw)
    rows[:, 0] = 2
    rows[1, :shared] = rows[0, :shared]
    return [Prompt.from_ids(row, bos=True) for row in rows]


def at_last(logits):
    return logits[0, -1, RIGHT] - logits[0, -1, WRONG]


def sample(shape, seed):
    """Random cells of the grid, as the peer's table of indices."""
    draw = torch.Generator().manual_seed(seed)
    flat = torch.randperm(shape.numel(), generator=draw)[:CELLS].tolist()
    cells = [torch.unravel_index(torch.tensor(i), shape) for i in flat]
    names = ["layer", "pos", "head_index"][: len(shape)]
    return pd.DataFrame([[int(i) for i in cell] for cell in cells], columns=names)


@torch.no_grad()
def by_peer(model, corrupted, cache, site, cells):
    """The peer's values of some cells."""
    name, setter = PEERS[site]
    return peer.generic_activation_patch(model, corrupted.ids[None], cache, at_last, setter, name, index_df=cells).cpu()


def compare(model, backend, site, shared):
    """One row: the peer's time scaled to the whole grid, ours, the largest difference and the extra memory."""
    clean, corrupted = prompts(shared)
    metric = shl.metric.logit_difference(model, RIGHT, WRONG)
    kept: list[shl.PatchResult] = []

    def grid():
        kept[:] = [shl.patch_grid(model, clean, corrupted, metric, site=site, progress=False)]

    with torch.no_grad():
        model(clean.ids[None])  # weights that were mapped from a file become resident
        memory = extra_memory(grid)
        _, cache = model.run_with_cache(clean.ids[None], names_filter=lambda hook: hook.startswith("blocks."))
    cells = sample(kept[0].values.shape, 0)
    values: list[torch.Tensor] = []
    took = in_turn({"ours": grid, "peer": lambda: values.append(by_peer(model, corrupted, cache, site, cells))}, ROUNDS)
    error = max(
        abs(float(kept[0].values[tuple(map(int, c))] - v)) for c, v in zip(cells.values, values[-1], strict=True)
    )
    count = kept[0].values.numel()
    note = f"{count} cells, {len(cells)} of the peer's timed and scaled; largest difference {error:.1e}"
    name = f"`patch_grid` {site}, {backend}, {shared} of {TOKENS} tokens shared"
    row = Row(name, took["ours"], took["peer"].times(count / len(cells)), bar="25 times", memory=memory, note=note)
    print(row, file=sys.stderr, flush=True)
    return row


def measure() -> list[Row]:
    """All backends of the installed line; with 1 shared token (BOS) hardly any cell can be left out."""
    rows = []
    for backend in models.BACKENDS:
        model = as_transformer_lens_makes_it(shl.load("gemma-3-270m", backend=backend))
        rows += [compare(model, backend, *case) for case in (("resid_pre", 1), ("resid_pre", 10), ("z", 10))]
    return rows
