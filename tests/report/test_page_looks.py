"""The report's page can be read: contrast, keyboard, narrow screens."""

import pytest
import torch

from browser import CHROMIUM
from chrome import Chrome
from explored import contrast, rgb
from samples import leg_text
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.evidence.legs import ExperimentResult, make_leg
from semhub_lens.evidence.stats import sign_flips
from semhub_lens.report.hub_page import HubPage
from semhub_lens.report.orchestration import Measured

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")
WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)
GROUND = """(e => { while (getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)") e = e.parentElement;
    return getComputedStyle(e).backgroundColor; })"""


def planted(name, shift):
    effect = shift + torch.randn(4, 40, generator=generator(0))
    controls = {"kept control": effect + 5, "lost control": effect - 50}
    settings = {"curves": {"effect": effect.mean(1)}, "controls": controls}
    leg = make_leg(effect, sign_flips(effect), leg_text("a leg"), provenance=WHERE, seed=0, **settings)
    return ExperimentResult(name, f"title of {name}", (leg,), ("a note",), provenance=WHERE)


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    results = [planted("arithmetic.similarity", 2.0), planted("probing", 0.0), planted("code.similarity", -2.0)]
    found = Measured(results=results, unmeasured={})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(HubPage(where=WHERE, size="small").html(found), encoding="utf-8")
    browser = Chrome(tmp_path_factory.mktemp("profile"))
    yield browser.open(path.as_uri())
    browser.close()


def test_verdicts_and_notes_stand_out_from_their_ground(tab):
    pairs = tab.js(f"""[...document.querySelectorAll(".chip, .muted, .notes li, th, td a")]
        .map(e => [e.textContent, getComputedStyle(e).color, {GROUND}(e)])""")
    assert {"supported", "not supported", "opposite"} <= {text for text, *_ in pairs}
    assert min(contrast(rgb(ink), rgb(ground)) for _, ink, ground in pairs) >= 4.5


def test_the_controls_that_hold_are_read_without_a_pointer(tab):
    tab.js("document.querySelector('td summary').focus()")
    assert not tab.js("document.querySelector('td details').open")
    tab.key("Enter")
    assert tab.js("document.querySelector('td details').innerText.split('\\n')") == ["1 of 2", "kept control"]


def test_a_narrow_page_scrolls_in_its_tables_only(tab):
    tab.resize(360, 740)
    tab.settle()
    assert tab.js("document.documentElement.scrollWidth") <= 360
    assert tab.js("document.querySelector('section').clientWidth") > 310
