"""The lens kernel in float32 against float64 definitions, on logits that are hard to sum."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens.lens import kernel, vocabulary_sums

VOCAB = 262_144
SPREADS = {"flat": 1e-4, "even": 1, "wide": 5, "peaked": 2, "steep": 80}
NAMES = ["top_ids", "top_logprobs", "entropy", "kl_to_final", "targets", "mass"]


class Stored(shl.Readout):
    """Logits [layer pos vocab] in place of a model's; states are ignored."""

    def __init__(self, logits):
        self.logits, self.n_layers = logits, len(logits) - 1

    d_vocab = property(lambda self: self.logits.shape[-1])
    device = property(lambda self: self.logits.device)

    def __call__(self, states, layer=None, tokens=None, memory=None):
        logits = self.logits[self.n_layers if layer is None else layer]
        made = torch.empty_like(logits) if memory is None else memory[: logits[..., 0].numel()].view_as(logits)
        return made.copy_(logits)


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
    states = torch.zeros(*logits.shape[:2], 1)
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
    monkeypatch.setattr(vocabulary_sums, "CACHED_ENTRIES", 3 * vocab)
    rows = [torch.cat([hard_logits(shape, 100, vocab)] * 2) for shape in SPREADS]
    assert_exact(torch.stack(rows))


@pytest.mark.parametrize("vocab", [40, 64 * 20, 64 * 21 + 63])
@pytest.mark.parametrize("k", [1, 10])
def test_the_highest_logits_are_those_of_a_full_sort(vocab, k):
    logits = torch.randn(3, 2, vocab, generator=torch.Generator().manual_seed(vocab))
    logits[0, 0, -1] = 9  # in no group, where the last one is not full
    logits[0, 1, ::20] += 6  # several in one group
    peak, best = vocabulary_sums.peaks(logits)
    assert torch.equal(peak, logits.amax(-1, keepdim=True))
    for layer in range(3):
        found, expected = vocabulary_sums.highest(logits[layer], best[layer], k), logits[layer].topk(k)
        assert torch.equal(found[0], expected.values) and torch.equal(found[1], expected.indices)


def test_the_final_layer_stays_while_others_use_the_memory_again(monkeypatch):
    monkeypatch.setattr(kernel, "PRODUCT_ENTRIES", 8 * 50)  # two positions of four layers in a product
    assert_exact(torch.stack([hard_logits(shape, offset, 50) for shape in SPREADS for offset in (0, 100)]))


def test_a_small_divergence_keeps_its_digits():
    last = hard_logits("wide", 0)
    near = last + 1e-3 * hard_logits("even", 0)
    states = torch.zeros(2, 2, 1)
    logits = torch.stack([near, last])
    found = kernel.reduce_logits(Stored(logits), states, ["kl_to_final"])["kl_to_final"]
    expected = plain(logits, torch.ones(VOCAB, 1), [(0,)])["kl_to_final"]
    assert expected[0].max() < 1e-6 and not found[1].any()
    torch.testing.assert_close(found[0].double(), expected[0], atol=2e-7, rtol=0)


@pytest.mark.real
def test_the_kernel_on_gemma_is_float64_of_its_logits(gemma):
    text = "The capital of France is Paris, and El cielo es azul; 三加二 equals five."
    capture = shl.Capture(gemma)
    gemma.run_with_hooks(shl.Prompt.from_text(gemma, text).ids[None], fwd_hooks=capture.hooks)
    states, readout = capture.result()[:, 0], shl.Readout(gemma)
    with torch.no_grad():
        logits = torch.stack([readout(state) for state in states[[0, 1, 9, -2, -1]]])
    assert_exact(logits)
