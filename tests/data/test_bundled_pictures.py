"""The bundled pictures: one for each named concept, readable, different from one another, with their notice."""

from importlib.resources import files

import numpy as np

from semhub_lens.data.media.pictures import bundled_pictures
from semhub_lens.data.numbers.probing import concept_items


def test_every_picture_opens_is_its_own_and_has_names_in_five_languages():
    items = bundled_pictures()
    pixels = [np.asarray(item.open()) for item in items]
    assert {array.shape for array in pixels} == {(128, 136, 3)}
    assert len({item.content for item in items}) == len({item.key for item in items}) == len(items) == 79
    assert min(array.std() for array in pixels) > 5, "no picture is blank"

    known = {(item.key, item.data_type): item.text for item in concept_items()}
    for item in items:
        assert {code: names[0] for code, names in item.names.items()} == {
            code: known[item.concept, code] for code in item.names
        } and set(item.names) == {"en", "fr", "es", "de", "zh"}


def test_the_folder_holds_the_pictures_their_table_and_the_notice_and_nothing_else():
    folder = files("semhub_lens.data") / "bundled" / "pictures"
    found = {entry.name for entry in folder.iterdir()}
    assert found == {f"{item.concept}.png" for item in bundled_pictures()} | {"pictures.tsv", "NOTICE"}
    assert "Apache License, Version 2.0" in (folder / "NOTICE").read_text()
