"""The page of a lens runs nothing foreign, is reached by keyboard, keeps its state, and shows itself in a notebook."""

import dataclasses
import html
import io
import math
import re

import pandas as pd
import pytest
import torch

import models
import semhub_lens as shl
from benchmarks.pages import lens_of
from explored import LABELS, active, cells, choose, contrast, in_chromium, rgb, written
from planted_lens import HOSTILE, WORDS, planted_lens
from semhub_lens.base.shown_text import harmless
from semhub_lens.views.explorer.packing import packed
from semhub_lens.views.explorer.page import document
from semhub_lens.views.explorer.stills import lens_still


@in_chromium
def test_hostile_tokens_are_text_everywhere_and_run_nothing(open_page):
    labels = [f"{one}{i}" for i, one in enumerate(HOSTILE)]
    lens = planted_lens(labels, layers=3, k=4, words={"en": HOSTILE, "es": ["azul"]})
    tab = open_page(lens)
    title = tab.js("document.title")
    for pos in range(3):
        tab.hover(f"#c1-{pos}")
        tab.click(f"#c1-{pos}")
    shown = cells(tab, "c.textContent")
    assert {*shown.values()} <= {*map(harmless, HOSTILE), "azul"} and len({*shown.values()}) > 5
    assert tab.js("[...document.querySelectorAll('.input')].map(c => c.textContent)[0]") == labels[0]
    assert tab.js("document.querySelectorAll('script').length") == 2
    assert tab.js("document.querySelectorAll('main img, main b:not(.facts b), main script, main iframe').length") == 0
    assert tab.js("document.title") == title != "run"
    page = document(lens)
    assert page.count("</script>") == 2 and "\u2028" not in page.replace("\\u2028", "")
    page.encode("utf-8")


@in_chromium
def test_the_policy_of_the_page_stops_foreign_scripts_and_requests(lens, open_page):
    tab = open_page(lens)
    tab.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    tab.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))")
    refused = tab.js("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
    tab.settle()
    assert refused == "refused" and tab.js("document.title") != "1"
    assert not [url for url in tab.requests() if url.startswith("http")]
    assert any("Content Security Policy" in str(fault) for fault in tab.faults())
    tab.forget()


@in_chromium
def test_everything_is_reached_by_keyboard_and_named(lens, open_page):
    tab = open_page(lens)
    reached = []
    for _ in range(14):
        tab.key("Tab")
        reached.append(tab.js("(e => e.getAttribute('aria-label') || e.textContent)(document.activeElement)"))
        if reached[-1].startswith("Most probable token"):
            break
    assert reached[0] == "language" and "Find a word or token id" in reached and "CSV" in reached
    tab.key("ArrowUp", "ArrowLeft", "ArrowDown")  # the first stands on the last layer's first visible token
    assert active(tab) == (4, 0)
    tab.key("End")
    assert active(tab) == (4, len(LABELS) - 1)
    assert lens.strings()[4][-1][0] in tab.js("document.querySelector('[role=status]').textContent")
    assert "after ␣two" in tab.js("document.querySelector('.panel').textContent")
    tab.key("Enter")
    assert tab.js("document.querySelector('.pin').dataset.pos") == str(len(LABELS) - 1)
    assert tab.js("document.getElementById('c0-7').getAttribute('aria-selected')") == "true"
    tab.key("/")
    assert tab.js("document.activeElement.type") == "search"
    tab.js("document.querySelector('[data-colour=language]').focus()")
    tab.key("ArrowRight")
    assert tab.js("document.activeElement.dataset.colour") == "probability"
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "probability"
    grid = "document.querySelector('[role=grid]')"
    counts = tab.js(f"['aria-rowcount', 'aria-colcount'].map(n => {grid}.getAttribute(n))")
    assert counts == ["6", str(len(LABELS))]
    assert tab.js(f"[...{grid}.querySelectorAll('[role=row]')].every(r => r.querySelector('[role=gridcell]'))")
    assert tab.js(
        "[...document.querySelectorAll('button, input')].every(e => e.getAttribute('aria-label') || e.textContent)"
    )


@in_chromium
def test_the_page_is_dark_where_the_reader_is_and_its_ink_stands_out(lens, open_page):
    tab = open_page(lens)
    assert tab.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.dark()
    tab.settle()
    assert tab.js("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
    for name in ("language", "probability", "entropy", "stays"):
        for dark in (True, False):
            tab.dark(dark)
            tab.click(f"[data-colour={name}]")
            pairs = cells(tab, "[getComputedStyle(c).color, getComputedStyle(c).backgroundColor]").values()
            assert min(contrast(rgb(ink), rgb(ground)) for ink, ground in pairs) > 4


@in_chromium
def test_a_page_opens_where_it_was_left(lens, open_page):
    tab = open_page(lens, "#c=entropy&p=2,5&q=azul&at=3,1&log=1")
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "entropy"
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => Number(p.dataset.pos))") == [2, 5]
    assert tab.js("document.querySelector('.find').value") == "azul" and active(tab) == (3, 1)
    tab.click("[data-colour=stays]")
    tab.js("new Promise(done => setTimeout(done, 400))")  # the address follows when nothing has changed for a while
    kept = tab.js("location.hash")
    assert kept == "#c=stays&at=3%2C1&p=2%2C5&q=azul&log=1"
    again = open_page(lens, kept)
    assert again.js("document.querySelector('[aria-checked=true]').dataset.colour") == "stays"


@in_chromium
def test_a_fragment_of_another_page_does_no_harm(lens, open_page):
    tab = open_page(lens, "#c=<b>&p=99,x,-1&w=1e9&x=5000&at=77,1")
    assert tab.js("document.querySelectorAll('.cell').length") == 6 * len(LABELS)
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == "language"
    assert tab.js("document.querySelectorAll('.pin').length") == 0


@in_chromium
def test_the_table_of_the_data_is_that_of_the_result(lens, open_page):
    tab = open_page(lens)
    tab.js("""window.made = null; URL.createObjectURL = blob => { window.made = blob.text(); return "blob:null/x"; };
        HTMLAnchorElement.prototype.click = () => {};""")
    tab.js("[...document.querySelectorAll('button')].find(b => b.textContent === 'CSV').click()")
    read = pd.read_csv(io.StringIO(tab.js("window.made")), keep_default_na=False)
    wanted = lens.to_frame()
    for name in ("layer", "pos", "rank", "id", "token", "input"):
        assert read[name].tolist() == wanted[name].tolist()
    assert read["probability"].tolist() == pytest.approx(wanted["logprob"].map(math.exp).tolist(), rel=6e-3)
    assert read["entropy"].tolist() == pytest.approx(wanted["entropy"].tolist())


@in_chromium
@pytest.mark.parametrize(
    ("asked", "first"),
    [
        (["entropy"], "entropy"),
        (["top_ids"], "stays"),
        (["top_logprobs"], "probability"),
        (["top_ids", "kl_to_final"], "kl_to_final"),
    ],
)
def test_a_lens_is_shown_by_what_was_asked_for(open_page, asked, first):
    whole = planted_lens(["a", "b"], layers=3, k=2, words={"en": WORDS["en"]}, languages=False)
    vocabulary = whole.vocabulary if "top_ids" in asked else ()
    measured = {name: whole.measured[name] for name in asked}
    lens = dataclasses.replace(whole, vocabulary=vocabulary, measured=measured)
    tab = open_page(lens)
    assert tab.js("document.querySelector('[aria-checked=true]').dataset.colour") == first
    assert tab.js("document.querySelectorAll('.cell').length") == 3 * 2
    assert bool(tab.js("document.querySelector('#c1-1').textContent")) == ("top_ids" in asked)
    tab.hover("#c1-1")
    tab.click("#c1-1")


def test_a_lens_with_nothing_to_show_says_what_to_ask_for(tmp_path):
    with pytest.raises(shl.SemhubError, match="top_logprobs"):
        packed(shl.LensResult(
            token_ids=torch.arange(2), labels=("a", "b"), vocabulary=(), provenance=planted_lens(["a"]).provenance,
            measured={"mass": torch.ones(3, 2, 2)},
        ))  # fmt: skip


def test_languages_of_another_vocabulary_are_refused_before_the_model_runs(monkeypatch):
    model = models.tiny()
    table = shl.LanguageTable(("en",), torch.ones(3, 1), "planted")
    with pytest.raises(shl.SemhubError, match="3 tokens"):
        planted_lens(LABELS).with_languages(table)
    monkeypatch.setattr("semhub_lens.lens.logit_lens.prompt_states", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(shl.SemhubError, match="build it for this model"):
        shl.logit_lens(model, "one two", table=table, progress=False)


def test_a_lens_keeps_the_languages_of_its_tokens_in_a_file(tmp_path):
    model = models.tiny()
    table = shl.script_table(model)
    lens = shl.logit_lens(model, "two 朋友", table=table, top_k=3, progress=False)
    again = shl.LensResult.load(lens.save(tmp_path / "lens.safetensors"))
    assert again.languages == table.languages and torch.equal(again.token_languages, lens.token_languages)
    for (token, _), row in zip(lens.vocabulary, lens.token_languages, strict=True):
        assert torch.equal(row, table.weights[token])
    assert document(again) == document(lens)


def test_a_notebook_gets_a_sealed_frame_and_a_few_lines_without_a_plotting_library(lens):
    bundle = lens._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/svg+xml", "text/plain"}
    frame = bundle["text/html"]
    assert "plotly" not in frame.lower() and 'sandbox="allow-scripts allow-downloads"' in frame
    (inside,) = re.findall(r"srcdoc='([^']*)'", frame)
    assert html.unescape(inside) == document(lens)
    assert bundle["text/plain"] == repr(lens)
    assert len(repr(lens).splitlines()) <= 5 and len(repr(lens)) < 800 and "tensor(" not in repr(lens)
    assert "6 layers x 8 tokens" in repr(lens) and "write_html" in repr(lens)


@in_chromium
def test_the_frame_draws_in_a_page_around_it(lens, chrome, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(f"<meta charset=utf-8><body>{lens._repr_mimebundle_()['text/html']}", encoding="utf-8")
    tab = chrome.open(path.as_uri())
    assert tab.in_frame("document.querySelectorAll('.cell').length") == 6 * len(LABELS)
    assert not tab.faults()


def test_pages_are_small():
    assert len(document(lens_of(6, 19)).encode()) < 150_000
    assert len(document(lens_of(512, 31)).encode()) < 3_000_000


def drawn_bars(tab, parts, chart):
    """The chart's bars are named, signed and as tall as their parts."""
    bars = f"[...document.querySelectorAll('.written svg')[{chart}].querySelectorAll('rect')]"
    titles = tab.js(f"{bars}.map(b => b.querySelector('title').textContent)")
    assert titles == [f"{name}: {float(value):+.2f}".replace("-", "−") for name, value in parts]
    heights = tab.js(f"{bars}.map(b => Number(b.getAttribute('height')))")
    sizes = [abs(float(value)) for _, value in parts]
    unit = max(heights) / max(sizes)
    assert heights == pytest.approx([max(size * unit, 0.5) for size in sizes], rel=2e-2)


@in_chromium
def test_a_pin_shows_on_request_who_wrote_its_tokens(lens, open_page):
    found = written(lens)
    tab = open_page(lens.with_attribution(found), "#p=3,5")
    assert tab.js("[...document.querySelectorAll('.pin')].map(p => p.querySelectorAll('.written').length)") == [1, 0]
    assert not tab.js("document.querySelector('.written').open")
    tab.click(".written summary")
    for i, token in enumerate(found.token_ids):
        choose(tab, ".written select", token)
        parts = [("embedding", found.embedding[i])]
        for block in range(5):
            parts += [
                (f"attention of block {block}", found.attention[i, block]),
                (f"MLP of block {block}", found.mlp[i, block]),
            ]
        drawn_bars(tab, [*parts, ("biases", found.bias[i]), ("unexplained", found.unexplained[i])], 0)
        assert f"logit {float(found.logits[i]):.2f}" in tab.js("document.querySelector('.written').textContent")


@in_chromium
def test_the_heads_of_a_chosen_block_stand_below_its_attention(lens, open_page):
    found = written(lens)
    tab = open_page(lens.with_attribution(found), "#p=3")
    tab.click(".written summary")
    strongest = max((0, 1), key=lambda place: abs(float(found.attention[0, found.head_blocks[place]])))
    assert tab.js("document.querySelector('.split').value") == str(found.head_blocks[strongest])
    for place, (block, heads) in enumerate([(1, 3), (4, 2)]):
        choose(tab, ".split", block)
        parts = [(f"head {head} of block {block}", found.heads[0, place, head]) for head in range(heads)]
        drawn_bars(tab, [*parts, ("bias of the output", found.beside_heads[0, place])], 1)
    choose(tab, ".written select", 10)  # the block stays
    assert tab.js("document.querySelector('.split').value") == "4"
    drawn_bars(
        tab,
        [
            *((f"head {h} of block 4", found.heads[1, 1, h]) for h in (0, 1)),
            ("bias of the output", found.beside_heads[1, 1]),
        ],
        1,
    )


@in_chromium
def test_a_token_of_no_known_language_is_told_by_its_script_and_the_known_ones_are_named(open_page):
    words = {"en": ["␣sky"], "unknown": ["␣आकाश", "रंग", "12", "romino", "<0xE4>"]}
    lens = planted_lens(["<bos>", "आ"], layers=3, k=6, words=words)
    tab = open_page(lens)
    chips = tab.js("[...document.querySelectorAll('.entry')].map(e => e.textContent)")
    assert sorted(chips) == ["Devanagari script", "English", "unknown or shared"]
    tab.hover("#c1-0")
    told = tab.js("Object.fromEntries([...document.querySelectorAll('.panel tr')].map(r => "
                  "[r.querySelector('.what').textContent, r.querySelector('.whose').textContent]))")  # fmt: skip
    assert told == {
        "␣sky": "English", "␣आकाश": "Devanagari script", "रंग": "Devanagari script",
        "12": "unknown", "romino": "unknown", "<0xE4>": "unknown",
    }  # fmt: skip
    assert "The table knows English. A token of another" in tab.js("document.querySelector('footer').textContent")
    assert "devanagari script" in lens_still(lens)
