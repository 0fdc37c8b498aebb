"""Every measure on the real model, against values that a plain reference in float64 made (`tests/golden.py`)."""

import base64

import numpy as np
import pytest
import torch

import golden
import golden_concepts
import golden_probes
import semhub_lens as shl
from golden import CELLS, CLEAN, CORRUPTED, ENTRY, LABELLED, LABELS, LAYERS, NEW, PAIRS, PROMPTS, STRENGTH, WORDS
from golden_concepts import ITEMS, place
from golden_paths import ANCHORS, KEPT, LONG, PINNED, REPEATED
from golden_probes import FRAMES, KINDS
from semhub_lens.inputs.speller import Speller
from semhub_lens.lens.trajectories import trajectories
from semhub_lens.views.explorer.packing import ZERO, packed

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
def test_a_probes_transfer_to_another_language(gemma):
    states = {language: last_states(gemma, golden_probes.texts(language)) for language in FRAMES}
    setup, rows = shl.ProbeSetup(folds=golden_probes.FOLDS, tol=1e-7, control_draws=0), list(range(len(KINDS)))
    expected = golden.golden()["transfer"]
    for centre in ("none", "own"):
        known = {"setup": setup, "seed": golden_probes.SEED, "centre": centre}
        matrix = shl.transfer_matrix(states, dict.fromkeys(states, KINDS), groups="rows", **known)
        assert [[cell.predicted.tolist() for cell in row] for row in matrix.cells] == expected[centre]
        assert matrix.type_probe.predicted.tolist() == expected["type"]
        one = shl.linear_probe(states["en"], KINDS, groups=rows, test=(states["es"], KINDS, rows), **known)
        assert [one.within.predicted.tolist(), one.across.predicted.tolist()] == expected[centre][0]
    close(shl.train_probe(states["en"], KINDS, setup=setup).log_probs(states["es"]), "transfer", "across")


@pytest.mark.real
def test_curves_of_a_pinned_position(gemma):
    """The lens at every layer, and the numbers that the page draws of it: three digits."""
    lens = shl.logit_lens(gemma, PROMPTS[0], top_k=KEPT, **QUIET)
    assert lens.top_ids[:, PINNED].tolist() == golden.golden()["curves"]["ids"]
    close(lens.top_logprobs[:, PINNED], "curves", "logprobs")
    drawn = packed(lens)
    shape = (drawn["layers"], drawn["positions"], drawn["k"])
    ids = torch.tensor(drawn["ids"])[numbers(drawn["top"]).reshape(shape)]
    assert ids[:, PINNED].tolist() == golden.golden()["curves"]["ids"]
    codes = numbers(drawn["prob"]).reshape(shape)[:, PINNED].double()
    shown = torch.where(codes == ZERO, 0, (codes % 900 + 100) / 100 * 10 ** -(codes // 900))
    expected = torch.tensor(golden.golden()["curves"]["logprobs"]).double().exp()
    torch.testing.assert_close(shown, expected, atol=1e-70, rtol=5.1e-3)


def numbers(text):
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<u2").astype(np.int64))


@pytest.mark.real
def test_a_text_longer_than_the_window_of_attention(gemma):
    prompt = shl.Prompt.from_text(gemma, LONG)
    assert len(prompt) == golden.golden()["long"]["tokens"] == 702
    targets = shl.target_lens(gemma, prompt, [REPEATED], variants="exact", **QUIET)
    close(targets.log_probs[LAYERS, 0], "long", "targets", rtol=1e-4)  # float32 rounds more over 702 tokens
    close(targets.entropy[LAYERS, 0], "long", "entropy", rtol=1e-4)
    mean = shl.residual_stream(gemma, prompt, read="raw_mean", **QUIET)[LAYERS[:-1], 0]
    close(mean, "long", "mean", rtol=1e-4)


@pytest.mark.slow
@pytest.mark.real
def test_the_whole_lens_of_a_long_text_has_a_column_for_every_token(one_gemma, tmp_path):
    """Equal tokens keep their own columns in the figure, the file and the page."""
    prompt = shl.Prompt.from_text(one_gemma, LONG)
    assert Speller(one_gemma.tokenizer).spelled(prompt.ids.tolist()) == LONG.encode()
    lens = shl.logit_lens(one_gemma, prompt, top_k=3, **QUIET)
    assert len(lens.labels) == len(prompt) and set(lens.labels[2:-1]) == {"␣no"}
    figure = shl.figure(lens)
    assert len(set(figure.data[0].x)) == len(prompt) and figure.layout.width <= 32_767
    again = shl.LensResult.load(lens.save(tmp_path / "lens.safetensors"))
    assert again.labels == lens.labels and torch.equal(again.top_logprobs, lens.top_logprobs)
    assert packed(again)["positions"] == len(prompt) and shl.write_html(lens, tmp_path / "lens.html").exists()
    close(lens.entropy[LAYERS, -1], "long", "entropy")


@pytest.mark.real
def test_paths_among_anchors(gemma):
    states = shl.Readout(gemma).normed(shl.residual_stream(gemma, PROMPTS, **QUIET))
    anchors = torch.stack([shl.direction.unembedding(gemma, word) for word in ANCHORS])
    made = shl.Provenance("gemma", "-", "-", "float32", "cpu", "final", True)
    found = trajectories(states.detach().cpu(), anchors.detach(), anchor_names=ANCHORS, labels=PROMPTS, provenance=made)
    close(found.cosine, "paths", "cosine")
    close(found.explained, "paths", "explained")
    close(found.anchors * found.anchors[0].sign(), "paths", "anchors")
    close(found.path * found.anchors[0].sign(), "paths", "path")


@pytest.mark.real
@pytest.mark.parametrize("whole", [False, True])
def test_concepts_patched_from_another_prompt(gemma, whole):
    def prompt(text, words):
        return shl.Prompt.from_text(gemma, text, spans={"word": place(text, words)})

    found = shl.concept_patch(
        gemma, [[prompt(*one) for one in item["sources"]] for item in ITEMS],
        [prompt(*item["target"]) for item in ITEMS], [item["words"] for item in ITEMS], seed=golden_concepts.SEED,
        whole=whole, layers=golden_concepts.FIRST, variants="exact", **QUIET,
    )  # fmt: skip
    for name, log_probs in found.conditions().items():
        close(log_probs, "concepts", int(whole), name)


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
