"""Every public function and command against wrong values: refused in words before any model runs.

The rows come from the package itself: a new public function, argument or command without an entry in `wrong_values`
fails here.
"""

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import models
import semhub_lens as shl
import wrong_methods
import wrong_values as wrong
from refusals import RUNS, came, outcome, with_value
from semhub_lens.base.arguments import shown
from semhub_lens.base.errors import SemhubError
from semhub_lens.cli import main as command
from semhub_lens.model import loading
from semhub_lens.report import results_page
from wrong_methods import METHODS, UNREAD, arguments_of, many

CALLS = {name: thing for name, thing in wrong.public().items() if name not in wrong.RECORDS}


@pytest.fixture(scope="module")
def model():
    """With what is found out once a model, and with results that wrong values stand beside."""
    model = models.tiny("bridge")
    shl.check(model)
    wrong.lens(model), wrong.classifier(model), wrong.leg(model), wrong_methods.attribution(model)
    wrong.saved_states(model)
    return model


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMHUB_CACHE", str(tmp_path))


@pytest.fixture
def at_rest(model, unchecked):
    """A model that may not run."""

    def run(module, args):
        RUNS.append(1)
        raise AssertionError("the model ran")

    RUNS.clear()
    handle = next(iter(model.blocks)).register_forward_pre_hook(run)
    yield model
    handle.remove()


def test_every_public_function_and_argument_has_wrong_values():
    assert CALLS.keys() == wrong.GOOD.keys()
    for name, thing in CALLS.items():
        for argument in arguments_of(thing):
            assert wrong.kind_of(name, argument) in wrong.WRONG, f"{name}({argument}=) has no kind in wrong_values"
            assert values_for(name, argument), f"{name}({argument}=) has no wrong value"


def values_for(name, argument):
    """The wrong values of an argument, without those that are right for this function."""
    right = [repr(value) for value in wrong.RIGHT.get(f"{name}.{argument}", wrong.RIGHT.get(argument, ()))]
    return [value for value in wrong.WRONG[wrong.kind_of(name, argument)] if repr(value) not in right]


def test_what_is_new_is_noticed(monkeypatch):
    """A function, one of a module, a class method, a method, an inherited one, a static one, a command, an option."""

    def new(value, *several):
        return value, several

    class Base:
        def inherited(self, value):
            return value

    class New(Base):
        unbound = staticmethod(new)

        def method(self, *several):
            return several

        @classmethod
        def made(cls, value):
            return value

    for thing in (new, Base.inherited, New.method):
        thing.__module__ = "semhub_lens.new"
    for name, thing in {"new": new, "New": New}.items():
        monkeypatch.setattr(shl, name, thing, raising=False)
    monkeypatch.setattr(shl, "__all__", [*shl.__all__, "new", "New"])
    monkeypatch.setattr(shl.metric, "other", new, raising=False)
    monkeypatch.setattr(new, "__module__", shl.metric.__name__)
    assert wrong.public().keys() - CALLS.keys() - wrong.RECORDS == {"new", "New", "New.made", "metric.other"}
    known = METHODS.keys() | wrong_methods.INSIDE.keys()
    assert {name.rpartition(".")[2] for name in wrong_methods.public().keys() - known} == {"inherited", "method", "new"}
    assert arguments_of(new) == ["value", "several"] and many(new, "several")


@pytest.mark.parametrize("name", [name for name, (_, make) in wrong.GOOD.items() if make])
def test_the_right_call_is_taken(model, unchecked, name):
    function, make = wrong.GOOD[name]
    function(**make(model))


def rows(model, name):
    """Argument and wrong value of every row of a function, with what is wrong about its end."""
    function, make = wrong.GOOD[name]
    right = make or wrong.STUBS.get(name, lambda model: {})
    for argument in arguments_of(function):
        for value in values_for(name, argument):
            made = value.make(model) if isinstance(value, wrong.Of) else value
            yield argument, made, outcome(with_value(function, right(model), argument, made), value)


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
            method = method_of(owners[name], name)
            fault = outcome(with_value(method, given(wrongs, at_rest) | right, argument, made), value)
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


def words_for(name, option):
    """The wrong values of an option; an empty one is wrong for every option that has a value."""
    given = wrong.COMMANDS[name].get(option) or wrong.SHARED.get(option, [])
    return given if getattr(OPTIONS[name][option], "is_flag", False) else [*given, ""]


def test_every_command_and_option_has_wrong_values():
    """Flags have none; `tests/training` has those of `train-spoke`."""
    assert OPTIONS.keys() == wrong.COMMANDS.keys()
    for name, options in OPTIONS.items():
        assert options.keys() == (wrong.COMMANDS[name].keys() | (wrong.SHARED.keys() & options.keys())), name
        flags = {key for key, entry in options.items() if getattr(entry, "is_flag", False)}
        assert [key for key in options if len(words_for(name, key)) < 2 and key not in flags] == [], name


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "train-spoke"])
def test_the_right_command_is_done_or_reaches_the_model(at_rest, monkeypatch, tmp_path, name):
    """Else a wrong option could be refused for what is wrong with the others."""
    monkeypatch.chdir(tmp_path)
    for module in (loading, results_page):
        monkeypatch.setattr(module, "load", lambda *given, **settings: at_rest)
    quick = {"check": ["--no-reference"], "results": ["--only", "arithmetic.logit_lens"]}.get(name, [])
    ended = CliRunner().invoke(command.app, [name, *wrong.NEEDED.get(name, []), *quick])
    assert RUNS or ended.exit_code == 0, f"{ended.output} {ended.exception!r}"


def command_with(name, option, values):
    """A command with a wrong option, or a wrong argument in place of the right one."""
    entry = OPTIONS[name][option]
    if isinstance(entry, typer.core.TyperArgument):
        return [name, *values]
    needed = wrong.NEEDED.get(f"{name} {entry.opts[0]}", wrong.NEEDED.get(name, []))
    words = [name, *needed, entry.opts[0], *values]
    if option in ("backend", "device", "dtype") and "model" in OPTIONS[name]:
        words += [str(wrong.host())] if name in ("check", "info") else ["--model", str(wrong.host())]
    return words


def ending(words, option, values):
    """What is wrong with how a command ends; None where it is refused as it should be."""
    RUNS.clear()
    ended = CliRunner().invoke(command.app, words)
    refused = isinstance(ended.exception, SemhubError)
    if RUNS:
        return "the model ran"
    if ended.exit_code not in (1, 2) or not (refused or isinstance(ended.exception, SystemExit)):
        return f"{ended.exit_code} {ended.exception!r}"[:300]
    said = str(ended.exception) if refused else ended.output
    named = [option] if option[0] == "-" else []
    if not refused and option not in said:
        return f"does not name the option: {said[:200]}"
    if not any(part in said for part in (*named, *(part for value in values for part in came(value)))):
        return f"does not say what came: {said[:200]}"
    return None if len(said.split()) > 4 else f"does not say what to do: {said}"


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
        for value in words_for(name, option):
            made = value.make(at_rest) if isinstance(value, wrong.Of) else value
            values = [str(one) for one in made] if isinstance(made, tuple) else [str(made)]
            fault = ending(command_with(name, option, values), entry.opts[0], values)
            faults += [f"{option}={' '.join(values)[:40]!r}: {fault}"] if fault else []
    assert not faults, "\n".join(["", *faults])
    assert not list((tmp_path / "here").iterdir())
