"""Runs, sweeps, states and tables by the processes of a launch: the files of one process, also after a death."""

import os
import re
import signal
import time

import pytest
import torch

import models
import semhub_lens as shl
from interruption import SavedRun
from launched import launched
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.store import Store
from semhub_lens.experiments import job as job_module
from semhub_lens.model import residual, stacks
from semhub_lens.model.capture import residual_reads
from semhub_lens.report.results_page import results_page

SAVED = ("result.safetensors", "items.parquet")
TEXTS = [f"{a} plus {b} {c}" for a in ("two", "three", "five") for b in ("red", "dog") for c in ("cat", "chat", "is")]
torch.set_num_threads(1)  # a forked child must not wait for threads that it does not have


def content(folder, names=None):
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if not names or path.name in names}


def dying(call, index, die):
    """The function; the process `die[0]` ends by SIGKILL when it calls it for the `die[1]`-th time."""
    calls = []

    def counted(*args, **settings):
        calls.append(1)
        if die == (index, len(calls)):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **settings)

    return counted, calls


def planted_run(run, die=None):
    def work(index):
        job_module.residual_stream, calls = dying(shl.residual_stream, index, die)
        run.work()
        return len(calls)

    return work


@pytest.mark.parametrize("dead", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["the main process", "another"])
def test_a_run_whose_process_dies_goes_on_with_more_processes_to_the_files_of_one(dead, tmp_path):
    one, many = SavedRun(tmp_path / "one"), SavedRun(tmp_path / "many")
    one.work()
    die = {0: (0, 2), 1: (1, 1)}[dead]  # of the parts 0, 1, 2 the main process has 0 and 2
    ended = launched(2, planted_run(many, die))
    assert ended[dead] == -signal.SIGKILL and "ended before its work was finished" in ended[1 - dead]
    assert not list(tmp_path.glob("many/planted/run.json"))
    assert launched(3, planted_run(many)) == ([0, 0, 1] if dead == 0 else [0, 1, 0]), "only the lost part is measured"
    assert many.whole() and content(one.folder, SAVED) == content(many.folder, SAVED)
    assert launched(2, planted_run(many)) == [0, 0], "a finished run is read by all"


@pytest.mark.real
@pytest.mark.slow
def test_two_processes_with_a_real_model_give_the_numbers_of_one_to_the_last_bit(tmp_path):
    model = shl.load("smollm2-135m")

    def work(index):
        to = tmp_path / ("one" if index is None else "two")
        shl.experiments.run("arithmetic.similarity", model, n=64, baseline=False, out=to, progress=False)

    work(None)
    assert launched(2, work) == [None, None]
    one, two = (content(tmp_path / name, SAVED) for name in ("one", "two"))
    assert len(one) == 2 and one == two


def test_a_sweep_has_the_cells_of_one_process_in_its_files(tmp_path):
    model = models.tiny("bridge")
    score = shl.steering_scores.next_token(model, TEXTS[:5], {"two": "two"}, progress=False)

    def work(index):
        def vector(layer):
            return shl.direction.words(model, "two", "five", layer)

        store = Store(tmp_path / ("one" if index is None else "many"), shared=True)
        return shl.sweep(model, score, vector, [1, 2], [1.0, 3.0], store=store, progress=False).scores.tolist()

    expected = work(None)
    assert launched(2, work) == [expected] * 2 and content(tmp_path / "one") == content(tmp_path / "many")
    assert len(content(tmp_path / "one")) == 2 + 16, (
        "the names, the clean run, two layers, two strengths, four conditions"
    )


def states(model, out, die=None):
    def work(index):
        residual.residual_reads, calls = dying(residual_reads, index, die)
        stack = shl.residual_stream(model, iter(TEXTS), read="mean", out=out, progress=False)
        return [list(stack.shape), len(calls)]

    return work


def test_states_in_a_folder_are_shared_and_go_on_with_another_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "WINDOW", 4)  # 18 items: five shards
    model, out = models.tiny("bridge"), tmp_path / "many"
    with monkeypatch.context() as patched:
        patched.setattr(residual, "residual_reads", residual_reads)
        expected, _ = states(model, tmp_path / "one")(None)
    ended = launched(2, states(model, out, die=(1, 2)))
    assert ended[1] == -signal.SIGKILL and "ended before" in ended[0]
    with pytest.raises(shl.SemhubError, match=r"not finished \(4 parts"):
        shl.open_states(out)
    assert launched(3, states(model, out)) == [[expected, 1], [expected, 0], [expected, 0]], "shard 3 was missing"
    one, many = shl.open_states(tmp_path / "one"), shl.open_states(out)
    assert torch.equal(one[:], many[:]) and one.shards == many.shards and one.provenance == many.provenance
    assert one.to_frame().equals(many.to_frame())
    assert launched(6, states(model, out)) == [[expected, 0]] * 6, "also where some processes have no shard"


def test_wrong_calls_of_a_launch_are_errors_of_all_and_write_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "WINDOW", 4)
    model = models.tiny("bridge")

    def bad_item(index):
        shl.residual_stream(model, [*TEXTS[:6], ""], out=tmp_path / "bad", progress=False)

    assert all("Item 6 (from 0): The prompt text is empty" in told for told in launched(2, bad_item))

    def other_reads(index):
        read = ["last", "mean"][index]
        shl.residual_stream(model, TEXTS, read=read, out=tmp_path / "other", progress=False)

    assert all("are doing different work" in told for told in launched(2, other_reads))
    for folder in ("bad", "other"):
        with pytest.raises(shl.SemhubError, match=r"No states in|not finished"):
            shl.open_states(tmp_path / folder)


@pytest.mark.slow
def test_a_table_and_its_runs_are_those_of_one_process(tmp_path, monkeypatch):
    model = models.tiny("bridge")
    monkeypatch.setattr("semhub_lens.report.results_page.load", lambda name: model)
    monkeypatch.setattr("semhub_lens.report.results_page.resolve", lambda name: name)
    only = ["arithmetic.similarity", "semantics.similarity"]  # the second has texts that are too long for the model

    def work(index):
        to = tmp_path / ("one" if index is None else "many")
        found = results_page(["tiny"], to / "page.md", runs=to / "runs", only=only, n=40, progress=False)[1]
        return [result.id for result in found]

    assert work(None) == only[:1]
    assert launched(2, work) == [only[:1]] * 2
    one, many = (content(tmp_path / name, (*SAVED, "page.md")) for name in ("one", "many"))
    pages = [re.sub(r"has \d+ tokens|/one/|/many/", "X", files.pop("page.md").decode()) for files in (one, many)]
    assert "semantics.similarity: not measured. The prompt X" in pages[1] and pages[0] == pages[1]
    assert len(one) == 2 and one == many

    def with_jobs(index):
        with pytest.raises(SemhubError) as refused:
            results_page(["tiny"], tmp_path / "page.md", jobs=2)
        (tmp_path / f"refused {index}").touch()
        while len(list(tmp_path.glob("refused *"))) < 2:  # one that ends would break the other's connection to it
            time.sleep(0.05)
        return str(refused.value)

    assert all("jobs=2 would start further processes" in told for told in launched(2, with_jobs))
