"""Projectors that mix one code's vectors for each name: the mixture, what is learned where, and the null."""

import dataclasses

import pytest
import torch

from planted_spokes import CHUNKS, NAMES, SHORT, D, learn, planted, training_set
from semhub_lens.base.rng import generator
from semhub_lens.spokes import Projector, Shape
from semhub_lens.training.pretraining import pretrain
from semhub_lens.training.sampler import Sampler
from semhub_lens.training.train import train

SETTINGS = dataclasses.replace(SHORT, pretraining=200, steps=100)


def test_vectors_are_the_mixture_of_the_codes_own():
    projector = Projector(Shape(CHUNKS, D, 8, hidden=6, embeddings=3, codes=5), scale=2.0, seed=1)
    features = torch.randn(4, CHUNKS, D, generator=generator(0))
    shares = projector.code(projector.hidden(features)).softmax(-1)
    mixed = torch.einsum("ic,kdc->ikd", shares, projector.leave.weight.reshape(3, 8, 5))
    expected = 2.0 * torch.nn.functional.normalize(mixed, dim=-1)  # biases start at 0
    torch.testing.assert_close(projector(features), expected)


def test_a_table_of_low_rank_is_the_product_of_its_factors():
    small = Projector(Shape(CHUNKS, D, 8, hidden=6, embeddings=3, codes=5, rank=2), scale=2.0, seed=1)
    whole = Projector(Shape(CHUNKS, D, 8, hidden=6, embeddings=3, codes=5), scale=2.0, seed=1)
    whole.load_state_dict({k: v for k, v in small.state_dict().items() if "leave" not in k and "table" not in k}, False)
    whole.leave.weight.data = small.leave.weight.detach() @ small.table.weight.detach()
    features = torch.randn(4, CHUNKS, D, generator=generator(0))
    torch.testing.assert_close(small(features), whole(features))
    with pytest.raises(ValueError, match="no codes"):
        Shape(CHUNKS, D, 8, rank=2)


def test_what_tells_names_apart_is_not_moved_through_the_language_model(tiny_model):
    data = training_set(*planted())
    told = Projector(
        Shape(CHUNKS, D, 32, hidden=32, embeddings=2, codes=len(NAMES), standardised=True), seed=SHORT.seed
    )
    told.standardise(data.features[:, 0])
    pretrain(told, Sampler(tiny_model, data, SETTINGS, 2), progress=False)
    made, _ = train(tiny_model, data, SETTINGS, hidden=32, embeddings=2, codes=True, progress=False)
    before, after = told.rounded().state_dict(), made.state_dict()
    same = {name.split(".")[0] for name in after if torch.equal(before[name], after[name])}
    assert {"norm", "enter", "code", "mean", "deviation"} <= same
    assert not torch.equal(before["leave.weight"], after["leave.weight"])


@pytest.mark.parametrize("rank", [0, 6])
def test_planted_names_are_found_and_shuffled_pairs_find_none(tiny_model, rank):
    _, curve, result = learn(tiny_model, SETTINGS, codes=True, rank=rank)
    _, _, null = learn(tiny_model, dataclasses.replace(SETTINGS, shuffle_pairs=True), codes=True, rank=rank)
    assert curve.smooth[-1] < 0.5 * curve.smooth[10]
    assert result.accuracy(1, "new_item").mean > 0.7
    assert null.accuracy(1, "new_item").mean < 0.4


def test_mixed_pairs_reach_the_codes_too(tiny_model):
    settings = dataclasses.replace(SETTINGS, steps=1)
    plain, mixed = (
        Projector(Shape(CHUNKS, D, 32, hidden=32, embeddings=2, codes=len(NAMES)), seed=SHORT.seed) for _ in range(2)
    )
    pretrain(plain, Sampler(tiny_model, training_set(*planted()), settings, 2), progress=False)
    mixing = dataclasses.replace(settings, mixup=1.0)
    pretrain(mixed, Sampler(tiny_model, training_set(*planted()), mixing, 2), progress=False)
    features, _ = planted()
    sure = [p.code(p.hidden(features)).softmax(-1).amax(-1).mean() for p in (plain, mixed)]
    assert sure[1] < sure[0]


def test_codes_without_pretraining_are_refused(tiny_model):
    with pytest.raises(ValueError, match="pretraining"):
        train(tiny_model, training_set(*planted()), SHORT, codes=True, progress=False)
