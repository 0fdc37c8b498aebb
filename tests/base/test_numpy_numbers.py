"""Numbers of NumPy and torch are taken where a Python number is, and results with them can be saved.

The calls run in a process of their own: the test suite checks annotations, users do not.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import models
import samples
import semhub_lens as shl
from semhub_lens.base.errors import is_index, whole_number
from semhub_lens.inputs.tokens import target_ids
from semhub_lens.interventions.sweep import Controls, sweep

QUIET = {"progress": False}
ONES = torch.ones(32)


def measure(model):
    def scores(hooks):
        return {"first": shl.residual_stream(model, ["red dog", "two two"], hooks=hooks, **QUIET)[-1, :, 0]}

    return scores


def swept(m, n, f):
    return sweep(
        m, measure(m), lambda layer: ONES, [n(1), n(2)], [f(0.5), f(2)], controls=Controls(random=n(1)), **QUIET
    )


def similar(m, n, f):
    own = samples.states("red dog", "two two", "chat", "three")(m)
    return shl.similarity(own, own.roll(1, 1), seed=n(3))


def edited(m, n, f):
    hooks = [
        *shl.at(n(1), shl.hooks.add(ONES, f(2), positions=n(1))),
        *shl.at([n(2)], shl.hooks.replace(ONES, f(0.5), positions=[n(0), n(-1)])),
        *shl.at(n(2), shl.hooks.project_out(ONES, f(1))),
        *shl.at(n(3), shl.hooks.patch(torch.ones(3, 32), [0], source_positions=[n(1)], strength=f(0.5))),
    ]
    return shl.residual_stream(m, "red two", read=n(1), hooks=hooks, max_tokens=n(64), **QUIET)


def through_translator(m, n, f):
    readout = shl.Readout(m, translator=lambda states, layer: states * (layer + 2))
    states = samples.noise(2, 3, 32)
    return torch.stack([readout(states[0], n(1)), readout(states, [n(0), n(2)])[1], readout(states[1], n(3))])


def grids(m, n, f):
    pairs, two = [(n(1), n(-1)), (n(-2), n(2))], shl.metric.logit_difference(m, n(5), n(6))
    settings = {"positions": pairs, "read": n(-1)}
    exact = shl.patch_grid(m, "three plus two", "five plus two", two, max_tokens=n(64), **settings, **QUIET)
    return torch.stack(
        [exact.values, shl.attribution_grid(m, "three plus two", "five plus two", two, **settings).values]
    )


def scoped(m, n, f):
    return shl.patchscope(
        m, ["red two"], [n(5), "two"], reading="one is one two is", slot=n(3), read=n(-1), source_entries=[n(1), n(2)],
        target_entries=[n(2)], new_tokens=n(1), **QUIET,
    ).log_probs  # fmt: skip


def probed(m, n, f):
    states = samples.noise(2, 24, 5)
    probe = shl.linear_probe(states, [n(0), n(1)] * 12, groups=[n(i) for i in range(24)], seed=n(3))
    return probe.within.predicted + probe.within.peak(n(2)).layer


def chosen(m, n, f):
    scores = {"first": samples.noise(8), "second": samples.noise(8, seed=1)}
    swept = sweep(m, lambda hooks: scores, lambda layer: ONES, [1, 2], [1.0], damage=("second",), **QUIET)
    found = swept.choose("first", damage="second", budget=f(9), seed=n(1))
    return torch.tensor([found.layer, found.effect.mean, found.effect.low])


CALLS = {
    "read-out through a translator": through_translator,
    "grids": grids,
    "patchscope": scoped,
    "probe": probed,
    "choice": chosen,
    "who wrote": lambda m, n, f: shl.direct_attribution(m, "red two", token=[n(5)], position=n(-1), by_head=[n(1)]),
    "steering": lambda m, n, f: shl.residual_stream(
        m, "red two", hooks=samples.SAMPLES["SteeringVector"](m).hooks(f(2), positions=n(-1), layers=[n(1)]), **QUIET
    ),
    "damage": lambda m, n, f: shl.kl_to_clean(
        m, ["red two"], shl.at(n(1), shl.hooks.add(ONES)), read_at=n(-1), **QUIET
    ),
    "lens": lambda m, n, f: shl.logit_lens(m, "red two", top_k=n(3), **QUIET),
    "targets": lambda m, n, f: shl.target_lens(m, ["red two"], [[n(5), "two", [n(6), n(7)]]], **QUIET).log_probs,
    "targets of items": lambda m, n, f: shl.target_lens(
        m, ["red two", "two red"], [n(5), n(6)], common=[n(7)], read_at=n(1), **QUIET
    ),
    "generation": lambda m, n, f: shl.generate(m, "red", max_new_tokens=n(3), seed=n(3), temperature=f(0.5), **QUIET),
    "similarity": similar,
    "sweep": swept,
    "vector": lambda m, n, f: shl.SteeringVector.make(m, "t", {n(1): ONES}),
    "vector of a tensor": lambda m, n, f: shl.SteeringVector.from_tensor(m, ONES, n(1)),
    "states": edited,
    "direction": lambda m, n, f: shl.direction.words(m, "two", "five", n(1)),
    "continuation": lambda m, n, f: shl.continuation_perplexity(m, ["red"], [[n(5), n(6)]], **QUIET),
    "metric": lambda m, n, f: shl.metric.logit_difference(m, n(5), n(6))(torch.arange(69.0)[None] ** 2),
    "span": lambda m, n, f: torch.tensor(shl.Prompt.from_text(m, "red two", spans={"a": (n(0), n(3))}).spans["a"]),
    "ids": lambda m, n, f: shl.Prompt.from_ids([n(1), n(5)], spans={"a": [n(1)]}).ids,
}
NUMBERS = {
    "numpy": (np.int64, np.float32),
    "numpy, narrow": (np.int8, np.float16),
    "torch": (torch.tensor, torch.tensor),
}


def content(found, path):
    """What a result holds, after it was saved and read again."""
    if isinstance(found, torch.Tensor):
        return found
    back = type(found).load(found.save(path))
    return back.to_frame() if not isinstance(found, shl.SteeringVector) else back.directions


def outcome(call, model, kind, path):
    try:
        found, plain = (content(call(model, *numbers), path) for numbers in (NUMBERS[kind], (int, float)))
    except Exception as error:
        return repr(error)
    same = torch.equal(found, plain) if isinstance(found, torch.Tensor) else found.equals(plain)
    return "same" if same else "another result"


@pytest.fixture(scope="module")
def outcomes(fork, tmp_path_factory):
    paths = [str(Path(models.__file__).parent)]
    code = f"import runpy, sys; sys.path[:0] = {paths}; runpy.run_path({__file__!r}, run_name='__main__')"
    made = fork("-c", code, cwd=tmp_path_factory.mktemp("numpy"))
    (line,) = [line for line in made.stdout.decode().splitlines() if line.startswith("OUTCOMES")]
    return json.loads(line.removeprefix("OUTCOMES"))


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("call", CALLS)
def test_numpy_numbers_give_what_python_numbers_give(outcomes, call, kind):
    assert outcomes[f"{call}, {kind}"] == "same"


@pytest.mark.parametrize("ids", [np.array([5, 6]), torch.tensor([5, 6]), [np.int64(5), 6]])
def test_arrays_of_ids_are_a_set_of_targets(ids):
    assert target_ids(None, ids) == (5, 6)


@pytest.mark.parametrize("make", [np.array, torch.tensor, tuple, lambda ids: range(min(ids), max(ids) + 1)])
def test_ids_in_any_kind_of_list_are_targets_of_items_and_common_ones(tiny_model, unchecked, make):
    prompts = ["red two", "two red"]
    plain = shl.target_lens(tiny_model, prompts, [5, 6], common=[7, 8], **QUIET)
    found = shl.target_lens(tiny_model, prompts, make([5, 6]), common=make([7, 8]), **QUIET)
    assert torch.equal(found.log_probs, plain.log_probs) and found.names == plain.names == (("5",), ("6",))
    assert found.common_names == ("7", "8")


@pytest.mark.parametrize("value", [True, np.array([1]), np.array([[1]]), torch.tensor([1]), "1", 1.5, None])
def test_what_is_no_number_is_no_index(value):
    assert not is_index(value)


def test_a_number_with_a_fraction_is_no_whole_number():
    for value in (np.float64(1), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="must be a whole number"):
            whole_number(value, "A layer")


if __name__ == "__main__":
    model = models.tiny()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.safetensors"
        made = {f"{name}, {kind}": outcome(call, model, kind, path) for name, call in CALLS.items() for kind in NUMBERS}
    print("OUTCOMES", json.dumps(made))
