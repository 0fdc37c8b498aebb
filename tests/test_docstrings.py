"""The docstring of every public function, class and method has what docs/contributing.md asks for."""

import inspect
import re
from types import ModuleType

import pytest
from torch import Tensor

import links
import semhub_lens as shl
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.results import Result

LIMITS = re.compile(r"\b(?:not|no|never|nothing|only|cannot|neither|hide|errs)\b|[Cc]ompare|everything else")
NO_FORMULA = {
    "a score of an identifier, an encoder or a list of words": {"language_of", "lexicon_sentiment", "sentiment"},
    "its legs have their own": {"experiments.run"},
}
"""What measures without an equation, and why."""
NO_NUMBERS = {"check", "direction.random_like", "direction.rescaled", "load_result", "residual_stream"}
"""What returns states, vectors, checks or any result, and no number that could be read wrongly."""
ELSEWHERE = {
    "of a file's fields": {"Leg.from_fields", "Provenance.from_fields"},
    "of the form, by name": {"Explorer.ask"},
    "of a module of torch": {"forward", "hidden", "shares", "standardise", "vectors"},
    "whose only argument is checked": {"Prompt.continued"},
}
"""Methods of which another place says more."""
MADE = {"Experiment", "Card", "Encoder", "Provenance", "Result", "SemhubError", "Shape", "Unfit"}
"""Classes that no call of a user's makes."""


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
    thing = (FUNCTIONS | METHODS)[name]
    if any({name, thing.__name__} & names for names in ELSEWHERE.values()):
        assert one_sentence(inspect.getdoc(thing))
    else:
        assert missing(thing) == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_makes_it_or_shows_how(name):
    text = inspect.getdoc(CLASSES[name])
    made = MAKERS & {part.strip("()") for named in re.findall(r"`([\w.()]+)`", text) for part in named.split(".")}
    assert one_sentence(text)
    assert made or ">>> " in text or name.split(".")[-1] in MADE


@pytest.mark.parametrize("name", [name for name, thing in FUNCTIONS.items() if measures(thing)])
def test_what_measures_has_its_equation_and_says_what_it_does_not_show(name):
    text = told(inspect.getdoc(FUNCTIONS[name]))
    assert name in NO_NUMBERS or "$" in text or any(name in listed for listed in NO_FORMULA.values())
    assert name in NO_NUMBERS or LIMITS.search(text)


def whole(model, text):
    """Return the number $x$ of a text; it does not show y.

    Args:
        model: any model.
        text: the text.

    Raises:
        SemhubError: no text.

    Example:
        >>> 2 + 2
        4
    """
    raise SemhubError(f"{model} {text}")


@pytest.mark.parametrize("without, part", [
    ("number $x$ of a text; it does not show y.", "a first line that is one sentence"),
    ("text: the text.", "arguments"), ("Raises:", "errors"), (">>> 2 + 2", "an example"),
])  # fmt: skip
def test_a_part_that_is_not_there_is_named(monkeypatch, without, part):
    monkeypatch.setattr(whole, "__doc__", whole.__doc__.replace("of a text", "of it"))
    monkeypatch.setattr(whole, "__doc__", whole.__doc__.replace(without.replace("of a text", "of it"), ""))
    monkeypatch.setattr(whole, "__doc__", whole.__doc__.replace("no text", "nothing"))
    assert missing(whole, examples="") == [part]
