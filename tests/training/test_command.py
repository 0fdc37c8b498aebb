"""Training stands behind the extra `train`: nothing imports it unasked, and its command still answers."""

import json
import math
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import models
from semhub_lens.base.errors import SemhubError
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


NUMBERS = ("a", "1.5", "-1")
SHARES = ("a", "nan", "-0.1", "1.5")
WRONG = {
    "model": ["nothing", "", "no-such.gguf"],
    "out": ["FILE/inside"],
    "more": ["no-folder"],
    "named": ["no-folder"],
    **dict.fromkeys(("words", "views", "grid", "embeddings", "hidden", "steps", "batch", "candidates", "every"),
        (*NUMBERS, "0")),
    **dict.fromkeys(("regions", "pretraining", "rank"), NUMBERS),
    "folds": [*NUMBERS, "1"],
    "learning-rate": ["a", "nan", "inf", "0", "-1"],
    **dict.fromkeys(("weight-decay", "mixup"), ("a", "nan", "inf", "-1")),
    "dropout": [*SHARES, "1"],
    "english": SHARES,
    "seed": ["a", "1.5", str(1 << 70)],
    "device": ["banana"],
    "dtype": ["float8", ""],
    "codes": [None],
    **dict.fromkeys(("name", "stamps", "font", "cache", "summed", "shuffle-pairs", "json", "quiet"), ()),
}  # fmt: skip
"""By option; those without any take all values, or are read with the corpora."""


def test_every_option_of_the_command_has_wrong_values():
    options = typer.main.get_command(command.app).params
    assert {name.strip("-") for one in options for name in one.opts if name.startswith("--")} - {"help"} == WRONG.keys()


@pytest.mark.parametrize("option", [name for name, values in WRONG.items() if values])
def test_wrong_options_are_refused_before_features_are_made(monkeypatch, tmp_path, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    for name in ("audio_plan", "vision_plan", "run_plan"):
        monkeypatch.setattr(command, name, lambda *arguments, **settings: pytest.fail("a plan was made"))
    if option not in ("model", "device", "dtype"):
        monkeypatch.setattr(command, "load", lambda *arguments, **settings: pytest.fail("a model was read"))
    models.tiny_llama().save_pretrained(tmp_path / "host")
    models.tiny_tokenizer().save_pretrained(tmp_path / "host")
    for value in WRONG[option]:
        words = ["audio", "--out", "made", "--model", "host", f"--{option}", *([] if value is None else [value])]
        ended = CliRunner().invoke(command.app, words)
        assert isinstance(ended.exception, SemhubError | SystemExit) and ended.exit_code in (1, 2), (value, ended)
        assert isinstance(ended.exception, SemhubError) or f"--{option}" in ended.output, value
    assert not (tmp_path / "made").exists()


def test_a_kind_that_is_none_or_lacks_its_font_is_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for kind, message in (("nothing", "Unknown kind 'nothing'"), ("vision", "--font")):
        assert message in str(CliRunner().invoke(command.app, [kind, "--out", "made"]).exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "use"), [("emoji", emoji_names), ("espeakng_loader", _engine.__wrapped__)])
def test_a_missing_package_names_the_extra(monkeypatch, module, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"semhub-lens\[train\]"):
        use()
