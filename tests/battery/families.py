"""Tiny random models of many families, saved as folders, and whether the measurements on them are right.

Everything is held against Hugging Face's own model of the same folder: one row at a time, whole passes, no cache.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import models
import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.base.errors import SemhubError
from semhub_lens.model.hooking import SITES

COMMON = {
    "vocab_size": 75, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
WINDOW = {"sliding_window": 4}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1, "topk_group": 1, "n_group": 1,
}  # fmt: skip
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True}
NEO = {
    "hidden_size": 32, "num_layers": 4, "num_heads": 4, "window_size": 4, "attention_types": [[["global", "local"], 2]],
}  # fmt: skip
FALCON = {"num_key_value_heads": None, "ffn_hidden_size": 64, "multi_query": True}


def rope(kind: str, **options: Any) -> dict[str, Any]:
    """Options of a rotary scaling."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **options}}


PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    **models.HOSTS,
    "gptj": ("GPTJ", GPT2 | {"rotary_dim": 4}),
    "gpt_bigcode": ("GPTBigCode", GPT2),
    "codegen": ("CodeGen", GPT2 | {"rotary_dim": 4, "n_ctx": 64}),
    "gpt_neo": ("GPTNeo", NEO),
    "gpt_neo_narrow": ("GPTNeo", NEO | {"intermediate_size": 64}),
    "opt_projection": ("OPT", models.HOSTS["opt"][1] | {"word_embed_proj_dim": 16}),
    "t5": ("T5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}),
    "bart": (
        "Bart",
        {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        },
    ),
}  # fmt: skip
"""The same of kinds that name their options in their own way; these say all of them."""
LIKE_LLAMA: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama_linear_rope": ("Llama", rope("linear")),
    "llama_dynamic_rope": ("Llama", rope("dynamic") | {"max_position_embeddings": 16}),
    "llama_wide_heads": ("Llama", {"head_dim": 16}),
    "mistral": ("Mistral", WINDOW),
    "mixtral": ("Mixtral", EXPERTS | {"sliding_window": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen2_window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 30, "max_window_layers": 1, "max_position_embeddings": 128},
    ),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "qwen3_moe": ("Qwen3Moe", ROUTED | {"head_dim": 8}),
    "gemma": ("Gemma", {"head_dim": 16, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", GEMMA | WINDOW | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3Text", GEMMA | WINDOW | {"layer_types": ["sliding_attention"] * 2 + ["full_attention"]}),
    "phi": ("Phi", {"num_key_value_heads": 4, "partial_rotary_factor": 0.5}),
    "phi3": ("Phi3", {"sliding_window": 6}),
    "gpt_neox": ("GPTNeoX", {"num_key_value_heads": None, "rotary_pct": 0.5}),
    "falcon_new": ("Falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_7b": ("Falcon", FALCON | {"parallel_attn": True}),
    "falcon_rw": ("Falcon", FALCON | {"alibi": True, "parallel_attn": False, "multi_query": False, "bias": True}),
    "olmo": ("Olmo", {"clip_qkv": 0.5}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", WINDOW | {"num_hidden_layers": 4}),
    "olmoe": ("Olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    "cohere": ("Cohere", {"logit_scale": 0.0625, "tie_word_embeddings": True}),
    "cohere_qk_norm": ("Cohere", {"logit_scale": 0.5, "use_qk_norm": True, "tie_word_embeddings": True}),
    "cohere2": ("Cohere2", WINDOW | {"num_hidden_layers": 4, "logit_scale": 0.25, "tie_word_embeddings": True}),
    "hunyuan": ("HunYuanDenseV1", {"head_dim": 8}),
    "deepseek_v2": ("DeepseekV2", LATENT | {"q_lora_rank": None, "topk_method": "greedy"}),
    "deepseek_v3": ("DeepseekV3", LATENT),
    "glm4": ("Glm4", {"head_dim": 8}),
    "glm4_moe_lite": ("Glm4MoeLite", LATENT),
    "gpt_oss": ("GptOss", EXPERTS | WINDOW | {"num_hidden_layers": 4, "head_dim": 8}),
    "granite": ("Granite", {"logits_scaling": 8.0, "residual_multiplier": 0.22, "embedding_multiplier": 12.0}),
    "stablelm": ("StableLm", {"partial_rotary_factor": 0.5}),
    "starcoder2": ("Starcoder2", {"sliding_window": 6}),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}),
    "jamba": (
        "Jamba",
        {
            "num_hidden_layers": 4, "num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2,
            "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 8,
            "mamba_dt_rank": 4, "use_mamba_kernels": False,
        },
    ),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention", "conv"]}),
    "modernbert_decoder": ("ModernBertDecoder", {"num_key_value_heads": None}),
    "helium": ("Helium", {"head_dim": 8}),
}  # fmt: skip
"""By name: the kind in the names of Hugging Face's classes, and what differs from COMMON."""
FAMILIES = sorted({*PLAIN, *LIKE_LLAMA})
ROWS = ([5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17, 18, 19], [20, 21, 22, 23])
PROMPTS = [Prompt.from_ids(row) for row in ROWS]
CLEAN, CORRUPTED = Prompt.from_ids([5, 6, 7, 8, 9]), Prompt.from_ids([5, 30, 7, 31, 9])
STEPS = 5


def kind_of(name: str) -> str:
    """What the names of Hugging Face's classes begin with."""
    return (PLAIN | LIKE_LLAMA)[name][0]


def save(name: str, folder: Path) -> None:
    """A tiny random model of a family with its tokenizer, as a folder."""
    kind, options = (PLAIN | LIKE_LLAMA)[name]
    base = COMMON if name in LIKE_LLAMA else {"vocab_size": 75, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if name in PLAIN and {"n_embd", "d_model"}.isdisjoint(options):
        base = base | {"hidden_size": 32}
    settings = {key: value for key, value in (base | options).items() if (key, value) != ("num_key_value_heads", None)}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings)
    made = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    hf = models.enlarged(made.from_config(config)).eval()
    with torch.no_grad():
        for weight in hf.parameters():
            if weight.ndim == 1:  # gains and biases, which start as ones and noughts
                weight.add_(0.3 * torch.randn(weight.shape))
    hf.save_pretrained(folder)
    models.tiny_tokenizer().save_pretrained(folder)


def outcomes(folder: Path, backend: str) -> dict[str, str]:
    """By fact: "right" with what runs did by themselves, or "refused", "WRONG" or "CRASH" with the reason."""
    found: dict[str, str] = {}
    held: list[Any] = []
    _measured(found, "load", lambda: held.append(shl.load(folder, backend=backend)))
    if not held:
        return found
    model, hf = held[0], transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for name, fact in FACTS.items():
        _measured(found, name, lambda fact=fact: fact(model, hf))
    return found


def _measured(found: dict[str, str], name: str, fact: Callable[[], str | None]) -> None:
    try:
        found[name] = f"right{fact() or ''}"
    except SemhubError as error:
        found[name] = f"refused: {error}"
    except AssertionError as error:
        found[name] = f"WRONG: {error}"
    except Exception as error:
        found[name] = f"CRASH: {error!r}"


def _near(ours: Tensor, expected: Tensor, what: str) -> None:
    error = float((ours - expected).norm() / expected.norm())
    assert error < 1e-3, f"{what} off by {error:.2g}"


def _ids(prompt: Prompt) -> Tensor:
    return prompt.ids[None]


@torch.no_grad()
def states(model: Any, hf: Any) -> str:
    """The residual stream is Hugging Face's hidden states."""
    expected = hf(_ids(PROMPTS[2]), output_hidden_states=True, use_cache=False).hidden_states
    ours = shl.residual_stream(model, PROMPTS[2], progress=False)
    if len(expected) != len(ours) or expected[0].shape[-1] != ours.shape[-1]:
        return " (Hugging Face keeps others)"
    kept = torch.stack(expected[:-1])[:, 0, -1]  # it norms the last
    skip = 1 if (kept[0] - ours[1, 0]).norm() < (kept[0] - ours[0, 0]).norm() else 0  # some leave the embedding out
    _near(ours[skip : len(kept) + skip, 0], kept, "the residual stream")
    return ""


def batch(model: Any, hf: Any) -> None:
    """A batch of unequal lengths gives what each row gives alone."""
    together = shl.residual_stream(model, PROMPTS, progress=False)
    for row, prompt in enumerate(PROMPTS):
        _near(together[:, row], shl.residual_stream(model, prompt, progress=False)[:, 0], f"row {row}")


@torch.no_grad()
def lens(model: Any, hf: Any) -> None:
    """The logit lens of the last layer is Hugging Face's log-probabilities."""
    own = hf(_ids(PROMPTS[2]), use_cache=False).logits[0].float().log_softmax(-1)
    found = shl.logit_lens(model, PROMPTS[2], top_k=own.shape[-1], progress=False)
    _near(torch.empty_like(own).scatter(-1, found.top_ids[-1], found.top_logprobs[-1]), own, "the last layer")


@torch.no_grad()
def continuation(hf: Any, prompt: Prompt) -> tuple[int, ...]:
    """Hugging Face's greedy tokens, by whole passes."""
    ids = prompt.ids.tolist()
    for _ in range(STEPS):
        ids.append(int(hf(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == 2:
            break
    return tuple(ids[len(prompt) :])


def generate(model: Any, hf: Any) -> str:
    """Greedy continuations, of a batch and alone, with a cache and without, are Hugging Face's."""
    expected = tuple(continuation(hf, prompt) for prompt in PROMPTS)
    ways = {"as it comes": (PROMPTS, None), "without a cache": (PROMPTS, False), "alone": (PROMPTS[:1], None)}
    notes: tuple[str, ...] = ()
    for way, (prompts, cached) in ways.items():
        made = shl.generate(model, prompts, max_new_tokens=STEPS, use_cache=cached, progress=False)
        assert made.token_ids == expected[: len(prompts)], f"{way}: {made.token_ids}, expected {expected}"
        notes = notes or made.provenance.notes
    return f" ({'; '.join(notes)})" if notes else ""


@torch.no_grad()
def patch_grid(model: Any, hf: Any) -> str:
    """Cells of a patch grid are what a run with that one state replaced gives."""
    metric = shl.metric.logit_difference(model, 3, 4)
    grid = shl.patch_grid(model, CLEAN, CORRUPTED, metric, progress=False)
    name = f"blocks.1.{SITES['resid_pre']}"
    clean: list[Tensor] = []
    model.run_with_hooks(_ids(CLEAN), fwd_hooks=[(name, lambda state, hook: clean.append(state.clone()))])
    for position in (1, 3):

        def put(state: Tensor, hook: Any, position: int = position) -> Tensor:
            state[:, position] = clean[0][:, position]
            return state

        logits = model.run_with_hooks(_ids(CORRUPTED), fwd_hooks=[(name, put)])[:, -1].float()
        assert abs(float(metric(logits)) - float(grid.values[1, position])) < 1e-3, f"the cell of position {position}"
    notes = "; ".join(note for note in grid.provenance.notes)
    return f" ({notes})" if notes else ""


FACTS = {"states": states, "batch": batch, "logit_lens": lens, "generate": generate, "patch_grid": patch_grid}
