"""Similarity: closed forms against loops over all pairs, invariances, and controls without an effect."""

import importlib
import inspect
import itertools
import random

import pytest
import torch

import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.geometry import alignment, shifted_cka
from semhub_lens.geometry.alignment import debiased_cka
from semhub_lens.geometry.measures import MEASURES, Draws, Measure, cosine_matrix
from semhub_lens.geometry.similarity import SimilarityResult, similarity

LAYERS, ITEMS, WIDTH = 3, 9, 5
PER_LAYER = ("baseline", "spread", "cka", "effect", "zscored", "retrieval", "mrr")
PER_ITEM = ("matched", "centred", "adjusted", "rank_ab", "rank_ba")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rotation(width, seed):
    return torch.linalg.qr(drawn(width, width, seed=seed))[0]


def pair(items=ITEMS, width=WIDTH, noise=1.0, layers=LAYERS, seed=0):
    """Two data types with a shared part, an offset each, and noise."""
    shared = drawn(layers, items, width, seed=seed)
    offsets = 2 * drawn(2, layers, 1, width, seed=seed + 1)
    noises = noise * drawn(2, layers, items, width, seed=seed + 2)
    a, b = shared + offsets + noises
    return a, b


def cosine(x, y):
    return float(x @ y) / (float(x @ x) * float(y @ y)) ** 0.5


def table(a, b):
    """All cosines of one layer, `table[i][j] = cos(a_i, b_j)`."""
    return [[cosine(x, y) for y in b.double()] for x in a.double()]


def non_pairs(cosines):
    return [cosines[i][j] for i in range(len(cosines)) for j in range(len(cosines)) if i != j]


def mean(values):
    return sum(values) / len(values)


def effect_of(cosines):
    return mean([cosines[i][i] for i in range(len(cosines))]) - mean(non_pairs(cosines))


def rank(row, i):
    return sum(value >= row[i] for j, value in enumerate(row) if j != i)


@pytest.mark.parametrize("blocks", [1024, 4])
def test_everything_equals_loops_over_all_pairs(monkeypatch, blocks):
    monkeypatch.setattr(importlib.import_module("semhub_lens.geometry.measures"), "BLOCK", blocks)
    a, b = pair()
    found = similarity(a, b, draws=10)
    for layer in range(LAYERS):
        cosines = table(a[layer], b[layer])
        others = non_pairs(cosines)
        spread = mean([(x - mean(others)) ** 2 for x in others]) ** 0.5
        effect = effect_of(cosines)
        values = {"baseline": mean(others), "spread": spread, "effect": effect, "zscored": effect / spread}
        centred = table(a[layer] - a[layer].mean(0), b[layer] - b[layer].mean(0))
        flipped = list(zip(*centred, strict=True))
        ab, ba = ([rank(row, i) for i, row in enumerate(rows)] for rows in (centred, flipped))
        values["retrieval"] = (ab.count(0) + ba.count(0)) / (2 * ITEMS)
        values["mrr"] = mean([1 / (r + 1) for r in ab + ba])
        for name, value in values.items():
            assert float(getattr(found, name)[layer]) == pytest.approx(value, abs=1e-5), name
        assert (found.rank_ab[layer].tolist(), found.rank_ba[layer].tolist()) == (ab, ba)
        torch.testing.assert_close(found.matched[layer], torch.tensor([cosines[i][i] for i in range(ITEMS)]))
        expected = torch.tensor([centred[i][i] for i in range(ITEMS)]) - mean(non_pairs(centred))
        torch.testing.assert_close(found.centred[layer], expected, atol=1e-5, rtol=1e-5)
    assert found.rank_ab.float().mean() > 0 and found.chance == 1 / ITEMS


def test_three_pairs_by_hand():
    states = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]])
    found = similarity(states, states, draws=4)
    assert found.matched.tolist() == [[1, 1, 1]]
    assert float(found.effect) == pytest.approx(4 / 3)  # non-pairs: 0, -1, 0, 0, -1, 0
    assert float(found.spread) == pytest.approx((2 / 9) ** 0.5)
    frame = found.to_frame()
    assert frame["adjusted"].tolist() == pytest.approx([4 / 3] * 3) and frame["item"].tolist() == [0, 1, 2]


def test_states_are_fully_similar_to_themselves():
    a, _ = pair(items=30, width=40)
    found = similarity(a, a, draws=99)
    torch.testing.assert_close(found.matched, torch.ones(LAYERS, 30))
    torch.testing.assert_close(found.cka, torch.ones(LAYERS))
    assert (found.retrieval == 1).all() and (found.mrr == 1).all() and (found.p_value == 0.01).all()


def assert_same(found, expected, order=None):
    for name in PER_LAYER:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=2e-5, msg=name)
    for name in PER_ITEM:
        there = getattr(expected, name)
        there = there if order is None else there[:, order]
        torch.testing.assert_close(getattr(found, name), there, atol=2e-5, rtol=2e-5, msg=name)


@pytest.mark.parametrize("change", ["scale", "rotation"])
def test_scaling_each_type_or_rotating_both_changes_nothing(change):
    a, b = pair()
    turn = rotation(WIDTH, 7)
    changed = (30 * a, 0.02 * b) if change == "scale" else (a @ turn, b @ turn)
    found, expected = similarity(*changed, draws=20), similarity(a, b, draws=20)
    assert_same(found, expected)
    for name in ("low", "high", "null"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=2e-5)
    only_one = similarity(a, b @ turn, draws=20)
    assert (only_one.effect - expected.effect).abs().max() > 0.05


def test_permuting_the_pairs_together_changes_their_order_only():
    a, b = pair()
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(1))
    found, expected = similarity(a[:, order], b[:, order]), similarity(a, b)
    assert_same(found, expected, order)
    width = expected.high - expected.low
    for name in ("low", "high"):  # sampling noise aside
        assert ((getattr(found, name) - getattr(expected, name)).abs() < 0.2 * width).all()


def test_lengths_of_single_states_do_not_matter_to_the_cosines():
    a, b = pair()
    found = similarity(a * drawn(LAYERS, ITEMS, 1).exp(), b, draws=5)
    for name in ("matched", "baseline", "spread"):
        torch.testing.assert_close(getattr(found, name), getattr(similarity(a, b, draws=5), name), atol=1e-5, rtol=1e-5)


def test_interval_is_that_of_resampled_pairs_without_copies_as_non_pairs():
    a, b = pair(items=8, width=16, noise=0.3, layers=1)
    cosines = table(a[0], b[0])
    source = random.Random(0)
    values = []
    for _ in range(4000):
        chosen = [source.randrange(8) for _ in range(8)]
        others = [cosines[i][j] for i, j in itertools.product(chosen, chosen) if i != j]
        values.append(mean([cosines[i][i] for i in chosen]) - mean(others))
    low, high = torch.tensor(values).quantile(torch.tensor([0.025, 0.975]))
    found = similarity(a, b, draws=4000)
    assert abs(float(found.low - low)) < 0.1 * (high - low) and abs(float(found.high - high)) < 0.1 * (high - low)


@pytest.mark.parametrize("items", [3, 4, 5])
def test_interval_of_very_few_pairs_lies_among_the_resamples_that_have_non_pairs(items):
    a, b = pair(items=items, layers=1)
    cosines, values = table(a[0], b[0]), []
    for chosen in itertools.product(range(items), repeat=items):
        if len(set(chosen)) > 1:
            others = [cosines[i][j] for i, j in itertools.product(chosen, chosen) if i != j]
            values.append(mean([cosines[i][i] for i in chosen]) - mean(others))
    found = similarity(a, b)
    assert min(values) - 1e-5 <= float(found.low) < float(found.effect) < float(found.high) <= max(values) + 1e-5


def test_null_holds_the_effect_of_every_pairing_in_which_nobody_keeps_its_partner():
    a, b = pair(items=4, layers=2)
    null = similarity(a, b, draws=200).null
    for layer in range(2):
        pairings = [p for p in itertools.permutations(range(4)) if all(i != j for i, j in enumerate(p))]
        expected = sorted({round(effect_of(table(a[layer], b[layer][list(p)])), 4) for p in pairings})
        torch.testing.assert_close(null[:, layer].unique().float(), null[:, layer].unique())
        assert sorted({round(x, 4) for x in null[:, layer].tolist()}) == pytest.approx(expected, abs=2e-4)


def test_p_values_count_the_pairings_that_do_at_least_as_well():
    found = similarity(*pair(noise=2.5), draws=150)
    for layer in range(LAYERS):
        better = sum(x >= float(found.effect[layer]) for x in found.null[:, layer].tolist())
        best = sum(x >= float(found.effect[layer]) for x in found.null.max(1).values.tolist())
        assert float(found.p_value[layer]) == pytest.approx((better + 1) / 151)
        assert float(found.p_value_max[layer]) == pytest.approx((best + 1) / 151)
    assert (found.p_value_max >= found.p_value).all() and found.p_value.max() > 1 / 151


def test_a_planted_shared_part_is_found_and_shuffled_pairs_have_none():
    a, b = pair(items=60, width=32, noise=0.5)
    found = similarity(a, b)
    assert (found.p_value_max == 1 / 501).all() and (found.low > 0.1).all() and (found.retrieval > 0.9).all()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    shuffled = similarity(a, b[:, order])
    assert shuffled.effect.abs().max() < 0.03 and (shuffled.p_value > 0.05).all()
    assert (shuffled.retrieval < 0.1).all()


def test_p_values_of_unrelated_states_are_uniform():
    pairs = (drawn(2, 1, 25, 6, seed=seed) for seed in range(120))  # one layer each: layers share their pairings
    p = torch.cat([similarity(a, b, draws=99).p_value for a, b in pairs])
    assert 0.42 < p.mean() < 0.58
    assert (p <= 0.05).float().mean() < 0.11 and 0.3 < (p <= 0.5).float().mean() < 0.7


def test_interval_of_unrelated_states_holds_zero_about_as_often_as_it_says():
    found = similarity(1 + drawn(300, 30, 12, seed=1), 1 + drawn(300, 30, 12, seed=2), draws=2)
    assert 0.9 < ((found.low < 0) & (found.high > 0)).float().mean() < 0.98


def test_retrieval_of_unrelated_states_is_at_chance():
    found = similarity(drawn(400, 10, 20, seed=1), drawn(400, 10, 20, seed=2), draws=2)
    assert float(found.retrieval.mean()) == pytest.approx(found.chance, abs=0.015)
    assert float(found.mrr.mean()) == pytest.approx(sum(1 / k for k in range(1, 11)) / 10, abs=0.015)


def test_ties_count_against_retrieval():
    a = drawn(1, 6, 8)
    a[:, 1] = a[:, 0]
    found = similarity(a, a, draws=2)
    assert found.rank_ab.tolist() == found.rank_ba.tolist() == [[1, 1, 0, 0, 0, 0]]
    same = drawn(1, 1, 8).expand(1, 6, 8)
    assert float(similarity(same, 2 * same, draws=2).retrieval) == 0


def biased_cka(x, y):
    k, m = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def test_debiased_cka_of_independent_states_is_zero_where_the_biased_one_is_large():
    x, y = drawn(3, 100, 300, seed=1), drawn(3, 100, 300, seed=2)
    assert debiased_cka(x, y).abs().max() < 0.05
    assert biased_cka(x[0], y[0]) == pytest.approx(0.76, abs=0.03)


def test_debiased_cka_ignores_rotation_scale_and_offset_of_either_type():
    x, y = pair(items=20, width=30)
    expected = debiased_cka(x, y)
    assert (expected > 0.1).all() and (expected < 0.9).all()
    torch.testing.assert_close(debiased_cka(x @ rotation(30, 1) * 5 + 3, y), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(debiased_cka(x, x @ rotation(30, 1)), torch.ones(LAYERS), atol=1e-4, rtol=1e-4)


def test_debiased_cka_is_the_ratio_of_u_statistics():
    x, y = (z[0].double() for z in pair(items=6))

    def hsic(k, m):
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(6), 4)]
        return float(sum(terms)) / len(terms)

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5
    assert float(debiased_cka(x[None], y[None])) == pytest.approx(expected, abs=1e-5)
    assert debiased_cka(x[None, :3], y[None, :3]).isnan().all()


def test_cosine_matrix_holds_the_cosine_of_every_item_with_every_other():
    a, b = 3 * drawn(2, 4, 5, seed=1), drawn(2, 6, 5, seed=2)
    found = cosine_matrix(a, b)
    for layer in range(2):
        for row, expected in zip(found[layer].tolist(), table(a[layer], b[layer]), strict=True):
            assert row == pytest.approx(expected, abs=1e-5)


def test_seeds_decide_null_and_interval_and_the_callers_random_state_is_untouched():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (similarity(*pair(), seed=s, draws=20) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.null, again.null) and torch.equal(first.low, again.low)
    assert not torch.equal(first.null, other.null) and not torch.equal(first.low, other.low)
    assert torch.equal(first.adjusted, other.adjusted)


BAD = {
    "unequal items": (lambda a, b: (a, b[:, 1:]), "Unequal pairs"),
    "unequal layers": (lambda a, b: (a[1:], b), "Unequal pairs"),
    "NaN": (lambda a, b: (a, b.index_fill(2, torch.tensor([0]), torch.nan)), "b .*NaN"),
    "infinite": (lambda a, b: (a / 0.0, b), "a .*infinite"),
    "zero state": (lambda a, b: (a * (torch.arange(ITEMS) != 4)[None, :, None], b), r"zero state.*\[0, 4\]"),
    "two pairs": (lambda a, b: (a[:, :2], b[:, :2]), "at least three pairs"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_states_without_a_defined_similarity_raise(wrong):
    spoil, message = BAD[wrong]
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(similarity)(*spoil(*pair()))  # without the shape checks that only the tests add


def test_every_measure_is_computed_on_its_own_and_the_others_say_how_to_ask_for_them():
    whole = similarity(*pair(items=12), draws=8)
    assert whole.measures == tuple(MEASURES)
    for name, measure in MEASURES.items():
        alone = similarity(*pair(items=12), measures=[name], draws=8)
        assert alone.measures == (name,) and alone.measured.keys() == {*measure.quantities, *measure.null}
        for quantity, values in alone.measured.items():
            assert torch.equal(values, whole.measured[quantity]), quantity
        for other in MEASURES.keys() - {name}:
            quantity = next(iter(MEASURES[other].quantities))
            with pytest.raises(SemhubError, match=rf"'{quantity}' was not measured: .*measures=\['{other}'\]"):
                getattr(alone, quantity)
    with pytest.raises(SemhubError, match=r"measures=.*effect"):
        _ = similarity(*pair(), measures=["cka"]).p_value


@pytest.mark.parametrize("wrong, said", [(["cosine"], "neighbours"), ([], "neighbours"), ("cka", "put it into a list")])
def test_an_unknown_measure_names_those_there_are(wrong, said):
    with pytest.raises(SemhubError, match=said):
        similarity(*pair(), measures=wrong)


def test_a_new_measure_is_one_entry_and_shows_up_in_result_table_and_figure(monkeypatch):
    gap = Measure(
        quantities={"gap": lambda pair: (pair.a - pair.b).norm(dim=-1).mean(1)}, curves={"gap": "gap"}, axis="share"
    )
    monkeypatch.setitem(MEASURES, "gap", gap)
    a, b = pair()
    found = similarity(a, b, measures=["cka", "gap"], draws=5)
    torch.testing.assert_close(found.gap, (a - b).norm(dim=-1).mean(1))
    frame = found.to_frame()
    assert frame.columns.tolist() == ["layer", "cka", "cka_null_95", "gap"] and len(frame) == LAYERS
    figure = shl.figure(found)
    (line,) = (trace for trace in figure.data if trace.name == "gap")
    assert list(line.y) == pytest.approx(found.gap.tolist())
    assert [trace.name for trace in figure.data] == ["debiased CKA", "debiased CKA, null 95 %", "gap"]


def test_a_table_repeats_what_a_layer_has_for_its_items():
    found = similarity(*pair(), measures=["centred", "neighbours"], draws=5)
    frame = found.to_frame().set_index(["layer", "item"])
    assert frame.loc[(1, 4), "centred"] == found.centred[1, 4].item()
    assert frame.loc[1, "neighbours"].tolist() == [found.neighbours[1].item()] * ITEMS


def test_fields_of_version_0_1_0_are_read_as_measured_quantities():
    new = similarity(*pair(), draws=5)
    old = SimilarityResult.from_fields({**new.measured, "provenance": new.provenance})
    assert old.measures == new.measures and torch.equal(old.p_value, new.p_value)


@pytest.mark.parametrize("items", [9, 4])
def test_spread_is_the_same_with_more_and_fewer_items_than_coordinates(items):
    a, b = pair(items=items)
    others = torch.tensor([non_pairs(table(x, y)) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(similarity(a, b, draws=2).spread, others.std(1, correction=0), atol=1e-5, rtol=1e-5)


def test_states_with_gradients_or_in_half_precision_are_compared_as_they_are():
    a, b = pair()
    expected = similarity(a.bfloat16().float(), b, draws=5)
    found = similarity(a.bfloat16().float().requires_grad_(), b, draws=5)
    assert_same(found, expected)
    assert not found.matched.requires_grad


def naive_alignment(x, y, order, k=8):
    """Debiased CKA and the share of common neighbours of one pairing, in float64 and with whole matrices."""
    y, n = y[order], len(x)

    def gram(z):
        centred = z.double() - z.double().mean(0)
        return (centred @ centred.T).fill_diagonal_(0)

    def hsic(g, h):
        cross = (g.sum(0) * h.sum(0)).sum()
        return ((g * h).sum() + g.sum() * h.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))

    def near(z):
        unit = z.double() / z.double().norm(dim=1, keepdim=True)
        return (unit @ unit.T).fill_diagonal_(-2).topk(k, dim=1).indices.tolist()

    g, h = gram(x), gram(y)
    common = [len({*one} & {*other}) for one, other in zip(near(x), near(y), strict=True)]
    return float(hsic(g, h) / (hsic(g, g) * hsic(h, h)).sqrt()), sum(common) / (n * k)


@pytest.mark.parametrize("layers", [1, 3, 9])
@pytest.mark.parametrize("rows", [1024, 7])
def test_alignment_and_its_nulls_equal_the_naive_definitions_however_the_work_is_cut(monkeypatch, layers, rows):
    a, b = pair(items=25, width=12, noise=0.4, layers=layers)
    a[..., 3] *= 8  # one dimension that rules, as in real states
    monkeypatch.setattr(alignment, "ROWS", rows)
    monkeypatch.setattr(alignment, "GATHERED", 2 * 25 * rows)
    monkeypatch.setattr(shifted_cka, "ROWS", rows)
    monkeypatch.setattr(shifted_cka, "DIAGONALS", min(rows, 256))
    monkeypatch.setattr(importlib.import_module("semhub_lens.geometry.similarity"), "CHUNK", 25 * 25 * 3)
    found = similarity(a, b, measures=["cka", "neighbours"], draws=6)
    own, cka_null, common_null = torch.arange(25), partners(25, 0, 6), alignment.pairings(25, 0, 6)
    for layer in range(layers):
        for order, measured in zip((own, *cka_null), (found.cka, *found.cka_null), strict=True):
            assert float(measured[layer]) == pytest.approx(naive_alignment(a[layer], b[layer], order)[0], abs=2e-6)
        for order, measured in zip((own, *common_null), (found.neighbours, *found.neighbours_null), strict=True):
            assert float(measured[layer]) == pytest.approx(naive_alignment(a[layer], b[layer], order)[1], abs=1e-6)
    assert found.cka_null.std(0).min() > 1e-3, "the pairings must differ"
    torch.testing.assert_close(alignment.cka_null(a, b, seed=0, draws=6), found.cka_null, atol=2e-6, rtol=0)
    assert torch.equal(alignment.neighbours_null(a, b, seed=0, draws=6), found.neighbours_null)


@pytest.mark.parametrize("items, width", [(40, 64), (70, 12)])
def test_states_like_real_ones_are_measured_as_in_double_precision(items, width):
    """A large common offset, one dimension that rules, and items of very different length."""
    a, b = pair(items=items, width=width, noise=0.3)
    for states in (a, b):
        states[..., 3] = 20 * states[..., 3] + 200
        states[:, 0] *= 30
    found = similarity(a, b, draws=20)
    wrong = Draws(items, 0, 20).pairings
    for layer in range(LAYERS):
        cosines = torch.tensor(table(a[layer], b[layer]), dtype=torch.float64)
        others = cosines[~torch.eye(items, dtype=torch.bool)]
        assert float(found.baseline[layer]) == pytest.approx(float(others.mean()), abs=1e-6)
        assert float(found.spread[layer]) == pytest.approx(float(others.std(correction=0)), rel=1e-4)
        null = torch.tensor([effect_of(cosines[:, order].tolist()) for order in wrong])
        torch.testing.assert_close(found.null[:, layer], null.float(), atol=1e-6, rtol=1e-5)
        for order, cka in zip(partners(items, 0, 20), found.cka_null[:, layer], strict=True):
            assert float(cka) == pytest.approx(naive_alignment(a[layer], b[layer], order)[0], abs=1e-5)
        for order, common in zip(alignment.pairings(items, 0, 20), found.neighbours_null[:, layer], strict=True):
            _, expected = naive_alignment(a[layer], b[layer], order, k=10)
            assert float(common) == pytest.approx(expected, abs=0.006)  # a tie may turn


@pytest.mark.parametrize("items", [4, 5, 8, 9, 30, 31])
def test_a_shift_of_many_is_a_pairing_in_which_no_item_keeps_its_partner(items):
    """So few items have fewer steps than draws: then several orders are drawn, each with every step at most once."""
    found = shifted_cka.shifts(items, 0, 50)
    assert [len(steps) for _, steps in found[:-1]] == [items - 1] * (len(found) - 1), "no more orders than needed"
    assert all(len(set(steps.tolist())) == len(steps) for _, steps in found)
    orders = partners(items, 0, 50)
    assert len(orders) == 50 and all(sorted(order.tolist()) == list(range(items)) for order in orders)
    assert all((order != torch.arange(items)).all() for order in orders)
    x, y = pair(items=items, width=6, noise=0.5, layers=1)
    expected = [naive_alignment(x[0], y[0], order, k=1)[0] for order in orders]
    assert alignment.cka_null(x, y, seed=0, draws=50)[:, 0].tolist() == pytest.approx(expected, abs=1e-5)


def partners(items: int, seed: int, draws: int) -> list[torch.Tensor]:
    """The item of `b` for every item of `a`, in each draw of the null of CKA."""
    found = []
    for order, steps in shifted_cka.shifts(items, seed, draws):
        for step in steps:
            partner = torch.empty(items, dtype=torch.long)
            for place, item in enumerate(order):
                partner[item] = order[(place + int(step)) % items]
            found.append(partner)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e-20, 1e-13, 1e-4, 1e20, 1e30, 1e200])
def test_neither_huge_nor_tiny_states_are_measured_otherwise(scale, dtype):
    """Squares of their entries are not numbers of float32, and those of float64 may not be so themselves."""
    if dtype == torch.float32 and not 1e-38 < scale < 1e38:
        pytest.skip("not a number of float32")
    a, b = (states.to(dtype) for states in pair(items=20, width=12))
    assert_same(similarity(a * scale, b * scale, draws=5), similarity(a, b, draws=5))


def test_the_length_of_one_state_may_be_far_from_that_of_another():
    a, b = pair(items=20, width=12)
    scales = torch.logspace(-25, 18, 20)[:, None]
    found, expected = (similarity(x, b, measures=["effect", "neighbours"], draws=5) for x in (a * scales, a))
    torch.testing.assert_close(found.matched, expected.matched)
    torch.testing.assert_close(found.neighbours, expected.neighbours)


def test_states_that_are_all_the_same_have_no_effect_that_rounding_makes_significant():
    """One last token at the embedding layer: D is 0 in every pairing, and so is every draw of the null."""
    for seed in range(8):
        same, other = drawn(2, 1, 1, 64, seed=seed).expand(2, 1, 50, 64)
        found = similarity(same, drawn(1, 50, 64, seed=seed + 50), draws=99)
        both = similarity(same, other, draws=99)
        assert found.p_value.tolist() == both.p_value.tolist() == both.p_value_max.tolist() == [1.0]
        assert found.cka.isnan().all() and both.cka.isnan().all()
        assert both.zscored.isnan().all() and torch.isfinite(found.zscored).all()


def test_ties_between_neighbours_are_not_broken_alike_in_both_sets():
    """A few last tokens at the embedding layer: unrelated types share neighbours by chance only."""
    above = []
    for seed in range(12):
        tokens = torch.randint(4, (2, 90), generator=torch.Generator().manual_seed(seed))
        a, b = (drawn(1, 4, 16, seed=20 * seed + i)[:, own] for i, own in enumerate(tokens))
        found = similarity(a, b, measures=["neighbours"], draws=99)
        above.append(float((found.neighbours_null < found.neighbours).float().mean()))
    assert 0.2 < mean(above) < 0.8, "unrelated types must be as good as their null"
