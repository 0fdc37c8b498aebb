"""The lens kernel in float32 against float64 definitions, on logits that are hard to sum."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens.lens import kernel
from semhub_lens.lens.highest_logits import GROUPED, RunningHighest, group_peaks

VOCAB = 262_144
SPREADS = {"flat": 1e-4, "even": 1, "wide": 5, "peaked": 2, "steep": 80}
NAMES = ["top_ids", "top_logprobs", "entropy", "kl_to_final", "targets", "mass"]


class Stored(shl.Readout):
    """Logits [layer pos vocab] in place of a model's; a state holds its position."""

    def __init__(self, logits):
        self.logits, self.n_layers = logits, len(logits) - 1

    d_vocab = property(lambda self: self.logits.shape[-1])
    device = property(lambda self: self.logits.device)

    def __call__(self, states, layer=None, tokens=None):
        return self.logits[layer][:, states[0, :, 0].long()]


def numbered(logits):
    """States that hold their position."""
    return torch.arange(float(logits.shape[1]))[:, None].expand(*logits.shape[:2], 1)


def hard_logits(shape, offset, vocab=VOCAB):
    random = torch.Generator().manual_seed([*SPREADS].index(shape))
    logits = SPREADS[shape] * torch.randn(2, vocab, generator=random)
    if shape == "peaked":
        logits[0, 7], logits[1, 9] = 25, 60
    return logits + offset


def plain(logits, table, targets):
    """Every quantity from a float64 log-softmax of the same logits."""
    log_probs = logits.double().log_softmax(-1)
    probs, final = log_probs.exp(), log_probs[-1]
    sets = [log_probs[..., list(ids)].logsumexp(-1) for ids in targets]
    return {
        "top_logprobs": log_probs.topk(5).values,
        "entropy": -(probs * log_probs).sum(-1),
        "kl_to_final": (final.exp() * (final - log_probs)).sum(-1),
        "targets": torch.stack(sets, -1),
        "mass": probs @ table.double(),
    }


def assert_exact(logits):
    random = torch.Generator().manual_seed(1)
    vocab = logits.shape[-1]
    table = torch.rand(vocab, 5, generator=random)
    table /= table.sum(-1, keepdim=True)
    targets = [(7, 9), (0, 1, vocab - 1), tuple(range(20, 40))]
    states = numbered(logits)
    got = kernel.reduce_logits(Stored(logits), states, NAMES, top_k=5, common=targets, table=table)
    for name, expected in plain(logits, table, targets).items():
        error = (got[name] - expected).abs()
        assert (error <= (1e-6 * expected.abs()).clamp(min=1e-5)).all(), f"{name} is off by {error.max():.2g}"


@pytest.mark.parametrize("final", SPREADS)
def test_every_quantity_of_a_large_vocabulary_is_that_of_float64(final):
    layers = [hard_logits(shape, offset) for shape in SPREADS for offset in (0, 1e4, -1e4)]
    assert_exact(torch.stack([*layers, hard_logits(final, 1e4)]))


@pytest.mark.parametrize("vocab", [50, 50_257, 151_936])
def test_no_size_of_vocabulary_or_block_is_special(monkeypatch, vocab):
    monkeypatch.setattr(kernel, "WHOLE_ENTRIES", 11 * vocab)  # two of four positions at a time
    monkeypatch.setattr(kernel, "COLUMNS", (vocab // 3, vocab // 3))
    rows = [torch.cat([hard_logits(shape, 100, vocab)] * 2) for shape in SPREADS]
    assert_exact(torch.stack(rows))


def highest_of(logits, k, widths, sort=None):
    """The highest logits, in pieces of these widths."""
    kept, start = RunningHighest(len(logits), k, logits.device, sort=sort), 0
    for piece in logits.split(widths, dim=1):
        kept.add(piece.clone(), group_peaks(piece), start)
        start += piece.shape[1]
    return kept.result()


@pytest.mark.parametrize("sort", [False, True], ids=["groups", "whole pieces"])
@pytest.mark.parametrize("order", ["mixed", "rising", "falling", "one row"])
@pytest.mark.parametrize("widths", [[1407], [64] * 20 + [127], [2, 5] * 200 + [7], [1280, 127]])
@pytest.mark.parametrize("k", [0, 1, 10, 100, 1407])
def test_the_highest_logits_are_those_of_a_full_sort(widths, k, order, sort):
    logits = torch.randn(6, 1407, generator=torch.Generator().manual_seed(k))
    if order in ("rising", "falling"):
        logits = logits.sort(dim=1, descending=order == "falling").values
    if order == "one row":
        logits[3] = torch.arange(1407.0)  # every piece has logits that enter
    logits[5, ::20] += 6  # several in one group
    logits[2, 5:1400] = -torch.inf  # forbidden tokens are the last ones
    values, ids = highest_of(logits, k, widths, sort)
    assert torch.equal(values, logits.topk(k).values)
    assert torch.equal(logits.gather(1, ids), values) and all(len(set(row)) == k for row in ids.tolist())


def test_of_equal_logits_the_ones_that_come_first_are_kept():
    tied = torch.ones(2, 10 * GROUPED)
    _, ids = highest_of(tied, 3, [GROUPED] * 10)
    assert (ids < GROUPED).all()


def test_a_small_divergence_keeps_its_digits():
    last = hard_logits("wide", 0)
    near = last + 1e-3 * hard_logits("even", 0)
    logits = torch.stack([near, last])
    found = kernel.reduce_logits(Stored(logits), numbered(logits), ["kl_to_final"])["kl_to_final"]
    expected = plain(logits, torch.ones(VOCAB, 1), [(0,)])["kl_to_final"]
    assert expected[0].max() < 1e-6 and not found[1].any()
    torch.testing.assert_close(found[0].double(), expected[0], atol=2e-7, rtol=0)


@pytest.mark.parametrize("forbidden", [slice(0, 4096), slice(4096, 8000), slice(100, 200), slice(6000, None)])
def test_forbidden_tokens_have_no_part_in_a_distribution(forbidden):
    logits = torch.stack([hard_logits("wide", 0, 8000), hard_logits("even", 50, 8000)])
    kept = torch.ones(8000, dtype=torch.bool)
    kept[forbidden] = False
    table = torch.rand(8000, 3, generator=torch.Generator().manual_seed(2))
    names, few = ["top_logprobs", "entropy", "mass"], logits[..., kept]
    alone = kernel.reduce_logits(Stored(few), numbered(few), names, top_k=5, table=table[kept])
    logits[..., forbidden] = -torch.inf
    found = kernel.reduce_logits(Stored(logits), numbered(logits), names, top_k=5, table=table)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.real
def test_the_kernel_on_gemma_is_float64_of_its_logits(gemma):
    text = "The capital of France is Paris, and El cielo es azul; 三加二 equals five."
    capture = shl.Capture(gemma)
    gemma.run_with_hooks(shl.Prompt.from_text(gemma, text).ids[None], fwd_hooks=capture.hooks)
    states, readout = capture.result()[:, 0], shl.Readout(gemma)
    with torch.no_grad():
        logits = torch.stack([readout(state) for state in states[[0, 1, 9, -2, -1]]])
    assert_exact(logits)
