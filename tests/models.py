"""Small models for shapes and identities, and the packaged real one."""

from functools import cache

import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lines import BACKENDS, HOOKED_LINE  # noqa: F401 - other tests take them from here

LISTED = (
    "zero one two three four five six seven eight nine plus minus is equals red blue green "
    "dog cat house chat perro = + 1 2 3 4 5 "
    "<script>alert(1)</script> <b>bold</b> 朋友 مرحبا"
)
WORDS = LISTED.split()


@cache
def gemma(backend: str):
    """Gemma 3 270M, read once a process."""
    from semhub_lens import load

    return load("gemma-3-270m", backend=backend)


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
        from semhub_lens.model.loading import _hooked

        model = _hooked(hf, tokenizer, None, "cpu", dtype)
        model.tokenizer.padding_side = "right"
    else:
        from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

        model = build_bridge_from_module(hf, "LlamaForCausalLM", hf_config=hf.config, tokenizer=tokenizer)
    model.cfg.model_name = "tiny-llama"
    return model.eval()


HOSTS = {
    "mamba": ("Mamba", {"num_hidden_layers": 3, "state_size": 8}),
    "mamba2": (
        "Mamba2",
        {"num_hidden_layers": 3, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 16},
    ),
    "falcon_mamba": ("FalconMamba", {"num_hidden_layers": 2, "state_size": 8}),
    "rwkv": ("Rwkv", {"num_hidden_layers": 3, "context_length": 64, "attention_hidden_size": 32}),
    "recurrent_gemma": (
        "RecurrentGemma",
        {
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "lru_width": 32,
            "attention_window_size": 16,
        },
    ),
    "gemma3_both_ways": (
        "Gemma3Text",
        {
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 8,
            "use_bidirectional_attention": True,
        },
    ),
    "llama_dynamic": (
        "Llama",
        {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 8,
            "rope_parameters": {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10000.0},
        },
    ),
    "olmo": (
        "Olmo",
        {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "pad_token_id": 0},
    ),
    "olmo2": (
        "Olmo2",
        {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "pad_token_id": 0},
    ),
    "bert": ("Bert", {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}),
    "bloom": ("Bloom", {"n_layer": 2, "n_head": 4}),
    "xglm": ("XGLM", {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64}),
    "mpt": ("Mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": 64}),
    "opt": ("OPT", {"num_hidden_layers": 2, "ffn_dim": 64, "num_attention_heads": 4, "word_embed_proj_dim": 32}),
    "gemma4": (
        "Gemma4Text",
        {
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "head_dim": 16,
            "global_head_dim": 16,
            "sliding_window": 4,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 99,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "pad_token_id": 0,
        },
    ),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "phi3_longrope": (
        "Phi3",
        {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "sliding_window": None,
            "original_max_position_embeddings": 8,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [2.0, 3.0, 4.0, 5.0],
                "original_max_position_embeddings": 8,
            },
        },
    ),
}
"""Kinds of Hugging Face models, by the name of their classes and the options of a tiny one."""


def host(name: str, **options):
    """A tiny random model of another architecture, with weights large enough that every part shows, as a bridge."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    kind, settings = HOSTS[name]
    heads = {"Bert": "BertForMaskedLM", "GPT2": "GPT2LMHeadModel", "Gemma4Text": "Gemma4ForCausalLM"}
    heads |= {"Gemma3Text": "Gemma3ForCausalLM"}
    architecture = heads.get(kind, f"{kind}ForCausalLM")
    width = {} if {"n_embd", "d_model"} & {*settings} else {"hidden_size": 32}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 99} | width | settings | options)
    model = enlarged(getattr(transformers, architecture)(config)).eval()
    return build_bridge_from_module(model, architecture, hf_config=model.config, tokenizer=None).eval()


@torch.no_grad()
def enlarged(model):
    """The Hugging Face model with weights large enough that every part shows."""
    for weight in model.parameters():
        if weight.ndim > 1 and weight.std() < 0.1:
            weight.mul_(8)
    embedding = model.get_input_embeddings().weight
    embedding[embedding.norm(dim=-1) == 0] = embedding[5].flip(-1)  # that of padding, which training moves
    return model
