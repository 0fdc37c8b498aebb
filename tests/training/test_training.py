"""Training of projectors: planted pictures that must be found, null runs that must not, checkpoints, tables."""

import dataclasses

import pandas as pd
import pytest
import torch

import semhub_lens as shl
from planted_spokes import CHUNKS, NAMES, SHORT, TEMPLATES, D, FakeEncoder, learn, planted, training_set
from semhub_lens.base.results import unnamed
from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem, Split
from semhub_lens.model.readout import Readout
from semhub_lens.spokes import Projector, Shape, Spoke, load_projector
from semhub_lens.spokes.layout import layout
from semhub_lens.training import recipes
from semhub_lens.training.evaluation import SpokeEvaluation, accepted, evaluate
from semhub_lens.training.frozen import frozen, input_norm
from semhub_lens.training.recipes import TrainingPlan, run_plan
from semhub_lens.training.sampler import Head, Sampler, TrainingSet, batch_loss
from semhub_lens.training.train import TrainingCurve, train


def test_training_finds_the_names_of_planted_pictures_and_shuffled_pairs_do_not(tiny_model):
    _, curve, result = learn(tiny_model)
    _, _, null = learn(tiny_model, dataclasses.replace(SHORT, shuffle_pairs=True))
    assert curve.smooth[-1] < 0.5 * curve.smooth[10]
    assert result.accuracy(1, "new_item").mean > 0.7
    assert null.accuracy(1, "new_item").mean < 0.4
    assert result.accuracy(1, "new_item", level="blind").mean <= 0.2
    assert result.accuracy(1, "new_item", level="mismatched").mean < 0.4


def test_a_training_leaves_the_language_model_as_it_was(tiny_model):
    tiny_model.zero_grad(set_to_none=True)  # of other tests
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in tiny_model.named_parameters()}
    learn(tiny_model, dataclasses.replace(SHORT, steps=2))
    for name, parameter in tiny_model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1]
        assert parameter.grad is None


class Killed(Exception):
    pass


@pytest.mark.parametrize(("codes", "folds"), [(False, 0), (True, 0), (True, 2)])
def test_a_killed_training_goes_on_to_the_same_weights(tiny_model, tmp_path, monkeypatch, codes, folds):
    settings = dataclasses.replace(SHORT, steps=30, pretraining=10 if codes else 0, folds=folds)
    whole, curve, _ = learn(tiny_model, settings, every=10, codes=codes, rank=4 if codes else 0)
    draw = Sampler.draw

    def dying(self, step):
        if step == 17:
            raise Killed
        return draw(self, step)

    monkeypatch.setattr(Sampler, "draw", dying)
    with pytest.raises(Killed):
        learn(tiny_model, settings, every=10, folder=tmp_path, codes=codes, rank=4 if codes else 0)
    monkeypatch.setattr(Sampler, "draw", draw)
    resumed, again, _ = learn(tiny_model, settings, every=10, folder=tmp_path, codes=codes, rank=4 if codes else 0)
    assert torch.equal(curve.losses, again.losses)
    finished, _, _ = learn(
        tiny_model, settings, every=10, folder=tmp_path, codes=codes, rank=4 if codes else 0
    )  # killed after its last step
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert torch.equal(value, finished.state_dict()[name]), name


def test_a_folder_of_another_training_is_refused(tiny_model, tmp_path):
    learn(tiny_model, dataclasses.replace(SHORT, steps=2), folder=tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        learn(tiny_model, dataclasses.replace(SHORT, steps=2, seed=4), folder=tmp_path)


def test_a_folder_of_a_training_that_watched_other_items_is_refused(tiny_model, tmp_path):
    """Otherwise one curve would be of two sets."""
    settings = dataclasses.replace(SHORT, steps=2)
    ours, theirs = (training_set(*planted(per_name=1, seed=seed)) for seed in (0, 1))
    train(tiny_model, ours, settings, folder=tmp_path, checks={"new_item": ours}, progress=False)
    with pytest.raises(ValueError, match="other settings, data or model"):
        train(tiny_model, ours, settings, folder=tmp_path, checks={"new_item": theirs}, progress=False)


def test_the_hash_of_a_training_set_sees_every_entry():
    features, labels = planted(per_name=1)
    whole = training_set(features.round(), labels)
    turned = dataclasses.replace(whole, features=whole.features.flip(-1))
    assert torch.equal(turned.features.sum((1, 2, 3)), whole.features.sum((1, 2, 3))) and turned.hash != whole.hash


def test_undefined_states_have_no_rank(tiny_model):
    projector = Projector(Shape(CHUNKS, D, 32, hidden=8, embeddings=2), scale=3.0, seed=2)
    projector.scale.fill_(torch.inf)
    items = [MediaItem(n, "plain", n, {"en": (n,)}, "", str) for n in NAMES]
    with pytest.raises(ValueError, match="NaN or infinite"):
        evaluate(
            tiny_model, projector, planted(per_name=1)[0], items, ["train"] * len(items),
            templates={"en": "<image> plus"}, modality="image",
        )  # fmt: skip


def test_the_batch_loss_is_the_cross_entropy_of_the_models_own_logits(tiny_model):
    features, labels = planted()
    sampler = Sampler(tiny_model, training_set(features, labels), SHORT, 2)
    candidates = torch.arange(int(tiny_model.cfg.d_vocab))
    rows = [sampler.row("<image> this is a", "dog"), sampler.row("<image> plus", "red cat")]
    vectors = torch.randn(2, 2, 32, generator=generator(1))
    head = Head(tiny_model, candidates)
    with torch.no_grad(), frozen(tiny_model) as lm:
        losses = batch_loss(lm, head, vectors, rows)
    for (ids, places, start), own, loss in zip(rows, vectors, losses, strict=True):
        prompt = shl.Prompt(torch.tensor(ids), {"image": places}, embeddings={"image": own})
        with torch.no_grad():
            logits = tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=prompt.hooks, return_type="logits")[0]
        slow = torch.stack([-logits.log_softmax(-1)[j - 1, ids[j]] for j in range(start, len(ids))]).mean()
        torch.testing.assert_close(loss, slow, rtol=1e-4, atol=1e-4)


def test_gradients_reach_only_the_vectors(tiny_model):
    tiny_model.zero_grad(set_to_none=True)  # of other tests
    row = Sampler(tiny_model, training_set(*planted()), SHORT, 2).row("<image> plus", "dog")
    vectors = torch.randn(1, 2, 32, generator=generator(1), requires_grad=True)
    head = Head(tiny_model, torch.arange(int(tiny_model.cfg.d_vocab)))
    with frozen(tiny_model) as lm:
        batch_loss(lm, head, vectors, [row]).sum().backward()
    assert vectors.grad is not None and bool((vectors.grad.norm(dim=-1) > 0).all())
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_few_regions_are_shown_until_the_last_fifth(tiny_model):
    settings = dataclasses.replace(SHORT, steps=10, regions=2)
    sampler = Sampler(tiny_model, training_set(*planted()), settings, 5)
    shown = [sampler.shown(step) for step in range(10)]
    assert [len(places) for places in shown] == [2] * 8 + [5, 5]
    assert len(set(map(tuple, shown))) > 3 and all(places == sorted(set(places)) for places in shown)
    with pytest.raises(ValueError, match="joint=False"):
        learn(tiny_model, settings)


def test_items_of_one_language_are_drawn_as_often_as_told(tiny_model):
    features, labels = planted()
    pairs = [[("en" if i < 6 else "fr", NAMES[k])] for i, k in enumerate(labels)]
    own = TrainingSet(features[:, None], pairs, TEMPLATES | {"fr": ("<image> is",)}, "image")
    sampler = Sampler(tiny_model, own, dataclasses.replace(SHORT, batch=4000, english=0.8), 2)
    rows = sampler.draw(0).rows
    english = {tuple(sampler.row(t, n)[0]) for t in TEMPLATES["en"] for n in NAMES}
    assert sum(tuple(ids) in english for ids, _, _ in rows) / 4000 == pytest.approx(0.8, abs=0.03)


def test_ranks_count_the_tokens_before_the_best_accepted_one(tiny_model):
    projector = Projector(Shape(CHUNKS, D, 32, hidden=8, embeddings=2), scale=3.0, seed=2)
    features, _ = planted(per_name=1)
    items = [MediaItem(n, "plain", n, {"en": (n,)}, "", str) for n in NAMES]
    templates = {"en": "<image> plus"}
    splits = ["train"] * len(items)
    result = evaluate(tiny_model, projector, features, items, splits, templates=templates, modality="image")
    for i in (0, 7):
        spoke = Spoke(tiny_model, FakeEncoder(), projector)
        prompt = spoke.prompt("<image> plus", features[i])
        with torch.no_grad():
            last = tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=prompt.hooks, return_type="logits")[0, -1]
        best = max(last[j] for j in accepted(tiny_model, [NAMES[i]]))
        assert result.rank[i] == sum(float(x) > float(best) for x in last)
    assert len(result.summary()) == 6
    assert result.to_frame().shape[0] == len(items)


def test_what_a_null_also_finds_is_taken_off(tiny_model):
    _, _, result = learn(tiny_model, dataclasses.replace(SHORT, steps=2))
    ranks = torch.arange(len(result.keys)).float()
    found, null = dataclasses.replace(result, rank=ranks), dataclasses.replace(result, rank=ranks.flip(0))
    assert found.beyond(null, 3, "new_item").mean == 0
    assert found.beyond(dataclasses.replace(result, rank=ranks + 9), 3, "new_item").mean == pytest.approx(
        3 / len(ranks)
    )
    with pytest.raises(ValueError, match="lacks 1 of"):
        found.beyond(dataclasses.replace(null, keys=("x", *null.keys[1:])), 3, "new_item")


def planted_plan():
    features, labels = planted()
    items = [
        MediaItem(f"{i}", "plain", NAMES[k], {"en": (NAMES[k],), "fr": ("chat",)}, "", str)
        for i, k in enumerate(labels)
    ]
    held = [i for i in range(len(items)) if i % 6 == 5]
    split = Split(tuple(i for i in range(len(items)) if i % 6 < 5), tuple(held[::2]), tuple(held[1::2]), ())
    templates = {"en": TEMPLATES["en"], "fr": ("<image> is",)}
    return TrainingPlan("image", "fake", items, features[:, None].half(), split, templates, {"plain": len(items)})


def test_a_plan_leaves_a_projector_that_a_spoke_takes_and_its_tables(tiny_model, tmp_path):
    settings = dataclasses.replace(SHORT, steps=12)
    projector, curve, result = run_plan(
        tiny_model, planted_plan(), tmp_path, name="mine", settings=settings, hidden=16, embeddings=2, every=5,
        progress=False,
    )  # fmt: skip
    loaded, card = load_projector(tmp_path / "mine.safetensors")
    spoke = Spoke(tiny_model, FakeEncoder(), loaded, card)
    media = torch.randn(CHUNKS, D, generator=generator(0))
    with torch.no_grad():
        torch.testing.assert_close(spoke.embed(media), projector(media[None])[0])
    assert [step for step, _ in curve.checks["new_item"]] == [5, 10, 12]
    frame = pd.read_csv(tmp_path / "curve.csv")
    assert frame.groupby("split").size().to_dict() == {"train": 12, "new_item": 3, "new_style": 3}
    again = SpokeEvaluation.load(tmp_path / "evaluation.safetensors")
    assert torch.equal(again.rank, result.rank) and again.keys == result.keys
    assert len(pd.read_csv(tmp_path / "items.csv")) == len(result.rank) == 60
    assert list(shl.figure(curve).data[1].y) == pytest.approx(curve.smooth.tolist())


def test_the_smooth_curve_is_the_mean_of_the_last_steps():
    curve = TrainingCurve(torch.arange(6.0), {}, 3, provenance=unnamed())
    assert curve.smooth.tolist() == [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]


def test_shuffled_pairs_give_every_item_the_names_of_another(tiny_model):
    features, labels = planted()
    own = training_set(features, labels)
    sampler = Sampler(tiny_model, own, dataclasses.replace(SHORT, shuffle_pairs=True), 2)
    straight = Sampler(tiny_model, own, SHORT, 2)
    assert straight.named == list(own.names)
    assert sorted(map(str, sampler.named)) == sorted(map(str, own.names))
    assert sum(a == b for a, b in zip(sampler.named, own.names, strict=True)) < 0.25 * len(own.names)


def test_candidates_hold_every_token_of_the_names(tiny_model):
    sampler = Sampler(tiny_model, training_set(*planted()), dataclasses.replace(SHORT, candidates=1), 2)
    rows = [sampler.row("<image> plus", name) for name in NAMES]
    assert {token for ids, _, start in rows for token in ids[start:]} <= set(sampler.candidates().tolist())


def test_a_summed_loss_has_the_gradient_of_the_whole_names_log_likelihood(tiny_model, monkeypatch):
    """Two names, of one and three tokens: the step equals one that is taken by hand on the sum."""
    data = TrainingSet(planted()[0][:2, None], [[("en", "dog")], [("en", "cat dog house")]], TEMPLATES, "image")
    settings = dataclasses.replace(SHORT, steps=1, summed=True, dropout=0.0)
    kept = []
    clip = torch.nn.utils.clip_grad_norm_

    def watched(parameters, most):
        parameters = list(parameters)
        kept.append([p.grad.clone() for p in parameters])
        return clip(parameters, most)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    _, curve = train(tiny_model, data, settings, hidden=32, embeddings=2, progress=False)
    projector = Projector(Shape(CHUNKS, D, 32, hidden=32, embeddings=2, standardised=True), 1.0, settings.seed)
    projector.scale.fill_(input_norm(tiny_model, [" this is a", " plus"]))
    projector.standardise(data.features[:, 0])
    sampler = Sampler(tiny_model, data, settings, 2)
    batch = sampler.draw(0)
    head = Head(tiny_model, sampler.candidates())
    with frozen(tiny_model) as lm:
        means = batch_loss(lm, head, projector(batch.features), batch.rows)
    sums = means * torch.tensor([1.0 if item == 0 else 3.0 for item in batch.items])
    sums.mean().backward()
    assert curve.losses[0] == pytest.approx(float(means.detach().mean()), rel=1e-5)
    for found, parameter in zip(kept[0], projector.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-6)


def test_a_split_has_the_same_colour_in_the_figure_of_every_training():
    points = ((2, 1.5), (4, 1.0))
    eyes = dict.fromkeys(("choosing", "new_concept", "new_item", "new_style", "own"), points)
    ears = dict.fromkeys(("new_style", "new_concept"), points)
    drawn = []
    for checks in (eyes, ears):
        figure = shl.figure(TrainingCurve(torch.arange(4.0), checks, provenance=unnamed()))
        drawn.append({trace.name: trace for trace in figure.data if trace.mode == "lines+markers"})
    for name in ("new style", "new concept"):
        assert drawn[0][name].line.color == drawn[1][name].line.color
        assert (tuple(drawn[0][name].x), tuple(drawn[0][name].y)) == ((2, 4), (1.5, 1.0))
    assert len({trace.line.color for trace in drawn[0].values()}) == len(eyes)


def test_the_blind_rank_is_that_of_the_mean_vectors_item_by_item(tiny_model):
    projector, _, found = learn(tiny_model, dataclasses.replace(SHORT, steps=20))
    features, labels = planted()
    held = torch.arange(len(labels)) % 6 == 5
    mean = projector(features[held]).mean(0)[None]
    for item, name in enumerate(found.names):
        ids, positions, _ = layout(tiny_model, TEMPLATES["en"][0], "image", 2)
        with torch.no_grad(), frozen(tiny_model) as lm:
            state = lm(torch.tensor([ids]), mean, torch.tensor([list(positions)]))[:, -1:]
        logits = Readout(tiny_model)(state[0])[0].detach()
        right = max(float(logits[token]) for token in accepted(tiny_model, [name]))
        assert found.blind[item] == int((logits > right + 1e-5).sum())


def test_a_split_is_tested_on_so_many_items_but_every_style_of_the_split_by_style_is(monkeypatch):
    monkeypatch.setattr(recipes, "MOST", 5)
    items = [
        MediaItem(f"{s}{i}", s, f"{s}{i}", {"en": (NAMES[i],)}, "", str) for s in ("a", "b", "c") for i in range(10)
    ]
    split = Split(train=tuple(range(30)), new_item=(), new_style=tuple(range(30)), new_concept=(0, 1))
    found = recipes._drawn(items, split, 4)
    assert {part: len(chosen) for part, chosen in found.items()} == {"train": 5, "new_style": 12, "new_concept": 2}
    assert [sum(items[i].style == s for i in found["new_style"]) for s in "abc"] == [4, 4, 4]
    assert found == recipes._drawn(items, split, 4)
