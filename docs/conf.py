"""Sphinx configuration: Markdown pages, and the reference from docstrings."""

import ast
import dataclasses
import inspect
import re
import textwrap
from importlib.metadata import version as installed
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

import semhub_lens as shl

project = "semhub_lens"
release = version = installed("semhub-lens")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "literal"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"  # for fields; functions show the source's spelling (`written_signature`)
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "semhub_lens"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["tables.js", "live.js"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_copyright = False

BLOCK = re.compile(r"^(?P<indent>[ ]*)\$\$(?P<math>.+?)\$\$(?P<rest>[^\n]*)$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"``.+?``|(?:\$(?P<math>[^$]+?)\$|(?<!:)`(?P<code>[^`]+?)`)(?=(?P<next>\w?))", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w.]*")


def plain_markup(app, what, name, obj, options, lines):
    """Turn `$...$`, `$$...$$` and single backticks into reStructuredText; a documented name becomes a link."""
    text = BLOCK.sub(_block, "\n".join(lines))
    lines[:] = INLINE.sub(_inline, text).split("\n")
    if what in ("attribute", "property"):
        lines[:1] = [": " + line for line in lines[:1]]  # an empty type, where napoleon would read "type: text"


def _block(found):
    indent, rest = found["indent"], found["rest"].strip()
    lines = ["", f"{indent}.. math:: {' '.join(found['math'].split())}", ""]
    return "\n".join([*lines, indent + rest] if rest else lines)


def _inline(found):
    glue = "\\ " if found["next"] else ""
    if found["math"]:
        return f":math:`{' '.join(found['math'].split())}`{glue}"
    if not found["code"]:
        return found[0]
    code = " ".join(found["code"].split())
    return (f":py:obj:`{code}`" if NAME.fullmatch(code) else f"``{code}``") + glue


def written_signature(app, what, name, obj, options, signature, returns):
    """Show annotations as the source spells them; dataclasses list their fields below and show no signature."""
    if what == "class":
        return ("", None) if dataclasses.is_dataclass(obj) else _written(obj.__init__, drop_return=True)
    return _written(obj) if what in ("function", "method") else None


def _written(function, drop_return=False):
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(node, ast.FunctionDef):
        return None
    if node.args.args and node.args.args[0].arg in ("self", "cls"):
        del node.args.args[0]
    return f"({_spelled(node.args)})", None if drop_return or node.returns is None else _spelled(node.returns)


def _spelled(node):
    return ast.unparse(node).replace("' ", "'")  # jaxtyping's leading space says nothing to a reader


def mathml(display):
    """Browsers draw MathML themselves, so formulas need no script and no network."""

    def visit(translator, node):
        drawn = convert(node.astext(), display=display).replace(">log</mi>", ">log</mi><mspace width='0.17em'/>")
        translator.body.append(f'<div class="math">{drawn}</div>' if display == "block" else drawn)
        raise nodes.SkipNode

    return visit, None


def live_lens(app, failed):
    """The page behind the first picture: a saved lens as today's explorer shows it."""
    if failed is None and app.builder.format == "html":
        shl.write_html(shl.load_result(Path(app.srcdir, "lens.safetensors")), Path(app.outdir, "_static", "lens.html"))


def setup(app):
    """Connect the hooks above; the markup first, so that napoleon sees reStructuredText."""
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))
    app.connect("autodoc-process-docstring", plain_markup, priority=400)
    app.connect("autodoc-process-signature", written_signature)
    app.connect("build-finished", live_lens)
