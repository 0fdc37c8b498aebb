"""Every process collects the same tests in the same order, or two workers cannot share them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent


def collected(folder, seed):
    """The names of the tests of a folder, as a process lists them whose sets have the order of this seed."""
    how = ["-q", "--collect-only", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *how, str(folder)]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [line for line in ended.stdout.splitlines() if "::" in line]


def test_the_order_of_the_tests_is_the_same_in_every_process():
    """A set in `parametrize` has another order in each process, and two workers then end before the first test."""
    first, second = collected(TESTS, 1), collected(TESTS, 2)
    assert len(first) > 6000 and first == second


def test_a_set_in_parametrize_is_seen(tmp_path):
    names = ["a", "b", "c", "d", "e", "f", "g"]
    text = "import pytest\n@pytest.mark.parametrize('name', {NAMES})\ndef test_it(name):\n    pass\n"
    orders = []
    for kind in (set(names), names):
        (tmp_path / "test_it.py").write_text(text.replace("{NAMES}", str(kind)))
        orders.append([collected(tmp_path, seed) for seed in (1, 2)])
    assert orders[0][0] != orders[0][1] and sorted(orders[0][0]) == sorted(orders[0][1])
    assert orders[1][0] == orders[1][1] and len(orders[1][0]) == len(names)
