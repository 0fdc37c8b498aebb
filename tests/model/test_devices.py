"""A model that is spread over several devices: every tensor is put where the layer lies that it meets.

The devices are those of `devices.py`, which do not exist and refuse to mix. A process of its own runs on them.
"""

from dataclasses import replace

import accelerate
import pytest
import torch

import devices
import models
import samples
import semhub_lens as shl
from elsewhere import QUIET, SIZE, measured
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.model import reads
from semhub_lens.model.facts import weights_of

pytestmark = pytest.mark.skipif(not devices.AVAILABLE, reason="this PyTorch knows no devices in Python")

MAP = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 1, "lm_head": 0} | {
    f"model.layers.{layer}": int(layer > 0) for layer in range(3)
}
"""The final norm lies on another device than the unembedding."""
SAMPLES = (
    "LensResult", "AttributionResult", "TargetResult", "Generation", "HostCheck", "MassResult", "ConceptPatchResult",
    "PatchResult", "SweepResult", "SteeringVector",
)  # fmt: skip


def spread(backend, dtype=torch.float32):
    if backend == "bridge":
        hf = models.tiny_llama(dtype=dtype, vocabulary=SIZE)
        for name, index in MAP.items():
            devices.place(hf.get_submodule(name), index)
        where = {name: str(devices.device(index)) for name, index in MAP.items()}
        accelerate.dispatch_model(hf, where, main_device=str(devices.device(0)), force_hooks=True)
        return models.tiny("bridge", hf=hf)
    from transformer_lens.utilities.multi_gpu import get_device_for_block_index

    model = models.tiny("hooked", dtype=dtype)
    model.cfg.device, model.cfg.n_devices = str(devices.device(0)), 2
    for index, block in enumerate(model.blocks):
        devices.place(block, get_device_for_block_index(index, model.cfg).index)
    devices.place(model.unembed, 1)
    devices.place(model.ln_final, 1)
    devices.place(model, 0)
    return model


def results(model):
    made = {name: samples.SAMPLES[name](model) for name in SAMPLES}
    here = {name: replace(one, provenance=replace(one.provenance, device="cpu")) for name, one in made.items()}
    return {name: fingerprint(one) for name, one in (here | measured(model)).items()} | {"model": weights_of(model)}


@pytest.mark.slow
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_a_model_on_two_devices_gives_the_numbers_of_one(backend):
    assert devices.in_a_fork(lambda: results(spread(backend))) == results(models.tiny(backend))


@pytest.mark.slow
@pytest.mark.parametrize("backend", models.BACKENDS)
def test_half_precision_on_two_devices(backend):
    def read(model):
        lens = shl.logit_lens(model, "three plus two", **QUIET)
        grid = shl.patch_grid(model, "three plus two", "five plus two", samples.difference(model), **QUIET)
        new = shl.generate(model, ["red", "two dog"], hooks=shl.at([1, 3], add), max_new_tokens=3, **QUIET)
        return lens.top_ids.tolist(), grid.values.tolist(), new.token_ids

    dtype, add = torch.bfloat16, shl.hooks.add(torch.ones(32), strength=2.0)
    assert devices.in_a_fork(lambda: read(spread(backend, dtype))) == read(models.tiny(backend, dtype=dtype))


def test_the_devices_refuse_what_real_ones_refuse():
    def errors():
        one, other = (torch.arange(3.0).to(devices.device(index)) for index in range(2))
        assert one.device == devices.device(0) and (one * 2 + 1).cpu().tolist() == [1, 3, 5]
        assert one[torch.tensor([2, 0])].cpu().tolist() == [2, 0]
        assert other.sum().device == devices.device(1) and (one + torch.tensor(1.0)).cpu().tolist() == [1, 2, 3]
        calls = (
            lambda: one + other, lambda: one + torch.ones(3), lambda: torch.ones(3) @ other,
            lambda: torch.stack([one, other]), lambda: torch.ones(3)[one.long()], lambda: one.numpy(),
            lambda: one.__setitem__(torch.tensor([0, 1]), torch.ones(2)),
        )  # fmt: skip
        found = []
        for call in calls:
            try:
                call()
            except (RuntimeError, TypeError) as error:
                found.append(type(error).__name__)
        return found

    assert devices.in_a_fork(errors) == ["Mixed"] * 5 + ["RuntimeError", "Mixed"]


def test_a_tensor_that_stays_behind_is_found_out(monkeypatch):
    """The control: means of states are read on two devices, and not with weights that stay where the model begins."""

    def means(model):
        return shl.residual_stream(model, ["three plus two", "red"], read="mean", **QUIET)

    def stay(self, states):
        return torch.einsum("bp,bpd->bd", self._weights, states.float())

    def run():
        model = spread("bridge")
        right = means(model).tolist()
        monkeypatch.setattr(reads.ReadOfBatch, "__call__", stay)
        try:
            return right, means(model)
        except devices.Mixed as error:
            return right, str(error)

    right, wrong = devices.in_a_fork(run)
    assert right == means(models.tiny("bridge")).tolist()
    assert "privateuseone:0" in str(wrong)
