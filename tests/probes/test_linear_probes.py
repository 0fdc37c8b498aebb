"""Linear probes: planted concepts are found where they are and nowhere else, and controls that must fail do."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import semhub_lens as shl
from planted import CONCEPTS, ITEMS, LAYERS, directions, labels, noise, planted
from semhub_lens.base.rng import generator
from semhub_lens.evidence.stats import verdict
from semhub_lens.probes.fitting import Standard
from semhub_lens.probes.items import follow, split

CHEAP = shl.ProbeSetup(control_draws=2)
PLANTED, ELSEWHERE = [2, 3], [0, 1, 4]
CHANCE = 1 / 3
NEAR_CHANCE = 0.22  # three standard errors of 60 items at 1/3, rounded up
ROWS = list(range(ITEMS))


def probe(states, names=None, **settings):
    return shl.linear_probe(states, labels() if names is None else names, **({"setup": CHEAP, "seed": 0} | settings))


def assert_at_chance(accuracy, tolerance=NEAR_CHANCE):
    assert (accuracy - CHANCE).abs().max() < tolerance, accuracy


def test_a_concept_shared_by_two_types_is_found_in_its_layers_only_and_transfers():
    found = probe(planted(0), test=(planted(1), labels()))
    assert found.accuracy[PLANTED].min() > 0.95 and found.transfer[PLANTED].min() > 0.95
    assert_at_chance(found.accuracy[ELSEWHERE])
    assert_at_chance(found.transfer[ELSEWHERE])
    assert found.chance == found.across.chance == pytest.approx(CHANCE)
    torch.testing.assert_close(found.selectivity, found.accuracy - found.control.mean(0))


def test_on_shuffled_labels_the_mean_accuracy_is_that_of_chance():
    settings = {"test": (planted(1), labels()), "setup": shl.ProbeSetup(control_draws=40)}
    found = probe(planted(0), **settings)
    assert_at_chance(found.control.mean(0), 0.04)
    assert_at_chance(found.across.control.mean(0), 0.12)  # clusters get one label whole, so draws vary widely


def test_without_the_pairing_of_states_and_labels_everything_is_at_chance():
    order = torch.randperm(ITEMS, generator=generator(5)).tolist()
    wrong = [labels()[i] for i in order]
    found = probe(planted(0), wrong, test=(planted(1), labels()))
    assert_at_chance(found.accuracy)
    untrained = probe(planted(0), test=(planted(1), wrong))
    assert untrained.accuracy[2] > 0.95
    assert_at_chance(untrained.transfer)


def test_types_can_be_separable_and_share_a_direction():
    offset = 30 * directions(7, 1)[0] + 3 * directions(100).sum(0) - 9 * directions(100)[0]
    stacks = {"en": planted(0), "fr": planted(1, offset=offset)}
    settings = {"groups": "rows", "setup": CHEAP, "seed": 0}
    centred = shl.transfer_matrix(stacks, dict.fromkeys(stacks, labels()), centre="own", **settings)
    assert centred.type_probe.accuracy.min() > 0.99
    assert centred.accuracy[:, :, PLANTED].min() > 0.95
    raw = shl.transfer_matrix(stacks, dict.fromkeys(stacks, labels()), centre="none", **settings)
    assert raw.within[PLANTED].min() > 0.95  # the offset hides the shared direction only from the other type
    assert raw.across[PLANTED].max() < 0.7
    assert torch.equal(raw.type_probe.predicted, centred.type_probe.predicted)


def test_a_concept_along_other_directions_in_another_type_does_not_transfer():
    basis = torch.linalg.qr(torch.cat([directions(100), noise(9)[0, :3]]).T)[0].T
    stacks = {"en": planted(0), "fr": noise(1)}
    for layer in PLANTED:  # directions orthogonal to those of "en"
        stacks["fr"][layer] += 8 * basis[[3 + i % 3 for i in ROWS]]
    names = dict.fromkeys(stacks, labels())
    found = shl.transfer_matrix(stacks, names, groups="rows", centre="own", setup=CHEAP, seed=0)
    assert found.within[PLANTED].min() > 0.95
    assert_at_chance(found.across)


def test_types_without_a_difference_are_not_told_apart():
    stacks = {"en": planted(0), "fr": planted(1)}
    found = shl.transfer_matrix(stacks, dict.fromkeys(stacks, labels()), groups="rows", setup=CHEAP, seed=0)
    assert (found.type_probe.accuracy - 0.5).abs().max() < 0.17 and found.type_probe.chance == 0.5


def test_accuracy_does_not_depend_on_the_order_of_items_if_groups_are_named():
    states, order = planted(0, strength=3.0), torch.randperm(ITEMS, generator=generator(1))
    found = probe(states, groups=ROWS)
    moved = probe(states[:, order], [labels()[i] for i in order], groups=order)
    assert torch.equal(moved.within.predicted, found.within.predicted[:, order])
    assert 0.4 < found.accuracy[2] < 0.99  # not trivially equal


def test_the_scale_of_states_does_not_matter():
    states, other = planted(0, strength=3.0), planted(1, strength=3.0)
    found, scaled = (probe(f * states, test=(f * other, labels())) for f in (1, 4096.0))
    assert torch.equal(found.within.predicted, scaled.within.predicted)
    assert torch.equal(found.across.predicted, scaled.across.predicted)


def test_one_seed_gives_one_result_and_another_seed_other_folds():
    states = planted(0, strength=3.0)
    first, again, other = probe(states), probe(states), probe(states, seed=1)
    assert torch.equal(first.within.predicted, again.within.predicted) and torch.equal(first.control, again.control)
    assert not torch.equal(first.within.predicted, other.within.predicted)


def duplicates():
    """Forty random items, each twice but for a little noise, with random labels: nothing to learn but the copies."""
    base = noise(3, 40, width=200)
    states = torch.cat([base, base + 0.01 * noise(4, 40, width=200)], 1)
    names = [CONCEPTS[int(i)] for i in torch.randint(3, (40,), generator=generator(2))]
    return states, names * 2, [f"item {i}" for i in range(40)] * 2


def test_a_probe_that_knows_copies_of_its_test_items_is_at_chance_once_groups_are_named():
    states, names, groups = duplicates()
    assert probe(states, names).accuracy.min() > 0.8
    assert_at_chance(probe(states, names, groups=groups).accuracy, 0.25)


def test_a_test_set_of_copies_is_predicted_out_of_fold_if_it_shares_groups():
    states, names, groups = duplicates()
    one, two = slice(0, 40), slice(40, 80)
    cheat = probe(states[:, one], names[one], test=(states[:, two], names[two]))
    assert cheat.transfer.min() > 0.7  # four of five probes trained on the copy
    fair = probe(states[:, one], names[one], groups=groups[one], test=(states[:, two], names[two], groups[two]))
    assert_at_chance(fair.transfer, 0.3)
    assert torch.equal(cheat.within.labels, fair.within.labels)


def test_folds_keep_groups_together_and_classes_spread():
    groups = torch.arange(30).repeat(4)[torch.randperm(120, generator=generator(0))]
    codes = groups % 3
    items = shl.probes.items.Items(noise(0, 120), codes, groups)
    fold = split(items, 5, seed=3)
    for group in range(30):
        assert len(fold[groups == group].unique()) == 1
    for code in range(3):
        assert fold[codes == code].bincount().tolist() == [8] * 5
    others = follow(torch.tensor([0, 0, 7, 99, 99, 98]), groups, fold, 5, seed=0)
    assert others[0] == others[1] == fold[groups == 0][0] and others[2] == fold[groups == 7][0]
    assert others[3] == others[4]


@pytest.mark.parametrize(("classes", "items"), [(3, 60), (3, 18), (2, 60), (7, 40)])
def test_one_layer_equals_plain_scikit_learn(classes, items):
    states, c = planted(0, strength=3.0, items=items)[2], 0.05
    codes = torch.arange(items) % classes
    found = shl.train_probe(states[None], codes, setup=shl.ProbeSetup(c=c, tol=1e-7))
    scaler = StandardScaler().fit(states.double().numpy())
    plain = LogisticRegression(C=2 * c if classes == 2 else c, solver="lbfgs", tol=1e-9, max_iter=9999)
    plain.fit(scaler.transform(states.double().numpy()), codes.numpy())
    new = noise(8)[:1]
    expected = plain.predict_log_proba(scaler.transform(new[0].double().numpy()))
    torch.testing.assert_close(found.log_probs(new)[0], torch.tensor(expected).float(), atol=1e-4, rtol=1e-4)
    assert found.log_probs(new).std() > 0.05


def test_predictions_are_those_of_plain_scikit_learn_fold_by_fold():
    states, groups = planted(0, strength=3.0), torch.arange(ITEMS)
    found = probe(states, groups=groups, centre="own", setup=shl.ProbeSetup(c=0.05, tol=1e-6, control_draws=0))
    items = shl.probes.items.Items(states, found.within.labels, groups)
    fold, codes, layer = split(items, 5, seed=0).numpy(), found.within.labels.numpy(), states[2].double().numpy()
    for number in range(5):
        inside = fold != number
        scaler = StandardScaler().fit(layer[inside])
        plain = LogisticRegression(C=0.05, tol=1e-8, max_iter=9999).fit(scaler.transform(layer[inside]), codes[inside])
        expected = plain.predict(scaler.transform(layer[~inside]))
        assert found.within.predicted[2, torch.as_tensor(~inside)].tolist() == expected.tolist()
    assert found.selectivity.isnan().all()


def test_a_class_that_shuffled_labels_leave_out_is_never_predicted_and_a_single_one_always():
    states = noise(0)[0].double().numpy()
    space = Standard(states)
    for drawn in ([[0, 2]], [[1]], [[0, 1, 2], [0, 2], [1]]):
        codes = np.array([[present[i % len(present)] for i in range(ITEMS)] for present in drawn])
        weights, bias = space.fit(space.place(states), codes, 3, CHEAP)
        for present, rows, shift in zip(drawn, weights, bias, strict=True):
            assert set((space.place(states) @ rows.T + shift).argmax(1)) == set(present)


def test_labelings_that_are_fitted_together_find_the_minimum_of_each():
    states, setup = planted(0, strength=3.0)[1].double().numpy(), shl.ProbeSetup(tol=1e-8)
    space, draw = Standard(states), np.random.default_rng(0)
    labelings = np.stack([draw.integers(0, most, ITEMS) for most in (3, 3, 2)])  # the last one lacks a class
    together = space.fit(space.place(states), labelings, 3, setup)
    for found in zip(*together, labelings, strict=True):
        alone = space.fit(space.place(states), found[2][None], 3, setup)
        for ours, expected in zip(found[:2], alone, strict=True):
            np.testing.assert_allclose(ours, expected[0], atol=1e-6)


def test_states_that_are_all_the_same_predict_the_largest_class():
    states = torch.full((2, 30, 6), 5.0)
    found = probe(states, ["a"] * 18 + ["b"] * 12)
    assert found.accuracy.tolist() == pytest.approx([0.6] * 2) and found.chance == pytest.approx(0.6)


def test_the_mean_of_each_type_is_taken_outside_the_fold():
    """With centre="own" an item does not move its own centre: one huge test item changes no other of its fold."""
    other = planted(1, strength=3.0)
    wild = other.clone()
    wild[:, 0] += 1e6
    found, moved = (
        probe(planted(0), groups=ROWS, test=(x, labels(), ROWS), centre="own", setup=CHEAP) for x in (other, wild)
    )
    items = shl.probes.items.Items(other, found.within.labels, torch.tensor(ROWS))
    same = split(items, 5, seed=0) == split(items, 5, seed=0)[0]
    same[0] = False
    assert torch.equal(found.across.predicted[:, same], moved.across.predicted[:, same])
    rest = ~same
    rest[0] = False
    assert not torch.equal(found.across.predicted[:, rest], moved.across.predicted[:, rest])


def test_cells_of_the_matrix_are_linear_probes():
    stacks = {"en": planted(0), "fr": planted(1, strength=3.0)[:, :48], "zh": planted(2, along=200)}
    names = {code: labels(stack.shape[1]) for code, stack in stacks.items()}
    groups = {code: list(range(stack.shape[1])) for code, stack in stacks.items()}
    found = shl.transfer_matrix(stacks, names, groups=groups, setup=CHEAP, seed=4)
    for train in stacks:
        for test in stacks:
            pair = (stacks[test], names[test], groups[test])
            one = shl.linear_probe(stacks[train], names[train], groups=groups[train], test=pair, setup=CHEAP, seed=4)
            cell = found.cell(train, test)
            assert torch.equal(cell.predicted, one.within.predicted if train == test else one.across.predicted)
            assert torch.equal(cell.control, one.control if train == test else one.across.control)
    assert found.accuracy.shape == (3, 3, LAYERS) and found.cell("en", "fr").correct.shape == (LAYERS, 48)
    torch.testing.assert_close(found.within, sum(found.accuracy[i, i] for i in range(3)) / 3)
    off = [found.accuracy[i, j] for i in range(3) for j in range(3) if i != j]
    torch.testing.assert_close(found.across, sum(off) / 6)


def test_the_peak_is_reported_on_items_that_did_not_choose_it():
    cell = probe(planted(0, layers=(2,))).within
    peak = cell.peak(0)
    assert peak.layer == 2 and peak.accuracy > 0.9 and peak.items == 30 and peak.low <= peak.accuracy <= peak.high
    lucky = torch.stack([probe(noise(seed)).within.peak(seed).accuracy * torch.ones(()) for seed in range(12)])
    assert lucky.mean() - CHANCE < 0.06  # the best of four layers on the choosing half is above chance, this is not


def test_a_leg_of_a_planted_concept_is_supported_and_one_of_noise_is_not():
    found = probe(planted(0), test=(planted(1), labels()))
    for part in (found.within, found.across):
        assert verdict(part.above_chance, part.permuted, seed=0, draws=200).status == "supported"
    empty = probe(noise(5)).within
    assert verdict(empty.above_chance, empty.permuted, seed=0, draws=200).status != "supported"


def test_a_permuted_draw_is_the_accuracy_against_exchanged_labels():
    cell = probe(planted(0)).within
    items = torch.arange(10, 50)
    order = torch.randperm(40, generator=generator(3))
    expected = (cell.predicted[:, items] == cell.labels[items][order]).float().mean(1) - cell.chance
    torch.testing.assert_close(cell.permuted(items, generator(3)), expected)


def test_intervals_over_groups_are_wider_than_over_copies_taken_for_items():
    values = torch.tensor([[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]])
    repeated, groups = values.repeat_interleave(20, 1), torch.arange(6).repeat_interleave(20)
    alone = shl.evidence.stats.grouped_bootstrap_mean(values, torch.arange(6), seed=0)
    together = shl.evidence.stats.grouped_bootstrap_mean(repeated, groups, seed=0)
    apart = shl.evidence.stats.bootstrap_mean(repeated, seed=0)
    torch.testing.assert_close(torch.stack([together.low, together.high]), torch.stack([alone.low, alone.high]))
    assert float(together.high - together.low) > 2 * float(apart.high - apart.low)
    plain = shl.evidence.stats.bootstrap_mean(values, seed=0)
    torch.testing.assert_close(plain.low, alone.low)


def test_the_table_holds_every_prediction():
    found = probe(planted(0), test=(planted(1), labels()))
    frame = found.to_frame()
    assert len(frame) == 2 * LAYERS * ITEMS
    for part, accuracy in (("within", found.accuracy), ("transfer", found.transfer)):
        means = frame[frame["part"] == part].groupby("layer")["correct"].mean()
        assert means.tolist() == pytest.approx(accuracy.tolist())
    assert ((frame["label"] == frame["predicted"]) == frame["correct"]).all()
    assert frame["label"].tolist()[:ITEMS] == labels()


def test_results_come_back_from_a_file(tmp_path):
    stacks = {"en": planted(0), "fr": planted(1)[:, :45]}
    names = {code: [i % 3 for i in range(x.shape[1])] for code, x in stacks.items()}
    matrix = shl.transfer_matrix(stacks, names, groups="none", setup=CHEAP, seed=2)
    back = shl.TransferResult.load(matrix.save(tmp_path / "matrix"))
    assert back.to_frame().equals(matrix.to_frame()) and back.summary().equals(matrix.summary())
    assert back.setup == CHEAP and back.classes == (0, 1, 2)
    for test in (None, (planted(1), labels())):
        found = probe(planted(0), test=test)
        again = shl.ProbeResult.load(found.save(tmp_path / "probe"))
        assert again.to_frame().equals(found.to_frame()) and torch.equal(again.control, found.control)
        assert again.provenance == found.provenance
