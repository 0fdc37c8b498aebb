"""Corpora: data sets and generators as prompts, and states that go to a folder in bounded memory."""

import itertools
import json
import weakref

import datasets
import numpy as np
import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.model import resolve, stacks
from semhub_lens.model.capture import residual_reads

QUIET = {"progress": False}
WINDOW = 8
RANDOM = np.random.default_rng(0)
TEXTS = [" ".join(RANDOM.choice(models.WORDS[:20], size=RANDOM.integers(1, 12))) for _ in range(29)]
LABELS = ["a", "b"] * 14 + ["a"]


@pytest.fixture(scope="module")
def model():
    return models.tiny("bridge")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stacks, "WINDOW", WINDOW)


@pytest.fixture(scope="module")
def in_memory(model):
    """The states of each window on its own, and in the order of the items."""
    parts = [TEXTS[start : start + WINDOW] for start in range(0, len(TEXTS), WINDOW)]
    return torch.cat([shl.residual_stream(model, part, **QUIET) for part in parts], dim=1)


def written(model, out, prompts=TEXTS, **settings):
    return shl.residual_stream(model, prompts, out=out, **{**QUIET, **settings})


def files(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*.*")}


class Killed(Exception):
    pass


def killed_after(windows, monkeypatch):
    """Let the model run so many windows; the list counts the windows that began."""
    begun = []

    def run(*args, **settings):
        begun.append(args[1])
        if len(begun) > windows:
            raise Killed
        return residual_reads(*args, **settings)

    monkeypatch.setattr("semhub_lens.model.residual.residual_reads", run)
    return begun


# what functions of prompts take


def test_every_kind_of_iterable_gives_the_numbers_of_the_list(model):
    expected = shl.residual_stream(model, TEXTS, **QUIET)
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
    streamed = data.to_iterable_dataset()
    unknown = datasets.IterableDataset.from_generator(lambda: ({"text": text} for text in TEXTS))
    assert unknown.column_names is None
    rows = [{"text": text} for text in TEXTS]
    kinds = [iter(TEXTS), (text for text in TEXTS), data["text"], tuple(TEXTS), map(str, TEXTS)]
    columns = [shl.Column(kind) for kind in (data, streamed, unknown, rows, iter(rows))]
    for prompts in [*kinds, *columns, shl.Column(data, "text", limit=99)]:
        assert torch.equal(shl.residual_stream(model, prompts, **QUIET), expected)
    again = shl.Column(streamed, limit=3)
    assert list(again) == list(again) == TEXTS[:3], "a column can be read twice"
    made = shl.generate(model, iter(TEXTS[:2]), max_new_tokens=2, **QUIET)
    assert made.token_ids == shl.generate(model, TEXTS[:2], max_new_tokens=2, **QUIET).token_ids


def test_columns_of_token_ids_and_of_conversations_are_read_as_such(model):
    ids = [shl.Prompt.from_text(model, text).ids.tolist() for text in TEXTS[:3]]
    data = datasets.Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    expected = shl.residual_stream(model, TEXTS[:3], **QUIET)
    assert torch.equal(shl.residual_stream(model, shl.Column(data, "input_ids"), **QUIET), expected)
    assert torch.equal(shl.residual_stream(model, data, **QUIET), expected), "rows as a tokenizer returns them"
    with pytest.raises(SemhubError, match="template"):
        chats = [{"chat": [{"role": "user", "content": text}]} for text in TEXTS[:2]]
        shl.residual_stream(model, shl.Column(chats, "chat"), **QUIET)


BAD = {
    "column of a data set": (lambda d: shl.Column(d, "sentence"), "no column 'sentence'; it has text, label"),
    "column of a stream": (lambda d: shl.Column(d.to_iterable_dataset(), "x"), "no column 'x'; it has text, label"),
    "column of rows": (lambda d: shl.Column(iter([{"a": 1, "b": 2}]), "c"), "Row 0 has no column 'c'; it has a, b"),
    "no rows": (lambda d: shl.Column(["three"], "c"), "Row 0 is not a mapping"),
    "splits": (lambda d: shl.Column(datasets.DatasetDict(train=d, test=d)), "mapping of train, test"),
    "no data set": (lambda d: shl.Column(5), "Expected a data set"),
    "limit": (lambda d: shl.Column(d, limit=0), "at least 1, got 0"),
    "the column is not named": (lambda d: d, r"shl.Column\(data, name\): one of text, label"),
    "set": (lambda d: {"three", "two"}, "no order"),
    "empty generator": (lambda d: iter([]), "empty .*read once"),
    "empty data set": (lambda d: shl.Column(d.select([])), "empty"),
    "empty list": (lambda d: [], "empty"),
    "endless": (lambda d: itertools.cycle(TEXTS), "may be endless: take a part"),
}


@pytest.mark.parametrize("wrong", BAD)
def test_what_cannot_be_read_is_said_before_the_model_runs(model, wrong, monkeypatch, tmp_path):
    make, said = BAD[wrong]
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": LABELS})
    monkeypatch.setattr(resolve, "AT_ONCE", 50)
    monkeypatch.setattr("semhub_lens.model.capture.hooked", None)
    with pytest.raises(SemhubError, match=said):
        shl.residual_stream(model, make(data), **QUIET)
    if wrong != "endless":
        with pytest.raises(SemhubError, match=said):
            written(model, tmp_path / "out", make(data))
        assert not (tmp_path / "out").exists()


# states in a folder


@pytest.mark.parametrize("read", ["last", "mean", -1])
def test_a_folder_holds_the_numbers_of_its_windows_to_the_last_bit(model, tmp_path, read):
    stack = written(model, tmp_path / "out", iter(TEXTS), read=read)
    parts = [TEXTS[start : start + WINDOW] for start in range(0, len(TEXTS), WINDOW)]
    expected = torch.cat([shl.residual_stream(model, part, read=read, **QUIET) for part in parts], dim=1)
    assert stack.shape == expected.shape and stack.ndim == 3 and len(stack) == len(expected)
    assert torch.equal(stack[:], expected) and stack.shards == (8, 8, 8, 5)
    opened = shl.open_states(tmp_path / "out")
    assert torch.equal(opened[:], expected) and opened.provenance == stack.provenance
    assert stack.provenance.weights == shl.logit_lens(model, "two", **QUIET).provenance.weights


KEYS = [
    2, -1, slice(1, 3), (slice(None), 9), (1, 28), (slice(None), slice(6, 20)), (0, slice(None, None, 5), slice(4)),
    (slice(None), [20, 3, 3, 11]), (2, torch.tensor([7, 8]), 5), (slice(None), torch.arange(29) % 3 == 0, slice(2, 4)),
    (slice(None), slice(9, 9)), (slice(1, 1), 3),
]  # fmt: skip


def test_a_stack_is_indexed_as_a_tensor_is(model, in_memory, tmp_path):
    stack = written(model, tmp_path / "out")
    for key in KEYS:
        found = stack[key]
        assert found.shape == in_memory[key].shape and torch.equal(found, in_memory[key]), key
    assert all(torch.equal(*pair) for pair in zip(stack, in_memory, strict=True))
    for wrong in ([0, 1], (0, 0, 0, 0), "a", (slice(None), slice(None), [1])):
        with pytest.raises(SemhubError, match="axes"):
            stack[wrong]
    with pytest.raises(SemhubError, match="out of bounds"):
        stack[:, 29]


def test_the_table_says_what_each_item_was(model, tmp_path):
    frame = written(model, tmp_path / "out").to_frame()
    assert frame["item"].tolist() == list(range(29)) and frame["characters"].tolist() == [len(t) for t in TEXTS]
    assert frame["tokens"].tolist() == [len(shl.Prompt.from_text(model, text)) for text in TEXTS]
    same = [TEXTS[i] == TEXTS[j] for i in range(29) for j in range(29)]
    prints = frame["prompt"].tolist()
    assert [prints[i] == prints[j] for i in range(29) for j in range(29)] == same


def test_prompts_are_read_a_window_at_a_time_and_none_stays_in_memory(model, tmp_path, monkeypatch):
    read, seen, prompts, states = [0], [], [], []

    def counted(many):
        for text in itertools.islice(itertools.cycle(TEXTS), many):
            read[0] += 1
            yield text

    def run(model, window, *args, **settings):
        seen.append((read[0], *(sum(ref() is not None for ref in refs) for refs in (prompts, states))))
        found = residual_reads(model, window, *args, **settings)
        prompts.extend(map(weakref.ref, window))
        states.append(weakref.ref(found))
        return found

    monkeypatch.setattr("semhub_lens.model.residual.residual_reads", run)
    written(model, tmp_path / "out", counted(6 * WINDOW))
    assert [before for before, *_ in seen] == [WINDOW * (i + 1) for i in range(6)], "never ahead of the window"
    assert all(held == 0 for *_, held in seen), "no window's states stay"
    assert all(held <= WINDOW for _, held, _ in seen), "nor its prompts, but those of the first"


def test_a_killed_run_goes_on_and_gives_the_same_numbers(model, in_memory, tmp_path, monkeypatch):
    out = tmp_path / "out"
    begun = killed_after(2, monkeypatch)
    with pytest.raises(Killed):
        written(model, out, iter(TEXTS))
    there = files(out)
    assert {"states-00000.safetensors", "states-00001.safetensors"} <= there.keys() and len(begun) == 3
    assert not any("00002" in name or "partial" in name for name in there)
    with pytest.raises(SemhubError, match=r"not finished \(2 parts of up to 8 items"):
        shl.open_states(out)
    begun = killed_after(9, monkeypatch)
    stack = written(model, out, iter(TEXTS))
    assert len(begun) == 2, "only what was missing runs"
    assert torch.equal(stack[:], in_memory)
    assert {name: files(out)[name] for name in there if name != "states.json"} == {
        name: when for name, when in there.items() if name != "states.json"
    }
    begun = killed_after(0, monkeypatch)
    assert torch.equal(written(model, out)[:], in_memory) and not begun


def test_more_items_of_the_same_data_go_on_and_others_are_refused(model, in_memory, tmp_path, monkeypatch):
    out = tmp_path / "out"
    endless = [{"text": text} for text in TEXTS]
    assert written(model, out, shl.Column(iter(endless), limit=10)).shape[1] == 10
    begun = killed_after(9, monkeypatch)
    assert torch.equal(written(model, out)[:], in_memory)
    assert [len(window) for window in begun] == [8, 8, 5], "the window that was short runs anew"
    for prompts, said in [
        (TEXTS[:16], "more items than these 16"),
        (TEXTS[:12], r"item 12 \(from 0\) differs"),
        ([*TEXTS[:11], "red", *TEXTS[12:]], r"item 11 \(from 0\) differs"),
    ]:
        with pytest.raises(SemhubError, match=said):
            written(model, out, prompts)
    assert torch.equal(shl.open_states(out)[:], in_memory) and len(begun) == 3


def test_a_folder_of_another_run_is_refused_and_stays(model, in_memory, tmp_path):
    out = tmp_path / "out"
    written(model, out)
    there = files(out)
    other = models.tiny("bridge", seed=1)
    for call, said in [
        (lambda: written(model, out, read="mean"), "read 'last', not 'mean'"),
        (lambda: written(other, out), "weights '"),
        (lambda: written(model, out, max_tokens=64), "max_tokens 1024, not 64"),
        (lambda: written(model, out, hooks=shl.at(1, shl.hooks.add(torch.ones(32)))), "takes no hooks"),
    ]:
        with pytest.raises(SemhubError, match=said):
            call()
    assert files(out) == there
    (out / "states.json").unlink()
    with pytest.raises(SemhubError, match="of another run"):
        written(other, out)
    assert torch.equal(written(model, out)[:], in_memory), "shards know their run without the index"
    (out / "states.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(SemhubError, match="cannot be read as an index"):
        shl.open_states(out)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def changed(path):
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")


@pytest.mark.parametrize("harm", [cut, changed, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_harmed_shard_is_found_and_measured_anew_alone(model, in_memory, tmp_path, monkeypatch, harm):
    out = tmp_path / "out"
    written(model, out)
    harm(out / "states-00001.safetensors")
    with pytest.raises(SemhubError, match=r"00001\.safetensors is missing or damaged"):
        shl.open_states(out)
    if harm is changed:  # its size is right
        assert shl.open_states(out, verify=False).shape == in_memory.shape
    begun = killed_after(9, monkeypatch)
    assert torch.equal(written(model, out)[:], in_memory) and len(begun) == 1


def test_parts_that_changed_places_are_not_opened(model, tmp_path):
    """Each is whole, but the items would be in another order than their prompts."""
    written(model, tmp_path)
    one, two = (tmp_path / f"states-0000{number}.safetensors" for number in (0, 1))
    held = one.read_bytes(), two.read_bytes()
    one.write_bytes(held[1])
    two.write_bytes(held[0])
    with pytest.raises(SemhubError, match="not in their order"):
        shl.open_states(tmp_path)


def test_a_prompt_that_cannot_be_read_is_named_and_what_is_written_stays(model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(SemhubError, match=r"Item 19 \(from 0\): The prompt text is empty"):
        written(model, out, (("" if i == 19 else text) for i, text in enumerate(TEXTS)))
    assert (out / "states-00001.safetensors").exists() and not (out / "states-00002.safetensors").exists()
    with pytest.raises(SemhubError, match="'nothing'"):
        written(model, tmp_path / "none", read="nothing")
    assert not (tmp_path / "none").exists()
    with pytest.raises(SemhubError, match="cannot be written"):
        written(model, out / "states.json")
    with pytest.raises(SemhubError, match="No states in"):
        shl.open_states(tmp_path)


# what reads a stack


def test_similarity_and_probes_of_a_stack_are_those_of_the_tensor(model, in_memory, tmp_path, monkeypatch):
    stack = written(model, tmp_path / "a")
    other = written(model, tmp_path / "b", [text + " red" for text in TEXTS])
    largest, whole = [0], stacks.StateStack.__getitem__

    def reading(self, key):
        found = whole(self, key)
        largest[0] = max(largest[0], found.numel())
        return found

    one_layer = 29 * 32
    inside = other[:]
    monkeypatch.setattr(stacks.StateStack, "__getitem__", reading)
    monkeypatch.setattr("semhub_lens.geometry.similarity.CHUNK", 1)  # as if one layer were large
    found, expected = (shl.similarity(*pair, draws=5) for pair in ((stack, other), (in_memory, inside)))
    for name, values in expected.measured.items():
        torch.testing.assert_close(found.measured[name], values, rtol=0, atol=0, equal_nan=True, msg=name)
    found, expected = (
        shl.linear_probe(own, LABELS, test=(test, LABELS), setup=shl.ProbeSetup(folds=2, control_draws=1))
        for own, test in ((stack, other), (in_memory, inside))
    )
    assert torch.equal(found.within.predicted, expected.within.predicted)
    assert torch.equal(found.across.predicted, expected.across.predicted)
    assert torch.equal(shl.train_probe(stack, LABELS).weights, shl.train_probe(in_memory, LABELS).weights)
    assert largest[0] == one_layer, "never more than a layer at a time"
