"""Loading, the conversion of packaged weights, the read-out check, and what is known about a model's weights."""

import gc
import shutil

import gguf
import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.model import packaged as _packaged
from semhub_lens.model.facts import input_device, is_bridge, output_transform, weight_processing
from semhub_lens.model.packaged import PACKAGED, PackagedModel, cache_root, packaged_files, plain_folder

IDS = torch.tensor([[1, 5, 7, 9, 20]])
GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers.": "blk.",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output",
    "self_attn.": "attn_", "mlp.": "ffn_", "_proj": "",
}  # fmt: skip


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A fresh cache folder."""
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path / "cache"))
    return cache_root() / "models"


def test_the_cache_is_the_users_cache_folder_or_the_named_one(monkeypatch, tmp_path):
    monkeypatch.delenv("SEMHUB_CACHE", raising=False)
    assert cache_root().name == "semhub-lens" and cache_root() != tmp_path
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))
    assert cache_root() == tmp_path


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    """The tiny Llama as a GGUF file with a byte-level tokenizer."""
    path = tmp_path_factory.mktemp("weights") / "small.gguf"
    hf = models.tiny_llama()
    config, writer = hf.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(config.vocab_size)
    letters = [*"abcdefghijklmnopqrstuvwxyz", "ab", *map(chr, range(33, 97))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<unk>", "<bos>", "<eos>", *letters][: config.vocab_size])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for name, weight in hf.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # GGUF keeps the two halves of a rotary pair side by side
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            weight = weight.reshape(heads, 2, -1, config.hidden_size).transpose(1, 2).reshape(weight.shape)
        for old, new in GGUF_NAMES.items():
            name = name.replace(old, new)
        writer.add_tensor(name, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def leftovers(cache):
    """Everything in the cache but lock files."""
    return sorted(p.name for p in cache.iterdir() if p.suffix != ".lock") if cache.is_dir() else []


def damaged(path, folder, how):
    raw = path.read_bytes()
    data = {
        "half": raw[: len(raw) // 2], "tail": raw[:-100], "head": raw[:200], "empty": b"", "text": b"hello" * 100,
        "flipped": raw[:60] + bytes(byte ^ 255 for byte in raw[60:400]) + raw[400:],
    }[how]  # fmt: skip
    target = folder / f"{how}.gguf"
    target.write_bytes(data)
    return target


def logprobs(model, ids=IDS):
    with torch.no_grad():
        out = model(ids)
    return getattr(out, "logits", out).log_softmax(-1)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_gguf_file_is_converted_once_to_the_same_model(gguf_file, cache, backend):
    model = shl.load(gguf_file, backend=backend)
    torch.testing.assert_close(logprobs(model), logprobs(models.tiny_llama()), atol=3e-5, rtol=0)
    assert is_bridge(model) == (backend == "bridge") and not model.training
    (name,) = leftovers(cache)
    stamp = (cache / name / "model.safetensors").stat().st_mtime_ns
    assert name.startswith("small-") and not list(cache.rglob("*.gguf"))
    torch.testing.assert_close(logprobs(shl.load(gguf_file, backend=backend)), logprobs(model))
    assert (cache / name / "model.safetensors").stat().st_mtime_ns == stamp
    assert shl.printable(model.tokenizer, [1, 3, 29]) == ["<bos>", "a", "ab"]


def test_parts_are_joined_and_their_hash_names_the_folder(gguf_file, cache, tmp_path):
    raw = gguf_file.read_bytes()
    parts = [tmp_path / "a", tmp_path / "b"]
    parts[0].write_bytes(raw[:1000])
    parts[1].write_bytes(raw[1000:])
    assert plain_folder("x", parts).name.split("-")[1] == plain_folder("y", [gguf_file]).name.split("-")[1]
    with pytest.raises(ValueError, match="could not be read"):
        plain_folder("z", parts[::-1])
    assert len(leftovers(cache)) == 2


def test_a_gguf_file_is_read_once_for_config_tokenizer_and_weights(gguf_file, cache, monkeypatch):
    import gguf

    opened = []
    begin = gguf.GGUFReader.__init__
    monkeypatch.setattr(gguf.GGUFReader, "__init__", lambda self, path: (opened.append(path), begin(self, path))[1])
    plain_folder("small", [gguf_file])
    assert len(opened) == 1
    plain_folder("small", [gguf_file])
    assert len(opened) == 1 and gguf.GGUFReader(gguf_file).fields  # put back as it was


def test_a_conversion_returns_the_memory_of_the_models_that_it_made(gguf_file, cache, monkeypatch):
    from transformers import PreTrainedModel

    def models_in_memory():
        return sum(issubclass(type(one), PreTrainedModel) for one in gc.get_objects())

    before, then = models_in_memory(), []
    monkeypatch.setattr(_packaged, "return_freed_memory", lambda: then.append(models_in_memory()))
    plain_folder("small", [gguf_file])
    assert then == [before]


@pytest.mark.parametrize("how", ["half", "tail", "head", "empty", "text", "flipped"])
def test_a_damaged_gguf_file_is_refused_and_leaves_nothing(gguf_file, cache, tmp_path, how):
    with pytest.raises(ValueError, match="could not be read as a language model"):
        shl.load(damaged(gguf_file, tmp_path, how))
    assert leftovers(cache) == []


def test_a_wrong_hash_is_refused_before_anything_is_written(gguf_file, cache):
    with pytest.raises(
        ValueError, match=r"corrupted or have another version: SHA-256 is [0-9a-f]{64}, expected 000.*Re-install"
    ):
        plain_folder("small", [gguf_file], "0" * 64)
    assert not cache.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_conversion_leaves_nothing_and_can_be_done_again(gguf_file, cache, monkeypatch, error):
    def interrupted(*args, **kwargs):
        assert leftovers(cache)[0].endswith(".partial")
        raise error("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("transformers.LlamaForCausalLM.save_pretrained", interrupted)
        with pytest.raises((KeyboardInterrupt, OSError, ValueError)):
            shl.load(gguf_file, backend="bridge")
    assert leftovers(cache) == []
    shl.load(gguf_file, backend="bridge")
    assert len(leftovers(cache)) == 1


def test_what_a_killed_conversion_left_is_wiped(gguf_file, cache):
    done = plain_folder("small", [gguf_file])
    shutil.rmtree(done)
    stale = done.with_name(done.name + ".partial")
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(b"half")
    again = plain_folder("small", [gguf_file])
    assert leftovers(cache) == [again.name] == [done.name]
    assert (again / "model.safetensors").stat().st_size > 1000


def test_an_unwritable_cache_is_named(gguf_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"cannot be written.*SEMHUB_CACHE"):
        shl.load(gguf_file)


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch):
    missing = PackagedModel("lost", (("no_such_module_of_ours", "w.gguf"),), "0" * 64, "pip install lost==1", "", None)
    monkeypatch.setitem(PACKAGED, "lost", missing)
    with pytest.raises(ValueError, match=r"'lost' are not installed.*pip install lost==1"):
        shl.load("lost")
    broken = PackagedModel("lost", (("semhub_lens", "no-such-file.gguf"),), "0" * 64, "pip install lost==1", "", None)
    with pytest.raises(ValueError, match="pip install lost==1"):
        packaged_files(broken)


@pytest.mark.slow
def test_smollm2_is_converted_in_a_fresh_cache(cache):
    from transformers import AutoModelForCausalLM

    model = shl.load("smollm2-135m", backend="bridge")
    (name,) = leftovers(cache)
    hf = AutoModelForCausalLM.from_pretrained(cache / name)
    torch.testing.assert_close(logprobs(model), logprobs(hf), atol=1e-4, rtol=0)
    assert model.cfg.model_name == "smollm2-135m" and weight_processing(model) == "none"
    assert (
        model.tokenizer.decode(logprobs(model, model.to_tokens("The capital of France is"))[0, -1].argmax()) == " Paris"
    )


@pytest.mark.parametrize("backend", ["auto", *models.BACKENDS])
def test_a_local_folder_loads_without_the_cache(cache, tmp_path, backend):
    hf = models.tiny_llama()
    hf.save_pretrained(tmp_path / "m")
    models.tiny_tokenizer().save_pretrained(tmp_path / "m")
    model = shl.load(str(tmp_path / "m"), backend=backend, dtype="float32")
    torch.testing.assert_close(logprobs(model), logprobs(hf), atol=3e-5, rtol=0)
    assert is_bridge(model) == (backend == "bridge" or not models.HOOKED_LINE)
    assert not cache.exists() and str(input_device(model)) in ("cpu", "cuda:0")
    assert next(shl.load(tmp_path / "m", backend=backend, dtype="bfloat16").parameters()).dtype == torch.bfloat16


@pytest.mark.slow
def test_auto_takes_hooked_where_the_line_knows_the_architecture():
    assert is_bridge(shl.load("gemma-3-270m")) != models.HOOKED_LINE


@pytest.mark.skipif(models.HOOKED_LINE, reason="the 3.9 line has HookedTransformer")
def test_the_hooked_backend_is_refused_where_the_line_lacks_it():
    with pytest.raises(ValueError, match=r"removed in version 4.*backend='bridge'"):
        shl.load("gemma-3-270m", backend="hooked")


@pytest.mark.parametrize(
    "name, nearest", [("gemma-3-270", "gemma-3-270m"), ("smolm2-135m", "smollm2-135m"), ("gpt2-smal", "gpt2")]
)
def test_an_unknown_name_lists_the_nearest_known_ones(name, nearest):
    with pytest.raises(ValueError, match=rf"Unknown model '{name}'.*Nearest known names: .*\b{nearest}\b"):
        shl.load(name)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_both_backends_hold_the_same_weights(backend):
    model, hf = models.tiny(backend), models.tiny_llama()
    torch.testing.assert_close(logprobs(model), logprobs(hf), atol=3e-5, rtol=0)
    assert torch.equal(model.W_U, hf.lm_head.weight.T)
    assert weight_processing(model) == "none"


def folded(backend):
    model = models.tiny(backend)
    if backend == "hooked":
        model.process_weights_(fold_ln=True, center_writing_weights=False, center_unembed=True)
    else:
        model.enable_compatibility_mode()
    return model


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_folded_weights_are_noticed_refused_for_bare_states_and_read_right_otherwise(backend):
    model, raw = folded(backend), models.tiny(backend)
    assert "folded" in weight_processing(model)
    with pytest.raises(ValueError, match="norm='none' needs raw weights, but these are folded"):
        shl.Readout(model, norm="none")
    ours, theirs = (shl.logit_lens(m, "three plus two", top_k=69, progress=False) for m in (model, raw))
    torch.testing.assert_close(ours.entropy, theirs.entropy, atol=1e-3, rtol=0)
    assert ours.provenance.processing == weight_processing(model) and theirs.provenance.processing == "none"


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_centred_weights_are_noticed(backend):
    model = models.tiny(backend)
    embedding = model.embed.W_E
    with torch.no_grad():
        embedding -= embedding.mean(-1, keepdim=True)
    assert weight_processing(model) == "centred"


def test_compatibility_mode_without_processing_is_not_folding():
    model = models.tiny("bridge")
    model.enable_compatibility_mode(no_processing=True)
    assert weight_processing(model) == "none"


@pytest.mark.parametrize("factor", [1.01, float("nan")])
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_read_out_that_differs_from_the_models_own_logits_is_refused(backend, factor):
    model = models.tiny(backend)
    shl.Readout(model)
    model.add_hook("unembed.hook_out", lambda logits, hook: logits * factor)
    with pytest.raises(ValueError, match="does not reproduce this model's own log-probabilities"):
        shl.Readout(model)
    with pytest.raises(ValueError, match="does not reproduce"):
        shl.logit_lens(model, "three", progress=False)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_read_out_is_checked_once_and_again_when_its_weights_change(backend):
    model, passes = models.tiny(backend), []
    model.blocks[0].register_forward_hook(lambda module, args, output: passes.append(1))

    def checks():
        passes.clear()
        shl.Readout(model)
        return len(passes)

    assert [checks(), checks()] == [1, 0]
    with torch.no_grad():
        model.W_U.mul_(1.5)
    assert [checks(), checks()] == [1, 0], "changed in place"
    gain = next(model.ln_final.parameters())
    with torch.no_grad():
        gain[0] += 1
    assert [checks(), checks()] == [1, 0], "so was the norm"
    gain.data = 2 * gain.data
    assert [checks(), checks()] == [1, 0], "replaced"
    model.add_hook("unembed.hook_out", lambda logits, hook: None)
    assert [checks(), checks()] == [1, 1], "one cannot tell what a hook does"
    model.reset_hooks()
    assert checks() == 0


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_copy_of_a_model_is_checked_on_its_own(backend):
    model = models.tiny(backend)
    shl.Readout(model)
    other = shl.untrained(model, seed=1)
    other.add_hook("unembed.hook_out", lambda logits, hook: 2 * logits)
    with pytest.raises(ValueError, match="does not reproduce"):
        shl.Readout(other)
    shl.Readout(model)


@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_bias_of_the_unembedding_is_read(backend):
    model = models.tiny(backend)
    bias = torch.randn(model.cfg.d_vocab, generator=torch.Generator().manual_seed(0))
    (model.unembed.b_U if backend == "hooked" else model.original_model.lm_head.original_component.bias).data = bias
    states = shl.residual_stream(model, "three", progress=False)
    expected = (model.ln_final(states[:, 0][None])[0] @ model.W_U + bias).log_softmax(-1)
    torch.testing.assert_close(shl.Readout(model)(states[:, 0]).log_softmax(-1), expected, atol=1e-4, rtol=0)


@pytest.mark.skipif(not models.HOOKED_LINE, reason="HookedTransformer was removed in 4.x")
def test_the_soft_cap_of_a_hooked_model_is_its_formula():
    model, logits = models.tiny("hooked"), torch.linspace(-90, 90, 7)
    assert torch.equal(output_transform(model, logits), logits)
    model.cfg.output_logits_soft_cap = 30.0
    torch.testing.assert_close(output_transform(model, logits), 30 * torch.tanh(logits / 30))


def test_the_packaged_models_are_listed_with_hash_licence_and_install_command():
    for name, packaged in _packaged.PACKAGED.items():
        assert name == packaged.name and len(packaged.sha256) == 64
        assert packaged.install.startswith("pip install") and packaged.licence
