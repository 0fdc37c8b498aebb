"""A quantised model is measured where its blocks alone are quantised, else refused in words."""

import pytest
import torch
import transformers

import models
import semhub_lens as shl
from battery.families import save
from elsewhere import QUIET, SIZE
from semhub_lens.base.errors import Unfit
from semhub_lens.model.facts import is_bridge, weights_of


def packed(model):
    """The output layer as 4-bit storage keeps it: bytes in another shape."""
    weight = model.unembed.original_component.weight
    raw = torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8)
    model.unembed.original_component.weight = torch.nn.Parameter(raw, requires_grad=False)
    return model


def test_a_packed_unembedding_is_refused_before_anything_runs():
    model = packed(models.tiny("bridge"))
    calls = (
        lambda: shl.logit_lens(model, "red", **QUIET), lambda: shl.residual_stream(model, "red", **QUIET),
        lambda: shl.generate(model, "red", **QUIET), lambda: shl.direction.unembedding(model, "two"),
        lambda: shl.direct_attribution(model, "red"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(Unfit, match=r"The unembedding is quantised .*lm_head"):
            call()


def quantised(config, head=False, change=0.0):
    hf = models.tiny_llama(vocabulary=SIZE)
    with torch.no_grad():
        hf.model.layers[1].mlp.up_proj.weight[3] += change
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(
        hf,
        getattr(quantization, config)(),
        lambda part, name: isinstance(part, torch.nn.Linear) and head >= ("head" in name),
    )
    return models.tiny("bridge", hf=hf)


@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_a_model_with_8_bit_blocks_is_measured(config):
    model = quantised(config)
    plain = models.tiny("bridge")
    states = shl.residual_stream(model, ["three plus two", "red"], **QUIET)
    error = (states - shl.residual_stream(plain, ["three plus two", "red"], **QUIET)).norm() / states.norm()
    assert 0 < error < 0.05
    lens = shl.logit_lens(model, "three plus two", **QUIET)
    assert lens.top_ids.shape == shl.logit_lens(plain, "three plus two", **QUIET).top_ids.shape
    assert len(shl.generate(model, "red", max_new_tokens=3, **QUIET).token_ids[0]) == 3
    assert shl.check(model).sound
    assert weights_of(model) == weights_of(quantised(config)) != weights_of(plain)
    assert weights_of(model) != weights_of(quantised(config, change=0.5))


def test_a_folder_with_8_bit_weights_is_loaded_as_a_bridge(tmp_path):
    quantization = pytest.importorskip("torchao.quantization")
    save("llama", tmp_path)
    how = transformers.TorchAoConfig(quantization.Int8WeightOnlyConfig())
    hf = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=how, dtype=torch.float32)
    hf.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = hf(torch.arange(5, 12)[None]).logits
    model = shl.load(tmp_path, device="cpu")
    assert is_bridge(model)
    ours = shl.Readout(model)(shl.residual_stream(model, torch.arange(5, 12), **QUIET)[-1])
    torch.testing.assert_close(ours[0], expected[0, -1], atol=1e-4, rtol=1e-4)
    if models.HOOKED_LINE:
        with pytest.raises(Unfit, match="quantised model, which HookedTransformer cannot hold"):
            shl.load(tmp_path, backend="hooked")


def test_8_bit_weights_that_cannot_be_read_are_refused():
    model = quantised("Int8WeightOnlyConfig", head=True)
    with pytest.raises(Unfit, match="The unembedding is quantised"):
        shl.logit_lens(model, "red", **QUIET)
    with pytest.raises(Unfit, match="offloaded or quantised"):
        shl.untrained(quantised("Int8WeightOnlyConfig"), seed=0)
