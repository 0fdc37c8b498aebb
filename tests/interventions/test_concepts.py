"""Concept patching against a loop over plain hooks, identities, and its controls."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens import Prompt
from semhub_lens.data.text.texts import concepts
from semhub_lens.interventions.concept_items import LANGUAGE_NAMES

SOURCES = ("red two is", "house dog plus five is", "one two three four is")
TARGETS = ("cat minus blue is", "three is", "green five equals dog plus is")
SPANS = (("two", "dog plus", "three"), ("minus blue", "three", "dog"))
WORDS = (("two", "2", "red", "cat"), ("five", "5", "blue", "dog"), ("three", "3", "green", "house"))


def prompts(model, texts, spans):
    return [Prompt.from_text(model, text, spans={"word": span}) for text, span in zip(texts, spans, strict=True)]


def patched(model, sources, targets, words=WORDS, **settings):
    return shl.concept_patch(model, sources, targets, words, **{"seed": 0, "progress": False} | settings)


def by_hand(model, states, target, first):
    """Log-probabilities after one target patched from entry `first` on, by one run with plain hooks."""
    position = target.spans["word"][-1]

    def writer(state):
        def write(activation, hook):
            activation = activation.clone()
            activation[0, position] = state
            return activation

        return write

    names = shl.residual_names(model)
    hooks = [(names[entry], writer(states[entry])) for entry in range(first, len(names))]
    with torch.no_grad():
        logits = model.run_with_hooks(target.ids[None], fwd_hooks=hooks, return_type="logits")
    return logits[0, -1].float().log_softmax(-1).cpu()


def states_of(model, prompt):
    """The concept's states at every entry, from TransformerLens's own cache."""
    names = shl.residual_names(model)
    with torch.no_grad():
        _, cache = model.run_with_cache(prompt.ids[None], names_filter=names)
    return torch.stack([cache[name][0, prompt.spans["word"][-1]] for name in names])


def summed(model, log_probs, words):
    ids = [shl.word_tokens(model.tokenizer, word, variants="space").ids for word in words]
    return torch.stack([log_probs[list(i)].logsumexp(0) for i in ids])


def test_all_items_layers_and_sources_equal_a_loop_with_plain_hooks(tiny_model):
    sources, targets = prompts(tiny_model, SOURCES, SPANS[0]), prompts(tiny_model, TARGETS, SPANS[1])
    several = [[sources[0]], sources[:2], sources]
    for given in (sources, several):
        result = patched(tiny_model, given, targets, max_tokens=40)
        for i, target in enumerate(targets):
            group = [given[i]] if isinstance(given[i], Prompt) else given[i]
            states = torch.stack([states_of(tiny_model, prompt) for prompt in group]).mean(0)
            for first in result.layers:
                expected = summed(tiny_model, by_hand(tiny_model, states, target, first), WORDS[i])
                torch.testing.assert_close(result.log_probs[first, i], expected, atol=1e-4, rtol=1e-4)
            clean = summed(tiny_model, by_hand(tiny_model, states, target, len(states)), WORDS[i])
            torch.testing.assert_close(result.unpatched[i], clean, atol=1e-4, rtol=1e-4)
            assert (result.log_probs[0, i] - clean).abs().max() > 0.1
    assert result.averaged == (1, 2, 3)


def test_the_order_of_layers_is_the_one_asked_for(tiny_model):
    sources, targets = prompts(tiny_model, SOURCES, SPANS[0]), prompts(tiny_model, TARGETS, SPANS[1])
    every = patched(tiny_model, sources, targets)
    some = patched(tiny_model, sources, targets, layers=[2, 0])
    assert some.layers == (2, 0)
    torch.testing.assert_close(some.log_probs, every.log_probs[[2, 0]], atol=1e-4, rtol=1e-4)
    assert (every.log_probs[2] - every.log_probs[0]).abs().max() > 0.1


def test_a_prompt_patched_with_itself_changes_nothing_at_any_layer(tiny_model):
    targets = prompts(tiny_model, TARGETS, SPANS[1])
    result = patched(tiny_model, targets, targets)
    torch.testing.assert_close(result.log_probs, result.unpatched.expand_as(result.log_probs), atol=1e-4, rtol=1e-4)
    for control in (result.random_source, result.random_states):
        assert (control - result.log_probs)[:-1].abs().amax((1, 2)).min() > 1e-2


def test_where_only_that_word_differs_the_patch_from_the_embedding_on_is_the_source(tiny_model):
    texts = ["red {} is dog", "one {} plus", "three four {} equals"]
    pairs = [("cat", "blue"), ("two", "house"), ("green", "five")]
    sources = prompts(tiny_model, [t.format(a) for t, (a, _) in zip(texts, pairs, strict=True)], [a for a, _ in pairs])
    targets = prompts(tiny_model, [t.format(b) for t, (_, b) in zip(texts, pairs, strict=True)], [b for _, b in pairs])
    result = patched(tiny_model, sources, targets)
    own = patched(tiny_model, sources, sources).unpatched
    torch.testing.assert_close(result.log_probs[0], own, atol=1e-4, rtol=1e-4)
    assert (result.log_probs[0] - result.unpatched).abs().amax(-1).min() > 0.05
    torch.testing.assert_close(result.log_probs[-1], result.unpatched, atol=1e-4, rtol=1e-4)  # nobody reads it there


def test_the_random_source_is_the_patch_of_another_item(tiny_model):
    sources, targets = prompts(tiny_model, SOURCES, SPANS[0]), prompts(tiny_model, TARGETS, SPANS[1])
    result = patched(tiny_model, sources, targets)
    for i in range(3):
        others = [patched(tiny_model, sources[k:] + sources[:k], targets).log_probs[:, i] for k in (1, 2)]
        distances = [float((result.random_source[:, i] - other).abs().max()) for other in others]
        assert min(distances) < 1e-4 < 1e-2 < max(distances)
    assert not torch.allclose(result.random_states, patched(tiny_model, sources, targets, seed=5).random_states)
    again = patched(tiny_model, sources, targets)
    assert torch.equal(again.random_states, result.random_states)


def test_items_whose_words_share_a_token_are_dropped_and_counted(tiny_model):
    sources, targets = prompts(tiny_model, SOURCES, SPANS[0]), prompts(tiny_model, TARGETS, SPANS[1])
    words = [WORDS[0], ("five", "5", "five", "dog"), WORDS[2]]
    result = patched(tiny_model, sources, targets, words)
    assert (result.items, result.dropped, len(result.words)) == ((0, 2), 1, 2)
    every = patched(tiny_model, sources, targets)
    torch.testing.assert_close(result.log_probs, every.log_probs[:, [0, 2]], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="two items"):
        patched(tiny_model, sources[:2], targets[:2], words[:2])


def test_the_result_survives_a_file_and_its_table_and_figure_hold_its_numbers(tiny_model, tmp_path):
    sources, targets = prompts(tiny_model, SOURCES, SPANS[0]), prompts(tiny_model, TARGETS, SPANS[1])
    result = patched(tiny_model, sources, targets, names=["a", "b", "c", "<d>"])
    loaded = shl.ConceptPatchResult.load(result.save(tmp_path / "patch.safetensors"))
    assert torch.equal(loaded.random_source, result.random_source) and loaded.words == WORDS
    frame = result.to_frame().set_index(["condition", "layer", "item", "target"])
    assert len(frame) == 4 * 4 * 3 * 4
    row = frame.loc[("random source", 2, 1, "c")]
    assert row["word"] == "blue" and row["log_prob"] == pytest.approx(float(result.random_source[2, 1, 2]))
    lines = [trace for trace in shl.figure(result).data if trace.mode == "lines+markers"]
    assert [line.name for line in lines] == ["a", "b", "c", "&lt;d&gt;"] * 4
    assert list(lines[1].y) == pytest.approx(result.probs[:, :, 1].mean(1).tolist())
    assert list(lines[7].y) == pytest.approx(result.random_source[:, :, 3].exp().mean(1).tolist())
    assert list(lines[12].y) == pytest.approx([float(result.unpatched[:, 0].exp().mean())] * 4)


def test_what_does_not_fit_is_refused_before_the_model_runs(tiny_model):
    sources, targets = prompts(tiny_model, SOURCES, SPANS[0]), prompts(tiny_model, TARGETS, SPANS[1])
    with pytest.raises(ValueError, match="one entry per item"):
        patched(tiny_model, sources[:2], targets)
    with pytest.raises(ValueError, match="expected 4"):
        patched(tiny_model, sources, targets, [row[:3] for row in WORDS])
    with pytest.raises(ValueError, match="list of prompts is empty"):
        patched(tiny_model, [sources[0], [], sources[2]], targets)
    with pytest.raises(ValueError, match="residual entries from 0 to 3"):
        patched(tiny_model, sources, targets, layers=[4])
    with pytest.raises(ValueError, match="no span"):
        patched(tiny_model, sources, targets, span="noun")


@pytest.mark.real
def test_translation_items_say_what_they_ask_for(gemma):
    columns = concepts()
    items = shl.translation_items(gemma, [("fr", "zh"), ("en", "zh")], ("de", "es"), n=6, seed=1)
    assert items.names[1:3] == ("source concept, target language (es)", "target concept, source language (zh)")
    for sources, target, words, (a, b) in zip(items.sources, items.targets, items.words, items.concepts, strict=True):
        first, second = columns["en"].index(a), columns["en"].index(b)
        assert words == (columns["zh"][first], columns["es"][first], columns["zh"][second], columns["es"][second])
        for prompt, code, concept in (*zip(sources, ("fr", "en"), (first, first), strict=True), (target, "de", second)):
            word, last = columns[code][concept], prompt.text.splitlines()[-1]
            assert last.startswith(f"{LANGUAGE_NAMES[code]}: {word} - ".replace("中文: ", "中文:")) and last.endswith(
                ":"
            )
            assert prompt.text.count("\n") == 4 and prompt.text.count(f" {word} ") == 1
            assert word in gemma.tokenizer.decode(prompt.ids[list(prompt.spans["word"])])
    used = [name for pair in items.concepts for name in pair]
    assert len(set(used)) == 12
    again = shl.translation_items(gemma, [("fr", "zh"), ("en", "zh")], ("de", "es"), n=6, seed=1)
    assert [p.text for p in again.targets] == [p.text for p in items.targets]
    with pytest.raises(ValueError, match="both ask"):
        shl.translation_items(gemma, [("fr", "es")], ("de", "es"), n=4, seed=0)


def test_a_translation_prompt_marks_its_word_even_where_an_example_repeats_it(tiny_model):
    prompt = shl.translation_prompt(tiny_model, "chat", ("fr", "en"), [("chat rouge", "red cat")])
    assert prompt.text == "Français: chat rouge - English: red cat\nFrançais: chat - English:"
    with pytest.raises(ValueError, match="Unknown language 'xx'"):
        shl.translation_prompt(tiny_model, "chat", ("fr", "xx"), [])


def seen(model, seed, text="three plus two is"):
    """A prompt whose words 1 and 2 are embeddings, as of a picture."""
    plain = Prompt.from_text(model, text)
    vectors = torch.randn(2, model.cfg.d_model, generator=torch.Generator().manual_seed(seed))
    return Prompt.from_ids(plain.ids, spans={"image": (1, 2)}, bos=plain.bos, embeddings={"image": vectors})


def test_a_picture_patched_whole_into_the_same_question_gives_its_own_answer(tiny_model):
    sources, targets = [seen(tiny_model, 0), seen(tiny_model, 1)], [seen(tiny_model, 2), seen(tiny_model, 3)]
    words = WORDS[:2]
    found = patched(tiny_model, sources, targets, words, span="image", whole=True, layers=[0, 1])
    own = patched(tiny_model, sources, sources, words, span="image", whole=True, layers=[0])
    torch.testing.assert_close(found.log_probs[0], own.unpatched, atol=1e-5, rtol=1e-5)
    assert bool((found.log_probs[0] - found.unpatched).abs().max() > 1e-3)
    swapped = patched(tiny_model, sources[::-1], targets, words, span="image", whole=True, layers=[0])
    torch.testing.assert_close(found.random_source[0], swapped.log_probs[0], atol=1e-5, rtol=1e-5)


def test_a_words_state_goes_into_every_position_of_a_picture_and_a_pictures_mean_into_a_word(tiny_model):
    words = prompts(tiny_model, SOURCES[:2], ("two", "plus"))
    pictures = [seen(tiny_model, 0), seen(tiny_model, 1)]
    names, layer = shl.residual_names(tiny_model), 1
    for sources, targets, source_span, span in (
        (words, pictures, "word", "image"),
        (pictures, words, "image", "word"),
    ):
        found = patched(
            tiny_model, sources, targets, WORDS[:2], span=span, source_span=source_span, whole=True, layers=[layer]
        )
        for item, (source, target) in enumerate(zip(sources, targets, strict=True)):
            capture = shl.Capture(tiny_model)
            tiny_model.run_with_hooks(source.ids[None], fwd_hooks=[*source.hooks, *capture.hooks])
            given = capture.result(row=0)[:, list(source.spans[source_span])].mean(1)
            hooks = [
                (names[entry], shl.hooks.replace(given[entry], positions=list(target.spans[span])))
                for entry in range(layer, len(names))
            ]
            with torch.no_grad():
                logits = tiny_model.run_with_hooks(target.ids[None], fwd_hooks=[*target.hooks, *hooks])
            expected = summed(tiny_model, logits[0, -1].float().log_softmax(-1).cpu(), WORDS[item])
            torch.testing.assert_close(found.log_probs[0, item], expected, atol=1e-4, rtol=1e-4)


def test_sources_of_one_item_with_spans_of_other_lengths_are_refused(tiny_model):
    first, second = prompts(tiny_model, SOURCES[:2], SPANS[0][:2])
    with pytest.raises(ValueError, match="spans of 1, 2 positions"):
        patched(tiny_model, [[first, second], [first, first]], [first, second], WORDS[:2], whole=True)
