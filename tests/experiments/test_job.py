"""A job: its settings travel as one object, and what it makes is made once."""

import pytest

import semhub_lens as shl
from jobs import job_on
from semhub_lens.base.errors import SemhubError
from semhub_lens.experiments import registry


def test_the_job_on_random_weights_is_made_once_with_its_model_and_its_readout(tiny_model):
    job = job_on(tiny_model, 16, seed=3)
    random = job.random()
    assert random is job.random() and random.readout is job.random().readout
    assert random.model.W_U.equal(shl.untrained(tiny_model, seed=3).W_U)
    assert (random.n, random.seed, random.baseline, job.baseline) == (16, 3, False, True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (200, 0, "final", "corrected", None, True, None)),
        ({"n": 20, "seed": 4, "baseline": False}, (20, 4, "final", "corrected", None, False, None)),
        ({"convention": "paper"}, (200, 0, "paper", "paper", None, True, None)),
        ({"convention": "paper", "norm": "none"}, (200, 0, "none", "paper", None, True, None)),
    ],
)
def test_a_run_resolves_its_settings_once_and_hands_them_on(tiny_model, monkeypatch, asked, expected):
    jobs = []

    def stop(experiment, job, out):
        jobs.append(job)
        raise SemhubError("far enough")

    monkeypatch.setattr(registry, "run_experiment", stop)
    with pytest.raises(SemhubError, match="far enough"):
        registry.run("arithmetic.similarity", tiny_model, **asked)
    settings = jobs[0].settings
    found = (settings.n, settings.seed, settings.norm, settings.convention, settings.data, settings.baseline)
    assert (*found, settings.reader) == expected


def test_every_experiment_needs_the_reader_of_its_first_word():
    needs = {entry.id.partition(".")[0]: entry.modality for entry in registry.EXPERIMENTS.values()}
    assert needs == {"vision": "image", "audio": "audio"} | dict.fromkeys(
        ("multilingual", "arithmetic", "code", "semantics", "probing"), ""
    )
