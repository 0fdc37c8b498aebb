"""The house keeps its plan: rooms in one order, nothing private across them, small files, model classes in one room."""

import ast
import importlib
import types
from pathlib import Path

import pytest

PACKAGE = "semhub_lens"
FOLDER = Path(__file__).parent.parent / PACKAGE
ROOMS = (
    "base",
    "evidence",
    "inputs",
    "data",
    "model",
    "lens",
    "geometry",
    "probes",
    "interventions",
    "scores",
    "spokes",
    "views",
    "workbench",
    "experiments",
    "report",
    "training",
    "cli",
)
ORDER = (*ROOMS[: ROOMS.index("training")], "__init__", "training", "cli", "__main__")
"""`__init__` is what users import: everything but what makes spokes and the command line, which may use it."""
RANK = {room: rank for rank, room in enumerate(ORDER)}
MODEL_CLASSES = {"is_bridge", "HookedTransformer", "TransformerBridge"}
LONGEST_FILE = 320


def files():
    """Module names inside the package (`lens.kernel`; a folder's `__init__` by the folder's name) and their files."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts)
        found[name if name == "__init__" else name.removesuffix(".__init__")] = path
    return found


def room(module):
    return module.split(".")[0]


def is_module(dotted):
    path = FOLDER.joinpath(*dotted.split(".")[1:])
    return dotted.startswith(f"{PACKAGE}.") and (path.with_suffix(".py").is_file() or path.is_dir())


def inside(name):
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def own_imports(tree):
    """(module inside the package, imported names that are no modules) of every import, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                (alias.name.removeprefix(PACKAGE).lstrip("."), ()) for alias in node.names if inside(alias.name)
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports in the package are absolute"
            base = node.module or ""
            if not inside(base):
                continue
            modules = [alias.name for alias in node.names if is_module(f"{base}.{alias.name}")]
            yield from ((f"{base}.{name}".removeprefix(f"{PACKAGE}."), ()) for name in modules)
            names = tuple(alias.name for alias in node.names if alias.name not in modules)
            if names:
                yield base.removeprefix(PACKAGE).lstrip("."), names


def targets(tree):
    return {target or "__init__" for target, _ in own_imports(tree)}


def backward_arrows(module, tree):
    for target in targets(tree):
        if RANK[room(target)] > RANK[room(module)]:
            yield f"{module} imports {target}, whose room comes later"


def private(name):
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names_of_other_rooms(module, tree):
    """Names and modules that begin with `_`, imported from another room or read from one of its modules."""
    borrowed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            base = getattr(node, "module", None)
            for alias in node.names:
                whole = alias.name if base is None else f"{base}.{alias.name}"
                if not inside(whole) or room(whole.removeprefix(f"{PACKAGE}.")) == room(module):
                    continue
                borrowed.add(alias.asname or alias.name.split(".")[0])
                if any(private(part) for part in whole.split(".")):
                    yield f"{module} imports {whole}, which is private to another room"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in borrowed:
                yield f"{module} reads {ast.unparse(node)}, which is private to another room"


def foreign_model_classes(module, tree):
    if module in ("model.facts", "model.loading"):
        return
    for node in ast.walk(tree):
        names = [alias.name.split(".")[-1] for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
        names += [node.id] if isinstance(node, ast.Name) else [node.attr] if isinstance(node, ast.Attribute) else []
        yield from (f"{module} uses {name}" for name in names if name in MODEL_CLASSES)


def postponed_annotations(module, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            yield f"{module} postpones its annotations, which turns the shape checks off"


RULES = (backward_arrows, private_names_of_other_rooms, foreign_model_classes, postponed_annotations)


def problems(module, source):
    tree = ast.parse(source)
    long = len(source.splitlines())
    too_long = [f"{module} has {long} lines; at most {LONGEST_FILE}"] if long > LONGEST_FILE else []
    return too_long + [problem for rule in RULES for problem in rule(module, tree)]


def strangers(names):
    """What stands on the top level of the package and is neither a room nor one of its two own files."""
    return {name for name in names if name not in {*ROOMS, "__init__.py", "__main__.py"} and name != "__pycache__"}


def circles(imports):
    """Modules that wait for one another; `imports` maps each module to what it imports."""
    waiting = {
        name: {target for target in found if target in imports and target != name} for name, found in imports.items()
    }
    while ready := [name for name, found in waiting.items() if not found & waiting.keys()]:
        for name in ready:
            del waiting[name]
    return set(waiting)


BROKEN = [
    ("evidence.stats", "from semhub_lens.geometry.similarity import similarity"),
    ("evidence.stats", "import semhub_lens.views.lens"),
    ("evidence.legs", "from semhub_lens.interventions.sweep_result import SweepResult"),
    ("base.results", "def f():\n    from semhub_lens.views.figure import figure"),
    ("inputs.prompts", "from semhub_lens.model.facts import Model"),
    ("model.hooking", "from semhub_lens import lens"),
    ("model.facts", "import semhub_lens as shl"),
    ("geometry.similarity", "def f():\n    from semhub_lens.experiments.code.lists import run"),
    ("views.lens", "from semhub_lens.experiments import run"),
    ("views.figure", "from semhub_lens.training.curve_figure import training_figure"),
    ("__init__", "from semhub_lens.training.train import train"),
    ("training.command", "from semhub_lens.cli.options import console"),
    ("experiments.code.steering", "from semhub_lens.scores.final_states import _blocks"),
    ("experiments.job", "from semhub_lens.lens import _kernel"),
    ("experiments.job", "from semhub_lens.lens import kernel\nkernel._block(1)"),
    ("experiments.job", "import semhub_lens.lens.kernel as k\nk._block(1)"),
    ("model.readout", "from semhub_lens.model.facts import is_bridge"),
    ("model.readout", "import semhub_lens.model.facts as m\nm.is_bridge(1)"),
    ("lens.kernel", "from transformer_lens import HookedTransformer"),
    ("cli.main", "def f(model):\n    return type(model) is transformer_lens.model_bridge.TransformerBridge"),
    ("evidence.stats", "from __future__ import annotations"),
    ("evidence.stats", "x = 1\n" * (LONGEST_FILE + 1)),
]
SOUND = [
    (
        "geometry.similarity",
        "from semhub_lens.evidence.stats import verdict\nfrom semhub_lens.base.results import Result",
    ),
    ("geometry.similarity", "from semhub_lens.geometry.alignment import _blocks"),
    ("interventions.sweep", "from semhub_lens.interventions.hooks import at"),
    ("report.report", "from semhub_lens import experiments"),
    ("cli.main", "def f():\n    import semhub_lens as shl"),
    ("cli.main", "def f():\n    from semhub_lens.training.command import app"),
    ("model.facts", "from transformer_lens import HookedTransformer\nis_bridge(1)"),
    ("lens.kernel", "class A:\n    def f(self):\n        return self._x"),
    ("evidence.stats", "x = 1\n" * LONGEST_FILE),
]


@pytest.mark.parametrize(("module", "source"), BROKEN)
def test_the_rules_notice_what_breaks_them(module, source):
    assert problems(module, source)


@pytest.mark.parametrize(("module", "source"), SOUND)
def test_the_rules_let_pass_what_keeps_them(module, source):
    assert problems(module, source) == []


@pytest.mark.parametrize("module", files())
def test_module_keeps_the_rules(module):
    assert room(module) in RANK, f"{module} stands in no room"
    assert problems(module, files()[module].read_text(encoding="utf-8")) == []


def test_the_top_level_holds_rooms_and_nothing_else():
    assert strangers(path.name for path in FOLDER.iterdir()) == set()
    assert strangers(["lens", "helpers.py", "utils"]) == {"helpers.py", "utils"}


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_is_a_module_that_says_what_it_is_for(name):
    module = importlib.import_module(f"{PACKAGE}.{name}")
    assert getattr(importlib.import_module(PACKAGE), name) is module, f"{PACKAGE}.{name} is also a public name"
    assert isinstance(module, types.ModuleType) and module.__doc__


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_lists_what_it_offers(name):
    """Every file and folder of a room stands in the room's docstring, so that a new one is not forgotten."""
    described = ast.get_docstring(ast.parse((FOLDER / name / "__init__.py").read_text(encoding="utf-8")))
    inside_it = {p.stem for p in (FOLDER / name).iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    missing = {stem for stem in inside_it - {"__init__"} if f"`{stem}`" not in described}
    assert missing == set()


def test_modules_import_one_another_without_circles():
    imports = {name: targets(ast.parse(path.read_text(encoding="utf-8"))) for name, path in files().items()}
    assert circles(imports) == set(), "these modules wait for one another"
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c", "d"}


def test_the_tests_follow_the_rooms():
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders == set(ROOMS)
