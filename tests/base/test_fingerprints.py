"""Content decides a fingerprint: what differs anywhere has another, what is the same has the same."""

import ast
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
import semhub_lens as shl
from jobs import job_on
from samples import leg_text
from semhub_lens.base import fingerprints
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.fingerprints import SAMPLED, fingerprint, source_fingerprint, weights_fingerprint
from semhub_lens.base.store import Store
from semhub_lens.evidence.legs import make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.experiments.runs import Experiment, run_experiment
from semhub_lens.inputs.media import Media
from semhub_lens.model.facts import weights_of
from semhub_lens.model.untrained import untrained


@dataclass
class Item:
    name: str
    value: object
    open: object = field(default=None, compare=False)


def picture(inner=0.0):
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[..., 30, 30] = inner
    return shl.Prompt.from_ids([1, 4, 5], media=Media({"pixel_values": pixels}))


def written(value):
    return shl.Prompt.from_ids([1, 4], spans={"a": [1]}, embeddings={"a": torch.full((1, 8), value)})


def long_prompt(middle):
    return shl.Prompt.from_ids([1] + [4] * 600 + [middle] + [4] * 600)


PAIRS = {
    "two pictures with equal borders": (picture(0.0), picture(1.0)),
    "two long prompts that differ in the middle": (long_prompt(4), long_prompt(5)),
    "spans": (shl.Prompt.from_ids([1, 4], spans={"a": [0]}), shl.Prompt.from_ids([1, 4], spans={"a": [1]})),
    "embeddings": (written(1.0), written(2.0)),
    "a number and its text": (1, "1"),
    "a whole number and a float": (1, 1.0),
    "truth and one": (True, 1),
    "nothing and its text": (None, "None"),
    "a list and its text": (["a", "b"], '["a", "b"]'),
    "nesting": ([["a"], "b"], ["a", ["b"]]),
    "order": (["a", "b"], ["b", "a"]),
    "shapes": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "dtypes": (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
    "a tensor and a list": (torch.tensor([1.0]), [1.0]),
    "signs of zero": (torch.tensor([0.0]), torch.tensor([-0.0])),
    "the middle of a long tensor": (torch.zeros(5000), torch.zeros(5000).index_fill(0, torch.tensor([2500]), 1.0)),
    "the middle of an array": (np.zeros(5000), np.eye(1, 5000, 2500)[0]),
    "pictures": (Image.new("L", (9, 9)), Image.fromarray(np.eye(9, dtype=np.uint8))),
    "bytes": (b"a", b"b"),
    "paths and texts": (Path("a"), "a"),
    "dataclasses": (Item("a", torch.zeros(2)), Item("a", torch.ones(2))),
    "classes": (Item("a", 1), {"name": "a", "value": 1}),
    "keys": ({"a": 1}, {"b": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_has_another_fingerprint(name):
    one, other = PAIRS[name]
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint([{"a": one}]) != fingerprint([{"a": other}])
    assert fingerprint(one) == fingerprint(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, (2,)), [1, [2]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (torch.arange(6.0).view(2, 3).T, torch.arange(6.0).view(2, 3).T.contiguous()),
        (picture(), picture()),
        (Item("a", 1, open=print), Item("a", 1, open=len)),
        (torch.zeros(3, requires_grad=True), torch.zeros(3)),
    ],
    ids=["tuples", "mappings", "strides", "prompts", "fields that do not count", "gradients"],
)
def test_what_is_the_same_has_the_same(one, other):
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "value",
    [object(), print, {1, 2}, 1j, Item, {("a", "b"): 1}, [Item("a", object())]],
    ids=["object", "function", "set", "complex", "class", "mapping by tuples", "item that holds an object"],
)
def test_unknown_types_are_refused_by_their_name(value, tmp_path):
    with pytest.raises(SemhubError, match="No fingerprint of this"):
        fingerprint(value)
    with pytest.raises(SemhubError):
        Store(tmp_path, {"setting": value})
    assert not list(tmp_path.iterdir())


def test_a_circle_is_refused():
    circle = []
    circle.append(circle)
    with pytest.raises(SemhubError, match="Circular"):
        fingerprint(circle)


def test_parts_of_other_items_never_meet(tmp_path):
    store, calls = Store(tmp_path), []
    for items in ([picture(0.0)], [picture(1.0)], [long_prompt(4)], [long_prompt(5)], [picture(0.0)]):
        store.tensors("states", items, lambda part: (calls.append(part), torch.zeros(1, len(part)))[1])
    assert len(calls) == 4


def weights_of_parts(**parts):
    return weights_fingerprint(parts.items())


SHAPES = {
    "rows": (64, 640),
    "a power of two": (1024, 512),
    "heads": (16, 128, 64),
    "experts": (8, 64, 128),
    "a tall bias": (64, 128),
    "primes": (251, 257),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_zeroed_block_of_any_axis_is_seen(name):
    shape = SHAPES[name]
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert whole.numel() > SAMPLED
    before = weights_of_parts(w=whole)
    assert before == weights_of_parts(w=whole.clone())
    for axis, size in enumerate(shape):
        width = max(1, size // 16)
        for start in range(0, size, width):
            changed = whole.clone()
            changed.narrow(axis, start, min(width, size - start)).zero_()
            assert weights_of_parts(w=changed) != before, (axis, start)


def test_every_entry_of_a_small_parameter_names_shapes_and_order_count():
    small = torch.randn(4, SAMPLED // 4, generator=torch.Generator().manual_seed(0))
    before = weights_of_parts(w=small)
    for index in range(0, SAMPLED, 37):
        changed = small.clone()
        changed.view(-1)[index] += 1e-6
        assert weights_of_parts(w=changed) != before
    assert weights_of_parts(v=small) != before != weights_of_parts(w=small.view(-1))
    assert weights_of_parts(w=small.T.contiguous().T) == before
    assert weights_of_parts(w=small.bfloat16()) == weights_of_parts(w=small.bfloat16().float())


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_every_parameter_and_buffer_of_a_model_counts(backend):
    model = models.tiny(backend)
    before = weights_of(model)
    assert before == weights_of(models.tiny(backend))
    seen = {before}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.dtype == torch.bool or not value.is_floating_point() or not torch.isfinite(value).all():
            continue
        kept = value.detach().clone()
        with torch.no_grad():
            value.add_(1)
        assert weights_of(model) not in seen, name
        seen.add(weights_of(model))
        with torch.no_grad():
            value.copy_(kept)
    assert weights_of(model) == before


def without_attention(model):
    with torch.no_grad():
        block = model.blocks[1].attn
        (block.W_O if isinstance(getattr(block, "W_O", None), torch.nn.Parameter) else block.o.weight).zero_()
    return model


TEXTS = ["three plus two", "five minus one", "red dog", "blue cat", "green house"] * 5


def planted(calls):
    """An experiment on the mean of every text's last states, beside those of the baseline."""

    def run(job):
        calls.append(job)
        own, random = job.states("texts", TEXTS), job.random().states("texts", TEXTS)
        effect = (own - random).mean(-1)
        provenance = job.provenance("planted texts", TEXTS)
        leg = make_leg(effect, sign_flips(effect), leg_text(), provenance=provenance, seed=job.seed, curves={})
        return shl.ExperimentResult("planted", "planted", (leg,), (), provenance=provenance)

    return Experiment("planted", "planted", 25, run)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_an_ablated_model_of_the_same_name_is_measured_anew(backend, tmp_path):
    calls = []

    def measure(model, baseline=None):
        job = replace(job_on(model, 25), untrained_model=baseline)
        return run_experiment(planted(calls), job, tmp_path).legs[0].effect

    intact = measure(models.tiny(backend))
    assert torch.equal(measure(models.tiny(backend)), intact) and len(calls) == 1
    ablated = measure(without_attention(models.tiny(backend)))
    assert len(calls) == 2 and not torch.allclose(ablated, intact)
    random = untrained(models.tiny(backend), seed=5)
    other = measure(models.tiny(backend), random)
    with torch.no_grad():
        next(iter(random.parameters())).mul_(2)
    again = measure(models.tiny(backend), random)
    assert len(calls) == 4 and not torch.allclose(other, again)


def test_a_model_and_a_baseline_of_one_name_keep_parts_apart(tmp_path):
    job = job_on(models.tiny(seed=0), 4, store=Store(tmp_path))
    job = replace(job, untrained_model=models.tiny(seed=1))
    own, random = job.states("texts", ["red dog"]), job.random().states("texts", ["red dog"])
    assert job.model.cfg.model_name == job.random().model.cfg.model_name and not torch.allclose(own, random)


def test_edited_code_and_bundled_data_have_another_fingerprint(tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    code, table = tmp_path / "room" / "a.py", tmp_path / "room" / "table.tsv"
    code.write_text("x = 1\n"), table.write_text("one\n")
    before = source_fingerprint(tmp_path)
    for compiled in ("a.cpython-311.pyc", ".a.py.swp"):
        (tmp_path / "room" / compiled).write_text("y")
    assert source_fingerprint(tmp_path) == before
    for path in (code, table):
        text = path.read_text()
        path.write_text(text + "# edited\n")
        assert source_fingerprint(tmp_path) != before
        path.write_text(text)
    code.rename(tmp_path / "a.py")
    assert source_fingerprint(tmp_path) != before


def test_a_run_of_other_code_is_measured_anew(tiny_model, tmp_path, monkeypatch):
    calls = []
    job = job_on(tiny_model, 25)
    for source in ("as it is", "as it is", "edited"):
        monkeypatch.setattr("semhub_lens.experiments.runs.source_fingerprint", lambda source=source: source)
        run_experiment(planted(calls), job, tmp_path)
    assert len(calls) == 2
    assert json.loads((tmp_path / "planted" / "run.json").read_text())["settings"]["source"] == "edited"


def test_hashing_has_one_home():
    package = Path(fingerprints.__file__).parent.parent
    for path in package.rglob("*.py"):
        if path == Path(fingerprints.__file__) or "training" in path.relative_to(package).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert "hashlib" not in names, f"{path} hashes by itself; base/fingerprints.py is the home of hashing"


def test_one_entry_with_a_stride_of_its_own_is_that_entry():
    alone = torch.arange(4.0)[::2][:1]
    assert alone.stride() == (2,) and alone.is_contiguous()
    same = fingerprints.tensors_sha256({"a": torch.zeros(1)})
    assert fingerprints.tensors_sha256({"a": alone}) == same != fingerprints.tensors_sha256({"a": torch.ones(1)})
