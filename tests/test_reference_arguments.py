"""Every function that the reference lists beside the names of `shl` against wrong values: refused in words.

The rows come from the pages of the reference: a function or an argument without a row in `wrong_reference` fails here.
"""

import pytest

import models
from refusals import outcome, with_value
from semhub_lens.base.arguments import shown
from wrong_methods import arguments_of
from wrong_reference import LATER, ROWS, function, listed, made


@pytest.fixture(scope="module")
def model():
    return models.tiny("bridge")


def test_every_function_of_the_reference_and_argument_has_wrong_values():
    found = listed()
    later = {name for name in found if name in LATER or name.partition(".")[0] in LATER}
    assert found.keys() - later == ROWS.keys()
    assert LATER.keys() <= found.keys() | {name.partition(".")[0] for name in found}
    for name, (_, wrongs) in ROWS.items():
        assert arguments_of(found[name]) == list(wrongs), name
        assert all(wrongs.values()), name


@pytest.mark.parametrize("name", ROWS)
def test_the_right_call_is_taken(model, unchecked, name):
    right, _ = ROWS[name]
    function(name)(**{key: made(value, model) for key, value in right.items()})


@pytest.mark.parametrize("name", ROWS)
def test_wrong_values_are_refused(model, unchecked, name):
    right, wrongs = ROWS[name]
    given, faults = {key: made(value, model) for key, value in right.items()}, []
    for argument, values in wrongs.items():
        for value in values:
            wrong = made(value, model)
            fault = outcome(with_value(function(name), given, argument, wrong), value)
            faults += [f"{argument}={shown(wrong)}: {fault}"] if fault else []
    assert not faults, "\n".join(["", *faults])
