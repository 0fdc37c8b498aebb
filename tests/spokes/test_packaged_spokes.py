"""The spokes that come with the package: whole, bound to their model, and able to name what they were not shown."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.media.sounds import bundled_sounds
from semhub_lens.spokes import fitting, load_projector
from semhub_lens.spokes.spoke import _folder, available
from semhub_lens.training.evaluation import evaluate

NAMES = ("audio-gemma-3-270m", "vision-gemma-3-270m")
ITEMS = {"image": bundled_pictures, "audio": bundled_sounds}
QUICK = ("vision.similarity", "vision.logit_lens_color", "audio.similarity", "audio.logit_lens")
"""All nine run on tiny models (`test_multimodal_experiments`); of the others, `docs/results.md` holds whole runs."""
TEMPLATES = {"image": "<image> This is a picture of a", "audio": "<audio> The word is"}


def test_both_modalities_have_a_small_spoke_with_its_origin():
    assert tuple(available()) == NAMES
    for name in NAMES:
        path = _folder() / f"{name}.safetensors"
        projector, card = load_projector(path)
        assert path.stat().st_size < 15e6 and card.name == name
        assert {"steps", "seed", "items", "last loss", "data hash"} <= set(card.settings)
        assert all(torch.isfinite(value).all() for value in projector.state_dict().values())


@pytest.fixture(scope="module")
def readers(one_gemma):
    found, missing = fitting(one_gemma)
    assert not missing
    return found


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("modality", ["image", "audio"])
def test_held_out_pictures_and_voices_are_named_far_above_chance(one_gemma, readers, modality):
    spoke, items = readers[modality], ITEMS[modality]()
    features = spoke.encoder([item.open() for item in items])
    found = evaluate(
        one_gemma, spoke.projector, features, items, ["held"] * len(items),
        templates={"en": TEMPLATES[modality]}, modality=modality,
    )  # fmt: skip
    own = found.accuracy(5, "held")
    for level in ("blind", "mismatched"):
        assert own.low > found.accuracy(5, "held", level=level).high
    assert float(found.rank.median()) < 0.1 * float(found.blind.median())


@pytest.mark.real
def test_a_spoke_of_another_model_is_not_offered(tiny_model):
    found, missing = fitting(tiny_model)
    assert not found and all("was trained through this model" in reason for reason in missing.values())
    with pytest.raises(ValueError, match="trained through another model"):
        shl.spokes.load(NAMES[1], tiny_model)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_experiments_on_pictures_and_sound_run_on_the_real_model(one_gemma, readers, name, tmp_path):
    reader = readers["image" if name.startswith("vision") else "audio"]
    result = shl.experiments.run(
        name, one_gemma, n=16, seed=1, baseline=False, reader=reader, out=tmp_path, progress=False
    )
    assert result.id == name and len(result.legs) == len(result.summary()) > 0
    for leg in result.legs:
        assert torch.isfinite(leg.effect).all() and torch.isfinite(leg.null).all()
        assert ((leg.low <= leg.mean + 1e-6) & (leg.mean <= leg.high + 1e-6)).all()
        assert leg.provenance.data_hash
    again = shl.experiments.run(
        name, one_gemma, n=16, seed=1, baseline=False, reader=reader, out=tmp_path, progress=False
    )
    assert again.to_frame().equals(result.to_frame())
