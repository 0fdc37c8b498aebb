"""Training stands behind the extra `train`: nothing imports it unasked, and its command still answers."""

import sys

import pytest

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


@pytest.mark.parametrize(("module", "use"), [("emoji", emoji_names), ("espeakng_loader", _engine.__wrapped__)])
def test_a_missing_package_names_the_extra(monkeypatch, module, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"semhub-lens\[train\]"):
        use()
