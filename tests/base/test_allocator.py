"""Freed memory that is kept is not faulted in again; importing the library changes nothing."""

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


def test_another_system_is_left_alone(monkeypatch):
    from semhub_lens.base import allocator as _allocator

    monkeypatch.setattr(_allocator.sys, "platform", "darwin")
    assert not _allocator.keep_freed_memory()
