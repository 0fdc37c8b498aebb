"""What is refused before anything is written leaves no folder behind, and keeps the folders of the user."""

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.base.files import alone_in
from semhub_lens.base.store import Store

REFUSED = {
    "a missing data set": ("multilingual.language_mass", {"data": "fr=no-such-owner/no-such-data-set"}),
    "another missing data set": ("multilingual.steering", {"data": "no-such-owner/no-such-data-set"}),
    "an unknown language": ("multilingual.logit_lens", {"data": "xx=texts"}),
    "a file that is none of programs": ("code.similarity", {"data": "no-such-file"}),
    "a model whose tokenizer lacks the words": ("multilingual.patchscope", {"n": 16}),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("place", ["out", "mine/deeper"])
def test_a_run_that_is_refused_leaves_only_what_was_there(tiny_model, tmp_path, name, place):
    experiment, settings = REFUSED[name]
    (tmp_path / "mine").mkdir()
    with pytest.raises(shl.SemhubError):
        shl.experiments.run(experiment, tiny_model, out=tmp_path / place, progress=False, **settings)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_states_that_are_refused_leave_no_folder(tmp_path):
    broken = models.tiny("bridge", hf=models.tiny_llama().requires_grad_(False))
    broken.blocks[2].mlp.out.weight.fill_(torch.nan)
    rows = [{"text": "red dog"}, {"texts": "cat"}]
    column = shl.Column(rows[1:], "text")
    for prompts, message in (("red dog", "NaN"), (column, "no column 'text'"), ([], "empty"), (["red", ""], "empty")):
        with pytest.raises(shl.SemhubError, match=message):
            shl.residual_stream(broken, prompts, out=tmp_path / "new" / "states", progress=False)
        assert not list(tmp_path.iterdir()), message


def test_translators_that_cannot_be_trained_leave_no_folder(tiny_model, tmp_path):
    with pytest.raises(shl.SemhubError, match="too few"):
        shl.train_translators(tiny_model, ["red dog"], folder=tmp_path / "parts", progress=False)
    assert not list(tmp_path.iterdir())


def test_an_error_keeps_what_was_written_and_who_holds_the_lock(tmp_path):
    folder = tmp_path / "new" / "run"
    with pytest.raises(KeyError), alone_in(folder):
        Store(folder, {"a": 1}).tensor("part", lambda: torch.ones(2))
        raise KeyError
    assert len(list(folder.glob("parts-*/part.safetensors"))) == 1
    with alone_in(folder), pytest.raises(shl.SemhubError, match="Another process"), alone_in(folder):
        pass
    assert list(folder.iterdir())
