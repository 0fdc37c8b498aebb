"""The files that a code host and other tools look for are whole and true of the package."""

import re
import shutil
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from semhub_lens.cli.main import app

ROOT = Path(__file__).parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version_and_of_the_paper():
    project = metadata("semhub-lens")
    cited = read("CITATION.cff")
    assert cited["cff-version"] == "1.2.0" and cited["authors"] and cited["message"]
    assert (cited["version"], cited["license"]) == (project["Version"], project["License-Expression"])
    assert (cited["abstract"], set(cited["keywords"])) == (project["Summary"], set(project["Keywords"].split(",")))
    (paper,) = cited["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Wu", "Yu", "Yogatama", "Lu", "Kim"]
    assert paper["url"] in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.stem)
def test_an_issue_form_asks_for_what_the_command_prints(path):
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = {field["id"]: field["attributes"] for field in form["body"]}
    commands = re.findall(r"`semhub (\w+)", yaml.safe_dump(form))
    assert "info" in fields and set(commands) == {"info"}
    assert CliRunner().invoke(app, [*commands[:1], "--help"]).exit_code == 0


def test_the_hooks_before_a_commit_run_what_is_there():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        program, *arguments = hook["entry"].split()
        assert program == "python" or shutil.which(program) or f'"{program}>=' in (ROOT / "pyproject.toml").read_text()
        assert all((ROOT / word).is_file() for word in arguments if word.endswith(".py"))


def test_the_guide_to_contributing_is_where_a_code_host_looks():
    assert "release-check" in (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
