"""The experiment `probing`: planted content is found across data types, shuffled content is not."""

from collections import Counter

import pytest
import torch

from jobs import job_on
from semhub_lens.base.results import Provenance
from semhub_lens.base.rng import generator
from semhub_lens.data.numbers.probing import concept_items
from semhub_lens.evidence.draws import grouped_halves
from semhub_lens.evidence.stats import grouped_bootstrap_mean
from semhub_lens.experiments.probing import SETUP, Content, _concepts, _legs, _numbers
from semhub_lens.probes.transfer import transfer_matrix

WHERE = Provenance("planted", "-", "-", "float32", "cpu", "none", False)
CONTENT = Content("concepts", (), (("en", "fr"),))


def transfer(shared: bool, seed: int = 0):
    """Two types with a class direction at layer 2, the same in both or not, and an offset between the types."""
    source = generator(seed)
    labels = [("a", "b", "c", "d")[i % 4] for i in range(80)]
    directions = torch.randn(2, 4, 24, generator=source) * 2
    stacks = {}
    for i, name in enumerate(("en", "fr")):
        states = torch.randn(5, 80, 24, generator=source)
        chosen = directions[0 if shared else i]
        states[2] += torch.stack([chosen["abcd".index(label)] for label in labels])
        stacks[name] = states + 5 * i
    return transfer_matrix(
        stacks, dict.fromkeys(stacks, labels), groups="rows", centre="own", setup=SETUP, seed=seed, provenance=WHERE
    )


def test_content_coded_alike_in_two_types_is_found_where_it_is():
    content, kind = _legs(CONTENT, transfer(shared=True), transfer(shared=False, seed=1), WHERE, 0)
    assert (content.verdict.status, content.layer) == ("supported", 2)
    assert {check.name for check in content.checks if check.holds} >= {"beyond the embedding layer"}
    assert kind.verdict.status == "supported" and float(kind.mean.min()) > 0.4, "separable at every layer"


def test_content_coded_along_other_directions_does_not_transfer():
    found = transfer(shared=False)
    content, _ = _legs(CONTENT, found, None, WHERE, 0)
    assert content.verdict.status != "supported"
    assert float(found.cell("fr", "fr").accuracy[2]) > 0.9, "though it is there in each of them"


def test_the_leg_of_the_type_resamples_concepts_and_the_others_their_words():
    found = transfer(shared=True)
    content, kind = _legs(CONTENT, found, found, WHERE, 3)
    assert content.groups is None and torch.equal(kind.groups, found.type_probe.groups)
    pooled = found.type_probe
    interval, peak = pooled.interval(3), pooled.peak(3)
    torch.testing.assert_close(kind.low, interval.low - pooled.chance)
    torch.testing.assert_close(kind.high, interval.high - pooled.chance)
    assert kind.verdict.items == peak.items == 80
    _, report = grouped_halves(pooled.groups, 3)
    row = pooled.correct[kind.layer, report]
    assert kind.verdict.estimate == pytest.approx(float(row.mean()) - pooled.chance, abs=1e-6)
    expected = grouped_bootstrap_mean(row[None], pooled.groups[report], seed=4)
    assert kind.verdict.low == pytest.approx(float(expected.low) - pooled.chance, abs=1e-6)


@pytest.mark.parametrize("n", [16, 40, 100])
def test_concepts_are_whole_categories_in_five_languages_without_cognates(n):
    items = _concepts(n, 0)
    keys = {item.key for item in items}
    assert len(items) == 5 * len(keys) and n - 1 <= len(keys) <= n
    counts = {label: len({i.key for i in items if i.label == label}) for label in {i.label for i in items}}
    assert min(counts.values()) >= SETUP.folds and len(counts) >= 2
    assert {item.text for item in items} <= {item.text for item in concept_items(cognates=False)}


@pytest.mark.parametrize("n", [16, 40, 100])
@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_as_many_as_asked_and_fill_the_folds_of_every_magnitude(n, seed):
    digits = [item for item in _numbers(n, seed) if item.data_type == "digits"]
    assert len({item.key for item in digits}) == len(digits) == n
    assert min(Counter(item.label for item in digits).values()) >= SETUP.folds


def test_too_few_concepts_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        _concepts(8, 0)


def test_a_job_needs_no_folder(tiny_model):
    assert job_on(tiny_model, 16).store.folder is None
