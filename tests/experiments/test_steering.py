"""Steering legs: found where a sweep moves a score beyond random directions, gone where the two are exchanged."""

import pytest
import torch

import semhub_lens as shl
from jobs import job_on
from semhub_lens.base.rng import generator
from semhub_lens.base.store import Store
from semhub_lens.data.numbers.arithmetic import Expression, number_word
from semhub_lens.evidence.legs import LegText
from semhub_lens.experiments.arithmetic import steering as arithmetic_steering
from semhub_lens.experiments.arithmetic.steering import answer_shares
from semhub_lens.experiments.legs_in_common import NOT_RANDOM
from semhub_lens.experiments.sampling import sample
from semhub_lens.experiments.steering_legs import BEYOND, spread, steering_leg
from semhub_lens.interventions.sweep_result import SweepResult

WORDING = LegText(
    title="planted",
    data_type="arithmetic",
    kind="causality",
    claim="steering works",
    control="signs flipped",
    unit="share",
    curve_unit="share",
)
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


SMALL = [Expression(o, t, "+") for o in range(1, 8) for t in range(2, 6) if o + t < 10]


@pytest.fixture
def small_sums(monkeypatch):
    """Sums whose numbers the tiny model's tokenizer knows."""
    monkeypatch.setattr(arithmetic_steering, "sums", lambda: SMALL)
    monkeypatch.setattr(arithmetic_steering, "STRENGTHS", (1.0, 3.0))
    monkeypatch.setattr(arithmetic_steering, "UNRELATED", ("red dog", "blue dog"))


def run(model, **settings):
    return arithmetic_steering.run_steering(job_on(model, 16, seed=2, progress=False, **settings))


def by_hand(model, expression, strength, layer, added_at):
    """log p(t - 1) - log p(t) after one sum that is steered with a hook written out."""
    words = [f"{number_word(expression.result)} equals to {number_word(expression.first + k)} plus" for k in (1, 0)]
    higher, own = (shl.residual_stream(model, text, progress=False)[layer, 0] for text in words)

    def edit(activation, hook):
        activation = activation.clone()
        activation[:, -1] += strength * (higher - own)
        return activation

    ids = shl.Prompt.from_text(model, f"{expression.result}={expression.first}+").ids[None]
    with torch.no_grad():
        logits = model.run_with_hooks(ids, fwd_hooks=[(f"blocks.{added_at}.hook_resid_pre", edit)])[0, -1]
    lower, right = (model.tokenizer.convert_tokens_to_ids(str(expression.second - k)) for k in (1, 0))
    return float(logits[lower] - logits[right])


@pytest.mark.parametrize(("convention", "later"), [("corrected", 0), ("paper", 1)])
def test_sums_are_steered_with_their_own_words_at_the_layer_they_were_read(tiny_model, small_sums, convention, later):
    found = run(tiny_model, convention=convention, baseline=False)
    sweep, labels = found.extras[0], found.legs[0].labels
    items = [SMALL[i] for i in sample(len(SMALL), 16, 2)]
    assert labels == tuple(f"{e.result}={e.first}+{e.second}" for e in items)
    margin = sweep.effect("one lower over right") + sweep.clean[sweep.names.index("one lower over right")]
    assert sweep.layers == (1, 2)
    for item in (0, 7, 15):
        for j, strength in enumerate((1.0, 3.0)):
            own = by_hand(tiny_model, items[item], strength, 1, 1 + later)
            assert float(margin[0, j, item]) == pytest.approx(own, abs=1e-3)


def test_shares_of_answers_add_up_and_the_clean_answers_do_no_damage(tiny_model, small_sums):
    found = run(tiny_model)
    sweep = found.extras[0]
    rows = [sweep.names.index(name) for name in ("predicted change", "unchanged", "other")]
    assert torch.equal(sweep.scores[:, :, :, rows].sum(3), torch.ones(5, 2, 2, 16))
    assert not sweep.clean[sweep.names.index("KL to clean")].any()
    assert (sweep.effect("KL to clean").mean(-1) > 0).all()
    graded = found.legs[0]
    assert [check.name for check in graded.checks] == [*BEYOND.values(), NOT_RANDOM]
    assert graded.strengths == (1.0, 3.0, 1.0, 3.0) and graded.layers == (1, 1, 2, 2)


def test_a_run_that_was_killed_gives_the_same_numbers(tiny_model, small_sums, tmp_path, monkeypatch):
    whole = run(tiny_model, baseline=False)
    cells = []

    def counted(*given):
        cells.append(given)
        if len(cells) == 9:
            raise KeyboardInterrupt
        return answer_shares(*given)

    monkeypatch.setattr(arithmetic_steering, "answer_shares", counted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, baseline=False, store=Store(tmp_path))
    done = len(cells)
    again = run(tiny_model, baseline=False, store=Store(tmp_path))
    assert torch.equal(again.extras[0].scores, whole.extras[0].scores)
    assert len(cells) - done < 1 + 5 * 4 - 7  # eight runs were finished before
    assert again.summary().equals(whole.summary())


def test_the_result_survives_saving_with_its_sweep(tiny_model, small_sums, tmp_path):
    found = run(tiny_model, baseline=False)
    back = shl.ExperimentResult.load(found.save(tmp_path / "run.safetensors"))
    assert torch.equal(back.extras[0].scores, found.extras[0].scores) and back.notes == found.notes


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1+1", "predicted change"), (" 1+1\n", "predicted change"), ("2", "unchanged"), ("2\n5=", "unchanged"),
        ("1", "other"), ("1+12", "other"), ("1+2", "other"), ("21", "other"), ("12+1", "other"), ("", "other"),
        ("two", "other"),
    ],
)  # fmt: skip
def test_answers_to_five_is_three_plus(text, share):
    written = shl.Generation(("5=3+",), (text,), ((1,),), provenance=WHERE)
    found = answer_shares(written, [Expression(3, 2, "+")])
    assert {name: bool(value) for name, value in found.items() if name != "answers one lower"} == {
        name: name == share for name in ("predicted change", "unchanged", "other")
    }
    assert bool(found["answers one lower"]) == (text.strip()[:2] in ("1", "1+"))
