"""The explorer's answers are the library's results, its code makes them anew, and overtaken runs are dropped."""

import json
import threading

import pytest
import torch

import models
import semhub_lens as shl
from planted_lens import planted_lens
from semhub_lens.workbench import explorer as explorers
from semhub_lens.workbench.asked import NEEDS, Asked, Intervention
from semhub_lens.workbench.newest import Newest

TEXT = "three plus two"
STEER = {"kind": "steer", "plus": "two", "minus": "five", "entry": 1, "strength": 4.0, "positions": "-1,1"}
PATCH = {"kind": "patch", "source": "five plus two", "entry": 2, "strength": 1, "positions": "1"}
OUT = {"kind": "project_out", "plus": "red", "minus": "blue", "entry": 2}


class Front:
    """What an anywidget is to the explorer: traits that are watched."""

    def __init__(self, **asked):
        self.asked, self.page, self.said = {**explorers.FIRST, **asked}, "", []

    def observe(self, act, names):
        self.act = act

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if name == "answer":
            self.said.append(value)
        if name == "asked" and hasattr(self, "act"):
            self.act(None)


@pytest.fixture(scope="module")
def model():
    return models.tiny(models.BACKENDS[-1])


@pytest.fixture
def explorer(model):
    return shl.Explorer(model, Front())


def assert_same(one, other):
    assert one.entries == other.entries and one.labels == other.labels
    for name, values in other.measured.items():
        assert torch.equal(one.measured[name], values)


def run(code, **given):
    exec(code, given)  # the test's own: what a user would paste
    return given


@pytest.mark.parametrize("interventions", [[], [STEER], [PATCH], [OUT, STEER]], ids=["clean", "steer", "patch", "both"])
def test_an_answer_is_what_its_code_makes(explorer, model, interventions):
    explorer.ask(prompt=TEXT, interventions=interventions, layers="1, 3", top_k=3, new_tokens=2).wait(60.0)
    made = run(explorer.code, model=model)
    assert_same(explorer.result, made["lens"])
    clean, changed = explorer.texts
    assert clean.texts[0] == made["text"]
    if interventions:
        assert_same(explorer.clean, made["clean"])
        assert torch.equal(explorer.comparison.changed, made["comparison"].changed)
        assert changed.texts[0] == made["changed_text"]
        assert not torch.equal(explorer.result.top_logprobs, explorer.clean.top_logprobs)
    else:
        assert changed is None and explorer.comparison is None
    front = explorer.widget
    states = [one["state"] for one in front.said]
    assert states == ["running", "partial", *["partial"] * bool(interventions), "done"]
    assert json.loads(front.page).get("sides") is None or interventions
    assert front.said[-1]["texts"][0] == clean.texts[0] and front.said[-1]["code"] == explorer.code


def test_a_saved_vector_and_a_table_are_in_the_code(model, tmp_path):
    vector = shl.SteeringVector.make(model, "v", {2: torch.ones(model.cfg.d_model)})
    path = str(vector.save(tmp_path / "v.safetensors"))
    table = shl.script_table(model)
    explorer = shl.Explorer(model, Front(), table)
    explorer.ask(prompt=TEXT, new_tokens=0, interventions=[{"kind": "vector", "path": path, "entry": 2}]).wait(60.0)
    made = run(explorer.code, model=model, table=table)
    assert_same(explorer.result, made["lens"])
    assert explorer.result.languages == made["lens"].languages == table.languages


def test_the_clean_lens_is_read_once(explorer, monkeypatch):
    explorer.ask(prompt=TEXT, new_tokens=0).wait(60.0)
    clean = explorer.clean
    explorer.ask(interventions=[STEER]).wait(60.0)
    assert explorer.clean is clean


def test_after_an_edit_of_the_weights_the_clean_lens_is_read_anew():
    edited = models.tiny(models.BACKENDS[-1])
    explorer = shl.Explorer(edited, Front())
    explorer.ask(prompt=TEXT, layers="", new_tokens=0).wait(60.0)
    with torch.no_grad():
        edited.blocks[1].mlp.W_out.mul_(-3)
    explorer.ask(interventions=[STEER]).wait(60.0)
    assert_same(explorer.clean, shl.logit_lens(edited, TEXT, progress=False))


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"prompt": ""}, "Type a prompt"),
        ({"interventions": [{**STEER, "plus": ""}]}, "needs plus="),
        ({"interventions": [{**PATCH, "positions": ""}]}, "one position"),
        ({"interventions": [{**STEER, "positions": "a"}]}, "whole numbers with commas"),
        ({"interventions": [{**STEER, "entry": 9}]}, "out of range"),
        ({"layers": "1-"}, "ranges"),
        ({"layers": "7"}, "entries 0 to 3"),
        ({"top_k": 10**6}, "top_k"),
    ],
)
def test_what_cannot_be_done_is_said_where_it_was_typed(explorer, asked, match):
    explorer.ask(**{"prompt": TEXT, **asked})
    with pytest.raises(shl.SemhubError, match=match):
        explorer.wait(60.0)
    assert explorer.widget.said[-1]["state"] == "error"
    explorer.ask(prompt=TEXT, layers="", top_k=3, norm="final", interventions=[], new_tokens=0).wait(60.0)
    assert explorer.widget.said[-1]["state"] == "done"


@pytest.mark.parametrize(
    "asked", [{"colour": 1}, {"top_k": "3"}, {"top_k": True}, {"interventions": [{"kind": "swim"}]}, {"prompt": None}]
)
def test_a_form_that_is_none_is_refused_at_once(explorer, asked):
    with pytest.raises(shl.SemhubError):
        explorer.ask(**asked)


def test_before_the_first_answer_it_says_what_to_do(explorer):
    with pytest.raises(shl.SemhubError, match="type a prompt"):
        explorer.result


def test_an_overtaken_run_stops_and_is_dropped():
    begun, told, stopped = threading.Event(), [], []

    def work(question, stop):
        try:
            while question == "first":
                begun.set()
                stop()
        except BaseException:
            stopped.append(question)
            raise
        yield question

    newest = Newest(work, told.append, told.append)
    newest.ask("first")
    assert begun.wait(20)
    newest.ask("second")
    newest.ask("third")
    assert newest.wait(20.0) and told == ["third"] and stopped == ["first"]


def test_a_run_of_the_model_is_left_at_the_next_layer(explorer, model, monkeypatch):
    """The first question is held inside its pass until the second one is there."""
    inside, go, passes = threading.Event(), threading.Event(), []
    real = type(explorer._bench)._lens

    def lens(self, asked, hooks, watch, stop):
        def hold(activation, hook):
            passes.append(asked.prompt)
            if asked.prompt == "five":
                inside.set()
                go.wait(20)

        def after(activation, hook):
            passes.append(f"after {asked.prompt}")

        names = [name for name, _ in watch]
        return real(self, asked, [(names[0], hold)], [*watch, (names[-1], after)], stop)

    monkeypatch.setattr(type(explorer._bench), "_lens", lens)
    explorer.ask(prompt="five", new_tokens=0)
    assert inside.wait(20)
    explorer.ask(prompt=TEXT)
    go.set()
    explorer.wait(60.0)
    assert passes == ["five", TEXT, f"after {TEXT}"]
    assert explorer.result.labels[-1] == "␣two"
    assert [one["state"] for one in explorer.widget.said] == ["running", "running", "done"]


def test_every_kind_has_its_code():
    for kind in NEEDS:
        one = Intervention(kind, positions="-1", plus="a", minus="b", path="c", source="d")
        assert compile(one.code(), "code", "eval")
    assert Asked.read({"prompt": "'\"\n"}).code().splitlines()[2] == f"prompt = {chr(39) + chr(92)}'\"{chr(92)}n'"


def test_without_anywidget_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    with pytest.raises(shl.SemhubError, match=r"pip install \"semhub-lens\[notebooks\]\""):
        shl.explore(model)


def test_the_widget_shows_itself_and_a_frame_where_none_can_live(model):
    pytest.importorskip("anywidget")
    explorer = shl.explore(model, TEXT, table=shl.script_table(model)).wait(60.0)
    explorer.ask(interventions=[STEER]).wait(60.0)
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "application/vnd.jupyter.widget-view+json" in data and "srcdoc" in data["text/html"]
    assert explorer.widget.page and explorer.widget.answer["state"] == "done"


def test_a_hostile_text_stays_in_its_string(model):
    assert "</script" not in explorers.widget_script() and planted_lens(["a"]).labels == ("a",)
