"""What the README shows is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import models

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.real
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_the_code_of_the_readme_runs(block, tmp_path):
    if "import HookedTransformer" in BLOCKS[block] and not models.HOOKED_LINE:
        pytest.skip("transformer-lens 4 has no HookedTransformer")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[block]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
