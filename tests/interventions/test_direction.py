"""Directions: differences of states that a run of one's own gives, and a control of the same norm."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens import Prompt, at, direction

PLUS, MINUS = ["three plus two", "five"], ["cat", "red dog house", "chat"]


def own_states(model, text, layer):
    """States of one prompt at one residual entry, by the model's own cache."""
    names = [f"blocks.{i}.hook_resid_pre" for i in range(3)] + ["blocks.2.hook_resid_post"]
    with torch.no_grad():
        _, cache = model.run_with_cache(Prompt.from_text(model, text).ids[None], names_filter=names)
    return cache[names[layer]][0]


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_words_is_the_difference_of_their_last_states(tiny_model, layer):
    expected = own_states(tiny_model, "two", layer)[-1] - own_states(tiny_model, "five", layer)[-1]
    found = direction.words(tiny_model, "two", "five", layer)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.norm() > 0.1
    torch.testing.assert_close(direction.words(tiny_model, "five", "two", layer), -found)


@pytest.mark.parametrize("read", ["last", 0, "raw_mean"])
def test_prompts_is_the_difference_of_mean_states(tiny_model, read):
    def mean(texts):
        pooled = {"last": lambda h: h[-1], 0: lambda h: h[0], "raw_mean": lambda h: h[1:].mean(0)}[read]
        return sum(pooled(own_states(tiny_model, text, 2)) for text in texts) / len(texts)

    found = direction.prompts(tiny_model, PLUS, MINUS, 2, read=read)
    torch.testing.assert_close(found, mean(PLUS) - mean(MINUS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_a_direction_of_entry_l_added_at_entry_l_turns_one_prompt_into_the_other_there(tiny_model, layer):
    a, b = "three plus two", "three plus five"
    hooks = at(layer, shl.hooks.add(direction.prompts(tiny_model, [a], [b], layer), positions=-1))
    moved = shl.residual_stream(tiny_model, b, hooks=hooks, progress=False)
    target = shl.residual_stream(tiny_model, a, progress=False)
    torch.testing.assert_close(moved[layer:], target[layer:], atol=1e-4, rtol=1e-4)  # the prefixes are the same
    clean = shl.residual_stream(tiny_model, b, progress=False)
    assert torch.equal(moved[:layer], clean[:layer]) and not torch.allclose(clean[layer:], target[layer:], atol=0.1)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_at_a_steering_vector_and_a_sweeps_recipe_add_at_the_same_entry(tiny_model, layer):
    vector = direction.prompts(tiny_model, ["three plus two"], ["three plus five"], layer)
    recipes = (
        at(layer, shl.hooks.add(vector, 2.0, -1)),
        shl.SteeringVector.make(tiny_model, "two - five", {layer: vector}).hooks(2.0, positions=-1),
        shl.adding(tiny_model)(vector, 2.0, layer),
    )
    clean = shl.residual_stream(tiny_model, "red dog", progress=False)
    for hooks in recipes:
        moved = shl.residual_stream(tiny_model, "red dog", hooks=hooks, progress=False)
        assert torch.equal(moved[:layer], clean[:layer])
        torch.testing.assert_close(moved[layer, 0] - clean[layer, 0], 2 * vector, atol=1e-4, rtol=1e-4)


def test_unembedding_reads_rows_of_the_unembedding_spelled_exactly(tiny_model):
    rows = {word: tiny_model.tokenizer.convert_tokens_to_ids(word) for word in ("two", "▁two", "dog")}
    assert rows["two"] != rows["▁two"]
    column = {word: tiny_model.W_U[:, i].detach() for word, i in rows.items()}
    assert torch.equal(direction.unembedding(tiny_model, " two"), column["▁two"])
    assert torch.equal(direction.unembedding(tiny_model, "two", "dog"), column["two"] - column["dog"])


def test_adding_an_unembedding_row_to_the_final_state_raises_its_token(tiny_model):
    token = tiny_model.tokenizer.convert_tokens_to_ids("dog")

    def log_prob(strength):
        hooks = at(3, shl.hooks.add(direction.unembedding(tiny_model, "dog"), strength, positions=-1))
        with torch.no_grad():
            logits = tiny_model.run_with_hooks("three plus", fwd_hooks=hooks, return_type="logits")
        return float(logits[0, -1].log_softmax(-1)[token])

    assert log_prob(-2.0) < log_prob(0.0) < log_prob(2.0)


def test_mean_difference_by_hand():
    a, b = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0]])
    assert torch.equal(direction.mean_difference(a, b), torch.tensor([2.0, 1.0]))
    assert torch.equal(direction.mean_difference(a.bfloat16(), b.bfloat16()), torch.tensor([2.0, 1.0]))


def test_random_control_has_the_norm_and_nothing_else_of_the_direction():
    given = 7 * torch.randn(2000, generator=torch.Generator().manual_seed(99))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    controls = torch.stack([direction.random_like(given, seed=seed) for seed in range(50)])
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(controls.norm(dim=-1), given.norm().expand(50))
    cosines = torch.nn.functional.cosine_similarity(controls, given[None])
    assert cosines.abs().max() < 4 / 2000**0.5 and cosines.mean().abs() < 4 / (50 * 2000) ** 0.5
    assert torch.equal(controls[7], direction.random_like(given, seed=7)) and not torch.equal(controls[7], controls[8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: direction.words(m, "two", "two", 1), "same"),
        (lambda m: direction.words(m, "two", "", 1), "empty"),
        (lambda m: direction.words(m, "two", "five", 4), "entries 0 to 3"),
        (lambda m: direction.words(m, "two", "five", -1), "out of range"),
        (lambda m: direction.prompts(m, [], ["five"], 1), "empty"),
        (lambda m: direction.unembedding(m, "three plus"), "not a single token"),
        (lambda m: direction.unembedding(m, " two", " two"), "the same"),
        (lambda m: direction.mean_difference(torch.zeros(0, 4), torch.ones(1, 4)), "a has none"),
    ],
)
def test_what_defines_no_direction_raises(tiny_model, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_model)
