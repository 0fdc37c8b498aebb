"""The docstring of every public function, class and method has what docs/contributing.md asks for."""

import dataclasses
import inspect
import re
from types import ModuleType

import pytest
from torch import Tensor

import links
import semhub_lens as shl
from semhub_lens.base.results import Result

NO_FORMULA = {
    "an activation is written, or read": {"Capture", "concept_patch", "hooks.patch", "residual_stream"},
    "a score of an identifier, an encoder or a list of words": {"language_of", "lexicon_sentiment", "sentiment"},
    "a vector that is drawn": {"direction.random_like"},
    "it reads a file": {"load_result"},
    "its legs have their own": {"experiments.run"},
    "a table of other checks": {"check"},
    "token ids to labels": {"script_table"},
}
"""What measures without an equation, and why."""
INHERITED = {"spokes.Encoder", "SemhubError", "Unfit"}
"""An interface, and errors: they are not made by a user."""


def public():
    """Functions and classes by the name that users write, without its `shl.`."""
    for name in shl.__all__:
        thing = getattr(shl, name)
        if not isinstance(thing, ModuleType):
            yield name, thing
            continue
        for key in getattr(thing, "__all__", [key for key in vars(thing) if not key.startswith("_")]):
            inner = getattr(thing, key)
            if callable(inner) and inner.__module__.startswith(thing.__name__):
                yield f"{name}.{key}", inner


def methods(name, kind):
    """Public methods that the class itself defines."""
    for key, value in vars(kind).items():
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(value) and (not key.startswith("_") or key == "__call__"):
            yield f"{name}.{key}", value


THINGS = dict(public())
CLASSES = {name: thing for name, thing in THINGS.items() if inspect.isclass(thing)}
FUNCTIONS = {name: thing for name, thing in THINGS.items() if name not in CLASSES}
METHODS = {key: value for name, kind in CLASSES.items() for key, value in methods(name, kind)}
EXAMPLES = "\n".join(re.findall(r"^ *(?:>>>|\.\.\.) .*$", "\n".join(links.docstrings().values()), re.MULTILINE))
MAKERS = {name.split(".")[-1] for name in [*FUNCTIONS, *METHODS]}


def arguments(function):
    return [name for name in inspect.signature(inspect.unwrap(function)).parameters if name not in ("self", "cls")]


def refuses(function):
    """Whether it raises an error of ours, or checks more arguments than a model."""
    source = inspect.getsource(inspect.unwrap(function))
    checks = arguments(function) not in ([], ["model"]) and re.search(r"^ *@checked", source, re.MULTILINE)
    return bool(checks or re.search(r"raise (?:SemhubError|Unfit)", source))


def told(text):
    """The docstring without its sections on arguments, errors and examples."""
    return re.sub(r"^(?:Args|Raises|Example):\n(?:(?: .*)?\n)*", "", f"{text}\n", flags=re.MULTILINE)


def one_sentence(text):
    return re.match(r"[^\n]+[.!?]$", text.partition("\n")[0]) is not None


def missing(thing, examples=EXAMPLES):
    """What the docstring of a function or method lacks. A method may have its example elsewhere."""
    text, method = inspect.getdoc(thing) or "", "." in thing.__qualname__.rpartition("<locals>.")[2]
    shown = ">>> " in text or (method and f".{thing.__name__}(" in examples) or thing.__name__ == "__call__"
    parts = {
        "a first line that is one sentence": one_sentence(text),
        "arguments": all(re.search(rf"\b{re.escape(name)}\b", text) for name in arguments(thing)),
        "errors": "Raises:" in text or not refuses(thing),
        "an example": shown or (method and not arguments(thing)),
    }
    return [part for part, there in parts.items() if not there]


def measures(thing):
    """Whether it returns what is measured or drawn: a tensor, a result, or the direction of an edit."""
    kind = inspect.signature(inspect.unwrap(thing)).return_annotation
    kind = getattr(kind, "array_type", kind)
    return inspect.isclass(kind) and issubclass(kind, Tensor | Result)


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_a_docstring_has_every_part(name):
    assert missing((FUNCTIONS | METHODS)[name]) == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_makes_it_or_shows_how(name):
    text = inspect.getdoc(CLASSES[name]) or ""
    made = MAKERS & {part.strip("()") for named in re.findall(r"`([\w.()]+)`", text) for part in named.split(".")}
    assert one_sentence(text)
    assert name in INHERITED or made or ">>> " in text or dataclasses.is_dataclass(CLASSES[name])


@pytest.mark.parametrize("name", [name for name, thing in FUNCTIONS.items() if measures(thing)])
def test_what_measures_has_its_equation_and_says_what_it_does_not_show(name):
    text = told(inspect.getdoc(FUNCTIONS[name]))
    assert "$" in text or any(name in listed for listed in NO_FORMULA.values())
    assert re.search(r"\b(?:not|no|never|nothing|only|cannot|neither)\b|[Cc]ompare", text)
