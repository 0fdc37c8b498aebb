"""Every edit x layers x positions x way to run it x batch x dtype, against the same edit written by hand.

The reference knows no batch, padding, cache or window: one full forward pass over one sequence alone (for generation,
the prompt with what was generated), the states at literal positions overwritten by a plain formula. What follows from
it, batched equals one by one and cached equals uncached, is also compared directly.

Tolerance, relative to each state's norm: 128 spacings of float32 (1.5e-5), because its sums over neurons and keys are
rounded in another order in another batch shape, and 4 of bfloat16 (0.03), whose sums are accumulated in float32 so
that only what is stored gets rounded. An edit moves a state by ten tolerances and more (checked too), and the tests
at the end hand the same checks deliberately wrong hooks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

import models
import semhub_lens as shl
from semhub_lens import Prompt, at
from semhub_lens.model.capture import prompt_states
from semhub_lens.model.hooking import WINDOW, site_name

D_MODEL, NEW = 32, 3
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 128 * torch.finfo(torch.float32).eps, "bfloat16": 4 * torch.finfo(torch.bfloat16).eps}


def drawn(*shape, seed):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IDS = ((7, 31, 12, 50, 4), (9,), (22, 5, 61, 40, 18, 33, 8, 27), (15, 44, 29))  # ragged, unsorted, one of one token
LENGTHS = tuple(map(len, IDS))
SPANS = ((1, 2, 3), (0,), (6,), (2, 0))
PROMPTS = tuple(Prompt.from_ids(ids, spans={"word": span}) for ids, span in zip(IDS, SPANS, strict=True))
RAGGED = (0, 1, 2, 3)
BATCHES = ("one prompt", "ragged batch")

INDEX = torch.tensor([[3, 1], [0, -1], [-1, 4], [-3, 2]])
MASK = torch.zeros(len(IDS), max(LENGTHS), dtype=torch.bool)
MASK[0, [0, 4]] = MASK[1, 0] = MASK[2, [1, 2, 7]] = MASK[3, 1] = True
POSITIONS = {  # what a user passes for some items; where that is in item i, a sequence of m tokens, in its order
    "slice": (lambda items: slice(0, 3), lambda i, m: range(min(3, m))),
    "index tensor": (lambda items: INDEX[items], lambda i, m: ([3, 1], [0, 0], [7, 4], [0, 2])[i]),
    "per-row mask": (lambda items: MASK[items], lambda i, m: ([0, 4], [0], [1, 2, 7], [1])[i]),
    "span": (lambda items: "word", lambda i, m: SPANS[i]),
    "generated": (lambda items: "generated", lambda i, m: range(LENGTHS[i], m)),
}

A, B = drawn(D_MODEL, seed=1), drawn(D_MODEL, seed=2)
SOURCE = drawn(len(IDS), 12, D_MODEL, seed=3)


def reflected(h, s):
    w = A / A.norm() - B / B.norm()
    return h - 2 * s * (h @ w) / (w @ w) * w


EDITS = {  # its strength; the hook, with sources; what it makes of a state h at the k-th position of item i
    "add": (3.0, lambda s, p, sources: shl.hooks.add(A, s, p), lambda h, s, i, k: h + s * A),
    "replace": (0.8, lambda s, p, sources: shl.hooks.replace(A, s, p), lambda h, s, i, k: (1 - s) * h + s * A),
    "project_out": (
        10.0,  # far past removal, so that no state escapes by being nearly orthogonal
        lambda s, p, sources: shl.hooks.project_out(A, s, p),
        lambda h, s, i, k: h - s * (h @ A) / (A @ A) * A,
    ),
    "swap": (6.0, lambda s, p, sources: shl.hooks.swap(A, B, s, p), lambda h, s, i, k: reflected(h, s)),
    "patch": (
        0.8,
        lambda s, p, sources: shl.hooks.patch(sources, p, strength=s),
        lambda h, s, i, k: (1 - s) * h + s * SOURCE[i, k],
    ),
}
LAYERS = {"one layer": (1,), "several layers": (0, 2)}
MODES = ("forward", "cached", "uncached")


@dataclass(frozen=True)
class Case:
    """One cell of the matrix, but for the mode and the batch."""

    backend: str
    dtype: str
    edit: str
    layers: str
    positions: str

    def items(self, batch):
        """The items that run together; alone, the prompt of one token takes its turn with a longer one."""
        return RAGGED if batch == "ragged batch" else (0,) if self.layers == "one layer" else (1,)

    def hooks(self, items, mode, strength=None):
        usual, hook, _ = EDITS[self.edit]
        positions, where = POSITIONS[self.positions]
        entries = [block + 1 for block in LAYERS[self.layers]]
        counts = [len(where(i, LENGTHS[i] + (0 if mode == "forward" else NEW - 1))) for i in items]
        sources = [SOURCE[i, : n or None] for i, n in zip(items, counts, strict=True)]  # as many as positions
        return at(entries, hook(usual if strength is None else strength, positions(list(items)), sources))

    def by_hand(self, i, tokens):
        """{(block, position): formula} of the edits in a sequence of item i."""
        strength, _, plain = EDITS[self.edit]
        ranks = {position: k for k, position in enumerate(POSITIONS[self.positions][1](i, tokens))}
        formulas = {p: lambda h, k=k: plain(h, strength, i, k) for p, k in ranks.items()}
        return {(block, p): formula for block in LAYERS[self.layers] for p, formula in formulas.items()}


@dataclass(frozen=True, eq=False)
class Ran:
    """What came of one item: its sequence, and the states of what the model ran over."""

    ids: tuple[int, ...]
    states: Tensor  # [layer pos d_model]
    logits: Tensor | None = None


@cache
def model_of(backend, dtype):
    model = models.tiny(backend, dtype=DTYPES[dtype])
    model.tokenizer.eos_token = None  # no row ends before the others
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = None
    if backend == "bridge":  # a bridge lists its hook points anew at every look, a third of the time of these tiny runs
        points = model.hook_dict
        model.__class__ = type("Listed", (type(model),), {"hook_dict": property(lambda self: points)})
    return model


def run(model, mode, items, hooks, prompts=PROMPTS):
    """Run the items together in the library."""
    chosen = [prompts[i] for i in items]
    if mode == "forward":
        found = dict(pair for batch in prompt_states(model, chosen, hooks) for pair in batch)
        return [Ran(tuple(p.ids.tolist()), found[row]) for row, p in enumerate(chosen)]
    capture = shl.Capture(model)
    settings = {"use_cache": mode == "cached", "max_new_tokens": NEW, "progress": False}
    new = shl.generate(model, chosen, hooks=[*hooks, *capture.hooks], **settings).token_ids
    return [Ran((*p.ids.tolist(), *new[row]), capture.result(row)) for row, p in enumerate(chosen)]


def run_by_hand(model, ids, edits):
    """Run one sequence alone, in one pass of TransformerLens's own."""
    states = []

    def keep(activation, hook):
        states.append(activation[0].float().clone())

    def editor(block):
        def overwrite(activation, hook):
            activation = activation.clone()
            for (layer, position), formula in edits.items():
                if layer == block:
                    activation[0, position] = formula(activation[0, position].float()).to(activation.dtype)
            return activation

        return site_name(block, "resid_post"), overwrite

    hooks = [editor(block) for block in {layer for layer, _ in edits}]
    hooks += [(name, keep) for name in shl.residual_names(model)]
    with torch.no_grad():
        logits = model.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks, return_type="logits")
    return Ran(ids, torch.stack(states), logits[0].float())


@cache
def reference(case, i, ids):
    return run_by_hand(model_of(case.backend, case.dtype), ids, case.by_hand(i, len(ids)))


@cache
def unedited(backend, dtype, ids):
    return run_by_hand(model_of(backend, dtype), ids, {})


def expected(case, mode, i, ours):
    """The reference of a run and the same without an edit, over the positions that it ran over.

    Nothing depends on what comes later, so one pass over a prompt and its continuation serves the prompt alone too.
    """
    known = ours if mode != "forward" else hooked(case, "cached", RAGGED)[0][i]
    ids, columns = known.ids[:-1], ours.states.shape[1]  # the last new token is not run
    both = reference(case, i, ids), unedited(case.backend, case.dtype, ids)
    return [Ran(ids[:columns], ran.states[:, :columns], ran.logits[:columns]) for ran in both]


@cache
def unhooked(backend, dtype, mode, items):
    return run(model_of(backend, dtype), mode, items, [])


def guarded(hooks, touched):
    """The same hooks; those that write into what they are given put their name on the list."""

    def guard(fn):
        def call(activation, hook):
            before = activation.clone()
            new = fn(activation, hook=hook)
            if not torch.equal(activation, before):
                touched.append(hook.name)
            return new

        call.check = getattr(fn, "check", lambda prompts, new_tokens: None)
        return call

    return [(name, guard(fn)) for name, fn in hooks]


Change = Callable[[list], list]


@cache
def hooked(case, mode, items, change: Change = list):
    """The library's run of a case, with its hooks changed; and the names of the hooks that wrote in place."""
    touched = []
    hooks = guarded(change(case.hooks(items, mode)), touched)
    return run(model_of(case.backend, case.dtype), mode, items, hooks), touched


def apart(ours, theirs):
    """The relative distance of every two states `[layer pos]`."""
    return (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)


def assert_equal_states(ours, theirs, dtype):
    distance = apart(ours, theirs)
    worst = [int(i) for i in (distance == distance.max()).nonzero()[0]]
    assert distance.max() <= TOLERANCE[dtype], f"states differ by {distance.max():.2g} at [layer pos] = {worst}"


def assert_greedy(ours, expected, start, dtype):
    """Every token is the reference's best after what stands before it, up to the tolerance."""
    logits = expected.logits[start - 1 :]
    chosen = logits.gather(1, torch.tensor(ours.ids[start:])[:, None])[:, 0]
    behind = (logits.amax(-1) - chosen) / logits.norm(dim=-1)
    assert behind.max() <= TOLERANCE[dtype], f"the tokens {ours.ids[start:]} are not the reference's"


def check(case, mode, items, change: Change = list):
    """The library's run is the reference's, in states and tokens, and nothing was written in place."""
    found, touched = hooked(case, mode, items, change)
    for i, ours in zip(items, found, strict=True):
        by_hand, _ = expected(case, mode, i, ours)
        assert_equal_states(ours.states, by_hand.states, case.dtype)
        if mode != "forward":
            assert_greedy(ours, by_hand, LENGTHS[i], case.dtype)
    assert not touched, f"the hooks at {touched} wrote into the tensor that they were given"


def check_effect(case, mode, i, ours):
    """The reference's edit of a sequence moves a state by ten tolerances at least, and no state before it."""
    by_hand, clean = expected(case, mode, i, ours)
    moved = apart(by_hand.states, clean.states)
    edits = [place for place in case.by_hand(i, len(ours.ids)) if place[1] < moved.shape[1]]
    if not edits:
        assert mode == "forward" and case.positions == "generated" and torch.all(moved == 0)
        return
    largest = max(float(moved[block + 1, position]) for block, position in edits)
    assert largest > 10 * TOLERANCE[case.dtype], f"the edit moves the states by {largest:.2g} only"
    assert torch.all(moved[:, : min(position for _, position in edits)] == 0)


def assert_same(first, second, dtype):
    """Two runs of one prompt have the same states, as far as the tokens before them are the same."""
    same = [a == b for a, b in zip(first.ids, second.ids, strict=True)]
    end = min(first.states.shape[1], [*same, False].index(False))
    assert end == first.states.shape[1] or dtype == "bfloat16", "the tokens differ"  # where two may tie
    assert_equal_states(first.states[:, :end], second.states[:, :end], dtype)


def every(*names):
    """Parametrise a test over these axes of the matrix.

    Of the whole matrix, every second cell in float32 stands for its neighbours: any two values of any two axes meet in
    one of them. The others, and bfloat16, run with the slow tests.
    """
    axes = {
        "backend": models.BACKENDS, "dtype": DTYPES, "edit": EDITS, "layers": LAYERS, "positions": POSITIONS,
        "mode": MODES, "batch": BATCHES,
    }  # fmt: skip

    def decorate(test):
        cells = []
        for places in product(*(range(len(axes[name])) for name in names)):
            cell = [[*axes[name]][place] for name, place in zip(names, places, strict=True)]
            late = "bfloat16" in cell or (names == WHOLE and sum(places) % 2)
            cells.append(pytest.param(*cell, marks=pytest.mark.slow if late else ()))
        return pytest.mark.parametrize(names, cells)(test)

    return decorate


CASE = ("backend", "dtype", "edit", "layers", "positions")
WHOLE = (*CASE, "mode", "batch")


@every(*WHOLE)
def test_a_run_is_that_of_the_edit_by_hand(backend, dtype, edit, layers, positions, mode, batch):
    case = Case(backend, dtype, edit, layers, positions)
    items = case.items(batch)
    check(case, mode, items)
    for i, ours in zip(items, hooked(case, mode, items)[0], strict=True):
        check_effect(case, mode, i, ours)


@every(*CASE)
def test_a_batch_is_one_prompt_at_a_time_and_with_a_cache_is_without(backend, dtype, edit, layers, positions):
    case = Case(backend, dtype, edit, layers, positions)
    ((i,), together) = (case.items(batch) for batch in BATCHES)
    for mode in MODES:
        assert_same(hooked(case, mode, together)[0][i], hooked(case, mode, (i,))[0][0], dtype)
    for items in ((i,), together):
        for cached, uncached in zip(*(hooked(case, mode, items)[0] for mode in MODES[1:]), strict=True):
            assert_same(cached, uncached, dtype)


@every("backend", "dtype", "positions", "mode")
def test_all_edits_at_strength_zero_are_no_hook_bit_for_bit(backend, dtype, positions, mode):
    cases = [Case(backend, dtype, edit, "several layers", positions) for edit in EDITS]
    hooks = [hook for case in cases for hook in case.hooks(RAGGED, mode, strength=0.0)]
    nothing = run(model_of(backend, dtype), mode, RAGGED, hooks)
    for ours, theirs in zip(nothing, unhooked(backend, dtype, mode, RAGGED), strict=True):
        assert ours.ids == theirs.ids and torch.equal(ours.states, theirs.states)


def test_the_edits_leave_the_callers_vectors_as_they_were():
    case = Case(models.BACKENDS[0], "float32", "add", "one layer", "slice")
    for edit in EDITS:
        hooked(replace(case, edit=edit), "cached", RAGGED)
    assert torch.equal(A, drawn(D_MODEL, seed=1)) and torch.equal(B, drawn(D_MODEL, seed=2))
    assert torch.equal(SOURCE, drawn(len(IDS), 12, D_MODEL, seed=3))


def left_behind(model):
    """Hooks and windows that are still there after a run."""
    hooks = [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]
    return hooks + [name for name, point in model.hook_dict.items() if WINDOW in point.ctx]


@every("backend", "mode", "batch")
def test_after_a_run_or_an_exception_in_it_the_model_is_as_before(backend, mode, batch):
    model, case = model_of(backend, "float32"), Case(backend, "float32", "add", "several layers", "slice")
    passes = []

    def breaks(activation, hook):
        passes.append(hook.name)
        if len(passes) == (1 if mode == "forward" else 2):  # in generation, in the second step
            raise RuntimeError("broken on purpose")

    items = case.items(batch)
    hooks = case.hooks(items, mode)
    before = run(model, mode, items, [])
    run(model, mode, items, hooks)
    after = run(model, mode, items, [])
    passes.clear()
    with pytest.raises(RuntimeError, match="on purpose"):
        run(model, mode, items, [*hooks, (site_name(2, "resid_post"), breaks)])
    assert left_behind(model) == []
    rescued = run(model, mode, items, [])
    for clean in zip(before, after, rescued, strict=True):
        assert all(ran.ids == clean[0].ids and torch.equal(ran.states, clean[0].states) for ran in clean)
    again = run(model, mode, items, hooks)  # the same hook functions, after a run that was cut short
    for ours, theirs in zip(again, hooked(case, mode, items)[0], strict=True):
        assert torch.equal(ours.states, theirs.states)


DONOR, TAKEN = (12, 48, 33, 7, 25, 60, 19, 3, 41), (7, 2)
"""Longer than any target; its states at TAKEN go, in this order, to the positions of INDEX."""


@every("backend", "dtype", "layers", "mode", "batch")
def test_explicit_pairs_of_positions_patch_between_prompts_of_different_length(backend, dtype, layers, mode, batch):
    model, targets = model_of(backend, dtype), POSITIONS["index tensor"]
    donor = unedited(backend, dtype, DONOR).states
    items = RAGGED if batch == "ragged batch" else (3,)
    positions = targets[0](list(items))
    fns = {b: shl.hooks.patch(donor[b + 1], positions, source_positions=TAKEN) for b in LAYERS[layers]}
    found = run(model, mode, items, [pair for block, fn in fns.items() for pair in at(block + 1, fn)])
    for i, ours in zip(items, found, strict=True):
        first, second = targets[1](i, 0)
        ids = ours.ids[: ours.states.shape[1]]
        straight, crossed = (
            {(b, p): donor[b + 1, taken] for b in fns for p, taken in zip((first, second), order, strict=True)}
            for order in (TAKEN, TAKEN[::-1])
        )
        assert_equal_states(ours.states, run_by_hand(model, ids, writing(straight)).states, dtype)
        for (block, position), state in straight.items():
            assert torch.equal(ours.states[block + 1, position], state)
        with pytest.raises(AssertionError, match="states differ"):
            assert_equal_states(ours.states, run_by_hand(model, ids, writing(crossed)).states, dtype)


def writing(states):
    """Edits that put these states in place of what is there."""
    return {positions: lambda h, state=state: state for positions, state in states.items()}


@every("backend", "dtype", "layers", "mode")
def test_each_item_takes_its_own_pairs_and_its_own_states_change_nothing(backend, dtype, layers, mode):
    own = [unedited(backend, dtype, ids).states for ids in IDS]
    positions = torch.tensor([POSITIONS["index tensor"][1](i, 0) for i in RAGGED])
    pairs = {b: torch.stack([states[b + 1, positions[i]] for i, states in enumerate(own)]) for b in LAYERS[layers]}
    itself, neighbour = (
        run(
            model_of(backend, dtype),
            mode,
            RAGGED,
            [p for b in pairs for p in at(b + 1, shl.hooks.patch(s[b], positions))],
        )
        for s in (pairs, {b: source.roll(1, 0) for b, source in pairs.items()})
    )
    for same, other, theirs in zip(itself, neighbour, unhooked(backend, dtype, mode, RAGGED), strict=True):
        assert_same(same, theirs, dtype)
        with pytest.raises(AssertionError, match=r"states differ|tokens differ"):
            assert_same(other, theirs, dtype)


# The checks themselves: each of these wrong hooks must be caught.


def tampered(start):
    """Hooks that believe the columns start elsewhere."""

    def change(hooks):
        def wrong(fn):
            def call(activation, hook):
                window = hook.ctx[WINDOW]
                hook.ctx[WINDOW] = replace(window, starts=start(window.starts))
                try:
                    return fn(activation, hook=hook)
                finally:
                    hook.ctx[WINDOW] = window

            return call

        return [(name, wrong(fn)) for name, fn in hooks]

    return change


def in_place(hooks):
    def wrong(fn):
        return lambda activation, hook: activation.copy_(fn(activation, hook=hook))

    return [(name, wrong(fn)) for name, fn in hooks]


ONE_OFF, FROM_THE_CHUNK = tampered(lambda starts: starts + 1), tampered(torch.zeros_like)


def everywhere(hooks):
    return [(name, replace(fn, positions=None, vectors=None)) for name, fn in hooks]


# In bfloat16, whose tolerance is the wide one.


@every("edit", "positions", "mode")
def test_an_edit_one_position_off_or_everywhere_is_caught(edit, positions, mode):
    nothing_generated = mode == "forward" and positions == "generated"
    case = Case(models.BACKENDS[0], "bfloat16", edit, "one layer", positions)
    check(case, mode, RAGGED)
    with pytest.raises(AssertionError, match="states differ"):
        check(case, mode, RAGGED, everywhere if nothing_generated else ONE_OFF)


@every("edit", "positions")
def test_positions_counted_in_the_chunk_of_a_cached_generation_are_caught(edit, positions):
    case = Case(models.BACKENDS[0], "bfloat16", edit, "one layer", positions)
    check(case, "cached", RAGGED)
    with pytest.raises(AssertionError, match="states differ"):
        check(case, "cached", RAGGED, FROM_THE_CHUNK)


@every("backend", "edit", "mode")
def test_an_edit_in_place_is_caught(backend, edit, mode):
    case = Case(backend, "bfloat16", edit, "one layer", "slice")
    check(case, mode, RAGGED)
    with pytest.raises(AssertionError, match="wrote into the tensor"):
        check(case, mode, RAGGED, in_place)


def test_a_hook_that_stays_is_found():
    model = model_of(models.BACKENDS[0], "float32")
    with model.hooks(fwd_hooks=at(2, shl.hooks.add(A))):
        assert left_behind(model)
    assert left_behind(model) == []
