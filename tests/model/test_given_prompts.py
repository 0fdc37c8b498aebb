"""One prompt in all the forms that people have: the same tokens, the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

import chats
import models
import semhub_lens as shl
from semhub_lens import Prompt, steering_scores
from semhub_lens.model.resolve import as_prompts

TEXT, OTHER = "three plus two", "four plus two"
QUIET = {"progress": False}
ADDED = shl.at(1, shl.hooks.add(torch.ones(32)))


def ids_of(model, prompts):
    return [prompt.ids.tolist() for prompt in as_prompts(model, prompts)]


def forms(model, text):
    """One prompt as ids; what `to_tokens` gives among them."""
    tokens = model.to_tokens(text)
    row = tokens[0]
    return [row, tokens, row.tolist(), row.numpy(), Prompt.from_ids(tokens), {"input_ids": tokens},
        {"input_ids": row.tolist(), "attention_mask": [1] * len(row)}]  # fmt: skip


def several(model, prompts):
    """Every function of prompts, as numbers."""
    targets, table = {"2": " two"}, shl.script_table(model)
    direction = shl.direction.prompts(model, prompts, OTHER, 1)
    damage = steering_scores.damage(model, prompts, items=1, **QUIET)
    written = steering_scores.continuations(
        model, prompts, lambda made: {"n": torch.tensor([float(len(ids)) for ids in made.token_ids])}, **QUIET
    )
    return [
        shl.residual_stream(model, prompts, read="mean", **QUIET),
        shl.target_lens(model, prompts, common=[" two"], **QUIET).log_probs,
        shl.language_mass(model, prompts, table, **QUIET).item_mass,
        torch.tensor(shl.generate(model, prompts, max_new_tokens=3, **QUIET).token_ids[0]),
        shl.kl_to_clean(model, prompts, ADDED, **QUIET),
        shl.continuation_perplexity(model, prompts, [" two"], **QUIET),
        steering_scores.next_token(model, prompts, targets, **QUIET)(ADDED)["2"],
        damage(ADDED)["KL to clean"],
        written(())["n"],
        direction,
    ]


def single(model, prompt):
    """Every function of one prompt, as numbers."""
    metric = shl.metric.kl(model, prompt)
    return [
        shl.logit_lens(model, prompt, **QUIET).top_logprobs,
        shl.direct_attribution(model, prompt).logits,
        shl.patch_grid(model, prompt, OTHER, metric, **QUIET).values,
        shl.attribution_grid(model, OTHER, prompt, shl.metric.log_prob(model, " two")).values,
    ]


def test_every_function_gives_the_same_numbers_for_a_text_and_its_ids():
    model = models.tiny("bridge")
    expected = [*several(model, TEXT), *single(model, TEXT)]
    for form in forms(model, TEXT)[1:3]:
        for one, other in zip(expected, [*several(model, form), *single(model, form)], strict=True):
            assert torch.equal(one, other), form


def test_ids_say_in_the_provenance_whether_they_begin_with_bos(tiny_model):
    for form in forms(tiny_model, TEXT):
        assert ids_of(tiny_model, form) == ids_of(tiny_model, TEXT)
        assert shl.logit_lens(tiny_model, form, **QUIET).provenance.bos is True
    tokens = tiny_model.to_tokens(TEXT, prepend_bos=False)
    assert shl.logit_lens(tiny_model, tokens, **QUIET).provenance.bos is False


def test_a_hooked_run_takes_its_labels_from_a_row_of_tokens(tiny_model):
    lens = shl.LogitLens(tiny_model)
    tokens = tiny_model.to_tokens(TEXT)
    with torch.no_grad():
        tiny_model.run_with_hooks(tokens, fwd_hooks=lens.hooks)
    assert lens.result(tokens=tokens).labels == lens.result(tokens=tokens[0].tolist()).labels
    assert lens.result(tokens=tokens).labels == shl.logit_lens(tiny_model, TEXT, **QUIET).labels


def lying(kind, values):
    """A NumPy array as it comes from a file of tokens, from another computer, or turned round."""
    array = np.array(values)
    if kind == "reversed":
        return array[::-1].copy()[::-1]
    if kind in ("uint16", ">i4"):
        return array.astype(kind)
    array.flags.writeable = kind != "read-only"
    return np.ma.array(array) if kind == "nothing masked" else array


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["uint16", ">i4", "read-only", "reversed", "nothing masked"])
def test_an_array_is_read_however_it_lies_in_memory(tiny_model, unchecked, kind):
    row = lying(kind, [5, 6, 7])
    for form in (row, row[None], [row], Prompt.from_ids(row), {"input_ids": row}):
        assert ids_of(tiny_model, form) == [[5, 6, 7]]
    assert Prompt.from_ids(row, mask=lying(kind, [1, 1, 0])).ids.tolist() == [5, 6]
    one, other = (
        shl.residual_stream(tiny_model, row, hooks=shl.at(1, shl.hooks.add(torch.ones(32), positions=chosen)), **QUIET)
        for chosen in (lying(kind, [1, 2]), [1, 2])
    )
    assert torch.equal(one, other)


def test_an_array_of_texts_or_of_rows_is_several_prompts(tiny_model, unchecked):
    rows = np.empty(2, dtype=object)
    rows[:] = [[5, 6], [7]]
    assert ids_of(tiny_model, np.array(["red", "dog"])) == ids_of(tiny_model, ["red", "dog"])
    assert ids_of(tiny_model, rows) == [[5, 6], [7]]


def test_token_types_that_say_nothing_are_left_out(tiny_model):
    given = {"input_ids": [[5, 6], [7, 8]], "token_type_ids": [[0, 0], [0, 0]]}
    assert ids_of(tiny_model, given) == [[5, 6], [7, 8]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_mask_of_a_batch_tells_its_padding(tiny_model, side):
    tokenizer = tiny_model.tokenizer
    texts, before = ["red", "three plus two", "<bos>red<eos>"], (tokenizer.padding_side, tokenizer.pad_token)
    tokenizer.padding_side, tokenizer.pad_token = side, "<eos>"
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    batch = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    lists = tokenizer(texts, padding=True, add_special_tokens=False)
    tokenizer.padding_side, tokenizer.pad_token = before
    assert ids_of(tiny_model, batch) == ids_of(tiny_model, lists) == rows
    for one, other in zip(shl.residual_stream(tiny_model, batch, **QUIET).unbind(1), texts, strict=True):
        alone = Prompt.from_text(tiny_model, other, prepend_bos=False)
        assert torch.allclose(one, shl.residual_stream(tiny_model, alone, **QUIET)[:, 0], atol=1e-5)


def test_a_batch_without_mask_is_whole_or_refused(tiny_model):
    pad = tiny_model.tokenizer.pad_token_id
    whole, one_pad, two = [[1, 5, 6], [1, 7, 8]], [[1, 5, pad], [1, 7, 8]], [[1, pad, pad], [1, 7, 8]]
    ended, left = [[1, 5, pad], [1, 7, pad]], [[pad, 5, 6], [1, 7, 8]]
    for rows in (whole, ended):  # padding never fills the end of every row of a batch
        assert ids_of(tiny_model, torch.tensor(rows)) == ids_of(tiny_model, rows) == rows
        assert ids_of(tiny_model, {"input_ids": torch.tensor(rows)}) == rows
    for rows in (one_pad, two, left):
        for form in (torch.tensor(rows), rows, {"input_ids": rows}):
            with pytest.raises(shl.SemhubError, match="mask"):
                as_prompts(tiny_model, form)
    assert ids_of(tiny_model, torch.tensor([[1, 5, pad]])) == [[1, 5, pad]]  # an end that was written
    with pytest.raises(shl.SemhubError, match="end in padding"):
        as_prompts(tiny_model, torch.tensor([[1, pad, pad]]))


def test_without_a_tokenizer_a_batch_is_taken_whole(tiny_model):
    bare = models.host("gpt2")
    assert ids_of(bare, torch.tensor([[5, 6], [7, 0]])) == [[5, 6], [7, 0]]


def test_a_list_may_mix_forms():
    model = models.tiny(tokenizer=chats.tokenizer(chats.QWEN))
    messages = [{"role": "user", "content": "a"}]
    row = Prompt.from_chat(model, messages).ids.tolist()
    assert ids_of(model, messages) == [row]
    assert ids_of(model, [messages, "a", [5, 6], torch.tensor([[7]]), {"input_ids": [8]}]) == [
        row, Prompt.from_text(model, "a").ids.tolist(), [5, 6], [7], [8]
    ]  # fmt: skip
    assert ids_of(model, [{"input_ids": [8]}, {"input_ids": [9]}]) == [[8], [9]]


@pytest.mark.parametrize(
    "given, error",
    [
        (torch.zeros(0, 2, dtype=torch.long), "no rows"),
        (torch.zeros(2, 2), "whole numbers"),
        (torch.ones(1, 2, dtype=torch.bool), "mask"),
        (torch.zeros(1, 1, 2, dtype=torch.long), "shape"),
        (np.array([1.5]), "whole numbers"),
        ([[1, 2], "red", 5], "got int: 5"),
        ({"input_ids": [1], "pixel_values": [2]}, "Prompt.from_processor"),
        ({"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1]]}, "1 rows for 2 rows"),
        ({"input_ids": [[1, 2]], "attention_mask": [[0, 0]]}, "mask="),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0, 1]]}, "one text and no types"),
        ({"input_ids": torch.tensor([[1, 2]]), "token_type_ids": torch.tensor([[0, 1]])}, "one text and no types"),
        # like a tensor on a GPU, NumPy cannot read this one
        ({"input_ids": torch.tensor([[1, 2]]), "token_type_ids": torch.ones(1, 2).requires_grad_()}, "and no types"),
        ({"input_ids": [], "attention_mask": []}, "no list of token ids"),
        ({"input_ids": 5, "attention_mask": 1}, "no list of token ids"),
        ({"input_ids": torch.tensor(5), "attention_mask": torch.tensor(1)}, "no list of token ids"),
        (pd.DataFrame({"text": ["red"], "answer": ["dog"]}), "several columns.*'text', 'answer'"),
        (np.array([1, "red"], dtype=object), "whole number"),
        (np.ma.array([1, 2], mask=[False, True]), "mask of its own"),
        (torch.tensor([1 + 1j]), "pass real numbers"),
        ({"role": "user", "content": "a"}, "pass chat messages as a list"),
        ([{"role": "user", "content": "a"}], "no chat template"),
        ([1, 2.5], "whole number"),
    ],
)
def test_other_things_are_refused_in_words(tiny_model, unchecked, given, error):
    with pytest.raises(shl.SemhubError, match=error):
        as_prompts(tiny_model, given)


def test_one_prompt_is_one(tiny_model):
    batch = torch.tensor([[1, 5], [1, 6]])
    with pytest.raises(shl.SemhubError, match="logit_lens takes one prompt, got 2"):
        shl.logit_lens(tiny_model, batch, **QUIET)
    with pytest.raises(shl.SemhubError, match="takes one prompt, got 2"):
        shl.patch_grid(tiny_model, batch, batch, shl.metric.log_prob(tiny_model, " two"), **QUIET)
    with pytest.raises(shl.SemhubError, match=r"logit_lens\(\): prompt= takes a prompt \(a text"):
        shl.logit_lens(tiny_model, ["red", "dog"], **QUIET)
