"""Translators: what is trained agrees better with the model on texts that it did not see, again and after a kill."""

import json
import random
from dataclasses import replace

import pytest
import torch

import models
import semhub_lens as shl
from samples import noise
from semhub_lens.base.rng import generator
from semhub_lens.lens import translator_training as training
from semhub_lens.lens.translator_fit import Candidates, Fit, Sample
from semhub_lens.model import translators as packaging

DRAWN = random.Random(0)
TEXTS = {
    group: [" ".join(DRAWN.choice(models.WORDS[:22]) for _ in range(9)) for _ in range(24)] for group in ("one", "two")
}
SETUP = shl.TranslatorSetup(rank=8, steps=8, every=4, batch=32)
QUIET = {"progress": False}


def train(model, **changes):
    return shl.train_translators(model, TEXTS, **{"setup": SETUP, "name": "made here"} | changes, **QUIET)


@pytest.fixture(scope="module")
def model():
    return models.tiny("bridge")


@pytest.fixture(scope="module")
def made(model):
    return train(model)


@pytest.fixture
def tuned_lens(model, tmp_path):
    """A folder as the package `tuned-lens` writes it, and what is in it."""
    width, layers = model.cfg.d_model, model.cfg.n_layers
    maps = {f"{i}.weight": noise(width, width, seed=i) / width for i in range(layers)}
    maps |= {f"{i}.bias": noise(width, seed=9 + i) for i in range(layers)}

    def write(parameters=maps, **config):
        torch.save(parameters, tmp_path / "params.pt")
        told = {"base_model_name_or_path": "their/model", "d_model": width, "num_hidden_layers": layers, "bias": True}
        (tmp_path / "config.json").write_text(json.dumps(told | config))
        return tmp_path

    return write, maps


def ids_of(model, text):
    return shl.Prompt.from_text(model, text).ids.tolist()


def same(one, other):
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in ("left", "right", "bias", "kl"))


def test_token_ids_and_a_padded_batch_train_the_maps_of_their_texts(model):
    few, texts = shl.TranslatorSetup(rank=2, steps=2, every=1), TEXTS["one"]
    rows = [ids_of(model, text) for text in texts]
    batch = {"input_ids": torch.tensor(rows), "attention_mask": torch.ones(len(rows), len(rows[0]))}
    plain, of_ids, of_batch = (
        shl.train_translators(model, given, setup=few, **QUIET) for given in (texts, rows, batch)
    )
    assert same(plain, of_ids) and same(plain, of_batch)
    grouped = {group: [ids_of(model, text) for text in listed] for group, listed in TEXTS.items()}
    assert same(train(model), shl.train_translators(model, grouped, setup=SETUP, **QUIET))


def test_held_out_kl_is_that_of_a_plain_softmax_and_lower_than_the_lens_at_every_layer(model, made, monkeypatch):
    seen = []
    sampled = training._sampled
    monkeypatch.setattr(training, "_sampled", lambda *a: seen.append(sampled(*a)) or seen[-1])
    assert same(train(model), made)
    held = seen[-1]
    for reading, change in enumerate((lambda states, layer: states, made)):
        for layer in range(4):
            states = held.states[layer] if layer == 3 else change(held.states[layer], layer)
            q, p = (shl.Readout(model)(each).double().log_softmax(-1) for each in (states, held.states[-1]))
            kl = (p.exp() * (p - q)).sum(-1)
            expected = torch.stack([kl[held.texts == text].mean() for text in range(len(made.groups))])
            torch.testing.assert_close(made.kl[reading, layer].double(), expected, atol=1e-5, rtol=1e-4)
    assert made.groups == ("one",) * 4 + ("two",) * 4
    means = made.kl.mean(-1)
    assert bool((means[1, :3] < 0.95 * means[0, :3]).all()) and means[:, 3].tolist() == [0, 0]
    frame = made.to_frame().set_index(["layer", "group"])
    assert frame.loc[(1, "two"), "translated"] == pytest.approx(float(made.kl[1, 1, 4:].mean()))
    unread = made.kl.clone()
    unread[:, 2, 5:7] = torch.nan
    frame = replace(made, kl=unread).to_frame().set_index(["layer", "group"])
    assert frame.texts[(2, "two")] == 2 and frame.texts[(1, "two")] == frame.texts[(2, "one")] == 4
    assert frame.loc[(2, "two"), "plain"] == pytest.approx(float(made.kl[0, 2, [4, 7]].mean()))


def test_translations_of_a_held_out_text_are_not_trained_on():
    listed = {group: [shl.Prompt.from_ids([1, 4 + i, g]) for i in range(30)] for g, group in enumerate("ab", 4)}
    listed["c"] = listed["a"][:20]
    parts = training._split(listed, generator(0))
    places = [{int(prompt.ids[1]) for group in part.values() for prompt in group} for part in parts.values()]
    assert sum(map(len, places)) == len(set.union(*places)) == 30 and len(places[1]) == len(places[2]) == 4
    with pytest.raises(ValueError, match=r"about 20 in all; got \{'a': 30, 'b': 2\}, too few for \['b'\]"):
        training._split({"a": listed["a"], "b": listed["b"][:2]}, generator(0))


def test_a_killed_training_goes_on_with_the_layer_it_was_at(model, made, monkeypatch, tmp_path):
    fit, fitted = Fit.__call__, []

    def killed(self):
        fitted.append(self._layer)
        if fitted == [0, 1]:
            raise KeyboardInterrupt
        return fit(self)

    monkeypatch.setattr(Fit, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        train(model, folder=tmp_path)
    assert same(train(model, folder=tmp_path), made) and fitted == [0, 1, 1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_no_map_improves_keeps_the_plain_lens(model):
    states = shl.residual_stream(model, ["two", "red dog", "five plus"], **QUIET)[-1:].repeat(4, 10, 1)
    sample = Sample(states, torch.arange(30), torch.tensor([30]), ("all",) * 30)
    rows = Fit(shl.Readout(model), 1, (sample, sample), SETUP, 0, int)()
    assert not rows[:-2].any() and rows[-2:, 0].tolist() == [1, -1]


@pytest.mark.parametrize("rate", [1e30, 3e38])
def test_a_training_that_blows_up_keeps_the_best_maps_before(model, made, rate):
    """An undefined loss is not a loss of 0."""
    spoilt = train(model, setup=replace(SETUP, learning_rate=rate))
    assert all(torch.isfinite(part.float()).all() for part in (spoilt.left, spoilt.right, spoilt.bias))
    assert torch.isfinite(spoilt.kl).all() and max(spoilt.steps) <= 0


def test_candidates_stand_for_the_vocabulary(model):
    reader, states = shl.Readout(model), shl.residual_stream(model, ["two", "red dog", "five plus"], **QUIET)
    sample = Sample(states, torch.arange(3), torch.tensor([3]), ("all",) * 3)
    ids, weights = Candidates(reader, 1, sample, reader.d_vocab, generator(0)).draw(generator(0))
    assert ids.tolist() == list(range(reader.d_vocab)) and not weights.any()
    few, rng = Candidates(reader, 1, sample, 32, generator(0)), generator(0)
    whole = reader(states[1]).double().logsumexp(-1).exp()
    draws = [few.draw(rng) for _ in range(600)]
    assert all(len(ids) == 32 and weights.exp().sum().round() == reader.d_vocab for ids, weights in draws)
    sums = torch.stack(
        [(reader(states[1], tokens=ids) + weights).double().logsumexp(-1).exp() for ids, weights in draws]
    )
    torch.testing.assert_close(sums.mean(0), whole, rtol=0.05, atol=0)


@pytest.mark.parametrize("rank", [None, 3])
def test_a_map_is_its_formula(rank):
    left, right, bias = noise(2, 5, rank or 5), noise(2, 3, 5, seed=1) if rank else None, noise(2, 5, seed=2)
    keep = torch.tensor([1.0, 0.3])
    made = shl.Translators("t", left, right, bias, keep, torch.zeros(2, 3, 0), provenance=provenance())
    states = noise(4, 6, 5, seed=3)
    whole = left[1] if right is None else left[1] @ right[1]
    by_hand = torch.stack([torch.stack([0.3 * h + whole @ h + bias[1] for h in row]) for row in states])
    torch.testing.assert_close(made(states, 1), by_hand, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="residual entries 0 to 1, not for 2"):
        made(states, 2)


def provenance():
    return shl.Provenance("m", "w", "TransformerBridge", "float32", "cpu", "none", True, unembedding="u")


def test_half_precision_is_what_is_kept_and_measured(model, made):
    half = train(model, setup=replace(SETUP, half=True))
    assert (half.left.dtype, half.bias.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(half.kl, made.kl, atol=0.02, rtol=0.02)
    assert not torch.equal(half.kl[1], made.kl[1]) and torch.equal(half.kl[0], made.kl[0])


def test_a_lens_reads_through_them_and_says_so(model, made):
    tuned = shl.logit_lens(model, "two plus", readout=shl.Readout(model, translator=made), **QUIET)
    plain = shl.logit_lens(model, "two plus", **QUIET)
    assert tuned.provenance.norm == f"final + {made.signature}" and made.signature.startswith("made here ")
    assert torch.equal(tuned.entropy[-1], plain.entropy[-1]) and not torch.allclose(
        tuned.entropy[:-1], plain.entropy[:-1]
    )
    other = train(model, seed=1)
    assert other.signature != made.signature and not same(other, made)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_another_model_is_refused_and_another_backend_is_not(backend, made, tmp_path):
    path = made.save(tmp_path / "t.safetensors")
    assert same(shl.Translators.load(path, models.tiny(backend)), made)
    for other in (models.tiny(backend, seed=1), models.tiny(backend, layers=2)):
        with pytest.raises(
            ValueError, match=r"'made here' were made for tiny-llama \(weights .* Train translators on this model"
        ):
            shl.Readout(other, translator=made)
    shl.Readout(models.tiny(backend, seed=1), translator=lambda states, layer: made(states, layer))


def test_a_packaged_set_is_read_by_name_and_only_on_its_model(model, made, monkeypatch, tmp_path):
    monkeypatch.setattr(packaging, "FOLDER", tmp_path)
    with pytest.raises(shl.Unfit, match=r"packaged for tiny-llama .*, only for no model\. Train your own"):
        shl.logit_lens(model, "two", norm="tuned", **QUIET)
    made.save(tmp_path / "tiny.safetensors")
    named = shl.logit_lens(model, "two plus", norm="tuned", **QUIET)
    given = shl.logit_lens(model, "two plus", readout=shl.Readout(model, translator=made), **QUIET)
    assert torch.equal(named.entropy, given.entropy) and named.provenance.norm == given.provenance.norm
    with pytest.raises(ValueError, match="takes no other translator"):
        shl.Readout(model, norm="tuned", translator=made)
    with pytest.raises(shl.Unfit, match=r"only for tiny-llama \(weights"):
        shl.Readout(models.tiny(seed=1), norm="tuned")


def test_a_tuned_lens_of_that_package_is_read(model, tuned_lens):
    write, maps = tuned_lens
    theirs = shl.Translators.from_tuned_lens(model, write(unembed_hash=packaging._unembed_hash(model)))
    states = noise(4, model.cfg.d_model)
    for layer in range(3):
        linear = torch.nn.functional.linear(states, maps[f"{layer}.weight"], maps[f"{layer}.bias"])
        torch.testing.assert_close(theirs(states, layer), states + linear, atol=1e-5, rtol=1e-5)
    assert theirs.name == "tuned-lens their/model" and theirs.to_frame().empty
    assert shl.Readout(model, translator=theirs).name.startswith("final + tuned-lens their/model ")
    half = {name: value.half() for name, value in maps.items()}
    assert shl.Translators.from_tuned_lens(model, write(half)).left.dtype == torch.float16


class Unknown:
    """What a reader of tensors alone does not make."""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda maps: {k: v for k, v in maps.items() if k != "2.bias"}, r"for N = 0 to 2, like .* it has 0\.weight"),
        (lambda maps: maps | {"3.weight": maps["0.weight"]}, r"and 3 more"),
        (lambda maps: maps | {"0.weight": maps["0.weight"][:, :4]}, r"0\.weight \[32, 4\]"),
        (lambda maps: [1, 2], "expected an object in config.json and tensors"),
        (lambda maps: {"0.weight": Unknown}, "neither a folder with config.json and params.pt"),
    ],
    ids=["missing", "deeper", "narrow", "list", "code"],
)
def test_other_contents_are_refused(model, tuned_lens, spoil, message):
    write, maps = tuned_lens
    with pytest.raises(shl.SemhubError, match=message):
        shl.Translators.from_tuned_lens(model, write(spoil(maps)))


def test_another_unembedding_processed_weights_and_an_absent_lens_are_refused(model, tuned_lens, tmp_path):
    write, _ = tuned_lens
    other = models.tiny(seed=1)
    folder = write(unembed_hash=packaging._unembed_hash(model))
    with pytest.raises(shl.SemhubError, match=r"'their/model' with another unembedding than this model's; pass any_m"):
        shl.Translators.from_tuned_lens(other, folder)
    assert shl.Translators.from_tuned_lens(other, folder, any_model=True).provenance.weights
    with pytest.raises(shl.SemhubError, match="nor a lens that could be read from the hub's space"):
        shl.Translators.from_tuned_lens(model, tmp_path / "nothing")


@pytest.mark.parametrize("norm", ["final", "none"])
def test_a_translator_that_changes_the_width_is_refused(norm):
    readout = shl.Readout(models.tiny(), norm=norm, translator=lambda states, layer: states[..., :5])
    with pytest.raises(shl.SemhubError, match=r"states have width 32, got .*5"):
        readout(torch.ones(3, 32), layer=1)


def test_settings_are_checked():
    for wrong in (
        {"steps": 0},
        {"rank": -1},
        {"candidates": 1},
        {"weight_decay": -0.1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": float("inf")},
    ):
        with pytest.raises(shl.SemhubError):
            shl.TranslatorSetup(**wrong)


@pytest.mark.slow
@pytest.mark.real
def test_the_packaged_set_agrees_with_gemma_better_than_the_plain_lens(gemma):
    for text in ("The old man went down to the river.", "El viejo bajó despacio hasta el río."):
        plain, tuned = (
            shl.logit_lens(gemma, text, norm=norm, **QUIET).kl_to_final[:, 1:].mean(1) for norm in ("final", "tuned")
        )
        assert bool((tuned[:-2] < plain[:-2]).all())
