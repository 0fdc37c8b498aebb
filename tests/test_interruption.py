"""Kills, a full disk, second processes and damaged files: nothing is lost, and what cannot be done is said."""

import inspect
import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

import models
import semhub_lens as shl
from interruption import KINDS, Conversion, SavedRun, forked, interrupted
from semhub_lens.base.results import load_result
from semhub_lens.base.store import Store
from semhub_lens.model import packaged
from semhub_lens.model.packaged import plain_folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_work_that_is_killed_and_taken_up_again_gives_what_it_gives_uninterrupted(kind):
    assert interrupted(kind, 12)["killed"] == 12


@pytest.fixture(scope="module")
def lens():
    return shl.logit_lens(models.tiny(), "red dog", progress=False)


def on_a_full_disk(work, most):
    """The message of the SemhubError of `work` in a process whose files hold at most so many bytes."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        try:
            work()
        except shl.SemhubError as error:
            return str(error)
        return ""

    return forked(limited)


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("write", [lambda r, p: r.save(p), shl.write_html], ids=["result", "page"])
def test_a_file_that_does_not_fit_leaves_the_old_one(lens, tmp_path, write):
    (tmp_path / "x").write_text("old")
    said = on_a_full_disk(lambda: write(lens, tmp_path / "x"), 1000)
    assert "could not be written (" in said and "File too large" in said
    assert content(tmp_path) == {"x": b"old"}


def test_a_run_that_fills_the_disk_says_so_and_goes_on_when_there_is_room(tmp_path):
    run = SavedRun(tmp_path)
    assert "could not be written" in on_a_full_disk(run.work, 20_000)
    assert len(list(tmp_path.glob("planted/parts-*/*.safetensors"))) == 3
    run.work()
    assert run.whole()


def test_a_conversion_that_does_not_fit_leaves_nothing_and_can_be_done_again(tmp_path):
    conversion = Conversion(tmp_path)
    said = on_a_full_disk(conversion.work, 50_000)
    assert "could not be converted" in said and "SEMHUB_CACHE" in said
    assert conversion.named() == []
    forked(conversion.work)
    assert conversion.whole()


def child(work):
    """The process id of a child that does this and ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = os.fork()
    if made == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return made


def test_of_two_processes_that_convert_at_once_one_does_and_the_other_takes_what_it_made(tmp_path):
    conversion = Conversion(tmp_path)
    (told, tell), (go, let_go), (other, tell_other) = os.pipe(), os.pipe(), os.pipe()

    def convert(tell, go):
        def dequantise(gguf, into):
            (tmp_path / f"done by {os.getpid()}").touch()
            os.write(tell, b"converts")
            if go is not None:
                os.read(go, 1)
            conversion.model.save_pretrained(into)

        os.environ["SEMHUB_CACHE"] = str(tmp_path / "cache")
        sys.addaudithook(
            lambda event, args: os.write(tell, b"waits") if event == "open" and str(args[0]).endswith(".lock") else None
        )
        packaged._dequantise = dequantise
        plain_folder("small", [tmp_path / "weights"])

    first = child(lambda: convert(tell, go))
    said = b""
    while b"converts" not in said:
        said += os.read(told, 8)
    second = child(lambda: convert(tell_other, None))
    os.read(other, 8)  # it stands before the lock, or converts as well
    os.write(let_go, b"x")
    assert [os.waitpid(one, 0)[1] for one in (first, second)] == [0, 0]
    assert len(list(tmp_path.glob("done by *"))) == 1 and conversion.whole()


@pytest.mark.parametrize("place", ["file/x", "/proc/no-such-folder/x"], ids=["under a file", "read-only"])
def test_a_place_that_cannot_be_written_is_named(lens, tmp_path, place):
    (tmp_path / "file").write_text("old")
    for write in (lens.save, lambda path: shl.write_html(lens, path)):
        with pytest.raises(shl.SemhubError, match="could not be written"):
            write(tmp_path / place)
    assert content(tmp_path) == {"file": b"old"}


def test_what_is_no_path_is_refused(lens):
    for call in (inspect.unwrap(load_result), lambda path: inspect.unwrap(type(lens).save)(lens, path)):
        with pytest.raises(shl.SemhubError, match=r"Expected the path of a file .*, got None"):
            call(None)


def test_a_run_folder_takes_one_process_at_a_time(tmp_path):
    run = SavedRun(tmp_path)
    run.work()
    before = content(tmp_path)
    with (
        FileLock(tmp_path / ".planted.lock"),
        pytest.raises(shl.SemhubError, match=r"Another process is writing in .*planted: wait"),
    ):
        forked_error(run.work)
    assert content(tmp_path) == before
    assert run.work() == "done" and run.whole()


def forked_error(work):
    """Raise here the SemhubError that `work` raises in a child."""

    def told():
        try:
            work()
        except shl.SemhubError as error:
            return str(error)
        return ""

    if message := forked(told):
        raise shl.SemhubError(message)


@pytest.mark.parametrize("damage", ["record of another tool", "cut record", "cut result", "changed result"])
def test_a_damaged_run_is_named_and_stays(tmp_path, damage):
    run = SavedRun(tmp_path)
    run.work()
    folder = tmp_path / "planted"
    record, result = folder / "run.json", folder / "result.safetensors"
    if "record" in damage:
        record.write_text('["theirs"]' if "tool" in damage else record.read_text()[:100])
    else:
        raw = result.read_bytes()
        result.write_bytes(raw[:-20] if "cut" in damage else raw[:-4] + bytes(byte ^ 1 for byte in raw[-4:]))
    before = content(folder)
    with pytest.raises(shl.SemhubError, match=r"planted is damaged or not a run of this library"):
        run.work()
    assert content(folder) == before


def test_a_result_whose_numbers_or_texts_were_changed_is_refused(lens, tmp_path):
    path = lens.save(tmp_path / "x")
    raw = path.read_bytes()
    path.write_bytes(raw[:-4] + bytes(byte ^ 1 for byte in raw[-4:]))
    with pytest.raises(shl.SemhubError, match="was changed after it was saved"):
        load_result(path)
    path.write_bytes(raw.replace(b"tiny-llama", b"huge-llama"))
    with pytest.raises(shl.SemhubError, match="was changed after it was saved"):
        load_result(path)


def test_parts_that_were_changed_are_measured_again(tmp_path):
    def made(answer):
        store = Store(tmp_path)
        return store, [store.tensor("t", lambda: torch.tensor(answer)), torch.tensor(store.rows("r", lambda: [answer]))]

    store, first = made(1)
    save_file({"part": torch.tensor(5)}, store.folder / "t.safetensors")
    (rows,) = store.folder.glob("r*")
    rows.write_text(rows.read_text().replace("[1]", "[5]"))
    assert [int(value) for value in made(2)[1]] == [2, 2] != [int(value) for value in first]
    assert [int(value) for value in made(3)[1]] == [2, 2]


@pytest.mark.parametrize("damage", ["cut weights", "no config", "a file"])
def test_damaged_converted_weights_are_named_and_stay(tmp_path, monkeypatch, damage):
    conversion = Conversion(tmp_path)
    folder = Path(forked(conversion.work))
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path / "cache"))
    weights = folder / "model.safetensors"
    if damage == "cut weights":
        os.truncate(weights, weights.stat().st_size - 10)
    elif damage == "no config":
        (folder / "config.json").unlink()
    else:
        folder.rename(tmp_path / "away")
        folder.write_text("theirs")
    before = content(tmp_path)
    with pytest.raises(shl.SemhubError, match=r"converted weights in .* are damaged .*Remove that folder"):
        plain_folder("small", [tmp_path / "weights"])
    assert content(tmp_path) == before


def test_two_processes_convert_once(tmp_path):
    conversion = Conversion(tmp_path)
    pids = []
    for _ in range(2):
        if (pid := os.fork()) == 0:
            os._exit(0 if conversion.work() else 1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert conversion.whole() and len(conversion.named()) == 1


def test_the_checksum_of_a_result_is_of_what_the_file_holds(lens, tmp_path):
    one, two = (lens.save(tmp_path / name) for name in "ab")
    assert one.read_bytes() == two.read_bytes() and load_file(one).keys() == load_file(two).keys()
    header = one.read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"].keys() == {"semhub_lens"}
