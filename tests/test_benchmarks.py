"""The benchmarks run, their sides do the same work, and a run beside other work is measured again."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

import models
import semhub_lens as shl
from benchmarks import explorer, extraction, gpu, lens, similarity, table
from benchmarks.table import Row, Side

RUN = Path(__file__).parent / "benchmarks" / "run.py"


def test_a_side_is_the_median_of_its_rounds_and_a_disturbed_run_is_measured_again():
    runs = iter([(9.0, 9.0, 5.0), (1.0, 2.0, 0.0), (3.0, 4.0, 0.0), (2.0, 9.0, 0.1)])
    found = table.in_turn({"ours": lambda: None}, 3, lambda task: next(runs))
    assert found == {"ours": Side(2.0, 4.0)}
    with pytest.raises(SystemExit, match="Other processes"):
        table.in_turn({"ours": lambda: None}, 1, lambda task: (1.0, 1.0, 1.0))


def test_others_are_all_processes_but_this_one():
    wall, cpu, others = table.once(lambda: sum(range(3_000_000)))
    assert 0 < cpu < wall + 0.1
    assert others > -0.1


def test_ratios_are_by_the_clock():
    row = Row("task", Side(2, 1), Side(8, 8), Side(1, 1), "bar", 12.0)
    assert (row.faster, row.over_floor) == (4, 2)
    assert "| task | 2 (1) | 8 (8) | 4 | 1 (1) | 2 | bar | 12 |  |" in table.show([row])


def test_the_plain_lens_is_the_same_lens():
    model = models.tiny("bridge")
    prompt = lens.running_text(model, 16)
    ours = shl.logit_lens(model, prompt, top_k=3, progress=False)
    for layer, (ids, entropy, distance) in enumerate(lens.plain(model, prompt.ids[None], 3)):
        assert (ids == ours.top_ids[layer]).all()
        assert entropy == pytest.approx(ours.entropy[layer], abs=1e-4)
        assert distance == pytest.approx(ours.kl_to_final[layer], abs=1e-4)


def test_the_plain_null_of_cka_is_the_same_statistic():
    draw = torch.Generator().manual_seed(1)
    a = torch.randn(2, 12, 5, generator=draw)
    b = a + torch.randn(2, 12, 5, generator=draw)
    first, second = similarity.centred(a[0]), similarity.centred(b[0])
    cka = (first * second).sum() / (first.norm() * second.norm())
    assert float(cka) == pytest.approx(float(shl.similarity(a, b, measures=["cka"], draws=3).cka[0]), abs=1e-5)


def test_one_by_one_gives_the_same_states():
    model = models.tiny("bridge")
    listed = [shl.Prompt.from_text(model, text) for text in ("three plus two", "dog")]
    ours = shl.residual_stream(model, listed, read="raw_mean", progress=False)
    assert torch.allclose(extraction.one_by_one(model, listed)[:-1], ours[:-1], atol=1e-5)  # the last one is normed


def test_the_rows_of_a_tiny_model(monkeypatch):
    monkeypatch.setattr(table, "QUIET", 1e9)
    model, half = models.tiny("bridge"), models.tiny("bridge", dtype=torch.bfloat16)
    rows = [
        *lens.measure(model, half, tokens=16, rounds=1),
        *extraction.measure(model, count=8, peer=4, rounds=1),
        *similarity.measure((2, 8, 4), rounds=1),
        *explorer.measure(model, tokens=5, rounds=1),
    ]
    assert len({row.name for row in rows}) >= 8
    assert all(row.ours.wall > 0 for row in rows)
    assert json.dumps([row.as_dict() for row in rows])


def test_an_unknown_benchmark_is_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "speed"])
    with pytest.raises(SystemExit, match="Unknown benchmark speed"):
        runpy.run_path(str(RUN), run_name="__main__")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_device_is_compared_with_the_definition(dtype, monkeypatch):
    model = models.tiny("bridge", dtype=dtype)
    assert "nats off" in gpu.require_exact("it", model, 12)
    wrong = gpu.by_definition
    monkeypatch.setattr(gpu, "by_definition", lambda m, s, i: {k: v + 0.01 for k, v in wrong(m, s, i).items()})
    with pytest.raises(SystemExit, match="not exact"):
        gpu.require_exact("it", model, 12)


def test_without_a_cuda_device_nothing_is_measured():
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="No CUDA device"):
            gpu.measure()
