"""A job: its settings travel as one object, and what it makes is made once."""

import pytest
import torch

import samples
import semhub_lens as shl
from jobs import job_on
from semhub_lens.base.errors import SemhubError
from semhub_lens.experiments import registry
from semhub_lens.experiments.job import LEVELS
from semhub_lens.experiments.runs import Experiment, run_experiment


def test_the_job_on_random_weights_is_made_once_with_its_model_and_its_readout(tiny_model):
    job = job_on(tiny_model, 16, seed=3)
    random = job.random()
    assert random is job.random() and random.readout is job.random().readout
    assert random.model.W_U.equal(shl.untrained(tiny_model, seed=3).W_U)
    assert (random.n, random.seed, random.baseline, job.baseline) == (16, 3, False, True)


@pytest.mark.parametrize(("asked", "read"), [(None, None), (2, 1), (1, 1)])
def test_random_weights_are_read_at_one_position_where_not_all_are_read(tiny_model, asked, read):
    job = job_on(tiny_model, 16, positions=asked)
    assert job.random().settings.positions == read and job.settings.positions == asked
    assert ("with random weights at one" in job.whole) == (asked is not None)


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


@pytest.mark.parametrize("baseline", [True, "a model"])
def test_translators_and_random_weights_are_refused_together(tiny_model, tmp_path, baseline):
    given = baseline if baseline is True else shl.untrained(tiny_model, seed=1)
    with pytest.raises(SemhubError, match=r"random weights have none.*baseline=False"):
        registry.run("arithmetic.logit_lens", tiny_model, norm="tuned", baseline=given, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_that_is_not_there_is_refused_before_a_folder_is_made_and_a_name_is_left_to_the_experiment(
    tiny_model, tmp_path
):
    result, seen = samples.experiment(tiny_model), []

    def run(takes, data, out=None):
        planted = Experiment("planted", "planted", 16, lambda job: seen.append(job.data) or result, takes)
        return run_experiment(planted, job_on(tiny_model, 16, data=data), out)

    with pytest.raises(SemhubError, match="planted takes a COGS folder, but there is nothing at 'absent'"):
        run("a COGS folder", "absent", tmp_path / "runs")
    with pytest.raises(SemhubError, match=r"planted takes no data, .* got 'absent'"):
        run("", "absent", tmp_path / "runs")
    assert not seen and not list(tmp_path.iterdir())
    for takes, data in (("a folder or data set", "absent"), ("a file, or human_eval", "human_eval")):
        assert run(takes, data) is result
    assert run("a COGS folder", str(tmp_path)) is result
    assert seen == ["absent", "human_eval", str(tmp_path)]


def test_every_experiment_needs_the_reader_of_its_first_word():
    needs = {entry.id.partition(".")[0]: entry.modality for entry in registry.EXPERIMENTS.values()}
    assert needs == {"vision": "image", "audio": "audio"} | dict.fromkeys(
        ("multilingual", "arithmetic", "code", "semantics", "probing"), ""
    )


def test_compared_words_differ_as_in_the_full_read_out_and_lie_at_the_height_of_the_first_items(tiny_model):
    prompts = [shl.Prompt.from_ids([1, 3 + i, 4 + i % 5, 9], bos=True) for i in range(24)]
    own, common = [[3 + i % 11, 5] for i in range(2 * len(prompts))], ["two", ["dog", "cat"], 8]
    job, settings = job_on(tiny_model, 16), {"common": common, "read_at": [[1, 3]] * len(prompts)}
    full = job.lens("words", prompts, own, **settings)
    found = job.compared("words", prompts, own, **settings)
    gap = found - full
    torch.testing.assert_close(gap, gap[..., :1].expand_as(gap), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.mean((1, 2)), full[:, :LEVELS].mean((1, 2)), atol=1e-5, rtol=0)
    assert gap.std(1).max() > 0.1, "the heights of items must differ"
    few = {"common": common, "read_at": [[1, 3]] * (LEVELS // 2)}
    assert torch.equal(
        job.compared("words", prompts[: LEVELS // 2], own[:LEVELS], **few),
        job.lens("words", prompts[: LEVELS // 2], own[:LEVELS], **few),
    )
