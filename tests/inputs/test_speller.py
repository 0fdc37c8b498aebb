"""Bytes of tokens in vocabularies of other kinds, broken text, and blanks between a prompt and what follows it."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import ByT5Tokenizer, PerceiverTokenizer, PreTrainedTokenizerFast

import models
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.inputs.speller import Speller, encode
from semhub_lens.inputs.tokens import decode_behind, encode_behind
from semhub_lens.lens.language_tables import script

QUIET = {"progress": False}


def metaspace():
    """Words as of Llama 2: a blank is put in front of every text."""
    tokenizer = models.tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.backend_tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def bytelevel(prefix=True):
    """Words in GPT-2's stand-ins for bytes, with or without a blank in front of every text."""
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = [alphabet.pre_tokenize_str(text)[0][0] for word in models.WORDS for text in (word, " " + word)]
    listed = ["<unk>", "<bos>", "<eos>", *words, "\u010a"]  # the stand-in for a line end
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(dict.fromkeys(listed))}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.init_kwargs |= {"name_or_path": "tiny", "add_bos_token": True}  # or transformer-lens looks for its files
    return tokenizer


@pytest.mark.parametrize("make", [metaspace, bytelevel])
@pytest.mark.parametrize("word", ["朋友", "two"])
def test_a_word_is_found_with_and_without_the_blank_that_the_tokenizer_adds(make, word):
    tokenizer = make()
    (marked,) = encode(tokenizer, word)
    assert Speller(tokenizer).text(marked) == " " + word
    bare = Speller(tokenizer).token_of(word)
    found = shl.word_tokens(tokenizer, word)
    assert set(found.ids) == {bare, marked} and bare != marked
    assert dict(zip(found.ids, found.variants, strict=True)) == {bare: word, marked: " " + word}
    assert shl.word_tokens(tokenizer, word, variants="exact").ids == (bare,)
    assert shl.word_tokens(tokenizer, " " + word, variants="exact").ids == (marked,)


@pytest.mark.parametrize("make", [ByT5Tokenizer, PerceiverTokenizer])
def test_bytes_written_by_their_number_are_bytes(make):
    tokenizer, text = make(), "é朋ß a"
    ids, speller = encode(tokenizer, text), Speller(tokenizer)
    assert speller.spelled(ids) == text.encode()
    shown = shl.printable(tokenizer, ids)
    assert shown[-2:] == ["␣", "a"] and all(label.startswith("<0x") for label in shown[:-2])
    assert {script(speller.text(i)) for i in ids[:-1]} == {"unknown"} and script(speller.text(ids[-1])) == "latin"


@pytest.mark.parametrize("word", ["ñandú", "é", "Ġ", "straße"])
def test_added_words_of_a_byte_level_vocabulary_are_text_and_no_bytes(word):
    tokenizer = bytelevel(prefix=False)
    tokenizer.add_tokens([word])
    (token,) = encode(tokenizer, word)
    assert Speller(tokenizer).text(token) == word and shl.printable(tokenizer, [token]) == [word]
    assert Speller(tokenizer).text(encode(tokenizer, "朋友")[0]) == "朋友"


SURROGATE = "red \ud83d dog"
CALLS = {
    "lens": lambda m: shl.logit_lens(m, SURROGATE, **QUIET),
    "generate": lambda m: shl.generate(m, ["red", SURROGATE], max_new_tokens=1, **QUIET),
    "word": lambda m: shl.word_tokens(m.tokenizer, "caf\ud83d"),
    "span": lambda m: Prompt.from_text(m, SURROGATE, spans={"w": "dog"}),
    "continuation": lambda m: shl.continuation_perplexity(m, ["red"], [SURROGATE], **QUIET),
    "target": lambda m: shl.target_lens(m, ["red"], [["\udc00"]], **QUIET),
}


@pytest.mark.parametrize("call", CALLS)
def test_half_of_a_character_is_named_before_anything_is_tokenised(tiny_model, call):
    with pytest.raises(ValueError, match=r"lone surrogate, U\+D[8C][03][0D] at character \d.*surrogatepass"):
        CALLS[call](tiny_model)


def test_the_advice_for_half_a_character_helps_and_joins_two_halves():
    mended = "\ud83d\ude00 \ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert mended == "😀 \ufffd"


def rows_without_tokens():
    hf = models.tiny_llama(vocabulary=128)
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    return build_bridge_from_module(hf, "LlamaForCausalLM", hf_config=hf.config, tokenizer=models.tiny_tokenizer())


def test_ids_without_a_token_are_shown_in_continuations():
    model = rows_without_tokens()
    found = shl.generate(model, "three plus", max_new_tokens=12, temperature=2.0, seed=1, **QUIET)
    none = [token for token in found.token_ids[0] if token >= len(model.tokenizer)]
    assert none and all(f"<id {token}>" in found.texts[0] for token in none)


def test_rows_without_a_token_are_named_in_a_lens_and_counted_in_its_mass():
    """As of Gemma 3, whose matrix has more rows than its tokenizer has tokens."""
    model = rows_without_tokens()
    table = shl.script_table(model)
    lens = shl.logit_lens(model, "three plus two", top_k=128, **QUIET).with_languages(table)
    size = len(model.tokenizer)
    for ids, shown in zip(lens.top_ids[-1].tolist(), lens.strings()[-1], strict=True):
        assert sorted(ids) == list(range(128))
        assert {one for one, i in zip(shown, ids, strict=True) if i >= size} == {f"<id {i}>" for i in range(size, 128)}
    mass = shl.language_mass(model, ["red dog", "two"], table, **QUIET)
    torch.testing.assert_close(mass.mass.sum(1), torch.ones(len(mass.mass)), atol=1e-5, rtol=0)
    assert {table.languages[i] for i in table.weights[size:].argmax(1).tolist()} == {"unknown"}
    assert shl.target_lens(model, ["red"], [[100]], **QUIET).log_probs.isfinite().all()


@pytest.mark.parametrize("make", [models.tiny_tokenizer, metaspace, bytelevel])
def test_a_continuations_text_goes_on_from_its_prompt(make):
    tokenizer = make()
    speller = Speller(tokenizer)
    two, three, dog = (speller.token_of(text) for text in (" two", "three", " dog"))
    before = [1, speller.token_of("red"), two]
    assert decode_behind(tokenizer, before, [dog, three]) == " dogthree"
    assert decode_behind(tokenizer, before, [three, 999, dog, 2]) == "three<id 999> dog"
    assert decode_behind(tokenizer, before, [three, 2], special=True) == "three<eos>"
    assert decode_behind(None, before, [three]) == ""


@pytest.mark.parametrize("make", [models.tiny_tokenizer, metaspace, bytelevel])
@pytest.mark.parametrize("text", ["two", " two", "朋友", " two three"])
def test_a_continuation_given_as_text_has_the_blanks_that_it_is_written_with(make, text):
    tokenizer = make()
    ids = encode_behind(tokenizer, text)
    assert Speller(tokenizer).spelled(ids) == text.encode()
    model = models.tiny(tokenizer=tokenizer)
    prompt = Prompt.from_text(model, "red")
    found, expected = (shl.continuation_perplexity(model, [prompt], [new], **QUIET) for new in (text, ids))
    assert torch.equal(found, expected)


def test_special_tokens_are_kept_in_texts_when_asked(tiny_model):
    hooks = [("blocks.2.hook_resid_post", towards(tiny_model))]
    settings = {"max_new_tokens": 1, "hooks": hooks, **QUIET}
    runs = [shl.generate(tiny_model, "red", show_special=shown, **settings) for shown in (False, True)]
    assert [run.texts for run in runs] == [("",), ("<eos>",)] and runs[0].token_ids == ((2,),)


def towards(model):
    """A hook that makes the model say its end token."""
    column = model.W_U[:, 2].detach()

    def steer(activation, hook):
        return activation * 0 + 50 * column

    return steer


def test_offsets_that_are_missing_or_empty_are_named():
    model = models.tiny()
    kind = type(model.tokenizer)

    class Broken(kind):
        empty = staticmethod(lambda i: True)

        def __call__(self, *texts, **settings):
            made = super().__call__(*texts, **settings)
            if "offset_mapping" in made:
                pairs = enumerate(made["offset_mapping"])
                made["offset_mapping"] = [(a, a) if self.empty(i) else (a, b) for i, (a, b) in pairs]
            return made

    model.tokenizer.__class__ = Broken
    for empty in (lambda i: True, lambda i: i == 1, lambda i: i == 2):
        Broken.empty = staticmethod(empty)
        with pytest.raises(ValueError, match=r"offsets are empty at 'plus two'.*AutoTokenizer.*from_ids"):
            Prompt.from_text(model, "three plus two equals", spans={"op": "plus two"})
    assert Prompt.from_text(model, "three plus two equals", spans={"op": "plus"}).spans == {"op": (2,)}
    model.tokenizer.__class__ = kind
    model.tokenizer, model.cfg.default_prepend_bos = ByT5Tokenizer(), False
    with pytest.raises(ValueError, match=r"ByT5Tokenizer\) does not tell which characters.*from_ids"):
        Prompt.from_text(model, "red dog", spans={"w": "red"})


@pytest.mark.parametrize(
    "text, spec", [("cafe\u0301 two", "café"), ("café two", "cafe\u0301"), ("\u1112\u1161\u11ab two", "\ud55c")]
)
def test_a_span_is_found_whether_accents_are_characters_of_their_own_or_not(tiny_model, text, spec):
    assert Prompt.from_text(tiny_model, text, spans={"x": spec}).spans == {"x": (1,)}
    with pytest.raises(ValueError, match="occurs 2 times"):
        Prompt.from_text(tiny_model, f"{text} {spec}", spans={"x": spec})


def test_a_decomposed_word_is_the_word():
    tokenizer = models.tiny_tokenizer()
    tokenizer.add_tokens(["café"])
    assert shl.word_tokens(tokenizer, "cafe\u0301").ids == shl.word_tokens(tokenizer, "café").ids


@pytest.mark.parametrize(
    "text, expected",
    [("ा", "devanagari"), ("्", "devanagari"), ("ோ", "other"), ("Ａ", "latin"), ("ー", "kana"), ("ｱ", "kana"),
     ("™", "unknown"), ("𝐀", "latin"),
     ("\u064b", "arabic"), ("\u05b8", "hebrew"), ("\u0e34", "thai"), ("\u0301", "unknown"), ("❤\ufe0f", "unknown"),
     ("e\u0301", "latin"), ("か\u3099", "kana"), ("नमस्ते", "devanagari")],
)  # fmt: skip
def test_marks_count_with_their_script_and_shared_accents_with_none(text, expected):
    assert script(text) == expected
