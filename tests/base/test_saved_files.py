"""Every result class survives a file; files of 0.1.0 still open; what cannot be read says what to do."""

import importlib
import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import models
import semhub_lens as shl
from samples import SAMPLES
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.quantities import Quantities
from semhub_lens.base.results import FORMERLY, SCHEMA, Part, Result, drawn, load_result, result_classes

OLD = Path(__file__).parent / "saved_0_1_0"
BASES = {Result, Quantities}


def classes():
    """Every result class of the package, whatever has been imported before."""
    for module in pkgutil.walk_packages(shl.__path__, "semhub_lens."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    known = result_classes().items()
    return [name for name, kind in known if kind.__module__.startswith("semhub_lens.") and kind not in BASES]


def same(one, other):
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
    if isinstance(one, Part):
        return type(one) is type(other) and same(vars(one), vars(other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.fixture(scope="module")
def model():
    return models.tiny("bridge")


@pytest.mark.parametrize("name", classes())
def test_a_result_of_every_class_survives_a_file_with_its_table_and_figure(name, model, tmp_path):
    assert name in SAMPLES, f"{name} has no sample: add one to tests/samples.py, so that its files are tested."
    made = SAMPLES[name](model)
    assert type(made).__name__ == name
    again = load_result(made.save(tmp_path / "x.safetensors"))
    assert again is not made and same(made, again)
    assert type(made).load(tmp_path / "x.safetensors").provenance == made.provenance
    if type(made).to_frame is not Result.to_frame:
        assert again.to_frame().equals(made.to_frame())
    try:
        figure = drawn(made)
    except SemhubError:
        return
    assert drawn(again).to_json() == figure.to_json()


def test_samples_and_old_files_are_of_classes_that_there_are():
    assert set(SAMPLES) == set(classes())
    assert {path.stem for path in OLD.iterdir()} <= set(SAMPLES)


def raw(path):
    """Header and tensors, read without the library."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["semhub_lens"]), load_file(path)


def assert_holds(value, written, tensors):
    """Whether a loaded value is what the file says, field by field."""
    if isinstance(written, list):
        assert len(value) == len(written)
        for entry, said in zip(value, written, strict=True):
            assert_holds(entry, said, tensors)
    elif isinstance(written, dict) and "tensor" in written:
        assert same(value, tensors[written["tensor"]])
    elif isinstance(written, dict) and "class" in written:
        assert type(value).__name__ == FORMERLY.get(written["class"], written["class"])
        for name, said in written["fields"].items():
            assert_holds(getattr(value, name), said, tensors)
    elif isinstance(written, dict):
        assert list(value) == list(written)
        for key, said in written.items():
            assert_holds(value[key], said, tensors)
    else:
        assert value == written


@pytest.mark.parametrize("path", sorted(OLD.iterdir()), ids=lambda path: path.stem)
def test_files_of_0_1_0_open_with_every_value(path):
    header, tensors = raw(path)
    assert "schema" not in header and header["fields"]["provenance"]["fields"]["semhub_lens"] == "0.1.0"
    assert_holds(shl.load_result(path), header, tensors)


def test_a_vector_of_0_1_0_still_steers_its_model_on_both_backends_and_no_other():
    for backend in models.BACKENDS:
        assert shl.SteeringVector.load(OLD / "SteeringVector.safetensors", models.tiny(backend)).layers == (1,)
    with pytest.raises(SemhubError, match="was made for tiny-llama"):
        shl.SteeringVector.load(OLD / "SteeringVector.safetensors", models.tiny(seed=1))


def rewritten(path, **changes):
    header, tensors = raw(path)
    header |= changes
    save_file(tensors, path, metadata={"semhub_lens": json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": SCHEMA + 1}, r"newer semhub_lens \(schema 3; this one reads up to 2\): upgrade semhub-lens, or"),
        ({"class": "Unheard"}, "contains a 'Unheard', which this version .* measure again"),
        ({"class": "MassResult"}, "written by another version .* whose MassResult has other fields"),
        ({"fields": {}}, "written by another version .* open it with that version, or measure again"),
    ],
    ids=["newer", "unknown class", "another class", "missing fields"],
)
def test_a_file_of_another_version_says_what_to_do(model, tmp_path, changes, message):
    path = SAMPLES["CosineResult"](model).save(tmp_path / "x.safetensors")
    with pytest.raises(SemhubError, match=message):
        shl.load_result(rewritten(path, **changes))


def test_a_saved_result_can_be_read_by_whom_the_users_other_files_can(model, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    saved = shl.logit_lens(model, "red dog", progress=False).save(tmp_path / "lens.safetensors")
    assert saved.stat().st_mode == plain.stat().st_mode


def test_a_file_whose_checksum_was_removed_counts_as_changed(model, tmp_path):
    """Only files of 0.1.0 have none."""
    path = SAMPLES["CosineResult"](model).save(tmp_path / "x.safetensors")
    header, tensors = raw(path)
    del header["sha256"]
    save_file({name: value + 1 for name, value in tensors.items()}, path, metadata={"semhub_lens": json.dumps(header)})
    with pytest.raises(SemhubError, match="was changed after it was saved"):
        shl.load_result(path)
