"""Training stands behind the extra `train`: nothing imports it unasked, and its command still answers."""

import subprocess
import sys

import pytest

from semhub_lens.training.corpora.emoji import emoji_names
from semhub_lens.training.corpora.speech import _engine


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_importing_the_package_and_its_command_line_leaves_training_out():
    code = "import sys, semhub_lens.cli.main\n"
    code += "print([m for m in sys.modules if '.training' in m and 'semhub' in m])"
    done = python("-c", code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_command_says_what_it_takes():
    done = python("-m", "semhub_lens", "train-spoke", "--help")
    assert done.returncode == 0 and "--shuffle-pairs" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("module", "use"), [("emoji", emoji_names), ("espeakng_loader", _engine.__wrapped__)])
def test_a_missing_package_names_the_extra(monkeypatch, module, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"semhub-lens\[train\]"):
        use()
