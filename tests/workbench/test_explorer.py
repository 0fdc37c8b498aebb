"""The explorer's answers are the library's results, its code makes them anew, and overtaken runs are dropped."""

import dataclasses
import json
import threading

import pytest
import torch

import models
import semhub_lens as shl
from planted_lens import planted_lens
from semhub_lens.workbench import explorer as explorers
from semhub_lens.workbench.asked import NEEDS, Asked, Intervention
from semhub_lens.workbench.bench import _Leaving
from semhub_lens.workbench.newest import Newest
from semhub_lens.workbench.script import script

TEXT = "three plus two"
STEER = {"kind": "steer", "plus": "two", "minus": "five", "entry": 1, "strength": 4.0, "positions": "-1,1"}
PATCH = {"kind": "patch", "source": "five plus two", "entry": 2, "strength": 1, "positions": "1"}
OUT = {"kind": "project_out", "plus": "red", "minus": "blue", "entry": 2}


class Front:
    """What an anywidget is to the explorer: traits that are watched."""

    def __init__(self, **asked):
        self.asked, self.pages, self.wrote, self.said = {**explorers.FIRST, **asked}, [], {}, []

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
    (page,) = front.pages
    assert ("sides" in json.loads(page)) == bool(interventions)
    assert front.said[-1]["texts"] == [list(clean.texts), changed and list(changed.texts)]
    assert front.said[-1]["code"] == explorer.code


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
        ({"interventions": [{**STEER, "plus": ""}]}, r"needs plus= \(the word .*; plus= is empty"),
        ({"interventions": [{**PATCH, "positions": ""}]}, "one position"),
        ({"interventions": [{**STEER, "positions": "a"}]}, "whole numbers with commas"),
        ({"interventions": [{**STEER, "entry": 9}]}, "out of range"),
        ({"layers": "1-"}, "ranges"),
        ({"layers": "7"}, r"entries 0 to 3 .*, got \[7\]"),
        ({"layers": "2-99"}, "got 4 and 95 others"),
        ({"layers": "3-1"}, "'1-3', not '3-1'"),
        ({"layers": "0-999999999"}, "ranges"),
        ({"top_k": 10**6}, "top_k"),
        ({"more": [""]}, "prompts is empty"),
        ({"written": [{"position": 9, "token": 7}]}, "has 4 tokens"),
    ],
)
def test_what_cannot_be_done_is_said_where_it_was_typed(explorer, asked, match):
    explorer.ask(**{"prompt": TEXT, **asked})
    with pytest.raises(shl.SemhubError, match=match):
        explorer.wait(60.0)
    assert explorer.widget.said[-1]["state"] == "error"
    usual = {"layers": "", "top_k": 3, "norm": "final", "interventions": [], "new_tokens": 0, "more": []}
    explorer.ask(prompt=TEXT, **usual).wait(60.0)
    assert explorer.widget.said[-1]["state"] == "done"


@pytest.mark.parametrize(
    "asked",
    [
        {"colour": 1},
        {"top_k": "3"},
        {"top_k": True},
        {"interventions": [{"kind": "swim"}]},
        {"prompt": None},
        {"more": "two"},
        {"quantities": 5},
        {"more": [1]},
        {"written": [{"position": "1"}]},
        {"written": [{"prompt": 1}]},
    ],
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


def test_a_read_out_is_left_between_two_pieces_of_its_logits(model):
    looked = []

    def stop():
        looked.append(None)
        if len(looked) == 2:
            raise InterruptedError

    pieces = _Leaving(model, "final", stop).pieces(torch.ones(2, 3, model.cfg.d_model), [0, 1], columns=8)
    first, plain = next(pieces)[1].clone(), shl.Readout(model).pieces(torch.ones(2, 3, model.cfg.d_model), columns=8)
    assert torch.equal(first, next(plain)[1])
    with pytest.raises(InterruptedError):
        next(pieces)


class Meddling(Front):
    """Somebody types anew in the middle of telling an answer."""

    def __init__(self, typed):
        super().__init__()
        self.typed, self.typist, self.shown = typed, None, []

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "wrote" and value and self.typist is None:
            new = {**self.asked, **self.typed, "number": self.asked["number"] + 1}
            self.typist = threading.Thread(target=setattr, args=(self, "asked", new))
            self.typist.start()
            self.typist.join(0.5)  # it has to wait until the answer is told
        if name == "answer" and value["state"] == "done":
            self.shown.append((value["number"], json.loads(self.pages[0])["labels"][-1]))


def test_an_answer_is_told_whole_and_with_the_number_of_its_own_question(model):
    front = Meddling({"prompt": "five plus red"})
    explorer = shl.Explorer(model, front).ask(prompt=TEXT, new_tokens=0)
    explorer.wait(60.0)
    front.typist.join(60)
    explorer.wait(60.0)
    assert front.shown == [(1, "␣two"), (2, "␣red")]
    assert explorer.result.labels[-1] == "␣red" and front.said[-1]["number"] == 2


def test_a_mistake_that_is_typed_while_an_answer_is_told_is_told_last(model):
    front = Meddling({"top_k": "many"})
    explorer = shl.Explorer(model, front).ask(prompt=TEXT, new_tokens=0)
    assert explorer._newest.wait(60.0)
    front.typist.join(60)
    assert front.said[-1]["state"] == "error" and front.said[-1]["number"] == 2
    with pytest.raises(shl.SemhubError, match="top_k"):
        explorer.wait(60.0)
    assert explorer.result.labels[-1] == "␣two", "what was answered before is kept"


def test_a_run_of_the_model_is_left_at_the_next_layer(explorer, model, monkeypatch):
    """The first question is held inside its pass until the second one is there."""
    inside, go, passes = threading.Event(), threading.Event(), []
    real = type(explorer._bench)._lens

    def lens(self, asked, prompt, hooks, watch, stop):
        def hold(activation, hook):
            passes.append(asked.prompt)
            if asked.prompt == "five":
                inside.set()
                go.wait(20)

        def after(activation, hook):
            passes.append(f"after {asked.prompt}")

        names = [name for name, _ in watch]
        return real(self, asked, prompt, [(names[0], hold)], [*watch, (names[-1], after)], stop)

    monkeypatch.setattr(type(explorer._bench), "_lens", lens)
    explorer.ask(prompt="five", new_tokens=0)
    assert inside.wait(20)
    explorer.ask(prompt=TEXT)
    go.set()
    explorer.wait(60.0)
    assert passes == ["five", TEXT, f"after {TEXT}"]
    assert explorer.result.labels[-1] == "␣two"
    assert [one["state"] for one in explorer.widget.said] == ["running", "running", "done"]


@pytest.mark.parametrize("interventions", [[], [STEER]], ids=["clean", "steer"])
def test_every_prompt_has_its_lens_and_text_and_two_stand_side_by_side(explorer, model, interventions):
    prompts = [TEXT, "five plus two dog"]
    settings = {"interventions": interventions, "new_tokens": 2, "written": [{"prompt": 1, "position": 2, "token": 7}]}
    explorer.ask(prompt=prompts[0], more=prompts[1:], **settings).wait(60.0)
    made = run(explorer.code, model=model)
    for one, other in zip(explorer.results, made["lenses"], strict=True):
        assert_same(one, other)
        assert [a.position for a in one.attributions] == [a.position for a in other.attributions]
    assert explorer.result.labels == explorer.results[0].labels and len(explorer.results[1].attributions) == 1
    assert not explorer.result.attributions
    clean, changed = explorer.texts
    assert clean.texts == made["texts"] and clean.texts[1] == shl.generate(model, prompts[1], max_new_tokens=2).texts[0]
    front = explorer.widget
    if interventions:
        assert changed.texts == made["changed_texts"] and len(front.pages) == 2
        assert torch.equal(explorer.comparison.changed, made["comparisons"][0].changed)
        assert len(front.wrote["pages"][1]) == 2 and front.wrote["pages"][0] == [[], []]
    else:
        assert explorer.comparison.columns == made["comparison"].columns
        assert explorer.comparison.columns[:2] == ((-1, 0), (0, 1))
        assert [("sides" in json.loads(page)) for page in front.pages] == [False, False, True]
        assert [one["position"] for one in front.wrote["pages"][2][1]] == [2]
    assert [one["state"] for one in front.said if one["state"] == "done"] == ["done"]


def held(explorer, name, monkeypatch):
    """Refuse to run this step of the bench again."""
    monkeypatch.setattr(type(explorer._bench), name, lambda *_: pytest.fail(f"{name} ran"))


@pytest.mark.parametrize("interventions", [[], [STEER]], ids=["clean", "steer"])
def test_asked_who_wrote_a_token_the_model_runs_for_that_alone(explorer, model, interventions, monkeypatch):
    explorer.ask(prompt=TEXT, interventions=interventions, new_tokens=2).wait(60.0)
    texts = explorer.texts
    for name in ("_lens", "_continued"):
        held(explorer, name, monkeypatch)
    pages, before = explorer.widget.pages, len(explorer.widget.said)
    explorer.ask(written=[{"position": 2, "token": 7}, {"position": 2, "token": 9}, {"position": 3, "token": 7}]).wait(
        60.0
    )
    monkeypatch.undo()
    made = run(explorer.code, model=model)
    blocks = range(model.cfg.n_layers)
    for one, lens in ((explorer.result, made["lens"]), (explorer.clean, made.get("clean", made["lens"]))):
        assert [(found.position, found.token_ids) for found in one.attributions] == [(2, (7, 9)), (3, (7,))]
        for found, other in zip(one.attributions, lens.attributions, strict=True):
            assert torch.equal(found.attention, other.attention) and torch.equal(found.heads, other.heads)
    plain = shl.direct_attribution(model, TEXT, token=[7, 9], position=2, by_head=blocks)
    assert torch.equal(explorer.clean.attributions[0].heads, plain.heads)
    assert torch.equal(explorer.result.attributions[0].heads, plain.heads) != bool(interventions)
    assert explorer.texts == texts and explorer.widget.pages == pages
    assert [one["state"] for one in explorer.widget.said[before:]] == ["running", "partial", "done"]
    (sides,) = explorer.widget.wrote["pages"]
    assert [[(one["position"], one["id"]) for one in side] for side in sides] == [[(2, 7), (2, 9), (3, 7)]] * len(sides)
    assert sides[0][0]["heads"]["values"][1] == pytest.approx(plain.heads[0, 1].tolist(), abs=1e-4)
    explorer.ask(prompt="five").wait(60.0)
    assert not explorer.result.attributions and explorer.widget.asked["written"] == []


def test_an_attribution_is_left_when_a_newer_question_waits(explorer, model, monkeypatch):
    """It is held inside its pass until another prompt is there."""
    inside, go, ended = threading.Event(), threading.Event(), []
    real = type(explorer._bench)._wrote

    def wrote(self, prompt, position, tokens, side):
        def hold(activation, hook):
            inside.set()
            go.wait(20)

        held = dataclasses.replace(side, edits=[(side.watch[0][0], hold)])
        ended.append(real(self, prompt, position, tokens, held))

    monkeypatch.setattr(type(explorer._bench), "_wrote", wrote)
    explorer.ask(prompt=TEXT, new_tokens=0, written=[{"position": 1, "token": 7}])
    assert inside.wait(20)
    explorer.ask(prompt="five plus two")
    go.set()
    explorer.wait(60.0)
    assert not ended and explorer.result.labels[1].endswith("five") and not explorer.result.attributions


def test_where_heads_cannot_be_told_apart_it_is_said(explorer, model, monkeypatch):
    def refusing(*given, by_head=(), **settings):
        if by_head:
            raise shl.Unfit("its heads are mixed.")
        return shl.direct_attribution(*given, **settings)

    monkeypatch.setattr("semhub_lens.workbench.bench.direct_attribution", refusing)
    explorer.ask(prompt=TEXT, new_tokens=0, written=[{"position": 1, "token": 7}]).wait(60.0)
    (found,) = explorer.result.attributions
    assert found.heads is None and found.provenance.notes[-1] == "no heads: its heads are mixed."
    assert explorer.widget.wrote["pages"][0][0][0]["missing"] == ["no heads: its heads are mixed."]
    assert "by_head" not in explorer.code
    assert torch.equal(run(explorer.code, model=model)["lens"].attributions[0].mlp, found.mlp)


def test_every_kind_has_its_code():
    for kind in NEEDS:
        one = Intervention(kind, positions="-1", plus="a", minus="b", path="c", source="d")
        assert compile(one.code(), "code", "eval")
    assert script(Asked.read({"prompt": "'\"\n"})).splitlines()[2] == f"prompt = {chr(39) + chr(92)}'\"{chr(92)}n'"


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
    assert explorer.widget.pages and explorer.widget.answer["state"] == "done"


def test_where_no_widget_can_live_it_says_what_to_do(model):
    pytest.importorskip("anywidget")
    explorer = shl.explore(model)
    for asked in (False, True):
        bundle = (explorer.ask(prompt=TEXT, new_tokens=0).wait(60.0) if asked else explorer)._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        assert data["text/html"].endswith(explorers.NO_FORM) and ("srcdoc" in data["text/html"]) == asked
        assert data["text/plain"] == repr(explorer) and repr(explorer).startswith("Explorer of tiny-llama: a form")


def test_a_hostile_text_stays_in_its_string(model):
    assert "</script" not in explorers.widget_script() and planted_lens(["a"]).labels == ("a",)
