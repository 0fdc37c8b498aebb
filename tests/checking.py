"""Checks every call of the package against its annotations, shapes included, while the tests run.

The import hook of jaxtyping does this too, but it also wraps each function that another one defines, again at every
call, and looks at every argument twice: a third of the suite's time. Here a function inside a function is checked only
where it names a shape, and beartype looks once at arguments and result, within one scope of jaxtyping's names of axes.
"""

import ast
import dataclasses
import functools
import sys
from importlib.machinery import PathFinder, SourceFileLoader

from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, config, jaxtyped

plainly = beartype(conf=BeartypeConf(violation_type=TypeCheckError))
scope = jaxtyped("context")
DECORATOR = "__checked__"


def checked(thing):
    """The function or class with its annotations checked at each call, unless jaxtyping is told not to."""
    if isinstance(thing, type):
        if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
            thing.__init__ = checked(thing.__init__)
        return thing
    if not thing.__annotations__:
        return thing
    judged = plainly(thing)
    shaped = "jaxtyping" in repr(list(thing.__annotations__.values()))

    @functools.wraps(thing)
    def call(*arguments, **named):
        if config.jaxtyping_disable:
            return thing(*arguments, **named)
        if not shaped:
            return judged(*arguments, **named)
        with scope:
            return judged(*arguments, **named)

    return call


class Decorating(ast.NodeTransformer):
    """Puts `checked` on every class and every function that is worth it."""

    inside = False

    def visit_ClassDef(self, node):
        node.decorator_list.insert(0, ast.Name(DECORATOR, ast.Load()))
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        hints = [a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg)] + [node.returns]
        shapes = any(isinstance(part, ast.Subscript) for hint in hints if hint for part in ast.walk(hint))
        if shapes or not self.inside:
            node.decorator_list.append(ast.Name(DECORATOR, ast.Load()))
        outside, self.inside = self.inside, True
        self.generic_visit(node)
        self.inside = outside
        return node


class Loader(SourceFileLoader):
    def get_code(self, fullname):
        path = self.get_filename(fullname)
        tree = Decorating().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module):
        setattr(module, DECORATOR, checked)
        super().exec_module(module)


class Finder:
    """Finds the modules of one package, to be checked."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name != self.package and not name.startswith(self.package + "."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec


def check(package):
    """Check every module of `package`, which is not yet imported."""
    assert package not in sys.modules
    sys.meta_path.insert(0, Finder(package))
