"""The share of depth where all legs hold: by hand, against a slow second way, absent for shuffled items."""

from dataclasses import replace

import pytest
import torch

from samples import leg_text
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.evidence.depth import depth_shares
from semhub_lens.evidence.draws import bootstrap_weights
from semhub_lens.evidence.legs import ExperimentResult, Leg, make_leg
from semhub_lens.evidence.stats import corrected_p, other_keys, paired_contrast, sign_flips

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False, data_hash="h", seed=0)
UP, DOWN = 1.0, -1.0


def leg_of(rows, controls=None, placebos=None, title="leg", **settings):
    """Every item has the row's value, so that intervals have no width."""
    effect = torch.tensor(rows)[:, None].expand(-1, 16).clone()
    controls = {name: torch.tensor(values)[:, None].expand(-1, 16) for name, values in (controls or {}).items()}
    return make_leg(
        effect, sign_flips(effect), leg_text(title), provenance=WHERE, seed=0, curves={}, controls=controls,
        placebos=placebos, **settings,
    )  # fmt: skip


def share_of(*legs, **settings):
    result = ExperimentResult("code.similarity", "planted", tuple(legs), (), provenance=WHERE)
    return depth_shares([result], **settings)


def test_by_hand_layers_count_where_all_legs_hold_against_all_controls():
    first = leg_of([UP, UP, UP, UP, DOWN])  # holds at layers 1 2 3 of 4; layer 0 never counts
    second = leg_of([DOWN, DOWN, UP, UP, UP], title="second")
    (found,) = share_of(first, second)
    assert (found.share, found.low, found.high, found.legs, found.items) == (0.5, 0.5, 0.5, 2, 16)
    assert found.peak == 0.5 and found.weakest_share == 0.75
    held = leg_of([DOWN, DOWN, UP, UP, UP], {"kept": [0.0, UP, UP, UP, UP], "lost": [0.0, UP, UP, 0.0, UP]})
    (found,) = share_of(first, held)
    assert (found.share, found.peak, found.weakest_share) == (0.25, 0.5, 0.5)


def test_where_nothing_holds_the_share_is_0_with_its_interval_and_there_is_no_peak():
    (found,) = share_of(leg_of([UP, DOWN, UP]), leg_of([UP, UP, DOWN], title="second"))
    assert (found.share, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.peak is found.peak_low is found.peak_high is None and found.at == ""


def test_a_placebo_that_fails_takes_its_leg_away_and_one_that_holds_does_not():
    noise = torch.randn(4, 16, generator=generator(0))
    strong = leg_of([UP] * 4, placebos={"absent with noise": (1 + noise / 9, sign_flips(1 + noise / 9))})
    absent = leg_of([UP] * 4, placebos={"absent with noise": (noise / 9 - 1, sign_flips(noise / 9 - 1))})
    assert strong.placebos == 1 and not strong.checks[0].holds and absent.checks[0].holds
    assert [share_of(leg)[0].share for leg in (strong, absent)] == [0.0, 1.0]
    fields = {name: value for name, value in vars(strong).items() if name not in ("placebos", "lower")}
    assert Leg.from_fields(fields).placebos == 1  # a file that does not say so


def test_sweeps_patchscopes_and_probes_are_left_out():
    grid = leg_of([UP, UP], grid=[(1, 2.0), (2, 2.0)], title="sweep")
    (found,) = share_of(leg_of([UP, UP, DOWN]), grid)
    assert (found.share, found.legs, found.left_out) == (0.5, 1, ("code.similarity: sweep",))
    assert share_of(grid) == []
    scoped = leg_of([DOWN, DOWN], title="scoped")
    scoped = replace(scoped, wording=replace(scoped.wording, kind="patchscope"))
    (found,) = share_of(leg_of([UP, UP, DOWN]), scoped)
    assert (found.share, found.legs, found.left_out) == (0.5, 1, ("code.similarity: scoped",))
    probe = leg_of([UP, UP])
    assert share_of(replace(probe, wording=replace(probe.wording, data_type="probing"))) == []


def test_each_kind_of_legs_has_a_share_of_its_own_where_there_are_several():
    near, read = leg_of([UP, UP, UP, DOWN]), leg_of([UP, DOWN, UP, UP], title="second")
    read = replace(read, wording=replace(read.wording, kind="readability"))
    third = 1 / 3
    found = {share.name: share for share in share_of(near, read)}
    assert list(found) == ["languages", "languages, similarity", "languages, readability"]
    assert [share.share for share in found.values()] == pytest.approx([third, 2 * third, 2 * third])
    assert [share.legs for share in found.values()] == [2, 1, 1]
    assert [share.name for share in share_of(read)] == ["languages"]


def noisy(seed, data_hash="h", size=0.6):
    effect = size + torch.randn(7, 24, generator=generator(seed))
    left = effect - 0.1 * torch.randn(7, 24, generator=generator(seed + 50)).abs()
    own = replace(WHERE, data_hash=data_hash)
    return make_leg(
        effect, sign_flips(effect), leg_text(str(seed)), provenance=own, seed=0, curves={}, controls={"left": left}
    )


def test_interval_and_share_equal_a_loop_over_resampled_items():
    legs = [noisy(1), noisy(2), noisy(3, "other")]
    (found,) = share_of(*legs, draws=200)
    weights, shares = bootstrap_weights(24, 200, 0), []
    for draw in range(-1, 200):
        held = torch.ones(6, dtype=torch.bool)
        for leg in legs:
            at = (draw - (leg.provenance.data_hash == "other")) % 200
            for values, low in zip((leg.effect, *leg.controls), leg.lower, strict=True):
                for layer in range(1, 7):
                    own = values[layer].mean()
                    resampled = own if draw < 0 else (values[layer] * weights[at]).sum() / 24
                    held[layer - 1] &= bool(resampled > own - low[layer])
        shares.append(float(held.float().mean()))
    assert found.share == pytest.approx(shares[0])
    edges = torch.quantile(torch.tensor(shares[1:]), torch.tensor([0.025, 0.975])).tolist()
    assert (found.low, found.high) == pytest.approx((min(edges[0], shares[0]), max(edges[1], shares[0])))
    assert found.low < found.high


def test_shuffled_items_hold_nowhere_and_their_right_partners_do():
    rng, layers, items = generator(3), 13, 48
    states = torch.randn(layers, items, 8, generator=rng)
    right, shuffled, own = [], [], torch.arange(items)
    for name in ("one", "two"):
        partner = states + 0.7 * torch.randn(layers, items, 8, generator=rng)
        matrix = torch.nn.functional.cosine_similarity(states[:, :, None], partner[:, None], dim=-1)
        for legs, order in ((right, own), (shuffled, torch.randperm(items, generator=rng))):
            effect, draw = paired_contrast(matrix[:, :, order], own, other_keys(matrix[:, :, order], own))
            legs.append(make_leg(effect, draw, leg_text(name), provenance=WHERE, seed=0, curves={}))
    (planted,), (absent,) = share_of(*right), share_of(*shuffled)
    assert planted.share == 1.0 and planted.low > 0.9
    assert (absent.share, absent.low) == (0.0, 0.0) and absent.high <= 1 / 12 + 1e-6 and absent.peak is None


def test_p_counts_the_draws_that_reach_the_effect_at_any_layer():
    null = torch.tensor([[0.0, 1.0, -2.0], [0.0, -1.0, 2.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    # in units of their spread: 1.22 at layer 1, 1.22 at layer 2; the draws' maxima are 1.22, 1.22, 0, 0
    assert corrected_p(torch.tensor([0.0, 0.5, 9.0]), null, 1) == 3 / 5
    assert corrected_p(torch.tensor([0.0, 0.5, 9.0]), null, 2) == 1 / 5
    assert corrected_p(torch.tensor([9.0, -1.0, 9.0]), null, 1) == 1.0
    assert corrected_p(torch.tensor([0.0, 0.5, 9.0]), null, 1, first=0) == 4 / 5
