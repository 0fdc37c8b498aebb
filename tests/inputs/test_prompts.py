"""Prompts: tokens, spans and the beginning-of-sequence token."""

import pytest
import torch

import models
from semhub_lens import Prompt
from semhub_lens.inputs.prompts import RESERVED
from semhub_lens.model.resolve import as_prompts

TEXT = "three plus two equals"


def build(model, text=TEXT, **settings):
    return Prompt.from_text(model, text, **settings)


def tokens(model, prompt):
    return model.tokenizer.convert_ids_to_tokens(prompt.ids.tolist())


def test_a_prompt_is_bos_and_the_tokens_of_its_text(tiny_model):
    prompt = build(tiny_model)
    assert tokens(tiny_model, prompt) == ["<bos>", "three", "▁plus", "▁two", "▁equals"]
    assert (len(prompt), prompt.text, prompt.bos) == (5, TEXT, True)


@pytest.mark.parametrize(
    "text, prepend, expected",
    [
        ("red", None, ["<bos>", "red"]),
        ("red", True, ["<bos>", "red"]),
        ("red", False, ["red"]),
        ("<bos>red", None, ["<bos>", "red"]),
        ("<bos>red", True, ["<bos>", "red"]),
        ("<bos>red", False, ["<bos>", "red"]),
    ],
)
def test_bos_is_never_doubled_and_known_to_be_there(tiny_model, text, prepend, expected):
    prompt = build(tiny_model, text, prepend_bos=prepend)
    assert tokens(tiny_model, prompt) == expected
    assert prompt.bos == (expected[0] == "<bos>")


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_the_models_own_default_decides_about_bos(backend):
    model = models.tiny(backend)
    model.cfg.default_prepend_bos = False
    assert tokens(model, build(model, "red")) == ["red"]
    assert not build(model, "red").bos


@pytest.mark.parametrize(
    "spec, positions",
    [
        ("three", (1,)),
        ("plus two", (2, 3)),
        (" two", (3,)),
        ("hre", (1,)),  # inside one token
        ("e p", (1, 2)),  # across two
        (TEXT, (1, 2, 3, 4)),
        ((0, 5), (1,)),
        ((5, 6), (2,)),  # the space belongs to the token that follows
        ((4, 12), (1, 2, 3)),
        ((0, len(TEXT)), (1, 2, 3, 4)),
    ],
)
def test_a_span_is_every_token_that_any_of_its_characters_lies_in(tiny_model, spec, positions):
    assert build(tiny_model, spans={"x": spec}).spans == {"x": positions}
    without = build(tiny_model, spans={"x": spec}, prepend_bos=False)
    assert without.spans == {"x": tuple(p - 1 for p in positions)}
    assert build(tiny_model, "<bos>" + TEXT, spans={"x": "plus"}).spans == {"x": (2,)}


def test_the_same_span_by_substring_and_by_range_is_one(tiny_model):
    for word in TEXT.split():
        start = TEXT.index(word)
        spans = build(tiny_model, spans={"word": word, "range": (start, start + len(word))}).spans
        assert spans["word"] == spans["range"] == (TEXT.split().index(word) + 1,)


def test_a_span_over_another_script_counts_characters(tiny_model):
    prompt = build(tiny_model, "朋友 مرحبا dog", spans={"ar": "مرحبا", "zh": "朋友", "en": "dog"})
    assert prompt.spans == {"ar": (2,), "zh": (1,), "en": (3,)}


def test_names_with_a_colon_are_allowed_but_reserved_ones_are_not(tiny_model):
    assert build(tiny_model, spans={"operand:0": "three"}).spans == {"operand:0": (1,)}
    for name in (*RESERVED, "operand:last"):
        with pytest.raises(ValueError, match=f"'{name}' is reserved"):
            build(tiny_model, spans={name: "three"})
        with pytest.raises(ValueError, match=f"'{name}' is reserved"):
            Prompt.from_ids([1, 2], spans={name: [0]})


@pytest.mark.parametrize(
    "spec, message",
    [
        ("four", "'four' occurs 0 times"),
        ("e", "'e' occurs 3 times"),
        ("", "'' occurs 0 times"),
        ((3, 3), "characters .3, 3. are not within the 21 characters"),
        ((5, 2), "are not within"),
        ((-1, 2), "are not within"),
        ((0, 22), "are not within"),
    ],
)
def test_a_span_that_is_not_there_once_is_refused(tiny_model, spec, message):
    with pytest.raises(ValueError, match=rf"'operand'.*{message}"):
        build(tiny_model, spans={"operand": spec})


def test_overlapping_occurrences_are_several(tiny_model):
    with pytest.raises(ValueError, match="'two two' occurs 2 times"):
        build(tiny_model, "two two two", spans={"x": "two two"})


@pytest.mark.parametrize("text", ["", " ", "\n\t  "])
def test_a_text_without_words_is_refused(tiny_model, text):
    with pytest.raises(ValueError, match="is empty"):
        build(tiny_model, text)
    with pytest.raises(ValueError, match="is empty"):
        as_prompts(tiny_model, ["red", text])


@pytest.mark.parametrize(
    "ids", [[4, 5, 6], (4, 5, 6), torch.tensor([4, 5, 6]), torch.tensor([4, 5, 6], dtype=torch.int32)]
)
def test_ids_are_taken_as_they_are(ids):
    prompt = Prompt.from_ids(ids, spans={"a": [0, 2]})
    assert prompt.ids.dtype == torch.long and prompt.ids.tolist() == [4, 5, 6]
    assert (prompt.spans, prompt.bos, prompt.text) == ({"a": (0, 2)}, None, None)


@pytest.mark.parametrize("positions", [[], [3], [-1], [0, 7]])
def test_a_span_of_positions_outside_the_prompt_is_refused(positions):
    with pytest.raises(ValueError, match="is not within the 3 tokens"):
        Prompt.from_ids([4, 5, 6], spans={"a": positions})


@pytest.mark.parametrize(
    "positions", [[1, 2, 2], [True, False, True], torch.tensor([False, True, True]), [1.0], torch.tensor([1.0])]
)
def test_a_span_names_each_of_its_positions_once_and_by_its_number(unchecked, positions):
    """A mean over a position that counts twice would have other weights, and a mask would name positions 0 and 1."""
    with pytest.raises(ValueError, match=r"whole numbers as positions, each once|takes a mapping"):
        Prompt.from_ids([4, 5, 6], spans={"a": positions})


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(ValueError, match="has no tokens"):
        Prompt.from_ids([])


@pytest.mark.parametrize("ids, wrong", [([1, 999], 999), ([-3, 5], -3)])
def test_ids_outside_the_vocabulary_are_refused_by_their_number(tiny_model, ids, wrong):
    with pytest.raises(ValueError, match=f"Token id {wrong} is outside"):
        as_prompts(tiny_model, Prompt.from_ids(ids))


def test_texts_and_prompts_may_be_mixed_and_keep_their_order(tiny_model):
    made = Prompt.from_ids([5, 6], bos=False)
    listed = as_prompts(tiny_model, ["red", made, "dog"])
    assert listed[1] is made and [p.text for p in listed] == ["red", None, "dog"]
    assert as_prompts(tiny_model, made) == [made]


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_without_a_tokenizer_ids_are_asked_for(backend):
    model = models.tiny(backend)
    model.tokenizer = None
    with pytest.raises(ValueError, match=r"Prompt\.from_ids"):
        build(model)
    assert as_prompts(model, Prompt.from_ids([1, 4]))[0].ids.tolist() == [1, 4]


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_bos_is_refused_where_the_tokenizer_has_none(backend):
    model = models.tiny(backend)
    model.tokenizer.bos_token = None
    with pytest.raises(ValueError, match="no BOS token; pass prepend_bos=False"):
        build(model)
    assert tokens(model, build(model, "red", prepend_bos=False)) == ["red"]
