"""Every family of models is loaded and measured rightly, or refused with a word to the user."""

import pytest

import models
from battery.families import FACTS, FAMILIES, outcomes, save

QUICK = ["llama", "gpt2", "bloom", "mamba", "deepseek_v3", "bert", "falcon_new", "phi3_longrope", "cohere", "t5"]
CHOSEN = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in FAMILIES]


@pytest.fixture(scope="module", params=CHOSEN)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    save(request.param, path)
    return path


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_it_is_right_or_refused(folder, backend):
    found = outcomes(folder, backend)
    assert [f"{fact} {result}" for fact, result in found.items() if not result.startswith(("right", "refused"))] == []
    assert found["load"] != "right" or found.keys() == {"load", *FACTS}
