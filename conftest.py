"""Fixtures for the tests and for the examples in docstrings."""

import gc
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent / "tests"))

import pytest

import checking
import commands
import lines

checking.check("semhub_lens")
sys.modules["rfc3987_syntax"] = None  # jsonschema would make its grammar of addresses for eight seconds, for no test


def pytest_collection_modifyitems(items):
    """Tests of the real model come first: a worker of its own does them, from the start."""
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker reads Gemma; a file's other tests stay together."""
    from xdist.scheduler import LoadScopeScheduling

    real = re.compile(r"^@pytest\.mark\.real\n(?:@.*\n)*def (\w+)\(.*gemma", re.MULTILINE)
    tests = Path(__file__).parent.joinpath("tests").rglob("test_*.py")
    ours = {name for path in tests for name in real.findall(path.read_text(encoding="utf-8"))}

    class OneReader(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path, _, name = nodeid.partition("::")
            return "gemma" if name.partition("[")[0] in ours else path

    return OneReader(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session", params=lines.BACKENDS)
def tiny_model(request):
    """A random three-layer Llama with a word-level tokenizer, on every backend of the installed line."""
    import models  # here, as this file is also read by the process that only hands out the tests

    return models.tiny(request.param)


@pytest.fixture(scope="session", params=lines.BACKENDS)
def gemma(request):
    """Gemma 3 270M, the packaged real model, on every backend of the installed line."""
    import models

    return models.gemma(request.param)


@pytest.fixture(scope="session")
def one_gemma():
    """Gemma 3 270M on the line's own backend (`HookedTransformer` where there is one): for what takes minutes."""
    import models

    return models.gemma(lines.BACKENDS[0])


@pytest.fixture(scope="session")
def random_gemma(one_gemma):
    """`one_gemma` with random weights."""
    import semhub_lens as shl

    return shl.untrained(one_gemma, seed=1)


@pytest.fixture(scope="session")
def fork(tmp_path_factory):
    """Runs commands: see `commands.Forks`."""
    forks = commands.Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture(scope="module", autouse=True)
def memory_returned():
    """A worker gives back what a file's tests have freed: commands make their process keep it."""
    yield
    from semhub_lens.base.allocator import return_freed_memory

    gc.collect()
    return_freed_memory()


PACKAGE = str(Path(__file__).parent / "semhub_lens") + os.sep
LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}
ABOUT_THE_MACHINE = {"lscpu", "uname", "ldconfig", "gcc", "cc", "ld"}
"""Programs by which libraries find out where they run."""


@pytest.fixture(autouse=True)
def nothing_leaves(monkeypatch):
    """No test reaches the network, and the package starts no process; a test itself may."""
    connect, look_up, start = socket.socket.connect, socket.getaddrinfo, subprocess.Popen.__init__

    def connecting(self, address):
        if isinstance(address, tuple) and address[0] not in LOCAL:
            pytest.fail(f"This connects to {address}.")
        return connect(self, address)

    def looking_up(host, *settings, **named):
        if host not in LOCAL:
            pytest.fail(f"This looks up {host}.")
        return look_up(host, *settings, **named)

    def starting(self, args, *settings, **named):
        program = Path(os.fsdecode(args if isinstance(args, str | bytes | os.PathLike) else args[0])).name
        frame = sys._getframe()
        while frame is not None and program not in ABOUT_THE_MACHINE:
            if frame.f_code.co_filename.startswith(PACKAGE):
                pytest.fail(f"{frame.f_code.co_filename}:{frame.f_lineno} starts {args}.")
            frame = frame.f_back
        return start(self, args, *settings, **named)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    monkeypatch.setattr(subprocess.Popen, "__init__", starting)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the checks of annotations that the test suite adds and users do not have."""
    from jaxtyping import config

    monkeypatch.setattr(config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace, request):
    """Names that docstring examples may use."""
    if request.node.__class__.__name__ == "DoctestItem":
        import torch

        import semhub_lens as shl

        doctest_namespace |= {name: getattr(shl, name) for name in shl.__all__}
        doctest_namespace |= {"tiny_model": _doctest_model(), "torch": torch, "shl": shl}


_MODEL: list = []


def _doctest_model():
    if not _MODEL:
        import models

        _MODEL.append(models.tiny())
    return _MODEL[0]
