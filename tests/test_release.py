"""The parts of `make release-check`: what it compares, what it refuses, and that its environment is empty."""

import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "release"
LOADER = SourceFileLoader("release", str(SCRIPT))
release = importlib.util.module_from_spec(importlib.util.spec_from_loader("release", LOADER))
LOADER.exec_module(release)
METADATA = "Metadata-Version: 2.4\nName: x\nVersion: 1\nSummary: s\nLicense-Expression: MIT\n\nWhat it is.\n"


def test_what_a_build_left_out_or_took_along_is_named():
    assert release.differences({"a.py", "left.tmp"}, {"a.py", "b.js"}) == ["missing: b.js", "not tracked: left.tmp"]
    assert release.differences({"a.py"}, {"a.py"}) == []


def test_the_files_of_wheel_and_sdist_are_read_without_what_the_build_adds(tmp_path):
    with zipfile.ZipFile(tmp_path / "x-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("x/__init__.py", "")
        wheel.writestr("x-1.dist-info/METADATA", METADATA)
    with tarfile.open(tmp_path / "x-1.tar.gz", "w:gz") as sdist:
        for name in ("x-1/x/__init__.py", "x-1/docs/a.md", "x-1/PKG-INFO"):
            sdist.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert release.contents(tmp_path / "x-1-py3-none-any.whl") == {"x/__init__.py"}
    assert release.contents(tmp_path / "x-1.tar.gz") == {"x/__init__.py", "docs/a.md"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("", ""),
        ("Summary: s\n", "no summary"),
        ("License-Expression: MIT\n", "no license_expression"),
        ("Version: 1\n", "version"),
        ("\nWhat it is.\n", "no description"),
    ],
)
def test_metadata_that_an_index_refuses_is_named(changed, message):
    found = release.faults((METADATA.replace(changed, "") if changed else METADATA).encode())
    assert (found == []) if not message else any(message in each for each in found)


def test_a_requirement_by_address_is_refused():
    text = METADATA.replace("\n\n", "\nRequires-Dist: y @ https://example.org/y.whl\n\n", 1)
    (found,) = release.faults(text.encode())
    assert found.startswith("an index takes no y") and "https://example.org/y.whl" in found


def test_what_is_required_is_found_with_its_own_and_without_extras():
    found = release.closure(["jinja2>=3"])
    assert {name.lower() for name in found} == {"jinja2", "markupsafe"}
    assert release.closure(["jinja2; extra == 'never'"]) == {}
    with pytest.raises(SystemExit, match="nothing-of-this-name is required and not installed"):
        release.closure(["nothing-of-this-name"])


def test_the_empty_environment_holds_what_is_required_and_nothing_else(tmp_path):
    python = release.empty_environment(tmp_path / "empty", release.closure(["jinja2"]).values())
    code = "import jinja2\ntry:\n    import numpy\nexcept ImportError:\n    print('no numpy')"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no numpy\n"


def test_the_empty_environment_has_the_data_of_what_it_holds(tmp_path):
    pytest.importorskip("jupyterlab")
    release.empty_environment(tmp_path / "empty", release.closure(["jupyterlab"]).values())
    for name in ("share/jupyter/lab/static/index.html", "etc/jupyter/jupyter_server_config.d/jupyterlab.json"):
        copied = tmp_path / "empty" / name
        assert not copied.is_symlink() and copied.read_bytes() == (Path(sys.prefix) / name).read_bytes()
    assert not (tmp_path / "empty" / "share/jupyter/labextensions/anywidget").exists()


def test_a_command_that_fails_ends_the_check_with_what_it_printed(tmp_path):
    assert release.said(sys.executable, "-c", "print(1)", cwd=tmp_path) == "1\n"
    with pytest.raises(SystemExit, match="it broke"):
        release.said(sys.executable, "-c", "raise ValueError('it broke')", cwd=tmp_path)
