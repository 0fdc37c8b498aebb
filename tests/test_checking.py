"""The checks of annotations that all other tests run under: they find what is wrong, and say nothing else."""

import types

import pytest
import torch
from jaxtyping import TypeCheckError, config

from checking import Loader, checked
from semhub_lens.lens import kernel
from semhub_lens.model import hooking

MODULE = """
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

def paired(a: Float[Tensor, "item d"], b: Float[Tensor, "item d"]) -> Float[Tensor, " item"]:
    return (a * b).sum()

def outer(x: int):
    def plain(y: int):
        return y
    def shaped(z: Float[Tensor, "a b"]):
        return z
    return plain, shaped

@dataclass(frozen=True)
class Pair:
    a: Float[Tensor, "item d"]
    b: Float[Tensor, "item d"]

class Held:
    def size(self, values: list[int]) -> int:
        return len(values)
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text(MODULE, encoding="utf-8")
    made = types.ModuleType("sample")
    Loader("sample", str(path)).exec_module(made)
    return made


def test_shapes_are_checked_together_and_what_is_returned_too(module):
    with pytest.raises(TypeCheckError):
        module.paired(torch.zeros(2, 3), torch.zeros(4, 3))
    with pytest.raises(TypeCheckError):  # right arguments, a number in place of one an item
        module.paired(torch.zeros(2, 3), torch.zeros(2, 3))


def test_plain_types_are_checked_in_functions_and_methods(module):
    for wrong in (lambda: module.outer("a"), lambda: module.Held().size("a")):
        with pytest.raises(TypeCheckError):
            wrong()
    assert module.Held().size([1, 2]) == 2


def test_the_fields_of_a_dataclass_are_checked_together(module):
    assert module.Pair(torch.zeros(2, 3), torch.zeros(2, 3)).a.shape == (2, 3)
    for wrong in (torch.zeros(2), torch.zeros(4, 3), torch.zeros(2, 3, dtype=torch.long), "a"):
        with pytest.raises(TypeCheckError):
            module.Pair(torch.zeros(2, 3), wrong)


def test_a_function_inside_a_function_is_checked_where_it_names_a_shape(module):
    plain, shaped = module.outer(1)
    assert plain("a") == "a" and not hasattr(plain, "__wrapped__")
    with pytest.raises(TypeCheckError):
        shaped(torch.zeros(2))


def test_nothing_is_checked_where_that_is_switched_off(module, monkeypatch):
    monkeypatch.setattr(config, "jaxtyping_disable", True)
    assert module.Held().size("abc") == 3 and module.paired(torch.zeros(2, 3), torch.ones(2, 3)) == 0


def test_the_package_runs_under_these_checks():
    assert vars(kernel)["__checked__"] is vars(hooking)["__checked__"] is checked
    with pytest.raises(TypeCheckError):
        kernel.contrast_targets(None, torch.zeros(2))
    with pytest.raises(TypeCheckError):
        hooking.Window(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), ())
