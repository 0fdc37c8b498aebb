"""Figures show what was measured, and pages open offline with every token as text."""

import dataclasses
import html
import json
import re

import pytest
import torch
from jaxtyping import TypeCheckError

import models
import semhub_lens as shl
from browser import CHROMIUM, rendered
from semhub_lens.base.results import unnamed
from semhub_lens.interventions.patch_results import PatchResult
from semhub_lens.views.style import escape

HOSTILE = "two <script>alert(1)</script> <b>bold</b> 朋友 مرحبا dog dog"


@pytest.fixture(scope="module")
def lens():
    return shl.logit_lens(models.tiny(), HOSTILE, top_k=4, progress=False)


def test_the_heat_map_shows_the_most_probable_token_of_every_cell(lens):
    drawn = shl.figure(lens).data[0]
    assert torch.allclose(torch.tensor(drawn.z), lens.top_logprobs[..., 0].exp())
    short = [[escape(cell[0] if len(cell[0]) <= 10 else cell[0][:9] + "…") for cell in row] for row in lens.strings()]
    assert [list(row) for row in drawn.text] == short


def test_hovering_a_cell_lists_its_alternatives_with_their_ids(lens):
    text = html.unescape(shl.figure(lens).data[0].customdata[2][3])
    for token, name in zip(lens.top_ids[2, 3].tolist(), lens.strings()[2][3], strict=True):
        assert f"{name}  <i>#{token}</i>" in text
    assert f"entropy {float(lens.entropy[2, 3]):.2f}" in text


def test_repeated_tokens_keep_their_own_columns(lens):
    figure = shl.figure(lens)
    assert lens.labels[-2:] == ("␣dog", "␣dog")
    assert list(figure.data[0].x) == list(range(len(lens.labels))) == list(figure.layout.xaxis.tickvals)


def test_the_buttons_recolour_by_entropy_and_kl(lens):
    buttons = shl.figure(lens).layout.updatemenus[0].buttons
    assert [b.label for b in buttons] == ["probability", "entropy (nats)", "KL to final (nats)"]
    assert torch.allclose(torch.tensor(buttons[1].args[0]["z"][0]), lens.entropy)
    assert torch.allclose(torch.tensor(buttons[2].args[0]["z"][0]), lens.kl_to_final)


@pytest.mark.parametrize(
    "asked", [["entropy"], ["top_ids", "kl_to_final"], ["top_logprobs"], ["top_ids", "top_logprobs"]]
)
def test_a_lens_is_drawn_by_what_was_asked_for(asked):
    result = shl.logit_lens(models.tiny(), "one two three", quantities=asked, top_k=2)
    (heat,) = shl.figure(result).data
    buttons = shl.figure(result).layout.updatemenus[0].buttons
    first = result.top_logprobs[..., 0].exp() if "top_logprobs" in asked else next(iter(result.per_position().values()))
    assert torch.tensor(heat.z).allclose(first, atol=1e-6)
    assert len(buttons) == len({*asked} - {"top_ids"})
    assert ("#" in heat.customdata[0][0]) == ("top_ids" in asked) and bool(heat.text[1][1]) == ("top_ids" in asked)


def test_a_lens_without_a_number_says_what_to_ask_for():
    with pytest.raises(shl.SemhubError, match="top_logprobs"):
        shl.figure(shl.logit_lens(models.tiny(), "one two", quantities=["top_ids"]))


def test_the_similarity_figure_draws_effect_interval_null_and_chance():
    states = torch.randn(5, 30, 16, generator=torch.Generator().manual_seed(0))
    found = shl.similarity(states, states + 0.5 * torch.randn(states.shape, generator=torch.Generator().manual_seed(1)))
    traces = {trace.name: trace for trace in shl.figure(found).data}
    assert torch.allclose(torch.tensor(traces["D"].y), found.effect)
    assert torch.allclose(torch.tensor(traces["R@1"].y), found.retrieval)
    assert list(traces["R@1 by chance"].y) == pytest.approx([1 / 30] * 5)
    assert torch.allclose(torch.tensor(traces["D, 95 %"].y), torch.cat([found.high, found.low.flip(0)]))


def test_the_mass_figure_draws_every_language_above_two_percent():
    model = models.tiny()
    table = shl.script_table(model)
    found = shl.language_mass(model, ["two 朋友", "red dog"], table, progress=False)
    traces = {trace.name: trace for trace in shl.figure(found).data}
    for i, name in enumerate(found.languages):
        if float(found.mass[:, i].max()) >= 0.02:
            assert torch.allclose(torch.tensor(traces[name].y), found.mass[:, i])


def test_the_target_figure_draws_mean_log_probabilities():
    found = shl.target_lens(models.tiny(), ["three plus", "one plus"], [["two", "five"]] * 2, progress=False)
    traces = {trace.name: trace for trace in shl.figure(found).data if trace.mode == "lines+markers"}
    assert torch.allclose(torch.tensor(traces["two"].y), found.log_probs[..., 0].mean(1))


@pytest.mark.parametrize("others, shared", [(("own name",), True), (tuple(f"name {i}" for i in range(12)), False)])
def test_a_curves_name_stands_in_the_legend_once_with_the_colour_of_its_lines(others, shared):
    result = shl.experiments.run("multilingual.similarity", models.tiny(), n=16, progress=False)
    leg = dataclasses.replace(
        result.legs[0], curve_names=("right name", "other"), curves=result.legs[0].curves[:1].repeat(2, 1)
    )
    second = dataclasses.replace(leg, curve_names=(*others, "other"), curves=leg.curves[:1].repeat(len(others) + 1, 1))
    traces = shl.figure(dataclasses.replace(result, legs=(leg, second))).data
    drawn = [trace for trace in traces if trace.name in {"right name", "other", *others}]
    assert [trace.name for trace in drawn] == ["right name", "other", *others, "other"]
    listed = [(trace.name, trace.line.color) for trace in drawn if trace.showlegend]
    assert len(listed) == len(set(listed)) and set(listed) == {(trace.name, trace.line.color) for trace in drawn}
    assert (drawn[1].line.color == drawn[-1].line.color) == shared
    for one in (drawn[:2], drawn[2:]):  # inside one panel colours differ as far as there are any
        assert len({trace.line.color for trace in one}) == min(len(one), 12)


def test_an_unknown_object_cannot_be_drawn():
    with pytest.raises((ValueError, TypeCheckError), match=r"dict|Result"):
        shl.figure({})


def test_a_written_page_asks_for_nothing_from_the_network(lens, tmp_path):
    page = shl.write_html(shl.figure(lens), tmp_path / "lens.html").read_text(encoding="utf-8")
    assert not re.search(r'<(script|link|img)[^>]+(src|href)=["\']?(https?:)?//', page)
    assert "Plotly.newPlot" in page


def test_a_page_that_cannot_be_written_leaves_nothing(lens, tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(shl.SemhubError, match=r"could not be written \(disk full\)"):
        shl.write_html(lens, tmp_path / "lens.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")
def test_in_a_browser_hostile_tokens_show_as_text(lens, tmp_path):
    dom = rendered(shl.write_html(shl.figure(lens), tmp_path / "lens.html"))
    assert "alert(1)" in dom
    drawn = dom[dom.index("main-svg") :]
    labels = [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", drawn, flags=re.S)]
    assert any("␣<scrip" in re.sub(r"</?tspan[^>]*>", "", label) for label in labels)
    assert any("朋友" in label for label in labels) and any("مرحبا" in label for label in labels)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (.ci/run installs it)")
def test_the_token_strip_shows_every_token_as_text_without_a_network(lens, tmp_path):
    strip = shl.token_strip(lens, 2, "entropy")
    assert "https://unpkg" not in strip._repr_html_()
    path = tmp_path / "strip.html"
    path.write_text(f"<meta charset=utf-8><body>{strip._repr_html_()}</body>", encoding="utf-8")
    dom = rendered(path)
    shown = html.unescape(html.unescape(re.sub(r"<script.*?</script>", "", dom, flags=re.S)))
    assert "<b>bold</b>" in shown and "<bos>" in shown


@pytest.mark.parametrize(("layer", "quantity"), [(9, "entropy"), (0, "rank")])
def test_a_token_strip_of_what_is_not_there_is_refused(lens, layer, quantity):
    with pytest.raises((ValueError, TypeCheckError), match=r"Layer 9 is out of range|rank"):
        shl.token_strip(lens, layer, quantity)


def test_a_result_shows_itself_in_a_notebook():
    import plotly.io as pio

    found = shl.target_lens(models.tiny(), ["three plus"], [["two"]], progress=False)
    shown = pio.renderers["plotly_mimetype"].to_mimebundle(shl.figure(found).to_dict())
    previous = pio.renderers.default
    try:
        pio.renderers.default = "plotly_mimetype"
        bundle = found._repr_mimebundle_()
    finally:
        pio.renderers.default = previous
    data = bundle["application/vnd.plotly.v1+json"]["data"]
    assert json.dumps(data, default=str) == json.dumps(shown["application/vnd.plotly.v1+json"]["data"], default=str)


def long_lens(tokens, layers=4):
    """A lens on more tokens than a browser has columns of the usual width for."""
    zeros = torch.zeros(layers, tokens)
    top = torch.zeros(layers, tokens, 2)
    measured = {"top_ids": top.long(), "top_logprobs": top - 1, "entropy": zeros, "kl_to_final": zeros}
    labels = tuple(f"␣{i}" for i in range(tokens))
    return shl.LensResult(
        torch.zeros(tokens, dtype=torch.long), labels, ((0, "␣word"),), measured=measured, provenance=unnamed()
    )


@pytest.mark.parametrize("tokens", [400, 1500])
def test_a_figure_of_many_tokens_is_no_wider_than_a_browser_draws(tokens):
    lens = long_lens(tokens)
    figure = shl.figure(lens)
    assert len(set(figure.data[0].x)) == tokens and figure.layout.width <= 32_767
    told = "too narrow for text: hover" in figure.layout.xaxis.title.text
    assert told == (figure.data[0].texttemplate is None) == (figure.layout.width == 32_000)
    ticks = figure.layout.xaxis
    assert len(ticks.tickvals) * 78 <= 32_768 and all(ticks.ticktext[i].startswith("␣") for i in (0, -1))
    assert [lens.labels[i] for i in ticks.tickvals] == list(ticks.ticktext)


def test_a_patch_grid_is_small_enough_to_be_drawn():
    tokens = 1200
    grid = PatchResult(
        values=torch.zeros(2, tokens), clean=1.0, corrupted=0.0, site="resid_pre", metric="m",
        positions=tuple((i, i) for i in range(tokens)), clean_labels=("a",) * tokens, labels=("b",) * tokens,
        axes=("layer", "pos"), provenance=unnamed(),
    )  # fmt: skip
    figure = shl.figure(grid)
    assert figure.layout.width == 32_000 and len(figure.layout.xaxis.tickvals) == 600


def test_a_path_of_the_home_folder_is_found(lens, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shl.write_html(lens, "~/a/lens.html") == tmp_path / "a" / "lens.html"
    assert lens.save("~/lens.safetensors") == tmp_path / "lens.safetensors"
    assert shl.load_result("~/lens.safetensors").labels == lens.labels
    assert type(lens).load("~/lens.safetensors").labels == lens.labels
    assert not list(tmp_path.glob("~")) and (tmp_path / "a" / "lens.html").is_file()
    with pytest.raises(shl.SemhubError, match="unknown home folder"):
        shl.write_html(lens, "~nobody-of-that-name/lens.html")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud83d", "x" * 300 + "/lens"])
def test_a_path_that_the_system_does_not_look_up_is_refused(lens, tiny_model, name, tmp_path):
    path = f"{tmp_path}/{name}"
    for call in (
        lambda: lens.save(path),
        lambda: shl.load_result(path),
        lambda: shl.write_html(lens, path),
        lambda: shl.open_states(path),
        lambda: shl.residual_stream(tiny_model, "red", out=path, progress=False),
        lambda: shl.SteeringVector.from_tensor(tiny_model, path, 1),
        lambda: shl.load(path),
        lambda: shl.load(f"~nobody-of-that-name/{name}"),
    ):
        with pytest.raises(shl.SemhubError, match=r"cannot be used|unknown home folder"):
            call()
    assert not list(tmp_path.iterdir())
