"""Every measure on the real model, against values that a plain reference in float64 made (`tests/golden.py`)."""

import pytest
import torch

import golden
import semhub_lens as shl
from golden import CELLS, CLEAN, CORRUPTED, ENTRY, LABELLED, LABELS, LAYERS, NEW, PAIRS, PROMPTS, STRENGTH, WORDS

QUIET = {"progress": False}


def close(ours, name, *keys, rtol=1e-6):
    expected = golden.golden()[name]
    for key in keys:
        expected = expected[key]
    torch.testing.assert_close(ours.double(), torch.tensor(expected).double(), atol=1e-4, rtol=rtol)


def last_states(model, texts):
    return shl.residual_stream(model, texts, **QUIET)[LAYERS]


@pytest.mark.real
def test_the_lens_and_its_targets(gemma):
    for item, text in enumerate(PROMPTS):
        lens = shl.logit_lens(gemma, text, top_k=5, **QUIET)
        assert lens.top_ids[LAYERS, -1].tolist() == golden.golden()["lens"][item]["top_ids"]
        for name in ("top_logprobs", "entropy", "kl_to_final"):
            close(getattr(lens, name)[LAYERS, -1], "lens", item, name)
    targets = shl.target_lens(gemma, PROMPTS, [WORDS] * len(PROMPTS), variants="exact", **QUIET)
    for item in range(len(PROMPTS)):
        close(targets.log_probs[LAYERS, item], "lens", item, "targets")
        close(targets.entropy[LAYERS, item], "lens", item, "entropy")


@pytest.mark.real
def test_language_mass(gemma):
    close(shl.language_mass(gemma, PROMPTS[0], shl.script_table(gemma), **QUIET).mass[LAYERS], "mass")


@pytest.mark.real
def test_similarity_and_cosine(gemma):
    a, b = (last_states(gemma, [pair[side] for pair in PAIRS])[1:] for side in (0, 1))
    result = shl.similarity(a, b, measures=["effect", "centred", "retrieval", "cka"], draws=2)
    for name in ("matched", "baseline", "spread", "centred", "rank_ab", "rank_ba", "cka"):
        close(getattr(result, name), "similarity", name)
    probe = shl.CosineTo(gemma, shl.residual_stream(gemma, ["blue", "five"], **QUIET))
    gemma.run_with_hooks(shl.Prompt.from_text(gemma, PROMPTS[0]).ids[None], fwd_hooks=probe.hooks)
    close(probe.result().cosine[LAYERS, -1], "cosine")


@pytest.mark.real
def test_a_probe(gemma):
    states = last_states(gemma, LABELLED)
    close(shl.train_probe(states, LABELS, setup=shl.ProbeSetup(tol=1e-7)).log_probs(states), "probe")


@pytest.mark.real
def test_cells_of_a_patch_grid(gemma):
    metric = shl.metric.logit_difference(gemma, golden.RIGHT, golden.WRONG)
    grid = shl.patch_grid(gemma, CLEAN, CORRUPTED, metric, positions=[(p, p) for _, p in CELLS], **QUIET)
    cells = [float(grid.values[layer, i]) for i, (layer, _) in enumerate(CELLS)]
    close(torch.tensor([grid.clean, grid.corrupted, *cells]), "patches")


@pytest.mark.real
def test_cells_of_an_attribution_grid(gemma):
    metric = shl.metric.logit_difference(gemma, golden.RIGHT, golden.WRONG)
    grid = shl.attribution_grid(gemma, CLEAN, CORRUPTED, metric, positions=[(p, p) for _, p in CELLS])
    found = torch.tensor([float(grid.values[layer, i]) for i, (layer, _) in enumerate(CELLS)])
    close(found, "attribution", rtol=1e-4)


@pytest.mark.real
def test_who_wrote_a_token(gemma):
    found = shl.direct_attribution(gemma, CLEAN, token=golden.RIGHT)
    for name in ("embedding", "attention", "mlp"):
        close(getattr(found, name)[0], "writes", name, rtol=1e-4)
    close(found.logits[0], "writes", "logit", rtol=1e-4)


@pytest.mark.real
def test_words_read_in_a_slot(gemma):
    scope = shl.patchscope(
        gemma, PROMPTS[:1], WORDS, reading=golden.READING, slot=golden.SLOT, source_entries=golden.SCOPED,
        variants="exact", **QUIET,
    )  # fmt: skip
    close(scope.log_probs[:, 0], "scope")


@pytest.mark.real
def test_praise_and_blame(gemma):
    frame = shl.SentimentFrame(golden.FRAME, golden.GOOD, golden.BAD)
    close(shl.likelihood_sentiment(gemma, golden.JUDGED, "en", frame=frame, **QUIET), "praise")


@pytest.mark.real
def test_steering_and_its_damage(gemma):
    vector = shl.direction.unembedding(gemma, WORDS[0])
    steer = shl.at(ENTRY, shl.hooks.add(vector, strength=STRENGTH))
    close(shl.kl_to_clean(gemma, PROMPTS, steer, **QUIET), "damage")


@pytest.mark.real
def test_what_it_writes_and_how_likely_words_are(gemma):
    written = shl.generate(gemma, PROMPTS, max_new_tokens=NEW, **QUIET)
    assert [list(row) for row in written.token_ids] == golden.golden()["written"]
    close(shl.continuation_perplexity(gemma, PROMPTS[:2], WORDS[1:], **QUIET), "perplexity")
