"""Telling names apart before the language model takes part: what it changes, what it leaves, and its null."""

import copy
import dataclasses

import pytest
import torch

from planted_spokes import CHUNKS, NAMES, SHORT, D, learn, planted, training_set
from semhub_lens.spokes import Projector, Shape
from semhub_lens.training.pretraining import pretrain
from semhub_lens.training.sampler import Sampler

SETTINGS = dataclasses.replace(SHORT, pretraining=200, learning_rate=3e-3)


def projector(joint=True):
    return Projector(Shape(CHUNKS, D, 16, hidden=24, embeddings=2 if joint else CHUNKS, joint=joint), seed=3)


def sorted_out(model, settings, joint=True):
    """A pretrained projector, its last loss, and the weights before."""
    made = projector(joint)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    loss = pretrain(made, Sampler(model, training_set(*planted()), settings, made.shape.embeddings), progress=False)
    return made, loss, before


@pytest.mark.parametrize("joint", [True, False])
def test_the_hidden_layer_tells_names_apart_and_nothing_else_changes(tiny_model, joint):
    made, loss, before = sorted_out(tiny_model, SETTINGS, joint)
    assert loss < 0.3 * torch.tensor(float(len(NAMES))).log()
    changed = {name.split(".")[0] for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"norm", "enter"}


def test_no_steps_change_nothing(tiny_model):
    made, loss, before = sorted_out(tiny_model, dataclasses.replace(SETTINGS, pretraining=0))
    assert loss == 0 and all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_the_null_is_pretrained_on_shuffled_pairs_too(tiny_model):
    _, loss, _ = sorted_out(tiny_model, SETTINGS)
    _, null, _ = sorted_out(tiny_model, dataclasses.replace(SETTINGS, shuffle_pairs=True))
    assert null > 3 * loss


def test_the_same_seed_gives_the_same_weights_and_a_killed_training_repeats_it(tiny_model, tmp_path):
    settings = dataclasses.replace(SETTINGS, pretraining=20, steps=20)
    first, curve, _ = learn(tiny_model, settings, every=10)
    again, same, _ = learn(tiny_model, settings, every=10, folder=tmp_path)
    assert torch.equal(curve.losses, same.losses)
    other, _, _ = learn(tiny_model, dataclasses.replace(settings, pretraining=0), every=10)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.enter.weight, other.enter.weight)


def test_a_loss_that_is_not_finite_is_refused(tiny_model):
    features, labels = planted()
    with pytest.raises(ValueError, match=r"features= of shape .* NaN"):
        training_set(features * float("nan"), labels)
    broken = training_set(features, labels)
    broken.features.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss of step 0 of the pretraining is nan"):
        pretrain(projector(), Sampler(tiny_model, broken, SETTINGS, 2), progress=False)


def test_only_some_regions_are_seen_in_a_step(tiny_model, monkeypatch):
    seen = []
    hidden = Projector.hidden

    def watched(self, features, shown=None):
        out = hidden(self, features, shown)
        seen.append((tuple(shown), out.shape[1]))
        return out

    monkeypatch.setattr(Projector, "hidden", watched)
    made = projector(joint=False)
    settings = dataclasses.replace(SETTINGS, pretraining=20, regions=1)
    pretrain(made, Sampler(tiny_model, training_set(*planted()), settings, CHUNKS), progress=False)
    assert set(seen) == {((0,), 1), ((1,), 1)}


def test_a_model_in_half_precision_is_enough(tiny_model):
    data, made = training_set(*planted()), projector()
    half = copy.deepcopy(tiny_model).to(torch.bfloat16)
    assert pretrain(made, Sampler(half, data, SETTINGS, 2), progress=False) < 0.3 * torch.tensor(10.0).log()
    assert made.enter.weight.dtype == torch.float32
    whole, _, _ = sorted_out(tiny_model, SETTINGS)
    assert not torch.equal(made.enter.weight, whole.enter.weight)


def test_chosen_chunks_are_those_of_the_whole():
    made = projector(joint=False)
    features = planted()[0]
    torch.testing.assert_close(made.hidden(features, [1]), made.hidden(features)[:, [1]])
