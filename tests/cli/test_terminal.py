"""What the commands print, in narrow encodings and with text that would steer a terminal."""

import io
import json
import os
import re
import sys
from pathlib import Path
from unicodedata import bidirectional

import pytest
from rich.cells import cell_len
from rich.console import Console

import hostile
import models
from explored import contrast
from planted_lens import WORDS, planted_lens
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.shown_text import harmless
from semhub_lens.cli import main as command
from semhub_lens.cli.lens_shown import AROUND, HUES, OTHERS, WIDEST_CELL, lens_json, lens_table
from semhub_lens.lens.language_tables import script_table
from semhub_lens.views.explorer.packing import packed

SMALL = f"""
import sys
sys.path.insert(0, {str(Path(models.__file__).parent)!r})
import models
from semhub_lens.cli import main
from semhub_lens.lens.language_tables import script_table
main.load_model = lambda *settings: models.tiny()
main.language_table = lambda model, progress: script_table(model)  # the other takes a while to build
sys.argv = ["semhub", *sys.argv[1:]]
main.main()
"""


@pytest.mark.parametrize(("encoding", "page"), [("ascii", "run[seed=1].html"), ("cp1252", "~/[red]朋友.html")])
def test_a_narrow_encoding_costs_neither_the_page_nor_its_name(encoding, page, tmp_path, fork):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "120", "HOME": str(tmp_path)}
    done = fork("-c", SMALL, "lens", "two 朋友 dog", "--html", page, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (tmp_path / page.removeprefix("~/")).is_file()
    shown = page.replace("~", str(tmp_path)).encode(encoding, errors="replace")
    assert shown in done.stdout and b"dog" in done.stdout


@pytest.fixture
def printed(monkeypatch, capsys, tmp_path):
    """Run the command in this process on the tiny model; gives its status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "load_model", lambda *settings: models.tiny())
    monkeypatch.setattr(command, "language_table", lambda model, progress: script_table(model))
    monkeypatch.setattr(command, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(command, "only_ours", lambda: None)
    monkeypatch.setattr(command.console, "width", 1000)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["semhub", *arguments])
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize(
    "arguments", [["-1 + 1 ="], ["-my dog"], ["-7"], ["two", "--modle", "x"], ["--top-k", "3", "-x y"]]
)
def test_a_text_that_begins_with_a_dash_is_one_clear_line(printed, arguments):
    status, text = printed("lens", *arguments)
    assert status == 2 and text.startswith("semhub: ") and text.count("\n") == 1 and "after --" in text


def test_behind_two_dashes_it_is_read(printed):
    status, text = printed("lens", "--top-k", "2", "--", "- two 3 =")
    assert status == 0 and "␣two" in text


def test_the_page_is_there_before_anything_is_printed(printed, monkeypatch, tmp_path):
    def broken(*settings, **named):
        assert (tmp_path / "lens.html").is_file()
        raise SemhubError("the terminal is gone")

    monkeypatch.setattr(command.console, "print", broken)
    with pytest.raises(SemhubError, match="is gone"):
        printed("lens", "two", "--html", "lens.html")


@pytest.mark.parametrize("name", [f"{hostile.CONTROLS}.gguf", "\x1b]0;owned\x07"])
def test_controls_in_errors_are_named(printed, monkeypatch, name):
    def load_model(*settings):
        raise SemhubError(f"No model at {name}.\nSee [red]the list[/red].")

    monkeypatch.setattr(command, "load_model", load_model)
    status, text = printed("lens", "two", "--model", "x")
    assert status == 2 and not set(text) & set(hostile.RAW)
    assert text == f"semhub: No model at {harmless(name)}.\nSee [red]the list[/red].\n"


def test_controls_in_tables_are_named(printed, monkeypatch):
    monkeypatch.setattr(command, "logit_lens", lambda model, *settings, **named: hostile.lens(model, "\x1b[2J\r"))
    _, text = printed("lens", "two")
    assert "U+001B" in text and not set(text) & set(hostile.RAW)
    result = hostile.experiment(models.tiny())
    monkeypatch.setattr(command.registry, "run", lambda *settings, **named: result)
    _, text = printed("run", "arithmetic.logit_lens", "--out", "runs [bold]")
    assert "U+001B" in text and "runs [bold]" in text and not set(text) & set(hostile.RAW)


@pytest.fixture
def lens():
    labels = ["<bos>", "␣dog", "␣a", "␣longer_token_than_that", "␣two"] * 4
    return planted_lens(labels, layers=6, like=lambda layer, pos: "en" if 1 < layer < 4 else "es")


def drawn(table, width):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize("width", [20, 60, 119, 120, 400])
def test_as_many_of_the_last_columns_are_shown_as_the_terminal_is_wide(lens, width):
    table = lens_table(lens, width)
    lines = [line for line in drawn(table, width).splitlines() if line[:1] in "┏┃┡│└"]
    assert all(cell_len(line) <= width for line in lines)
    shown = len(table.columns) - 1
    assert 1 <= shown <= len(lens.labels)
    headers = [str(column.header) for column in table.columns[1:]]
    assert headers == list(lens.labels[-shown:])
    assert ("last" in str(table.title)) == (shown < len(lens.labels))
    if shown < len(lens.labels):  # one column more would not fit: it is at least a character and its borders wide
        assert cell_len(lines[0]) + WIDEST_CELL + AROUND > width


def test_a_cells_colour_is_its_tokens_language(lens):
    table = lens_table(lens, 400)
    names = [name for name, texts in WORDS.items() for _ in texts]  # one text may be a token of two languages
    of = {token: name for (token, _), name in zip(lens.vocabulary, names, strict=True)}
    for column, pos in zip(table.columns[1:], range(len(lens.labels)), strict=True):
        for layer, shown in zip(reversed(range(6)), column.cells, strict=True):
            name = of[int(lens.top_ids[layer, pos, 0])]
            assert shown.plain == lens.strings()[layer][pos][0]
            assert (HUES[0] in str(shown.style)) == (name == "en")
            assert any(hue in str(shown.style) for hue in HUES) == (name != "unknown")
    assert "■ en" in table.caption.plain and "■ es" in table.caption.plain


@pytest.mark.parametrize(
    ("look", "key", "shades"),
    [
        ({"color_system": "truecolor"}, True, True),
        ({"color_system": None}, False, False),
        ({"color_system": "truecolor", "no_color": True}, False, True),
    ],
)
def test_without_colours_there_is_no_key_to_them(printed, monkeypatch, look, key, shades):
    console = Console(width=200, file=io.StringIO(), force_terminal=True, **look)
    monkeypatch.setattr(command, "console", console)
    assert printed("lens", "two 朋友")[0] == 0
    text = console.file.getvalue()
    assert ("■ " in text) == key
    assert ("bold: above 50 %" in text) == ("\x1b[1m" in text or "\x1b[2m" in text) == shades


def test_words_written_from_the_right_stay_in_their_columns():
    arabic = planted_lens(["<bos>", "␣لون", "␣السماء", "␣ماء"], layers=4, words={"ar": WORDS["ar"]})
    text = drawn(lens_table(arabic, 200), 200)
    rows = [line for line in text.splitlines() if line.endswith(("│", "┃"))]
    assert len(rows) == 5
    for row in rows:
        strong = [kind for kind in map(bidirectional, row) if kind in ("L", "R", "AL")]
        assert strong[0] == "L", "the line begins on the left"
        assert not re.search(r"[\u0600-\u06ff]…? *[│┃]", row), "a mark parts a word from the next column's"
    assert cell_len(rows[0]) == cell_len(rows[1]) == cell_len(text.splitlines()[1])
    plain = drawn(lens_table(planted_lens(["<bos>", "天"], layers=2, words={"zh": WORDS["zh"]}), 200), 200)
    assert "\u200e" not in plain


def test_json_is_one_object_and_nothing_else_and_holds_the_lens(printed, monkeypatch, lens, tmp_path):
    monkeypatch.setattr(command, "logit_lens", lambda *settings, **named: lens)
    status, text = printed("lens", "two", "--json", "--no-languages", "--html", "lens.html")
    found = json.loads(text)
    assert status == 0 and text.count("\n") == 1 and text.isascii()
    assert found["page"] == str(tmp_path / "lens.html") and found["layers"] == list(range(6))
    assert found["input"] == list(lens.labels)
    ids = [[[entry["id"] for entry in cell] for cell in row] for row in found["top"]]
    assert ids == lens.top_ids.tolist()
    assert found["top"][3][2][0]["probability"] == pytest.approx(float(lens.top_logprobs[3, 2, 0].exp()))
    assert found["entropy"] == lens.entropy.tolist() and found["top"][3][2][0]["language"] in ("en", "es", None)


def test_the_page_is_named_with_its_whole_path(printed, tmp_path):
    status, text = printed("lens", "two", "--no-languages", "--html", "lens.html")
    assert status == 0 and f"page: {tmp_path / 'lens.html'}" in text


def test_joiners_and_other_scripts_stay():
    kept = "مرحبا 朋友 👨‍👩‍👧 नमस्ते\n"
    assert harmless(kept, kept="\n") == kept
    assert harmless("a\tb\x7f\u2029") == "aU+0009bU+007FU+2029"


def test_a_language_has_the_place_among_the_colours_that_it_has_on_the_page(lens):
    """Spanish leads most cells; Chinese has most of the probability."""
    mixed = planted_lens(["a"] * 8, layers=6, like=lambda layer, pos: "zh" if pos < 3 else "es")
    certain = mixed.measured["top_logprobs"].clone()
    certain[:, 3:] -= 3.0
    mixed.measured["top_logprobs"].copy_(certain)
    for one, second in ((lens, "es"), (mixed, "zh")):
        key = lens_table(one, 400).caption
        shown = {key.plain[s.end :].split()[0]: str(s.style) for s in key.spans if key.plain[s.start] == "■"}
        (page,) = [packed(one)["groups"]["names"]]
        assert page[:2] == ["en", second]
        assert shown == {name: HUES[i] for i, name in enumerate(page) if name in shown} and len(shown) > 2


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255)])
def test_colours_are_read_on_light_and_on_dark_terminals(ground):
    for colour in (*HUES, OTHERS):
        assert contrast([int(colour[i : i + 2], 16) for i in (1, 3, 5)], ground) >= 4.5


def test_a_token_of_no_known_language_is_told_by_its_script_but_has_no_language_in_json():
    hindi = planted_lens(["a"], layers=3, k=2, words={"en": ["sky"], "unknown": ["आकाश", "12"]})
    assert "devanagari script" in lens_table(hindi, 200).caption.plain
    told = {
        entry["token"]: entry["language"]
        for row in json.loads(lens_json(hindi, None))["top"]
        for cell in row
        for entry in cell
    }
    assert told["आकाश"] is None
