"""Spokes: placeholders, planted pictures that must be found, null runs that must not, checkpoints, files."""

import dataclasses

import pandas as pd
import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.data.media import MediaItem, Split, split_items
from semhub_lens.results import unnamed
from semhub_lens.spokes import (
    Card,
    Course,
    Lesson,
    Projector,
    Settings,
    Shape,
    Spoke,
    SpokeEvaluation,
    TrainingCurve,
    evaluate,
    load_projector,
    run_course,
    save_projector,
    train,
)
from semhub_lens.spokes.evaluation import accepted
from semhub_lens.spokes.frozen import fingerprint, frozen, input_norm, layout, vocabulary_hash
from semhub_lens.spokes.teacher import Head, Teacher, batch_loss
from semhub_lens.stats import generator

NAMES = ("dog", "cat", "house", "red", "blue", "green", "two", "three", "nine", "five")
TEMPLATES = {"en": ("<image> this is a", "<image> plus")}
CHUNKS, D = 2, 12


class FakeEncoder:
    """Features are what it is given."""

    modality = "image"
    name = "fake"
    chunks = CHUNKS
    d = D

    def __call__(self, media):
        return torch.stack(list(media))


def planted(per_name=6, seed=0):
    """Features of a linear world: a direction for every name, and noise."""
    source = generator(seed)
    directions = torch.randn(len(NAMES), CHUNKS, D, generator=source)
    labels = torch.arange(len(NAMES)).repeat_interleave(per_name)
    noise = 0.2 * torch.randn(len(labels), CHUNKS, D, generator=source)
    return directions[labels] + noise, labels


def lesson(features, labels):
    return Lesson(features[:, None], [[("en", NAMES[i])] for i in labels], TEMPLATES, "image")


SHORT = Settings(steps=200, batch=20, learning_rate=5e-3, warmup=5, candidates=40, dropout=0.1, seed=3)


def learn(model, settings=SHORT, **options):
    features, labels = planted()
    held = torch.arange(len(labels)) % 6 == 5
    projector, curve = train(
        model, lesson(features[~held], labels[~held]), settings, hidden=32, embeddings=2, progress=False, **options
    )
    items = [MediaItem(f"{i}", "plain", f"{NAMES[k]} {i}", {"en": (NAMES[k],)}, "", str) for i, k in enumerate(labels)]
    chosen = held.nonzero()[:, 0].tolist()
    result = evaluate(
        model, projector, features[held], [items[i] for i in chosen], ["new_item"] * len(chosen),
        templates={"en": TEMPLATES["en"][0]}, modality="image",
    )  # fmt: skip
    return projector, curve, result


def test_training_finds_the_names_of_planted_pictures_and_shuffled_pairs_do_not(tiny_model):
    _, curve, result = learn(tiny_model)
    _, _, null = learn(tiny_model, dataclasses.replace(SHORT, shuffle_pairs=True))
    assert curve.smooth[-1] < 0.5 * curve.smooth[10]
    assert result.accuracy(1, "new_item").mean > 0.8
    assert null.accuracy(1, "new_item").mean < 0.4
    assert result.accuracy(1, "new_item", level="blind").mean <= 0.2
    assert result.accuracy(1, "new_item", level="mismatched").mean < 0.4


def test_a_training_leaves_the_language_model_as_it_was(tiny_model):
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in tiny_model.named_parameters()}
    learn(tiny_model, dataclasses.replace(SHORT, steps=2))
    for name, parameter in tiny_model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1]
        assert parameter.grad is None


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_weights(tiny_model, tmp_path, monkeypatch):
    settings = dataclasses.replace(SHORT, steps=30)
    whole, curve, _ = learn(tiny_model, settings, every=10)
    draw = Teacher.draw

    def dying(self, step):
        if step == 17:
            raise Killed
        return draw(self, step)

    monkeypatch.setattr(Teacher, "draw", dying)
    with pytest.raises(Killed):
        learn(tiny_model, settings, every=10, folder=tmp_path)
    monkeypatch.setattr(Teacher, "draw", draw)
    resumed, again, _ = learn(tiny_model, settings, every=10, folder=tmp_path)
    assert torch.equal(curve.losses, again.losses)
    finished, _, _ = learn(tiny_model, settings, every=10, folder=tmp_path)  # killed after its last step
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert torch.equal(value, finished.state_dict()[name]), name


def test_a_folder_of_another_training_is_refused(tiny_model, tmp_path):
    learn(tiny_model, dataclasses.replace(SHORT, steps=2), folder=tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        learn(tiny_model, dataclasses.replace(SHORT, steps=2, seed=4), folder=tmp_path)


def test_the_batch_loss_is_the_cross_entropy_of_the_models_own_logits(tiny_model):
    features, labels = planted()
    teacher = Teacher(tiny_model, lesson(features, labels), SHORT, 2)
    candidates = torch.arange(int(tiny_model.cfg.d_vocab))
    rows = [teacher.row("<image> this is a", "dog"), teacher.row("<image> plus", "red cat")]
    vectors = torch.randn(2, 2, 32, generator=generator(1))
    with torch.no_grad(), frozen(tiny_model) as lm:
        losses = batch_loss(lm, Head(tiny_model, candidates), vectors, rows)
    for (ids, places, start), own, loss in zip(rows, vectors, losses, strict=True):
        prompt = shl.Prompt(torch.tensor(ids), {"image": places}, embeddings={"image": own})
        with torch.no_grad():
            logits = tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=prompt.hooks, return_type="logits")[0]
        slow = torch.stack([-logits.log_softmax(-1)[j - 1, ids[j]] for j in range(start, len(ids))]).mean()
        torch.testing.assert_close(loss, slow, rtol=1e-4, atol=1e-4)


def test_gradients_reach_only_the_vectors(tiny_model):
    row = Teacher(tiny_model, lesson(*planted()), SHORT, 2).row("<image> plus", "dog")
    vectors = torch.randn(1, 2, 32, generator=generator(1), requires_grad=True)
    with frozen(tiny_model) as lm:
        batch_loss(lm, Head(tiny_model, torch.arange(int(tiny_model.cfg.d_vocab))), vectors, [row]).sum().backward()
    assert vectors.grad is not None and bool((vectors.grad.norm(dim=-1) > 0).all())
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def make_spoke(model, name="planted", **changes):
    projector = Projector(Shape(CHUNKS, D, 32, hidden=8, embeddings=3), scale=2.0, seed=1)
    found = Card(name, "image", "fake", "tiny", fingerprint(model), vocabulary_hash(model), {"steps": 0})
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


@pytest.mark.parametrize("joint", [True, False])
def test_a_projectors_file_gives_back_the_same_vectors(tmp_path, joint):
    shape = Shape(CHUNKS, D, 8, hidden=6, embeddings=3 if joint else CHUNKS, joint=joint)
    projector = Projector(shape, scale=5.0, seed=1).rounded()
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
    assert min(map(len, parts.values())) > 0


def test_a_held_style_is_never_trained():
    items = media_items()
    split = split_items(items, seed=1, held_styles=("photo",))
    assert {items[i].style for i in split.train} == {"drawing"}


def test_accepted_tokens_are_the_first_of_every_spelling(tiny_model):
    found = shl.printable(tiny_model.tokenizer, accepted(tiny_model, ["dog", "red cat"]))
    assert set(found) == {"dog", "␣dog", "red", "␣red"}


def test_ranks_count_the_tokens_before_the_best_accepted_one(tiny_model):
    projector = Projector(Shape(CHUNKS, D, 32, hidden=8, embeddings=2), scale=3.0, seed=2)
    features, _ = planted(per_name=1)
    items = [MediaItem(n, "plain", n, {"en": (n,)}, "", str) for n in NAMES]
    templates = {"en": "<image> plus"}
    splits = ["train"] * len(items)
    result = evaluate(tiny_model, projector, features, items, splits, templates=templates, modality="image")
    for i in (0, 7):
        spoke = Spoke(tiny_model, FakeEncoder(), projector)
        prompt = spoke.prompt("<image> plus", features[i])
        with torch.no_grad():
            last = tiny_model.run_with_hooks(prompt.ids[None], fwd_hooks=prompt.hooks, return_type="logits")[0, -1]
        best = max(last[j] for j in accepted(tiny_model, [NAMES[i]]))
        assert result.rank[i] == sum(float(x) > float(best) for x in last)
    assert len(result.summary()) == 6
    assert result.to_frame().shape[0] == len(items)


def test_what_a_null_also_finds_is_taken_off(tiny_model):
    _, _, result = learn(tiny_model, dataclasses.replace(SHORT, steps=2))
    ranks = torch.arange(len(result.keys)).float()
    found, null = dataclasses.replace(result, rank=ranks), dataclasses.replace(result, rank=ranks.flip(0))
    assert found.beyond(null, 3, "new_item").mean == 0
    assert found.beyond(dataclasses.replace(result, rank=ranks + 9), 3, "new_item").mean == pytest.approx(
        3 / len(ranks)
    )
    with pytest.raises(ValueError, match="lacks 1 of"):
        found.beyond(dataclasses.replace(null, keys=("x", *null.keys[1:])), 3, "new_item")


def planted_course():
    features, labels = planted()
    items = [
        MediaItem(f"{i}", "plain", NAMES[k], {"en": (NAMES[k],), "fr": ("chat",)}, "", str)
        for i, k in enumerate(labels)
    ]
    held = [i for i in range(len(items)) if i % 6 == 5]
    split = Split(tuple(i for i in range(len(items)) if i % 6 < 5), tuple(held[::2]), tuple(held[1::2]), ())
    templates = {"en": TEMPLATES["en"], "fr": ("<image> is",)}
    return Course("image", "fake", items, features[:, None].half(), split, templates, {"plain": len(items)})


def test_a_course_leaves_a_projector_that_a_spoke_takes_and_its_tables(tiny_model, tmp_path):
    settings = dataclasses.replace(SHORT, steps=12)
    projector, curve, result = run_course(
        tiny_model, planted_course(), tmp_path, name="mine", settings=settings, hidden=16, embeddings=2, every=5,
        progress=False,
    )  # fmt: skip
    loaded, card = load_projector(tmp_path / "mine.safetensors")
    spoke = Spoke(tiny_model, FakeEncoder(), loaded, card)
    media = torch.randn(CHUNKS, D, generator=generator(0))
    with torch.no_grad():
        torch.testing.assert_close(spoke.embed(media), projector(media[None])[0])
    assert [step for step, _ in curve.checks["new_item"]] == [5, 10, 12]
    frame = pd.read_csv(tmp_path / "curve.csv")
    assert frame.groupby("split").size().to_dict() == {"train": 12, "new_item": 3, "new_style": 3}
    again = SpokeEvaluation.load(tmp_path / "evaluation.safetensors")
    assert torch.equal(again.rank, result.rank) and again.keys == result.keys
    assert len(pd.read_csv(tmp_path / "items.csv")) == len(result.rank) == 60
    assert list(shl.figure(curve).data[1].y) == pytest.approx(curve.smooth.tolist())


def test_the_smooth_curve_is_the_mean_of_the_last_steps():
    curve = TrainingCurve(torch.arange(6.0), {}, 3, provenance=unnamed())
    assert curve.smooth.tolist() == [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]


def test_shuffled_pairs_give_every_item_the_names_of_another(tiny_model):
    features, labels = planted()
    own = lesson(features, labels)
    teacher = Teacher(tiny_model, own, dataclasses.replace(SHORT, shuffle_pairs=True), 2)
    straight = Teacher(tiny_model, own, SHORT, 2)
    assert straight.named == list(own.names)
    assert sorted(map(str, teacher.named)) == sorted(map(str, own.names))
    assert sum(a == b for a, b in zip(teacher.named, own.names, strict=True)) < 0.25 * len(own.names)


def test_candidates_hold_every_token_of_the_names(tiny_model):
    teacher = Teacher(tiny_model, lesson(*planted()), dataclasses.replace(SHORT, candidates=1), 2)
    rows = [teacher.row("<image> plus", name) for name in NAMES]
    assert {token for ids, _, start in rows for token in ids[start:]} <= set(teacher.candidates().tolist())
