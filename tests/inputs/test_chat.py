"""Conversations: the ids are the tokenizer's own, and spans are the texts that were given."""

import pytest
import torch

import chats
import models
import semhub_lens as shl
from semhub_lens import Prompt

ASK, ANSWER, MORE = ({"role": role, "content": content} for role, content in (
    ("user", " user "), ("assistant", "model"), ("user", "Why?\nSay.")
))  # fmt: skip
SYSTEM = {"role": "system", "content": "Be kind."}
THOUGHT = {"role": "assistant", "content": "<think>\none and one\n</think>\n\ntwo"}


@pytest.fixture(scope="module")
def model():
    return models.tiny(tokenizer=chats.tokenizer())


def chat(model, template, messages, **settings):
    return Prompt.from_chat(model, messages, template=template, **settings)


def said(model, prompt, name):
    """The characters at a span."""
    return "".join(model.tokenizer.convert_ids_to_tokens(prompt.ids[list(prompt.spans[name])].tolist()))


@pytest.mark.parametrize("reply", [True, False])
@pytest.mark.parametrize("messages", [[ASK], [ASK, ANSWER], [ASK, ANSWER, MORE], [SYSTEM, ASK, ANSWER, MORE]])
@pytest.mark.parametrize("template", [chats.GEMMA, chats.QWEN])
def test_the_ids_are_those_of_the_tokenizer_and_spans_are_what_was_said(model, template, messages, reply):
    prompt = chat(model, template, messages, ending="reply" if reply else "turn")
    theirs = model.tokenizer.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=reply, return_dict=False
    )
    assert prompt.ids.tolist() == list(theirs)
    counts = {}
    for i, message in enumerate(messages):
        role = message["role"]
        assert said(model, prompt, f"turn:{i}") == message["content"].strip()
        assert prompt.spans[f"{role}:{counts.get(role, 0)}"] == prompt.spans[f"turn:{i}"]
        counts[role] = counts.get(role, 0) + 1
    for role, count in counts.items():
        parts = [prompt.spans[f"{role}:{i}"] for i in range(count)]
        assert prompt.spans[role] == tuple(position for part in parts for position in part)


@pytest.mark.parametrize("template", [chats.GEMMA, chats.QWEN])
def test_turns_and_template_share_the_tokens_out(model, template):
    prompt = chat(model, template, [SYSTEM, ASK, ANSWER, MORE])
    pieces = [name for i in range(5) for name in (f"template:{i}", f"turn:{i}") if name in prompt.spans]
    together = [position for name in pieces for position in prompt.spans[name]]
    assert together == list(range(len(prompt)))
    assert set(prompt.spans["template"]) == {p for name in pieces if name[1] == "e" for p in prompt.spans[name]}
    assert said(model, prompt, "template:4").startswith("<end>\n<turn>")


def test_bos_stands_where_the_template_writes_it_and_nowhere_else(model):
    bos = model.tokenizer.bos_token_id
    with_it, without = (chat(model, template, [ASK]) for template in (chats.GEMMA, chats.QWEN))
    assert (with_it.ids == bos).nonzero()[:, 0].tolist() == [0] and with_it.bos and 0 in with_it.spans["template:0"]
    assert model.cfg.default_prepend_bos and bos not in without.ids and not without.bos
    twice = chat(model, chats.LLAMA, [ASK, ANSWER, MORE])
    assert (twice.ids == bos).sum() == 2  # one for each of the user's turns, as its model was trained


def test_reads_lie_at_the_end_of_what_was_said(model):
    model.tokenizer.chat_template = chats.GEMMA
    messages = [ASK, {"role": "assistant", "content": "yes"}]
    prompt = chat(model, chats.GEMMA, messages)
    states = shl.residual_stream(model, messages, read="assistant:last", progress=False)
    at = prompt.text.index("yes") + 2 - len("<bos>") + 1 - 2 * (len("<turn>") - 1) - (len("<end>") - 1)
    assert prompt.spans["assistant"][-1] == at
    assert torch.equal(states, shl.residual_stream(model, prompt, read=at, progress=False))
    model.tokenizer.chat_template = None


def test_thoughts_stay_where_the_template_would_leave_them_out(model):
    messages = [ASK, THOUGHT, MORE, THOUGHT]
    kept, theirs = (chat(model, chats.QWEN, messages, thinking=how) for how in ("keep", "template"))
    block = "<think>\none and one\n</think>"
    assert theirs.text == model.tokenizer.apply_chat_template(messages, chat_template=chats.QWEN, tokenize=False)
    assert theirs.text.count(block) == 1 and kept.text.count(block) == 2
    assert kept.text == theirs.text.replace("<turn>assistant\ntwo", f"<turn>assistant\n{block}\n\ntwo", 1)
    for name in ("thinking:0", "thinking:1"):
        assert said(model, kept, name) == block
    assert said(model, kept, "turn:1") == f"{block}\n\ntwo" and said(model, theirs, "turn:1") == "two"
    assert kept.spans["thinking"] == (*kept.spans["thinking:0"], *kept.spans["thinking:1"])


def test_a_kept_thought_leaves_no_blanks_twice(model):
    template = "{% for m in messages %}<turn>{{ m.content.split('</think>')[-1] }}{% endfor %}"
    assert chat(model, template, [THOUGHT]).text == "<turn><think>\none and one\n</think>\n\ntwo"
    assert chat(model, template, [THOUGHT], thinking="template").text == "<turn>\n\ntwo"


def test_thoughts_beside_the_content_are_kept_or_refused(model):
    message = {"role": "assistant", "reasoning_content": "easy", "content": "two"}
    last = chat(model, chats.QWEN, [ASK, message])
    assert said(model, last, "thinking") == "<think>\neasy\n</think>"
    with pytest.raises(shl.SemhubError, match="leaves out a text of message 1, 'easy'; pass thinking='template'"):
        chat(model, chats.QWEN, [ASK, message, MORE])
    assert "easy" not in chat(model, chats.QWEN, [ASK, message, MORE], thinking="template").text


def test_a_reply_can_be_opened_and_gone_on_with(model):
    assert chat(model, chats.QWEN, [ASK]).text.endswith("<turn>assistant\n")
    assert chat(model, chats.QWEN, [ASK, ANSWER]).text.endswith("model<end>\n")
    assert chat(model, chats.QWEN, [ASK, ANSWER], ending="continue").text.endswith("model")
    quick = chat(model, chats.QWEN, [ASK], settings={"enable_thinking": False})
    assert quick.text.endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("end", ["", " ", "\n", " \n\n"])
@pytest.mark.parametrize("template", [chats.GEMMA, chats.QWEN])
def test_a_reply_that_goes_on_ends_in_the_blanks_that_the_tokenizer_leaves(model, template, end):
    """GEMMA trims the texts; QWEN keeps their blanks."""
    messages = [ASK, {"role": "assistant", "content": "It is" + end}]
    theirs = model.tokenizer.apply_chat_template(
        messages, chat_template=template, continue_final_message=True, tokenize=False
    )
    prompt = chat(model, template, messages, ending="continue")
    assert prompt.text == theirs and said(model, prompt, "assistant") == "It is"


@pytest.mark.parametrize("end", ["", "\n\n"])
@pytest.mark.parametrize("template", [chats.GEMMA, chats.QWEN])
def test_a_reply_that_goes_on_after_its_thought_keeps_the_end_of_the_thought(model, template, end):
    messages = [ASK, {"role": "assistant", "content": "<think>\none\n</think>" + end}]
    prompt = chat(model, template, messages, ending="continue")
    assert prompt.text.endswith("<think>\none\n</think>" + (end if template == chats.QWEN and end else ""))
    assert said(model, prompt, "thinking") == "<think>\none\n</think>"


def test_a_thought_that_the_template_writes_in_its_own_way_ends_with_its_tag(model):
    messages = [ASK, {"role": "assistant", "content": "<think>one</think>"}]
    prompt = chat(model, chats.QWEN, messages, ending="continue")
    assert prompt.text.endswith("<think>\none\n</think>")
    assert said(model, prompt, "thinking") == "<think>\none\n</think>"


def test_a_content_may_be_a_list_of_texts(model):
    template = "{% for m in messages %}{% for part in m.content %}{{ part.text }}|{% endfor %}{% endfor %}"
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    prompt = chat(model, template, [{"role": "user", "content": parts}])
    assert said(model, prompt, "user") == "one|two" and prompt.text == "one|two|"


def test_spans_of_ones_own_go_along(model):
    prompt = chat(model, chats.GEMMA, [ASK, ANSWER, MORE], spans={"word": "Why"})
    assert said(model, prompt, "word") == "Why"


@pytest.mark.parametrize(
    "template, messages, settings, error",
    [
        (chats.GEMMA, [], {}, "empty"),
        (None, [ASK], {}, "no chat template"),
        (chats.GEMMA, [ANSWER], {}, "refuses these messages: Conversation roles must alternate"),
        (chats.LLAMA, [SYSTEM, ASK], {}, "leaves out a text of message 0, 'Be kind.'"),
        ("{{ messages[0].content * 2 }}", [ASK], {}, "repeats a text of message 0"),
        ("{{ messages[0].content.replace('s', 'z') }}", [ASK], {}, "rewrites the texts"),
        (chats.GEMMA, [{"role": "user"}], {}, "Message 0 needs a role"),
        (chats.GEMMA, [{"role": "template", "content": "a"}], {}, "Message 0 needs a role"),
        (chats.GEMMA, [{"role": "user", "content": 5}], {}, "must be a text or a list of texts, got 5"),
        (chats.GEMMA, [{"role": "user", "content": [{"type": "image"}]}], {}, "Prompt.from_processor"),
        (chats.GEMMA, [ASK], {"settings": {"enable_thinking": True}}, "does not use 'enable_thinking'"),
        (chats.GEMMA, [ASK, {"role": "assistant", "content": ""}], {"ending": "continue"}, "no text"),
        (chats.GEMMA, [ASK], {"spans": {"user": "user"}}, "already has spans"),
        ("{{ nothing.here }}", [ASK], {}, "refuses these messages"),
    ],
)
def test_what_cannot_be_told_is_refused(model, template, messages, settings, error):
    with pytest.raises(shl.SemhubError, match=error):
        chat(model, template, messages, **settings)
