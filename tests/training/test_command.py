"""Training stands behind the extra `train`: nothing imports it unasked, and its command still answers."""

import json
import math
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from semhub_lens.training import command
from semhub_lens.training.corpora.emoji import emoji_names
from semhub_lens.training.corpora.speech import _engine


def test_importing_the_package_and_its_command_line_leaves_training_out(fork, tmp_path):
    code = "import sys, semhub_lens.cli.main\n"
    code += "print([m for m in sys.modules if '.training' in m and 'semhub' in m])"
    done = fork("-c", code, cwd=tmp_path)
    assert done.stdout.strip() == b"[]", done.stdout + done.stderr


def test_the_command_says_what_it_takes(fork, tmp_path):
    done = fork("-m", "semhub_lens", "train-spoke", "--help", cwd=tmp_path)
    assert done.returncode == 0 and b"--shuffle-pairs" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--json", "--quiet", None])
def test_a_training_prints_json_a_table_or_nothing(monkeypatch, option):
    """The training itself is replaced; what it is given says whether a bar is shown."""
    shown = []

    def given(*arguments, **settings):
        shown.append(settings["progress"])
        return None, None, SimpleNamespace(summary=lambda: pd.DataFrame({"split": ["new_item"], "top1": [math.nan]}))

    for name in ("audio_plan", "run_plan"):
        monkeypatch.setattr(command, name, given)
    for name in ("load", "write_html"):
        monkeypatch.setattr(command, name, lambda *arguments, **settings: None)
    printed = CliRunner().invoke(command.app, ["audio", "--out", "made", *filter(None, [option])]).output
    assert shown == [option != "--quiet"] * 2
    if option == "--json":
        told = json.loads(printed)
        assert told["results"] == [{"split": "new_item", "top1": None}] and told["saved"].endswith("made")
    else:
        assert (printed == "") == (option == "--quiet") and ("new_item" in printed) == (option is None)


@pytest.mark.parametrize(("module", "use"), [("emoji", emoji_names), ("espeakng_loader", _engine.__wrapped__)])
def test_a_missing_package_names_the_extra(monkeypatch, module, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"semhub-lens\[train\]"):
        use()
