"""Parts of a run: the same numbers with and without a folder, after a kill, and never those of other settings."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import semhub_lens as shl
from jobs import job_on
from samples import leg_text
from semhub_lens.base.store import CHUNK, Store
from semhub_lens.evidence.legs import make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.registry import EXPERIMENTS
from semhub_lens.experiments.runs import Experiment, run_experiment

ITEMS = list(range(CHUNK * 2 + 5))


def measure(calls):
    def squares(part):
        calls.append(len(part))
        return torch.tensor([[float(i) ** 2 for i in part]])

    return squares


def test_parts_join_to_what_one_measurement_gives_with_and_without_a_folder(tmp_path):
    expected = torch.tensor([[float(i) ** 2 for i in ITEMS]])
    assert torch.equal(Store().tensors("squares", ITEMS, measure([])), expected)
    assert torch.equal(Store(tmp_path).tensors("squares", ITEMS, measure([])), expected)


def test_finished_parts_are_not_measured_again(tmp_path):
    calls = []
    for _ in range(2):
        Store(tmp_path).tensors("squares", ITEMS, measure(calls))
    assert calls == [CHUNK, CHUNK, 5]


def test_a_run_that_broke_off_repeats_only_what_is_missing(tmp_path):
    calls = []

    def breaks(part):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(calls)(part)

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).tensors("squares", ITEMS, breaks)
    again = Store(tmp_path).tensors("squares", ITEMS, measure(calls))
    assert calls == [CHUNK, CHUNK, 5] and float(again[0, -1]) == float(ITEMS[-1] ** 2)


def test_a_damaged_part_is_measured_again_and_no_partial_file_stays(tmp_path):
    store, calls = Store(tmp_path), []
    store.tensors("squares", ITEMS, measure(calls))
    sorted(store.folder.iterdir())[0].write_bytes(b"cut")
    store.tensors("squares", ITEMS, measure(calls))
    assert len(calls) == 4 and not [p for p in store.folder.iterdir() if "partial" in p.name]


def test_other_settings_other_items_and_other_names_never_meet(tmp_path):
    calls = []
    for settings, name, items in (
        ({"seed": 0}, "a", ITEMS),
        ({"seed": 1}, "a", ITEMS),
        ({"seed": 0}, "b", ITEMS),
        ({"seed": 0}, "a", ITEMS[::-1]),
    ):
        found = Store(tmp_path, settings).tensors(name, items, measure(calls))
        assert float(found[0, 0]) == float(items[0] ** 2)
    assert len(calls) == 12


def test_long_names_are_kept_apart_in_files_that_the_system_takes(tmp_path):
    """A model's name can be a long path, in letters of three bytes."""
    for name in ("x" * 400, "名" * 90):
        for end in "ab":
            assert Store(tmp_path).tensor(name + end, lambda end=end: torch.tensor(float(ord(end)))) == ord(end)
            assert Store(tmp_path).tensor(name + end, lambda: torch.tensor(0.0)) == ord(end)


def test_texts_and_ids_come_back_as_they_were(tmp_path):
    rows = Store(tmp_path).lists("texts", ["a", "b"], lambda part: [[t, [1, 2]] for t in part])
    assert rows == Store(tmp_path).lists("texts", ["a", "b"], lambda part: []) == [["a", [1, 2]], ["b", [1, 2]]]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        Store(tmp_path / "file")


TEXTS = ["three plus two", "five minus one", "red dog", "blue cat", "green house"] * 8


def planted(calls):
    """An experiment on the tiny model that counts its measurements."""

    def run(job):
        def states(part):
            calls.append(len(part))
            return shl.residual_stream(job.model, list(part), progress=False)[..., 0]

        effect = job.measured("states", TEXTS[: job.n], states)
        provenance = job.provenance("planted texts", TEXTS[: job.n])
        leg = make_leg(effect, sign_flips(effect), leg_text(), provenance=provenance, seed=job.seed, curves={})
        return shl.ExperimentResult("planted", "planted", (leg,), (), provenance=provenance)

    return Experiment("planted", "planted", 40, run)


def go(model, calls, out, **settings):
    return run_experiment(planted(calls), job_on(model, **({"n": 40} | settings)), out)


def test_a_saved_run_holds_table_tensors_record_and_figure_and_is_read_not_repeated(tiny_model, tmp_path):
    calls = []
    first = go(tiny_model, calls, tmp_path)
    folder = tmp_path / "planted"
    assert {p.name for p in folder.iterdir()} == {"items.parquet", "result.safetensors", "run.json", "figure.html"}
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["seed"] == 0 and record["provenance"][0]["data_hash"]
    assert record["verdicts"][0]["status"] == first.legs[0].verdict.status
    assert pd.read_parquet(folder / "items.parquet").equals(first.to_frame())
    counted = len(calls)
    again = go(tiny_model, calls, tmp_path)
    assert len(calls) == counted and again.summary().equals(first.summary())


def test_a_changed_setting_is_a_new_run(tiny_model, tmp_path):
    calls = []
    go(tiny_model, calls, tmp_path)
    for count, changed in enumerate(({"seed": 1}, {"n": 20}, {"convention": "paper"}, {"norm": "none"}), start=2):
        found = go(tiny_model, calls, tmp_path, **changed)
        assert len(calls) > count
        assert found.summary().equals(go(tiny_model, [], None, **changed).summary())
        calls.clear()
        calls.extend([0] * (count + 1))


def test_a_saved_run_is_one_whether_its_baseline_was_given_or_made_and_another_baseline_is_another_run(
    tiny_model, tmp_path
):
    def times_measured(baseline):
        calls = []
        job = replace(job_on(tiny_model, 40), untrained_model=baseline)
        run_experiment(planted(calls), job, tmp_path)
        return len(calls)

    random = shl.untrained(tiny_model, seed=0)
    assert times_measured(None) > 0 and times_measured(random) == 0
    assert times_measured(shl.untrained(tiny_model, seed=1)) > 0
    assert times_measured(random) > 0 and times_measured(None) == 0
    with torch.no_grad():
        next(random.parameters()).add_(1)
    assert times_measured(random) > 0, "a baseline that was changed is another one"


@pytest.mark.real
@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_numbers_of_an_uninterrupted_one(tmp_path):
    name, arguments = "arithmetic.logit_lens", ["--n", "96", "--no-baseline"]
    command = [sys.executable, "-m", "semhub_lens.cli.main", "run", name, *arguments, "--out"]
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 500
    while not list(killed.glob("*/parts-*/*.safetensors")) and time.time() < deadline:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = list(killed.glob("*/parts-*/*.safetensors"))
    assert kept and not (killed / name / "run.json").exists()
    times = {path: path.stat().st_mtime_ns for path in kept}
    for out in (killed, tmp_path / "whole"):
        subprocess.run([*command, str(out)], check=True, stdout=subprocess.DEVNULL)
    assert all(not Path(path).exists() for path in times), "parts are removed when the run is saved"
    tables = [pd.read_parquet(out / name / "items.parquet") for out in (killed, tmp_path / "whole")]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_every_experiment_has_an_entry_with_a_default_number_of_items():
    assert all(entry.id == name and entry.n >= 16 and entry.title for name, entry in EXPERIMENTS.items())
