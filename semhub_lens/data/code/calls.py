"""Calls in real programs: arguments with the name of their parameter, and `range(` with one argument."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.data.code.source_files import LONGEST_SNIPPET, SourceFile, source_files, source_id

LONGEST_ARGUMENT = 40
FEWEST_RANGES = 60
GENERATED_NAMES = (
    *("items", "rows", "words", "scores", "nodes", "pages", "files", "users"),
    *("edges", "tokens", "colors", "points", "values", "lines", "keys"),
)


@dataclass(frozen=True)
class Argument:
    """A positional argument of a call."""

    offset: int
    """Character offset in the snippet at which the argument starts."""
    parameter: str
    """Name of the parameter in the `def`."""
    text: str
    """The argument as written: a name or a constant."""
    parameter_seen: bool
    """Whether the parameter's name is a word of the snippet before the argument, so that it could be copied."""


@dataclass(frozen=True)
class Call:
    """A snippet of a program that ends with a call of a function of the same file."""

    snippet: str
    function: str
    arguments: tuple[Argument, ...]
    origin: str


@dataclass(frozen=True)
class Calls:
    """Calls, with the number of omitted arguments."""

    calls: tuple[Call, ...]
    same_name: int
    """Arguments left out because they have the name of their parameter."""


@checked
def call_arguments(root: str | Path | None = None) -> Calls:
    """Calls to plain functions of the same file, with positional arguments that are names or constants.

    A plain function is defined once, at the top level of the file, without a decorator, and nothing else in the file
    has its name. Other arguments of these calls are left out, and so are arguments with the name of their parameter.

    Args:
        root: folder of Python files (not its subfolders); None reads the standard library's top level.

    Raises:
        SemhubError: no Python files, or no such call, in `root`.

    Example:
        >>> call_arguments("my_package")  # doctest: +SKIP
    """
    calls: dict[str, Call] = {}
    same: set[tuple[str, int]] = set()
    for file in source_files(root):
        functions = _plain_functions(file.tree)
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
                listed, named_alike = _arguments(file, node, functions[node.func.id])
                same |= {(file.name, at) for at in named_alike}
                snippet = file.source[file.context(node.lineno) : file.end(node)]
                if listed and len(snippet) <= LONGEST_SNIPPET:
                    calls.setdefault(snippet, Call(snippet, node.func.id, tuple(listed), f"{file.name}:{node.lineno}"))
    if not calls:
        raise SemhubError(f"No calls of functions of the same file found in {root or source_id()}.")
    return Calls(tuple(calls.values()), len(same))


def _plain_functions(tree: ast.Module) -> dict[str, list[str]]:
    """Positional parameters of the functions whose name has only one meaning in the file."""
    bound: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound[node.name] += 1
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound[node.id] += 1
        elif isinstance(node, ast.arg):
            bound[node.arg] += 1
        elif isinstance(node, ast.alias):
            bound[(node.asname or node.name).split(".")[0]] += 1
    return {
        node.name: [arg.arg for arg in node.args.posonlyargs + node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and bound[node.name] == 1
    }


def _arguments(file: SourceFile, call: ast.Call, parameters: list[str]) -> tuple[list[Argument], list[int]]:
    """Arguments to list, and the positions of arguments with the name of their parameter."""
    begin, before = file.context(call.lineno), file.end(call.func)
    listed, same = [], []
    for parameter, node in zip(parameters, call.args, strict=False):
        if isinstance(node, ast.Starred):  # what follows fills unknown parameters
            break
        at, text = file.start(node), file.text(node)
        between, before = file.source[before:at], file.end(node)
        if isinstance(node, ast.Name) and text == parameter:
            same.append(at)
        elif _is_plain(node) and len(text) <= LONGEST_ARGUMENT and re.fullmatch(r"\(|, ?", between):
            seen = re.search(rf"\b{parameter}\b", file.source[begin:at]) is not None
            listed.append(Argument(at - begin, parameter, text, seen))
    return listed, same


def _is_plain(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None)
    )


@dataclass(frozen=True)
class RangePrompt:
    """A snippet cut right after the opening parenthesis of `range(`."""

    snippet: str
    argument: str
    """The only argument in the original program."""
    origin: str
    generated: bool
    """True for a stub made by `generated_ranges`, False for real code."""


@checked
def range_prompts(root: str | Path | None = None) -> list[RangePrompt]:
    """Snippets cut after a `range(` that has one argument in the program.

    If the files have fewer than 60, function stubs are added to make 60. They are marked as generated.

    Args:
        root: folder of Python files (not its subfolders); None reads the standard library's top level.

    Raises:
        SemhubError: no Python files in `root`.

    Example:
        >>> range_prompts("my_package")  # doctest: +SKIP
    """
    prompts: dict[str, RangePrompt] = {}
    for file in source_files(root):
        for prompt in _ranges(file):
            prompts.setdefault(prompt.snippet, prompt)
    real = list(prompts.values())
    return real + generated_ranges()[: max(0, FEWEST_RANGES - len(real))]


def _ranges(file: SourceFile) -> Iterator[RangePrompt]:
    for node in ast.walk(file.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"):
            continue
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            continue
        begin, at = file.context(node.lineno), file.end(node.func) + 1
        if file.source[at - 1] == "(" and file.start(node.args[0]) == at and at - begin <= LONGEST_SNIPPET:
            argument = file.text(node.args[0])
            yield RangePrompt(file.source[begin:at], argument, f"{file.name}:{node.lineno}", False)


def generated_ranges() -> list[RangePrompt]:
    """60 stubs: four bodies over fifteen names, such as `def count_rows(rows): ... for i in range(`.

    Example:
        >>> from semhub_lens.data.code.calls import generated_ranges
        >>> print(generated_ranges()[0].snippet)
        def show_items(items):
            for i in range(
    """
    stubs = {
        "show": ("def show_{n}({n}):\n    for i in range(", "len({n})"),
        "repeat": ("def repeat_{n}({n}, times):\n    result = []\n    for _ in range(", "times"),
        "first": ("def first_{n}({n}, count):\n    return [{n}[i] for i in range(", "count"),
        "number": ("def number_{n}({n}):\n    total = len({n})\n    return list(range(", "total"),
    }
    return [
        RangePrompt(snippet.format(n=name), argument.format(n=name), f"generated:{kind}_{name}", True)
        for name in GENERATED_NAMES
        for kind, (snippet, argument) in stubs.items()
    ]
