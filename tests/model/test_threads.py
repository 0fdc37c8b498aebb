"""Threads on one model: a run gives its own numbers or is refused, and passes of the user's own stay out of it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.model.hooking import site_name, windowed

TEXTS = ["three plus two", "red dog", "one two three four five six", "cat"]
CALLS = {
    "residual_stream": lambda model, text: shl.residual_stream(model, text, progress=False),
    "logit_lens": lambda model, text: shl.logit_lens(model, text, top_k=2, progress=False).top_logprobs,
}


@pytest.mark.parametrize("name", CALLS)
def test_of_runs_at_one_time_each_is_right_or_refused(tiny_model, name):
    alone = [CALLS[name](tiny_model, text) for text in TEXTS]

    def run(i):
        try:
            return torch.equal(CALLS[name](tiny_model, TEXTS[i % 4]), alone[i % 4])
        except SemhubError as error:
            return "Threads that share a model must take turns" in str(error)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(48)))
    assert not any(point.fwd_hooks or point.ctx for point in tiny_model.hook_dict.values())
    assert torch.equal(CALLS[name](tiny_model, TEXTS[0]), alone[0])


def test_of_two_claims_at_one_moment_one_is_refused(tiny_model):
    """Every look at a context lets the other thread go on: a check and a claim in two steps would both succeed."""
    together, inside, refused = threading.Barrier(2), [], []

    class Slow(dict):
        def __contains__(self, key):
            found = super().__contains__(key)
            together.wait(timeout=5)
            return found

        def get(self, key, default=None):
            found = super().get(key, default)
            together.wait(timeout=5)
            return found

    points = {id(p.ctx): p for p in tiny_model.hook_dict.values()}.values()
    (first,) = list(points)[:1]
    owner = getattr(first, "_target", first)
    owner.ctx, kept = Slow(owner.ctx), owner.ctx

    def claim():
        try:
            with windowed(tiny_model):
                inside.append(1)
                leave.wait(timeout=5)
        except SemhubError:
            refused.append(1)
        finally:
            leave.set()

    leave = threading.Event()
    try:
        threads = [threading.Thread(target=claim) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        owner.ctx = kept
    assert (inside, refused) == ([1], [1])


def test_a_pass_of_another_thread_meets_no_hook_of_a_run(tiny_model):
    tokens = torch.tensor([[1, 8, 9, 10]])
    plain = tiny_model(tokens, return_type="logits")
    alone = shl.residual_stream(tiny_model, TEXTS, progress=False)
    found = []

    def other():
        with torch.no_grad():
            found.append(tiny_model(tokens, return_type="logits"))

    def meanwhile(activation, hook):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    hooks = [(site_name(1, "resid_pre"), meanwhile)]
    under = shl.residual_stream(tiny_model, TEXTS, hooks=hooks, max_tokens=1, progress=False)
    assert len(found) == len(TEXTS) and all(torch.equal(logits, plain) for logits in found)
    torch.testing.assert_close(under, alone, atol=1e-4, rtol=1e-4)


def test_a_run_inside_a_hook_of_the_users_own_run_is_right_or_refused(tiny_model):
    alone, seen = shl.residual_stream(tiny_model, "red dog", progress=False), []

    def nested(activation, hook):
        try:
            seen.append(torch.equal(shl.residual_stream(tiny_model, "red dog", progress=False), alone))
        except SemhubError as error:
            seen.append("under way on this model" in str(error))

    for name in ("blocks.1.hook_resid_pre", "ln_final.hook_normalized"):
        tiny_model.run_with_hooks(torch.tensor([[1, 8, 9]]), fwd_hooks=[(name, nested)])
    assert len(seen) >= 2 and all(seen)
    assert torch.equal(shl.residual_stream(tiny_model, "red dog", progress=False), alone)
