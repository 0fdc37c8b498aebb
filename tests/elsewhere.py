"""Models whose weights lie elsewhere, and what is measured of them beside the samples."""

import accelerate
import torch

import models
import semhub_lens as shl

QUIET = {"progress": False}
TEXTS = ["three plus two", "red"]
LINE = "hooked" if models.HOOKED_LINE else "bridge"
"""The class whose offloaded models the installed line can run."""
SIZE = len(models.tiny_tokenizer().get_vocab())
MIXED = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "disk", "lm_head": "disk"} | {
    f"model.layers.{layer}": "cpu" if layer == 1 else "disk" for layer in range(3)
}


def away(module, how, folder):
    """Offload the weights of a module."""
    if how == "cpu":
        accelerate.cpu_offload(module, torch.device("cpu"))
    elif how == "disk":
        accelerate.disk_offload(module, str(folder), torch.device("cpu"))
    else:
        accelerate.dispatch_model(module, MIXED, offload_dir=str(folder))
    return module


def offloaded(how, folder, backend=LINE, **settings):
    if backend == "hooked":
        return away(models.tiny("hooked", **settings), how, folder)
    return models.tiny("bridge", hf=away(models.tiny_llama(vocabulary=SIZE, **settings), how, folder))


def measured(model):
    """What the samples do not measure."""
    edits = shl.at([1, 3], shl.hooks.add(torch.ones(32), strength=2.0))
    return {
        "states": shl.residual_stream(model, TEXTS, **QUIET),
        "means": shl.residual_stream(model, TEXTS, read="mean", **QUIET),
        "steered": shl.residual_stream(model, TEXTS, hooks=edits, **QUIET),
        "bare": shl.logit_lens(model, TEXTS[0], norm="none", **QUIET).top_ids,
        "sampled": shl.generate(model, TEXTS, hooks=edits, max_new_tokens=4, temperature=1.0, **QUIET).token_ids,
        "words": shl.direction.words(model, "two", "five", layer=2),
        "unembedding": shl.direction.unembedding(model, "two", "five"),
    }
