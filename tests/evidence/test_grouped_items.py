"""Items that belong together, such as the words of one concept: halves and bootstrap samples keep them whole."""

from dataclasses import replace
from statistics import NormalDist

import pytest
import torch

from samples import leg_text
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.evidence.comparison import difference
from semhub_lens.evidence.depth import depth_shares
from semhub_lens.evidence.draws import grouped_halves, grouped_weights, halves
from semhub_lens.evidence.legs import ExperimentResult, Leg, make_leg
from semhub_lens.evidence.stats import grouped_bootstrap_mean, verdict

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False, data="d", data_hash="h", seed=0)
CONCEPTS, WORDS = 80, 7


def nothing(items, rng):
    """A null that knows no items, so that it is the same for items and for their copies."""
    return torch.randn(3, generator=rng) / 9


def effect_of(seed, items=32):
    return torch.randn(3, items, generator=generator(seed)) + torch.tensor([[0.0], [0.5], [1.0]])


def leg_of(effect, groups=None, **settings):
    left = {"half": effect / 2 + 0.1 * torch.randn(3, 1, generator=generator(9))}
    placebo = {"absent": (-effect, nothing)}
    return make_leg(
        effect, nothing, leg_text(), provenance=WHERE, seed=0, curves={}, controls=left, placebos=placebo,
        groups=groups, **settings,
    )  # fmt: skip


def copies(effect, times=5):
    """Every item several times, in a mixed order, with the item as the group."""
    order = torch.randperm(effect.shape[1] * times, generator=generator(3))
    groups = torch.arange(effect.shape[1]).repeat_interleave(times)[order]
    return effect[:, groups], groups


def test_by_hand_two_groups_of_unequal_size():
    values, groups = torch.tensor([[0.0, 9.0, 0.0, 3.0]]), torch.tensor([4, 2, 4, 4])
    weights = grouped_weights(groups, 4000, 0)
    shares = {tuple(row): 0 for row in ([1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 2.0, 2.0], [0.0, 2.0, 0.0, 0.0])}
    for row in weights.tolist():
        shares[tuple(row)] += 1  # a KeyError for any other sample
    assert [count / 4000 for count in shares.values()] == pytest.approx([1 / 2, 1 / 4, 1 / 4], abs=0.03)
    interval = grouped_bootstrap_mean(values, groups, seed=0)
    assert (float(interval.mean), float(interval.low), float(interval.high)) == (3.0, 1.0, 9.0)
    inner = grouped_bootstrap_mean(values, groups, seed=0, level=0.4)  # between the means 1, 3 and 9 of the samples
    assert (float(inner.low), float(inner.high)) == (3.0, 3.0)


def test_halves_hold_whole_groups_as_many_as_halves_of_items_do():
    groups = torch.tensor([7, 7, 1, 3, 1, 7, 9, 3, 9, 9, 9])
    choose, report = grouped_halves(groups, seed=2)
    first, second = (set(groups[half].tolist()) for half in (choose, report))
    assert len(first) == len(second) == 2 and not first & second
    assert sorted(choose.tolist() + report.tolist()) == list(range(11))
    assert [half.tolist() for half in grouped_halves(torch.arange(9), 2)] == [half.tolist() for half in halves(9, 2)]


def test_copies_of_items_say_no_more_than_the_items():
    effect = effect_of(1)
    repeated, groups = copies(effect)
    one, same, apart = leg_of(effect), leg_of(repeated, groups), leg_of(repeated)
    assert (same.verdict.items, one.verdict.items) == (80, 16)
    assert (same.verdict.status, same.verdict.row) == (one.verdict.status, one.verdict.row)
    figures = [[leg.verdict.estimate, leg.verdict.low, leg.verdict.high] for leg in (same, one, apart)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-5) and figures[2] != pytest.approx(figures[1], abs=0.05)
    for name in ("low", "high", "lower"):
        torch.testing.assert_close(getattr(same, name), getattr(one, name))
        assert float((getattr(apart, name) - getattr(one, name)).abs().max()) > 0.05
    for mine, its, single in zip(same.checks, one.checks, apart.checks, strict=True):
        ends = [[check.estimate, check.low, check.high] for check in (mine, its, single)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-5) and ends[2] != pytest.approx(ends[1], abs=0.02)
        assert mine.holds == its.holds


def test_the_verdict_of_a_placebo_keeps_groups_whole():
    """Words of 16 concepts, each concept all right or all wrong: as items, the placebo's effect looks certain."""
    choose, report = halves(16, 0)
    placebo = torch.ones(3, 16)
    placebo[:, torch.cat([choose[:2], report[:3]])] = -1  # of the 8 reported concepts, 5 are right
    effect, held = torch.ones(3, 160), []
    for groups in (torch.arange(16).repeat_interleave(10), None):
        absent = {"absent": (placebo.repeat_interleave(10, 1), lambda items, rng: torch.randn(3, generator=rng) / 99)}
        leg = make_leg(effect, nothing, leg_text(), provenance=WHERE, seed=0, curves={}, placebos=absent, groups=groups)
        held.append(leg.checks[0].holds)
    assert held == [True, False]


def test_shares_of_depth_and_differences_of_copies_are_those_of_the_items():
    effect, other = effect_of(1), effect_of(2)
    repeated, groups = copies(effect)
    shares = []
    for leg in (leg_of(effect), leg_of(repeated, groups)):
        (found,) = depth_shares([ExperimentResult("code.similarity", "planted", (leg,), (), provenance=WHERE)])
        shares.append((found.share, found.low, found.high, found.peak_low, found.peak_high))
    assert shares[0] == pytest.approx(shares[1])
    one = difference(leg_of(effect), leg_of(other))
    pair = leg_of(repeated, groups), leg_of(copies(other)[0], groups)
    same = difference(*pair)
    assert same.items == 5 * one.items and same.verdicts == pytest.approx(one.verdicts, abs=1e-5)
    torch.testing.assert_close(same.curve, one.curve)
    apart = difference(*(leg_of(leg.effect) for leg in pair))
    assert apart.verdicts != pytest.approx(one.verdicts, abs=0.05)


def test_a_saved_leg_without_groups_is_resampled_by_the_groups_of_the_other():
    (effect, groups), other = copies(effect_of(1)), copies(effect_of(2))[0]
    old, new = leg_of(other), leg_of(effect, groups)
    both = difference(new, leg_of(other, groups))
    for found in (difference(old, new), difference(new, old)):
        torch.testing.assert_close(found.curve[1:].abs().sort(0).values, both.curve[1:].abs().sort(0).values)


def test_a_difference_needs_as_many_groups_in_common_as_a_verdict():
    effect, groups = copies(effect_of(1, items=16))
    a = leg_of(effect, groups)
    assert difference(a, a).items == 40
    b = make_leg(effect, nothing, leg_text(), provenance=replace(WHERE, seed=1), seed=1, curves={}, groups=groups)
    common = len({*halves(16, 0)[1].tolist()} & {*halves(16, 1)[1].tolist()})
    assert common < 8 and difference(a, b).verdicts is None
    assert difference(a, b).reason == f"the reporting halves have {common} groups in common, fewer than 8"


def test_groups_are_in_the_file_and_in_the_table(tmp_path):
    repeated, groups = copies(effect_of(1))
    legs = leg_of(repeated, groups), leg_of(effect_of(2))
    result = ExperimentResult("planted", "planted", legs, (), provenance=WHERE)
    back = ExperimentResult.load(result.save(tmp_path / "result"))
    assert torch.equal(back.legs[0].groups, groups) and back.legs[1].groups is None
    torch.testing.assert_close(back.legs[0].lower, legs[0].lower)
    frame = back.to_frame()
    assert frame["group"][:480].tolist() == groups.tolist() * 3 and frame["group"][480:].isna().all()
    assert "group" not in legs[1].to_frame().columns
    fields = {name: value for name, value in vars(legs[1]).items() if name not in ("groups", "lower")}
    assert Leg.from_fields(fields).groups is None  # a file that does not say so


def test_too_few_groups_are_refused_however_many_items_they_have():
    with pytest.raises(SemhubError, match=r"at least 16 groups, .* got 15 in an effect of the shape \(3, 32\)"):
        verdict(effect_of(1), nothing, seed=0, groups=torch.arange(32) % 15)


def words(share, seed):
    """Whether each word of each concept is right: as often as not, and alike within a concept by `share`."""
    rng = generator(seed)
    concept, word = torch.randn(CONCEPTS, 1, generator=rng), torch.randn(CONCEPTS, WORDS, generator=rng)
    right = share**0.5 * concept + (1 - share) ** 0.5 * word < NormalDist().inv_cdf(0.7)
    return right.float().flatten()


def coverage(share, grouped, runs=200):
    """How often the interval of a verdict contains the true accuracy, 0.7."""
    groups = torch.arange(CONCEPTS).repeat_interleave(WORDS)
    held = 0
    for seed in range(runs):
        effect = words(share, seed).expand(2, -1)
        found = verdict(
            effect, lambda items, rng: torch.randn(2, generator=rng), seed=seed, draws=2,
            groups=groups if grouped else None,
        )  # fmt: skip
        held += found.low <= 0.7 <= found.high
    return held / runs


def test_words_that_are_right_together_need_an_interval_over_concepts():
    """Of 200 intervals of 95 %, more than 0.91 contain the truth in 99 of 100 cases."""
    assert coverage(0.0, grouped=False) > 0.91 and coverage(0.0, grouped=True) > 0.91
    assert coverage(0.5, grouped=False) < 0.85
    assert coverage(0.5, grouped=True) > 0.91
