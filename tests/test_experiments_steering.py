"""Steering legs: found where a sweep moves a score beyond random directions, gone where the two are exchanged."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens.experiments.steering import BEYOND, spread, steering_leg
from semhub_lens.interventions.sweep_result import SweepResult
from semhub_lens.legs import Wording
from semhub_lens.stats import generator

WORDING = Wording("planted", "arithmetic", "causality", "steering works", "signs flipped", "share", "share")
CONDITIONS = ("steered", "random", "flipped", "unrelated", "last layer")
WHERE = shl.Provenance("m", "w", "c", "float32", "cpu", "none", True, seed=0)


def grid(shifts, items=48):
    """A sweep of 2 layers and 3 strengths in which condition c moves the score by shifts[c] at layer 5, strength 2."""
    scores = 0.3 * torch.randn(5, 2, 3, 2, items, generator=generator(1))
    scores[:, 1, 1, 0] += torch.tensor(shifts)[:, None]
    scores[:, :, :, 1] = scores[:, :, :, 1].abs()
    return SweepResult(
        CONDITIONS, (3, 5), (1.0, 2.0, 4.0), ("hit", "cost"), ("cost",),
        torch.zeros(2, items), scores, torch.ones(2, items), provenance=WHERE,
    )  # fmt: skip


def leg(shifts):
    return steering_leg(grid(shifts), "hit", WORDING, WHERE, 0)


def test_a_planted_effect_is_found_in_its_cell_and_holds_against_every_control():
    found = leg([1.0, 0.0, -1.0, 0.0, 0.0])
    assert found.verdict.status == "supported" and (found.layer, found.strength) == (5, 2.0)
    assert found.verdict.estimate == pytest.approx(1.0, abs=0.25)
    assert {check.name: check.holds for check in found.checks} == dict.fromkeys(BEYOND.values(), True)


def test_an_effect_that_random_directions_have_as_well_is_none():
    assert leg([1.0, 1.0, 0.0, 0.0, 0.0]).verdict.status != "supported"


@pytest.mark.parametrize("condition", ["flipped", "unrelated", "last layer"])
def test_a_control_that_does_the_same_fails_its_check_alone(condition):
    shifts = [1.0, 0.0, 0.0, 0.0, 0.0]
    shifts[CONDITIONS.index(condition)] = 1.0
    holds = {check.name: check.holds for check in leg(shifts).checks}
    assert [name for name, held in holds.items() if not held] == [BEYOND[condition]]


def test_without_an_effect_no_cell_of_many_is_supported():
    found = [steering_leg(grid([0.0] * 5), "hit", WORDING, WHERE, seed).verdict.status for seed in range(6)]
    assert found.count("supported") <= 1


def test_rows_are_the_cells_of_the_sweep_in_order():
    result, found = grid([1.0, 0.0, -1.0, 0.0, 0.0]), leg([1.0, 0.0, -1.0, 0.0, 0.0])
    row = [(layer, s) for layer, s in zip(found.layers, found.strengths, strict=True)].index((5, 4.0))
    assert torch.equal(found.effect[row], result.contrast("hit")[1, 2])
    curves = dict(zip(found.curve_names, found.curves, strict=True))
    assert float(curves["flipped"][row]) == pytest.approx(float(result.scores[2, 1, 2, 0].mean()), abs=1e-6)
    assert float(curves["damage: cost"][row]) == pytest.approx(float(result.scores[0, 1, 2, 1].mean()), abs=1e-6)
    assert shl.figure(found).data


def test_layers_are_spread_inside_the_depth():
    assert spread(18) == (3, 6, 9, 12, 15) and spread(2) == (1,) and spread(1) == (1,)
    assert all(0 < layer < 30 for layer in spread(30, 7)) and len(spread(30, 7)) == 7
