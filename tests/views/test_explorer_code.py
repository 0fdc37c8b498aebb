"""A page gives the calls that make it: run, they give the same numbers and the same page, opened at the same view."""

import json
import re
from pathlib import Path

import pytest
import torch

import models
import samples
import semhub_lens as shl
from explored import active, cells, in_chromium
from semhub_lens.base.errors import SemhubError
from semhub_lens.inputs.media import Tile
from semhub_lens.views.explorer import page
from semhub_lens.views.explorer.code import code_of, code_of_saved
from semhub_lens.views.explorer.page import STATE, document

TEXT, OTHER = 'three plus "two"\n', "five plus two"


@pytest.fixture(scope="module")
def model():
    return models.tiny(models.BACKENDS[-1])


@pytest.fixture(scope="module")
def hooks():
    return shl.at(1, shl.hooks.add(8 * torch.ones(32)))


def run(code, **given):
    exec(code, given)  # the test's own: what a reader would paste
    return given


def lens_of(model, **settings):
    return shl.logit_lens(model, settings.pop("prompt", TEXT), progress=False, **settings)


def assert_same(one, other):
    assert one.labels == other.labels and one.entries == other.entries
    assert one.measured.keys() == other.measured.keys()
    assert all(torch.equal(one.measured[name], values) for name, values in other.measured.items())


READ = {
    "text": {},
    "ids": {"prompt": [3, 5, 7]},
    "small": {"top_k": 2, "layers": [0, 2]},
    "bare": {"norm": "none"},
    "few": {"quantities": ["top_ids", "top_logprobs"]},
    "no tokens": {"quantities": ["entropy"]},
}


@pytest.mark.parametrize("settings", READ.values(), ids=READ)
def test_the_code_of_a_lens_reads_it_again(model, settings):
    lens = lens_of(model, **settings)
    made = run(code_of(lens)["lines"], model=model)["lens"]
    assert_same(made, lens)
    assert document(made) == document(lens)


def test_what_no_code_can_write_is_named_and_taken(model, hooks):
    table, readout = shl.script_table(model), shl.Readout(model, norm="none")
    lens = lens_of(model, hooks=hooks, readout=readout, table=table)
    code = code_of(lens)["lines"]
    assert re.findall(r"# (\w+): ", code) == ["model", "hooks", "readout", "table"]
    with pytest.raises(NameError, match="hooks"):
        run(code, model=model, table=table, readout=readout)
    made = run(code, model=model, table=table, readout=readout, hooks=hooks)["lens"]
    assert document(made) == document(lens) != document(lens_of(model, readout=readout, table=table))


def test_the_code_attributes_what_is_attributed(model, hooks):
    wrote = shl.direct_attribution(model, TEXT, token=[4, 9], position=2, by_head=[1], hooks=hooks)
    lens = lens_of(model, hooks=hooks).with_attribution(wrote)
    made = run(code_of(lens)["lines"], model=model, hooks=hooks)["lens"]
    assert torch.equal(made.attributions[0].heads, wrote.heads) and document(made) == document(lens)


ALIGNED = {
    "start": ("five plus two", "start"),
    "end": ("plus two", "end"),
    "spans": ("red house plus two", [([1], [1, 2]), ([2], [3])]),
}


@pytest.mark.parametrize(("other", "align"), ALIGNED.values(), ids=ALIGNED)
def test_the_code_of_a_comparison_aligns_it_again(model, hooks, other, align):
    sides = lens_of(model, prompt="three plus two"), lens_of(model, prompt=other, hooks=hooks)
    pair = shl.compare(*sides, names=("x", "it's"), align=align)
    made = run(code_of(pair)["lines"], model=model, hooks=hooks)["comparison"]
    assert made.columns == pair.columns and document(made) == document(pair)


def test_two_sides_with_something_of_their_own_have_two_names(model, hooks):
    other = shl.untrained(model, seed=0)
    back = shl.at(2, shl.hooks.add(-4 * torch.ones(32)))
    pair = shl.compare(lens_of(model, hooks=hooks), lens_of(other, hooks=back))
    code = code_of(pair)["lines"]
    assert "# model_a" in code and "# hooks_b" in code
    made = run(code, model_a=model, model_b=other, hooks_a=hooks, hooks_b=back)["comparison"]
    assert document(made) == document(pair)


def test_a_lens_of_a_run_of_ones_own_and_a_grid_come_from_their_files(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    probe = shl.LogitLens(model)
    model.run_with_hooks(torch.tensor([[3, 5, 7]]), fwd_hooks=probe.hooks)
    lens = probe.result(tokens=[3, 5, 7])
    lens.save("lens.safetensors")
    assert document(run(code_of(lens)["lines"])["lens"]) == document(lens)
    pair = shl.compare(lens, lens_of(model, prompt=[3, 5, 7]))
    pair.save("comparison.safetensors")
    assert document(run(code_of(pair)["lines"])["comparison"]) == document(pair)
    assert "load_result" in code_of_saved("grid")["lines"]


def patched_heads(model):
    return shl.patch_grid(model, "three plus two", OTHER, samples.difference(model), site="z", progress=False)


GRIDS = {name: samples.SAMPLES[name] for name in ("PatchResult", "ApproximatePatchResult", "CosineResult")}
GRIDS |= {"SweepResult": samples.sweep_result, "heads": patched_heads}


@pytest.mark.parametrize("make", GRIDS.values(), ids=GRIDS)
def test_the_code_of_a_grid_opens_its_file_and_makes_its_page_again(model, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = make(model)
    shown = Path(shl.write_html(result, "shown.html")).read_text()
    (data,) = re.findall(r'id="data">(.*?)</script>', shown)
    code = json.loads(data)["code"]
    (saving,) = re.findall(r"# written by (grid\.save\(.*\))$", code["lines"], re.M)
    run(saving, grid=result)
    grid = run(f'{code["lines"]}\nshl.write_html({code["name"]}, "grid.html")\n')["grid"]
    assert type(grid) is type(result)
    for name, value in vars(result).items():
        other = getattr(grid, name)
        assert other.equal(value) if isinstance(value, torch.Tensor) else other == value, name
    assert Path("grid.html").read_text() == shown


def test_a_picture_stands_above_the_lens_again(model):
    picture, tile = torch.full((4, 4, 3), 200), Tile((0, 1, 2, 3), 2, 2)
    view = shl.picture_map(lens_of(model), picture, tile, layer=1)
    (data,) = re.findall(r'id="data">(.*?)</script>', view.document)
    made = run(json.loads(data)["code"]["lines"], model=model, picture=picture, tile=tile)["view"]
    assert made.document == view.document


def test_an_explorers_lens_has_its_interventions_as_code(model):
    explorer = shl.Explorer(model, Front())
    steer = {"kind": "steer", "plus": "two", "minus": "five", "entry": 1, "strength": 4.0}
    explorer.ask(prompt="three plus two", interventions=[steer], new_tokens=0).wait(60.0)
    for lens in (explorer.clean, explorer.result):
        code = code_of(lens)["lines"]
        assert ("shl.hooks.add" in code) == (lens is not explorer.clean and "hooks=" in code)
        assert_same(run(code, model=model)["lens"], lens)


class Front:
    """What an anywidget is to the explorer: traits that are watched."""

    asked, pages, wrote, answer = {"prompt": ""}, [], {}, {}

    def observe(self, act, names):
        self.act = act

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if name == "asked":
            self.act(None)


@in_chromium
def test_copied_code_makes_a_page_that_opens_at_the_same_view(model, open_page, chrome, tmp_path, monkeypatch):
    lens = lens_of(model)
    tab = open_page(lens)
    tab.click("[data-colour=entropy]")
    tab.click("#c1-2")
    tab.js("document.querySelector('.find').focus()")
    tab.write(lens.strings()[2][1][0])
    tab.js("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    tab.click(".copy")
    code = tab.js("window.copied")
    assert tab.js("document.querySelector('.copy').textContent") == "copied"
    monkeypatch.chdir(tmp_path)
    assert_same(run(code, model=model)["lens"], lens)
    again = chrome.open((tmp_path / "lens.html").as_uri())
    look = """[...[...document.querySelectorAll('.pin')].map(p => p.dataset.pos), document.querySelector('.find').value,
        document.querySelector('[aria-checked=true]').dataset.colour]"""
    assert again.js(look) == tab.js(look) == ["2", lens.strings()[2][1][0], "entropy"]
    assert active(again) == active(tab) == (1, 2)
    shown = "[c.textContent, [...c.classList].sort().join(), getComputedStyle(c).backgroundColor]"
    assert cells(again, shown) == cells(tab, shown)
    again.close()


@in_chromium
def test_the_code_is_read_in_the_page_and_follows_the_view(model, open_page):
    tab = open_page(lens_of(model))
    tab.js("document.querySelector('.script summary').click()")
    tab.settle()
    text = "document.querySelector('.code').textContent"
    assert tab.js(text) == code_of(lens_of(model))["lines"] + '\nshl.write_html(lens, "lens.html")\n'
    tab.click("[data-colour=stays]")
    assert tab.js(text).endswith('shl.write_html(lens, "lens.html", view="c=stays")\n')


@in_chromium
def test_where_the_clipboard_is_closed_the_code_is_selected(model, open_page):
    tab = open_page(lens_of(model))
    tab.js("navigator.clipboard.writeText = () => Promise.reject(new Error('closed'))")
    tab.click(".copy")
    assert tab.js("getSelection().toString()").strip() == tab.js("document.querySelector('.code').textContent").strip()


@in_chromium
def test_an_address_counts_more_than_the_view_that_a_page_was_written_with(model, chrome, tmp_path):
    path = shl.write_html(lens_of(model), tmp_path / "lens.html", view="c=entropy&p=1")
    for fragment, colour, pins in (("", "entropy", 1), ("#c=stays", "stays", 0)):
        tab = chrome.open(path.as_uri() + fragment)
        assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == colour
        assert tab.js("document.querySelectorAll('.pin').length") == pins
        tab.close()
    tab = chrome.open(path.as_uri())
    tab.js("document.querySelector('.pin .close').click(); document.querySelector('[data-colour=probability]').click()")
    tab.js("new Promise(done => setTimeout(done, 400))")
    again = chrome.open(path.as_uri() + tab.js("location.hash"))
    assert again.js("document.querySelectorAll('.pin').length") == 0
    tab.close(), again.close()


@pytest.mark.parametrize("view", ["entropy", "#c=entropy", "colour=entropy", "c=entropy&<b>=1"])
def test_a_view_that_is_none_is_refused(model, tmp_path, view):
    with pytest.raises(SemhubError, match="behind its #"):
        shl.write_html(lens_of(model), tmp_path / "lens.html", view=view)


def test_a_figure_has_no_view(model, tmp_path):
    with pytest.raises(SemhubError, match="plotly figure"):
        shl.write_html(shl.figure(lens_of(model)), tmp_path / "lens.html", view="c=entropy")


def test_a_page_knows_the_names_of_its_address():
    store = Path(page.__file__).with_name("store.js").read_text()
    (keys,) = re.findall(r"const KEYS = \{(.*?)\}", store)
    assert tuple(re.findall(r'"(\w+)"', keys)) == STATE
