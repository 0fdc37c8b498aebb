"""A model whose weights lie elsewhere gives the numbers that it gives at home, or is refused in words."""

import accelerate
import pytest
import torch
from transformers import LlamaForCausalLM

import models
import samples
import semhub_lens as shl
from battery.families import save
from elsewhere import LINE, MIXED, QUIET, SIZE, TEXTS, away, measured, offloaded
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.model import checks, loading
from semhub_lens.model.facts import weights_of
from semhub_lens.model.readout import Readout
from semhub_lens.model.weights import editions, present, stored, unembedding

SAMPLES = (
    "LensResult", "AttributionResult", "TargetResult", "Generation", "HostCheck", "MassResult", "PatchResult",
    "ApproximatePatchResult",
)  # fmt: skip


def results(model, names=SAMPLES):
    made = {name: fingerprint(samples.SAMPLES[name](model)) for name in names}
    return made | {name: fingerprint(value) for name, value in measured(model).items()} | {"model": weights_of(model)}


@pytest.fixture(scope="module")
def at_home():
    return results(models.tiny(LINE))


def home(model):
    return {str(weight.device) for weight in model.parameters()}


def test_an_offloaded_model_gives_the_numbers_of_the_model_and_is_the_same_model(at_home, tmp_path):
    model = offloaded("cpu", tmp_path)
    assert results(model) == at_home
    assert home(model) == {"meta"}, "what was fetched is given back"
    assert weights_of(model) != weights_of(offloaded("cpu", tmp_path, seed=1))


def test_a_model_on_the_disk_gives_the_numbers_of_the_model(tmp_path):
    """Up to rounding: read from a file, a matrix may lie otherwise in memory, and is summed in another order."""

    def numbers(model):
        lens, parts = (samples.SAMPLES[name](model) for name in ("TargetResult", "AttributionResult"))
        read = lens.log_probs, parts.attention, parts.mlp, parts.logits, samples.SAMPLES["PatchResult"](model).values
        new = shl.generate(model, TEXTS, max_new_tokens=4, **QUIET).token_ids
        return *read, shl.residual_stream(model, TEXTS, **QUIET), torch.tensor(new)

    plain, model = models.tiny(LINE), offloaded("disk", tmp_path)
    for one, other in zip(numbers(plain), numbers(model), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert weights_of(plain) == weights_of(model)
    assert home(model) == {"meta"}


@pytest.mark.skipif(models.HOOKED_LINE, reason="a bridge of this line cannot be offloaded")
def test_a_model_of_which_a_part_lies_on_the_disk_gives_the_same_numbers(at_home, tmp_path):
    names = ("LensResult", "AttributionResult")
    model = offloaded("mixed", tmp_path)
    assert results(model, names).items() <= at_home.items()
    assert home(model) == {"cpu", "meta"}


def test_half_precision_is_widened_from_the_real_weights(tmp_path):
    """The read-out in float32 replaces the norm's weights, which accelerate would put back in the middle of it."""
    plain, model = (
        models.tiny(LINE, dtype=torch.bfloat16), offloaded("cpu", tmp_path, dtype=torch.bfloat16)
    )  # fmt: skip
    states = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    for precision in ("float32", "model"):
        one, other = (Readout(each, dtype=precision)(states) for each in (plain, model))
        assert torch.equal(one, other)
    assert not torch.equal(Readout(model)(states), other)


def test_weights_are_read_where_they_are_kept_and_the_hooks_stay(tmp_path):
    plain, model = models.tiny(LINE), offloaded("cpu", tmp_path)
    assert model.W_U.is_meta and torch.equal(unembedding(model), plain.W_U)
    hooks = {name: vars(part).get("_hf_hook") for name, part in model.named_modules()}
    homes = {name: dict(hook.original_devices) for name, hook in hooks.items() if getattr(hook, "offload", False)}
    with pytest.raises(ZeroDivisionError), present(model, device="cpu"):
        assert home(model) == {"cpu"}
        assert not any("_hf_hook" in vars(part) for part in model.unembed.modules())
        1 / 0
    assert home(model) == {"meta"}
    assert hooks == {name: vars(part).get("_hf_hook") for name, part in model.named_modules()}
    assert homes == {name: dict(hooks[name].original_devices) for name in homes}
    for (name, own), (other, kept) in zip(stored(plain), stored(model), strict=True):
        assert name == other and torch.equal(own, kept)


def test_what_was_verified_of_an_offloaded_model_is_verified_anew_when_a_weight_changes(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(checks, "_repeating", lambda model: runs.append(1) or checks.Fact(0.0, 1.0))
    model = offloaded("cpu", tmp_path)
    for _ in range(2):
        checks.repeating(model)
        shl.residual_stream(model, "red", **QUIET)
    before = weights_of(model), editions(model)
    assert len(runs) == 1
    with torch.no_grad():
        dict(stored(model))[next(name for name, _ in stored(model) if "layers.1" in name or "blocks.1" in name)].add_(1)
    checks.repeating(model)
    assert len(runs) == 2
    assert before[0] != weights_of(model) and before[1] != editions(model)


@pytest.mark.parametrize("how", ["cpu", "disk"])
@pytest.mark.skipif(models.HOOKED_LINE, reason="a HookedTransformer holds no tied weights")
def test_tied_weights_are_one_weight_wherever_they_lie(how, tmp_path):
    def tied():
        hf = models.tiny_llama(vocabulary=SIZE)
        hf.config.tie_word_embeddings = True
        return LlamaForCausalLM(hf.config).eval()

    torch.manual_seed(0)
    plain = tied()
    moved = tied()
    moved.load_state_dict(plain.state_dict())
    one, other = models.tiny("bridge", hf=plain), models.tiny("bridge", hf=away(moved, how, tmp_path))
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    assert weights_of(one) == weights_of(other)


def test_random_weights_of_an_offloaded_model_are_refused(tmp_path):
    with pytest.raises(Unfit, match="offloaded or quantised"):
        shl.untrained(offloaded("cpu", tmp_path), seed=0)


def test_a_model_that_accelerate_places_but_does_not_offload_can_be_drawn_anew():
    hf = models.tiny_llama(vocabulary=SIZE)
    where = dict.fromkeys(MIXED, "cpu")
    model = models.tiny("bridge", hf=accelerate.dispatch_model(hf, where, main_device="cpu", force_hooks=True))
    plain = models.tiny("bridge")
    assert any("_hf_hook" in vars(part) for part in hf.modules())
    one, other = (shl.residual_stream(shl.untrained(each, seed=0), TEXTS, **QUIET) for each in (plain, model))
    assert torch.equal(one, other)
    assert torch.equal(shl.residual_stream(plain, TEXTS, **QUIET), shl.residual_stream(model, TEXTS, **QUIET))
    assert not torch.allclose(one, shl.residual_stream(plain, TEXTS, **QUIET))


def test_weights_without_values_are_refused_before_anything_runs():
    model = models.tiny(LINE)
    part = model.blocks[1].mlp
    part.to("meta")
    ran = []
    calls = (
        lambda: Readout(model),
        lambda: shl.residual_stream(model, "red", hooks=[("hook_embed", lambda x, hook: ran.append(1))], **QUIET),
        lambda: weights_of(model),
    )
    for call in calls:
        with pytest.raises(Unfit, match="have no values: they are on the device 'meta'"):
            call()
    assert not ran


@pytest.mark.skipif(not models.HOOKED_LINE, reason="transformer-lens 4 runs it")
@pytest.mark.parametrize("how", ["cpu", "disk"])
def test_an_offloaded_bridge_of_the_older_line_is_refused_in_words(how, tmp_path):
    model = offloaded(how, tmp_path, "bridge")
    calls = (
        lambda: shl.logit_lens(model, "red", **QUIET),
        lambda: shl.residual_stream(model, "red", **QUIET),
        lambda: shl.direction.unembedding(model, "two"),
        lambda: weights_of(model),
    )
    for call in calls:
        with pytest.raises(Unfit, match=r"transformer-lens 3\.9 cannot"):
            call()


def test_a_device_map_is_passed_on_or_refused_in_words(tmp_path):
    save("llama", tmp_path)
    plain, ids = shl.load(tmp_path, backend="bridge", device="cpu"), torch.arange(5, 12)
    for where, found in (("cpu", "cpu"), ("disk", "meta")):
        if where == "disk" and models.HOOKED_LINE:
            with pytest.raises(Unfit, match="disk"):
                shl.load(tmp_path, device_map={"": where})
            continue
        model = shl.load(tmp_path, device_map={"": where})
        assert home(model) == {found}
        one, other = (shl.residual_stream(each, ids, **QUIET) for each in (plain, model))
        assert torch.equal(one, other) and weights_of(plain) == weights_of(model)


def test_a_device_map_beside_a_device_or_for_another_class_is_refused(tmp_path):
    with pytest.raises(SemhubError, match="not both"):
        shl.load(tmp_path, device="cpu", device_map="auto")
    if models.HOOKED_LINE:
        with pytest.raises(SemhubError, match="backend='bridge'"):
            shl.load(tmp_path, backend="hooked", device_map="auto")


def test_a_device_map_goes_on_to_transformer_lens_for_a_model_that_only_it_can_read(monkeypatch):
    asked = {}
    monkeypatch.setattr(loading.TransformerBridge, "boot_transformers", lambda name, **given: asked.update(given))
    loading._by_transformer_lens("owner/name", "bridge", {"device_map": "balanced"}, torch.float32)
    assert asked == {"device_map": "balanced", "dtype": torch.float32}
