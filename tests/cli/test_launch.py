"""`accelerate launch` as a user types it: processes of their own from the start, one of which dies."""

import contextlib
import io
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

import models
import semhub_lens as shl
from launched import launched
from semhub_lens import experiments
from semhub_lens.base.processes import in_step
from semhub_lens.cli.main import main
from semhub_lens.report import record

ID = "arithmetic.similarity"
DIES = """
import os, signal
from semhub_lens.base import store
from semhub_lens.cli.main import main
from semhub_lens.report import record

def write(path, fill, calls=[], write_aside=store.write_aside):
    calls.append(path)
    if os.environ["RANK"] == "1" and len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_aside(path, fill)

store.write_aside = write
main()
"""
torch.set_num_threads(1)  # a forked child must not wait for threads that it does not have


def launch(count, *arguments, cwd):
    """A command by so many processes; on processors the launcher wants to be told that there are several."""
    start = ["--multi_gpu", "--num_processes", str(count), "--num_machines", "1", "--mixed_precision", "no"]
    start += ["--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *start, *arguments]
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, **settings})


def tiny_in(folder):
    models.tiny_llama(vocabulary=len(models.tiny_tokenizer())).save_pretrained(folder)
    models.tiny_tokenizer().save_pretrained(folder)


@pytest.mark.slow
def test_a_launch_that_lost_a_process_goes_on_with_another_number_and_prints_once(tmp_path):
    tiny_in(tmp_path / "tiny")
    (tmp_path / "dies.py").write_text(DIES)
    run = ["run", ID, "--model", "tiny", "-n", "96", "--out", "many"]
    died = launch(2, "dies.py", *run, cwd=tmp_path)
    assert died.returncode != 0 and "Signal 9" in died.stderr, died.stderr
    kept = list(tmp_path.glob(f"many/{ID}/parts-*/*"))
    assert kept and not (tmp_path / "many" / ID / "run.json").exists()
    done = launch(3, "-m", "semhub_lens", *run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved: many") == 1 and done.stdout.count(ID) == 2
    shl.experiments.run(ID, shl.load(tmp_path / "tiny"), n=96, out=tmp_path / "one", progress=False)
    one, many = (pd.read_parquet(tmp_path / name / ID / "items.parquet") for name in ("one", "many"))
    pd.testing.assert_frame_equal(one, many, check_exact=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiments", "--json"], '"id": "probing"'),
        (["run", "no"], "Unknown experiment 'no'"),
        (["check"], "no room"),
    ],
    ids=["a list", "an error of all", "an error of one"],
)
def test_the_main_process_alone_prints_also_what_went_wrong_in_another(arguments, said, tmp_path, monkeypatch):
    def load(index):
        if index == 1:
            raise shl.SemhubError("no room on this device")
        with in_step("the first step"):
            return None

    def work(index):
        monkeypatch.setattr("semhub_lens.cli.main.host.recorded", lambda *_: load(index))
        monkeypatch.setattr(sys, "argv", ["semhub", *arguments])
        with (tmp_path / str(index)).open("w") as out, contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main()

    launched(2, work)
    assert said in " ".join((tmp_path / "0").read_text().split()) and (tmp_path / "1").read_text() == ""


def reported(count, folder):
    """A report by so many processes: how many pages each writes, and what it prints."""

    def work(index):
        pages, write = [], record.write_page
        record.write_page = lambda *page: (pages.append(page), write(*page))
        page = str(folder / str(count) / "report.html")
        sys.argv = ["semhub", "report", "--model", str(folder / "tiny"), "-n", "40", "--out", page]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
            main()
        return [len(pages), out.getvalue().replace(page, "PAGE"), err.getvalue().replace(page, "PAGE")]

    return launched(count, work)


@pytest.mark.slow
def test_a_report_by_two_processes_has_the_figures_of_one_and_the_main_process_alone_writes_and_tells(
    tmp_path, monkeypatch
):
    tiny_in(tmp_path / "tiny")
    # 40 items are two parts; the texts of the third are too long for the model, the words of the last unknown
    few = [ID, "multilingual.similarity", "semantics.similarity", "arithmetic.logit_lens"]
    monkeypatch.setattr(experiments, "EXPERIMENTS", {name: experiments.EXPERIMENTS[name] for name in few})
    (alone,) = reported(1, tmp_path)
    assert reported(2, tmp_path) == [alone, [0, "", ""]]
    assert alone[0] > len(few) and "not supported" in alone[1] and alone[2].count("The report is at PAGE") == 1
    one, two = (json.loads((tmp_path / count / "report.json").read_text()) for count in "12")
    assert [entry["id"] for entry in one["experiments"]] == few[:2] and [*one["not_measured"]] == few[2:]
    too_long = [report["not_measured"].pop(few[2]) for report in (one, two)]
    assert all("tokens, the model's context holds 64" in reason for reason in too_long)
    assert one == two and (tmp_path / "2" / "report.html").is_file()
    for name in (f"{few[0]}/items.parquet", f"{few[1]}/result.safetensors"):
        same = [(tmp_path / count / "report_runs" / name).read_bytes() for count in "12"]
        assert same[0] == same[1]
