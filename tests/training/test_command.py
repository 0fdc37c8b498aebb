"""Training stands behind the extra `train`: nothing imports it unasked, and its command still answers."""

import json
import math
import pathlib
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import typer
from PIL import Image, ImageFont
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
    "out": ["FILE", "FILE/inside"],
    "name": ["", " ", "a/b", "../up", "a\nb", "\x1b[2J", "x" * 300, "checkpoint", "Evaluation"],
    "stamps": ["no-folder", "FILE", "EMPTY"],
    "font": ["none.ttf", "FILE", "EMPTY", "GREY.ttf"],
    "cache": ["FILE", "FILE/inside"],
    "more": ["no-folder", "=EMOJI", "a=", "a=no-folder", "a=FILE", "a=EMPTY", "emoji=EMOJI", "a\n=EMOJI",
        ("a=EMOJI",) * 2],
    "named": ["no-folder", "=NAMED", "a=", "a=no-folder", "a=FILE", "a=EMPTY", "stamp=NAMED", ("a=NAMED",) * 2],
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
    **dict.fromkeys(("summed", "shuffle-pairs", "json", "quiet"), ()),
}  # fmt: skip
"""By option; flags have none. Names in capitals are those of `corpora`, and a pair is the option twice."""
SPOKEN = {"named": ["a=SPOKEN", "a=no-folder", "m1=SPOKEN", ("a=SAID",) * 2], "font": ["EMOJI"], "more": ["a=EMOJI"]}
"""The same with audio: SPOKEN has no word of the training."""
VISION = ["vision", "--out", "made", "--model", "host", "--font", "EMOJI"]
AUDIO = ["audio", "--out", "made", "--model", "host"]


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    """A folder with a little of all that a training reads."""
    monkeypatch.chdir(tmp_path)
    models.tiny_llama().save_pretrained("host")
    models.tiny_tokenizer().save_pretrained("host")
    pathlib.Path("FILE").write_text("no font, and no folder")
    for name in ("EMPTY", "EMOJI", "NAMED", "STAMPS", "SAID/en", "SPOKEN/en"):
        pathlib.Path(name).mkdir(parents=True)
    for name in ("EMOJI/1f436.png", "NAMED/guinea_pig.png", "STAMPS/dog.png"):
        Image.new("RGB", (4, 4), "red").save(name)
    pathlib.Path("STAMPS/dog.txt").write_text("A dog.\n")
    for name in ("SAID/en/dog.wav", "SPOKEN/en/qwertz.wav"):
        soundfile.write(name, np.zeros(9), 16000)
    pathlib.Path("GREY.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    return tmp_path


class Reached(Exception):
    """The model would be read now."""


def refuse_work(monkeypatch):
    def reached(*arguments, **settings):
        raise Reached

    for name in ("audio_plan", "vision_plan", "run_plan"):
        monkeypatch.setattr(command, name, lambda *arguments, **settings: pytest.fail("a plan was made"))
    monkeypatch.setattr(command, "load", reached)


def test_every_option_of_the_command_has_wrong_values():
    params = typer.main.get_command(command.app).params
    options = {one.opts[0].strip("-"): one for one in params if one.opts[0][0] == "-"}
    assert options.keys() == WRONG.keys()
    assert [name for name, one in options.items() if not WRONG[name] and not one.is_flag] == []


@pytest.mark.parametrize("words", [
    VISION, AUDIO, [*VISION, "--stamps", "STAMPS", "--more", "a=EMOJI", "--named", "b=NAMED", "--cache", "kept"],
    [*AUDIO, "--stamps", "STAMPS", "--named", "a=SAID", "--name", "my ears-2"],
])  # fmt: skip
def test_right_options_reach_the_model_and_write_nothing_before(monkeypatch, corpora, words):
    refuse_work(monkeypatch)
    before = sorted(corpora.rglob("*"))
    assert isinstance(CliRunner().invoke(command.app, words).exception, Reached)
    assert sorted(corpora.rglob("*")) == before


@pytest.mark.parametrize("kind", ["vision", "audio"])
@pytest.mark.parametrize("option", [name for name, values in WRONG.items() if values])
def test_wrong_options_are_refused_before_features_are_made(monkeypatch, corpora, option, kind):
    real, right, before = command.load, VISION if kind == "vision" else AUDIO, sorted(corpora.rglob("*"))
    refuse_work(monkeypatch)
    if option in ("model", "device", "dtype"):
        monkeypatch.setattr(command, "load", real)
    for value in WRONG[option] if kind == "vision" else SPOKEN.get(option, WRONG[option]):
        given = [] if value is None else [value] if isinstance(value, str) else value
        words = [*right, *([word for one in given for word in (f"--{option}", one)] or [f"--{option}"])]
        ended = CliRunner().invoke(command.app, words)
        assert isinstance(ended.exception, SemhubError | SystemExit) and ended.exit_code in (1, 2), (value, ended)
        assert isinstance(ended.exception, SemhubError) or f"--{option}" in ended.output, value
        came = [word for one in given for word in (repr(one), repr(one)[1:21], one.rpartition("=")[2])]
        said = f"{ended.exception} {ended.output}"
        assert any(word in said for word in {f"--{option}", *came} - {"", "'"}), (value, said)
    assert sorted(corpora.rglob("*")) == before


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
