"""Freed memory is kept and not faulted in again, or returned; importing the library changes nothing."""

import sys

import pytest

PROGRAM = """
import resource, torch
from semhub_lens.base.allocator import keep_freed_memory
torch.set_num_threads(1)
if {keep}:
    print(keep_freed_memory())
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    torch.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(fork, folder, keep):
    printed = fork("-c", PROGRAM.format(keep=keep), cwd=folder).stdout.decode().split()
    return printed[:-1], int(printed[-1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_tensors_fault_their_pages_in_once(fork, tmp_path):
    _, plain = faults(fork, tmp_path, False)
    said, kept = faults(fork, tmp_path, True)
    assert said == ["True"]
    assert kept < 0.2 * plain


RETURNED = """
import torch
from pathlib import Path
from semhub_lens.base.allocator import keep_freed_memory, return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

keep_freed_memory()
below, above = torch.ones(50_000_000), torch.ones(1_000_000)
full = resident()
del below
kept = resident()
print(return_freed_memory(), kept / full, resident() / full, float(above.sum()))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_returned_when_asked_also_below_what_is_in_use(fork, tmp_path):
    said, kept, left, above = fork("-c", RETURNED, cwd=tmp_path).stdout.decode().split()
    assert (said, float(above)) == ("True", 1_000_000.0)
    assert float(kept) > 0.95 and float(left) < 0.8


def test_another_system_is_left_alone(monkeypatch):
    from semhub_lens.base import allocator as _allocator

    monkeypatch.setattr(_allocator.sys, "platform", "darwin")
    assert not _allocator.keep_freed_memory() and not _allocator.return_freed_memory()
