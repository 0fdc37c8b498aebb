"""Controls: random weights, alignment measures with their nulls, matched negatives, trajectories."""

from types import SimpleNamespace

import pytest
import torch

import semhub_lens as shl
from samples import leg_text
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.legs import make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.legs_in_common import Stacks, matched_negatives, similarity_legs
from semhub_lens.geometry.alignment import cka_null, debiased_cka, fitting_k, mutual_neighbours, neighbours_null
from semhub_lens.geometry.shifted_cka import shifts
from semhub_lens.lens.trajectories import trajectories

WORDING = leg_text()
WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def test_random_weights_keep_shape_and_scale_and_lose_what_was_learned(tiny_model):
    before = [p.detach().clone() for p in tiny_model.parameters()]
    random = shl.untrained(tiny_model, seed=3)
    assert all(torch.equal(p, old) for p, old in zip(tiny_model.parameters(), before, strict=True))
    for drawn, old in zip(random.parameters(), before, strict=True):
        assert drawn.shape == old.shape
        if old.ndim < 2 or old.std() == 0:
            assert torch.equal(drawn, old)
        else:
            assert not torch.equal(drawn, old)
            assert float(drawn.detach().std()) == pytest.approx(float(old.std()), rel=0.25)
    states = [shl.residual_stream(m, ["three plus two"], progress=False) for m in (tiny_model, random)]
    assert not torch.allclose(*states) and 0.2 < float(states[1].norm() / states[0].norm()) < 5


def test_random_weights_are_reproducible_and_differ_between_seeds(tiny_model):
    one, same, other = (shl.untrained(tiny_model, seed=seed).W_U for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_mutual_neighbours_by_hand():
    line = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [-1.0, 0.0], [-1.0, 0.1]])[None]
    crossed = line[:, [0, 2, 1, 3, 4, 5]]  # the first two pairs of neighbours are torn apart, the third is not
    assert fitting_k(6, 1) == 1
    assert float(mutual_neighbours(line, line, k=1)) == 1
    assert float(mutual_neighbours(line, crossed, k=1)) == pytest.approx(2 / 6)


def test_independent_states_share_neighbours_by_chance_and_shared_ones_more_than_their_null():
    a, b = noise(2, 60, 20), noise(2, 60, 20, seed=1)
    assert mutual_neighbours(a, b).mean() == pytest.approx(10 / 59, abs=0.05)
    null = neighbours_null(a, b, seed=0, draws=100)
    assert null.mean() == pytest.approx(10 / 59, abs=0.02)
    assert (mutual_neighbours(a, a + 0.3 * b) > null.amax(0)).all()


def test_the_null_of_cka_is_that_of_the_permuted_pairing_and_centred_at_zero():
    a, b = noise(1, 40, 12), noise(1, 40, 12, seed=1)
    null = cka_null(a, b, seed=5, draws=200)
    order, steps = shifts(40, 5, 200)[0]
    partners = torch.empty(40, dtype=torch.long).scatter_(0, order, order.roll(-int(steps[0])))
    torch.testing.assert_close(null[0], debiased_cka(a, b[:, partners]), atol=1e-5, rtol=1e-4)
    assert abs(float(null.mean())) < 0.01


def test_alignment_measures_ignore_rotation_and_scale():
    a, b = noise(1, 50, 10), noise(1, 50, 10, seed=1)
    turn = torch.linalg.qr(noise(10, 10, seed=2)).Q
    torch.testing.assert_close(mutual_neighbours(a, b), mutual_neighbours(a @ turn * 7, b))


def test_similarity_reports_alignment_with_nulls():
    a = noise(2, 40, 16)
    found = shl.similarity(a, a + 0.2 * noise(2, 40, 16, seed=1), seed=0, draws=50)
    shuffled = shl.similarity(a, a[:, derangement(40, generator(2))], seed=0, draws=50)
    assert (found.neighbours > found.neighbours_null.amax(0)).all() and (found.cka > found.cka_null.amax(0)).all()
    assert (shuffled.neighbours <= shuffled.neighbours_null.amax(0)).all()
    assert (shuffled.neighbours < found.neighbours / 2).all() and (shuffled.cka.abs() < 0.3).all()


def test_matched_negatives_have_the_partners_length_and_overlap(tiny_model):
    a = ["one", "two", "three plus two", "red dog cat house"]
    b = ["one", "one two", "three plus four", "red dog cat house"]
    negatives = matched_negatives(tiny_model, a, b, k=1)
    assert all(int(chosen) != item for item, (chosen,) in enumerate(negatives.tolist()))
    assert negatives[1].item() in (0, 2) and negatives[3].item() == 2


def stacks(seed=0, shared=2.0, embedding=0.0, random=0.0):
    """Pairs that share a signal at layer 3, and perhaps at the embedding or in the random model."""
    signal = noise(1, 60, 24, seed=seed)
    at = torch.zeros(6, 1, 1)
    at[3], at[0] = shared, embedding
    a, b = (noise(6, 60, 24, seed=seed + i) + at * signal for i in (1, 2))
    weak = torch.zeros(6, 1, 1)
    weak[3] = random
    r = tuple(noise(6, 60, 24, seed=seed + i) + weak * signal for i in (3, 4))
    bags = tuple(noise(1, 60, 24, seed=seed + i) for i in (5, 6))
    negatives = torch.stack([torch.tensor([(i + 1) % 60, (i + 2) % 60]) for i in range(60)])
    return Stacks(a, b, r, bags, negatives)


def holding(leg):
    return {check.name for check in leg.checks if check.holds}


def test_an_effect_of_the_middle_layers_holds_against_every_control():
    (leg,) = similarity_legs(stacks(), WORDING, WHERE, 0)
    assert leg.verdict.status == "supported" and leg.layer == 3
    assert holding(leg) == set(leg.control_names) and len(leg.control_names) == 4


def test_an_effect_that_is_there_at_the_embedding_does_not_hold_against_it():
    assert "beyond the embedding layer" not in holding(*similarity_legs(stacks(embedding=2.0), WORDING, WHERE, 0))


def test_an_effect_that_random_weights_have_too_does_not_hold_against_them():
    assert "beyond random weights" not in holding(*similarity_legs(stacks(random=2.0), WORDING, WHERE, 0))


def test_an_effect_that_the_matched_negatives_share_does_not_hold_against_them():
    planted = stacks()
    same = torch.arange(60)[:, None].expand(60, 2).clone()
    (leg,) = similarity_legs(Stacks(planted.a, planted.b, negatives=same), WORDING, WHERE, 0)
    assert "over length- and overlap-matched negatives" not in holding(leg)


@pytest.mark.parametrize(("strength", "holds"), [(0.0, True), (3.0, False)])
def test_a_placebo_holds_exactly_if_it_has_no_effect(strength, holds):
    effect = noise(4, 40) + torch.tensor([0.0, 0, 3, 0])[:, None]
    placebo = noise(4, 40, seed=1) + torch.tensor([0.0, strength, 0, 0])[:, None]
    leg = make_leg(
        effect,
        sign_flips(effect),
        WORDING,
        provenance=WHERE,
        seed=0,
        curves={},
        placebos={"random weights": (placebo, sign_flips(placebo))},
    )
    assert leg.verdict.status == "supported" and [c.holds for c in leg.checks] == [holds]


def test_a_grid_of_interventions_names_its_cell_and_may_choose_its_first_row():
    effect = noise(4, 40) + torch.tensor([3.0, 0, 0, 0])[:, None]
    grid = [(5, 1.0), (5, 2.0), (9, 1.0), (9, 2.0)]
    leg = make_leg(effect, sign_flips(effect), WORDING, provenance=WHERE, seed=0, curves={}, grid=grid)
    assert (leg.layer, leg.strength, leg.verdict.status) == (5, 1.0, "supported")
    frame = leg.to_frame()
    chosen = frame[(frame.layer == 9) & (frame.strength == 2.0)].effect.to_numpy()
    assert torch.equal(torch.tensor(chosen), effect[3])


def test_labels_or_cells_that_do_not_fit_are_refused():
    effect = noise(3, 40)
    for wrong in ({"labels": ["a"]}, {"grid": [(1, 1.0)]}):
        with pytest.raises(ValueError, match="rows and 40 items"):
            make_leg(effect, sign_flips(effect), WORDING, provenance=WHERE, seed=0, curves={}, **wrong)


def test_a_path_that_ends_at_an_anchor_is_drawn_there():
    anchors = noise(5, 16)
    states = torch.stack([noise(2, 16, seed=1), anchors[:2] * 3])
    found = trajectories(states, anchors, anchor_names=[*"abcde"], labels=["x", "y"], provenance=WHERE)
    torch.testing.assert_close(found.path[1], found.anchors[:2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.cosine[1].argmax(1), torch.tensor([0, 1]))
    drawn = shl.figure(found)
    assert list(drawn.data[0].x) == pytest.approx(found.path[:, 0, 0].tolist())
    assert list(drawn.data[-1].x) == pytest.approx(found.anchors[:, 0].tolist())


def test_paths_do_not_depend_on_the_scale_of_states_or_anchors():
    states, anchors = noise(3, 4, 16), noise(5, 16, seed=1)
    names = {"anchor_names": [*"abcde"], "labels": list("wxyz"), "provenance": WHERE}
    one, other = trajectories(states, anchors, **names), trajectories(states * 9, anchors * 0.1, **names)
    torch.testing.assert_close(one.path.abs(), other.path.abs(), atol=1e-5, rtol=1e-4)


def test_too_few_anchors_are_refused():
    with pytest.raises(ValueError, match="at least three anchors"):
        trajectories(noise(3, 2, 8), noise(2, 8), anchor_names=["a", "b"], labels=["x", "y"], provenance=WHERE)


def test_states_that_all_point_the_same_way_have_no_neighbours():
    a, b = noise(2, 40, 8), noise(2, 40, 8, seed=1)
    a[0] = a[0, :1]
    found = mutual_neighbours(a, b)
    assert found[0].isnan() and torch.isfinite(found[1])
    assert neighbours_null(a, b, seed=0, draws=3)[:, 0].isnan().all()


def test_random_weights_are_the_same_on_any_number_of_threads():
    class Big(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.W_U = torch.nn.Parameter(0.02 * torch.randn(1501, 997, generator=generator(0)) + 0.3)
            self.cfg = SimpleNamespace(model_name="big")

        def run_with_hooks(self):
            """What marks a model."""

    before, drawn = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            drawn.append(shl.untrained(Big(), seed=0).W_U)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*drawn)
