"""Every link of README, pages and notebooks leads to a file and a heading; names in docstrings are there."""

import http.server
import threading

import pytest

import links
import test_architecture as architecture

PAGES = links.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_link_leads_to_a_file_and_a_heading(name):
    assert list(links.broken(name, PAGES[name], PAGES)) == []


def test_the_links_of_every_kind_of_page_are_seen():
    seen = {name.split("/")[0]: 0 for name in PAGES}
    for name, text in PAGES.items():
        seen[name.split("/")[0]] += len(list(links.targets(text)))
    assert set(seen) == {"README.md", "docs", "notebooks"} and seen["docs"] > 150 and min(seen.values()) > 5


def test_a_label_is_no_anchor_on_a_code_host():
    pages = {"docs/page.md": "(place)=\n## `a.b`", "docs/other.md": "", "README.md": ""}
    assert list(links.broken("docs/other.md", "[a](page.md#place), [a](page.md#a-b), [a](page.md#ab)", pages)) == []
    on_a_host = "[a](docs/page.md#place), [a](docs/page.md#a-b), [a](docs/page.md#ab)"
    assert list(links.broken("README.md", on_a_host, pages)) == ["docs/page.md#place", "docs/page.md#a-b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](limits.md), [b](limits.md#weights), [c](#here)\n\n## Here", []),
        ("[a](limit.md)", ["limit.md"]),
        ("[a](limits.md#weight)", ["limits.md#weight"]),
        ("[c](#there)\n\n## Here", ["#there"]),
        ("#### Deep\n\n[d](#deep)", ["#deep"]),
        ("![picture](_static/none.png)", ["_static/none.png"]),
        ("```{figure} _static/none.png\n:target: gone.html\n```", ["_static/none.png", "gone.html"]),
        (":::{card}\n[a](limit.md)\n:::", ["limit.md"]),
        ("| a |\n|---|\n| [b](limit.md) |", ["limit.md"]),
        ("`[a](limit.md)`\n\n```text\n[a](limit.md)\n```\n[b](https://example.org/limit.md)", []),
    ],
)
def test_a_link_that_leads_nowhere_is_noticed(text, expected):
    assert list(links.broken("docs/page.md", text, PAGES | {"docs/page.md": text})) == expected


def test_headings_have_the_anchors_that_pages_and_code_hosts_give_them():
    text = "# A `code`, and more\n## Same\n## Same\n### $x$ - y_z\n#### Deep"
    assert links.anchors(text, 3) == ["a-code-and-more", "same", "same-1", "x---y_z"]
    assert links.anchors(text)[-1] == "deep"


def named_wrong(text):
    """Cross references by role whose target has no entry."""
    glossary = {line.strip().lower() for line in PAGES["docs/glossary.md"].splitlines() if line[:1].isalpha()}
    documented = {f"semhub_lens.{name}" for name in architecture.documented()}
    for kind, target in links.roles(text):
        known = {"term": target.lower() in glossary, "doc": (links.DOCS / "api" / f"{target}.md").exists()}
        owner = target.rpartition(".")[0]
        if not known.get(kind, bool({target, owner} & documented)):
            yield target


@pytest.mark.parametrize("name", [name for name in PAGES if links.roles(PAGES[name])])
def test_a_cross_reference_has_an_entry(name):
    assert list(named_wrong(PAGES[name])) == []


def test_a_cross_reference_without_an_entry_is_noticed():
    text = "{term}`leg`, {term}`lag` {py:obj}`~semhub_lens.at`, {py:obj}`~semhub_lens.att`, {py:obj}`R <semhub_lens.R>`"
    assert list(named_wrong(text)) == ["lag", "semhub_lens.att", "semhub_lens.R"]


def test_what_docstrings_name_is_there():
    wrong = {
        name: [*architecture.missing_paths(text), *architecture.missing_modules(text)]
        for name, text in links.docstrings().items()
    }
    assert len(wrong) > 200 and {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.slow
def test_a_page_that_is_gone_fails_and_one_that_cannot_be_asked_is_named(capsys):
    pytest.importorskip("sphinx")

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404 if self.path == "/gone" else 200)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *said):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        nobody = "http://127.0.0.1:9/nobody"
        assert links.main([f"{here}/there", nobody]) == 0
        told = capsys.readouterr().out
        assert f"not reached: {nobody}" in told and "2 addresses, 0 gone, 1 not reached" in told
        assert links.main([f"{here}/there", f"{here}/gone", nobody]) == 1
        assert f"GONE: {here}/gone" in capsys.readouterr().out
        server.shutdown()


def test_the_addresses_of_pages_and_docstrings_are_found():
    found = links.addresses()
    assert "https://arxiv.org/abs/2411.04986" in found and any(name.endswith(".py") for name in found.values())
