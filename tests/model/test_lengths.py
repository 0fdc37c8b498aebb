"""Models whose states depend on the length of a pass give the numbers of each prompt alone, and stay the same model."""

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.model import checks
from semhub_lens.model.facts import weights_of
from semhub_lens.model.rotary import length_effect
from semhub_lens.model.weights import content_of, editions

QUIET = {"progress": False}
SHORT = shl.Prompt.from_ids([5, 6, 7])
LONG = shl.Prompt.from_ids([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
ROTARY = ["phi3_longrope", "llama_dynamic"]
INDEXED = {
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64,
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 32,
    "first_k_dense_replace": 1, "topk_group": 1, "n_group": 1, "index_n_heads": 2, "index_head_dim": 16,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "index_topk": 4,
}  # fmt: skip
"""A Hugging Face model that attends to the best four tokens."""


@pytest.mark.parametrize("name", ROTARY)
def test_a_model_is_the_same_after_a_pass_of_another_length(name, monkeypatch):
    model = models.host(name)
    model.cfg.n_ctx = 64
    vector = shl.SteeringVector.make(model, "up", {1: torch.ones(32)})
    before, runs = (weights_of(model), content_of(model), editions(model)), []
    whole = checks._right_padding
    monkeypatch.setattr(checks, "_right_padding", lambda model: runs.append(1) or whole(model))
    for prompt in (SHORT, LONG, SHORT):
        found = shl.residual_stream(model, [prompt, prompt], **QUIET)
        vector.check(model)
        assert (weights_of(model), content_of(model), editions(model)) == before
        with torch.no_grad():  # a pass of the user's own
            model(prompt.ids[None])
        vector.check(model)
        assert torch.equal(found, shl.residual_stream(model, [prompt, prompt], **QUIET))
    assert len(runs) == 1, "what was verified stays verified"


@pytest.fixture(scope="module")
def indexed():
    models.HOSTS["indexed"] = "GlmMoeDsa", INDEXED
    try:
        return models.host("indexed")
    finally:
        del models.HOSTS["indexed"]


def prompts():
    drawn = torch.Generator().manual_seed(5)
    return [shl.Prompt.from_ids(torch.randint(3, 99, (n,), generator=drawn)) for n in (5, 1, 2, 12, 21, 13, 12)]


def test_states_with_attention_to_the_best_tokens_are_those_of_each_prompt_alone(indexed):
    listed = prompts()
    together = shl.residual_stream(indexed, listed, **QUIET)
    alone = torch.cat([shl.residual_stream(indexed, prompt, **QUIET) for prompt in listed], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert checks.batch_notes(indexed, listed) == ("batches of equal length",)
    assert checks.batch_notes(indexed, [shl.Prompt.from_ids([5, 6]), shl.Prompt.from_ids([5, 6, 7, 8])]) == ()
    assert length_effect(indexed, 12, 12) is None and "4 best tokens" in str(length_effect(indexed, 3, 5))


def test_texts_with_attention_to_the_best_tokens_are_those_of_each_prompt_alone(indexed):
    listed = prompts()
    texts = shl.generate(indexed, listed, max_new_tokens=5, **QUIET)
    assert "batches of equal length" in texts.provenance.notes and "4 best tokens" in texts.provenance.notes[-1]
    for prompt, ids in zip(listed, texts.token_ids, strict=True):
        row = prompt.ids.tolist()
        for expected in ids:  # whole passes, as in Hugging Face's own model
            with torch.no_grad():
                logits = indexed.original_model(torch.tensor([row]), use_cache=False).logits[0, -1]
            best = logits.topk(2).values
            assert int(logits.argmax()) == expected or float(best[0] - best[1]) < 1e-3
            row.append(expected)
