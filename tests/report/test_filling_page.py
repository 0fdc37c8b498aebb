"""The report's page is there at once and fills; an interrupted one is whole and says how to go on."""

import re
import sys

import pytest
import torch

from samples import leg_text
from semhub_lens import experiments
from semhub_lens.base.errors import Unfit
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.evidence.legs import ExperimentResult, make_leg
from semhub_lens.evidence.stats import FEWEST_ITEMS, sign_flips
from semhub_lens.experiments.runs import save_run
from semhub_lens.report.hub_page import HubPage
from semhub_lens.report.orchestration import QUICK, Measured, Plan, choose
from semhub_lens.report.report import Stopped, report

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)
NAMES = ["arithmetic.similarity", "code.similarity", "probing"]


def planted(name):
    effect = 1 + torch.randn(4, 40, generator=generator(0))
    leg = make_leg(effect, sign_flips(effect), leg_text("a leg"), provenance=WHERE, seed=0, curves={})
    return ExperimentResult(name, f"title of {name}", (leg,), (), provenance=WHERE)


class Runs:
    """In place of `experiments.run`: keeps what it was asked for and the page as it was then."""

    def __init__(self, page):
        self.page, self.asked, self.pages, self.raises = page, [], [], {}

    def __call__(self, name, model, *, n, out, **settings):
        self.asked.append((name, n))
        self.pages.append(self.page.read_text(encoding="utf-8"))
        if name in self.raises:
            raise self.raises[name]
        result = planted(name)
        save_run(result, out / name, {"experiment": name}, seconds=1.0)
        return result


@pytest.fixture
def runs(monkeypatch, tmp_path):
    made = Runs(tmp_path / "page.html")
    monkeypatch.setattr(experiments, "run", made)
    monkeypatch.setattr(sys.modules["semhub_lens.report.report"], "LENS_PROMPTS", ("three plus",))
    return made


@pytest.fixture(scope="module")
def model():
    import models

    return models.tiny()


def state(page):
    """What a page says of the experiments: their names by what stands there of them, in order."""
    steps = re.findall(r'<li(?: class="(done|running)")?>(?:<a href="#[^"]*">)?([a-z_.]+)', _block(page))
    return {kind: [name for found, name in steps if found == kind] for kind in ("done", "running", "")}


def _block(page):
    return page[page.index('id="state"') : page.index("Written at")] if 'id="state"' in page else ""


def whole(page):
    return page.rstrip().endswith("</html>") and page.count("<iframe") == 1


def test_the_page_is_there_before_the_first_experiment_and_fills_in_their_order(runs, model):
    path, results = report(model, runs.page, only=NAMES, progress=False)
    assert [name for name, _ in runs.asked] == [result.id for result in results] == NAMES
    for index, page in enumerate(runs.pages):
        assert whole(page)
        assert state(page) == {"done": NAMES[:index], "running": [NAMES[index]], "": NAMES[index + 1 :]}
        assert [f'<section id="{name}">' in page for name in NAMES] == [i < index for i in range(3)]
        assert "location.reload" in page and "left for all" in page
    page = path.read_text(encoding="utf-8")
    assert whole(page) and 'id="state"' not in page and "location.reload" not in page
    assert all(f'<section id="{name}">' in page for name in NAMES)


def test_an_interrupt_leaves_a_whole_page_and_the_same_call_goes_on(runs, model):
    runs.raises = {NAMES[1]: KeyboardInterrupt()}
    with pytest.raises(Stopped, match=r"run the same command again: finished parts are in .*page_runs"):
        report(model, runs.page, only=NAMES, progress=False)
    page = runs.page.read_text(encoding="utf-8")
    assert whole(page) and "location.reload" not in page
    assert state(page) == {"done": NAMES[:1], "running": [], "": NAMES[1:]}
    assert "To resume, run the same command again" in page and f'<section id="{NAMES[0]}">' in page
    assert (runs.page.with_name("page_runs") / NAMES[0] / "run.json").is_file()
    runs.raises = {}
    report(model, runs.page, only=NAMES, progress=False)
    assert 'id="state"' not in runs.page.read_text(encoding="utf-8")


def test_an_error_of_an_experiment_is_on_the_page_and_raised(runs, model):
    runs.raises = {NAMES[2]: ValueError("two <many>")}
    with pytest.raises(ValueError, match="two <many>"):
        report(model, runs.page, only=NAMES, progress=False)
    page = runs.page.read_text(encoding="utf-8")
    assert "An error ended it: two &lt;many&gt;" in page and state(page)["done"] == NAMES[:2]


def test_what_does_not_fit_is_not_waited_for(runs, model):
    runs.raises = {NAMES[0]: Unfit("This tokenizer splits the words.")}
    report(model, runs.page, only=NAMES, progress=False)
    assert "0 of 2 experiments measured" in runs.pages[1] and "This tokenizer splits the words" in runs.pages[1]


@pytest.mark.parametrize(
    "settings, sizes",
    [({}, lambda own: min(own, QUICK)), ({"full": True}, lambda own: own), ({"n": 17}, lambda own: 17)],
)
def test_sizes_follow_one_rule_and_the_page_says_which(runs, model, settings, sizes):
    report(model, runs.page, only=NAMES, progress=False, **settings)
    assert dict(runs.asked) == {name: sizes(experiments.EXPERIMENTS[name].n) for name in NAMES}
    said = {"full": "full: each experiment", "n": "17 items in each experiment"}
    expected = next((said[key] for key in settings), f"quick: at most {QUICK} items in each experiment")
    assert expected in runs.page.read_text(encoding="utf-8")


def test_the_quick_size_leaves_each_half_enough_items():
    assert QUICK >= 2 * FEWEST_ITEMS
    assert all(min(entry.n, QUICK) >= FEWEST_ITEMS for entry in experiments.EXPERIMENTS.values())


def test_one_display_on_the_terminal_says_where_the_page_is_once(runs, model, capfd):
    report(model, runs.page, only=NAMES)
    out, err = capfd.readouterr()
    assert out == "" and err.count("The report is at") == 1 and "%|" not in err
    assert str(runs.page) in err


def test_the_time_left_comes_from_what_is_done(runs, model, monkeypatch):
    from semhub_lens.report import orchestration

    clock = iter([0.0, 30.0, 60.0, 90.0])
    monkeypatch.setattr(orchestration.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(experiments, "run", lambda name, *_, **__: planted(name))
    plan = Plan.of("tiny", model, choose(NAMES, steering=False))
    steps = list(plan.run(n=QUICK, seed=0, out=None))
    assert [step.left for step in steps] == [3 * orchestration.USUAL, 60.0, 30.0, 0.0]
    assert [step.rate for step in steps[1:]] == [QUICK / 30, 2 * QUICK / 60, 3 * QUICK / 90]


def test_what_an_experiment_frees_is_returned_before_the_next(model, monkeypatch):
    from semhub_lens.report import orchestration

    order = []
    monkeypatch.setattr(orchestration, "return_freed_memory", lambda: order.append("returned"))
    monkeypatch.setattr(experiments, "run", lambda name, *_, **__: order.append(name) or planted(name))
    list(Plan.of("tiny", model, choose(NAMES, steering=False)).run(n=QUICK, seed=0, out=None))
    assert order == [step for name in NAMES for step in ("returned", name)]


def test_a_page_draws_each_result_once(model, monkeypatch):
    from semhub_lens.report import hub_page

    drawn = []
    monkeypatch.setattr(hub_page, "figure", lambda shown: drawn.append(shown.id) or _figure())
    page = HubPage(where=WHERE, size="small")
    results = [planted(name) for name in NAMES]
    for count in (1, 2, 3):
        page.html(Measured(results=results[:count], unmeasured={}, coming=NAMES[count:]))
    assert drawn == NAMES


def _figure():
    import plotly.graph_objects as go

    return go.Figure()
