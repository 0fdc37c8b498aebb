"""Sweeps: every cell is what one run by itself gives, controls are what they say, and half the items choose."""

from dataclasses import replace

import pytest
import torch

import semhub_lens as shl
from semhub_lens import Controls, adding, calibrate, direction, hooks, kl_to_clean, steering_scores, sweep
from semhub_lens.base.rng import generator
from semhub_lens.base.store import Store
from semhub_lens.evidence.draws import halves
from semhub_lens.interventions.sweep_result import SweepResult

PROMPTS = ["three plus two", "five", "red dog house cat"]
LAYERS, STRENGTHS = [1, 3], [0.5, 2.0]


def targets(model, prompts=PROMPTS):
    return steering_scores.next_token(
        model, prompts, {"two": "two", "red": "red"}, margins=[("two", "red")], variants="exact", progress=False
    )


def words(model):
    return lambda layer: direction.words(model, "two", "five", layer)


def unrelated(model):
    return lambda layer: direction.words(model, "cat", "dog", layer)


def per_item(model):
    drawn = torch.randn(4, len(PROMPTS), model.cfg.d_model, generator=generator(3))
    return lambda layer: drawn[layer]


def one_prompt_by_hand(model, text, vector, strength, layer):
    """Log-probabilities after one prompt, by the model's own forward pass and a hook written out."""
    name = f"blocks.{layer}.hook_resid_pre" if layer < 3 else "blocks.2.hook_resid_post"

    def edit(activation, hook):
        activation = activation.clone()
        activation[:, -1] += strength * vector
        return activation

    ids = shl.Prompt.from_text(model, text).ids[None]
    with torch.no_grad():
        return model.run_with_hooks(ids, fwd_hooks=[(name, edit)])[0, -1].log_softmax(-1)


@pytest.mark.parametrize("vectors", [words, per_item])
def test_every_cell_is_what_one_prompt_by_hand_gives(tiny_model, vectors):
    given = vectors(tiny_model)
    found = sweep(tiny_model, targets(tiny_model), given, LAYERS, STRENGTHS, progress=False)
    ids = [tiny_model.tokenizer.convert_tokens_to_ids(word) for word in ("two", "red")]
    for c, (sign, last) in {"steered": (1, False), "flipped": (-1, False), "last layer": (1, True)}.items():
        for i, layer in enumerate(LAYERS):
            for j, strength in enumerate(STRENGTHS):
                for item, text in enumerate(PROMPTS):
                    vector = given(layer) if given(layer).ndim == 1 else given(layer)[item]
                    own = one_prompt_by_hand(tiny_model, text, sign * vector, strength, 3 if last else layer)[ids]
                    scores = found.scores[found.conditions.index(c), i, j, :, item]
                    torch.testing.assert_close(scores[:2], own, atol=1e-4, rtol=1e-4)
                    torch.testing.assert_close(scores[2], own[0] - own[1], atol=1e-4, rtol=1e-4)


def test_clean_is_the_run_without_hooks_and_small_strengths_approach_it(tiny_model):
    found = sweep(tiny_model, targets(tiny_model), words(tiny_model), [1], [1e-5, 2.0], progress=False)
    own = one_prompt_by_hand(tiny_model, PROMPTS[0], torch.zeros(tiny_model.cfg.d_model), 0.0, 1)
    assert float(found.clean[0, 0]) == pytest.approx(
        float(own[tiny_model.tokenizer.convert_tokens_to_ids("two")]), abs=1e-4
    )
    assert found.effect("two")[0, 0].abs().max() < 1e-3 < found.effect("two")[0, 1].abs().max()


@pytest.mark.parametrize("vectors", [words, per_item])
def test_controls_have_the_norm_of_the_direction_row_by_row(tiny_model, vectors):
    seen = {}

    def recipe(vector, strength, layer):
        seen.setdefault((layer, strength), []).append(vector)
        return adding(tiny_model)(vector, strength, layer)

    controls = Controls(random=2, unrelated=unrelated(tiny_model), last_layer=False)
    found = sweep(
        tiny_model,
        targets(tiny_model),
        vectors(tiny_model),
        [2],
        [1.0],
        recipe=recipe,
        controls=controls,
        progress=False,
    )
    assert found.conditions == ("steered", "random", "random 2", "flipped", "unrelated")
    steered, first, second, flipped, other = seen[2, 1.0]
    for vector in (first, second, flipped, other):
        torch.testing.assert_close(vector.norm(dim=-1), steered.norm(dim=-1))
    assert torch.equal(flipped, -steered)
    for vector in (first, second, other):
        assert torch.cosine_similarity(vector, steered, dim=-1).abs().max() < 0.9
    cosine = torch.cosine_similarity(other, direction.words(tiny_model, "cat", "dog", 2), dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    torch.testing.assert_close(found.norms[0], steered.norm(dim=-1).expand(len(PROMPTS)))


def test_the_random_condition_is_the_mean_over_random_directions(tiny_model):
    controls = Controls(random=3, flipped=False, last_layer=False)
    found = sweep(tiny_model, targets(tiny_model), words(tiny_model), [1], [2.0], controls=controls, progress=False)
    by_hand = found.scores[1:4, :, :, 0].mean(0) - found.clean[0]
    torch.testing.assert_close(found.effect("two", "random"), by_hand)
    torch.testing.assert_close(found.contrast("two"), found.scores[0, :, :, 0] - found.scores[1:4, :, :, 0].mean(0))
    seeded = Controls(random=3, flipped=False, last_layer=False, seed=1)
    other = sweep(tiny_model, targets(tiny_model), words(tiny_model), [1], [2.0], controls=seeded, progress=False)
    assert torch.equal(other.scores[0], found.scores[0]) and not torch.equal(other.scores[1], found.scores[1])


class Killed(Exception):
    pass


def test_a_killed_sweep_resumes_with_the_same_numbers_and_repeats_no_finished_cell(tiny_model, tmp_path):
    inner, calls = targets(tiny_model), []

    def measure(edits, limit=None):
        if limit is not None and len(calls) == limit:
            raise Killed
        calls.append(len(edits))
        return inner(edits)

    def run(measure, store):
        return sweep(tiny_model, measure, words(tiny_model), LAYERS, STRENGTHS, store=store, progress=False)

    whole = run(inner, None)
    with pytest.raises(Killed):
        run(lambda edits: measure(edits, limit=7), Store(tmp_path))
    resumed = run(measure, Store(tmp_path))
    assert calls.count(0) == 1 and len(calls) == 1 + 4 * len(LAYERS) * len(STRENGTHS) - 2  # entry 3 is the last layer
    assert torch.equal(resumed.scores, whole.scores) and torch.equal(resumed.clean, whole.clean)
    calls.clear()
    assert torch.equal(run(measure, Store(tmp_path)).scores, whole.scores) and calls == []


def test_kept_cells_of_another_direction_are_not_read(tiny_model, tmp_path):
    first = sweep(tiny_model, targets(tiny_model), words(tiny_model), [1], [1.0], store=Store(tmp_path), progress=False)
    second = sweep(
        tiny_model, targets(tiny_model), unrelated(tiny_model), [1], [1.0], store=Store(tmp_path), progress=False
    )
    assert not torch.equal(first.scores[0], second.scores[0])


def planted(effect=1.0, items=40, damage=None):
    """Two layers, three strengths; only layer 5 at strength 2 works, and damage grows with strength."""
    noise = torch.randn(4, 2, 3, 2, items, generator=generator(0)) * 0.1
    scores = noise.clone()
    scores[0, 1, 1, 0] += effect
    scores[:, :, :, 1] = torch.tensor([0.1, 0.5, 3.0])[None, None, :, None] if damage is None else damage
    provenance = shl.Provenance("m", "w", "c", "float32", "cpu", "none", True, seed=0)
    return SweepResult(
        conditions=("steered", "random", "flipped", "last layer"),
        layers=(3, 5),
        strengths=(1.0, 2.0, 4.0),
        names=("hit", "cost"),
        damage=("cost",),
        clean=torch.zeros(2, items),
        scores=scores,
        norms=torch.ones(2, items),
        provenance=provenance,
    )


def test_choose_finds_the_planted_cell_and_reports_the_other_half():
    result = planted()
    found = result.choose("hit", damage="cost", budget=1.0, seed=4)
    assert (found.layer, found.strength, found.items, found.within_budget) == (5, 2.0, 20, True)
    _, reporting = halves(40, 4)
    assert found.effect.mean == pytest.approx(float(result.scores[0, 1, 1, 0, reporting].mean()))
    assert found.contrast.mean == pytest.approx(
        float((result.scores[0, 1, 1, 0] - result.scores[1, 1, 1, 0])[reporting].mean()), abs=1e-6
    )
    assert found.effect.low > 0.8 and abs(dict(found.controls)["flipped"].mean) < 0.2
    assert dict(found.damage)["cost"].mean == pytest.approx(0.5)


def test_choose_keeps_to_the_damage_budget():
    result = planted()
    assert result.choose("hit", damage="cost", budget=0.2).strength == 1.0
    with pytest.raises(ValueError, match=r"No cell keeps 'cost' within 0.05: the smallest rise is 0.1"):
        result.choose("hit", damage="cost", budget=0.05)


def test_without_an_effect_the_chosen_cell_has_none_on_the_other_half():
    lows = [planted(effect=0.0).choose("hit", seed=seed).contrast for seed in range(8)]
    assert sum(found.low > 0 for found in lows) <= 2 and all(abs(found.mean) < 0.15 for found in lows)


def test_table_and_file_hold_every_number(tmp_path):
    result = planted()
    frame = result.to_frame()
    assert len(frame) == 40 + 4 * 2 * 3 * 40
    row = frame[(frame.condition == "flipped") & (frame.layer == 5) & (frame.strength == 4.0) & (frame.item == 7)]
    assert row.hit.item() == pytest.approx(float(result.scores[2, 1, 2, 0, 7]))
    assert frame[frame.condition == "clean"].layer.isna().all()
    back = SweepResult.load(result.save(tmp_path / "sweep.safetensors"))
    assert torch.equal(back.scores, result.scores) and back.names == result.names and back.layers == result.layers


def test_the_figure_shows_means_of_both_maps_and_marks_the_chosen_cell():
    result = planted()
    drawn = shl.figure(result)
    maps = [trace for trace in drawn.data if trace.type == "heatmap"]
    assert len(maps) == 8  # four conditions, one effect and one damage
    expected = result.effect("hit").mean(-1)
    torch.testing.assert_close(torch.tensor(maps[0].z, dtype=torch.float32), expected)
    torch.testing.assert_close(torch.tensor(maps[1].z, dtype=torch.float32), result.effect("hit", "random").mean(-1))
    assert maps[0].coloraxis == maps[3].coloraxis != maps[4].coloraxis
    marks = {(trace.x[0], trace.y[0]) for trace in drawn.data if trace.type == "scatter"}
    assert marks == {("2", "5")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [4]}, "residual entries from 0 to 3"),
        ({"layers": []}, "residual entries"),
        ({"layers": [1, 1]}, "residual entries"),
        ({"strengths": [0.0]}, "above 0"),
        ({"strengths": [-1.0]}, "above 0"),
        ({"direction": lambda layer: torch.ones(5)}, r"shape \(5,\)"),
        ({"direction": lambda layer: torch.zeros(32)}, "is 0, NaN"),
        ({"direction": lambda layer: torch.ones(2, 32)}, "2 items, but the measure has scores for 3"),
        ({"damage": ["cost"]}, "Unknown damage"),
        ({"controls": Controls(unrelated=lambda layer: torch.ones(3, 32))}, "one vector per item"),
        ({"measure": lambda edits: {}}, "at least one"),
        ({"measure": lambda edits: {"a": torch.ones(3, 1 + len(edits))}}, "one number per item"),
        ({"measure": lambda edits: {"a" if edits else "b": torch.ones(3)}}, "same scores"),
    ],
)
def test_bad_input_is_refused_with_its_reason(tiny_model, change, message):
    given = {"measure": targets(tiny_model), "direction": words(tiny_model), "layers": [1], "strengths": [1.0]} | change
    with pytest.raises(ValueError, match=message):
        sweep(tiny_model, progress=False, **given)


def test_a_direction_per_item_reaches_its_own_prompt_in_any_order(tiny_model):
    vectors = torch.randn(3, tiny_model.cfg.d_model, generator=generator(1))
    edit = [("blocks.1.hook_resid_pre", hooks.add(vectors, 2.0, -1, each="item"))]
    together = shl.residual_stream(tiny_model, PROMPTS, hooks=edit, progress=False)
    for i, text in enumerate(PROMPTS):
        own = [("blocks.1.hook_resid_pre", hooks.add(vectors[i], 2.0, -1))]
        alone = shl.residual_stream(tiny_model, text, hooks=own, progress=False)
        torch.testing.assert_close(together[:, i : i + 1], alone, atol=1e-4, rtol=1e-4)
    replaced = [("blocks.1.hook_resid_pre", hooks.replace(vectors, positions=-1, each="item"))]
    found = shl.residual_stream(tiny_model, PROMPTS, hooks=replaced, progress=False)[1]
    torch.testing.assert_close(found, vectors, atol=1e-5, rtol=1e-5)


def test_directions_for_other_items_than_those_run_are_refused(tiny_model):
    edit = [("blocks.1.hook_resid_pre", hooks.add(torch.ones(2, 32), each="item"))]
    with pytest.raises(ValueError, match=r"sources for 2 prompts.*run has 3"):
        shl.residual_stream(tiny_model, PROMPTS, hooks=edit, progress=False)


def curve(costs):
    """A damage measure that reads the strength out of the hooks and looks it up."""
    return lambda edits: {"cost": torch.full((2,), float(costs(edits[0])))}


def strength_only(vector, strength, layer):
    return [strength]


def test_calibrate_ends_just_below_the_budget(tiny_model):
    found = calibrate(
        tiny_model, curve(lambda s: s**2), torch.ones(32), 1, budget=10.0, recipe=strength_only, tolerance=1e-4
    )
    assert found.strength == pytest.approx(10**0.5, rel=1e-4) and 9.999 <= found.damage <= 10.0
    low = calibrate(tiny_model, curve(lambda s: s), torch.ones(32), 1, budget=0.01, recipe=strength_only)
    assert 0.0095 <= low.strength <= 0.01  # the first strength was above the budget already


def test_calibrate_takes_the_first_crossing_of_a_damage_that_falls_again(tiny_model):
    def costs(s):
        return s if s < 5 else 0.1 * s  # crosses 3, falls, crosses 3 again at 30

    found = calibrate(tiny_model, curve(costs), torch.ones(32), 1, budget=3.0, recipe=strength_only, tolerance=1e-3)
    assert 2.99 < found.strength <= 3.0


def test_calibrate_says_so_when_the_budget_is_never_reached(tiny_model):
    with pytest.raises(ValueError, match=r"never reached 2: the largest was 1"):
        calibrate(tiny_model, curve(lambda s: s / (1 + s)), torch.ones(32), 1, budget=2.0, recipe=strength_only)
    with pytest.raises(ValueError, match="budget above 0"):
        calibrate(tiny_model, curve(lambda s: s), torch.ones(32), 1, budget=0.0)
    with pytest.raises(ValueError, match="one score"):
        calibrate(tiny_model, lambda edits: {"a": torch.ones(2), "b": torch.ones(2)}, torch.ones(32), 1, budget=1.0)


def test_a_calibrated_direction_costs_its_budget_in_a_run_of_its_own(tiny_model):
    texts = ["three plus two", "red dog"]
    cost = steering_scores.damage(tiny_model, texts, items=2, read_at="last", progress=False)
    vector = words(tiny_model)(2)
    found = calibrate(tiny_model, cost, vector, 2, budget=0.2)
    again = kl_to_clean(
        tiny_model, texts, adding(tiny_model)(vector, found.strength, 2), read_at="last", progress=False
    )
    assert float(again.mean()) == pytest.approx(found.damage, rel=1e-4) and 0.19 <= found.damage <= 0.2


def test_damage_pairs_item_and_text_in_turn(tiny_model):
    vectors = torch.randn(3, tiny_model.cfg.d_model, generator=generator(1))
    cost = steering_scores.damage(tiny_model, ["three plus two", "red dog"], items=3, read_at="last", progress=False)
    found = cost(adding(tiny_model)(vectors, 1.0, 1))["KL to clean"]
    own = [
        kl_to_clean(tiny_model, text, adding(tiny_model)(vector, 1.0, 1), read_at="last", progress=False)
        for text, vector in zip(["three plus two", "red dog", "three plus two"], vectors, strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(own), atol=1e-5, rtol=1e-4)


def test_continuations_are_scored_as_generated_under_the_hooks(tiny_model):
    edit = adding(tiny_model)(words(tiny_model)(1), 4.0, 1)

    def score(written):
        return {"third": torch.tensor([float(ids[-1]) for ids in written.token_ids])}

    measure = steering_scores.continuations(
        tiny_model, PROMPTS, score, max_new_tokens=3, temperature=1.0, seed=5, progress=False
    )
    own = shl.generate(tiny_model, PROMPTS, hooks=edit, max_new_tokens=3, temperature=1.0, seed=5, progress=False)
    assert measure(edit)["third"].tolist() == [float(ids[-1]) for ids in own.token_ids]


def test_measures_that_share_a_name_are_not_joined(tiny_model):
    part = targets(tiny_model)
    assert list(steering_scores.together(part)(())) == ["two", "red", "two over red"]
    with pytest.raises(ValueError, match="Two measures return"):
        steering_scores.together(part, part)(())


def test_an_undefined_score_of_a_random_direction_is_refused_too():
    """Otherwise the cell without a contrast would count as the best one."""
    result = planted()
    scores = result.scores.clone()
    scores[result.conditions.index("random"), 0, 0, result.names.index("hit"), 2] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite values in hit"):
        replace(result, scores=scores).choose("hit")


@pytest.mark.parametrize("other", ["Two", ["five", "two", "red"]])
def test_a_margin_between_words_that_share_a_token_is_refused(tiny_model, other):
    """ "Two" and "two" are one word unless only exact spellings count: their margin would be 0 in every run."""
    words = {"a": "two", "b": other}
    assert set(steering_scores.next_token(tiny_model, PROMPTS, words, progress=False)(())) == {"a", "b"}
    with pytest.raises(ValueError, match="'a' over 'b' would compare tokens with themselves"):
        steering_scores.next_token(tiny_model, PROMPTS, words, margins=[("a", "b")], progress=False)
