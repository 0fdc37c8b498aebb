"""Private names of other libraries stand in one file, and each is there in what is installed."""

import ast
import re
from importlib.metadata import version
from pathlib import Path
from typing import SupportsIndex

import pytest
import torch
from accelerate import cpu_offload
from torch import nn
from transformers import LlamaConfig, LlavaNextProcessor, LlavaOnevisionProcessor

import models
import semhub_lens
from semhub_lens.base import foreign
from semhub_lens.base.optional_packages import optional

PACKAGE = Path(semhub_lens.__file__).parent
DOCUMENTED = {"_replace", "_repr_mimebundle_"}
"""Underscored names that Python and IPython document."""


def net():
    return optional("efficientnet_lite_pytorch", "efficientnet-lite-pytorch", "vision").EfficientNet.from_name(
        "efficientnet-lite0"
    )


def processors():
    return [LlavaNextProcessor, LlavaOnevisionProcessor]


def bridge_is_listed_as_said():
    """A bridge asks `_add_aliases_to_hooks` for the other names of its hook points, and again after the context."""
    bridge = models.tiny("bridge")
    usual = bridge.hook_dict
    with foreign.listed_once(bridge, usual | {"another": None}):
        within = bridge.hook_dict
    return within == usual | {"another": None} and bridge.hook_dict == usual


def hook_of_accelerate():
    """accelerate keeps the hook that moves a module's weights in the module itself."""
    module = nn.Sequential(cpu_offload(nn.Linear(2, 2), torch.device("cpu")))
    return foreign.device_hook(module) is None and bool(foreign.device_hook(module[0]).hooks)


NAMES = {
    "_hf_hook": ("accelerate", hook_of_accelerate),
    "_forward_hooks": ("torch", lambda: hasattr(nn.Linear(1, 1), "_forward_hooks")),
    "_forward_pre_hooks": ("torch", lambda: hasattr(nn.Linear(1, 1), "_forward_pre_hooks")),
    "_version": ("torch", lambda: torch.zeros(1).add_(1)._version == 1),
    "_is_protocol": (
        "typing_extensions",
        lambda: SupportsIndex._is_protocol and not getattr(int, "_is_protocol", False),
    ),
    "_weights_processed": ("transformer-lens", lambda: models.tiny("bridge")._weights_processed is False),
    "_add_aliases_to_hooks": ("transformer-lens", lambda: bridge_is_listed_as_said()),
    "_original_component": (
        "transformer-lens",
        lambda: any(foreign.WRAPPED in name for name, _ in models.tiny("bridge").named_parameters()),
    ),
    "_name_or_path": ("transformers", lambda: "_name_or_path" in LlamaConfig(name_or_path="x").to_dict()),
    "_get_unpadded_features": ("transformers", lambda: all(map(foreign.unpadding_of, processors()))),
    "_blocks": ("efficientnet-lite-pytorch", lambda: isinstance(foreign.blocks_of(net())[0], nn.Module)),
    "_fc": ("efficientnet-lite-pytorch", lambda: isinstance(foreign.head_of(net()), nn.Linear)),
}
"""By name: the package that has it, and whether what is installed has it as we read it."""


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_there_in_what_is_installed(name):
    package, is_there = NAMES[name]
    assert is_there(), f"{package} {version(package)} has no {name} any more: mend semhub_lens/base/foreign.py."


def borrowed(source):
    """Private names that a module reads of something that it does not define itself, as attributes or as texts."""
    tree = ast.parse(source)
    own, found = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            own.add(node.attr)
    for node in ast.walk(tree):
        names = [node.attr] if isinstance(node, ast.Attribute) else []
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = [str(node.value.value).lstrip(".")]
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("getattr", "hasattr", "pop", "get"):
            names = [str(value.value) for value in node.args if isinstance(value, ast.Constant)]
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("semhub_lens"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        found |= {name for name in names if re.fullmatch(r"_[a-z]\w*", name)}
    return found - own - DOCUMENTED


def test_all_private_names_stand_in_one_file():
    assert borrowed("x._y\nself._z\nself._z\ngetattr(x, '_w')\nfrom a._b import _c") == {"_y", "_w", "_b", "_c"}
    read = {path: borrowed(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert read.pop(Path(foreign.__file__)) == set(NAMES)
    assert {str(path): names for path, names in read.items() if names} == {}
