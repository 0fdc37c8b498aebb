"""Words to tokens, tokens to readable text, and the tables of languages and scripts."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

import models
import semhub_lens as shl
from semhub_lens.inputs.tokens import collisions, encode, is_single_token, spellings, target_ids, token_id, token_texts
from semhub_lens.lens import language_tables
from semhub_lens.lens.language_tables import LanguageTable, script
from semhub_lens.model.packaged import PACKAGED, packaged_files, plain_folder

TINY = models.tiny_tokenizer()
TRICKY = [
    "朋友",
    " 朋友",
    "مرحبا",
    "🙂",
    "a\nb",
    "<b>",
    "<b>x</b>",
    "\t  x",
    "猫は",
    "鬱",
    "naïve café",
    "नमस्ते",
    "<0xE4>",
]


@pytest.fixture(scope="module", params=list(PACKAGED))
def real_tokenizer(request):
    packaged = PACKAGED[request.param]
    folder = plain_folder(packaged.name, packaged_files(packaged), packaged.sha256)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def smol():
    packaged = PACKAGED["smollm2-135m"]
    return AutoTokenizer.from_pretrained(plain_folder(packaged.name, packaged_files(packaged), packaged.sha256))


def ids_of(*names):
    return tuple(TINY.convert_tokens_to_ids(list(names)))


def test_the_variants_of_a_word_are_declared():
    assert spellings("Two") == ["Two", " Two", "two", " two"]
    assert spellings(" two ", "space") == ["two", " two"]
    assert spellings(" two", "exact") == [" two"]
    assert spellings("İstanbul") == ["İstanbul", " İstanbul", "istanbul", " istanbul"]
    assert spellings("İİ")[2:] == ["ii", " ii"] and spellings("Işık")[2] == "işık"
    assert spellings("ßa") == ["ßa", " ßa"] and spellings("ﬁn")[:2] == spellings("ﬁn") == ["ﬁn", " ﬁn"]
    assert spellings("ǆep")[2:] == ["ǅep", " ǅep"] and spellings("მთა") == ["მთა", " მთა"]
    assert spellings("iPhone") == ["iPhone", " iPhone", "iphone", " iphone", "IPhone", " IPhone"]


def test_a_word_stands_for_its_single_token_variants():
    found = shl.word_tokens(TINY, "two")
    assert (found.ids, found.variants, found.split) == (ids_of("two", "▁two"), ("two", " two"), ())
    assert shl.word_tokens(TINY, "Two").variants == ("two", " two"), "Two itself is unknown to the tokenizer"
    exact = shl.word_tokens(TINY, " two", variants="exact")
    assert (exact.ids, exact.variants) == (ids_of("▁two"), (" two",))
    assert token_id(TINY, "two") == ids_of("two")[0] != token_id(TINY, " two")


def test_a_word_of_several_tokens_is_refused_unless_its_first_token_may_stand_for_it():
    with pytest.raises(
        ValueError, match=r"not a single token in any spelling: 'red house' = \['red', '␣house'\].*first_token"
    ):
        shl.word_tokens(TINY, "red house")
    found = shl.word_tokens(TINY, "red house", first_token=True)
    assert found.ids == ids_of("red", "▁red")
    assert found.split == ("red house", " red house", "Red house", " Red house")


def test_an_unknown_word_is_no_token():
    with pytest.raises(ValueError, match=r"'banana' = \['<unk>'\]"):
        shl.word_tokens(TINY, "banana")
    assert not is_single_token(TINY, "banana")
    assert is_single_token(TINY, "Dog") and not is_single_token(TINY, "red house")


@pytest.mark.real
def test_a_spelling_that_is_split_is_reported(smol):
    found = shl.word_tokens(smol, "elephant")
    assert all(len(encode(smol, text)) == 1 for text in found.variants)
    assert all(len(encode(smol, text)) > 1 for text in found.split)
    assert {*found.variants, *found.split} == set(spellings("elephant")) and found.split


@pytest.mark.real
def test_the_first_piece_of_a_word_may_be_a_byte_fragment(smol):
    found = shl.word_tokens(smol, "朋友", first_token=True)
    assert found.ids[0] == encode(smol, "朋友")[0]
    assert shl.printable(smol, found.ids[:1]) == ["<0xE6><0x9C>"]


@pytest.mark.parametrize("word", ["", " ", "\n"])
def test_an_empty_word_is_refused(word):
    with pytest.raises(ValueError, match="must not be empty"):
        shl.word_tokens(TINY, word)


def test_a_target_is_a_word_an_id_or_all_of_several():
    assert target_ids(TINY, "two") == ids_of("two", "▁two")
    assert target_ids(TINY, 7) == (7,)
    assert target_ids(TINY, ["dog", "two", "dog", 7]) == (*ids_of("dog", "▁dog", "two", "▁two"), 7)
    with pytest.raises(ValueError, match="target set is empty"):
        target_ids(TINY, [])
    with pytest.raises(ValueError, match="must be a word, a token id"):
        target_ids(TINY, True)


def test_collisions_are_the_ids_that_two_words_share():
    words = [shl.word_tokens(TINY, word) for word in ("two", "Two", "dog")]
    shared = ids_of("two", "▁two")
    assert collisions(words) == {shared[0]: ("two", "Two"), shared[1]: ("two", "Two")}
    assert collisions(words[1:]) == {}


def test_printable_names_special_tokens_spaces_and_ids_without_a_token():
    shown = shl.printable(TINY, [*ids_of("<bos>", "▁two", "<b>bold</b>", "▁朋友"), 9999])
    assert shown == ["<bos>", "␣two", "<b>bold</b>", "␣朋友", "<id 9999>"]
    assert shl.printable(None, [3, 4]) == ["3", "4"]
    assert token_texts(TINY, [1, 9999, *ids_of("▁two")]) == ["", "", " two"]


@pytest.mark.real
def test_printable_tells_the_ids_of_a_vocabulary_apart(real_tokenizer):
    doubtful = set("␣↵⇥␍◌▁<Ġ")
    listed = [i for raw, i in real_tokenizer.get_vocab().items() if len(raw) < 3 or doubtful & set(raw[1:])]
    shown = shl.printable(real_tokenizer, listed)
    twice = [text for text, count in Counter(shown).items() if count > 1]
    assert twice == [] and "" not in shown
    assert not any(c.isspace() or ord(c) < 0x20 for text in shown for c in text)


@pytest.mark.real
@pytest.mark.parametrize("text", TRICKY)
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(real_tokenizer, text):
    from semhub_lens.inputs.tokens import Speller

    speller = Speller(real_tokenizer)
    ids = encode(real_tokenizer, text)
    assert b"".join(speller.content(i) for i in ids).decode() == text
    whole = [speller.text(i) for i in ids]
    if all(whole):
        assert "".join(whole) == text
    else:
        shown = shl.printable(real_tokenizer, ids)
        assert all("<0x" in label for label, text in zip(shown, whole, strict=True) if not text)


@pytest.mark.real
def test_fragments_and_line_ends_are_shown_as_they_are(smol):
    assert shl.printable(smol, encode(smol, "朋友")) == ["<0xE6><0x9C>", "<0x8B>", "<0xE5><0x8F>", "<0x8B>"]
    assert shl.printable(smol, encode(smol, "a\nb")) == ["a", "↵", "b"]
    assert token_texts(smol, encode(smol, "朋")) == ["", ""]
    assert shl.printable(smol, [1]) == ["<|im_start|>"]


@pytest.mark.parametrize(
    "text, expected",
    [("朋友", "han"), (" casa", "latin"), ("дом", "cyrillic"), ("مرحبا", "arabic"), ("カナ", "kana"),
     ("한국", "hangul"), ("12 + 3", "unknown"), ("", "unknown"), ("🙂", "unknown"), ("猫abc", "latin"),
     ("ամ", "other")],
)  # fmt: skip
def test_the_script_of_a_text_is_that_of_most_letters(text, expected):
    assert script(text) == expected


def test_the_script_table_gives_every_token_one_script(tiny_model):
    table = shl.script_table(tiny_model)
    assert table.weights.shape[0] == tiny_model.cfg.d_vocab
    assert set(table.weights.unique().tolist()) == {0.0, 1.0} and (table.weights.sum(1) == 1).all()
    named = {
        name: table.languages[int(table.weights[i].argmax())]
        for name, i in zip(models.WORDS, ids_of(*models.WORDS), strict=True)
    }
    assert (named["朋友"], named["مرحبا"], named["dog"], named["+"], named["3"]) == (
        "han",
        "arabic",
        "latin",
        "unknown",
        "unknown",
    )
    assert table.languages[int(table.weights[1].argmax())] == "unknown", "special tokens have no script"
    assert table.unknown_share == pytest.approx(table.weights[:, -1].mean().item())


def tiny_tables(monkeypatch, tmp_path, **settings):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    model = SimpleNamespace(tokenizer=TINY, cfg=SimpleNamespace(d_vocab=len(TINY)))
    return shl.language_table(model, ("en", "es", "zh", "ar"), words=3000, progress=False, **settings)


def test_the_language_table_is_bayes_rule_on_word_frequencies(monkeypatch, tmp_path):
    from wordfreq import get_frequency_dict

    table = tiny_tables(monkeypatch, tmp_path)
    likelihood = {}
    for code in ("en", "es", "zh", "ar"):
        top = sorted(get_frequency_dict(code).items(), key=lambda entry: (-entry[1], entry[0]))[:3000]
        used = [(w, f) for w, f in top if code in ("en", "es") or script(w) != "latin"]
        known = {w: f for w, f in used if w in models.WORDS and script(w) != "unknown"}
        likelihood[code] = {w: f / sum(known.values()) for w, f in known.items()}
    for word in ("two", "dog", "chat", "house", "朋友"):
        scores = torch.tensor([likelihood[code].get(word, 0.0) for code in ("en", "es", "zh", "ar")])
        expected = torch.cat([scores / scores.sum(), torch.zeros(1)])
        for i in ids_of(word, "▁" + word):
            torch.testing.assert_close(table.weights[i], expected, atol=1e-4, rtol=0)
    assert table.weights[ids_of("3")[0]].tolist() == [0, 0, 0, 0, 1]


def test_a_built_table_leaves_no_word_lists_in_memory(monkeypatch, tmp_path):
    from wordfreq import get_frequency_dict, get_frequency_list

    tiny_tables(monkeypatch, tmp_path)
    assert get_frequency_dict.cache_info().currsize == get_frequency_list.cache_info().currsize == 0


def test_words_are_tokenised_as_the_tokenizer_does_whatever_it_was_set_to():
    texts = ["dog", " cat", "three plus two", "nothing known"]
    tokenizer = models.tiny_tokenizer()
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer(texts, padding=True, truncation=True, max_length=2)  # stays with it until another call
    assert language_tables._encoded(tokenizer, texts) == expected
    assert language_tables._encoded(lambda *given, **settings: tokenizer(*given, **settings), texts) == expected


def test_the_language_table_is_the_same_from_the_cache_and_unknown_may_be_spread(monkeypatch, tmp_path):
    first, again = (tiny_tables(monkeypatch, tmp_path) for _ in range(2))
    assert torch.equal(first.weights, again.weights)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1 and not list(tmp_path.rglob("*.partial"))
    spread = tiny_tables(monkeypatch, tmp_path, unknown="uniform")
    assert spread.languages == ("en", "es", "zh", "ar") and spread.unknown_share == 0
    torch.testing.assert_close(spread.weights, first.weights[:, :4] + first.weights[:, 4:] / 4)
    torch.testing.assert_close(spread.weights.sum(1), torch.ones(len(TINY)))


@pytest.mark.real
def test_gemmas_language_table_knows_common_words(gemma):
    table = shl.language_table(gemma, progress=False)
    torch.testing.assert_close(table.weights.sum(1), torch.ones(gemma.cfg.d_vocab), atol=1e-5, rtol=0)
    assert table.weights.min() > -1e-6
    for text, code in (
        (" flower", "en"),
        (" fleur", "fr"),
        ("朋友", "zh"),
        (" друг", "ru"),
        ("7", "unknown"),
        (",", "unknown"),
    ):
        row = table.weights[token_id(gemma.tokenizer, text)]
        assert table.languages[int(row.argmax())] == code and row.max() > 0.5, text
    assert 0.1 < table.unknown_share < 0.9


def test_a_table_needs_one_column_a_language():
    with pytest.raises(ValueError, match="one column per language"):
        LanguageTable(("en", "fr"), torch.ones(5, 3), "hand-made")
