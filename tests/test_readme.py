"""What the README shows is run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.real
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_the_code_of_the_readme_runs(block, tmp_path, fork):
    done = fork("-c", BLOCKS[block], cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
