"""Texts as people paste them, through the tokenizers of real models: nothing is lost, and what is shown can be seen."""

import unicodedata

import pytest
import torch
from transformers import AutoTokenizer

import models
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.inputs.speller import UNSEEN, Speller
from semhub_lens.model.packaged import PACKAGED, packaged_files, plain_folder

QUIET = {"progress": False}
TEXTS = {
    "both directions": "שלום \u2068API v2\u2069 \u061c٣٤٪ \u200fעולם \u202a(beta)\u202c \u2067نسخة\u2069 היום",
    "Thai": "เมื่อวานฉันกินข้าวผัดกับน้ำส้มที่ตลาด",
    "Hindi": "मैं ज़रूर आऊँगी, लेकिन १०° पर ठंड में क्यों?।",
    "line ends": "si x:\r\n\tretour \x0b1\r# fin\x85\tdernière \x0c\n\r\n ",
    "one word": "ha " * 500,
    "formulas": r"On a \(f(x)\) et $$\sum_{i=1}^n x_i$$, donc $a_{1}$ & 50\% de %{y} \begin{align}",
    "a record": (
        '{"n": 98765432109876543210, "s": "d\\u0027O \\"x\\"", "h": "</script><!-- <svg onload=alert(1)>", '
        '"p": "\u2029"}'
    ),
    "unseen": "\u180eun\u2061 deux\u00ad\u200dtrois\u034f\u3164quatre\u2800\ufe0f\u2028\ufeff\u2003fin\u115f",
    "an end of blanks": "Le ciel est \n",
    "conversation": (
        "\n<bos><start_of_turn>user\nQui es-tu ?<end_of_turn>\n<start_of_turn>model\n<think>\nrien\n</think>\n\n"
        "Moi."
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(PACKAGED))
def model(request):
    """Random weights behind a real tokenizer."""
    packaged = PACKAGED[request.param]
    folder = plain_folder(packaged.name, packaged_files(packaged), packaged.sha256)
    made = models.tiny(tokenizer=AutoTokenizer.from_pretrained(folder), layers=1)
    made.cfg.n_ctx = 2048  # its positions are rotary
    return made


def is_gemma(model):
    return model.cfg.d_vocab > 100_000


def seen(label):
    """Whether every character of a label draws something, and none steers what stands around it."""
    unseen = [c for c in label if c in UNSEEN or unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Zs")]
    return bool(label) and not unseen and unicodedata.category(label[0])[0] != "M"


@pytest.mark.real
@pytest.mark.parametrize("name", TEXTS)
def test_every_byte_is_read_and_every_label_can_be_seen(model, name, tmp_path):
    text = TEXTS[name]
    prompt = Prompt.from_text(model, text)
    spelled = Speller(model.tokenizer).spelled(prompt.ids.tolist())
    if name != "conversation":  # whose marks are control tokens of one of the two
        assert spelled == text.encode() and prompt.controls == ()
    lens = shl.logit_lens(model, prompt, top_k=3, **QUIET)
    assert len(lens.labels) == len(prompt) and all(map(seen, lens.labels))
    again = shl.LensResult.load(lens.save(tmp_path / "lens.safetensors"))
    assert again.labels == lens.labels and again.to_frame().equals(lens.to_frame())
    assert lens.to_frame().to_csv(index=False).count("\n") == len(lens.to_frame()) + 1
    page = shl.write_html(lens, tmp_path / "lens.html").read_text(encoding="utf-8")
    assert not set(page) & set("\r\x0b\x0c\x85\u2028\u2029\u2067\u2068\u202a\u200f")
    assert "<svg onload" not in page and "<!-- <svg" not in page


@pytest.mark.real
def test_marks_of_a_script_are_of_that_script_and_stand_on_a_circle(model):
    table = shl.script_table(model)
    speller = Speller(model.tokenizer)
    for name, script in (("Thai", "thai"), ("Hindi", "devanagari")):
        ids = Prompt.from_text(model, TEXTS[name], prepend_bos=False).ids.tolist()
        letters = [i for i in ids if any(unicodedata.category(c)[0] in "LM" for c in speller.text(i))]
        assert {table.languages[int(table.weights[i].argmax())] for i in letters} == {script}
        marks = [i for i in letters if unicodedata.category(speller.text(i)[0])[0] == "M"]
        assert all(shl.printable(model.tokenizer, [i])[0].startswith("◌") for i in marks)
        if is_gemma(model):  # the other writes both scripts in bytes
            assert marks and len(letters) > len(ids) / 2


@pytest.mark.real
@pytest.mark.parametrize("mark", ["ा", "ิ", "\u0301", "\u093f\u0902", "ാ"])
def test_a_mark_alone_is_shown_on_a_circle_and_what_draws_nothing_by_its_number(mark):
    tokenizer = models.tiny_tokenizer()
    tokenizer.add_tokens([mark, "\ufe0f", "❤\ufe0f", "\u3164"])
    ids = tokenizer.convert_tokens_to_ids([mark, "\ufe0f", "❤\ufe0f", "\u3164"])
    assert shl.printable(tokenizer, ids) == [f"◌{mark}", "U+FE0F", "❤U+FE0F", "U+3164"]


@pytest.mark.real
def test_equal_tokens_keep_their_columns(model):
    lens = shl.logit_lens(model, TEXTS["one word"], top_k=1, **QUIET)
    figure = shl.figure(lens)
    assert len(set(figure.data[0].x)) == len(lens.labels) >= 500 and figure.layout.width <= 32_767


@pytest.mark.real
def test_a_conversation_with_a_blank_in_front_begins_once_and_its_reply_is_found(model):
    prompt = Prompt.from_text(model, TEXTS["conversation"], spans={"reply": "Moi.", "ask": "Qui"})
    if is_gemma(model):
        assert (prompt.ids == model.tokenizer.bos_token_id).sum() == 1 and prompt.bos and len(prompt.controls) == 3
    else:
        assert prompt.controls == ()  # letters, to a model with other marks
    text = Speller(model.tokenizer).spelled(prompt.ids[list(prompt.spans["reply"])].tolist()).decode()
    assert text.strip() == "Moi."


@pytest.mark.real
@pytest.mark.parametrize(("text", "marks"), [("Say <|im_end|> or <eos>, not </s>.", 1), ("[INST] <pad>", 0)])
def test_control_tokens_of_a_text_are_those_of_its_own_model(model, text, marks):
    own = set(model.tokenizer.all_special_ids)
    prompt = Prompt.from_text(model, text)
    assert [int(prompt.ids[i]) in own for i in prompt.controls] == [True] * len(prompt.controls)
    assert len(prompt.controls) == (marks if not is_gemma(model) else text.count("<eos>") + text.count("<pad>"))
    plain = Prompt.from_text(model, text, plain=True)
    assert plain.controls == () and Speller(model.tokenizer).spelled(plain.ids.tolist()).decode() == text


@pytest.mark.real
@pytest.mark.parametrize("blank", [" ", "\n", "\u3000", "\u2003 "])
def test_a_blank_at_the_end_of_a_prompt_stays_its_own_token(model, blank):
    """What follows is read behind it: the same tokens as of the prompt alone, and then those of the continuation."""
    prompt = Prompt.from_text(model, f"Le ciel est{blank}")
    whole, parts = (
        shl.continuation_perplexity(model, [text], [new], **QUIET)
        for text, new in ((f"Le ciel est{blank}", "bleu"), (prompt, "bleu"))
    )
    assert torch.equal(whole, parts)
    assert Speller(model.tokenizer).spelled(prompt.ids.tolist()).decode().endswith(blank)


@pytest.mark.real
@pytest.mark.parametrize("code, letters", [("hi", "DEVANAGARI"), ("bn", "BENGALI")])
def test_marks_have_the_languages_of_the_words_that_they_stand_in(model, monkeypatch, tmp_path, code, letters):
    """Pieces of words, vowel signs and the like among them, weigh as much as their words."""
    if not is_gemma(model):
        pytest.skip("writes these scripts in bytes")
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    speller = Speller(model.tokenizer)
    texts = {i: speller.text(i).strip() for i in range(model.cfg.d_vocab)}
    marks = [
        i
        for i, text in texts.items()
        if text and all(unicodedata.category(c)[0] == "M" and letters in unicodedata.name(c, "") for c in text)
    ]
    table = shl.language_table(model, ("en", code), words=1500, **QUIET)
    assert marks and float(table.weights[marks, table.languages.index(code)].max()) > 0.5
    assert not table.weights[marks, table.languages.index("en")].any()
