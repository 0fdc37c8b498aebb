"""Small models for shapes and identities, and the packaged real one."""

from importlib.metadata import version

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LISTED = (
    "zero one two three four five six seven eight nine plus minus is equals red blue green "
    "dog cat house chat perro = + 1 2 3 4 5 "
    "<script>alert(1)</script> <b>bold</b> 朋友 مرحبا"
)
WORDS = LISTED.split()
HOOKED_LINE = int(version("transformer-lens").split(".")[0]) < 4
BACKENDS = ["hooked", "bridge"] if HOOKED_LINE else ["bridge"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, with and without a leading space, as single tokens."""
    listed = ["<unk>", "<bos>", "<eos>", *WORDS, *("▁" + word for word in WORDS)]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", padding_side="right"
    )
    tokenizer.init_kwargs |= {"name_or_path": "tiny", "add_bos_token": True}
    return tokenizer


def tiny_llama(
    layers: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32, vocabulary: int = 3 + 2 * len(WORDS), ends=2
) -> LlamaForCausalLM:
    """A random Llama with untied, non-trivial norms and weights large enough that its layers differ."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        bos_token_id=1, eos_token_id=ends, pad_token_id=None, tie_word_embeddings=False, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.to(dtype).eval()


def tiny(
    backend: str = "bridge", layers: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32, tokenizer=None, hf=None
):
    """The tiny Llama as a TransformerLens model; both backends have the same weights."""
    tokenizer = tokenizer or tiny_tokenizer()
    hf = hf or tiny_llama(layers, seed, dtype, len(tokenizer.get_vocab()))
    if backend == "hooked":
        from semhub_lens.model.loading import _hooked_by_config

        model = _hooked_by_config(hf, tokenizer, "cpu", dtype)
        model.tokenizer.padding_side = "right"
    else:
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

        model = build_bridge_from_module(hf, "LlamaForCausalLM", hf_config=hf.config, tokenizer=tokenizer)
    model.cfg.model_name = "tiny-llama"
    return model.eval()
