"""Segments: the label is found at the patches its mask covers and nowhere else; a transposed mask is not the mask."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import multimodal as made
import semhub_lens as shl
from jobs import job_on
from seeing import NAMES, PALETTE, Seeing, named_pictures, plain
from semhub_lens.data.media.segments import LAYOUTS, composed_pictures, squared, squared_mask
from semhub_lens.experiments.media.segments import (
    BESIDE,
    read_patches,
    run_logit_lens_segments,
    segment_items,
    segment_result,
    whole_tile,
)
from semhub_lens.experiments.media.vision import NOT_NOISE, QUESTION
from semhub_lens.inputs.media import Media, Tile
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.readers import ProcessorReader
from semhub_lens.model.capture import prompt_states
from semhub_lens.spokes import Projector, Shape, Spoke

WIDE = Tile(tuple(range(10, 16)), 2, 3)


def mask(rows):
    return torch.tensor([[int(c) for c in row] for row in rows.split()]).bool()


@pytest.mark.parametrize(
    ("rows", "positions"),
    [
        ("110000 110000 000000 000000", (10,)),  # the whole first patch
        ("110000 100000 000000 000000", (10,)),  # three of its four pixels
        ("110000 000000 000000 000000", ()),  # exactly half of it
        ("000000 000000 000011 000011", (15,)),
        ("000000 000000 110000 110000", (13,)),  # below, not beside
        ("001111 001111 000000 000000", (11, 12)),
    ],
)
def test_a_patch_counts_where_more_than_half_of_it_is_covered(rows, positions):
    assert WIDE.covered(mask(rows)) == positions


def test_masks_of_any_resolution_and_shape_weigh_pixels_that_lie_across_patches():
    assert WIDE.covered(mask("100")) == (10, 13)  # one row of pixels for two rows of patches
    assert Tile((7, 8), 1, 2).covered(mask("110 110")) == (7,)  # the second patch: half a pixel of one and a half
    assert Tile((7, 8), 1, 2).covered(mask("110 110"), share=0.3) == (7, 8)
    assert Tile((4, 5, 6, 7), 2, 2).covered(mask("11100 11100 11100 00000 00000")) == (4,)  # 6.25 of 6.25, 2.5 * .5
    source = np.random.default_rng(0)
    for _ in range(20):
        rows, columns, height, width = source.integers(1, 9, 4).tolist()
        given = torch.from_numpy(source.random((height, width)) < 0.5)
        fine = given.repeat_interleave(rows, 0).repeat_interleave(columns, 1).float()  # a pixel is rows x columns
        shares = fine.reshape(rows, height, columns, width).mean((1, 3)).flatten()
        expected = tuple(i for i, share in enumerate(shares.tolist()) if share > 0.5)
        assert Tile(tuple(range(rows * columns)), rows, columns).covered(given) == expected


def test_a_transposed_mask_covers_other_patches_also_of_a_picture_that_is_not_square():
    left = torch.zeros(4, 6).bool()
    left[:, :3] = True
    square = Tile((0, 1, 2, 3), 2, 2)
    assert square.covered(left) == (0, 2) and square.covered(left.T) == (0, 1)


def test_a_part_of_a_picture_takes_no_mask():
    with pytest.raises(ValueError, match="shows only a part"):
        Tile((0,), 1, 1, whole=False).covered(mask("1"))
    with pytest.raises(ValueError, match="a mask with pixels"):
        WIDE.covered(torch.zeros(0, 3).bool())


def test_of_a_picture_cut_into_parts_only_the_last_tile_is_the_whole():
    prompt = Prompt.from_processor(made.processor("idefics3"), text="<image> What ?", images=made.picture(0, 112, 112))
    assert [tile.whole for tile in prompt.tiles] == [False] * 4 + [True] and whole_tile(prompt) is prompt.tiles[-1]
    with pytest.raises(ValueError, match="does not tell where"):
        whole_tile(Prompt.from_ids([3, 4]))


def test_squaring_moves_a_mask_with_its_picture():
    picture = Image.new("RGB", (6, 2), "white")
    picture.putpixel((5, 1), (255, 0, 0))
    given = np.zeros((2, 6), dtype=bool)
    given[1, 5] = True
    pixels = np.asarray(squared(picture))
    assert pixels.shape == (6, 6, 3)
    assert np.array_equal((pixels != 255).any(2), squared_mask(given)) and squared_mask(given).sum() == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_of_composed_pictures_are_exactly_where_each_picture_is(layout):
    for item in composed_pictures(named_pictures(), 12, 3, layouts=[layout]):
        picture, masks = item.open()
        pixels = np.asarray(picture)
        assert len(masks) == len(item.labels) == (4 if layout == "quadrants" else 2)
        assert np.array_equal(sum(part.astype(int) for part in masks.values()), np.ones(pixels.shape[:2]))
        for label, part in masks.items():
            assert (pixels[part] == PALETTE[label]).all()


def test_composed_pictures_are_the_same_for_a_seed_and_go_round_the_names():
    first, again, other = (composed_pictures(named_pictures(), 40, seed) for seed in (1, 1, 2))
    assert [item.key for item in first] == [item.key for item in again] != [item.key for item in other]
    assert all(sum(item.labels[0] == name for item in first) == 2 for name in NAMES)
    with pytest.raises(ValueError, match="a different name for each place"):
        composed_pictures(named_pictures(NAMES[:1]), 3, 0)


def legs(model, reader=None, exchanged=False, **settings):
    job = job_on(model, 40, seed=0, progress=False, baseline=False, **settings)
    reader = reader or Seeing(model)
    items, report = segment_items(job, reader, composed_pictures(named_pictures(), 40, 0))
    if exchanged:
        labels = [item.label for item in items]
        items = [
            dataclasses.replace(item, label=labels[i - 7], present=(labels[i - 7],)) for i, item in enumerate(items)
        ]
    return segment_result(job, reader, items, "planted", report).legs


def test_planted_labels_are_found_at_their_patches_and_more_than_elsewhere(tiny_model):
    at_patches, local = legs(tiny_model)
    for leg in (at_patches, local):
        assert leg.verdict.status == "supported" and float(leg.mean[0]) > 1
        assert {check.name: check.holds for check in leg.checks} == {BESIDE: True, NOT_NOISE: True}
    assert shl.figure(local).data


def test_labels_exchanged_between_pictures_are_not_supported(tiny_model):
    assert [leg.verdict.status for leg in legs(tiny_model, exchanged=True)] == ["not supported"] * 2


def test_transposed_masks_lose_half_of_the_patches_and_their_locality(tiny_model):
    local = legs(tiny_model, convention="paper")[1]
    assert local.verdict.status == "not supported" and abs(float(local.mean[0])) < 0.3


def test_a_reader_that_makes_one_vector_of_the_whole_picture_is_not_local(tiny_model):
    class Blurred(Seeing):
        def _regions(self, media):
            regions = super()._regions(media)
            return np.repeat(regions[:1], len(regions), axis=0)

    local = legs(tiny_model, Blurred(tiny_model))[1]
    assert float(local.effect[0].abs().max()) < 1e-4


def test_the_mean_over_patches_is_that_of_a_loop(tiny_model):
    job = job_on(tiny_model, 16, seed=1, progress=False, baseline=False)
    items, _ = segment_items(job, Seeing(tiny_model, 3), composed_pictures(named_pictures(), 16, 1))
    found = read_patches(job, "segments", items, [item.prompt for item in items], NAMES[:4])
    for number in (0, 7):
        for side, places in enumerate((items[number].inside, items[number].outside)):
            one = shl.target_lens(
                tiny_model, [items[number].prompt], [NAMES[:4]] * len(places), read_at=[list(places)], quantities=(),
                progress=False,
            )  # fmt: skip
            torch.testing.assert_close(found[side, :, number], one.log_probs.exp().mean(1).log(), atol=1e-5, rtol=1e-4)


def test_differences_at_one_patch_a_side_are_those_of_the_probabilities(tiny_model):
    job = job_on(tiny_model, 16, seed=1, progress=False, baseline=False, positions=1)
    items, _ = segment_items(job, Seeing(tiny_model, 3), composed_pictures(named_pictures(), 16, 1))
    prompts = [item.prompt for item in items]
    whole = read_patches(job, "segments", items, prompts, NAMES[:4])
    few = read_patches(job, "segments", items, prompts, NAMES[:4], height=False)
    torch.testing.assert_close(few - few[..., :1], whole - whole[..., :1], atol=1e-4, rtol=1e-4)
    assert (few - whole).abs().max() > 0.1, "the height is not read"


def test_three_regions_a_side_leave_out_the_ones_in_the_middle(tiny_model):
    job = job_on(tiny_model, 16, seed=1, progress=False)
    pictures = composed_pictures(named_pictures(), 16, 1, layouts=["columns"])
    items, report = segment_items(job, Seeing(tiny_model, 3), pictures)
    assert {item.inside for item in items} == {(1, 4, 7), (3, 6, 9)} and report.startswith("16 of 16")
    with pytest.raises(ValueError, match="0 of 16 pictures have a segment"):
        segment_items(job, Seeing(tiny_model, 1), pictures)


def test_the_bundled_pictures_need_a_tokenizer_that_keeps_their_names_whole(tiny_model):
    with pytest.raises(ValueError, match="have an English name of one token"):
        run_logit_lens_segments(job_on(tiny_model, 16, reader=Seeing(tiny_model), progress=False))


def test_a_spoke_with_a_vector_for_each_region_knows_where_they_lie(tiny_model):
    class Encoder:
        modality, name, chunks, d, grid = "image", "fake", 9, 4, 3

        def __call__(self, media):
            return torch.ones(len(media), 9, 4)

    width = tiny_model.cfg.d_model
    local = Projector(Shape(9, 4, width, 8, 9, joint=False))
    prompt = Spoke(tiny_model, Encoder(), local).prompt("<image> is a", plain("red"))
    assert prompt.tiles == (Tile(prompt.spans["image"], 3, 3),)
    joint = Spoke(tiny_model, Encoder(), Projector(Shape(9, 4, width, 8, 4)))
    assert joint.prompt("<image> is a", plain("red")).tiles == ()


def llava_items(count=16):
    reader = ProcessorReader(made.processor("llava"), "image", "What {} ?")
    job = job_on(made.bridge("llava"), count, seed=0, progress=False)
    pictures = composed_pictures(named_pictures("dog cat house red blue Yes No".split()), count, 0)  # noqa: SIM905
    return job, reader, pictures, segment_items(job, reader, pictures)


def test_the_patches_of_a_segment_are_those_that_move_when_it_is_painted_over():
    job, reader, pictures, (items, _) = llava_items()
    for picture, item in zip(pictures[:6], items[:6], strict=True):
        image, masks = picture.open()
        pixels = np.asarray(image).copy()
        pixels[masks[item.label]] = (255, 0, 255)
        changed = reader.prompt(QUESTION, Image.fromarray(pixels))
        states = {i: s[0] for batch in prompt_states(job.model, [item.prompt, changed]) for i, s in batch}
        moved = (states[0] - states[1]).norm(dim=-1)
        assert moved[list(item.inside)].min() > moved[list(item.outside)].max()  # the tower's attention mixes a little


def test_a_multimodal_model_goes_through_its_processor():
    job, reader, _, (items, report) = llava_items()
    found = segment_result(job, reader, items, "planted", report)
    assert [leg.effect.shape for leg in found.legs] == [(made.LAYERS + 1, 16)] * 2
    assert len(found.legs[0].checks) == 3 and "LlavaProcessor" in found.provenance.data
    assert isinstance(items[0].prompt.media, Media)
