"""The widget's front end in Chromium, on a page that has anywidget's model: get, set, on, off, save_changes."""

import json

import pytest

import models
import semhub_lens as shl
from browser import CHROMIUM
from chrome import Chrome
from planted_lens import planted_lens
from semhub_lens.views.explorer.languages import ordered
from semhub_lens.views.explorer.packing import packed_written
from semhub_lens.views.explorer.page import as_json, contents, widget_script
from semhub_lens.workbench.asked import Asked
from semhub_lens.workbench.bench import Bench
from semhub_lens.workbench.explorer import FIRST
from semhub_lens.workbench.script import script

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")
TEXT = "three plus two"
NOTEBOOK = """<!doctype html><meta charset="utf-8"><body data-jp-theme-light="true"><button>cell</button>
<p class="toolbar">the notebook's own</p><div id="place"></div>
<script type="module">
const listeners = {}, values = VALUES;
window.sent = [];
window.model = {
  get: name => values[name],
  set: (name, value) => { values[name] = value; (listeners["change:" + name] ?? []).forEach(act => act()); },
  on: (name, act) => (listeners[name] ??= []).push(act),
  off: (name, act) => (listeners[name] = listeners[name].filter(one => one !== act)),
  save_changes: () => window.sent.push(structuredClone(values.asked)),
};
const widget = (await import(URL.createObjectURL(new Blob([SCRIPT], {type: "text/javascript"})))).default;
window.end = widget.render({model, el: document.getElementById("place")});
window.root = document.querySelector("#place > div").shadowRoot;
window.ready = true;
</script>"""


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    browser = Chrome(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


STEER = {"kind": "steer", "plus": "two", "minus": "five", "entry": 2, "strength": 8.0}


@pytest.fixture(scope="module")
def answered():
    """What the kernel's side sends to a question."""
    model = models.tiny(models.BACKENDS[-1])
    bench = Bench(model, shl.script_table(model))

    def answer(**asked):
        given = Asked.read({"prompt": TEXT, "new_tokens": 2, **asked})
        return list(bench.answer(given, lambda: None))[-1]

    return answer


@pytest.fixture(scope="module")
def answers(answered):
    """Without and with an intervention, and of two prompts."""
    return [answered(), answered(interventions=[STEER]), answered(more=["five plus two dog"])]


@pytest.fixture
def wrote(answered):
    def answer(token, strength=0.0):
        changes = [STEER | {"strength": strength}] * bool(strength)
        return answered(written=[{"position": 2, "token": token}], interventions=changes)

    return answer


@pytest.fixture
def notebook(chrome, tmp_path):
    values = {
        "setup": {"model": "tiny", "layers": 3, "quantities": ["entropy", "kl_to_final"]},
        "asked": FIRST,
        "answer": {},
        "wrote": {},
        "pages": [],
    }
    path = tmp_path / "notebook.html"
    source = NOTEBOOK.replace("VALUES", as_json(values)).replace("SCRIPT", as_json(widget_script()))
    path.write_text(source, encoding="utf-8")
    tab = chrome.open(path.as_uri())
    tab.until("window.ready")
    yield tab
    assert not tab.faults()
    assert all(url.startswith(("file:", "blob:")) for url in tab.requests())
    tab.close()


def send(tab, answer, number):
    pages = [as_json(contents(one)) for one in answer.shown(attributed=False)]
    wrote = {"pages": [packed_written(one) for one in answer.shown()]}
    texts = [one and list(one.texts) for one in (answer.text, answer.changed_text)]
    told = {"number": number, "state": "done", "seconds": 0.5, "texts": texts, "code": script(answer.asked)}
    for name, value in (("wrote", wrote), ("pages", pages), ("answer", told)):
        tab.js(f"model.set('{name}', {as_json(value)})")
    tab.settle()


def asked(tab):
    tab.js("new Promise(done => setTimeout(done, 420))")  # typing is waited for
    return tab.js("window.sent.at(-1)")


def write(tab, selector, value):
    tab.js(f"(e => {{ e.focus(); e.select(); }})(root.querySelector({json.dumps(selector)}))")
    tab.write(value)


def test_typing_asks_once_for_what_was_typed_last(notebook):
    typed = json.dumps(["thr", "three", TEXT])
    type_it = "e => t => { e.value = t; e.dispatchEvent(new Event('input')); }"
    notebook.js(f"{typed}.forEach(({type_it})(root.querySelector('.ask')))")
    assert asked(notebook) == {**FIRST, "prompt": TEXT, "number": 1}
    assert len(notebook.js("window.sent")) == 1
    assert "running" in notebook.js("root.querySelector('.status').textContent")


def test_an_answer_is_drawn_with_its_text_and_code(notebook, answers):
    send(notebook, answers[0], 0)
    lens = answers[0].reads[0].lens
    shown = notebook.js("[...root.querySelectorAll('.cell')].map(c => [c.id, c.textContent])")
    assert dict(shown) == {
        f"c{layer}-{pos}": lens.strings()[layer][pos][0] for layer in range(4) for pos in range(len(lens.labels))
    }
    assert notebook.js("root.querySelector('.text mark').textContent") == answers[0].text.texts[0]
    assert notebook.js("root.querySelector('.code').textContent") == script(answers[0].asked)
    assert notebook.js("root.querySelector('.status').textContent") == "0.5 s"
    assert notebook.js("getComputedStyle(document.querySelector('p.toolbar')).position") == "static"


@pytest.mark.parametrize("clipboard", ["text => { window.copied = text; }", "undefined"])
def test_a_copy_of_the_code_is_confirmed_or_the_code_selected(notebook, answers, clipboard):
    send(notebook, answers[0], 0)
    notebook.js(f"Object.defineProperty(navigator, 'clipboard', {{ value: {{ writeText: {clipboard} }} }})")
    notebook.js("document.execCommand = () => false")
    notebook.js("root.querySelector('.script button').click()")
    told = "copied" if "=>" in clipboard else "selected"
    notebook.until(f"root.querySelector('.script button').textContent === '{told}'")
    assert notebook.js("root.querySelector('.script').open") == (told == "selected")
    assert told == "selected" or notebook.js("window.copied") == script(answers[0].asked)


def test_an_intervention_is_put_together_and_the_difference_shown(notebook, answers):
    write(notebook, ".ask", TEXT)
    notebook.js("(s => { s.value = 'steer'; s.dispatchEvent(new Event('change')); })(root.querySelector('.add'))")
    for label, value in (("towards", "two"), ("away from", "five"), ("at entry", "2"), ("strength", "8")):
        write(notebook, f".change [aria-label='{label}']", value)
    made = asked(notebook)["interventions"]
    assert made == [{"kind": "steer", "entry": 2, "strength": 8, "positions": "", "plus": "two", "minus": "five"}]
    assert Asked.read({"prompt": TEXT, "interventions": made}).interventions == answers[1].asked.interventions
    send(notebook, answers[1], notebook.js("model.get('asked').number"))
    notebook.js("root.querySelector('[data-show=difference]').click()")
    notebook.settle()
    changed = answers[1].reads[0].comparison.changed
    marked = notebook.js(
        "[...root.querySelectorAll('.cell[id^=d]')].filter(c => c.querySelector('.was')).map(c => c.id)"
    )
    assert set(marked) == {f"d{layer}-{pos}" for layer, pos in changed.nonzero().tolist()}
    assert notebook.js("[...root.querySelectorAll('.text .note')].map(n => n.textContent)") == ["clean", "changed"]
    notebook.js("root.querySelector('.change .close').click()")
    assert asked(notebook)["interventions"] == []


def test_an_overtaken_answer_is_not_shown(notebook, answers):
    write(notebook, ".ask", TEXT)
    number = asked(notebook)["number"]
    notebook.js(f"model.set('answer', {{number: {number - 1}, state: 'error', error: 'old'}})")
    assert notebook.js("root.querySelector('.status').textContent") == "running …"
    notebook.js(f"model.set('answer', {{number: {number}, state: 'error', error: 'Type a <b>prompt</b>.'}})")
    assert notebook.js("root.querySelector('.status').textContent") == "Type a <b>prompt</b>."


def test_what_was_looked_at_stays_when_the_answer_changes(notebook, answers):
    send(notebook, answers[0], 0)
    notebook.js(
        "root.querySelector('[data-colour=entropy]').click(); root.querySelector('.input[data-pos=\"2\"]').click()"
    )
    notebook.settle()
    notebook.js("model.set('pages', [])")
    send(notebook, answers[1], 0)
    assert notebook.js("root.querySelector('[aria-checked=true]').dataset.colour") == "entropy"
    assert notebook.js("[...root.querySelectorAll('.pin')].map(p => p.dataset.pos)") == ["2", "2"]


def test_it_is_as_dark_as_the_notebook_and_python_may_ask(notebook, answers):
    send(notebook, answers[0], 0)
    ground = "getComputedStyle(root.querySelector('.home')).backgroundColor"
    assert notebook.js(ground) == "rgb(255, 255, 255)"
    notebook.js("document.body.dataset.jpThemeLight = 'false'")
    notebook.settle()
    assert notebook.js(ground) == "rgb(18, 22, 28)"
    notebook.js(f"model.set('asked', {as_json({**FIRST, 'prompt': 'from Python', 'number': 7})})")
    assert notebook.js("root.querySelector('.ask').value") == "from Python"
    notebook.js("window.end()")
    notebook.js("model.set('answer', {number: 9, state: 'error', error: 'x'})")
    assert notebook.js("root.querySelector('.status').textContent") != "x"


PIN = "root.querySelector('.pin[data-pos=\"2\"] .written')"


def opened(tab):
    """Pin position 2 and open who wrote its tokens."""
    tab.js("root.querySelector('.input[data-pos=\"2\"]').click()")
    tab.settle()
    tab.js(f"{PIN}.querySelector('summary').click()")
    tab.settle()


def test_a_pin_asks_the_model_who_wrote_a_token(notebook, answers, wrote):
    notebook.js(f"model.set('asked', {as_json({**FIRST, 'prompt': TEXT, 'number': 1})})")
    send(notebook, answers[0], 1)
    opened(notebook)
    final = int(answers[0].reads[0].lens.top_ids[-1, 2, 0])
    asked_for = asked(notebook)
    assert asked_for == {
        **FIRST,
        "prompt": TEXT,
        "number": 2,
        "written": [{"prompt": 0, "position": 2, "token": final}],
    }
    assert "running" in notebook.js(f"{PIN}.textContent")
    assert "running" in notebook.js("root.querySelector('.status').textContent")
    assert not notebook.js("root.querySelector('.lens').classList.contains('stale')")  # what is shown holds
    send(notebook, wrote(final), 2)
    (found,) = wrote(final).reads[0].lens.attributions
    titles = notebook.js(f"[...{PIN}.querySelectorAll('title')].map(t => t.textContent)")
    for block in range(3):
        assert f"MLP of block {block}: {float(found.mlp[0, block]):+.2f}".replace("-", "−") in titles
    assert len([title for title in titles if title.startswith("head ")]) == 4
    assert notebook.js(f"{PIN}.open")
    other = int(answers[0].reads[0].lens.top_ids[-1, 2, 1])
    notebook.js(f"(s => {{ s.value = {other}; s.dispatchEvent(new Event('change')); }})({PIN}.querySelector('select'))")
    assert [one["token"] for one in asked(notebook)["written"]] == [final, other]
    number = notebook.js("model.get('asked').number")
    notebook.js(f"model.set('answer', {{number: {number}, state: 'error', error: 'no such <b>token</b>'}})")
    assert "not attributed: no such <b>token</b>" in notebook.js(f"{PIN}.textContent")
    write(notebook, ".ask", "five")  # who wrote what in another prompt is another question
    assert asked(notebook)["written"] == []


def test_both_sides_of_an_intervention_are_attributed_and_stay_open(notebook, answers, wrote):
    notebook.js(f"model.set('asked', {as_json({**FIRST, 'prompt': TEXT, 'number': 1})})")
    send(notebook, answers[1], 1)
    opened(notebook)
    token = asked(notebook)["written"][0]["token"]
    for strength in (8.0, 9.0):  # the second one is another page
        answer = wrote(token, strength)
        send(notebook, answer, 2)
        read = answer.reads[0].attributed()
        sums = "w => w.querySelector('p span:last-child').textContent"
        shown = notebook.js(f"[...root.querySelectorAll('.pin[data-pos=\"2\"] .written')].map({sums})")
        for lens, words in zip((read.clean, read.changed), shown, strict=True):
            assert words.startswith(f"logit {float(lens.attributions[0].logits[0]):.2f}: embedding")
        assert shown[0] != shown[1] and notebook.js(f"{PIN}.open")


def test_several_prompts_have_tabs_and_two_stand_side_by_side(notebook, answers):
    write(notebook, ".ask", TEXT)
    notebook.js("root.querySelector('.another').click()")
    assert asked(notebook)["more"] == []  # an empty one is not asked
    write(notebook, ".other .ask", "five plus two dog")
    made = asked(notebook)
    assert made["more"] == ["five plus two dog"]
    send(notebook, answers[2], made["number"])
    tabs = "[...root.querySelectorAll('[role=tab]')]"
    assert notebook.js(f"{tabs}.map(t => t.textContent)") == [TEXT, "five plus two dog", "side by side"]
    for place, lens in enumerate(read.lens for read in answers[2].reads):
        notebook.js(f"{tabs}[{place}].click()")
        notebook.settle()
        shown = notebook.js("[...root.querySelectorAll('.input')].map(c => c.querySelector('bdi').textContent)")
        assert shown == list(lens.labels)
        assert notebook.js("[...root.querySelectorAll('.text mark')].map(m => m.textContent)") == [
            answers[2].text.texts[place]
        ]
        assert notebook.js(f"{tabs}.map(t => t.getAttribute('aria-selected'))")[place] == "true"
    notebook.js(f"{tabs}[2].click()")
    notebook.settle()
    assert notebook.js("root.querySelectorAll('.stage:not([hidden])').length") == 2
    assert notebook.js("[...root.querySelectorAll('.text mark')].map(m => m.textContent)") == list(
        answers[2].text.texts
    )
    opened(notebook)  # column 2 is position 1 of the shorter prompt
    assert asked(notebook)["written"][0] | {"token": 0} == {"prompt": 0, "position": 1, "token": 0}
    notebook.js("root.querySelector('.other .close').click()")
    assert asked(notebook)["more"] == []


def add(tab, kind):
    tab.js(f"(s => {{ s.value = '{kind}'; s.dispatchEvent(new Event('change')); }})(root.querySelector('.add'))")


def test_an_intervention_is_asked_once_its_words_are_filled_in(notebook):
    write(notebook, ".ask", TEXT)
    asked(notebook)
    add(notebook, "steer")
    said = "getComputedStyle(root.querySelector('.change .note')).display"
    assert notebook.js(said) == "block"
    write(notebook, ".change [aria-label='towards']", "two")
    assert asked(notebook)["interventions"] == [] and len(notebook.js("window.sent")) == 1
    write(notebook, ".change [aria-label='away from']", "five")
    (made,) = asked(notebook)["interventions"]
    assert made["strength"] == 1 and len(notebook.js("window.sent")) == 2
    assert notebook.js(said) == "none"
    notebook.js(
        "(e => { e.value = ''; e.dispatchEvent(new Event('input')); })(root.querySelectorAll('.change input')[1])"
    )
    assert asked(notebook)["interventions"] == []


def test_a_number_out_of_range_is_told_and_not_asked(notebook):
    write(notebook, ".ask", TEXT)
    add(notebook, "patch")
    write(notebook, ".change [aria-label='other prompt']", "five plus two")
    assert asked(notebook)["interventions"][0]["positions"] == "-1"
    sent = notebook.js("window.sent.length")
    edge = "getComputedStyle(root.querySelector(\".change [aria-label='at entry']\")).borderColor"
    usual = notebook.js(edge)
    write(notebook, ".change [aria-label='at entry']", "99")
    assert notebook.js("root.querySelector('.status.bad').textContent").startswith("at entry: ")
    assert asked(notebook)["interventions"][0]["entry"] == 2 and notebook.js("window.sent.length") == sent
    assert notebook.js(edge) != usual
    write(notebook, ".change [aria-label='at entry']", "3")
    assert asked(notebook)["interventions"][0]["entry"] == 3


def test_what_belongs_to_another_question_is_pale_until_it_is_answered(notebook, answers):
    notebook.js(f"model.set('asked', {as_json({**FIRST, 'prompt': TEXT, 'number': 1})})")
    send(notebook, answers[0], 1)
    pale = "[...root.querySelectorAll('.lens, .texts')].map(e => e.classList.contains('stale'))"
    assert notebook.js(pale) == [False, False]
    write(notebook, "[aria-label='layers']", "9-")
    number = asked(notebook)["number"]
    notebook.js(f"model.set('answer', {{number: {number}, state: 'error', error: 'Layers are ...'}})")
    assert notebook.js(pale) == [True, True]
    send(notebook, answers[0], number)
    assert notebook.js(pale) == [False, False]
    opened(notebook)
    number = asked(notebook)["number"]
    for state in ("running", "error"):  # the kernel says so, too
        notebook.js(f"model.set('answer', {{number: {number}, state: '{state}', error: 'x'}})")
        assert notebook.js(pale) == [False, False]


@pytest.mark.parametrize(
    ("text", "seen"),
    [("  \n\n    ", "␣␣↵↵\n␣␣␣␣"), (" is\n\n \n  blue\n", " is↵↵ ↵\n  blue↵\n"), (" plain text", " plain text")],
)
def test_blanks_that_a_model_writes_are_seen(notebook, answers, text, seen):
    told = {"number": 0, "state": "done", "seconds": 0.5, "texts": [[text], None]}
    notebook.js(f"model.set('asked', {as_json({**FIRST, 'prompt': TEXT, 'number': 0})})")
    notebook.js(f"model.set('answer', {as_json(told)})")
    assert notebook.js("root.querySelector('.text mark').textContent") == seen


def test_a_language_keeps_its_colour_from_answer_to_answer(notebook):
    def lens(*order):
        """The first of them has the most cells."""
        first, second = order
        return planted_lens(["a"] * 8, layers=6, seed=2, like=lambda layer, pos: first if pos < 6 else second)

    chip = "e => [e.textContent, e.firstChild.style.background]"
    chips = f"Object.fromEntries([...root.querySelectorAll('.entry')].map({chip}))"
    found = []
    for one in (lens("es", "zh"), lens("zh", "ar")):
        notebook.js(f"model.set('pages', [{as_json(as_json(contents(one)))}])")
        notebook.settle()
        found.append(notebook.js(chips))
    assert found[0] == found[1] and len({*found[0].values()}) == 5
    assert ordered(lens("zh", "ar"))[0][1] == "zh", "alone, Chinese would have the colour that Spanish has here"


def test_the_keyboard_stays_in_the_form_when_a_part_of_it_is_removed(notebook):
    choose = "(s => { s.value = 'steer'; s.dispatchEvent(new Event('change')); })(root.querySelector('.add'))"
    notebook.js(choose)
    notebook.js("root.querySelector('.another').click()")
    held = "(e => e && (e.getAttribute('aria-label') || e.textContent))(root.activeElement)"
    for away, wanted in ((".change .close", "Add an intervention"), (".other .close", "+ prompt")):
        notebook.js(f"root.querySelector({away!r}).focus()")
        notebook.key("Enter")
        assert not notebook.js(f"root.querySelector({away!r})")
        assert notebook.js(held) == wanted


def test_escape_closes_the_lens_and_the_code(notebook, answers):
    send(notebook, answers[0], 0)
    notebook.js("root.querySelector('.scroll').focus()")
    notebook.key("ArrowLeft")
    panel = "root.querySelector('.panel').matches(':popover-open')"
    assert notebook.js(panel)
    notebook.key("Escape")
    assert not notebook.js(panel) and notebook.js("root.activeElement.matches('.scroll')")
    notebook.js("root.querySelector('.script').open = true; root.querySelector('.script button').focus()")
    notebook.key("Escape")
    assert not notebook.js("root.querySelector('.script').open")
    assert notebook.js("root.activeElement.textContent") == "this view as code"
