"""Converted weights are written one after the other, as transformers writes them."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from semhub_lens.model.packaged import save_streamed


@pytest.mark.parametrize("tied", [False, True])
def test_the_files_are_those_of_save_pretrained_byte_for_byte(tmp_path, tied):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    save_streamed(model, tmp_path / "ours")
    theirs, ours = (files(tmp_path / name) for name in ("theirs", "ours"))
    assert theirs == ours


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
