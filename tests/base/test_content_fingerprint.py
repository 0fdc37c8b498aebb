"""The fingerprint of all values changes with every single one of them, and with nothing else."""

import pytest
import torch

from semhub_lens.base import fingerprints
from semhub_lens.base.fingerprints import content_fingerprint

SHAPES = {
    "a matrix": (64, 640),
    "wide": (3, 4000),
    "heads": (16, 60, 64),
    "experts": (8, 64, 128),
    "a vector": (3000,),
    "one number": (),
    "five axes": (2, 3, 2, 5, 7),
}


def contents_of_parts(**parts):
    return content_fingerprint(parts.items())


TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.complex64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_every_value_counts_for_the_contents(name, dtype, monkeypatch):
    monkeypatch.setattr(fingerprints, "SUMMED", 5000)
    shape = SHAPES[name]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = (100 * noise).clamp(-127, 127).to(dtype)
    before, seen = contents_of_parts(w=whole), set()
    assert before == contents_of_parts(w=whole.clone())
    for place in range(0, whole.numel(), max(1, whole.numel() // 20)):
        for step in (-1, 1):
            changed = whole.clone()
            one = changed.view(-1)[place : place + 1]
            if dtype.is_floating_point:  # the next number of this dtype
                one.copy_(torch.nextafter(one, one + step) if dtype != torch.float16 else one + step)
            else:
                one += step
            assert torch.equal(changed, whole) is False
            seen.add(contents_of_parts(w=changed))
    assert before not in seen and len(seen) == 2 * len(range(0, whole.numel(), max(1, whole.numel() // 20)))


def test_the_order_of_rows_and_columns_the_shape_and_the_name_count_for_the_contents():
    whole = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.arange(40).roll(7), torch.arange(30).roll(7)
    turns = torch.polar(torch.ones(40, 30), whole)
    parts = [
        whole,
        -whole,
        whole[rows],
        whole[:, columns],
        whole.view(30, 40),
        whole.T,
        turns,
        turns.conj(),
        turns.real + 0j,
    ]
    seen = [contents_of_parts(w=part) for part in parts] + [contents_of_parts(v=whole), contents_of_parts(w=whole[:39])]
    assert len(set(seen)) == len(seen)


def test_the_contents_are_those_of_the_values_whatever_their_dtype_layout_and_blocks(monkeypatch):
    whole = torch.randn(3, 70, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    whole[0, 0, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    expected = contents_of_parts(w=whole)
    assert contents_of_parts(w=whole.float()) == contents_of_parts(w=whole.double()) == expected
    assert contents_of_parts(w=whole.permute(2, 0, 1).contiguous().permute(1, 2, 0)) == expected
    assert contents_of_parts(w=whole.double().permute(2, 0, 1).contiguous().permute(1, 2, 0)) == expected
    halves = whole.nan_to_num(0.0, 1.0, -1.0).clamp(-2, 2).half()
    assert contents_of_parts(w=halves) == contents_of_parts(w=halves.double())
    monkeypatch.setattr(fingerprints, "SUMMED", 1)
    assert contents_of_parts(w=whole) == expected
    assert contents_of_parts(w=torch.zeros(0, 3), v=torch.zeros(0)) != contents_of_parts(v=torch.zeros(0))
