"""The page of results: every leg is in it, what does not fit a model is named, bad calls leave nothing."""

import re

import pytest
import torch

from samples import leg_text
from semhub_lens import experiments
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.evidence.legs import ExperimentResult, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.runs import save_run
from semhub_lens.report import orchestration
from semhub_lens.report import results_page as tables

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)


def planted(name, size):
    effect = size + 0.1 * torch.randn(4, 40, generator=generator(0))
    leg = make_leg(effect, sign_flips(effect), leg_text("a | leg"), provenance=WHERE, seed=0, curves={})
    return ExperimentResult(name, f"title of {name}", (leg,), ("a note",), provenance=WHERE)


@pytest.fixture
def measured(monkeypatch):
    """Experiments whose effects are planted; one does not fit any model."""
    sizes = {"multilingual.similarity": 1.0, "arithmetic.similarity": 0.0, "code.similarity": -1.0}

    def run(name, model, *, out, reader, **settings):
        assert reader is None
        if name not in sizes:
            raise Unfit("This tokenizer splits the words.")
        result = planted(name, sizes[name])
        save_run(result, out / name, {"experiment": name}, seconds=60.0)
        return result

    monkeypatch.setattr(experiments, "run", run)
    monkeypatch.setattr(tables, "load", lambda name: name)
    monkeypatch.setattr(tables, "resolve", lambda name: (None, None))
    monkeypatch.setattr(orchestration, "untrained", lambda model, seed: model)
    monkeypatch.setattr(orchestration, "fitting", lambda model: ({}, {"image": "there is no spoke"}))


def test_the_page_holds_every_leg_with_its_verdict_and_names_what_does_not_fit(measured, tmp_path):
    names = ["multilingual.similarity", "arithmetic.similarity", "code.similarity", "probing", "vision.similarity"]
    path, found = tables.results_page(
        ["one", "two"], tmp_path / "page.md", runs=tmp_path / "runs", only=names, progress=False
    )
    page = path.read_text()
    assert [result.id for result in found] == names[:3] * 2
    assert page.count("3 legs: 1 supported, 1 opposite, 1 not supported") == 2
    assert page.count("- vision.similarity: not measured. There is no spoke.") == 2
    rows = re.findall(r"^\| a \\\| leg \| ([a-z ]+) \|", page, re.M)
    assert rows == ["supported", "not supported", "opposite"] * 2
    assert page.count("- probing: not measured. This tokenizer splits the words.") == 2
    assert page.count("Its runs took 3 minutes.") == 2
    assert "--model one --model two --only multilingual.similarity" in page


@pytest.mark.parametrize("error", [ValueError("too many values to unpack"), SemhubError("n is too small")])
def test_what_is_not_the_models_fault_stops_the_page(measured, monkeypatch, tmp_path, error):
    def run(name, model, **settings):
        raise error

    monkeypatch.setattr(experiments, "run", run)
    with pytest.raises(type(error), match=str(error)):
        tables.results_page(["one"], tmp_path / "page.md", runs=tmp_path / "runs", only=["probing"], progress=False)


def test_a_model_that_no_experiment_fits_is_an_error_and_leaves_no_page(measured, tmp_path):
    with pytest.raises(ValueError, match=r"No experiment fits one\. probing: not measured\. This tokenizer"):
        tables.results_page(["one"], tmp_path / "page.md", runs=tmp_path / "runs", only=["probing"], progress=False)
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"only": ["nothing"]}, "Unknown experiment 'nothing'"),
        ({"jobs": 0}, "at least 1; got 0"),
        ({"n": 15}, "at least 16 items, got n=15"),
        ({}, "Unknown model 'no-such-model'"),
    ],
)
def test_bad_calls_are_refused_before_anything_is_loaded(settings, message, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(tables, "load", loaded.append)
    resolve = tables.resolve
    monkeypatch.setattr(tables, "resolve", lambda name: name == "one" or resolve(name))
    with pytest.raises(ValueError, match=message):
        tables.results_page(["one", "no-such-model"], tmp_path / "page.md", runs=tmp_path / "runs", **settings)
    assert not any(tmp_path.iterdir()) and not loaded


@pytest.mark.real
@pytest.mark.slow
def test_another_process_writes_what_this_one_writes(tmp_path):
    pages = []
    for jobs in (1, 2):  # the smaller model: this process, its neighbour and the new one share the memory
        _, found = tables.results_page(
            ["smollm2-135m"], tmp_path / f"{jobs}.md", runs=tmp_path / f"runs{jobs}", only=["arithmetic.logit_lens"],
            n=16, jobs=jobs, progress=False,
        )  # fmt: skip
        pages.append([leg.effect for result in found for leg in result.legs])
    for one, other in zip(*pages, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
