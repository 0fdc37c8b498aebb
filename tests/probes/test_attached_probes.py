"""What cannot be probed is refused; a trained classifier reads any run as it reads captured states."""

import pytest
import torch
from jaxtyping import TypeCheckError

import semhub_lens as shl
from planted import ITEMS, WIDTH, labels, planted

CHEAP = shl.ProbeSetup(control_draws=2)
ROWS = list(range(ITEMS))


def probe(states, names=None, **settings):
    return shl.linear_probe(states, labels() if names is None else names, **({"setup": CHEAP, "seed": 0} | settings))


STATES = planted(0)
EN_FR = {"en": STATES, "fr": STATES}
BOTH = dict.fromkeys(EN_FR, labels())
BAD = {
    "one class": (lambda: probe(STATES, ["a"] * ITEMS), "single class 'a'"),
    "rare class": (lambda: probe(STATES, ["a"] * 57 + ["b"] * 3), r"class 'b' has 3 groups.*5 folds.*folds=3"),
    "rare by groups": (lambda: probe(STATES, groups=[i % 6 for i in ROWS]), "has 2 groups.*5 folds"),
    "too few labels": (lambda: probe(STATES, labels()[:-1]), "each of the 60 items, got 59"),
    "too few groups": (lambda: probe(STATES, groups=ROWS[:-1]), "groups must have one entry.*60 items, got 59"),
    "labels of two kinds": (lambda: probe(STATES, ["a", 1] * 30), "labels= takes a list"),
    "labels without order": (lambda: probe(STATES, torch.rand(ITEMS)), "all strings or all integers, got float"),
    "NaN": (lambda: probe(STATES / torch.zeros(())), "NaN"),
    "NaN in test": (lambda: probe(STATES, test=(STATES * torch.nan, labels())), "The states of test.*NaN"),
    "no items": (lambda: probe(STATES[:, :0], []), "none of them 0"),
    "unseen label": (lambda: probe(STATES, test=(STATES, ["new", *labels()[1:]])), r"not trained: \['new'\]"),
    "labels of another kind": (lambda: probe(STATES, test=(STATES, ROWS)), "strings in every data type"),
    "too few test labels": (lambda: probe(STATES, test=(STATES, labels()[1:])), "labels of test.*60 items, got 59"),
    "other layers": (
        lambda: probe(STATES, test=(STATES[1:], labels())),
        "4 layers of width 24, but the training states have 5",
    ),
    "other width": (lambda: probe(STATES, test=(STATES[..., 1:], labels())), "width 23"),
    "groups on one side": (lambda: probe(STATES, groups=ROWS, test=(STATES, labels())), "one side only"),
    "groups on the other": (lambda: probe(STATES, test=(STATES, labels(), ROWS)), "one side only"),
    "unknown centre": (lambda: probe(STATES, centre="both"), "'none', 'own', got 'both'"),
    "one test group": (
        lambda: probe(STATES, groups=ROWS, test=(STATES, labels(), [0] * ITEMS), centre="own"),
        "at least two groups",
    ),
    "one fold": (lambda: shl.ProbeSetup(folds=1), "folds must be at least 2, got 1"),
    "no regularisation": (lambda: shl.ProbeSetup(c=0.0), "must be positive, got c=0.0"),
    "negative draws": (lambda: shl.ProbeSetup(control_draws=-1), "control_draws must not be negative"),
    "transfer without test": (lambda: probe(STATES).transfer, "pass test="),
    "one type": (lambda: shl.transfer_matrix({"en": STATES}, {"en": labels()}, groups="rows"), "two data types, got 1"),
    "other names": (lambda: shl.transfer_matrix(EN_FR, {"en": labels()}, groups="rows"), "labels has"),
    "unknown groups": (lambda: shl.transfer_matrix(EN_FR, BOTH, groups="columns"), "'rows', 'none', got 'columns'"),
    "rows of unequal number": (
        lambda: shl.transfer_matrix(
            {"en": STATES, "fr": STATES[:, 1:]}, {"en": labels(), "fr": labels()[1:]}, groups="rows"
        ),
        "the same number of items",
    ),
    "classes that differ": (
        lambda: shl.transfer_matrix(EN_FR, {"en": labels(), "fr": ["cat", "dog"] * 30}, groups="rows"),
        r"'fr' lacks the labels \['red'\]",
    ),
    "unknown cell": (lambda: shl.transfer_matrix(EN_FR, BOTH, groups="rows", setup=CHEAP).cell("en", "de"), "'de'"),
    "no peak": (lambda: probe(STATES[:1]).within.peak(0), "a layer above the embedding"),
    "other model": (lambda: shl.train_probe(STATES, labels()).log_probs(STATES[1:]), "Expected states of 5 layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_probed_is_refused(name):
    call, message = BAD[name]
    with pytest.raises((ValueError, TypeCheckError)) as error:
        call()
    if not isinstance(error.value, TypeCheckError):
        assert error.match(f"(?s){message}")


def trained(model, texts=("two", "five", "two dog", "five dog", "red two", "red five")):
    states = shl.residual_stream(model, list(texts), progress=False)
    return states, shl.train_probe(states, ["two" if "two" in text else "five" for text in texts])


def test_an_attached_probe_is_the_classifier_applied_to_captured_states(tiny_model):
    _, classifier = trained(tiny_model)
    attached, capture = shl.LinearProbe(tiny_model, classifier), shl.Capture(tiny_model)
    add = shl.at(1, shl.hooks.add(torch.ones(32), positions=0))
    tiny_model.run_with_hooks("red dog five", fwd_hooks=add + attached.hooks + capture.hooks)
    states, found = capture.result(0).double(), attached.result()
    for layer in range(4):
        for position in range(states.shape[1]):
            logits = [
                float((states[layer, position] - classifier.mean[layer].double()) @ row.double() + bias)
                for row, bias in zip(classifier.weights[layer], classifier.bias[layer], strict=True)
            ]
            by_hand = torch.tensor(logits).log_softmax(0)
            torch.testing.assert_close(found.log_probs[layer, position], by_hand, atol=1e-4, rtol=1e-4)
    assert found.classes == ("five", "two") and found.log_probs.std() > 0.1
    torch.testing.assert_close(found.log_probs.exp().sum(-1), torch.ones(4, states.shape[1]))
    assert found.provenance.model == "tiny-llama" and len(found.to_frame()) == found.log_probs.numel()


def test_an_attached_probe_knows_its_training_items_by_the_last_token(tiny_model):
    texts = ("two", "five", "two dog", "five dog", "red two", "red five")
    _, classifier = trained(tiny_model, texts)
    for text in ("two", "red five"):
        attached = shl.LinearProbe(tiny_model, classifier)
        tiny_model.run_with_hooks(text, fwd_hooks=attached.hooks)
        best = attached.result().log_probs[1:, -1].argmax(-1)
        assert [classifier.classes[i] for i in best] == [text.split()[-1]] * 3


def test_a_saved_classifier_gives_the_same_log_probabilities(tiny_model, tmp_path):
    states, classifier = trained(tiny_model)
    back = shl.LinearClassifier.load(classifier.save(tmp_path / "classifier"))
    assert torch.equal(back.log_probs(states), classifier.log_probs(states))
    assert back.classes == classifier.classes and back.items == 6
    attached = shl.LinearProbe(tiny_model, back)
    tiny_model.run_with_hooks("two", fwd_hooks=attached.hooks)
    found = attached.result()
    again = shl.ClassResult.load(found.save(tmp_path / "classes"))
    assert torch.equal(again.log_probs, found.log_probs) and again.to_frame().equals(found.to_frame())


def test_a_classifier_of_another_model_cannot_be_attached(tiny_model):
    with pytest.raises(ValueError, match=rf"\(5, {WIDTH}\), but the model has \(4, 32\)"):
        shl.LinearProbe(tiny_model, shl.train_probe(STATES, labels()))
