"""Names of models: what may be a hub name is left to the hub, anything else is refused with the nearest known names."""

import pytest

from semhub_lens.base.errors import SemhubError
from semhub_lens.model.sources import resolve, unknown


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused_as_a_name(name):
    with pytest.raises(SemhubError, match=r"The model's name is empty \('"):
        resolve(name)


@pytest.mark.parametrize("name", ["nothing", "their/model/more", "their model/x", "their/modèle", "/their"])
def test_what_is_no_hub_name_is_refused_without_asking_the_hub(name):
    with pytest.raises(SemhubError, match=f"Unknown model '{name}'"):
        resolve(name)
    assert resolve("their/model") == (None, None)


def test_a_file_is_no_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "their").mkdir()
    (tmp_path / "their" / "model").write_text("notes")
    with pytest.raises(SemhubError, match="Unknown model 'their/model'"):
        resolve("their/model")


def test_packaged_models_are_named_first_and_far_names_not_at_all():
    """Another 27b is nearer to this name, but it would have to be downloaded."""
    assert "Nearest known names: gemma-3-270m, google/gemma-2-27b" in unknown("gemma-3-27b")
    assert "Nearest" not in unknown("xyzzy")
