"""Models of which a part was compiled before hooks came: the numbers of the plain model, or an error, never others."""

import pytest
import torch

import models
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError

TEXT = "three plus two"
QUIET = {"progress": False}
ADDED = shl.at(1, shl.hooks.add(torch.ones(32), 9.0))
CALLS = {
    "states": lambda model: shl.residual_stream(model, TEXT, **QUIET),
    "lens": lambda model: shl.logit_lens(model, TEXT, top_k=2, **QUIET).top_logprobs,
    "edited": lambda model: shl.residual_stream(model, TEXT, hooks=ADDED, **QUIET),
    "damage": lambda model: shl.kl_to_clean(model, [TEXT], ADDED, **QUIET),
    "written": lambda model: torch.tensor(shl.generate(model, TEXT, max_new_tokens=3, hooks=ADDED, **QUIET).token_ids),
}
PARTS = {
    ("hooked", "the model"): lambda model: model,
    ("hooked", "a block"): lambda model: model.blocks[0],
    ("hooked", "an MLP"): lambda model: model.blocks[1].mlp,
    ("bridge", "the model"): lambda model: model.original_model,
    ("bridge", "the model inside"): lambda model: model.original_model.model,
    ("bridge", "an MLP"): lambda model: model.blocks[1].mlp.original_component,
}
"""By backend: what a user compiles for speed."""


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow  # tracing takes half a minute for each
@pytest.mark.filterwarnings("ignore")  # of what cannot be traced
@pytest.mark.parametrize("backend, part", [key for key in PARTS if key[0] in models.BACKENDS])
def test_hooks_that_come_after_a_compilation_act_or_are_refused(backend, part, unchecked):
    plain, model = models.tiny(backend), models.tiny(backend)
    expected = {name: call(plain) for name, call in CALLS.items()}
    compiled = PARTS[backend, part](model)
    compiled.forward = torch.compile(compiled.forward, backend="eager")
    with torch.no_grad():
        model(shl.Prompt.from_text(model, TEXT).ids[None])  # compiled here, without our hooks
    for name, call in CALLS.items():
        try:
            found = call(model)
        except SemhubError as error:
            assert "never fire" in str(error), name
        else:
            torch.testing.assert_close(found, expected[name], atol=1e-5, rtol=1e-5, msg=name)
    assert not any(point.fwd_hooks or point.ctx for point in model.hook_dict.values())
