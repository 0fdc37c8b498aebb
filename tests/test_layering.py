"""The package's imports point one way, and model classes are known in one module only."""

import ast
import importlib.util
from pathlib import Path

import pytest

PACKAGE = "semhub_lens"
FOLDER = Path(importlib.util.find_spec(PACKAGE).origin).parent
ORDER = (
    (
        "_allocator",
        "files",
        "store",
        "results",
        "tokens",
        "media",
        "_processors",
        "prompts",
        "models",
        "loading",
        "_packaged",
        "_prefix",
        "_extras",
        "data",
    ),
    ("hook_points",),
    ("activations", "languages", "readout", "stats"),
    ("senses",),
    (
        "interventions",
        "_kernel",
        "_targets",
        "logit_lens",
        "language_mass",
        "similarity",
        "alignment",
        "untrained",
        "trajectories",
        "cosine_probe",
        "legs",
        "scores",
        "linear_probes",
    ),
    ("spokes",),
    ("viz",),
    ("experiments",),
    ("report", "tables"),
    ("_cli_options",),
    ("_cli_train",),
    ("cli",),
    ("__init__", "__main__"),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
MODEL_CLASSES = {"is_bridge", "HookedTransformer", "TransformerBridge"}
BACKWARD = ("results", "viz")  # a result shows itself in a notebook
OUTERMOST = ("report", "_cli_options", "_cli_train", "cli")  # they may use what users use


def files():
    return {".".join(path.relative_to(FOLDER).with_suffix("").parts): path for path in sorted(FOLDER.rglob("*.py"))}


def room(module):
    """The room of a module inside the package: `interventions` for `interventions.hooks`."""
    return module.split(".")[0]


def is_module(dotted):
    path = FOLDER.joinpath(*dotted.split(".")[1:])
    return dotted.startswith(f"{PACKAGE}.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def imported(statement):
    """Full names of the modules that an import statement loads."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    assert statement.level == 0, "imports in the package are absolute"
    base = statement.module or ""
    inner = [f"{base}.{alias.name}" for alias in statement.names]
    modules = [name for name in inner if is_module(name)]
    return modules if len(modules) == len(inner) else [base, *modules]


def own_imports(tree):
    """(module inside the package, whether the import runs when the module loads) of every import."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported(node):
                if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                    yield name.removeprefix(PACKAGE).lstrip(".") or "__init__", id(node) not in late


def backward_arrows(module, tree):
    """What is wrong with a module's imports, in words."""
    here = room(module)
    for target, at_load in own_imports(tree):
        there = room(target)
        if not at_load and ((here, there) == BACKWARD or (here in OUTERMOST and there == "__init__")):
            continue
        if RANK[there] > RANK[here]:
            yield f"{module} imports {target}, which comes later"
        if there == "experiments" and here not in ("experiments", "report", "tables", "cli", "__init__"):
            yield f"{module} imports {target}: only the report and the command line may"


def foreign_model_classes(module, tree):
    if module in ("models", "loading"):
        return
    for node in ast.walk(tree):
        names = [alias.name.split(".")[-1] for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        names += [node.id] if isinstance(node, ast.Name) else [node.attr] if isinstance(node, ast.Attribute) else []
        yield from (f"{module} uses {name}" for name in names if name in MODEL_CLASSES)


def postponed_annotations(module, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            yield f"{module} postpones its annotations, which turns the shape checks off"


RULES = (backward_arrows, foreign_model_classes, postponed_annotations)
BROKEN = [
    ("stats", "from semhub_lens.similarity import similarity"),
    ("stats", "import semhub_lens.viz.lens"),
    ("hook_points", "from semhub_lens import activations"),
    ("models", "import semhub_lens as shl"),
    ("similarity", "def f():\n    from semhub_lens.experiments.code import run"),
    ("viz.lens", "from semhub_lens.experiments import run"),
    ("results", "from semhub_lens.viz import figure"),
    ("similarity", "def f():\n    from semhub_lens.viz import figure"),
    ("readout", "from semhub_lens.models import is_bridge"),
    ("readout", "import semhub_lens.models as m\nm.is_bridge(1)"),
    ("activations", "from transformer_lens import HookedTransformer"),
    ("cli", "def f(model):\n    return type(model) is transformer_lens.model_bridge.TransformerBridge"),
    ("stats", "from __future__ import annotations"),
]
SOUND = [
    ("results", "def f():\n    from semhub_lens.viz import figure"),
    ("similarity", "from semhub_lens.stats import verdict\nfrom semhub_lens.results import Result"),
    ("interventions.generation", "from semhub_lens.interventions.hooks import at"),
    ("report", "from semhub_lens import experiments"),
    ("cli", "def f():\n    import semhub_lens as shl"),
    ("models", "from transformer_lens import HookedTransformer\nis_bridge(1)"),
]


def problems(module, source):
    tree = ast.parse(source)
    return [problem for rule in RULES for problem in rule(module, tree)]


@pytest.mark.parametrize(("module", "source"), BROKEN)
def test_the_rules_below_notice_what_breaks_them(module, source):
    assert problems(module, source)


@pytest.mark.parametrize(("module", "source"), SOUND)
def test_the_rules_below_let_pass_what_keeps_them(module, source):
    assert problems(module, source) == []


@pytest.mark.parametrize("module", files())
def test_module_keeps_the_rules(module):
    name = module.removesuffix(".__init__")
    assert room(name) in RANK, f"give {name} a place in ORDER"
    assert problems(name, files()[module].read_text(encoding="utf-8")) == []


def test_modules_import_one_another_without_cycles():
    modules = files()
    loaded = {module.removesuffix(".__init__"): set() for module in modules}
    for module, path in modules.items():
        name = module.removesuffix(".__init__")
        targets = {target for target, at_load in own_imports(ast.parse(path.read_text(encoding="utf-8"))) if at_load}
        loaded[name] = {target for target in targets if target in loaded} - {name}
    while ready := [name for name, targets in loaded.items() if not targets & loaded.keys()]:
        for name in ready:
            del loaded[name]
    assert loaded == {}, "these modules wait for one another"


def test_the_core_is_where_the_order_says():
    present = {room(module.removesuffix(".__init__")) for module in files()}
    assert set(sum(ORDER[:4], ())) - {"legs", "data"} <= present  # the others may still be missing
    assert "def is_bridge" in files()["models"].read_text(encoding="utf-8")
