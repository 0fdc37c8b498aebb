"""Interventions against edits written by hand, position by position."""

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens import Prompt, at
from semhub_lens.interventions.positions import ranks_of
from semhub_lens.model.hooking import Window, site_name

D_MODEL, D_HEAD, ROWS, LENGTH = 32, 8, 3, 6
NAME = "blocks.1.hook_resid_post"
STRENGTH = 0.7


def drawn(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TOKENS = torch.randint(3, 60, (ROWS, LENGTH), generator=torch.Generator().manual_seed(5))
A, B = drawn(D_MODEL, seed=1), drawn(D_MODEL, seed=2)
SOURCE = drawn(LENGTH, D_MODEL, seed=3)
MASK = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()

SELECTIONS = {  # what a user passes, and the positions of every row in the order of the list
    "slice": (slice(1, 3), [[1, 2]] * ROWS),
    "open slice": (slice(4, None), [[4, 5]] * ROWS),
    "stepped slice": (slice(1, None, 2), [[1, 3, 5]] * ROWS),
    "slice from the end": (slice(-3, -1), [[3, 4]] * ROWS),
    "int": (3, [[3]] * ROWS),
    "negative int": (-1, [[5]] * ROWS),
    "list, not in order": ([4, 0, -1], [[4, 0, 5]] * ROWS),
    "index tensor": (torch.tensor([2, 1]), [[2, 1]] * ROWS),
    "index tensor per row": (torch.tensor([[0, 1], [3, -1], [5, 4]]), [[0, 1], [3, 5], [5, 4]]),
    "mask": (MASK, [[0, 3], [], [0, 1, 2, 3, 4, 5]]),
    "everywhere": (None, [list(range(LENGTH))] * ROWS),
}


def reflect(h, s):
    w = A / A.norm() - B / B.norm()
    return h - 2 * s * (h @ w) / (w @ w) * w


EDITS = {  # the hook for n positions, and the same formula for one state h at the k-th position
    "add": (lambda s, p, n=LENGTH: shl.hooks.add(A, s, p), lambda h, s, k: h + s * A),
    "add, one vector each": (lambda s, p, n=LENGTH: shl.hooks.add(SOURCE[:n], s, p), lambda h, s, k: h + s * SOURCE[k]),
    "replace": (lambda s, p, n=LENGTH: shl.hooks.replace(A, s, p), lambda h, s, k: (1 - s) * h + s * A),
    "project_out": (
        lambda s, p, n=LENGTH: shl.hooks.project_out(A, s, p),
        lambda h, s, k: h - s * (h @ A) / (A @ A) * A,
    ),
    "swap": (lambda s, p, n=LENGTH: shl.hooks.swap(A, B, s, p), lambda h, s, k: reflect(h, s)),
    "patch": (
        lambda s, p, n=LENGTH: shl.hooks.patch(SOURCE[:n], p, strength=s),
        lambda h, s, k: (1 - s) * h + s * SOURCE[k],
    ),
    "patch, one source each": (
        lambda s, p, n=LENGTH: shl.hooks.patch(
            [SOURCE[: k or 1] for k in (n if isinstance(n, list) else [n] * ROWS)], p, strength=s
        ),
        lambda h, s, k: (1 - s) * h + s * SOURCE[k],
    ),
}
COUNTED = ("add, one vector each", "patch")
"""Edits with as many vectors as positions, the same for every row."""


def run(model, hooks, tokens=TOKENS):
    """Logits of a run of the user's own."""
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits")


def around(model, edit, name=NAME, tokens=TOKENS):
    """The activation before and after the edit hooks, as the objects that passed."""
    seen = []

    def keep(activation, hook):
        seen.append((activation, activation.clone()))

    run(model, [(name, keep), *edit, (name, keep)], tokens)
    (object_before, before), (_, after) = seen
    assert torch.equal(object_before, before), "the edit wrote into the tensor that it was given"
    return before, after


def by_hand(before, wanted, plain):
    expected = before.clone()
    for row, positions in enumerate(wanted):
        for k, position in enumerate(positions):
            expected[row, position] = plain(before[row, position].float(), k).to(before.dtype)
    return expected


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("edit", EDITS)
def test_edit_equals_the_formula_at_the_named_positions_and_nothing_elsewhere(tiny_model, edit, selection):
    (hook, plain), (positions, wanted) = EDITS[edit], SELECTIONS[selection]
    counts = [len(row) for row in wanted]
    if edit in COUNTED and len(set(counts)) > 1:
        with pytest.raises(shl.SemhubError, match="6 vectors were given, but 2 positions"):
            around(tiny_model, [(NAME, hook(STRENGTH, positions, max(counts)))])
        return
    number = counts if len(set(counts)) > 1 else counts[0]
    before, after = around(tiny_model, [(NAME, hook(STRENGTH, positions, number))])
    torch.testing.assert_close(after, by_hand(before, wanted, lambda h, k: plain(h, STRENGTH, k)), atol=1e-5, rtol=1e-5)
    changed = (after != before).any(-1)
    assert [row.nonzero()[:, 0].tolist() for row in changed] == [sorted(positions) for positions in wanted]


@pytest.mark.parametrize("edit", EDITS)
def test_strength_zero_is_no_hook_bit_for_bit(tiny_model, edit):
    assert torch.equal(run(tiny_model, at([1, 2], EDITS[edit][0](0.0, None))), run(tiny_model, []))
    assert not torch.equal(run(tiny_model, at([1, 2], EDITS[edit][0](1.0, None))), run(tiny_model, []))


@pytest.mark.parametrize("edit", EDITS)
def test_vectors_are_left_as_they_are(tiny_model, edit):
    kept = [tensor.clone() for tensor in (A, B, SOURCE)]
    run(tiny_model, at([1, 2, 3], EDITS[edit][0](STRENGTH, slice(0, 4), 4)))
    assert all(map(torch.equal, kept, (A, B, SOURCE)))


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("edit", EDITS)
def test_edits_keep_bfloat16_and_compute_in_float32(backend, edit):
    hook, plain = EDITS[edit]
    before, after = around(models.tiny(backend, dtype=torch.bfloat16), [(NAME, hook(STRENGTH, [0, 4], 2))])
    assert after.dtype == torch.bfloat16
    expected = by_hand(before, [[0, 4]] * ROWS, lambda h, k: plain(h, STRENGTH, k))
    torch.testing.assert_close(after, expected, atol=1e-3, rtol=2**-7)  # one unit in the last place


def test_project_out_leaves_no_component_and_all_that_is_orthogonal(tiny_model):
    before, after = around(tiny_model, at(2, shl.hooks.project_out(5 * A)))
    unit = A / A.norm()
    assert (before @ unit).abs().min() > 1e-3
    assert (after @ unit).abs().max() < 1e-5
    orthogonal = B - (B @ unit) * unit
    torch.testing.assert_close(after @ orthogonal, before @ orthogonal, atol=1e-3, rtol=1e-4)


def test_swap_is_an_involution_that_keeps_norms_and_exchanges_its_directions(tiny_model):
    swap = shl.hooks.swap(A, B)
    before, once = around(tiny_model, at(2, swap))
    _, twice = around(tiny_model, at(2, swap) + at(2, shl.hooks.swap(A, B)))
    torch.testing.assert_close(twice, before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(once.norm(dim=-1), before.norm(dim=-1))
    _, image = around(tiny_model, at(2, shl.hooks.replace(2 * A)) + at(2, swap))
    torch.testing.assert_close(image, (2 * A.norm() * B / B.norm()).expand_as(image), atol=1e-4, rtol=1e-4)


def logit_gradient(model, vector, hooks):
    model.run_with_hooks(TOKENS, fwd_hooks=hooks, return_type="logits")[0, -1, 3].backward()
    found, vector.grad = vector.grad.clone(), None
    return found


GRADIENT_EDITS = {
    "add": (lambda v: shl.hooks.add(v, 0.5), lambda h, v: h + 0.5 * v),
    "replace": (lambda v: shl.hooks.replace(v, 0.5), lambda h, v: h / 2 + v / 2),
    "project_out": (lambda v: shl.hooks.project_out(v), lambda h, v: h - (h @ v)[..., None] * v / v.norm() ** 2),
    "patch": (lambda v: shl.hooks.patch(v.expand(LENGTH, -1)), lambda h, v: 0 * h + v),
}


@pytest.mark.parametrize("edit", GRADIENT_EDITS)
def test_gradients_reach_the_direction_as_through_a_plain_formula(tiny_model, edit):
    hook, plain = GRADIENT_EDITS[edit]
    vector = A.clone().requires_grad_()
    reference = logit_gradient(tiny_model, vector, [(NAME, lambda activation, hook: plain(activation, vector))])
    assert reference.norm() > 1e-4
    fn = hook(vector)
    found = logit_gradient(tiny_model, vector, at(2, fn))
    torch.testing.assert_close(found, reference, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("edit", GRADIENT_EDITS)
def test_a_hook_serves_every_step_of_a_training_loop(tiny_model, edit):
    hook, plain = GRADIENT_EDITS[edit]
    vector = A.clone().requires_grad_()
    by_formula, fn = [(NAME, lambda activation, hook: plain(activation, vector))], hook(vector)
    for _ in range(2):
        reference, found = (logit_gradient(tiny_model, vector, hooks) for hooks in (by_formula, at(2, fn)))
        torch.testing.assert_close(found, reference, atol=1e-4, rtol=1e-3)
        vector.data += B  # what an optimiser's step does


@pytest.mark.parametrize("edit", EDITS)
def test_editing_resid_mid_changes_the_residual_stream_as_the_formula_says(tiny_model, edit):
    hook, plain = EDITS[edit]
    name, change = site_name(1, "resid_mid"), []

    def measure(activation, hook):
        change[:] = [by_hand(activation, [[0, 4]] * ROWS, lambda h, k: plain(h, STRENGTH, k)) - activation]

    def same_through_attention(activation, hook):
        return activation + change[0]  # resid_mid = resid_pre + attn_out

    run(tiny_model, [(name, measure)])
    through_attention = run(tiny_model, [(site_name(1, "attn_out"), same_through_attention)])
    edited = run(tiny_model, at(1, hook(STRENGTH, [0, 4], 2), site="resid_mid"))
    torch.testing.assert_close(edited, through_attention, atol=1e-4, rtol=1e-4)
    assert (edited - run(tiny_model, [])).abs().max() > 1e-2


@pytest.mark.skipif(not models.HOOKED_LINE, reason="this line has one model class")
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
@pytest.mark.parametrize("edit", EDITS)
def test_both_model_classes_give_the_same_logits_under_the_same_edit(site, edit):
    hooks = at([0, 2], EDITS[edit][0](STRENGTH, slice(1, 3), 2), site=site)
    hooked, bridge = (run(models.tiny(backend), hooks).log_softmax(-1) for backend in ("hooked", "bridge"))
    torch.testing.assert_close(hooked, bridge, atol=1e-4, rtol=1e-4)


def test_head_outputs_take_one_vector_for_all_heads_or_one_for_each_position(tiny_model):
    name = site_name(0, "z")
    vectors = drawn(4, D_HEAD)  # as many positions as heads, so that a mix-up would not raise
    before, after = around(tiny_model, at(0, shl.hooks.add(vectors[0], 1.0, [1]), site="z"), name)
    torch.testing.assert_close((after - before)[:, 1], vectors[0].expand(ROWS, 4, D_HEAD), atol=1e-5, rtol=1e-5)
    before, after = around(tiny_model, at(0, shl.hooks.add(vectors, 1.0, [0, 1, 2, 3]), site="z"), name)
    each = vectors[None, :, None].expand(ROWS, 4, 4, D_HEAD)  # [row pos head d_head]
    torch.testing.assert_close((after - before)[:, :4], each, atol=1e-5, rtol=1e-5)


def test_patch_picks_its_source_positions_and_its_source_item(tiny_model):
    _, after = around(tiny_model, at(2, shl.hooks.patch(SOURCE, [0, 1], source_positions=[4, 2])))
    assert torch.equal(after[:, :2], SOURCE[[4, 2]].expand(ROWS, 2, D_MODEL))
    sources = drawn(ROWS, 2, D_MODEL)
    _, after = around(tiny_model, at(2, shl.hooks.patch(sources, slice(2, 4))))
    assert torch.equal(after[:, 2:4], sources)


def test_patching_all_of_another_run_gives_that_run(tiny_model):
    other = TOKENS.flip(0)
    capture = shl.Capture(tiny_model, [1], site="resid_post")
    target = run(tiny_model, capture.hooks, other)
    patched = run(tiny_model, at(2, shl.hooks.patch(capture.result()[0])))
    torch.testing.assert_close(patched, target, atol=1e-5, rtol=1e-5)


def test_one_source_for_each_head_of_a_position_is_refused_and_one_for_all_heads_is_taken(tiny_model):
    name, source = site_name(0, "z"), drawn(4, D_HEAD)  # as many positions as heads
    _, after = around(tiny_model, at(0, shl.hooks.patch(source, [0, 1, 2, 3]), site="z"), name)
    assert torch.equal(after[:, :4], source[None, :, None].expand(ROWS, 4, 4, D_HEAD))
    with pytest.raises(shl.SemhubError, match="a site with heads cannot take"):
        run(tiny_model, at(0, shl.hooks.patch(drawn(ROWS, 1, D_HEAD), -1), site="z"))


NUMBERS = {
    "one too few": (SOURCE[:2], [0, 1, 2]),
    "one too many": (SOURCE[:3], [0, 1]),
    "many for one": (SOURCE, -1),
    "a slice": (SOURCE[:3], slice(0, 2)),
    "everywhere": (SOURCE[:5], None),
    "a mask": (SOURCE[:2], MASK),
    "past the end": (SOURCE[:2], [0, LENGTH]),
}


@pytest.mark.parametrize("site", ["resid", "resid_mid"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("fn", [shl.hooks.add, shl.hooks.replace, shl.hooks.patch])
def test_another_number_of_positions_than_of_vectors_is_refused(tiny_model, fn, number, site):
    vectors, positions = NUMBERS[number]
    hooks = at(2, fn(vectors, positions=positions), site=site)
    with pytest.raises(
        shl.SemhubError, match=r"\d vectors were given, but \d positions selected in the prompt 'row \d'"
    ):
        run(tiny_model, hooks)
    passes = []
    spy = ("blocks.0.hook_resid_pre", lambda activation, hook: passes.append(1))
    for call in (
        lambda: shl.residual_stream(tiny_model, TOKENS, hooks=[spy, *hooks], progress=False),
        lambda: shl.generate(tiny_model, TOKENS, hooks=[spy, *hooks], max_new_tokens=1, progress=False),
    ):
        with pytest.raises(shl.SemhubError, match=r"vectors were given, but|past the end"):
            call()
    assert not passes


def test_generated_tokens_take_one_vector_each(tiny_model):
    for wrong in (2, 4):
        with pytest.raises(shl.SemhubError, match=f"{wrong} vectors were given, but 3 positions"):
            hooks = at(2, shl.hooks.add(SOURCE[:wrong], positions="generated"))
            shl.generate(tiny_model, TOKENS, hooks=hooks, max_new_tokens=4, progress=False)
    clean, capture = (shl.Capture(tiny_model, [1], site="resid_post") for _ in range(2))
    vectors = 100 * SOURCE[:3]
    hooks = [*clean.hooks, *at(2, shl.hooks.add(vectors, positions="generated")), *capture.hooks]
    shl.generate(tiny_model, TOKENS[0], hooks=hooks, max_new_tokens=4, progress=False)
    moved = (capture.result(0) - clean.result(0))[0, LENGTH:]
    torch.testing.assert_close(moved, vectors[: len(moved)], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    "fn",
    [
        lambda: shl.hooks.patch(drawn(2, 1, D_MODEL), -1),
        lambda: shl.hooks.patch([SOURCE[:1], SOURCE[:1]], -1),
        lambda: shl.hooks.add(SOURCE[:2], positions=-1, each="item"),
        lambda: shl.hooks.replace(SOURCE[:4], positions=-1, each="item"),
    ],
)
def test_another_number_of_prompts_than_of_vectors_is_refused(tiny_model, fn):
    with pytest.raises(ValueError, match=r"sources for \d prompts .*but the run has 3"):
        run(tiny_model, at(2, fn()))
    with pytest.raises(ValueError, match=r"sources for \d prompts .*but the run has 3"):
        shl.residual_stream(tiny_model, TOKENS, hooks=at(2, fn()), progress=False)


def test_a_source_that_is_not_there_or_of_another_width_is_refused(tiny_model):
    with pytest.raises(ValueError, match="33 entries"):
        run(tiny_model, at(2, shl.hooks.patch(drawn(1, 33), -1)))
    with pytest.raises(ValueError, match="different widths"):
        shl.hooks.patch([SOURCE, SOURCE[:, :5]])
    with pytest.raises(ValueError, match="past the end of a source"):
        shl.hooks.patch(SOURCE, [0], source_positions=[LENGTH])


@pytest.mark.parametrize(
    "fn", [shl.hooks.add, shl.hooks.replace, shl.hooks.project_out, lambda v: shl.hooks.swap(v, -v)]
)
def test_a_vector_that_is_not_finite_or_not_of_the_models_size_raises(tiny_model, fn):
    with pytest.raises(ValueError, match="NaN or infinite"):
        fn(torch.full((D_MODEL,), torch.nan))
    with pytest.raises(ValueError, match=f"{D_MODEL + 1} entries"):
        run(tiny_model, at(2, fn(torch.ones(D_MODEL + 1))))


def test_directions_that_define_nothing_raise():
    with pytest.raises(ValueError, match="non-zero"):
        shl.hooks.project_out(torch.zeros(4))
    with pytest.raises(ValueError, match="same direction"):
        shl.hooks.swap(A, 3 * A)


@pytest.mark.parametrize(
    ("layers", "site", "message"),
    [
        (0, "residual", "Unknown site"),
        (-1, "resid", "Layer -1 is negative"),
        (-1, "resid_pre", "negative"),
        ([0, -2], "z", "negative"),
        ([], "z", "no layers"),
    ],
)
def test_unknown_sites_and_layers_raise(layers, site, message):
    with pytest.raises(ValueError, match=message):
        at(layers, shl.hooks.add(A), site=site)


def test_at_pairs_the_function_with_every_layer():
    fn = shl.hooks.add(A)
    assert at([3, 1], fn) == [("blocks.2.hook_resid_post", fn), ("blocks.0.hook_resid_post", fn)]
    assert at(1, fn, site="resid_pre") == [("blocks.1.hook_resid_pre", fn)]
    assert [name for name, _ in at(range(2), fn, site="z")] == ["blocks.0.attn.hook_z", "blocks.1.attn.hook_z"]


BAD_POSITIONS = {
    "int": (6, "past the end"),
    "negative int": (-3, "past the end"),
    "list": ([0, 3], "past the end"),
    "index tensor": (torch.tensor([[0], [3]]), "past the end"),
    "wrong number of prompts": (torch.tensor([[0], [0], [0]]), "3 prompts"),
    "mask too wide": (torch.ones(2, 7).bool(), "past the end"),
    "mask over a short prompt's padding": (torch.tensor([[1, 0, 0, 0], [1, 0, 0, 1]]).bool(), "past the end|2 tokens"),
    "mask without rows": (torch.ones(6).bool(), "past the end"),
    "unknown span": ("verb", "verb"),
}


@pytest.mark.parametrize("wrong", BAD_POSITIONS)
@pytest.mark.parametrize("run_it", [shl.residual_stream, lambda m, p, **s: shl.generate(m, p, max_new_tokens=1, **s)])
def test_positions_that_the_prompts_lack_raise_before_the_model_runs(tiny_model, run_it, wrong):
    positions, message = BAD_POSITIONS[wrong]
    calls = []
    spy = ("blocks.0.hook_resid_pre", lambda activation, hook: calls.append(len(activation)))
    prompts = [Prompt.from_ids(TOKENS[0], spans={"noun": [1]}), Prompt.from_ids([5, 6], spans={"noun": [0]})]
    with pytest.raises(ValueError, match=message):
        run_it(tiny_model, prompts, hooks=[spy, *at(2, shl.hooks.add(A, positions=positions))], progress=False)
    assert calls == []
    run_it(tiny_model, prompts, hooks=[spy, *at(2, shl.hooks.add(A, positions="noun"))], progress=False)
    assert calls


def test_ranks_of_ragged_spans_are_those_of_a_loop_over_rows_and_positions():
    lengths = torch.tensor([6, 3, 9, 4])
    spans = ((2, 0, 5), (), (7, 1, 7, 20), (3,))  # out of order, empty, twice the same, past the end
    window = Window(
        torch.arange(4), lengths - 9, lengths, tuple({"word": span} for span in spans), generated=2
    )  # padded on the left, as in generation
    absolute = window.positions(11)
    expected = torch.full_like(absolute, -1)
    for row, span in enumerate(spans):
        for rank, position in enumerate(span):
            expected[row][absolute[row] == position] = rank
    assert torch.equal(ranks_of("word", window, 11), expected) and (expected >= 0).sum() == 6
    assert (ranks_of(torch.tensor([-5]), window, 11)[1] == -1).all(), "a position before the prompt is no padding"
