"""Every function that the reference lists beside the names of `shl` against wrong values: refused in words.

The rows come from the pages of the reference: a function or an argument without a row in `wrong_reference` fails here.
"""

import pytest

import models
import semhub_lens as shl
import wrong_training
from refusals import RUNS, outcome, with_value
from semhub_lens.base.arguments import shown
from wrong_methods import arguments_of
from wrong_reference import LATER, ROWS, function, listed, made


@pytest.fixture(scope="module")
def model():
    """With what is found out once a model."""
    model = models.tiny("bridge")
    shl.check(model)
    return model


@pytest.fixture
def watched(model, unchecked):
    """A model whose runs are counted."""
    handle = next(iter(model.blocks)).register_forward_pre_hook(lambda module, args: RUNS.append(1))
    yield model
    handle.remove()


def test_every_function_of_the_reference_and_argument_has_wrong_values():
    found = listed()
    assert found.keys() - LATER.keys() == ROWS.keys()
    assert LATER.keys() <= found.keys()
    for name, (_, wrongs) in ROWS.items():
        assert arguments_of(found[name]) == list(wrongs), name
        assert all(wrongs.values()), name


@pytest.fixture(autouse=True)
def small(monkeypatch):
    wrong_training.made_small(monkeypatch)


@pytest.mark.parametrize("name", ROWS)
def test_the_right_call_is_taken(model, unchecked, name):
    right, _ = ROWS[name]
    function(name)(**{key: made(value, model) for key, value in right.items()})


@pytest.mark.parametrize("name", ROWS)
def test_wrong_values_are_refused_before_a_model_runs(watched, name):
    right, wrongs = ROWS[name]
    model = watched
    given, faults = {key: made(value, model) for key, value in right.items()}, []
    for argument, values in wrongs.items():
        for value in values:
            wrong = made(value, model)
            fault = outcome(with_value(function(name), given, argument, wrong), value)
            faults += [f"{argument}={shown(wrong)}: {fault}"] if fault else []
    assert not faults, "\n".join(["", *faults])
