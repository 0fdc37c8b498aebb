"""What the commands print, in narrow encodings and with text that would steer a terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hostile
import models
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.shown_text import harmless
from semhub_lens.cli import main as command

SMALL = """
import sys
import models
from semhub_lens.cli import main
main.load_model = lambda *settings: models.tiny()
sys.argv = ["semhub", *sys.argv[1:]]
main.main()
"""


def small(*arguments, cwd, encoding="utf-8"):
    """The command on the tiny model, in a process of its own."""
    root = Path(models.__file__).parent
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "120", "HOME": str(cwd)}
    paths = {"PYTHONPATH": os.pathsep.join([str(root.parent), str(root)])}
    return subprocess.run(
        [sys.executable, "-c", SMALL, *arguments], capture_output=True, cwd=cwd, env=os.environ | environment | paths
    )


@pytest.mark.parametrize(("encoding", "page"), [("ascii", "run[seed=1].html"), ("cp1252", "~/[red]朋友.html")])
def test_a_narrow_encoding_costs_neither_the_page_nor_its_name(encoding, page, tmp_path):
    done = small("lens", "two 朋友 dog", "--html", page, cwd=tmp_path, encoding=encoding)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (tmp_path / page.removeprefix("~/")).is_file()
    shown = page.replace("~", str(tmp_path)).encode(encoding, errors="replace")
    assert shown in done.stdout and b"dog" in done.stdout


@pytest.fixture
def printed(monkeypatch, capsys, tmp_path):
    """Run the command in this process on the tiny model; gives its status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "load_model", lambda *settings: models.tiny())
    monkeypatch.setattr(command, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(command, "only_ours", lambda: None)
    monkeypatch.setattr(command.console, "width", 1000)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["semhub", *arguments])
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize(
    "arguments", [["-1 + 1 ="], ["-my dog"], ["-7"], ["two", "--modle", "x"], ["--top-k", "3", "-x y"]]
)
def test_a_text_that_begins_with_a_dash_is_one_clear_line(printed, arguments):
    status, text = printed("lens", *arguments)
    assert status == 2 and text.startswith("semhub: ") and text.count("\n") == 1 and "behind --" in text


def test_behind_two_dashes_it_is_read(printed):
    status, text = printed("lens", "--top-k", "2", "--", "- two 3 =")
    assert status == 0 and "␣two" in text


def test_the_page_is_there_before_anything_is_printed(printed, monkeypatch, tmp_path):
    def broken(*settings, **named):
        assert (tmp_path / "lens.html").is_file()
        raise SemhubError("the terminal is gone")

    monkeypatch.setattr(command.console, "print", broken)
    with pytest.raises(SemhubError, match="is gone"):
        printed("lens", "two", "--html", "lens.html")


@pytest.mark.parametrize("name", [f"{hostile.CONTROLS}.gguf", "\x1b]0;owned\x07"])
def test_controls_in_errors_are_named(printed, monkeypatch, name):
    def load_model(*settings):
        raise SemhubError(f"No model at {name}.\nSee [red]the list[/red].")

    monkeypatch.setattr(command, "load_model", load_model)
    status, text = printed("lens", "two", "--model", "x")
    assert status == 2 and not set(text) & set(hostile.RAW)
    assert text == f"semhub: No model at {harmless(name)}.\nSee [red]the list[/red].\n"


def test_controls_in_tables_are_named(printed, monkeypatch):
    monkeypatch.setattr(command, "logit_lens", lambda model, *settings, **named: hostile.lens(model, "\x1b[2J\r"))
    _, text = printed("lens", "two")
    assert "U+001B" in text and not set(text) & set(hostile.RAW)
    result = hostile.experiment(models.tiny())
    monkeypatch.setattr(command.registry, "run", lambda *settings, **named: result)
    _, text = printed("run", "arithmetic.logit_lens", "--out", "runs [bold]")
    assert "U+001B" in text and "runs [bold]" in text and not set(text) & set(hostile.RAW)


def test_joiners_and_other_scripts_stay():
    kept = "مرحبا 朋友 👨‍👩‍👧 नमस्ते\n"
    assert harmless(kept, kept="\n") == kept
    assert harmless("a\tb\x7f\u2029") == "aU+0009bU+007FU+2029"
