"""Positions in every form that users have them in: lists, ranges, arrays, tensors, masks."""

import numpy as np
import pytest
import torch

import semhub_lens as shl
from semhub_lens.interventions.positions import as_positions

TEXTS = ["three plus two equals", "red dog two three"]
FORMS = {
    "list": [4, 2],
    "tuple": (4, 2),
    "array": np.array([4, 2], dtype=np.int32),
    "bytes": torch.tensor([4, 2], dtype=torch.uint8),
    "numpy integers": [np.int64(4), np.int16(2)],
    "tensors": [torch.tensor(4), torch.tensor(2)],
    "range": range(4, 1, -2),
    "a row each": [[4, 2], [4, 2]],
    "array of rows": np.array([[4, 2], [4, 2]]),
}
MASKS = {
    "list of truth values": [False, False, True, False, True],
    "array": np.array([False, False, True, False, True]),
    "numpy truth values": [np.bool_(i in (2, 4)) for i in range(5)],
    "a row each": [[False, False, True, False, True]] * 2,
    "array of rows": np.array([[False, False, True, False, True]] * 2),
    "zeros and ones made a mask": torch.tensor([0, 0, 1, 0, 1]).bool(),
}
ONES = torch.ones(32)
TWO = torch.stack([ONES, 2 * ONES])


def states(model, positions, direction=ONES):
    hooks = shl.at(1, shl.hooks.add(direction, 3.0, positions=positions))
    return shl.residual_stream(model, TEXTS, hooks=hooks, progress=False)


@pytest.mark.parametrize("form", FORMS)
def test_indices_mean_the_same_in_every_form_and_order_counts(tiny_model, form):
    expected = states(tiny_model, torch.tensor([4, 2]), TWO)
    assert torch.equal(states(tiny_model, FORMS[form], TWO), expected)
    assert not torch.equal(states(tiny_model, [2, 4], TWO), expected)


@pytest.mark.parametrize("form", MASKS)
def test_masks_mean_the_same_in_every_form(tiny_model, form):
    assert torch.equal(states(tiny_model, MASKS[form]), states(tiny_model, [2, 4]))


@pytest.mark.parametrize(
    "given, plain", [(np.int64(-1), -1), (torch.tensor(3), 3), (slice(np.int64(1), np.int64(3)), slice(1, 3))]
)
def test_numpy_and_torch_numbers_are_numbers(tiny_model, given, plain):
    assert torch.equal(states(tiny_model, given), states(tiny_model, plain))
    assert not torch.equal(states(tiny_model, given), states(tiny_model, 2))


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([0, 0, 1, 0, 1]),
        np.array([1, 1, 1], dtype=np.uint8),
        [0, 1, 1],
        (0, 0),
        torch.tensor([[1, 1, 0], [0, 0, 1]]),
        [[1, 0, 1, 1]],
    ],
)
def test_zeros_and_ones_are_refused_with_both_readings(mask):
    with pytest.raises(ValueError, match=r"mask of zeros and ones.*indices.*mask\.bool\(\).*each index only once"):
        shl.hooks.add(ONES, positions=mask)


@pytest.mark.parametrize("indices", [[0], [1], [0, 1], [1, 0], [[1, 1]], [[0, 0], [1, 1]], [0, 1, 2], [1, 1, -1], []])
def test_indices_that_are_no_mask_stay_indices(indices):
    assert as_positions(indices).tolist() == indices


@pytest.mark.parametrize(
    "wrong",
    [1.5, True, np.True_, [0.5], np.array([1.0]), ["a"], [[0], [1, 2]], {1: 2}, [[[True]]], 1j, torch.tensor(1.0)],
)
def test_what_is_no_position_is_refused(wrong):
    with pytest.raises(ValueError, match="positions= takes whole numbers, a slice, a mask or a span's name"):
        as_positions(wrong)


def test_a_mask_past_the_end_is_refused_before_the_model_runs(tiny_model):
    with pytest.raises(ValueError, match="Position 5 is past the end"):
        states(tiny_model, [False] * 5 + [True])
    with pytest.raises(ValueError, match="mask includes position 5, past the end"):
        states(tiny_model, [[False] * 5 + [True]] * 2)
