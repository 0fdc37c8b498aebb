"""`compare`: cell by cell against plain loops, aligned columns, and what is refused."""

import dataclasses

import pytest
import torch
from jaxtyping import TypeCheckError

import semhub_lens as shl
from planted_lens import planted_lens
from semhub_lens.inputs.prompts import Prompt


@pytest.fixture(scope="module")
def two():
    return planted_lens(["x", "y", "z"], layers=4, k=3, seed=1), planted_lens(["x", "y", "z"], layers=4, k=5, seed=2)


def test_every_cell_is_what_a_plain_loop_says(two):
    a, b = two
    both = shl.compare(a, b)
    for layer in range(4):
        for pos in range(3):
            one, other = a.top_ids[layer, pos].tolist(), b.top_ids[layer, pos].tolist()
            assert both.changed[layer, pos] == (one[0] != other[0])
            assert float(both.replaced[layer, pos]) == pytest.approx(1 - len({*one} & {*other}) / 3)
            for name in ("entropy", "kl_to_final"):
                assert both.change(name)[layer, pos] == getattr(b, name)[layer, pos] - getattr(a, name)[layer, pos]
    frame = both.to_frame()
    assert frame["changed"].tolist() == both.changed.flatten().tolist() and set(frame["layer"]) == set(range(4))
    assert frame["token_b"].tolist() == [cell[0] for row in b.strings() for cell in row]


def test_a_lens_against_itself_differs_nowhere(two):
    same = shl.compare(two[0], two[0])
    assert not same.changed.any() and not same.replaced.any() and not same.change("entropy").any()


@pytest.mark.parametrize(
    ("align", "columns"),
    [
        ("end", ((-1, 0), (0, 1), (1, 2), (2, 3), (3, 4))),
        ([([1, 2], [1])], ((0, 0), (1, -1), (2, 1), (-1, 2), (-1, 3), (3, 4))),
        ([([0], [0]), ([3], [4])], ((0, 0), (-1, 1), (1, 2), (2, 3), (3, 4))),
    ],
)
def test_unequal_prompts_stand_as_asked_and_gaps_are_nan(align, columns):
    a, b = planted_lens(list("wxyz"), layers=3, seed=1), planted_lens(list("vwxyz"), layers=3, seed=2)
    both = shl.compare(a, b, align=align)
    assert both.columns == columns
    for column, (one, two) in enumerate(columns):
        if -1 in (one, two):
            assert both.changed[:, column].isnan().all() and both.change("entropy")[:, column].isnan().all()
        else:
            assert torch.equal(both.change("entropy")[:, column], b.entropy[:, two] - a.entropy[:, one])
            assert torch.equal(both.changed[:, column], (a.top_ids[:, one, 0] != b.top_ids[:, two, 0]).float())


@pytest.mark.parametrize(
    ("other", "settings", "match"),
    [
        (planted_lens(list("xy"), layers=4), {}, "3 and 2 tokens.*align='end'"),
        (planted_lens(list("xyz"), layers=5), {}, "4 and 5 layers.*layers="),
        (planted_lens(list("xyz"), layers=4), {"align": "middle"}, "middle"),
        (planted_lens(list("xyz"), layers=4), {"align": [([1], [1]), ([0], [2])]}, "must be in order"),
        (planted_lens(list("xyz"), layers=4), {"align": [([3], [1])]}, "within the prompt of 3"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(two, other, settings, match):
    with pytest.raises((shl.SemhubError, TypeCheckError), match=match):
        shl.compare(two[0], other, **settings)


def test_lenses_of_other_vocabularies_are_refused(two):
    other = dataclasses.replace(two[1], vocabulary=tuple((i, text + "?") for i, text in two[1].vocabulary))
    with pytest.raises(shl.SemhubError, match="different vocabularies: token 7"):
        shl.compare(two[0], other)
    apart = dataclasses.replace(
        two[1],
        vocabulary=((500, "a"),),
        measured={**two[1].measured, "top_ids": torch.full_like(two[1].top_ids, 500)},
        provenance=dataclasses.replace(two[1].provenance, unembedding="another"),
    )
    with pytest.raises(shl.SemhubError, match="no token in common"):
        shl.compare(two[0], apart)


def test_an_intervention_changes_nothing_below_its_entry(tiny_model):
    text = "three plus two"
    hooks = shl.at(2, shl.hooks.add(20 * torch.randn(32, generator=torch.Generator().manual_seed(0))))
    clean, changed = (shl.logit_lens(tiny_model, text, hooks=given, progress=False) for given in ((), hooks))
    both = shl.compare(clean, changed, names=("clean", "steered"))
    assert not both.changed[:2].any() and both.changed[2:].any()
    assert not both.change("entropy")[:2].any()
    assert f"{int(both.changed.sum())} of {both.changed.numel()} cells" in repr(both)


def test_chosen_layers_are_those_rows_of_the_whole_lens(tiny_model):
    prompt = Prompt.from_text(tiny_model, "three plus two")
    whole = shl.logit_lens(tiny_model, prompt, progress=False)
    some = shl.logit_lens(tiny_model, prompt, layers=[-3, 0], progress=False)
    assert some.entries == (0, 1, 3) and whole.entries == (0, 1, 2, 3)
    for name, values in some.measured.items():
        assert torch.equal(values, whole.measured[name][[0, 1, 3]])
    assert set(some.to_frame()["layer"]) == {0, 1, 3}
    assert shl.figure(some).layout.yaxis.ticktext == ("emb", "1", "3")
    for layers in ([], [4], [-5], [0.5]):
        with pytest.raises((shl.SemhubError, TypeCheckError)):
            shl.logit_lens(tiny_model, prompt, layers=layers, progress=False)
