"""Processes of one launch: each does its share, the numbers are those of one, a death loses an unfinished part."""

import os
import signal

import pytest
import torch

from launched import launched
from semhub_lens.base import processes
from semhub_lens.base.errors import Unfit
from semhub_lens.base.processes import in_step, is_main, place, share, together_in
from semhub_lens.base.store import CHUNK, Store

PARTS = 7
ITEMS = list(range(CHUNK * (PARTS - 1) + 5))
torch.set_num_threads(1)  # a forked child must not wait for threads that it does not have


def test_without_a_launch_there_is_one_process_and_no_part_of_accelerate(monkeypatch):
    monkeypatch.setattr("accelerate.PartialState", None)
    for environment in ({}, {"WORLD_SIZE": "1", "LOCAL_RANK": "0"}, {"WORLD_SIZE": "4"}, {"LOCAL_RANK": "1"}):
        for name in ("WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert place() == (0, 1) and is_main() and list(share("abc")) == ["a", "b", "c"]
    with in_step("alone") as told:
        told.append(1)
    assert told == [1]
    with pytest.raises(ZeroDivisionError), in_step("alone"):
        1 / 0


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_every_part_falls_to_one_process_whatever_their_number(count, monkeypatch):
    dealt = []
    for index in range(count):
        monkeypatch.setattr(processes, "place", lambda index=index: (index, count))
        dealt.append(list(share(range(PARTS))))
    assert sorted(part for parts in dealt for part in parts) == list(range(PARTS))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def kept(folder, index, die=None):
    """Squares and their digits by a shared store, and how many parts this process measured; one may die at a part."""
    store, calls = Store(folder, {"seed": 0}, shared=True), []

    def measured(part):
        calls.append(len(part))
        if die == (index, len(calls)):
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor([[float(i) ** 2 / 7 for i in part]])

    squares = store.tensors("squares", ITEMS, measured)
    digits = store.lists("digits", ITEMS, lambda part: [[*map(int, str(i))] for i in part])
    alone = store.tensor("alone", lambda: calls.append(0) or torch.tensor([1.5]))
    return [squares.tolist(), digits, alone.tolist(), calls]


@pytest.mark.parametrize("count", [2, 3])
def test_processes_measure_their_shares_and_read_the_numbers_of_one(count, tmp_path):
    *expected, _ = kept(tmp_path / "one", 0)
    found = launched(count, lambda index: kept(tmp_path / "many", index))
    assert [numbers for *numbers, _ in found] == [expected] * count
    measured = [calls for *_, calls in found]
    assert [len(calls) for calls in measured] == [len(range(i, PARTS, count)) + (i == 0) for i in range(count)]
    assert sum(map(sum, measured)) == len(ITEMS), "no item twice"
    one, many = ({path.name: path.read_bytes() for path in (tmp_path / f).rglob("*.*")} for f in ("one", "many"))
    assert one == many, "the parts are the same files"


@pytest.mark.parametrize(("count", "after"), [(2, 3), (3, 1)])
def test_a_process_that_is_killed_loses_its_unfinished_part_and_another_number_goes_on(count, after, tmp_path):
    *expected, _ = kept(tmp_path / "one", 0)
    first = launched(count, lambda index: kept(tmp_path / "many", index, die=(1, 2)))
    assert first[1] == -signal.SIGKILL
    said = "ended before its work was finished. Run the same command again"
    assert all(said in told for told in first[:1] + first[2:])
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "many").rglob("squares*")}
    lost = len(range(1, PARTS, count)) - 1
    assert len(there) == PARTS - lost, "only the killed one's unfinished part and those behind it are missing"
    found = launched(after, lambda index: kept(tmp_path / "many", index))
    assert [numbers for *numbers, _ in found] == [expected] * after
    assert sum(len([n for n in calls if n]) for *_, calls in found) == lost
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())


def test_an_error_of_one_process_is_an_error_of_all(tmp_path):
    def work(index):
        said = []
        for error in (Unfit("too long"), ZeroDivisionError("none")):
            try:
                with in_step("outside"), in_step("inside"):
                    if index == 1:
                        raise error
            except Exception as raised:
                said.append(f"{type(raised).__name__}: {raised}")
        with in_step("at the end") as told:
            told.append(index)
        return [*said, told]

    bug = "SemhubError: Process 1 of 0 to 2 failed: ZeroDivisionError: none"
    of_all = [["Unfit: too long", bug, [0, 1, 2]]] * 3
    of_all[1] = ["Unfit: too long", "ZeroDivisionError: none", [0, 1, 2]]
    assert launched(3, work) == of_all


def test_processes_that_do_different_things_are_told_so(tmp_path):
    def other_items(index):
        return Store(tmp_path, shared=True).tensors("x", [index, 1], torch.tensor).tolist()

    assert all("are doing different work (0: x-000" in told for told in launched(2, other_items))

    def other_folders(index):
        return Store(tmp_path / str(index), shared=True).tensors("x", ITEMS, lambda part: torch.tensor([part])).tolist()

    assert all("must see the same folder" in told for told in launched(2, other_folders))


def test_the_main_process_holds_the_folder_for_all(tmp_path):
    def work(index):
        with together_in(tmp_path / "run", "this"):
            return place()

    assert launched(2, work) == [[0, 2], [1, 2]]
    with together_in(tmp_path / "run", "this"):
        assert all("SemhubError: Another process is writing in" in told for told in launched(2, work))
