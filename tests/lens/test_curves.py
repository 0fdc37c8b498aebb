"""Curves of leading tokens: whole, exact, bounded, and kept by comparisons and files."""

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.lens import curves

TEXT = "three plus two equals red dog"


def lens(model, prompt=TEXT, **settings):
    return shl.logit_lens(model, prompt, progress=False, **settings)


def plain(model, prompt=TEXT, layers=None, **settings):
    """Log-probabilities [layer pos vocab] of the whole vocabulary."""
    readout = shl.Readout(model, **settings)
    states = torch.stack([shl.residual_stream(model, prompt, read=i, progress=False)[:, 0] for i in range(7)], 1)
    layers = list(range(len(states))) if layers is None else layers
    return torch.stack([readout(states[layer], layer).log_softmax(-1) for layer in layers])


READ = {"plain": {}, "layers": {"layers": [0, 2, 3]}, "bare": {"norm": "none"}}


@pytest.mark.parametrize("together", [2, 16])
@pytest.mark.parametrize("settings", READ.values(), ids=READ)
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_curve_of_a_leading_token_is_its_log_probability_at_every_layer(backend, settings, together, monkeypatch):
    monkeypatch.setattr(curves, "TOGETHER", together)
    model = models.tiny(backend)
    found = lens(model, top_k=2, **settings)
    wanted = plain(model, **settings)
    assert found.curve_logprobs.shape == (len(found.entries), 7, found.curve_ids.shape[1])
    for pos, ids in enumerate(found.curve_ids.tolist()):
        held = [token for token in ids if token >= 0]
        assert set(held) == set(found.top_ids[:, pos, 0].tolist()) and held[0] == found.top_ids[-1, pos, 0]
        assert found.curve_logprobs[:, pos, len(held) :].isnan().all() and ids[len(held) :] == [-1] * (
            len(ids) - len(held)
        )
        torch.testing.assert_close(found.curve_logprobs[:, pos, : len(held)], wanted[:, pos, held], atol=2e-5, rtol=0)


def test_of_many_leading_tokens_the_final_one_and_the_most_probable_are_kept(tiny_model, monkeypatch):
    whole = lens(tiny_model)
    monkeypatch.setattr(curves, "MOST", 2)
    found = lens(tiny_model)
    assert found.curve_ids.shape[1] == 2 < whole.curve_ids.shape[1]
    for pos in range(7):
        final = int(found.top_ids[-1, pos, 0])
        led = zip(found.top_ids[:, pos, 0].tolist(), found.top_logprobs[:, pos, 0].tolist(), strict=True)
        others = sorted((-value, token) for token, value in led if token != final)
        assert found.curve_ids[pos].tolist() == [final, others[0][1]]


def test_half_precision_is_read_in_float32():
    model = models.tiny(dtype=torch.bfloat16)
    found = lens(model, top_k=1)
    held = found.curve_ids >= 0
    wanted = plain(model).gather(-1, found.curve_ids.clamp(min=0).expand(len(found.entries), -1, -1))
    assert (found.curve_logprobs - wanted).abs()[:, held].max() < 1e-4


def test_without_the_most_probable_tokens_there_is_no_curve(tiny_model):
    found = lens(tiny_model, quantities=["top_ids", "entropy"])
    assert found.curve_ids is None and found.curve_logprobs is None


def test_a_comparison_lays_curves_out_in_its_columns_and_a_file_keeps_them(tiny_model, tmp_path):
    one, two = lens(tiny_model), lens(tiny_model, "red dog")
    side = shl.compare(one, two, align="end").sides()[1]
    assert torch.equal(side.curve_ids[-2:], two.curve_ids[-2:])
    assert torch.equal(side.curve_logprobs[:, -2:].nan_to_num(9), two.curve_logprobs[:, -2:].nan_to_num(9))
    assert (side.curve_ids[:-3] == -1).all() and side.curve_logprobs[:, :-3].isnan().all()
    again = shl.load_result(one.save(tmp_path / "lens.safetensors"))
    assert torch.equal(again.curve_ids, one.curve_ids)
