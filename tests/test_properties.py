"""Properties of tokens, spans, positions, masks and files, on drawn examples; the same ones in every run."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.tokens import decode_behind, encode_behind, printable, word_tokens
from semhub_lens.interventions.positions import as_positions, check_positions, ranks_of
from semhub_lens.model.hooking import Window

few = settings(derandomize=True, deadline=None, max_examples=40, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])  # fmt: skip
TOKENIZER = models.tiny_tokenizer()
MODEL = models.tiny("bridge", tokenizer=TOKENIZER)
PLAIN = [word for word in models.WORDS if word.isalnum()]
words = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=12)
anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@few
@given(words)
def test_tokens_of_known_words_spell_the_text_and_join_behind_one_another(listed):
    text = " ".join(listed)
    prompt = shl.Prompt.from_text(MODEL, text)
    assert len(prompt) == 1 + len(listed) and prompt.bos
    assert "".join(printable(TOKENIZER, prompt.ids[1:])).replace("␣", " ") == text
    cut = len(listed) // 2
    head, tail = " ".join(listed[:cut]), text[len(" ".join(listed[:cut])) :]
    if head and tail:
        before = TOKENIZER(head, add_special_tokens=False)["input_ids"]
        behind = encode_behind(TOKENIZER, tail)
        assert [*before, *behind] == prompt.ids[1:].tolist()
        assert decode_behind(TOKENIZER, before, behind) == tail


@few
@given(anything)
def test_any_text_becomes_a_prompt_or_is_refused_in_words(text):
    try:
        prompt = shl.Prompt.from_text(MODEL, text)
    except SemhubError as error:
        assert not text.strip() and "empty" in str(error)
        return
    assert len(prompt) >= 1 and int(prompt.ids.max()) < MODEL.cfg.d_vocab
    labels = printable(TOKENIZER, prompt.ids)
    assert len(labels) == len(prompt) and all(label and label.isprintable() for label in labels)


@few
@given(anything)
def test_the_ids_of_a_word_spell_it(word):
    try:
        found = word_tokens(TOKENIZER, word, variants="exact")
    except SemhubError:
        return
    assert len(found.ids) == len(found.variants) > 0
    assert all(TOKENIZER.decode([token]) == spelled for token, spelled in zip(found.ids, found.variants, strict=True))


@few
@given(words, st.data())
def test_a_span_holds_the_tokens_that_its_characters_touch(listed, data):
    text = " ".join(listed)
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    (span,) = shl.Prompt.from_text(MODEL, text, spans={"a": (start, end)}).spans.values()
    ends = torch.tensor([len(word) + (i > 0) for i, word in enumerate(listed)]).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    assert span == tuple(1 + i for i in range(len(listed)) if starts[i] < end and ends[i] > start)


@few
@given(st.lists(st.integers(0, 68), min_size=1, max_size=9), st.integers(0, 4), st.integers(0, 4), st.data())
def test_a_mask_leaves_out_the_padding_and_moves_the_spans(ids, left, right, data):
    position = data.draw(st.integers(0, len(ids) - 1))
    row, mask = [0] * left + ids + [0] * right, [0] * left + [1] * len(ids) + [0] * right
    kind = data.draw(
        st.sampled_from([list, torch.tensor, lambda m: torch.tensor(m).numpy(), lambda m: [bool(i) for i in m]])
    )
    prompt = shl.Prompt.from_ids(row, spans={"a": [left + position]}, mask=kind(mask))
    assert prompt.ids.tolist() == ids and prompt.spans["a"] == (position,)


def window(rows, padded):
    """Rows side by side; padded on the left or on the right."""
    wide, own = max(rows), torch.tensor(rows)
    starts = own - wide if padded == "left" else torch.zeros_like(own)
    return Window(torch.arange(len(rows)), starts, own), wide


@few
@given(lengths, st.sampled_from(["left", "right"]), st.data())
def test_positions_name_the_same_tokens_however_they_are_written_and_rows_are_padded(rows, padded, data):
    place, wide = window(rows, padded)
    chosen = sorted(data.draw(st.sets(st.integers(0, min(rows) - 1), min_size=1)))
    expected = torch.full((len(rows), wide), -1)
    for row, length in enumerate(rows):
        shift = wide - length if padded == "left" else 0
        for rank, position in enumerate(chosen):
            expected[row, position + shift] = rank
    one_row = torch.zeros(min(rows), dtype=torch.bool)
    one_row[chosen] = True
    forms = [torch.tensor(chosen).numpy(), tuple(chosen), one_row, one_row.tolist(), torch.tensor([chosen] * len(rows))]
    prompts = [shl.Prompt.from_ids([4] * length) for length in rows]
    for form in forms:
        taken = as_positions(form)
        check_positions(taken, prompts, 0)
        assert torch.equal(ranks_of(taken, place, wide) >= 0, expected >= 0)


@few
@given(lengths, st.sampled_from(["left", "right"]), st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3))
def test_a_slice_names_what_it_names_in_a_list_of_the_prompts_tokens(rows, padded, start, stop, step):
    place, wide = window(rows, padded)
    ranks = ranks_of(as_positions(slice(start, stop, step)), place, wide)
    for row, length in enumerate(rows):
        shift = wide - length if padded == "left" else 0
        assert (ranks[row] >= 0).nonzero()[:, 0].sub(shift).tolist() == list(range(length))[start:stop:step]


@few
@given(lengths, st.integers(-12, 12))
def test_a_position_is_taken_exactly_where_every_prompt_has_it(rows, position):
    prompts = [shl.Prompt.from_ids([4] * length) for length in rows]
    fits = all(-length <= position < length for length in rows)
    try:
        check_positions(as_positions(position), prompts, 0)
        assert fits
    except SemhubError as error:
        assert not fits and "past the end" in str(error)


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@few
@given(st.lists(numbers, min_size=1, max_size=6), st.text(max_size=20), st.booleans(), st.none() | st.text(max_size=9))
def test_what_is_saved_is_read_back_to_the_last_bit(values, name, bos, data):
    """Whatever text stands in it, half a character too; NaN and signs of zero as well."""
    where = shl.Provenance("m", "w", "C", "float32", "cpu", "none", bos, data=data, notes=(name,))
    tensor = torch.tensor(values, dtype=torch.float32)
    result = shl.CosineResult(
        tensor.reshape(1, 1, -1), tuple(f"{name}{i}" for i in range(len(values))), provenance=where
    )
    with tempfile.TemporaryDirectory() as folder:
        back = shl.load_result(result.save(Path(folder) / "saved.safetensors"))
    assert back.names == result.names and back.provenance == where
    assert torch.equal(back.cosine.view(torch.int32), result.cosine.view(torch.int32))


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_file_that_lost_its_end_is_refused(tmp_path, cut):
    where = shl.Provenance("m", "w", "C", "float32", "cpu", "none", True)
    path = shl.CosineResult(torch.ones(1, 1, 1), ("a",), provenance=where).save(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(SemhubError, match=r"a\.safetensors"):
        shl.load_result(path)
