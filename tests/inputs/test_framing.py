"""What stands around a text: BOS, special tokens in front, control tokens inside, padding."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import models
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.model.resolve import as_prompts

TEXT = "three plus two equals"
QUIET = {"progress": False}


def tokens(model, prompt):
    return model.tokenizer.convert_ids_to_tokens(prompt.ids.tolist())


def framed(*front):
    """A tiny model whose tokenizer puts special tokens in front of every text."""
    tokenizer = models.tiny_tokenizer()
    new = [token for token in front if token not in tokenizer.get_vocab()]
    tokenizer.add_special_tokens({"additional_special_tokens": new})
    pairs = [(token, tokenizer.convert_tokens_to_ids(token)) for token in front]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*front, "$A"], pair=None, special_tokens=pairs
    )
    return models.tiny(tokenizer=tokenizer)


def wordpiece():
    """BERT's kind: no BOS, but transformer-lens gives it the name of one."""
    listed = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "the", "cat", "##s"]
    backend = Tokenizer(WordPiece({token: i for i, token in enumerate(listed)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.init_kwargs |= {"name_or_path": "tiny", "add_bos_token": True}  # or transformer-lens looks for its files
    return tokenizer


def test_the_same_tokens_have_bos_whatever_way_the_prompt_was_made(tiny_model):
    text = Prompt.from_text(tiny_model, TEXT)
    made = [text, Prompt.from_ids(text.ids), Prompt(text.ids)]
    assert [prompt.bos for prompt in as_prompts(tiny_model, made)] == [True] * 3
    without = [Prompt.from_ids([5, 1]), Prompt.from_ids([1, 5], bos=False)]
    assert [prompt.bos for prompt in as_prompts(tiny_model, without)] == [False, False]
    mean = [shl.residual_stream(tiny_model, prompt, read="mean", **QUIET) for prompt in made]
    table = shl.script_table(tiny_model)
    mass = [shl.language_mass(tiny_model, prompt, table, **QUIET) for prompt in made]
    assert all(torch.equal(mean[0], other) for other in mean)
    assert {(int(found.positions), found.provenance.bos) for found in mass} == {(4, True)}


@pytest.mark.parametrize("front", [("[gMASK]", "<sop>"), ("<s>",), ("<eos>",)])
@pytest.mark.parametrize("default", [False, True])
def test_special_tokens_that_the_tokenizer_puts_in_front_are_taken(front, default):
    model = framed(*front)
    model.cfg.default_prepend_bos = default
    prompt = Prompt.from_text(model, TEXT, spans={"x": "plus two"})
    assert prompt.ids.tolist() == model.tokenizer(TEXT)["input_ids"] and prompt.bos
    assert prompt.spans == {"x": (len(front) + 1, len(front) + 2)} and prompt.controls == ()
    again = Prompt.from_text(model, "".join(front) + TEXT)
    assert again.ids.tolist() == prompt.ids.tolist() and again.controls == ()
    assert tokens(model, Prompt.from_text(model, "red", prepend_bos=False)) == ["red"]
    assert tokens(model, Prompt.from_text(model, "red", prepend_bos=True)) == ["<bos>", "red"]


def test_a_bos_in_front_by_the_tokenizer_is_left_to_the_models_default():
    model = framed("<bos>")
    assert tokens(model, Prompt.from_text(model, "red")) == ["<bos>", "red"]
    model.cfg.default_prepend_bos = False
    assert tokens(model, Prompt.from_text(model, "red")) == ["red"]


def test_the_unknown_token_is_never_put_in_front_as_bos():
    model = models.tiny(tokenizer=wordpiece())
    assert model.tokenizer.bos_token_id == model.tokenizer.unk_token_id == 0 and model.cfg.default_prepend_bos
    prompt = Prompt.from_text(model, "the cats", spans={"x": "cats"})
    assert tokens(model, prompt) == ["the", "cat", "##s"] and prompt.spans == {"x": (1, 2)} and not prompt.bos
    with pytest.raises(ValueError, match="no BOS token"):
        Prompt.from_text(model, "the cat", prepend_bos=True)
    assert as_prompts(model, Prompt.from_ids([0, 4]))[0].bos is False
    ids = model.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids[0]), ("[SEP]", ids[1])]
    )
    assert tokens(model, Prompt.from_text(model, "the cat")) == ["[CLS]", "the", "cat"]


def test_a_bos_token_that_is_also_the_unknown_token_by_name_stays():
    tokenizer = models.tiny_tokenizer()
    tokenizer.bos_token = tokenizer.unk_token  # as GPT-2 has it
    model = models.tiny(tokenizer=tokenizer)
    assert tokens(model, Prompt.from_text(model, "red")) == ["<unk>", "red"]


@pytest.mark.parametrize("blank", [" ", "\n", "  \n"])
def test_blanks_in_front_of_a_written_bos_bring_no_second_one(tiny_model, blank):
    prompt = Prompt.from_text(
        tiny_model, blank + "<bos>red dog", spans={"x": "dog", "y": (len(blank) + 5, len(blank) + 8)}
    )
    assert tokens(tiny_model, prompt) == ["<bos>", "red", "▁dog"] and prompt.bos
    assert prompt.spans == {"x": (2,), "y": (1,)}


def test_control_tokens_in_a_text_are_said_and_may_be_read_as_letters(tiny_model):
    prompt = Prompt.from_text(tiny_model, "red<eos>dog<bos>")
    assert tokens(tiny_model, prompt) == ["<bos>", "red", "<eos>", "dog", "<bos>"] and prompt.controls == (2, 4)
    assert prompt.continued([5]).controls == (2, 4)
    assert Prompt.from_text(tiny_model, "red dog").controls == ()
    assert Prompt.from_text(tiny_model, "banana<eos>banana").controls == (2,), "unknown words are text"
    plain = Prompt.from_text(tiny_model, "dog <eos> red", plain=True, spans={"x": "red"})
    assert tokens(tiny_model, plain) == ["<bos>", "dog", "<unk>", "▁red"], "this vocabulary has no letters"
    assert plain.controls == () and plain.spans == {"x": (3,)}
    assert Prompt.from_text(tiny_model, "dog <eos> red").controls == (3,), "the choice is of one call"


def padded(model, side, texts=("three plus two", "red"), pad="<eos>"):
    tokenizer = model.tokenizer
    tokenizer.pad_token, tokenizer.padding_side = pad, side
    return tokenizer(list(texts), padding=True, return_tensors="pt")


@pytest.mark.parametrize("side, word", [("right", "end"), ("left", "begin")])
@pytest.mark.parametrize("pad", ["<eos>", "<pad>"])
def test_a_padded_row_is_refused_without_its_mask_and_right_with_it(side, word, pad):
    model = framed("<bos>", "<pad>")
    model.tokenizer.backend_tokenizer.post_processor = None
    batch = padded(model, side, pad=pad)
    bare = [Prompt.from_ids(ids) for ids in batch["input_ids"]]
    for run in (shl.residual_stream, shl.generate):
        with pytest.raises(ValueError, match=rf"{word} in padding \('{pad}'\).*mask=mask"):
            run(model, bare, **QUIET)
    kinds = (lambda mask: mask, lambda mask: mask.numpy(), lambda mask: mask.bool().tolist())
    for kind in kinds:
        rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        given = [Prompt.from_ids(ids, mask=kind(mask)) for ids, mask in rows]
        found = shl.residual_stream(model, given, **QUIET)[:, 1]
        alone = shl.residual_stream(
            model, Prompt.from_ids(batch["input_ids"][1][batch["attention_mask"][1].bool()]), **QUIET
        )
        torch.testing.assert_close(found, alone[:, 0])


def test_spans_of_a_padded_row_count_its_given_ids():
    row = Prompt.from_ids([2, 2, 7, 8, 2], mask=[0, 0, 1, 1, 0], spans={"x": [3]})
    assert (row.ids.tolist(), row.spans) == ([7, 8], {"x": (1,)})
    with pytest.raises(ValueError, match="is not within the 2 tokens"):
        Prompt.from_ids([2, 2, 7, 8, 2], mask=[0, 0, 1, 1, 0], spans={"x": [0]})


@pytest.mark.parametrize("mask", [[0, 0, 0], [1, 0, 1], [1, 1], np.array([True])])
def test_a_mask_that_is_none_of_this_row_is_refused(mask):
    with pytest.raises(ValueError, match="attention mask of one row of 3 token ids"):
        Prompt.from_ids([5, 6, 7], mask=mask)


def test_one_end_of_text_token_and_unknown_words_may_be_meant():
    model = models.tiny()
    model.tokenizer.pad_token = "<eos>"
    for ids in ([5, 2], [2, 5], [2], [1, 5, 2], [5, 2, 2, 5]):
        assert as_prompts(model, Prompt.from_ids(ids))[0].ids.tolist() == ids
    for ids in ([5, 2, 2], [2, 2, 5], [2, 1, 5]):
        with pytest.raises(ValueError, match="in padding"):
            as_prompts(model, Prompt.from_ids(ids))
    assert len(as_prompts(model, "<eos><eos>red")[0]) == 4, "what a text writes is meant"
    model.tokenizer.pad_token = "<unk>"
    assert len(as_prompts(model, Prompt.from_ids([5, 0, 0]))[0]) == 3
