"""A lens of given numbers, and a real browser that opens its page."""

import pytest

import semhub_lens as shl
from chrome import Chrome
from explored import LABELS
from planted_lens import planted_lens


@pytest.fixture(scope="session")
def chrome(tmp_path_factory):
    browser = Chrome(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def lens():
    return planted_lens(LABELS, layers=6, k=4)


@pytest.fixture
def open_page(chrome, tmp_path):
    """Opens a lens's page; afterwards nothing may have been asked for, and nothing may have failed."""
    opened = []

    def start(lens, fragment="", **settings):
        path = shl.write_html(lens, tmp_path / f"{len(opened)}.html")
        tab = chrome.open(path.as_uri() + fragment, **settings)
        opened.append(tab)
        return tab

    yield start
    for tab in opened[-1:]:
        assert not tab.faults()
        assert all(url.startswith(("file:", "blob:null", "data:")) for url in tab.requests())
    for tab in opened:
        tab.close()
