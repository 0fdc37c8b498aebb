"""Evenly spaced positions, and what reads them."""

import inspect

import pytest
import torch

import semhub_lens as shl
from semhub_lens.experiments import registry
from semhub_lens.lens.language_mass import language_mass
from semhub_lens.model.reads import spread


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_as_many_as_asked_in_order_with_equal_ends(length, count):
    chosen = spread(range(length), count)
    assert len(chosen) == min(length, count) and sorted(set(chosen)) == chosen
    assert abs(chosen[0] - (length - 1 - chosen[-1])) <= 1


def test_the_mass_is_that_of_these_positions_alone(tiny_model):
    table, text = shl.script_table(tiny_model), "three plus two five dog red"
    states = torch.stack(
        [language_mass(tiny_model, [text], table, positions=k, progress=False).mass for k in (1, 6, 99)]
    )
    whole = language_mass(tiny_model, [text], table, progress=False)
    assert whole.positions.tolist() == [6] and torch.equal(states[1], whole.mass) and torch.equal(states[2], whole.mass)
    (middle,) = spread(range(1, 7), 1)
    alone = shl.logit_lens(tiny_model, text, top_k=len(table.weights), progress=False)
    ids, probs = alone.top_ids[:, middle], alone.top_logprobs[:, middle].exp()
    by_hand = torch.einsum("lv,lvs->ls", probs, table.weights[ids])
    torch.testing.assert_close(states[0], by_hand, atol=1e-5, rtol=0)


def test_no_position_is_refused_before_the_model_runs(tiny_model):
    with pytest.raises(shl.SemhubError, match=r"at least 1[,;] got 0"):
        language_mass(tiny_model, ["dog"], shl.script_table(tiny_model), positions=0, progress=False)
    with pytest.raises(shl.SemhubError, match=r"at least 1[,;] got 0"):
        shl.experiments.run("multilingual.language_mass", tiny_model, positions=0, progress=False)


@pytest.mark.parametrize("name, changed", [("arithmetic.trajectories", False), ("multilingual.language_mass", True)])
def test_only_experiments_that_average_over_positions_depend_on_how_many(tiny_model, monkeypatch, name, changed):
    asked = []
    monkeypatch.setattr(registry, "run_experiment", lambda chosen, job, out: asked.append(job.settings))
    for positions in (None, 2):
        inspect.unwrap(registry.run)(name, tiny_model, positions=positions, progress=False)
    assert set(registry.AVERAGED) < set(registry.EXPERIMENTS) and (asked[0] != asked[1]) == changed
