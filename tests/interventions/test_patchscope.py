"""Patchscopes against runs with plain hooks, identities, and what the reading prompts ask."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.data.text.texts import BUNDLED, concepts
from semhub_lens.interventions.hooks import at, replace
from semhub_lens.interventions.patchscope import slot_hooks
from semhub_lens.interventions.readings import SHOWN

TEXTS = ("red two is", "house dog plus five", "cat")
WORDS = ("two", "five", ("red", "blue"), "cat")
QUIET = {"progress": False}


def middle(model):
    """A reading prompt with words behind its slot."""
    return Prompt.from_text(model, "one is one two is two chat is", spans={"slot": "chat"})


def end(model):
    return Prompt.from_text(model, "one is one two", spans={"slot": (11, 14)})


def scoped(model, source=TEXTS, reading=None, **settings):
    return shl.patchscope(model, source, WORDS, reading=reading or middle(model), **QUIET | settings)


def summed(model, log_probs):
    spelled = [[word] if isinstance(word, str) else word for word in WORDS]
    ids = [[i for one in row for i in shl.word_tokens(model.tokenizer, one).ids] for row in spelled]
    return torch.stack([log_probs[..., i].logsumexp(-1) for i in ids], -1)


def stack(model, source=TEXTS):
    return shl.residual_stream(model, list(source), **QUIET)


def test_every_cell_equals_a_run_of_its_own_with_a_plain_hook(tiny_model):
    states, names = stack(tiny_model), shl.residual_names(tiny_model)
    for reading in (middle(tiny_model), end(tiny_model)):
        place = reading.spans["slot"][-1]
        found = scoped(tiny_model, reading=reading, target_entries=[2, 0, 3], max_tokens=12)
        assert found.cells == tuple((own, target) for own in range(4) for target in (2, 0, 3))
        for row, (own, target) in enumerate(found.cells):
            for item in range(len(TEXTS)):

                def write(activation, hook, state=states[own, item], place=place):
                    out = activation.clone()
                    out[0, place] = state
                    return out

                with torch.no_grad():
                    logits = tiny_model.run_with_hooks(reading.ids[None], fwd_hooks=[(names[target], write)])
                expected = summed(tiny_model, logits[0, -1].log_softmax(-1))
                torch.testing.assert_close(found.log_probs[row, item], expected, atol=1e-4, rtol=1e-4)
        assert (found.log_probs - found.unpatched).abs().amax(-1).max() > 0.5


def test_a_prompts_own_states_in_its_own_slot_change_nothing(tiny_model):
    reading = middle(tiny_model)
    found = scoped(tiny_model, [reading], read="slot:last")
    assert found.cells == tuple((entry, entry) for entry in range(4))
    torch.testing.assert_close(found.log_probs, found.unpatched.expand_as(found.log_probs), atol=1e-4, rtol=1e-4)
    other = scoped(tiny_model, [reading], read=1)  # the control: another position's states do change it
    assert (other.log_probs - other.unpatched)[:-1].abs().amax((1, 2)).min() > 0.05


def test_the_last_entry_at_the_last_position_is_the_lens_of_the_state(tiny_model):
    found = scoped(tiny_model, reading=end(tiny_model), target_entries=[3])
    lens = shl.target_lens(tiny_model, list(TEXTS), [WORDS] * 3, quantities=(), **QUIET).log_probs
    torch.testing.assert_close(found.log_probs, lens, atol=1e-4, rtol=1e-4)
    # behind the slot nothing reads its last entry
    behind = scoped(tiny_model, target_entries=[3])
    assert torch.equal(behind.log_probs, behind.unpatched.expand_as(behind.log_probs))


def test_states_and_the_prompts_that_they_are_of_give_the_same(tiny_model):
    by_prompts, by_states = scoped(tiny_model), scoped(tiny_model, stack(tiny_model))
    torch.testing.assert_close(by_states.log_probs, by_prompts.log_probs, atol=1e-5, rtol=1e-5)
    assert by_prompts.labels == TEXTS and by_states.labels == ("state 0", "state 1", "state 2")
    some = scoped(tiny_model, stack(tiny_model), source_entries=[2, 0], target_entries=[1])
    assert some.cells == ((2, 1), (0, 1))
    full = scoped(tiny_model, stack(tiny_model), target_entries=[1])
    torch.testing.assert_close(some.log_probs, full.log_probs[[2, 0]], atol=1e-5, rtol=1e-5)


def test_a_contrast_is_what_the_log_probabilities_differ_by(tiny_model):
    full, contrast = scoped(tiny_model), scoped(tiny_model, contrast=True)
    expected = full.log_probs - full.log_probs.mean(-1, keepdim=True)
    torch.testing.assert_close(contrast.log_probs, expected, atol=1e-5, rtol=1e-5)
    assert contrast.contrast and not full.contrast
    with pytest.raises(ValueError, match="at least 2"):
        shl.patchscope(tiny_model, "cat", ["two"], reading=middle(tiny_model), contrast=True)


def test_continuations_are_those_of_a_run_with_the_state_in_the_slot(tiny_model):
    reading, states = middle(tiny_model), stack(tiny_model)
    found = scoped(tiny_model, target_entries=[1, 2], source_entries=[1, 3], new_tokens=3)
    for row, (own, target) in enumerate(found.cells):
        for item in range(len(TEXTS)):
            hooks = at(target, replace(states[own, item], positions=reading.spans["slot"][-1]))
            alone = shl.generate(tiny_model, reading, hooks=hooks, max_new_tokens=3, **QUIET)
            assert found.texts[row][item] == alone.texts[0]
    assert len({text for row in found.texts for text in row}) > 2
    frame = found.to_frame().set_index(["source_entry", "target_entry", "item", "word"])
    row = frame.loc[(3, 1, 2, "five")]
    assert (row["label"], row["text"]) == ("cat", found.texts[2][2])
    assert row["log_prob"] == pytest.approx(float(found.log_probs[2, 2, 1]))


def test_the_hooks_of_many_rows_change_each_row_at_its_own_entry_only(tiny_model):
    reading, vectors = middle(tiny_model), stack(tiny_model)[1]
    place, targets = reading.spans["slot"][-1], [2, 0, 2]
    states = shl.residual_stream(
        tiny_model, [reading] * 3, read=place, hooks=slot_hooks(vectors, targets, place), **QUIET
    )
    clean = shl.residual_stream(tiny_model, [reading], read=place, **QUIET)[:, 0]
    for row, target in enumerate(targets):
        torch.testing.assert_close(states[target, row], vectors[row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(states[:target, row], clean[:target], atol=1e-5, rtol=1e-5)


def test_the_figure_shows_the_most_probable_word_of_every_state(tiny_model):
    found = scoped(tiny_model, ["<b>bold</b> two", "cat"], target_entries=[2], new_tokens=1)
    (heat,) = shl.figure(found).data
    assert heat.z[3][1] == pytest.approx(float(found.log_probs[3, 1].max()))
    assert heat.text[3][1] == found.words[int(found.log_probs[3, 1].argmax())]
    layout = shl.figure(found).layout
    assert layout.yaxis.ticktext[3] == "3 → 2" and layout.xaxis.ticktext[0].startswith("&lt;b&gt;")


@pytest.mark.parametrize("language", BUNDLED)
def test_reading_prompts_end_in_their_slot_and_repeat_bundled_nouns(tiny_model, language):
    for kind in ("identity", "description"):
        prompt = shl.reading_prompt(tiny_model, kind, language)
        last = prompt.text.splitlines()[-1]
        assert last.startswith("x") and len(last) <= 3 and prompt.text.count("x→") + prompt.text.count("x →") <= 1
        assert prompt.spans["slot"] and len(prompt.text.splitlines()) >= 4
    nouns = concepts()[language]
    text = shl.reading_prompt(tiny_model, "identity", language).text
    assert all(text.count(noun) >= 2 for noun in nouns[:SHOWN]) and nouns[SHOWN] not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_entries": []}, "has no entry"),
        ({"target_entries": [4]}, "entries 0 to 3"),
        ({"slot": "nothing"}, "no span"),
        ({"slot": "mean"}, "one position"),
        ({"read": "raw_mean"}, "one position"),
        ({"new_tokens": -1}, "new_tokens >= 0"),
        ({"source": torch.zeros(3, 2, 32)}, r"\[4 item 32\]"),
        ({"source": torch.full((4, 2, 32), torch.nan)}, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_model, changes, message):
    with pytest.raises(ValueError, match=message):
        scoped(tiny_model, **changes)


def test_no_words_and_an_unknown_language_are_refused(tiny_model):
    with pytest.raises(ValueError, match="at least 1"):
        shl.patchscope(tiny_model, "cat", [], reading=middle(tiny_model))
    with pytest.raises(ValueError, match="Unknown language 'xx'"):
        shl.reading_prompt(tiny_model, "identity", "xx")
    with pytest.raises(ValueError, match="identity prompt repeats"):
        shl.reading_prompt(tiny_model, "description", words=["cat"])
