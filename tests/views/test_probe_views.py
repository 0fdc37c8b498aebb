"""Figures of linear probes show what was measured."""

import pytest
import torch

import semhub_lens as shl
from planted import CONCEPTS, labels, planted

SETUP = shl.ProbeSetup(control_draws=2)


@pytest.fixture(scope="module")
def matrix():
    stacks = {"en": planted(0), "<b>fr</b>": planted(1, strength=3.0), "zh": planted(2, along=200)}
    return shl.transfer_matrix(stacks, dict.fromkeys(stacks, labels()), groups="rows", setup=SETUP, seed=0)


def test_the_probe_figure_draws_accuracy_transfer_intervals_control_and_chance():
    found = shl.linear_probe(planted(0), labels(), test=(planted(1), labels()), setup=SETUP, seed=0)
    traces = {trace.name: trace for trace in shl.figure(found).data}
    assert torch.allclose(torch.tensor(traces["accuracy"].y), found.accuracy)
    assert torch.allclose(torch.tensor(traces["transfer"].y), found.transfer)
    assert torch.allclose(torch.tensor(traces["accuracy, 95 %"].y), torch.cat([found.high, found.low.flip(0)]))
    ends = torch.cat([found.across.control.amax(0), found.across.control.amin(0).flip(0)])
    assert torch.allclose(torch.tensor(traces["transfer, labels shuffled (range of 2)"].y), ends)
    assert list(traces["accuracy by chance"].y) == pytest.approx([found.chance] * 5)
    alone = shl.linear_probe(planted(0), labels(), setup=SETUP, seed=0)
    assert not any("transfer" in trace.name for trace in shl.figure(alone).data)


def test_the_transfer_figure_draws_every_cells_peak_and_curve(matrix):
    figure = shl.figure(matrix)
    heat = figure.data[0]
    assert [list(row) for row in heat.z] == [[peak.accuracy for peak in row] for row in matrix.peaks]
    assert list(heat.x) == list(heat.y) == ["en", "&lt;b&gt;fr&lt;/b&gt;", "zh"]
    assert heat.text[0][1].endswith(f"L{matrix.peaks[0][1].layer}")
    curves = [trace.y for trace in figure.data if trace.name and trace.name.startswith("tested on")]
    drawn = torch.tensor(curves).view(3, 3, -1)
    assert torch.allclose(drawn, matrix.accuracy)
    (kind,) = [trace.y for trace in figure.data if trace.name == "which type"]
    assert torch.allclose(torch.tensor(kind), matrix.type_probe.accuracy)


def test_the_figure_of_classes_has_a_button_for_each(tiny_model):
    states = shl.residual_stream(tiny_model, ["two", "five", "red"], progress=False)
    classifier = shl.train_probe(states, CONCEPTS)
    probe = shl.LinearProbe(tiny_model, classifier)
    tiny_model.run_with_hooks("red two", fwd_hooks=probe.hooks)
    found = probe.result()
    figure = shl.figure(found)
    assert torch.allclose(torch.tensor(figure.data[0].z), found.log_probs[..., 0].exp())
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["cat", "dog", "red"]
    assert torch.allclose(torch.tensor(buttons[2].args[0]["z"][0]), found.log_probs[..., 2].exp())


def test_the_figure_of_a_classifier_shows_where_its_directions_stay():
    classifier = shl.train_probe(planted(0), labels())
    cosine = torch.tensor(shl.figure(classifier).data[0].z)
    torch.testing.assert_close(cosine.diagonal(), torch.ones(5))
    assert cosine[2, 3] > 0.7 and cosine[0, 2].abs() < 0.4
    torch.testing.assert_close(cosine, cosine.T)


def test_a_page_of_a_transfer_result_opens_offline(matrix, tmp_path):
    page = shl.write_html(matrix, tmp_path / "transfer.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page and "<b>fr</b>" not in page


def test_bands_are_drawn_without_markers(matrix):
    found = shl.linear_probe(planted(0), labels(), setup=SETUP, seed=0)
    bands = [
        trace
        for result in (matrix, found)
        for trace in shl.figure(result).data
        if trace.type == "scatter" and trace.fill == "toself"
    ]
    assert len(bands) == 6 and {trace.mode for trace in bands} == {"lines"}
