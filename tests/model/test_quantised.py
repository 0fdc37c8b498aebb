"""A quantised model is measured where its blocks alone are quantised, else refused in words."""

import json
from importlib.util import find_spec

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import models
import semhub_lens as shl
from battery.families import save
from elsewhere import QUIET, SIZE
from semhub_lens.base.errors import SemhubError, Unfit
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


def torchao(config):
    """A way of torchao's to quantise, by the name of its class."""
    quantization = pytest.importorskip("torchao.quantization")
    four = {"weight_dtype": torch.int4, "granularity": quantization.PerGroup(32)}
    return getattr(quantization, config)(**(four if config == "IntxWeightOnlyConfig" else {}))


def quantised(config, head=False, change=0.0):
    hf = models.tiny_llama(vocabulary=SIZE)
    with torch.no_grad():
        hf.model.layers[1].mlp.up_proj.weight[3] += change
    how = torchao(config)
    pytest.importorskip("torchao.quantization").quantize_(
        hf, how, lambda part, name: isinstance(part, torch.nn.Linear) and head >= ("head" in name)
    )
    return models.tiny("bridge", hf=hf)


@pytest.mark.parametrize(
    ("config", "bound"),
    [("Int8WeightOnlyConfig", 0.05), ("Int8DynamicActivationInt8WeightConfig", 0.05), ("IntxWeightOnlyConfig", 0.5)],
    ids=["8 bits", "8 bits, activations too", "4 bits"],
)
def test_a_model_with_quantised_blocks_is_measured(config, bound):
    model = quantised(config)
    plain = models.tiny("bridge")
    states = shl.residual_stream(model, ["three plus two", "red"], **QUIET)
    error = (states - shl.residual_stream(plain, ["three plus two", "red"], **QUIET)).norm() / states.norm()
    assert bound / 20 < error < bound
    lens = shl.logit_lens(model, "three plus two", **QUIET)
    assert lens.top_ids.shape == shl.logit_lens(plain, "three plus two", **QUIET).top_ids.shape
    assert len(shl.generate(model, "red", max_new_tokens=3, **QUIET).token_ids[0]) == 3
    assert shl.check(model).sound
    assert weights_of(model) == weights_of(quantised(config)) != weights_of(plain)
    assert weights_of(model) != weights_of(quantised(config, change=0.5))


@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "IntxWeightOnlyConfig"], ids=["8 bits", "4 bits"])
def test_a_folder_with_quantised_weights_is_loaded_as_a_bridge(tmp_path, config):
    how = transformers.TorchAoConfig(torchao(config))
    save("llama", tmp_path)
    hf = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=how, dtype=torch.float32)
    hf.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = hf(torch.arange(5, 12)[None]).logits
    model = shl.load(tmp_path, device="cpu")
    assert is_bridge(model)
    ours = shl.Readout(model)(shl.residual_stream(model, torch.arange(5, 12), **QUIET)[-1])
    torch.testing.assert_close(ours[0], expected[0, -1], atol=1e-4, rtol=1e-4)
    if models.HOOKED_LINE:
        with pytest.raises(Unfit, match="quantised model, which HookedTransformer cannot represent"):
            shl.load(tmp_path, backend="hooked")


def test_8_bit_weights_that_cannot_be_read_are_refused():
    model = quantised("Int8WeightOnlyConfig", head=True)
    with pytest.raises(Unfit, match="The unembedding is quantised"):
        shl.logit_lens(model, "red", **QUIET)
    with pytest.raises(Unfit, match="offloaded or quantised"):
        shl.untrained(quantised("Int8WeightOnlyConfig"), seed=0)


def quantised_by(method, folder, **settings):
    """A folder whose configuration says so."""
    save("llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, **settings}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("method", "settings", "package"),
    [
        ("bitsandbytes", {"load_in_4bit": True}, "bitsandbytes"), ("gptq", {"bits": 4}, "optimum"),
        ("awq", {"bits": 4}, "gptqmodel"), ("torchao", {"quant_type": {}}, "torchao"),
    ],
)  # fmt: skip
def test_a_folder_that_needs_a_package_is_refused_with_its_name(method, settings, package, tmp_path):
    if find_spec(package):
        pytest.skip(f"{package} is there")
    quantised_by(method, tmp_path, **settings)
    with pytest.raises(
        SemhubError, match=rf"is quantised with {method}, and .*{package}.*\. Install what it needs, or"
    ):
        shl.load(tmp_path)


def test_a_way_to_quantise_that_transformers_does_not_know_is_refused(tmp_path):
    quantised_by("of_tomorrow", tmp_path)
    with pytest.raises(Unfit, match=r"is quantised with of_tomorrow, which transformers .* does not know"):
        shl.load(tmp_path)


def test_a_folder_whose_weights_have_other_names_is_refused(tmp_path):
    save("llama", tmp_path)
    path = tmp_path / "model.safetensors"
    packed = {name.replace("up_proj.weight", "up_proj.qweight"): value for name, value in load_file(path).items()}
    save_file(packed, path, metadata={"format": "pt"})
    with pytest.raises(SemhubError, match=r"lacks 3 of the model's weights \(model\.layers\.0\.mlp\.up_proj\.weight, "):
        shl.load(tmp_path)
