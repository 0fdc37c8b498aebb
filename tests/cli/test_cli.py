"""The command line and the report, as a user meets them."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import models
import semhub_lens as shl
from browser import CHROMIUM, rendered
from semhub_lens.cli.main import app
from semhub_lens.model import loading
from semhub_lens.report.report import report

REFUSED = {
    ("lens", "  "): "prompt text is empty",
    ("lens", "x", "--model", "gemma-3-270"): "gemma-3-270m",
    ("lens", "x", "--model", "no-such-folder.gguf"): "No GGUF file",
    ("lens", "x", "--backend", "jax"): "one of 'auto', 'hooked', 'bridge', got 'jax'",
    ("run", "multilingual.nothing"): "Unknown experiment",
    ("train-spoke", "vision", "--out", "made"): "--font",
    ("train-spoke", "vision", "--out", "made", "--font", "none.ttf"): "fonts-noto-color-emoji",
    ("train-spoke", "smell", "--out", "made"): "Unknown kind 'smell'",
}
LISTS = [["experiments"], ["models"]]
ENVIRONMENT = {**os.environ, "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}


MAIN = "semhub_lens.cli.main"
ONE_BY_ONE = """
import contextlib, io, json, os, pathlib, sys
from semhub_lens.cli.main import main
for folder, arguments in json.loads(pathlib.Path("asked.json").read_text()):
    os.makedirs(folder); os.chdir(folder)
    sys.argv = ["semhub", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            status = main()
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, " ".join(out.getvalue().split()), os.listdir()]))
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory, fork):
    """Exit status, words printed and files left of each command that runs no model; one process, a folder for each."""
    folder = tmp_path_factory.mktemp("commands")
    asked = [[str(folder / str(i)), arguments] for i, arguments in enumerate([*map(list, REFUSED), *LISTS])]
    (folder / "asked.json").write_text(json.dumps(asked))
    done = fork("-c", ONE_BY_ONE, cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr.decode()
    answers = map(json.loads, done.stdout.splitlines())
    return {tuple(arguments): answer for (_, arguments), answer in zip(asked, answers, strict=True)}


@pytest.mark.real
def test_the_lens_command_shows_english_before_spanish(tmp_path, fork):
    done = fork("-m", MAIN, "lens", "El color del cielo es", "--html", "out.html", cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr.decode()
    rows = {m[1]: m[0] for m in re.finditer(r"│\s*(\d+|emb) │.*", done.stdout.decode())}
    assert rows["18"].rstrip(" │").endswith("␣un")
    assert any(re.search(r"␣(a|always|not|is)\s*│?$", rows[str(layer)].rstrip(" │")) for layer in range(11, 16))
    assert 50_000 < (tmp_path / "out.html").stat().st_size < 500_000


@pytest.mark.parametrize(("arguments", "message"), REFUSED.items(), ids=map(" ".join, REFUSED))
def test_bad_input_is_one_message_and_leaves_no_file(here, arguments, message):
    status, printed, files = here[arguments]
    assert status == 2 and message in printed and "Traceback" not in printed
    assert files == []


def test_bad_input_is_no_traceback_in_a_shell(tmp_path):
    """A process of its own from its start."""
    command = [sys.executable, "-m", MAIN, "lens", "  "]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 2 and "prompt text is empty" in done.stdout and "Traceback" not in done.stderr


def test_the_check_command_fails_where_the_model_is_another_than_that_of_hugging_face(tmp_path, monkeypatch):
    models.tiny_llama(vocabulary=len(models.tiny_tokenizer())).save_pretrained(tmp_path)
    models.tiny_tokenizer().save_pretrained(tmp_path)
    done = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert done.exit_code == 0 and "log-probabilities" in done.output, done.output
    bent = shl.load(tmp_path)
    with torch.no_grad():
        next(bent.blocks[1].parameters()).mul_(1.5)
    monkeypatch.setattr(loading, "load", lambda *arguments, **settings: bent)
    assert CliRunner().invoke(app, ["check", str(tmp_path)]).exit_code == 1
    assert CliRunner().invoke(app, ["check", str(tmp_path), "--no-reference"]).exit_code == 0


def test_the_lists_name_every_experiment_and_packaged_model(here):
    listed = here["experiments",][1] + here["models",][1]
    assert all(name in listed for name in [*shl.experiments.EXPERIMENTS, "gemma-3-270m", "smollm2-135m"])


@pytest.mark.real
@pytest.mark.slow
def test_run_saves_table_result_and_figure(tmp_path, fork):
    run = ["run", "arithmetic.logit_lens", "--n", "16", "--out", "runs"]
    done = fork("-m", MAIN, *run, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr.decode()
    folder = tmp_path / "runs" / "arithmetic.logit_lens"
    result = shl.ExperimentResult.load(folder / "result.safetensors")
    assert {path.name for path in folder.iterdir()} == {
        "result.safetensors",
        "items.parquet",
        "run.json",
        "figure.html",
    }
    assert all(leg.verdict.status in done.stdout.decode() for leg in result.legs)


@pytest.mark.real
@pytest.mark.slow
def test_the_report_states_every_leg_and_opens_in_a_browser(one_gemma, tmp_path):
    path, found = report(one_gemma, tmp_path / "report.html", n=16, only=["arithmetic.logit_lens"], progress=False)
    page = path.read_text(encoding="utf-8")
    assert not re.search(r'<(script|link|img)[^>]+(src|href)=["\']?(https?:)?//', page)
    for leg in found[0].legs:
        assert leg.title in page and leg.verdict.status in page
    assert "1 of 2 legs" in page or "0 of 2 legs" in page or "2 of 2 legs" in page
    if CHROMIUM:
        dom = rendered(path)
        assert dom.count("main-svg") >= 3


def test_a_report_of_unknown_experiments_is_refused_before_anything_runs(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="Unknown experiment 'nothing'"):
        report(tiny_model, tmp_path / "report.html", only=["nothing"])
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        report(tiny_model, tmp_path / "file" / "report.html")


def test_importing_the_package_does_not_wait_for_what_few_functions_need(fork, tmp_path):
    late = {"sklearn", "scipy.stats", "plotly.express", "circuitsvis", "jinja2"}
    done = fork("-c", f"print('semhub_lens' in imported, *{late} & imported)", cwd=tmp_path)
    assert done.stdout.split() == [b"True"]
