"""Links of README, pages, notebooks and docstrings. `python tests/links.py` (make links) asks for those that lead out.

Sphinx's linkcheck asks. A page that is gone ends with status 1; what could not be asked is listed, and no failure.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HEADINGS = {"docs": 3}
"""Deepest heading of a folder's pages that has an anchor: `myst_heading_anchors` in docs/conf.py."""
MARKDOWN = MarkdownIt("commonmark").enable("table")
FENCED = re.compile(r"^\{(figure|image|literalinclude|include)\}\s+(\S+)|^:target:\s+(\S+)", re.MULTILINE)
LABEL = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
"""A target that MyST knows and code hosts do not."""
ROLE = re.compile(r"\{(py:obj|term|doc)\}`(?:[^`<]*<)?~?([^`>]+)>?`")
ADDRESS = re.compile(r"https?://[^\s`\"'<>)\]}\\|]+[^\s`\"'<>)\]}\\|.,;:]")
GONE = re.compile(r"\b(404|410) Client Error")


def pages():
    """Every page by its path: README, docs, and the words of the notebooks."""
    found = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
    return {str(path.relative_to(ROOT)): text_of(path) for path in found if "_build" not in path.parts}


def text_of(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = (cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join(source if isinstance(source, str) else "".join(source) for source in cells)


@cache
def modules():
    """The syntax of every module of the package, as all of its nodes."""
    paths = sorted((ROOT / "semhub_lens").rglob("*.py"))
    parsed = {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    return {name: list(ast.walk(tree)) for name, tree in parsed.items()}


@cache
def docstrings():
    """What each module's docstrings say."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = {
        name: [ast.get_docstring(node) for node in nodes if isinstance(node, kinds)]
        for name, nodes in modules().items()
    }
    return {name: "\n\n".join(text for text in texts if text) for name, texts in found.items()}


def parsed(text):
    """Tokens of a page, with what colon fences hold."""
    return MARKDOWN.parse(re.sub(r"^(:{3,}).*$", "", text, flags=re.MULTILINE))


def targets(text):
    """Where the links, pictures and directives of a page lead."""
    for token in parsed(text):
        for child in token.children or ():
            if child.type in ("link_open", "image"):
                yield unquote(str(child.attrs.get("href") or child.attrs["src"]))
        if token.type == "fence":
            yield from (found[2] or found[3] for found in FENCED.finditer(f"{token.info}\n{token.content}"))


@cache
def headings(text, deepest):
    """Headings of a page, without markup."""
    return [
        "".join(child.content for child in inline.children if child.type in ("text", "code_inline")).strip()
        for head, inline in pairwise(parsed(text))
        if head.type == "heading_open" and int(head.tag[1]) <= deepest
    ]


def anchors(text, deepest=6):
    """Names of a page's headings, as MyST and code hosts make them; a second one of a name gets a number."""
    found = []
    for title in headings(text, deepest):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{sum(name.startswith(slug) for name in found)}")
    return found


def made_id(title):
    """A heading's id on the site, as docutils makes it."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def broken(name, text, others):
    """Links of a page that lead to no file, or to no heading of it. `others` are the pages by their paths.

    Pages of the site may also lead to a label, or a heading by its name in docutils ("vision-patching"). README and
    notebooks are read on code hosts, which know neither.
    """
    for target in targets(text):
        path, _, anchor = target.partition("#")
        if ADDRESS.match(target) or target.startswith("mailto:") or path.startswith("_static/lens.html"):
            continue  # lens.html is written with the pages
        to = os.path.normpath(Path(name).parent / path if path else name)
        there = others.get(to, "")
        deepest = HEADINGS.get(to.split("/")[0], 6)
        known = anchors(there, deepest)
        if name.startswith("docs/"):
            known += [*LABEL.findall(there), *map(made_id, headings(there, deepest))]
        if not (there or (ROOT / to).exists()) or (anchor and anchor not in known):
            yield target


def roles(text):
    """Kind and target of the cross references by role, such as {term}`leg`."""
    return [(kind, " ".join(target.split())) for kind, target in ROLE.findall(text)]


def addresses():
    """Every address, and where it stands."""
    found = {}
    for name, text in [*pages().items(), *docstrings().items()]:
        for address in ADDRESS.findall(text):
            found.setdefault(address, name)
    return found


def asked(listed, folder):
    """What linkcheck says of each address: its rows, in a folder of its own without our configuration."""
    source, out = folder / "source", folder / "out"
    source.mkdir()
    (source / "index.rst").write_text("Links\n=====\n\n" + "".join(f"- `{a} <{a}>`__\n" for a in listed))
    settings = ["linkcheck_timeout=10", "linkcheck_retries=1", "linkcheck_anchors=0", "linkcheck_workers=8"]
    options = [part for setting in settings for part in ("-D", setting)]
    command = [sys.executable, "-m", "sphinx", "-C", "-Q", "-b", "linkcheck", *options, source, out]
    subprocess.run(command, check=False)
    return [json.loads(line) for line in (out / "output.json").read_text(encoding="utf-8").splitlines()]


def judged(rows):
    """Addresses that are gone, and those of which nothing is known, with the reason."""
    failed = {row["uri"]: row["info"] for row in rows if row["status"] in ("broken", "timeout")}
    gone = {uri: info for uri, info in failed.items() if GONE.search(info)}
    return gone, {uri: info for uri, info in failed.items() if uri not in gone}


def main(listed=None):
    """The exit status: 1 where a page is gone."""
    where = addresses() if listed is None else dict.fromkeys(listed, "given")
    with tempfile.TemporaryDirectory() as folder:
        gone, unknown = judged(asked(where, Path(folder)))
    for said, found in (("not reached", unknown), ("GONE", gone)):
        for uri, info in sorted(found.items()):
            print(f"links: {said}: {uri} ({where.get(uri, '')}): {' '.join(info.split())[:120]}")
    print(f"links: {len(where)} addresses, {len(gone)} gone, {len(unknown)} not reached")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or None))
