"""Every public function and command against wrong values: refused in words before any model runs.

The rows come from the package itself: a new public function, argument or command without an entry in `wrong_values`
fails here.
"""

from functools import partial

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import models
import semhub_lens as shl
import wrong_methods
import wrong_values as wrong
from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.cli import main as command
from semhub_lens.model import loading
from semhub_lens.report import results_page
from wrong_methods import METHODS, UNREAD, arguments_of

CALLS = {name: thing for name, thing in wrong.public().items() if name not in wrong.RECORDS}


@pytest.fixture(scope="module")
def model():
    """With what is found out once a model, and with results that wrong values stand beside."""
    model = models.tiny("bridge")
    shl.check(model)
    wrong.lens(model), wrong.classifier(model), wrong.leg(model)
    return model


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))


@pytest.fixture
def at_rest(model, unchecked):
    """A model that may not run."""

    def run(module, args):
        raise AssertionError("the model ran")

    handle = next(iter(model.blocks)).register_forward_pre_hook(run)
    yield model
    handle.remove()


def test_every_public_function_and_argument_has_wrong_values():
    assert CALLS.keys() == wrong.GOOD.keys()
    for name, thing in CALLS.items():
        for argument in arguments_of(thing):
            assert wrong.kind_of(name, argument) in wrong.WRONG, f"{name}({argument}=) has no kind in wrong_values"


@pytest.mark.parametrize("name", [name for name, (_, make) in wrong.GOOD.items() if make])
def test_the_right_call_is_taken(model, unchecked, name):
    function, make = wrong.GOOD[name]
    function(**make(model))


def came(value):
    """What a message may say of the value."""
    if isinstance(value, wrong.Of):
        return [""]
    named = [type(value).__name__, repr(value)[:20]]
    if isinstance(value, torch.Tensor | np.ndarray):
        return [
            *named,
            "shape",
            "NaN",
            "zero",
            "norm",
            "width",
            "entries",
            "no tokens",
            "none",
            "nan",
            "references",
            str(tuple(value.shape)),
            *([] if 0 in value.shape else [str(value.max().item())]),
        ]
    if isinstance(value, str):
        return [repr(value)[1:-1][:20], "str"] if value.strip() else ["empty", "blank", repr(value)]
    if isinstance(value, list | tuple | dict):
        return [
            *named,
            *(part for entry in value for part in came(entry)),
            *(part for entry in (value.values() if isinstance(value, dict) else ()) for part in came(entry)),
            "empty",
            "no ",
            "none",
            "got ()",
            str(len(value)),
        ]
    return [*named, f"{value:g}"] if isinstance(value, float | int) else named


def outcome(call, value):
    """What is wrong with how a call ends; None where it is refused as it should be."""
    try:
        call()
    except SemhubError as error:
        message = str(error)
        if not all(character.isprintable() or character == "\n" for character in message):
            return f"unprintable: {message!r}"
        if len(message) > 1500:
            return f"{len(message)} characters: {message[:200]!r}"
        if not any(part in message for part in came(value)):
            return f"does not say what came: {message}"
        return None if len(message.split()) > 4 else f"does not say what to do: {message}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    return "taken"


def rows(model, name):
    """Argument and wrong value of every row of a function, with what is wrong about its end."""
    function, make = wrong.GOOD[name]
    right = make or wrong.STUBS.get(name, lambda model: {})
    for argument in arguments_of(function):
        known = [repr(value) for value in wrong.RIGHT.get(f"{name}.{argument}", wrong.RIGHT.get(argument, ()))]
        for value in wrong.WRONG[wrong.kind_of(name, argument)]:
            made = value.make(model) if isinstance(value, wrong.Of) else value
            if repr(value) not in known:
                yield argument, made, outcome(partial(function, **right(model) | {argument: made}), value)


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_are_refused_before_the_model_runs(at_rest, name):
    faults = [f"{argument}={shown(value)}: {fault}" for argument, value, fault in rows(at_rest, name) if fault]
    assert not faults, "\n".join(["", *faults])


@pytest.fixture(scope="module")
def owners(model):
    """What has the methods, made while the model may run."""
    return {name: make(model) for name, (make, _, _) in METHODS.items()}


def given(wrongs, model):
    return {"model": model} if "model" in wrongs else {}


def method_of(owner, name):
    return getattr(owner, name.rpartition(".")[2])


def test_every_public_method_and_argument_has_wrong_values():
    public = wrong_methods.public()
    assert public.keys() == METHODS.keys() | wrong_methods.INSIDE.keys()
    for name, (_, _, wrongs) in METHODS.items():
        assert [key for key in arguments_of(public[name]) if key not in ("self", "cls")] == list(wrongs), name
        assert all(wrongs.values()), name


@pytest.mark.parametrize("name", [name for name, (_, right, _) in METHODS.items() if right and name not in UNREAD])
def test_the_right_method_is_taken(model, unchecked, name):
    make, right, wrongs = METHODS[name]
    method_of(make(model), name)(**given(wrongs, model), **right)


@pytest.mark.parametrize("name", METHODS)
def test_wrong_values_of_methods_are_refused_before_the_model_runs(owners, at_rest, name):
    _, right, wrongs = METHODS[name]
    faults = []
    for argument, values in wrongs.items():
        for value in values:
            made = value.make(at_rest) if isinstance(value, wrong.Of) else value
            call = partial(method_of(owners[name], name), **given(wrongs, at_rest) | right | {argument: made})
            fault = outcome(call, value)
            faults += [f"{argument}={shown(made)}: {fault}"] if fault else []
    assert not faults, "\n".join(["", *faults])


def imaginary(value):
    """The same numbers with an imaginary part; None for a value without numbers of a tensor or an array."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value + 1j
    if isinstance(value, dict):
        made = {key: imaginary(entry) for key, entry in value.items()}
        return made if made and all(entry is not None for entry in made.values()) else None
    return None


REAL = "complex|real numbers"


@pytest.mark.parametrize("name", [name for name, (_, make) in wrong.GOOD.items() if make])
def test_complex_numbers_are_refused_by_every_function(at_rest, name):
    function, make = wrong.GOOD[name]
    right = make(at_rest)
    for argument, made in {key: imaginary(value) for key, value in right.items()}.items():
        if made is not None:
            with pytest.raises(SemhubError, match=REAL):
                function(**right | {argument: made})


@pytest.mark.parametrize("name", [name for name, (_, right, _) in METHODS.items() if right])
def test_complex_numbers_are_refused_by_every_method(owners, at_rest, name):
    _, right, wrongs = METHODS[name]
    for argument, made in {key: imaginary(value) for key, value in right.items()}.items():
        if made is not None:
            with pytest.raises(SemhubError, match=REAL):
                method_of(owners[name], name)(**given(wrongs, at_rest) | right | {argument: made})


ONES = torch.ones(32)
CALLBACKS = {
    "hook": lambda m: shl.residual_stream(m, "red", hooks=shl.at(1, lambda a, hook: a + 1j), progress=False),
    "hook in place": lambda m: shl.residual_stream(
        m, "red", hooks=shl.at(1, lambda a, hook: a + 1j, site="resid_mid"), progress=False
    ),
    "metric": lambda m: shl.patch_grid(m, "red", "dog", lambda logits: logits[:, 0] + 1j, progress=False),
    "metric of logits": lambda m: shl.patch_grid(
        m, "red", "dog", shl.metric.of_logits(lambda logits: logits[0, -1, 0] + 1j), progress=False
    ),
    "translator": lambda m: shl.logit_lens(
        m, "red", readout=shl.Readout(m, translator=lambda states, layer: states + 1j), progress=False
    ),
    "direction of a sweep": lambda m: shl.sweep(
        m, lambda edits: {"a": torch.ones(2)}, lambda layer: ONES + 1j, [1], [1.0], progress=False
    ),
    "measure of a sweep": lambda m: shl.sweep(
        m, lambda edits: {"a": torch.ones(2) + 1j}, lambda layer: ONES, [1], [1.0], progress=False
    ),
    "measure of a calibration": lambda m: shl.calibrate(
        m, lambda edits: {"a": torch.ones(2) + 1j}, ONES, 1, budget=0.1
    ),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_complex_numbers_from_a_function_of_the_users_are_refused(model, unchecked, name):
    with pytest.raises(SemhubError, match=r"complex|j,"):
        CALLBACKS[name](model)


OPTIONS = {
    name: {option.name: option for option in entry.params if option.name != "help"}
    for name, entry in typer.main.get_command(command.app).commands.items()
}


def test_every_command_and_option_has_wrong_values():
    assert OPTIONS.keys() == wrong.COMMANDS.keys()
    for name, options in OPTIONS.items():
        assert options.keys() == (wrong.COMMANDS[name].keys() | (wrong.SHARED.keys() & options.keys())), name


@pytest.mark.parametrize("name", [name for name, options in OPTIONS.items() if options])
def test_wrong_options_are_refused_before_the_model_runs(at_rest, name, monkeypatch, tmp_path):
    """In one process; the model that is loaded is at rest, and its loading alone is real where it is what is wrong."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    real, faults = loading.load, []
    for option, entry in OPTIONS[name].items():
        loads = real if option in ("model", "backend", "device", "dtype") else lambda *given, **settings: at_rest
        for module in (loading, results_page):
            monkeypatch.setattr(module, "load", loads)
        for value in wrong.COMMANDS[name].get(option) or wrong.SHARED.get(option, []):
            made = str(value.make(at_rest)) if isinstance(value, wrong.Of) else value
            given = [] if isinstance(entry, typer.core.TyperArgument) else wrong.NEEDED.get(name, [])
            words = [made] if isinstance(entry, typer.core.TyperArgument) else [entry.opts[0], made]
            if option in ("backend", "device", "dtype") and "model" in OPTIONS[name]:
                words += ["--model", str(wrong.host())] if name not in ("check", "info") else [str(wrong.host())]
            ended = CliRunner().invoke(command.app, [name, *given, *words])
            said = str(ended.exception) if isinstance(ended.exception, SemhubError) else ended.output
            if ended.exit_code not in (1, 2) or not isinstance(ended.exception, SemhubError | SystemExit):
                faults.append(f"{option}={made[:40]!r}: {ended.exit_code} {ended.exception!r}"[:300])
            elif isinstance(ended.exception, SystemExit) and entry.opts[0] not in said:
                faults.append(f"{option}={made[:40]!r}: does not name the option: {said[:200]}")
    assert not faults, "\n".join(["", *faults])
    assert not list((tmp_path / "here").iterdir())
