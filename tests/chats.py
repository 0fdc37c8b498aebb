"""A tokenizer of single characters, and chat templates of the kinds that models have."""

import string

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + (first if loop.first else '') }}"
    "{{ m['content'] | trim }}{{ '<end>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
"""The system's text in front of the user's, contents trimmed, another name for the assistant."""
QWEN = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% if messages[0].role != 'system' %}{{ '<turn>system\nBe brief.<end>\n' }}{% endif %}"
    "{% for m in messages %}{% set content, thought = m.content, '' %}{% if m.reasoning_content is string %}"
    "{% set thought = m.reasoning_content %}{% elif m.role == 'assistant' and '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ '<turn>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ content + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""No BOS, a system text of its own, thoughts of earlier turns left out."""
LLAMA = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""BOS before every user's turn; a system's text is lost."""


def tokenizer(template=None, bos=True):
    """Every character is a token, and so are the marks of turns."""
    special = ["<unk>", "<bos>", "<eos>", "<turn>", "<end>"]
    listed = [*special, *string.printable, "é"]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    names = {"bos_token": "<bos>"} if bos else {}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", padding_side="right", **names,
        additional_special_tokens=["<turn>", "<end>"],
    )  # fmt: skip
    made.init_kwargs |= {"name_or_path": "characters", "add_bos_token": bos}
    made.chat_template = template
    return made
