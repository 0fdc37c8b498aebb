"""Corpora of the user's own: how they are named, read and cut."""

import pytest

from semhub_lens.experiments.languages.sources import LONGEST, parallel, parse, plain, running, shortened

CODES = ("fr", "es", "de", "zh")


def test_texts_of_ones_own_take_the_place_of_the_bundled_ones(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("un chat dort\nle chien mange\n", encoding="utf-8")
    texts, source = plain(f"fr={file}", CODES)
    assert texts == {"fr": ["un chat dort", "le chien mange"]} and str(file) in source
    texts, glossaries, _ = running(f"fr={file}", CODES)
    assert set(texts) == {"fr"} and glossaries["fr"]["chien"][0] == "dog"


def test_a_cedict_file_gives_the_chinese_glosses_for_bundled_stories_too(tmp_path):
    file = tmp_path / "cedict_ts.u8"
    file.write_text("# comment\n狗 狗 [gou3] /dog/hound/\n", encoding="utf-8")
    texts, glossaries, _ = running(f"cedict={file}", CODES)
    assert set(texts) == set(CODES) and glossaries["zh"] == {"狗": ("dog", "hound")}


def test_the_bundled_data_is_named_as_such():
    assert parallel(None)[1] == "bundled sentences" and running(None, CODES)[2] == "bundled passages"


@pytest.mark.parametrize("wrong", ["texts.txt", "xx=texts.txt", "fr=", "fr=a,=b"])
def test_entries_that_name_no_language_are_refused(wrong):
    with pytest.raises(ValueError, match="CODE=SOURCE"):
        parse(wrong, CODES)


def test_a_missing_folder_of_parallel_texts_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source"):
        parallel(str(tmp_path))


def test_long_texts_are_cut_at_a_word_and_short_ones_kept():
    assert shortened("short") == "short"
    for text in ("wort " * 200, "一个很长的句子，" * 100, "x" * 1000):
        cut = shortened(text)
        assert len(cut) <= LONGEST and text.startswith(cut) and len(cut) > LONGEST - 20
