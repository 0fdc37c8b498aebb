"""A report runs experiments on pictures and sound where a reader is there, and says why where not."""

import sys

import pytest
import torch

import models
import semhub_lens as shl
from samples import leg_text
from semhub_lens import Prompt, experiments
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.evidence.legs import ExperimentResult, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.inputs.media import Tile
from semhub_lens.report.orchestration import INTERVENING, choose
from semhub_lens.report.report import report

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)


class Eyes:
    """Sees the same four regions in every picture."""

    name, hash, modality = "planted", "-", "image"

    def __init__(self, model):
        self.model = model

    def prompt(self, text, media):
        ids = Prompt.from_text(self.model, "= = = = three plus").ids
        places = (1, 2, 3, 4)
        vectors = torch.ones(4, int(self.model.cfg.d_model))
        grids = {"image": Tile(places, 2, 2)}
        return Prompt(ids, {"image": places}, text, True, embeddings={"image": vectors}, grids=grids)


@pytest.fixture
def asked(monkeypatch):
    """Which experiments a report runs, and with which reader."""
    found = {}

    def run(name, model, *, reader, **settings):
        found[name] = reader
        effect = torch.randn(4, 40, generator=generator(0))
        leg = make_leg(effect, sign_flips(effect), leg_text(data_type="images"), provenance=WHERE, seed=0, curves={})
        return ExperimentResult(name, f"title of {name}", (leg,), (), provenance=WHERE)

    monkeypatch.setattr(experiments, "run", run)
    module = sys.modules["semhub_lens.report.report"]
    monkeypatch.setattr(module, "LENS_PROMPTS", ("three plus",))
    monkeypatch.setattr(module, "language_table", lambda *_, **__: shl.script_table(models.tiny()))
    return found


def modalities(names):
    return {experiments.EXPERIMENTS[name].modality for name in names}


def test_without_a_spoke_pictures_and_sound_are_listed_as_not_run(asked, tiny_model, tmp_path):
    path, _ = report(tiny_model, tmp_path / "page.html", progress=False)
    assert modalities(asked) == {""} and "multilingual.patchscope" not in asked
    page = path.read_text()
    assert "multilingual.patchscope: not measured here; semhub report --full includes it." in page
    asked_for = [name for name in experiments.EXPERIMENTS if not name.endswith(INTERVENING)]
    left = [name for name in asked_for if experiments.EXPERIMENTS[name].modality == "image"]
    assert f"{', '.join(left)}: not measured. No packaged spoke was trained through this model" in page


def test_a_given_reader_reaches_the_experiments_of_its_modality_only(asked, tiny_model, tmp_path):
    eyes = Eyes(tiny_model)
    page = report(tiny_model, tmp_path / "page.html", readers=[eyes], steering=True, progress=False)[0].read_text()
    for name, reader in asked.items():
        assert reader is (eyes if experiments.EXPERIMENTS[name].modality == "image" else None)
    assert modalities(asked) == {"", "image"}
    assert "What each patch reads as" in page
    assert "not measured. No reader was given" in page or "audio" not in modalities(experiments.EXPERIMENTS)


def test_an_experiment_that_was_asked_for_and_cannot_be_read_is_an_error(asked, tiny_model, tmp_path):
    with pytest.raises(ValueError, match=r"vision\.similarity: not measured\. No packaged spoke"):
        report(tiny_model, tmp_path / "page.html", only=["vision.similarity"], progress=False)
    assert not asked and not any(tmp_path.iterdir())


def test_only_the_quick_size_leaves_out_what_it_does_not_measure():
    every = {entry.id for entry in choose(None, steering=True)}
    assert every == {*experiments.EXPERIMENTS}
    assert every - {entry.id for entry in choose(None, steering=True, quick=True)} == {"multilingual.patchscope"}
    assert [entry.id for entry in choose(["multilingual.patchscope"], steering=False, quick=True)]
