"""Bootstrap, null and verdict: planted effects are found, absent ones are not."""

import itertools
import math

import pytest
import torch

from semhub_lens.base.rng import derangement, generator
from semhub_lens.evidence.draws import bootstrap_weights, halves
from semhub_lens.evidence.stats import (
    bootstrap_mean,
    centred_contrast,
    centred_keys,
    grouped_bootstrap_mean,
    null_curves,
    other_keys,
    paired_contrast,
    percentiles,
    permuted_keys,
    sign_flips,
    verdict,
)

LAYERS, ITEMS, SEEDS = 5, 40, 40


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def paired(strength, layer, seed, items=ITEMS):
    """Cosines `[layer item item]` of two data types that share `strength` of their states at one layer."""
    a, b = drawn(2, LAYERS, items, 16, seed=1000 + seed)
    b[layer] += strength * a[layer]
    return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).mT


def judged(cosines, seed, sign=1, draws=100):
    """The verdict on the cosine of partners above that of the others."""
    others = (cosines.sum(2) - cosines.diagonal(dim1=1, dim2=2)) / (cosines.shape[1] - 1)

    def draw(items, source):
        partner = items[derangement(len(items), source)]
        return sign * (cosines[:, items, partner] - others[:, items]).mean(1)

    return verdict(sign * (cosines.diagonal(dim1=1, dim2=2) - others), draw, seed=seed, draws=draws)


def noise(items, source):
    """The same small null at every layer: a permutation of fixed values, so that layers have one scale."""
    return torch.tensor([-0.1, 0.1])[torch.randint(2, (1,), generator=source)].expand(LAYERS)


def test_bootstrap_weights_count_draws_with_replacement():
    weights = bootstrap_weights(7, 4000, seed=1)
    assert (weights.sum(1) == 7).all() and (weights == weights.round()).all()
    assert float(weights.var(unbiased=False)) == pytest.approx(1 - 1 / 7, abs=0.03)  # binomial(7, 1/7)
    assert weights.mean(0).tolist() == pytest.approx([1] * 7, abs=0.06)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    values = drawn(600, 40, seed=2).exp()  # skewed; mean exp(1/2)
    interval = bootstrap_mean(values, seed=0)
    covered = (interval.low < math.exp(0.5)) & (math.exp(0.5) < interval.high)
    assert 0.85 < covered.float().mean() < 0.97
    torch.testing.assert_close(interval.mean, values.mean(1))
    normal = drawn(600, 40, seed=3)
    interval = bootstrap_mean(normal, seed=0, level=0.8)
    assert 0.74 < ((interval.low < 0) & (interval.high > 0)).float().mean() < 0.84


def test_interval_of_many_items_is_the_one_of_the_normal_distribution():
    values = 3 + 2 * drawn(4, 900, seed=4)
    interval = bootstrap_mean(values, seed=1, draws=4000)
    error = values.std(1, unbiased=False) / 30
    torch.testing.assert_close(interval.low, values.mean(1) - 1.96 * error, atol=0.02, rtol=0)
    torch.testing.assert_close(interval.high, values.mean(1) + 1.96 * error, atol=0.02, rtol=0)


def test_percentiles_leave_out_equal_tails():
    low, high = percentiles(torch.arange(201.0)[None])
    assert (float(low), float(high)) == (5.0, 195.0)
    low, high = percentiles(torch.arange(201.0)[None], level=0.5)
    assert (float(low), float(high)) == (50.0, 150.0)


@pytest.mark.parametrize("items", [2, 3, 4, 5, 12])
def test_a_derangement_moves_everyone_to_every_other_place_equally_often(items):
    source, counts, draws = generator(0), torch.zeros(items, items), 3000
    for _ in range(draws):
        order = derangement(items, source)
        assert sorted(order.tolist()) == list(range(items))
        counts[torch.arange(items), order] += 1
    assert (counts.diagonal() == 0).all()
    share = 1 / (items - 1)
    tolerance = 5 * (draws * share * (1 - share)) ** 0.5
    off_diagonal = counts[~torch.eye(items, dtype=torch.bool)]
    assert ((off_diagonal - draws * share).abs() <= tolerance).all()


@pytest.mark.parametrize("items", [4, 5, 41])
def test_halves_are_disjoint_and_hold_every_item(items):
    choose, report = halves(items, seed=3)
    assert len(choose) == items // 2
    assert sorted(choose.tolist() + report.tolist()) == list(range(items))
    assert torch.equal(choose, halves(items, seed=3)[0])
    assert len({tuple(halves(items, seed=s)[0].tolist()) for s in range(30)}) > 3


@pytest.mark.parametrize("layer", [1, 4])
def test_a_planted_effect_is_supported_at_its_layer(layer):
    verdicts = [judged(paired(1.0, layer, seed), seed) for seed in range(10)]
    assert {v.status for v in verdicts} == {"supported"} and {v.row for v in verdicts} == {layer}
    assert all(v.low < v.estimate < v.high and v.estimate > v.threshold > 0 for v in verdicts)
    assert {v.items for v in verdicts} == {ITEMS // 2}


def test_without_an_effect_hardly_any_seed_is_supported():
    statuses = [judged(paired(0.0, 1, seed), seed).status for seed in range(SEEDS)]
    assert statuses.count("supported") <= 2  # at most 2.5 % expected: the interval is two-sided
    assert statuses.count("opposite") <= 4
    assert statuses.count("not supported") >= 35


def test_an_effect_against_the_prediction_is_opposite():
    flat = paired(1.0, 1, seed=0)[1:2].expand(LAYERS, -1, -1)  # at every layer, so that none is a better choice
    assert judged(flat, seed=0, sign=-1).status == "opposite"
    assert judged(flat, seed=0).status == "supported"


def test_an_effect_of_the_embedding_alone_is_not_supported():
    verdicts = [judged(paired(3.0, 0, seed), seed) for seed in range(10)]
    assert all(v.row >= 1 for v in verdicts)
    assert [v.status for v in verdicts].count("supported") <= 1
    supported = judged(paired(3.0, 2, seed=0), seed=0)
    assert (supported.status, supported.row) == ("supported", 2)


def test_the_layer_is_chosen_on_one_half_and_the_effect_reported_on_the_other():
    effect = drawn(LAYERS, ITEMS, seed=8) + torch.tensor([9.0, 0, 3, 1, 0])[:, None]
    choose, report = halves(ITEMS, seed=4)
    found = verdict(effect, noise, seed=4, draws=50)
    assert found.row == 2
    assert found.estimate == pytest.approx(float(effect[2, report].mean()), abs=1e-5)
    misleading = effect.clone()
    misleading[4, report] += 50  # the half that reports has no say in the choice
    assert verdict(misleading, noise, seed=4, draws=50) == found
    swayed = effect.clone()
    swayed[4, choose] += 50
    assert verdict(swayed, noise, seed=4, draws=50).row == 4


def test_layer_and_threshold_are_found_in_units_of_the_null():
    slope, offset = torch.tensor([1000.0, -1.0, 0.5, 0.25, 10.0]), torch.tensor([0.0, 0, 3, 0, 0])
    asked = []

    def draw(items, source):
        asked.append(items)
        return offset + slope * (
            len(asked) % 100 + 1
        )  # 1 ... 100 in every hundred draws: mean 50.5, 95 % within 47.5 of it

    def judge(strength):
        mean = torch.tensor([1e6, -10, strength, 13, 600])  # z: about 1.7 at layer 2, 0 at layer 3, .3 at layer 4
        return verdict(mean[:, None] + drawn(LAYERS, ITEMS, seed=1) / 10, draw, seed=2, draws=100)

    found = judge(53.0)
    assert found.row == 2
    assert found.threshold == pytest.approx(3 + (50.5 + 47.5) / 2, abs=1e-3)
    assert found.status == "supported" and found.low > 0
    assert judge(51.0).status == "not supported"  # above 0, but within the null
    choose, report = halves(ITEMS, 2)
    assert all(torch.equal(items, choose) for items in asked[:100])
    assert all(torch.equal(items, report) for items in asked[100:200])


def test_null_curves_follow_their_seed():
    def draw(items, source):
        return torch.rand(3, generator=source) + items.sum()

    first, again, other = (null_curves(draw, torch.arange(3), seed=s, draws=4) for s in (1, 1, 2))
    assert first.shape == (4, 3) and torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique()) == 12 and float(first.min()) >= 3


def test_paired_contrast_is_the_own_score_above_the_other_keys_and_its_null_every_exchange_of_keys():
    matrix, key = drawn(2, 3, 4, seed=5), torch.tensor([2, 0, 2])  # two items share a key
    scores = matrix.tolist()
    reference = [[(sum(row) - row[own]) / 3 for row, own in zip(layer, key, strict=True)] for layer in scores]
    torch.testing.assert_close(other_keys(matrix, key), torch.tensor(reference))
    effect, draw = paired_contrast(matrix, key, other_keys(matrix, key))
    for layer, item in itertools.product(range(2), range(3)):
        by_hand = scores[layer][item][key[item]] - reference[layer][item]
        assert float(effect[layer, item]) == pytest.approx(by_hand, abs=1e-5)
    exchanges = [p for p in itertools.permutations(range(4)) if all(i != j for i, j in enumerate(p))]
    chosen = [0, 2]

    def exchanged(layer, p):
        return round(sum(scores[layer][i][p[key[i]]] - reference[layer][i] for i in chosen) / 2, 3)

    expected = {(exchanged(0, p), exchanged(1, p)) for p in exchanges}
    curves = null_curves(draw, torch.tensor(chosen), seed=0, draws=200)
    found = {tuple(round(x, 3) for x in curve) for curve in curves.tolist()}
    torch.testing.assert_close(torch.tensor(sorted(found)), torch.tensor(sorted(expected)), atol=2e-3, rtol=0)


def test_keys_are_centred_over_the_gold_keys_with_equal_weight():
    matrix, key = drawn(2, 5, 3, seed=6), torch.tensor([0, 0, 0, 2, 2])  # no item has key 1
    scores = matrix.tolist()
    for layer, item, own in itertools.product(range(2), range(5), range(3)):
        first, second = (sum(scores[layer][i][own] for i in group) / len(group) for group in ((0, 1, 2), (3, 4)))
        by_hand = scores[layer][item][own] - (first + second) / 2
        assert float(centred_keys(matrix, key)[layer, item, own]) == pytest.approx(by_hand, abs=1e-5)
    torch.testing.assert_close(
        centred_contrast(matrix, key),
        paired_contrast(centred_keys(matrix, key), key, other_keys(centred_keys(matrix, key), key))[0],
    )


def test_the_centred_contrast_sees_the_preference_and_neither_the_word_nor_the_text():
    key = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    text, word = drawn(3, 8, 1, seed=7), drawn(3, 1, 3, seed=8)
    preferred = torch.zeros(3, 8, 3)
    preferred[:, torch.arange(8), key] = 2.0
    torch.testing.assert_close(centred_contrast(5 * text + 9 * word + preferred, key), torch.full((3, 8), 2.0))
    torch.testing.assert_close(centred_contrast(5 * text + 9 * word, key), torch.zeros(3, 8), atol=1e-5, rtol=0)


def test_with_equally_frequent_keys_centring_leaves_the_mean_effect():
    matrix, key = drawn(2, 9, 3, seed=9), torch.arange(9) % 3
    plain = paired_contrast(matrix, key, other_keys(matrix, key))[0]
    torch.testing.assert_close(centred_contrast(matrix, key).mean(1), plain.mean(1))


def test_permuted_keys_have_every_assignment_centred_anew():
    matrix, key = drawn(2, 6, 3, seed=10), torch.tensor([0, 1, 2, 2, 1, 0])
    chosen = [0, 1, 2, 4]  # keys 0, 1, 2, 1
    curves = null_curves(permuted_keys(matrix, key), torch.tensor(chosen), seed=0, draws=300)
    orders = {tuple(key[list(p)].tolist()) for p in itertools.permutations(chosen)}
    assert len(orders) == 12
    expected = {
        tuple(round(x, 3) for x in centred_contrast(matrix[:, chosen], torch.tensor(order)).mean(1).tolist())
        for order in orders
    }
    found = {tuple(round(x, 3) for x in curve) for curve in curves.tolist()}
    torch.testing.assert_close(torch.tensor(sorted(found)), torch.tensor(sorted(expected)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("counts", [(14, 13, 13), (25, 11, 4)])
def test_scores_that_do_not_know_the_key_are_hardly_ever_supported(counts):
    frequent = torch.tensor([9.0, 0.0, -4.0])  # one key scores high everywhere, and some items do on all keys
    statuses = []
    for seed in range(SEEDS):
        key = torch.arange(3).repeat_interleave(torch.tensor(counts))
        matrix = drawn(LAYERS, ITEMS, 3, seed=seed) + frequent + 3 * drawn(1, ITEMS, 1, seed=500 + seed)
        found = verdict(centred_contrast(matrix, key), permuted_keys(matrix, key), seed=seed, draws=100)
        statuses.append(found.status)
    assert statuses.count("supported") <= 0.05 * SEEDS and statuses.count("not supported") >= 35


def test_sign_flips_have_every_choice_of_signs_with_the_same_signs_at_all_layers():
    effect = torch.tensor([[1.0, 2.0, 4.0, 50.0], [10.0, 20.0, 40.0, 50.0]])
    curves = null_curves(sign_flips(effect), torch.tensor([0, 1, 2]), seed=0, draws=400)
    assert {round(3 * x, 3) for x in curves[:, 0].tolist()} == {-7, -5, -3, -1, 1, 3, 5, 7}  # +-1 +-2 +-4
    torch.testing.assert_close(curves[:, 1], 10 * curves[:, 0])
    assert abs(float(curves[:, 0].mean())) < 4 * (21 / 9 / 400) ** 0.5


def test_chance_here_leaves_the_callers_random_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    judged(paired(1.0, 1, seed=0), seed=0)
    bootstrap_mean(torch.ones(1, 4), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = (judged(paired(0.2, 1, seed=0), seed=s) for s in (5, 5, 6))
    assert first == again != other


def test_a_single_item_or_group_has_no_interval():
    """All its resamples are the same; an interval of no width would say that the mean is exact."""
    alone = bootstrap_mean(torch.tensor([[3.0], [5.0]]), seed=0)
    one_group = grouped_bootstrap_mean(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([7, 7, 7]), seed=0)
    for interval in (alone, one_group):
        assert interval.low.isnan().all() and interval.high.isnan().all() and torch.isfinite(interval.mean).all()
    assert torch.isfinite(bootstrap_mean(torch.tensor([[3.0, 5.0]]), seed=0).low).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean(torch.ones(2, 0), seed=0), "at least one item"),
        (lambda: derangement(1, generator(0)), "at least two items"),
        (lambda: permuted_keys(torch.ones(1, 4, 3), torch.ones(4, dtype=torch.long)), "at least two keys"),
        (lambda: verdict(torch.ones(LAYERS, 15), noise, seed=0), "at least 16 items"),
        (lambda: verdict(torch.ones(1, 16), lambda i, s: torch.zeros(1), seed=0), "layer"),
        (lambda: verdict(torch.ones(LAYERS, 16).index_fill(1, torch.tensor([2]), torch.nan), noise, seed=0), "NaN"),
        (lambda: verdict(torch.ones(LAYERS, 16), lambda i, s: noise(i, s) / torch.arange(LAYERS), seed=0), "The null"),
    ],
)
def test_too_little_to_judge_raises(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def alike(score=0.1, noise=0.0):
    """Scores `[layer item key]` that are all the same, but for some noise of their last digits."""
    return score * (1 + noise * drawn(3, 24, 24).sign())


@pytest.mark.parametrize("score", [0.1, -9.7, 1e-6, 0.33333334])
@pytest.mark.parametrize("noise", [0.0, 2e-7])
def test_scores_that_are_all_the_same_have_no_effect_that_rounding_decides(score, noise):
    """The mean of equal scores can miss them in the last digit, always on one side: an interval that leaves out 0."""
    matrix, key = alike(score, noise), torch.arange(24)
    contrasts = [paired_contrast(matrix, key, other_keys(matrix, key))]
    contrasts += [paired_contrast(matrix, key, matrix[..., 0] * (1 + 1e-7))]
    contrasts += [(centred_contrast(matrix, key % 3), permuted_keys(matrix, key % 3))]
    for effect, draw in contrasts:
        found = verdict(effect, draw, seed=0, draws=50)
        assert (found.status, found.estimate, found.low, found.high) == ("not supported", 0.0, 0.0, 0.0)
        assert draw(torch.arange(24), generator(0)).abs().max() == 0


def test_a_small_effect_above_rounding_is_kept():
    matrix, key = alike(), torch.arange(24)
    matrix[:, key, key] -= 1e-5
    effect, draw = paired_contrast(matrix, key, other_keys(matrix, key))
    assert effect.mean() == pytest.approx(-1e-5, rel=1e-2)
    assert verdict(effect, draw, seed=0, draws=50).status == "opposite"
