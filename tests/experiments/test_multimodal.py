"""Every experiment on pictures and sound, by its id, through the processor of a tiny LLaVA and a tiny Qwen2-Audio."""

import pytest
import torch

import multimodal as made
import semhub_lens as shl
from semhub_lens.data.media.colours import COLOURS
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.sounds import animal_sounds, bundled_sounds
from semhub_lens.inputs import processors
from semhub_lens.inputs.readers import ProcessorReader

FAMILY = {"vision": ("llava", "image"), "audio": ("qwen2_audio", "audio")}
MEDIA = [name for name, experiment in shl.experiments.EXPERIMENTS.items() if experiment.modality]


def words():
    """What the bundled pictures and sounds are called in five languages."""
    named = (*bundled_pictures(), *bundled_sounds(), *animal_sounds())
    return {name for item in named for listed in item.names.values() for name in listed} | {*COLOURS}


@pytest.fixture(scope="module")
def multimodal():
    """By family: the model and its processor, with all those words in the vocabulary."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(made, "VOCABULARY", [*made.VOCABULARY, *sorted(words() - {*made.VOCABULARY})])
        patched.setattr(processors, "_require_heard", lambda *sounds: None)  # this tiny window cuts the bundled words
        yield {family: (made.bridge(family), made.processor(family)) for family, _ in FAMILY.values()}


@pytest.mark.parametrize("name", MEDIA)
def test_every_experiment_runs_on_a_multimodal_model(multimodal, name, tmp_path):
    family, modality = FAMILY[name.split(".")[0]]
    model, processor = multimodal[family]
    reader = ProcessorReader(processor, modality)
    result = shl.experiments.run(name, model, n=16, baseline=False, reader=reader, out=tmp_path, progress=False)
    assert result.id == name and type(reader.processor).__name__ in result.legs[0].provenance.data
    for leg in result.legs:
        assert torch.isfinite(leg.effect).all() and leg.effect.shape[1] >= 16
        assert max(leg.layers) == made.LAYERS - bool(leg.strengths)  # a sweep ends before the last state
    assert (tmp_path / name / "figure.html").is_file()
