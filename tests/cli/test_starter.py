"""What a newcomer finds on the command line: a starter that runs, examples, JSON, completion, the nearest name."""

import json
import re
import runpy
from ast import literal_eval
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import models
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.cli.main import app
from semhub_lens.cli.starter import BUNDLED, starter
from semhub_lens.training.command import app as training

COMMANDS = typer.main.get_command(app).commands


def semhub(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pairs(folder):
    rows = ["three plus two\tfour plus two", "dog\tperro", "cat\tchat", "red house\tblue house", "a line without"]
    path = folder / "pairs.tsv"
    path.write_text("\n".join(rows), encoding="utf-8-sig")  # with the mark that some editors write
    return path


def test_the_script_for_ones_own_model_and_data_runs(here, capsys, unchecked):
    models.tiny_llama().save_pretrained(here / "model")
    models.tiny_tokenizer().save_pretrained(here / "model")
    done = semhub("new", "start.py", "--model", "model", "--data", str(pairs(here)))
    assert done.exit_code == 0 and "start.py" in done.output, done.output
    names = runpy.run_path("start.py")
    assert names["pairs"][0] == ("three plus two", "four plus two") and len(names["pairs"]) == 4
    assert (here / "lens.html").is_file() and (here / "similarity.html").is_file()
    printed = capsys.readouterr().out
    assert "damage in nats:" in printed and "random direction" in printed
    shares = re.findall(r"layer (\d): (\d\.\d\d) \(chance (\d\.\d\d)\)", printed)
    retrieval = names["similarity"].retrieval.tolist()
    assert shares == [(str(i), f"{share:.2f}", "0.25") for i, share in enumerate(retrieval)]


def test_the_notebook_is_the_script_in_cells(here):
    script, notebook = (starter(here / f"start.{kind}", "gemma-3-270m", None) for kind in ("py", "ipynb"))
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    plain = re.sub(r"# %% \[markdown\]\n(#.*\n)+", "", script.read_text("utf-8")).replace("# %%\n", "")
    assert code.split() == plain.split() and BUNDLED in script.read_text("utf-8")
    compile(code, "start.ipynb", "exec")
    assert [cell["cell_type"] for cell in cells][:2] == ["markdown", "code"]


def test_a_starter_in_another_folder_finds_the_model_and_the_data(here, monkeypatch, unchecked):
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{}")
    (here / "notebooks").mkdir()
    monkeypatch.setenv("HOME", str(here))
    for made, data in (("start.py", "~/pairs.tsv"), ("notebooks/start.py", "pairs.tsv")):
        assert pairs(here).name == "pairs.tsv"
        written = starter(made, "model", data).resolve()
        monkeypatch.chdir(written.parent)
        named = dict(re.findall(r"^(MODEL|DATA) = (\S+)", written.read_text("utf-8"), re.MULTILINE))
        assert all(Path(literal_eval(found)).exists() for found in named.values()) and len(named) == 2
        monkeypatch.chdir(here)
    assert "MODEL = 'model'" in (here / "start.py").read_text("utf-8")


@pytest.mark.parametrize("name, data, error", [
    ("start.txt", None, "ends in .py or .ipynb"),
    ("there.py", None, "already exists"),
    ("start.py", "none.tsv", "cannot be read"),
    ("start.py", "one.tsv", "at least three lines"),
])  # fmt: skip
def test_a_starter_that_cannot_be_is_refused(here, name, data, error):
    (here / "there.py").write_text("")
    (here / "one.tsv").write_text("a\tb\n")
    with pytest.raises(SemhubError, match=error):
        starter(name, "gemma-3-270m", data)


@pytest.mark.parametrize("words, error", [
    (("new", "start.py", "--model="), "The value of --model is empty"),
    (("new", "start.py", "-m", ""), "The value of -m is empty"),
    (("run", "arithmetic.logit_lens", "--out", ""), "The value of --out is empty"),
    (("train-spoke", "vision", "--out", ""), "The value of --out is empty"),
    (("new", ""), "An argument is empty"),
    (("lens", "--", ""), "The prompt text is empty"),
])  # fmt: skip
def test_an_empty_value_is_refused_however_it_is_written(here, words, error):
    ended = semhub(*words).exception
    assert isinstance(ended, SemhubError) and error in str(ended)
    assert not list(here.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_in_its_help_that_it_would_take(name):
    command = typer.main.get_command(training) if name == "train-spoke" else COMMANDS[name]
    (example,) = re.findall(rf"^Example: semhub {name} ?(.*)$", command.epilog)
    known = {flag for entry in command.params for flag in entry.opts}
    assert {word for word in example.split() if word[0] == "-"} <= known
    done = CliRunner().invoke(training, ["--help"]) if name == "train-spoke" else semhub(name, "--help")
    assert "Example: semhub" in done.output, done.exception


def test_help_groups_the_commands_and_tells_the_exit_codes():
    words = " ".join(semhub("--help").output.split())
    assert all(part in words for part in ("Start", "Measure", "Lists and training", "--install-completion"))
    assert "Exit status" in words


@pytest.mark.parametrize("command", ["experiments", "models"])
def test_lists_are_json_for_scripts(command):
    rows = json.loads(semhub(command, "--json").output)
    names = [row.get("id", row.get("name")) for row in rows]
    assert "gemma-3-270m" in names or names == list(shl.experiments.EXPERIMENTS)


def test_a_check_is_json_or_a_status(tiny_model, monkeypatch):
    monkeypatch.setattr("semhub_lens.cli.main.load_model", lambda *settings, **named: tiny_model)
    found = json.loads(semhub("check", "x", "--no-reference", "--json").output)
    assert found["sound"] is True and {"what", "verified"} <= found["findings"][0].keys()
    quiet = semhub("check", "x", "--no-reference", "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_what_to_paste_into_a_report_of_a_fault_names_versions_facts_and_checks(tiny_model, monkeypatch):
    printed = semhub("info").output
    assert all(f"\n{name}: {version(name)}" in printed for name in ("semhub-lens", "transformer-lens", "torch"))
    monkeypatch.setattr("semhub_lens.cli.main.load_model", lambda *settings, **named: tiny_model)
    monkeypatch.setattr("semhub_lens.cli.main.host.recorded", lambda *settings: None)
    found = shl.check(tiny_model)
    assert semhub("info", "x").output == f"{printed}\n{found!r}\n\n{found.provenance.line()}\n"
    told = json.loads(semhub("info", "x", "--json").output)
    assert told["torch"] == version("torch") and told["provenance"]["weights"] == found.provenance.weights
    assert [row["what"] for row in told["findings"]] == [row.what for row in found.findings]


def test_a_run_is_json_or_quiet(monkeypatch, here):
    import hostile

    result = hostile.experiment(models.tiny())
    monkeypatch.setattr("semhub_lens.cli.main.load_model", lambda *settings, **named: None)
    monkeypatch.setattr("semhub_lens.cli.main.registry.run", lambda *settings, **named: result)
    printed = json.loads(semhub("run", "arithmetic.logit_lens", "--json").output)
    assert len(printed["results"]) == len(result.legs) and printed["saved"].endswith("arithmetic.logit_lens")
    assert semhub("run", "arithmetic.logit_lens", "-q").output == ""


@pytest.mark.parametrize("arguments, nearest", [
    (["rnu"], "'run'"), (["run", "x", "--modle", "y"], "--model"), (["lens", "x", "--modle", "y"], "--model"),
    (["run", "arithmetic.logitlens"], "did you mean arithmetic.logit_lens?"),
    (["lens", "x", "--model", "gemma-3-27m"], "gemma-3-270m"), (["run", "semantics"], "semantics.logit_lens?"),
    (["lens", "x", "--norm", "tunned"], "nearest: 'tuned'"), (["check", "--backend", "bridg"], "nearest: 'bridge'"),
    (["run", "x", "--convention", "papr"], "nearest: 'paper'"), (["info", "x", "--dtype", "float"], "'float32'"),
])  # fmt: skip
def test_a_typo_is_answered_with_the_nearest_name(arguments, nearest):
    done = semhub(*arguments)
    assert done.exit_code and nearest in f"{done.output} {done.exception}"


@pytest.mark.parametrize("arguments, told", [
    (["lens", "El", "color"], "in quotes"), (["lens", "x", "--norm"], "requires an argument"),
    (["lens", "x", "--norm", "tunned"], "--norm takes one of"), (["lens", "x", "--top-k", "0"], "--top-k"),
    (["run", "arithmetic.logit_lens", "-n", "3"], "at least 16 items"), (["report", "-n", "3"], "at least 16 items"),
    (["run", "arithmetic.logit_lens", "--spoke", "eyes"], "is for pictures and sound"),
    (["run", "arithmetic.logit_lens", "--norm", "tuned"], "--no-baseline"),
])  # fmt: skip
def test_what_can_be_seen_without_the_model_is_refused_before_it_is_loaded(monkeypatch, arguments, told):
    def loads(*settings, **named):
        raise AssertionError("the model is loaded first")

    monkeypatch.setattr("semhub_lens.cli.main.load_model", loads)
    done = semhub(*arguments)
    assert done.exit_code and told in f"{done.output} {done.exception}", done.output


def test_the_version_names_the_line_of_transformer_lens():
    line = f"semhub-lens {version('semhub-lens')}, transformer-lens {version('transformer-lens')}\n"
    assert semhub("--version").output == line


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_without_a_value_shows_no_type(name):
    command = typer.main.get_command(training) if name == "train-spoke" else COMMANDS[name]
    flags = [entry for entry in command.params if getattr(entry, "is_flag", False) and entry.name != "help"]
    assert [entry.name for entry in flags if entry.metavar != ""] == []
