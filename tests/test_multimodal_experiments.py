"""Every experiment on pictures and sound, by its id, through the processor of a tiny LLaVA and a tiny Qwen2-Audio."""

import pytest
import torch

import multimodal as made
import semhub_lens as shl
from semhub_lens.senses import ProcessorSense

FAMILY = {"vision": ("llava", "image"), "audio": ("qwen2_audio", "audio")}
MEDIA = [name for name, experiment in shl.experiments.EXPERIMENTS.items() if experiment.modality]


@pytest.fixture(scope="module")
def multimodal():
    return {family: made.bridge(family) for family, _ in FAMILY.values()}


@pytest.mark.parametrize("name", MEDIA)
def test_every_experiment_runs_on_a_multimodal_model(multimodal, name, tmp_path):
    family, modality = FAMILY[name.split(".")[0]]
    sense = ProcessorSense(made.processor(family), modality)
    model = multimodal[family]
    result = shl.experiments.run(name, model, n=16, baseline=False, sense=sense, out=tmp_path, progress=False)
    assert result.id == name and type(sense.processor).__name__ in result.legs[0].provenance.data
    for leg in result.legs:
        assert torch.isfinite(leg.effect).all() and leg.effect.shape[1] >= 16
        assert max(leg.layers) == made.LAYERS
    assert (tmp_path / name / "figure.html").is_file()
