"""Results survive a file unchanged, tell where they come from, and leave nothing half-written."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor

import models
import semhub_lens as shl
from semhub_lens.base.results import Result, check_finite
from semhub_lens.model.facts import provenance_of


@dataclass(frozen=True, eq=False)
class Measured(Result):
    values: Tensor
    names: tuple[tuple[str, ...], ...]
    note: str | None = None
    parts: tuple[Tensor, ...] = field(default=())


WHERE = shl.Provenance(
    "m", "0123", "TransformerBridge", "float32", "cpu", "none", True, norm="final", data="own", seed=3
)


def measured(**changes):
    made = Measured(torch.tensor([[1.5, float("nan")]]), (("a", "朋友"), ("\n",)), provenance=WHERE)
    return replace(made, **changes)


def same(a, b):
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def every_result(model):
    text, table = "three plus two", shl.script_table(model)
    states = shl.residual_stream(model, ["red dog", "two two", "chat"], progress=False)
    yield shl.logit_lens(model, text, top_k=3, progress=False)
    yield shl.target_lens(model, [text, "red"], [["two", 5]] * 2, progress=False)
    yield shl.language_mass(model, [text, "dog"], table, progress=False)
    yield shl.generate(model, text, max_new_tokens=2, seed=4, progress=False)
    yield shl.similarity(states, states.roll(1, 1), seed=0)


def test_every_result_survives_a_file_unchanged(tiny_model, tmp_path):
    for result in every_result(tiny_model):
        path = result.save(tmp_path / "deep" / f"{type(result).__name__}.safetensors")
        again = type(result).load(path)
        assert again is not result
        for name, value in vars(result).items():
            assert same(value, getattr(again, name)), (type(result).__name__, name)
        if type(result).to_frame is not Result.to_frame:
            assert again.to_frame().equals(result.to_frame())


def test_nan_none_other_scripts_and_nested_tuples_survive(tmp_path):
    result = measured(note=None, parts=(torch.arange(3), torch.zeros(0, 2), torch.ones(2, 2).t()[:, :1]))
    again = Measured.load(result.save(tmp_path / "x"))
    assert all(same(value, getattr(again, name)) for name, value in vars(result).items())
    assert again.values.isnan().tolist() == [[False, True]]


def test_a_result_of_tensors_that_share_their_memory_survives(tiny_model, tmp_path):
    lens = shl.logit_lens(tiny_model, "two plus", progress=False)
    saved = shl.load_result(shl.compare(lens, lens).save(tmp_path / "same.safetensors"))
    assert all(torch.equal(saved.b.measured[name], value) for name, value in lens.measured.items())
    torch.testing.assert_close(saved.a.top_ids, lens.top_ids, rtol=0, atol=0)
    line = torch.arange(4.0)
    parts = Measured.load(measured(values=line[None], parts=(line, line[1:])).save(tmp_path / "x")).parts
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [1, 2, 3]]


def test_saving_over_a_file_replaces_it_and_leaves_no_other(tmp_path):
    path = measured().save(tmp_path / "x.safetensors")
    measured(note="second").save(path)
    assert Measured.load(path).note == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_save_that_fails_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch):
    path = measured(note="first").save(tmp_path / "x")

    def fails(tensors, file, metadata):
        file.write_bytes(b"half of it")
        raise RuntimeError

    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr("semhub_lens.base.results.save_file", fails)
        measured().save(path)
    assert Measured.load(path).note == "first"
    (tmp_path / "folder").mkdir()
    with pytest.raises(shl.SemhubError, match=r"folder could not be written \(Is a directory\); the old file is un"):
        measured().save(tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x"]


def test_a_path_without_a_name_is_refused():
    for path, told in (("", "is empty"), ("/", "names none")):
        with pytest.raises(shl.SemhubError, match=told):
            measured().save(path)


def test_the_file_holds_no_pickle(tmp_path):
    raw = measured().save(tmp_path / "x").read_bytes()
    header = int.from_bytes(raw[:8], "little")
    assert raw[8:9] == b"{" and len(raw) == 8 + header + 2 * 4


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04pickle", None], ids=["empty", "text", "pickle", "cut"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(measured().save(path).read_bytes()[:-3] if content is None else content)
    with pytest.raises(ValueError, match="is not a result that semhub_lens saved"):
        Measured.load(path)


def test_another_class_another_tool_and_a_missing_file_are_told_apart(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match=r"contains a Measured, not a LensResult; use Measured\.load"):
        shl.LensResult.load(measured().save(tmp_path / "x"))
    with pytest.raises(ValueError, match="No saved result"):
        Measured.load(tmp_path / "missing")
    save_file({"a": torch.zeros(1)}, tmp_path / "theirs")
    with pytest.raises(ValueError, match="is not a result"):
        Measured.load(tmp_path / "theirs")


def test_a_result_cannot_be_changed():
    with pytest.raises(AttributeError):
        measured().note = "x"
    with pytest.raises(AttributeError):
        WHERE.seed = 1


def test_tables_hold_the_measurement_one_observation_a_row(tiny_model):
    lens, target, mass, *_ = every_result(tiny_model)
    frame = lens.to_frame()
    assert len(frame) == lens.top_ids.numel()
    row = frame[(frame.layer == 3) & (frame.pos == 2) & (frame["rank"] == 0)].iloc[0]
    assert (row.id, row.logprob) == (lens.top_ids[3, 2, 0].item(), lens.top_logprobs[3, 2, 0].item())
    frame = target.to_frame().set_index(["layer", "item", "target"])
    assert frame.loc[(1, 1, 0), "log_prob"] == target.log_probs[1, 1, 0].item()
    assert frame.loc[(1, 1, 1), "name"] == "5"
    frame = mass.to_frame().set_index(["layer", "item", "lang"])
    column = mass.languages.index("latin")
    assert frame.loc[(2, 1, "latin"), "mass"] == mass.item_mass[2, 1, column].item()
    np.testing.assert_allclose(mass.to_frame().groupby(["layer", "item"])["mass"].sum(), 1, atol=1e-5)


def test_provenance_says_model_weights_and_reading(tiny_model):
    provenance = shl.logit_lens(tiny_model, "red", norm="none", progress=False).provenance
    assert (provenance.model, provenance.model_class) == ("tiny-llama", type(tiny_model).__name__)
    assert (provenance.norm, provenance.bos, provenance.processing, provenance.dtype) == (
        "none",
        True,
        "none",
        "float32",
    )
    for part in (
        "tiny-llama",
        provenance.weights,
        "norm none",
        "BOS",
        f"transformer-lens {provenance.transformer_lens}",
    ):
        assert part in provenance.line()
    assert shl.logit_lens(tiny_model, shl.Prompt.from_ids([4]), progress=False).provenance.bos is False


def test_the_weights_hash_tells_checkpoints_apart_and_backends_not():
    made = {seed: [provenance_of(models.tiny(b, seed=seed)) for b in models.BACKENDS] for seed in (0, 1)}
    first, other = ({each.unembedding for each in made[seed]} for seed in (0, 1))
    assert len(first) == len(other) == 1 and first != other
    assert not {each.weights for each in made[0]} & {each.weights for each in made[1]}
    assert provenance_of(models.tiny(seed=0)) == provenance_of(models.tiny(seed=0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named_with_its_place(bad):
    states = torch.zeros(2, 3, 4)
    check_finite(states, "States")
    states[1, 2, 0] = bad
    with pytest.raises(
        ValueError, match=r"States of shape \(2, 3, 4\) has 1 NaN or infinite entries, the first at \[1, 2, 0\]"
    ):
        check_finite(states, "States")


def test_a_result_in_text_names_its_tensors_with_their_shapes_and_leaves_out_what_is_empty():
    first, *_ = repr(measured(note="a " * 40)).splitlines()
    assert first.startswith("Measured: values [1 2], names (2), note 'a a") and first.endswith("…'")
    assert repr(measured()).splitlines()[0] == "Measured: values [1 2], names (2)"
    found = shl.similarity(torch.randn(2, 12, 4), torch.randn(2, 12, 4), measures=["effect"])
    named, _, where = repr(found).splitlines()
    assert "matched [2 12]" in named and "measured" not in named
    assert where.startswith("unnamed states · ") and not {"no BOS", "processing unknown"} & set(where.split(" · "))
    assert " · BOS · " in WHERE.line() and " · no BOS · " in replace(WHERE, bos=False).line()


def test_a_name_that_is_none_is_answered_with_the_nearest_one():
    found = shl.similarity(torch.randn(2, 12, 4), torch.randn(2, 12, 4), measures=["effect"])
    with pytest.raises(AttributeError, match=r"has no attribute 'matchd' \(nearest: 'matched'\)"):
        _ = found.matchd
    with pytest.raises(TypeError, match=r"similarity\(\) got an unexpected .* 'measure' \(nearest: 'measures'\)"):
        shl.similarity(torch.randn(2, 12, 4), torch.randn(2, 12, 4), measure=["effect"])
    with pytest.raises(TypeError, match=r"similarity\(\) missing a required argument: 'b'$"):
        shl.similarity(torch.randn(2, 12, 4))
    with pytest.raises(shl.SemhubError, match=r"got 'finl' \(nearest: 'final'\)\."):
        shl.logit_lens(models.tiny(), "red", norm="finl")
