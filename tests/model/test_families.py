"""Every family of models is loaded and measured rightly, or refused with a word to the user."""

import pytest

import models
from battery.families import FACTS, outcomes, save

RIGHT = ["llama", "gpt2", "bloom", "mamba", "deepseek_v3", "phi3_longrope"]
"""What has to be right as a bridge on every line."""
QUICK = [*RIGHT, "bert", "falcon_new", "cohere", "t5"]
SLOW = ["gemma3", "mistral", "mixtral", "qwen3", "mamba2", "rwkv", "recurrent_gemma", "xglm", "mpt", "opt_projection"]
"""`make families` measures the others."""
CHOSEN = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("name", CHOSEN)
def test_it_is_right_or_refused(tmp_path, name, backend):
    save(name, tmp_path)
    found = outcomes(tmp_path, backend)
    allowed = ("right",) if name in RIGHT and backend == "bridge" else ("right", "refused")
    assert [f"{fact} {result}" for fact, result in found.items() if not result.startswith(allowed)] == []
    assert found["load"] != "right" or found.keys() == {"load", *FACTS}
