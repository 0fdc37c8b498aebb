"""Steering halves of pictures and patching between pictures and words: planted effects found, exchanged ones gone."""

import dataclasses

import pytest
import torch

import models
import multimodal as made
import semhub_lens as shl
from jobs import job_on
from seeing import NAMES, PALETTE, Seeing, plain
from semhub_lens.data.media.colours import COLOURS, two_colour_pictures
from semhub_lens.experiments import steering_legs
from semhub_lens.experiments.media import vision_steering
from semhub_lens.experiments.media.patching import (
    NO_PATCH,
    RANDOM_STATES,
    WAYS,
    patch_items,
    patching_result,
    run_patching,
)
from semhub_lens.experiments.media.vision import NOT_NOISE
from semhub_lens.experiments.media.vision_steering import (
    ADDED,
    ELSEWHERE,
    KEPT,
    MARGIN,
    NEW,
    OTHER,
    REPLACED,
    colour_answers,
    colour_item,
    from_entry_on,
    mask_of,
    run_steering,
    steering_result,
)
from semhub_lens.experiments.steering_legs import BEYOND, DAMAGE, mean_norms
from semhub_lens.inputs.readers import ProcessorReader
from semhub_lens.inputs.tokens import target_ids
from semhub_lens.interventions.sweep_result import LAST

HUES = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 160, 0)}
PICTURES = two_colour_pictures(list(HUES), 24, seed=0)


def image_norms(job, prompts):
    return mean_norms(job, prompts, [prompt.spans["image"] for prompt in prompts])


def items_of(reader, count=16, pictures=PICTURES, third=None):
    found = []
    for i, picture in enumerate(pictures[:count]):
        new = third or next(name for name in HUES if name not in (picture.left, picture.right))
        found.append(colour_item(reader, picture, ("left", "right")[i % 2], new, ("dog", "house")))
    return found


def seeing(model, **settings):
    return Seeing(model, palette=HUES, **settings)


def job_of(model, **settings):
    return job_on(model, 16, progress=False, **({"baseline": False} | settings))


def test_the_halves_of_a_picture_lie_at_the_columns_of_its_grid(tiny_model):
    left, right = items_of(seeing(tiny_model), 2)
    assert (left.asked, left.elsewhere) == ((1, 3), (2, 4)) and (right.asked, right.elsewhere) == ((2, 4), (1, 3))
    assert left.kept == PICTURES[0].left and right.kept == PICTURES[1].right
    with pytest.raises(ValueError, match="cannot be split in a left and a right half"):
        items_of(seeing(tiny_model, side=1), 1)


def test_two_colour_pictures_have_their_colours_where_they_say():
    for picture in PICTURES:
        opened = picture.open()
        for side, x in (("left", 3), ("right", 60)):
            own = min(HUES, key=lambda name: sum(abs(a - b) for a, b in zip(opened.getpixel((x, 9)), HUES[name])))  # noqa: B905
            assert own == getattr(picture, side) and bool(picture.mask(side)[9, x])
        assert picture.left != picture.right


@pytest.mark.parametrize("manner", [ADDED, REPLACED])
def test_edits_lie_at_the_patches_of_the_half_from_an_entry_on(tiny_model, manner):
    items = items_of(seeing(tiny_model), 3)
    prompts = [item.prompt for item in items]
    job = job_of(tiny_model)
    means = image_norms(job, prompts)
    plain_states = run(tiny_model, prompts)
    expected = torch.stack([s[:, 1:5].norm(dim=-1).mean(1) for s in plain_states], dim=1)
    torch.testing.assert_close(means, expected.mean(1))
    vectors = torch.nn.functional.normalize(torch.randn(3, tiny_model.cfg.d_model, generator=shl.base.rng.generator(0)))
    recipe = from_entry_on(job, means, mask_of(prompts, [item.asked for item in items]), manner)
    edited = run(tiny_model, prompts, recipe(vectors * means[2], 0.5 if manner == ADDED else 1.0, 2))
    for i, (item, before, after) in enumerate(zip(items, plain_states, edited, strict=True)):
        untouched = [p for p in range(len(item.prompt)) if p not in item.asked]
        torch.testing.assert_close(after[:2], before[:2])
        torch.testing.assert_close(after[2, untouched], before[2, untouched])
        for place in item.asked:
            change = 0.5 * means[2] * vectors[i] if manner == ADDED else means[2] * vectors[i] - before[2, place]
            torch.testing.assert_close(after[2, place], before[2, place] + change, atol=1e-4, rtol=1e-4)
            if manner == REPLACED:
                torch.testing.assert_close(after[3, place], means[3] * vectors[i], atol=1e-4, rtol=1e-4)
    assert [name for name, _ in recipe(vectors, 1.0, 2)] == [
        "blocks.2.hook_resid_pre", "blocks.2.hook_resid_post",
    ]  # fmt: skip


def run(model, prompts, hooks=()):
    from semhub_lens.model.capture import prompt_states

    found = {i: states for batch in prompt_states(model, prompts, hooks) for i, states in batch}
    return [found[i] for i in range(len(prompts))]


def test_answers_are_the_most_probable_next_tokens(tiny_model):
    items = items_of(seeing(tiny_model))
    found = colour_answers(job_of(tiny_model), items)(())
    for i in (0, 5):
        hooks = items[i].prompt.hooks
        with torch.no_grad():
            logits = tiny_model.run_with_hooks(items[i].prompt.ids[None], fwd_hooks=hooks)[0, -1].float()
        new, kept = (list(target_ids(tiny_model.tokenizer, word)) for word in (items[i].new, items[i].kept))
        margin = logits[new].logsumexp(0) - logits[kept].logsumexp(0)
        assert float(found[MARGIN][i]) == pytest.approx(float(margin), abs=1e-4)
        top = int(logits.argmax())
        assert [bool(found[name][i]) for name in (NEW, KEPT, OTHER)] == [
            top in new, top in kept, top not in new + kept,
        ]  # fmt: skip
    assert not found[DAMAGE].any()


def planted_reader(job, items, prompts=None):
    """A model that would answer with the colour it reads at the patches of the half that is asked about."""
    rows = [shl.direction.unembedding(job.model, f" {i.new}", f" {i.kept}") for i in items]
    towards = torch.nn.functional.normalize(torch.stack(rows), dim=-1)
    shown = [item.prompt for item in items] if prompts is None else prompts

    def measure(hooks):
        states = run(job.model, shown, hooks)
        seen = torch.stack([s[1, list(i.asked)].mean(0) for s, i in zip(states, items, strict=True)])
        margin = (seen * towards).sum(1)
        new = (margin > 0).float()
        return {MARGIN: margin, NEW: new, KEPT: 1 - new, OTHER: 0 * new, DAMAGE: 0 * new}

    return measure


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setattr(vision_steering, "colour_answers", planted_reader)
    monkeypatch.setattr(vision_steering, "STRENGTHS", (0.5, 1.0))
    monkeypatch.setattr(steering_legs, "spread", lambda last, count: (1,))


def test_a_planted_reader_of_the_half_is_found_and_the_other_half_does_nothing(planted):
    model = models.tiny()
    found = steering_result(job_of(model), seeing(model), items_of(seeing(model)))
    graded = found.legs[0]
    assert [leg.verdict.status for leg in found.legs[:3:2]] == ["supported"] * 2
    held = {check.name for check in graded.checks if check.holds}
    assert {ELSEWHERE, *(name for condition, name in BEYOND.items() if condition != LAST)} <= held
    shift = found.extras[0].effect(MARGIN)[0]
    expected = image_norms(job_of(model), [i.prompt for i in items_of(seeing(model))])[1]
    torch.testing.assert_close(shift[1], expected.expand(16), atol=1e-3, rtol=1e-3)  # strength 1: one mean norm


def test_steering_towards_another_colour_than_the_one_that_is_read_is_not_found(planted, monkeypatch):
    model = models.tiny()
    items = items_of(seeing(model))
    answers = planted_reader(job_of(model), items)
    monkeypatch.setattr(vision_steering, "colour_answers", lambda job, given, prompts=None: answers)
    wrong = [dataclasses.replace(item, new="cat", kept="house") for item in items]
    leg = steering_result(job_of(model), seeing(model), wrong).legs[0]
    assert leg.verdict.status != "supported"


def test_a_multimodal_model_is_steered_through_its_processor():
    model = made.bridge("llava")
    reader = ProcessorReader(made.processor("llava"), "image", "What {} ?")
    pictures = two_colour_pictures(["red", "blue"], 16, seed=0)
    items = items_of(reader, pictures=pictures, third="cat")
    found = steering_result(job_of(model), reader, items)
    added, replaced = found.extras
    assert len(found.legs) == 4 and added.strengths == vision_steering.STRENGTHS and replaced.strengths == (1.0,)
    assert not added.effect(MARGIN, LAST).any() and bool((added.effect(MARGIN).abs().mean(-1) > 1e-4).all())
    rows = [added.names.index(name) for name in (NEW, KEPT, OTHER)]
    assert torch.equal(added.scores[:, :, :, rows].sum(3), torch.ones(added.scores[:, :, :, 0].shape))
    assert [check.name for check in found.legs[0].checks] == [*BEYOND.values(), ELSEWHERE]
    assert "of the questions, with noise" in found.notes[1] and shl.figure(found.legs[0]).data


def test_too_few_colour_words_are_refused(tiny_model):
    with pytest.raises(ValueError, match=r"5 one-token colour words .* has 3: red, green, blue"):
        run_steering(job_of(tiny_model, reader=seeing(tiny_model)))
    assert len(COLOURS) >= vision_steering.FEWEST_COLOURS


FRAME = "dog is dog cat is cat {} is"
WORDS = [name for name in NAMES if name not in ("dog", "cat")]


def patched(model, exchanged=False, **settings):
    """Patches into a model whose last position reads what the span's first block writes: the tiny model as it is."""
    reader = Seeing(model)
    shown = WORDS[5:] + WORDS[:5] if exchanged else WORDS
    items = patch_items(model, reader, WORDS, [plain(PALETTE[name]) for name in shown], 0, FRAME)
    return patching_result(job_of(model, **settings), reader, items)


def test_patches_between_pictures_and_words_equal_runs_by_hand(tiny_model):
    found = patched(tiny_model)
    assert [leg.title for leg in found.legs] == [way.title for way in WAYS]
    items = patch_items(tiny_model, Seeing(tiny_model), WORDS, [plain(PALETTE[name]) for name in WORDS], 0, FRAME)
    assert all(i != into for i, into in enumerate(items.into)) and items.words[0].spans["word"] == (7,)
    pictures, words = run(tiny_model, items.pictures), run(tiny_model, items.words)
    names = [f"blocks.{i}.hook_resid_pre" for i in range(3)] + ["blocks.2.hook_resid_post"]
    for source in (0, 6):
        for leg, given, spans in zip(
            found.legs, (pictures, words, pictures), ((7,), (1, 2, 3, 4), (1, 2, 3, 4)), strict=True
        ):
            into = (items.words if spans == (7,) else items.pictures)[items.into[source]]
            states = given[source][:, [7] if given is words else [1, 2, 3, 4]]

            def write(entry, states=states, spans=spans):
                def hook(activation, hook):
                    out = activation.clone()
                    new = (
                        states[entry] if states.shape[1] == len(spans) else states[entry].mean(0).expand(len(spans), -1)
                    )
                    out[:, list(spans)] = new.to(out)
                    return out

                return hook

            edits = [(names[entry], write(entry)) for entry in range(1, 4)]
            with torch.no_grad():
                logits = tiny_model.run_with_hooks(into.ids[None], fwd_hooks=[*into.hooks, *edits])[0, -1].float()
            own = logits.log_softmax(-1)[list(target_ids(tiny_model.tokenizer, WORDS[source]))].logsumexp(0)
            patch = leg.controls[leg.control_names.index(NO_PATCH), 1, source] + unpatched(tiny_model, into, source)
            assert float(patch) == pytest.approx(float(own), abs=1e-4)


def unpatched(model, prompt, source):
    with torch.no_grad():
        logits = model.run_with_hooks(prompt.ids[None], fwd_hooks=prompt.hooks)[0, -1].float()
    return logits.log_softmax(-1)[list(target_ids(model.tokenizer, WORDS[source]))].logsumexp(0)


def test_a_patch_of_the_last_entry_changes_nothing_and_controls_are_listed(tiny_model):
    found = patched(tiny_model, baseline=True)
    for leg, way in zip(found.legs, WAYS, strict=True):
        assert not leg.effect[-1].any() and bool((leg.effect[1].abs() > 1e-3).any())
        listed = [check.name for check in leg.checks]
        assert listed[:2] == [RANDOM_STATES, NO_PATCH] and (NOT_NOISE in listed) == (way.read == "image")
        assert len(leg.labels) == len(WORDS) and len(listed) == 3 + (way.read == "image")


def test_patching_goes_through_a_processor_too():
    model = made.bridge("llava")
    reader = ProcessorReader(made.processor("llava"), "image", "What {} ?")
    names = made.WORDS
    pictures = [made.picture(i) for i in range(len(names))]
    items = patch_items(model, reader, names, pictures, 0, "house is {} is")
    with pytest.raises(ValueError, match="at least 16 items"):
        patching_result(job_of(model), reader, items)
    leg_items = patch_items(model, reader, names * 2, pictures * 2, 0, "house is {} is")
    assert [len(p.spans["word"]) for p in leg_items.words] == [1] * len(leg_items.words)


def test_the_bundled_pictures_need_a_tokenizer_that_keeps_their_names_whole(tiny_model):
    with pytest.raises(ValueError, match="have an English name of one token"):
        run_patching(job_of(tiny_model, reader=Seeing(tiny_model)))
