"""Loading hands out what Hugging Face computes, or says what is wrong with the model or the folder."""

import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

import models
import semhub_lens as shl
from battery.families import save
from semhub_lens.base.errors import Unfit
from semhub_lens.model import agreement, loading

IDS = torch.arange(5, 45)[None]


def saved(name, folder):
    save(name, folder)
    return folder


def off_by(model, folder):
    """Largest difference of a log-probability from Hugging Face's, behind every window."""
    hf = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return float((model(IDS).log_softmax(-1) - hf(IDS).logits.log_softmax(-1)).abs().max())


@pytest.fixture
def spoiled(monkeypatch):
    """Loading whose every model has one weight that is not Hugging Face's."""
    made = {name: getattr(loading, name) for name in ("_hooked", "_bridge")}

    def spoil(name):
        def wrong(*args):
            model = made[name](*args)
            with torch.no_grad():
                model.W_U[:, 3] += 1
            return model

        return wrong

    for name in made:
        monkeypatch.setattr(loading, name, spoil(name))


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_model_that_computes_something_else_is_refused_with_the_size_of_the_error(tmp_path, spoiled, backend):
    folder = saved("llama", tmp_path)
    with pytest.raises(Unfit, match=r"does not compute .*log-probabilities differ by \d\S*, states by \S+ of their"):
        shl.load(folder, backend=backend)
    assert off_by(shl.load(folder, backend=backend, check=False), folder) > 0.1


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("name", ["gpt2", "phi"])
def test_a_folder_of_transformers_5_loads(tmp_path, name, backend):
    folder = saved(name, tmp_path)
    assert off_by(shl.load(folder, backend=backend), folder) < 1e-3


@pytest.mark.skipif(not models.HOOKED_LINE, reason="the bridge takes the windows of Hugging Face")
@pytest.mark.parametrize("window", [16, 30, 100])
def test_a_sliding_window_that_hooked_transformer_ignores_is_noticed_whatever_its_size(tmp_path, window):
    folder = saved("qwen2_window", tmp_path)
    config = (folder / "config.json").read_text().replace('"sliding_window": 30', f'"sliding_window": {window}')
    (folder / "config.json").write_text(config)
    with pytest.raises(Unfit, match=f"window of {window} tokens" if window == 100 else "log-probabilities differ"):
        shl.load(folder, backend="hooked")
    assert off_by(shl.load(folder, backend="bridge"), folder) < 1e-3


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_model_is_named(tmp_path, name, backend):
    with pytest.raises(Unfit, match=rf"is an encoder-decoder model \({name}\)"):
        shl.load(saved(name, tmp_path), backend=backend)


@pytest.mark.parametrize(
    "name, backend", [("falcon_new", "bridge"), *[(n, "hooked") for n in ("gpt_neo_narrow", "llama_wide_heads")]]
)
def test_what_transformer_lens_cannot_hold_is_refused_with_its_reason(tmp_path, name, backend):
    if backend not in models.BACKENDS:
        pytest.skip("transformer-lens 4 has one backend")
    with pytest.raises(Unfit, match=r"cannot (wrap|hold) (Falcon|GPTNeo|Llama)ForCausalLM: .*size"):
        shl.load(saved(name, tmp_path), backend=backend)


@pytest.mark.parametrize("backend", models.BACKENDS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_folder_without_a_tokenizer_says_so(tmp_path, name, backend):
    folder = saved(name, tmp_path)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ValueError, match=rf"{folder} has no readable tokenizer.*save_pretrained"):
        shl.load(folder, backend=backend)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_refusal_in_half_precision_says_how_to_tell_rounding_from_a_fault(tmp_path, monkeypatch, backend):
    """Rounding makes a router choose other experts, so a mixture may be off without a fault."""
    models.tiny_llama().save_pretrained(tmp_path)
    models.tiny_tokenizer().save_pretrained(tmp_path)
    off = agreement.Agreement(1.9, (), 1.5, 0.2)
    monkeypatch.setattr(loading, "disagreement", lambda model, reference: off)
    with pytest.raises(Unfit, match=r"differ by 1\.9 in bfloat16 \(dtype='float32' tells"):
        shl.load(tmp_path, backend=backend, dtype="bfloat16")
    with pytest.raises(Unfit, match=r"differ by 1\.9\. To continue"):
        shl.load(tmp_path, backend=backend)


@pytest.mark.parametrize("itself", [True, False])
def test_a_tokenizer_that_begins_texts_itself_is_read_once(tmp_path, monkeypatch, itself):
    tokenizer, read = models.tiny_tokenizer(), []
    if itself:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
        )
    del tokenizer.init_kwargs["add_bos_token"]
    tokenizer.save_pretrained(tmp_path)
    models.tiny_llama().save_pretrained(tmp_path)
    whole = transformers.AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        transformers.AutoTokenizer,
        "from_pretrained",
        lambda *given, **named: read.append(given) or whole(*given, **named),
    )
    model = shl.load(str(tmp_path), backend=models.BACKENDS[-1])
    assert len(read) == (1 if itself else 2)
    assert shl.Prompt.from_text(model, "dog cat").ids.tolist()[0] == tokenizer.bos_token_id
