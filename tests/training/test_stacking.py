"""Codes learned behind classifiers that have not seen the item: who sees what, and what it changes."""

import dataclasses

import pytest
import torch

from planted_spokes import CHUNKS, NAMES, SHORT, D, learn, planted, training_set
from semhub_lens.base.rng import generator
from semhub_lens.spokes import Projector, Shape
from semhub_lens.training.pretraining import pretrain
from semhub_lens.training.sampler import Sampler
from semhub_lens.training.stacking import OutOfFold

SETTINGS = dataclasses.replace(SHORT, pretraining=60, steps=60, folds=3)


def start(joint=True):
    shape = Shape(CHUNKS, D, 32, hidden=32, embeddings=2, joint=joint, codes=len(NAMES))
    return Projector(shape, seed=SHORT.seed)


def test_folds_are_of_equal_size_and_the_items_of_one_are_never_drawn_without_it(tiny_model):
    sampler = Sampler(tiny_model, training_set(*planted()), SETTINGS, 2)
    assert sampler.fold.bincount().tolist() == [20, 20, 20]
    for fold in range(3):
        items = sampler.sample(generator(0), 500, without=fold)[1]
        assert set(items.tolist()) == set((sampler.fold != fold).nonzero()[:, 0].tolist())


@pytest.mark.parametrize("joint", [True, False])
def test_an_item_gets_the_shares_of_the_classifier_that_has_not_seen_it(tiny_model, joint):
    features, labels = planted()
    sampler = Sampler(tiny_model, training_set(features, labels), SETTINGS, 2)
    items = torch.arange(0, 60, 7)
    found = OutOfFold(start(joint), sampler, progress=False).shares(features[items], items)
    for row, item in enumerate(items.tolist()):
        alone = start(joint)
        pretrain(alone, sampler, without=int(sampler.fold[item]), progress=False)
        torch.testing.assert_close(found[row], alone.shares(features[item][None])[0])


def test_the_items_of_a_name_are_dealt_out_and_an_only_one_is_never_left_out(tiny_model):
    names = ["dog"] * 4 + ["cat"] * 2 + ["house"]
    data = training_set(planted()[0][: len(names)], [NAMES.index(name) for name in names])
    fold = Sampler(tiny_model, data, SETTINGS, 2).fold
    assert sorted(fold[:4].bincount(minlength=3).tolist()) == [1, 1, 2]
    assert len(set(fold[4:6].tolist())) == 2 and fold[6] == -1
    for left in range(3):
        assert 6 in Sampler(tiny_model, data, SETTINGS, 2).sample(generator(0), 500, without=left)[1]


def test_every_second_step_is_stacked_and_its_features_are_not_mixed(tiny_model):
    features, labels = planted()
    sampler = Sampler(tiny_model, training_set(features, labels), dataclasses.replace(SETTINGS, mixup=1.0), 2)
    for step in range(4):
        batch = sampler.draw(step)
        assert torch.equal(batch.features, features[batch.items]) == sampler.stacked(step) == (step % 2 == 1)
        assert (sampler.mask(step, start()) is None) == sampler.stacked(step)


def test_the_classifiers_are_less_sure_of_unseen_items_where_names_are_noise(tiny_model):
    """With shuffled pairs nothing can be known of an item that was not seen; one that was seen is known by heart."""
    features, labels = planted()
    settings = dataclasses.replace(SETTINGS, shuffle_pairs=True, pretraining=300)
    sampler = Sampler(tiny_model, training_set(features, labels), settings, 2)
    right = torch.tensor([sorted(("en", name) for name in NAMES).index(listed[0]) for listed in sampler.named])
    seen = start()
    pretrain(seen, sampler, progress=False)
    items = torch.arange(len(labels))
    unseen = OutOfFold(start(), sampler, progress=False).shares(features, items)
    by_heart = seen.shares(features)[items, right].mean()
    assert by_heart > 0.5 and unseen[items, right].mean() < 0.2


def test_planted_names_are_found_and_shuffled_pairs_find_none(tiny_model):
    settings = dataclasses.replace(SETTINGS, pretraining=200, steps=100)
    _, curve, result = learn(tiny_model, settings, codes=True)
    _, _, null = learn(tiny_model, dataclasses.replace(settings, shuffle_pairs=True), codes=True)
    assert curve.smooth[-1] < 0.5 * curve.smooth[10]
    assert result.accuracy(1, "new_item").mean > 0.7
    assert null.accuracy(1, "new_item").mean < 0.4


def test_in_every_second_step_the_codes_learn_from_the_unseen_classifiers_shares(tiny_model, monkeypatch):
    asked, shares = [], OutOfFold.shares

    def watched(self, features, items):
        asked.append(items.tolist())
        return shares(self, features, items)

    monkeypatch.setattr(OutOfFold, "shares", watched)
    settings = dataclasses.replace(SETTINGS, steps=6)
    stacked, _, _ = learn(tiny_model, settings, codes=True)
    features, labels = planted()
    held = torch.arange(len(labels)) % 6 == 5
    sampler = Sampler(tiny_model, training_set(features[~held], labels[~held]), settings, 2)
    assert asked == [sampler.draw(step).items.tolist() for step in (1, 3, 5)]
    monkeypatch.setattr(OutOfFold, "shares", lambda self, features, items: shares(self, features, items).flip(-1))
    other, _, _ = learn(tiny_model, settings, codes=True)
    assert not torch.equal(stacked.leave.weight, other.leave.weight)


def test_what_is_kept_is_the_classifier_of_all_items(tiny_model):
    plain, _, _ = learn(tiny_model, dataclasses.replace(SETTINGS, folds=0), codes=True)
    stacked, _, _ = learn(tiny_model, SETTINGS, codes=True)
    same = {name for name, value in stacked.state_dict().items() if torch.equal(value, plain.state_dict()[name])}
    assert {"norm.weight", "enter.weight", "code.weight"} <= same and "leave.weight" not in same


def test_folds_without_codes_are_refused(tiny_model):
    with pytest.raises(ValueError, match="folds"):
        learn(tiny_model, SETTINGS)
    with pytest.raises(ValueError, match="folds"):
        learn(tiny_model, dataclasses.replace(SETTINGS, folds=1), codes=True)
    with pytest.raises(ValueError, match="no shares"):
        Projector(Shape(CHUNKS, D, 8)).shares(torch.zeros(1, CHUNKS, D))
