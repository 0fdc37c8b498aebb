"""Multimodal models load by folder (and by hub name through the same function) as the bridge that the family needs."""

import pytest
import torch
from transformers import AutoProcessor

import multimodal as made
import semhub_lens as shl
from semhub_lens.model.sources import config_of, multimodal


@pytest.fixture(params=["llava", "qwen2_audio"])
def saved(request, tmp_path):
    hf = made.network(request.param)
    hf.save_pretrained(tmp_path)
    made.processor(request.param).save_pretrained(tmp_path)
    return request.param, hf, tmp_path


def test_a_saved_model_and_its_processor_give_the_states_of_the_model(saved):
    family, hf, folder = saved
    expected = shl.residual_stream(made.bridge(family, hf), [made.prompt(family)], progress=False)
    assert multimodal(config_of(folder))
    model = shl.load(str(folder))
    assert model.cfg.model_name == str(folder) and model.cfg.is_multimodal
    torch.testing.assert_close(
        shl.residual_stream(model, [made.prompt(family)], progress=False), expected, atol=1e-5, rtol=1e-5
    )
    assert type(AutoProcessor.from_pretrained(folder)) is type(made.processor(family))


def test_a_multimodal_model_is_no_hooked_transformer(saved):
    with pytest.raises(ValueError, match="backend='bridge'"):
        shl.load(str(saved[2]), backend="hooked")


def test_a_damaged_folder_is_named(saved):
    (saved[2] / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="could not be loaded as a multimodal TransformerBridge"):
        shl.load(str(saved[2]))
