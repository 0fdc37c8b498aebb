"""Spokes: placeholders, prompts, files of projectors, splits of items."""

import dataclasses

import pytest
import torch

import models
import semhub_lens as shl
from planted_spokes import CHUNKS, D, FakeEncoder
from semhub_lens.base.rng import generator
from semhub_lens.data.media.items import MediaItem, split_items
from semhub_lens.spokes import Card, Projector, Shape, Spoke, load_projector, save_projector
from semhub_lens.spokes.layout import layout, unembedding_hash, vocabulary_hash
from semhub_lens.training.evaluation import accepted
from semhub_lens.training.frozen import input_norm


def make_spoke(model, name="planted", **changes):
    projector = Projector(Shape(CHUNKS, D, 32, hidden=8, embeddings=3), scale=2.0, seed=1)
    found = Card(name, "image", "fake", "tiny", unembedding_hash(model), vocabulary_hash(model), {"steps": 0})
    return Spoke(model, FakeEncoder(), projector, dataclasses.replace(found, **changes))


def test_a_prompt_holds_the_vectors_where_the_text_says_so(tiny_model):
    spoke = make_spoke(tiny_model)
    media = torch.randn(CHUNKS, D, generator=generator(0))
    prompt = spoke.prompt("three plus <image> is red", media)
    plain = shl.Prompt.from_text(tiny_model, "three plus is red")
    start = prompt.spans["image"][0]
    assert prompt.spans["image"] == (start, start + 1, start + 2)
    kept = [i for i in range(len(prompt)) if i not in prompt.spans["image"]]
    assert prompt.ids[kept][:3].tolist() == plain.ids[:3].tolist()
    torch.testing.assert_close(prompt.embeddings["image"].norm(dim=-1), torch.full((3,), 2.0))
    seen = {}
    hooks = [*prompt.hooks, ("blocks.0.hook_resid_pre", lambda t, hook: seen.setdefault("x", t.detach().clone()))]
    tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=hooks)
    torch.testing.assert_close(seen["x"][0, list(prompt.spans["image"])], prompt.embeddings["image"])
    direct = tiny_model.run_with_hooks(prompt.ids[None], return_type="logits")
    other = tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=prompt.hooks, return_type="logits")
    assert not torch.allclose(direct, other)


@pytest.mark.parametrize("text", ["no picture", "<image> and <image>", "<audio> here"])
def test_a_text_without_exactly_one_placeholder_is_refused(tiny_model, text):
    with pytest.raises(ValueError, match="expected exactly one"):
        make_spoke(tiny_model).prompt(text, torch.zeros(CHUNKS, D))


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"weights": "x"}, "language model"), ({"vocabulary": "x"}, "tokenizer"), ({"encoder": "x"}, "encoder")],
)
def test_a_spoke_of_another_model_is_refused(tiny_model, changes, what):
    with pytest.raises(ValueError, match=what):
        make_spoke(tiny_model, **changes)


def test_embeddings_that_do_not_fit_their_span_are_refused():
    with pytest.raises(ValueError, match="embeddings"):
        shl.Prompt(torch.arange(5), {"image": (1, 2)}, embeddings={"image": torch.zeros(3, 4)})


@pytest.mark.parametrize(("codes", "rank"), [(0, 0), (7, 0), (7, 4)])
@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_a_projectors_file_gives_back_the_same_vectors(tmp_path, joint, standardised, codes, rank):
    kind = {"joint": joint, "standardised": standardised, "codes": codes, "rank": rank}
    shape = Shape(CHUNKS, D, 8, 6, 3 if joint else CHUNKS, **kind)
    projector = Projector(shape, scale=5.0, seed=1)
    if standardised:
        projector.standardise(3 + 2 * torch.randn(9, CHUNKS, D, generator=generator(5)))
    projector = projector.rounded()
    card = Card("x", "image", "fake", "tiny", "w", "v", {"steps": 7})
    loaded, read = load_projector(save_projector(projector, card, tmp_path / "x.safetensors"))
    features = torch.randn(4, CHUNKS, D, generator=generator(0))
    assert torch.equal(loaded(features), projector(features))
    assert read == card


def test_a_changed_byte_in_a_projectors_file_is_noticed(tmp_path):
    projector = Projector(Shape(CHUNKS, D, 8, hidden=6, embeddings=3), seed=1)
    path = save_projector(projector, Card("x", "image", "fake", "tiny", "w", "v", {}), tmp_path / "x.safetensors")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="corrupted"):
        load_projector(path)


def test_an_unknown_spoke_names_what_there_is(tiny_model):
    with pytest.raises(ValueError, match="There is no spoke 'x'"):
        shl.spokes.load("x", tiny_model)


def test_regions_of_a_local_projector_depend_on_their_own_chunk_and_the_mean():
    projector = Projector(Shape(4, D, 8, hidden=6, embeddings=4, joint=False), seed=0)
    features = torch.randn(1, 4, D, generator=generator(0))
    swapped = features[:, [1, 0, 2, 3]]
    torch.testing.assert_close(projector(features)[:, [1, 0, 2, 3]], projector(swapped))


def test_standardised_features_have_no_scale_of_their_own():
    projector = Projector(Shape(CHUNKS, D, 8, hidden=6, embeddings=3, standardised=True), seed=0)
    features = torch.randn(50, CHUNKS, D, generator=generator(0))
    projector.standardise(features)
    before = projector(features)
    other = features * 2.0 ** torch.arange(-6, D - 6) + 7
    assert not torch.allclose(projector(other), before, atol=1e-2)
    projector.standardise(other)
    torch.testing.assert_close(projector(other), before, atol=1e-3, rtol=1e-3)


def test_input_norm_is_the_mean_norm_of_the_embedding_layer():
    model = models.tiny("bridge")
    ids = layout(model, "<text>three plus two", "text", 0)[0]
    states = model.W_E[torch.tensor(ids[1:])].detach()
    assert input_norm(model, ["three plus two"]) == pytest.approx(float(states.norm(dim=-1).mean()), rel=1e-5)


def media_items():
    return [
        MediaItem(f"{c}-{s}-{i}", s, c, {"en": (c,)}, "", str)
        for c in map(str, range(60)) for s in ("photo", "drawing") for i in range(2)
    ]  # fmt: skip


def test_splits_keep_what_they_promise():
    items = media_items()
    split = split_items(items, seed=1, held_styles=())
    parts = split.parts()
    assert sorted(i for indices in parts.values() for i in indices) == list(range(len(items)))
    trained = {items[i].concept for i in split.train}
    assert not trained & {items[i].concept for i in split.new_concept}
    assert len({items[i].concept for i in split.new_concept}) == 9
    pairs = {(items[i].concept, items[i].style) for i in split.train}
    assert all(items[i].concept in trained and (items[i].concept, items[i].style) not in pairs for i in split.new_style)
    assert all((items[i].concept, items[i].style) in pairs for i in split.new_item)
    assert not parts.pop("choosing") and min(map(len, parts.values())) > 0


def test_a_held_style_is_never_trained():
    items = media_items()
    split = split_items(items, seed=1, held_styles=("photo",))
    assert {items[i].style for i in split.train} == {"drawing"}


def test_accepted_tokens_are_the_first_of_every_spelling(tiny_model):
    found = shl.printable(tiny_model.tokenizer, accepted(tiny_model, ["dog", "red cat"]))
    assert set(found) == {"dog", "␣dog", "red", "␣red"}
