"""Settings of torch that a user has made for everything change no number of a run."""

import pytest
import torch

import models
import semhub_lens as shl
from samples import SAMPLES
from test_default_dtype import tensors

SETTINGS = {
    "automatic half precision": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
}
RUNS = (
    "LensResult", "AttributionResult", "TargetResult", "Generation", "HostCheck", "SimilarityResult", "MassResult",
    "ConceptPatchResult", "PatchscopeResult", "PatchResult", "ApproximatePatchResult",
)  # fmt: skip


@pytest.fixture(scope="module")
def usual():
    model = models.tiny()
    return {name: SAMPLES[name](model) for name in RUNS}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", RUNS)
def test_a_result_is_the_same_under_a_setting_for_everything(name, setting, usual):
    model = models.tiny()
    with SETTINGS[setting]():
        result = SAMPLES[name](model)
    for found, expected in zip(tensors(result), tensors(usual[name]), strict=True):
        assert found.dtype == expected.dtype and found.device == expected.device
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)
    assert str(result.provenance) == str(usual[name].provenance)


def test_the_settings_hold_again_after_a_call():
    model = models.tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        shl.residual_stream(model, "red dog", progress=False)
        assert torch.is_autocast_enabled("cpu") and torch.ones(1).device.type == "meta"
