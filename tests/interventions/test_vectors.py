"""Steering vectors as files: what is saved steers the same afterwards, and other models refuse it."""

import pytest
import torch
from safetensors.torch import save_file

import models
import semhub_lens as shl
from semhub_lens import SteeringVector, at, direction, hooks
from semhub_lens.base.rng import generator


def made(model, layers=(1, 3)):
    return SteeringVector.make(
        model, "two - five", {layer: direction.words(model, "two", "five", layer) for layer in layers}
    )


def states(model, edits):
    return shl.residual_stream(model, ["three plus two", "red dog"], hooks=edits, progress=False)


def test_a_saved_vector_steers_exactly_as_before(tiny_model, tmp_path):
    vector = made(tiny_model)
    back = SteeringVector.load(vector.save(tmp_path / "v.safetensors"), tiny_model)
    assert (back.name, back.layers, back.provenance) == (vector.name, vector.layers, vector.provenance)
    steered = states(tiny_model, back.hooks(2.0, positions=-1))
    assert torch.equal(steered, states(tiny_model, vector.hooks(2.0, positions=-1)))
    assert not torch.allclose(steered, states(tiny_model, ()))


def test_hooks_add_each_direction_at_its_own_entry(tiny_model):
    one, last = (direction.words(tiny_model, "two", "five", layer) for layer in (1, 3))
    by_hand = at(1, hooks.add(one, 2.0, -1), site="resid_pre") + at(2, hooks.add(last, 2.0, -1), site="resid_post")
    vector = made(tiny_model)
    assert torch.equal(states(tiny_model, vector.hooks(2.0, positions=-1)), states(tiny_model, by_hand))
    only = states(tiny_model, vector.hooks(2.0, positions=-1, layers=[3]))
    torch.testing.assert_close(only[3] - states(tiny_model, ())[3], (2 * last).expand(2, -1), atol=1e-4, rtol=1e-4)
    assert torch.equal(only[:3], states(tiny_model, ())[:3])


def test_other_weights_are_refused_unless_told_otherwise(tiny_model, tmp_path):
    path = made(tiny_model).save(tmp_path / "v.safetensors")
    other = models.tiny(seed=1)
    with pytest.raises(ValueError, match=r"was made for tiny-llama \(weights .*any_model=True"):
        SteeringVector.load(path, other)
    assert SteeringVector.load(path, other, any_model=True).layers == (1, 3)
    renamed = models.tiny()
    renamed.cfg.model_name = "another"
    with pytest.raises(ValueError, match="this model is another"):
        SteeringVector.load(path, renamed)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_model_with_other_mlps_and_the_same_unembedding_is_refused(backend, tmp_path):
    path = made(models.tiny(backend)).save(tmp_path / "v.safetensors")
    assert SteeringVector.load(path, models.tiny(backend)).layers == (1, 3)
    changed = models.tiny(backend)
    with torch.no_grad():
        changed.blocks[2].mlp.W_in.zero_() if backend == "hooked" else getattr(
            changed.blocks[2].mlp, "in"
        ).weight.zero_()
    with pytest.raises(ValueError, match="Directions do not transfer between models"):
        SteeringVector.load(path, changed)
    assert torch.equal(changed.W_U, models.tiny(backend).W_U)


def test_another_depth_or_width_is_refused_in_any_case(tiny_model, tmp_path):
    path = made(tiny_model).save(tmp_path / "v.safetensors")
    with pytest.raises(ValueError, match=r"made for 3 blocks.*this model has width 32 and 2 blocks"):
        SteeringVector.load(path, models.tiny(layers=2), any_model=True)
    with pytest.raises(ValueError, match=r"shape \(31,\), but this model needs \[32\]"):
        SteeringVector.from_tensor(tiny_model, torch.ones(31), 1)
    with pytest.raises(ValueError, match=r"2 different layer"):
        SteeringVector.from_tensor(tiny_model, torch.ones(2, 32), [1, 1])


def test_plain_tensors_and_files_of_one_tensor_are_taken_over(tiny_model, tmp_path):
    rows = torch.randn(2, tiny_model.cfg.d_model, generator=generator(0))
    save_file({"vector": rows}, tmp_path / "plain.safetensors")
    found = SteeringVector.from_tensor(tiny_model, tmp_path / "plain.safetensors", [1, 2], name="theirs")
    assert torch.equal(found[2], rows[1]) and found.name == "theirs"
    assert torch.equal(SteeringVector.from_tensor(tiny_model, rows[0], 1).directions[0], rows[0])


def test_files_of_another_kind_are_refused_with_the_reason(tiny_model, tmp_path):
    save_file({"a": torch.ones(32), "b": torch.ones(32)}, tmp_path / "two.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    for name, message in (("two", r"has 2 tensors \(a, b\)"), ("text", "not a safetensors"), ("none", "not a safet")):
        with pytest.raises(ValueError, match=message):
            SteeringVector.from_tensor(tiny_model, tmp_path / f"{name}.safetensors", 1)
    with pytest.raises(ValueError, match="not a result that semhub_lens saved"):
        SteeringVector.load(tmp_path / "two.safetensors")
    written = shl.generate(tiny_model, "two", max_new_tokens=1, progress=False).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="contains a Generation, not a SteeringVector"):
        SteeringVector.load(written)


@pytest.mark.parametrize(
    ("directions", "message"),
    [({}, "residual entries 0 to 3"), ({4: torch.ones(32)}, "0 to 3"), ({1: torch.zeros(32)}, "is 0, NaN")],
)
def test_directions_that_cannot_steer_are_refused(tiny_model, directions, message):
    with pytest.raises(ValueError, match=message):
        SteeringVector.make(tiny_model, "bad", directions)


def test_a_layer_that_the_vector_lacks_is_refused(tiny_model):
    with pytest.raises(ValueError, match=r"no direction at layers \[2\], only at \(1, 3\)"):
        made(tiny_model).hooks(1.0, layers=[2])


def test_the_figure_shows_the_norm_of_every_layer(tiny_model):
    vector = made(tiny_model)
    assert list(shl.figure(vector).data[0].y) == pytest.approx(vector.directions.norm(dim=1).tolist())
