"""A COCO folder: masks of all three forms, rows and columns the right way round, captions to nouns."""

import json

import numpy as np
import pytest
from PIL import Image

from jobs import job_on
from semhub_lens.data.media.coco import caption_nouns, coco_captions, coco_segments, decoded, read_coco, run_lengths
from semhub_lens.experiments.media.segments import _pictures as segment_pictures
from semhub_lens.experiments.media.vision import pictures_of

CATEGORIES = {1: "dog", 2: "cat", 3: "house", 4: "traffic light"}
HEIGHT, WIDTH = 4, 6


def runs_of(mask):
    """Run lengths of a mask down its columns, pixel by pixel."""
    runs, value = [0], 0
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if mask[row, column] != value:
                runs.append(0)
                value = 1 - value
            runs[-1] += 1
    return runs


def packed(runs):
    """Run lengths as characters; from the fourth on the difference to the run two before."""
    out = ""
    for i, run in enumerate(runs):
        number = run - runs[i - 2] if i > 2 else run
        while True:
            low, number = number % 32, number // 32
            done = (number == 0 and low < 16) or (number == -1 and low >= 16)
            out += chr(48 + low + (0 if done else 32))
            if done:
                break
    return out


def mask(rows):
    return np.array([[int(c) for c in row] for row in rows.split()], dtype=bool)


@pytest.mark.parametrize(
    ("text", "runs"),
    [("23X1", [2, 3, 40]), ("9393O", [9, 3, 9, 6, 8]), ("", []), ("?0", [15, 0]), ("`0", [16])],
)
def test_compressed_run_lengths_by_hand(text, runs):
    assert run_lengths(text) == runs and run_lengths(text.encode()) == runs


@pytest.mark.parametrize("text", ["2 3", "P", "2p"])
def test_text_that_is_no_code_or_breaks_off_is_refused(text):
    with pytest.raises(ValueError, match="not compressed run lengths"):
        run_lengths(text)


def test_runs_go_down_the_columns():
    expected = mask("00000 00010 01010 01010 01010 00010 00000")
    expected[0, 3], expected[6, 3] = True, False  # column 1: rows 2 to 4, column 3: rows 0 to 5
    for counts in ("9393O", [9, 3, 9, 6, 8]):
        found = decoded({"counts": counts, "size": [7, 5]}, 7, 5)
        assert np.array_equal(found, expected)
    transposed = decoded({"counts": [9, 3, 9, 6, 8], "size": [5, 7]}, 5, 7)
    assert not np.array_equal(transposed, expected.T)


def test_masks_come_back_from_both_kinds_of_run_lengths():
    source = np.random.default_rng(0)
    for _ in range(60):
        height, width = source.integers(1, 70, 2).tolist()
        given = source.random((height, width)) < source.random()
        given[: height // 2, : width // 3] = True
        runs = runs_of(given)
        assert run_lengths(packed(runs)) == runs
        for counts in (runs, packed(runs)):
            assert np.array_equal(decoded({"counts": counts, "size": [height, width]}, height, width), given)


@pytest.mark.parametrize(
    ("polygons", "rows"),
    [
        ([[1, 0, 4, 0, 4, 2, 1, 2]], "011100 011100 000000 000000"),  # x first: three wide, two high
        ([[0, 0, 1, 0, 1, 4, 0, 4], [5, 3, 6, 3, 6, 4, 5, 4]], "100000 100000 100000 100001"),
        ([[0, 0, 4, 0, 0, 4]], "111100 111000 110000 100000"),
    ],
)
def test_polygons_cover_the_pixels_whose_centres_they_hold(polygons, rows):
    assert np.array_equal(decoded(polygons, HEIGHT, WIDTH), mask(rows))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [1, 2], "size": [4, 6]}, "do not fit a picture"),
        ({"counts": [12, 12], "size": [6, 4]}, "do not fit a picture"),
        ({"counts": [25, -1], "size": [4, 6]}, "do not fit a picture"),
        ([[1, 2, 3, 4]], "at least three corners"),
        ("9393O", "list of polygons"),
    ],
)
def test_segmentations_that_fit_nothing_are_refused(segmentation, message):
    with pytest.raises(ValueError, match=message):
        decoded(segmentation, HEIGHT, WIDTH)


def box(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def folder(root, pictures, *, captions=True, subfolder="val", name="val"):
    """A COCO folder; `pictures` are lists of (category, segmentation) and captions."""
    (root / "annotations").mkdir(parents=True)
    (root / subfolder).mkdir(parents=True, exist_ok=True)
    images, annotations, written = [], [], []
    for i, (segments, texts) in enumerate(pictures):
        Image.new("RGB", (WIDTH, HEIGHT), (i, 0, 0)).save(root / subfolder / f"{i}.png")
        images.append({"id": 100 + i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH})
        for category, segmentation in segments:
            annotations.append({"image_id": 100 + i, "category_id": category, "segmentation": segmentation})
        written += [{"image_id": 100 + i, "caption": text} for text in texts]
    categories = [{"id": key, "name": value} for key, value in CATEGORIES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"annotations/instances_{name}.json").write_text(json.dumps(content))
    if captions:
        (root / f"annotations/captions_{name}.json").write_text(json.dumps({"annotations": written}))
    return root


RIGHT = {"counts": [12, 12], "size": [HEIGHT, WIDTH]}
PICTURES = [
    ([(1, box(0, 0, 3, 4)), (2, RIGHT), (1, box(5, 0, 1, 1))], ["Two dogs beside a CAT.", "a house"]),
    ([(1, box(0, 0, 2, 2))], ["a catalogue"]),
    ([(3, box(0, 0, 6, 2)), (1, box(0, 2, 6, 2))], ["A house with a dog."]),
    ([], ["nothing"]),
]


@pytest.mark.parametrize("subfolder", ["val", "images/val", "images", "."])
def test_segments_of_one_category_are_joined_and_pictures_without_any_left_out(tmp_path, subfolder):
    read = read_coco(folder(tmp_path, PICTURES, subfolder=subfolder))
    assert [list(picture.segments) for picture in read] == [["dog", "cat"], ["dog"], ["house", "dog"]]
    masks = read[0].masks()
    assert np.array_equal(masks["dog"], mask("111001 111000 111000 111000"))
    assert np.array_equal(masks["cat"], mask("000111 000111 000111 000111"))
    (first, *_) = coco_segments(tmp_path)
    opened, masks = first.open()
    assert first.labels == ("cat", "dog") and opened.size == (WIDTH, HEIGHT) and masks["cat"].shape == (HEIGHT, WIDTH)


def test_nouns_are_categories_of_the_picture_that_a_caption_names_the_rarest_first(tmp_path):
    items = coco_captions(folder(tmp_path, PICTURES))
    assert [item.names for item in items] == [{"en": ("cat", "dog")}, {"en": ("house", "dog")}]
    assert [item.key for item in items] == ["0.png", "2.png"] and items[0].open().getpixel((0, 0)) == (0, 0, 0)
    assert caption_nouns(["Traffic lights and buses"], ["traffic light", "bus", "us"]) == ["traffic light", "bus"]


def test_a_file_in_the_folder_may_be_named_and_must_be_where_there_are_several(tmp_path):
    folder(tmp_path, PICTURES)
    other = tmp_path / "annotations/instances_train.json"
    other.write_text((tmp_path / "annotations/instances_val.json").read_text())
    with pytest.raises(ValueError, match=r"several files \(instances_train.json, instances_val.json\)"):
        read_coco(tmp_path)
    assert len(read_coco(tmp_path / "annotations/instances_val.json")) == 3
    with pytest.raises(ValueError, match="is in none of"):
        read_coco(other)


def test_folders_that_are_not_complete_say_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="there is none"):
        read_coco(tmp_path)
    root = folder(tmp_path / "a", PICTURES, captions=False)
    with pytest.raises(ValueError, match="is there a captions"):
        coco_captions(root)
    (root / "val/1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 pictures are not in .*the first is 1.png"):
        read_coco(root)
    file = root / "annotations/instances_val.json"
    file.write_text('{"images": []}')
    with pytest.raises(ValueError, match="no list annotations, categories"):
        read_coco(root)
    file.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_coco(root)


def test_a_picture_of_another_size_than_its_annotation_is_refused(tmp_path):
    root = folder(tmp_path, PICTURES)
    Image.new("RGB", (HEIGHT, WIDTH)).save(root / "val/0.png")
    with pytest.raises(ValueError, match=r"has \(6, 4\) rows and columns"):
        coco_segments(root)[0].open()


def test_experiments_take_a_coco_folder(tiny_model, tmp_path):
    root = folder(tmp_path, PICTURES[:1] * 9 + PICTURES[2:3] * 9)
    job = job_on(tiny_model, 16, data=str(root), progress=False)
    pictures, corpus = segment_pictures(job)
    assert (
        len(pictures) == 18
        and str(root) in corpus
        and {p.labels for p in pictures} == {("cat", "dog"), ("house", "dog")}
    )
    with pytest.raises(ValueError, match="at least 16 items"):
        pictures_of(job)  # two nouns
