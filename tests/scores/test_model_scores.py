"""Perplexity, likelihood of judgement words and damage, against slow sums over the model's own logits."""

import pytest
import torch

import semhub_lens as shl
from semhub_lens import Prompt, SentimentFrame, at
from semhub_lens.data.text.corpora import sentiments
from semhub_lens.data.text.texts import sentences

PROMPTS = ([1, 20, 21, 22, 23], [1, 24], [30, 31, 32, 33, 34, 35, 36], [1, 40, 41])
CONTINUATIONS = ([7, 8, 9], [10], [11, 12, 13, 14, 15, 16], [17, 18])
VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(1))
WORDS = SentimentFrame(" is", good=("red", "green"), bad=("blue",))
TEXTS = ["three plus two", "dog", "one two three four five six"]


def ragged():
    return [Prompt.from_ids(ids, bos=ids[0] == 1) for ids in PROMPTS]


def own_log_probs(model, ids, hooks=()):
    with torch.no_grad():
        logits = model.run_with_hooks(torch.tensor([list(ids)]), fwd_hooks=list(hooks), return_type="logits")
    return logits[0].double().log_softmax(-1)


def perplexity(model, prompts, continuations):
    return shl.continuation_perplexity(model, prompts, continuations, progress=False)


def damage(model, prompts, hooks, **settings):
    return shl.kl_to_clean(model, prompts, hooks, progress=False, **settings)


def steer(strength, positions=None, layer=1):
    return at(layer, shl.hooks.add(VECTOR, strength=strength, positions=positions), site="resid_post")


def own_steer(strength, positions=slice(None), layer=1):
    def edit(activation, hook):
        activation = activation.clone()
        activation[:, positions] += strength * VECTOR
        return activation

    return [(f"blocks.{layer}.hook_resid_post", edit)]


def own_divergence(model, ids, hooks):
    """KL(clean || steered) at every position, from two full runs."""
    clean, steered = own_log_probs(model, ids), own_log_probs(model, ids, hooks)
    return (clean.exp() * (clean - steered)).sum(-1).float()


def test_log_perplexity_is_the_mean_negative_log_probability_of_the_continuations_tokens(tiny_model):
    expected = []
    for prompt, new in zip(PROMPTS, CONTINUATIONS, strict=True):
        log_probs = own_log_probs(tiny_model, prompt + new)
        expected.append(-sum(log_probs[len(prompt) - 1 + i, token] for i, token in enumerate(new)) / len(new))
    found = perplexity(tiny_model, ragged(), CONTINUATIONS)
    torch.testing.assert_close(found, torch.stack(expected).float(), atol=1e-5, rtol=1e-5)


def test_perplexity_of_a_whole_text_is_exp_of_the_models_own_loss(tiny_model):
    tokens = torch.tensor([[1, *CONTINUATIONS[2], *CONTINUATIONS[0]]])
    with torch.no_grad():
        loss = tiny_model(tokens, return_type="loss")
    found = perplexity(tiny_model, Prompt.from_ids([1], bos=True), [tokens[0, 1:].tolist()])
    torch.testing.assert_close(found.exp()[0], loss.exp().float(), atol=1e-4, rtol=1e-5)


def test_perplexity_of_a_prompt_does_not_depend_on_the_others(tiny_model):
    together = perplexity(tiny_model, ragged(), CONTINUATIONS)
    alone = [perplexity(tiny_model, p, [new]) for p, new in zip(ragged(), CONTINUATIONS, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(perplexity(tiny_model, ragged()[::-1], CONTINUATIONS[::-1]), together.flip(0))


def test_the_blocks_of_the_unembedding_do_not_change_the_scores(tiny_model, monkeypatch):
    whole = perplexity(tiny_model, ragged(), CONTINUATIONS), damage(tiny_model, ragged(), steer(2.0))
    monkeypatch.setattr("semhub_lens.scores.final_states.BLOCK_ENTRIES", 2 * tiny_model.cfg.d_vocab)
    pieces = perplexity(tiny_model, ragged(), CONTINUATIONS), damage(tiny_model, ragged(), steer(2.0))
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


def test_generated_tokens_count_and_not_what_their_text_would_be_split_into(tiny_model):
    texts = ["three plus", "dog cat two"]
    two = tiny_model.tokenizer("two")["input_ids"][-1]  # without a space: the text "twotwo" is one unknown token
    prompts = [Prompt.from_text(tiny_model, text) for text in texts]
    written = shl.generate(tiny_model, texts, max_new_tokens=5, progress=False)
    ids = ((two, two), written.token_ids[1])
    spelled = tuple(tiny_model.tokenizer.decode(i) for i in ids)
    again = shl.Generation(tuple(texts), spelled, ids, provenance=written.provenance)
    assert again.texts[0] == "twotwo"
    by_generation = perplexity(tiny_model, texts, again)
    assert torch.equal(by_generation, perplexity(tiny_model, prompts, ids))
    assert not torch.isclose(by_generation[0], perplexity(tiny_model, texts, again.texts)[0], atol=1e-2)


def test_an_empty_continuation_has_no_perplexity(tiny_model):
    found = perplexity(tiny_model, ragged()[:3], [[], CONTINUATIONS[1], []])
    assert found.isnan().tolist() == [True, False, True]
    torch.testing.assert_close(found[1:2], perplexity(tiny_model, ragged()[1], [CONTINUATIONS[1]]))
    assert perplexity(tiny_model, ["dog"], [""]).isnan().all()


def test_damage_is_the_mean_divergence_over_all_positions_but_bos(tiny_model):
    hooks = steer(3.0)
    found = damage(tiny_model, ragged(), hooks)
    every = [own_divergence(tiny_model, ids, own_steer(3.0)) for ids in PROMPTS]
    expected = [kl[int(ids[0] == 1) :].mean() for kl, ids in zip(every, PROMPTS, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)
    assert bool((found > 0.01).all())
    last = damage(tiny_model, ragged(), hooks, read_at="last")
    torch.testing.assert_close(last, torch.stack([kl[-1] for kl in every]), atol=1e-5, rtol=1e-4)
    listed = damage(tiny_model, ragged(), hooks, read_at=[[0], [0, 1], [2, 4], [-1]])
    chosen = [kl[provenance].mean() for kl, provenance in zip(every, ([0], [0, 1], [2, 4], [-1]), strict=True)]
    torch.testing.assert_close(listed, torch.stack(chosen), atol=1e-5, rtol=1e-4)


def test_damage_is_the_divergence_from_the_clean_model_and_not_the_other_way_round(tiny_model):
    ids = PROMPTS[0]
    clean, steered = own_log_probs(tiny_model, ids), own_log_probs(tiny_model, ids, own_steer(3.0))
    reverse = (steered.exp() * (steered - clean)).sum(-1)[1:].mean()
    assert abs(float(damage(tiny_model, ragged()[0], steer(3.0))) - float(reverse)) > 0.01


@pytest.mark.parametrize("layer", [0, 2])
def test_strength_zero_does_exactly_no_damage(tiny_model, layer):
    assert torch.equal(damage(tiny_model, ragged(), steer(0.0, layer=layer)), torch.zeros(4))
    assert bool((damage(tiny_model, ragged(), steer(1.0, layer=layer)) > 0).all())
    assert torch.equal(damage(tiny_model, ragged(), []), torch.zeros(4))


def test_an_edit_of_the_last_position_damages_that_position_alone(tiny_model):
    prompts = [prompt for prompt in ragged() if len(prompt) > 2]
    hooks = steer(3.0, positions=-1)
    counted = torch.tensor([len(p) - int(p.bos) for p in prompts])
    everywhere, last = damage(tiny_model, prompts, hooks), damage(tiny_model, prompts, hooks, read_at="last")
    torch.testing.assert_close(everywhere * counted, last, atol=1e-5, rtol=1e-4)


def test_damage_to_a_prompt_does_not_depend_on_the_others(tiny_model):
    hooks = steer(2.0, positions=0)
    together = damage(tiny_model, ragged(), hooks)
    alone = [damage(tiny_model, prompt, hooks) for prompt in ragged()]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_judgement_is_the_final_layers_log_odds_after_the_frame(tiny_model):
    found = shl.likelihood_sentiment(tiny_model, TEXTS, "en", frame=WORDS, progress=False)
    lens = shl.target_lens(
        tiny_model, [f"{text} is" for text in TEXTS], [[["red", "green"], "blue"]] * 3, variants="space", progress=False
    )
    torch.testing.assert_close(found, lens.log_probs[-1, :, 0] - lens.log_probs[-1, :, 1], atol=1e-5, rtol=1e-5)
    for text, score in zip(TEXTS, found, strict=True):
        ids = tiny_model.tokenizer(text + " is", add_special_tokens=False)["input_ids"]
        probs = own_log_probs(tiny_model, [tiny_model.tokenizer.bos_token_id, *ids])[-1].exp()
        of = {
            w: probs[tiny_model.tokenizer.convert_tokens_to_ids([w, "▁" + w])].sum() for w in ("red", "green", "blue")
        }
        torch.testing.assert_close(score, ((of["red"] + of["green"]) / of["blue"]).log().float(), atol=1e-4, rtol=1e-4)


def test_exchanging_good_and_bad_words_turns_the_sign(tiny_model):
    turned = SentimentFrame(WORDS.frame, good=WORDS.bad, bad=WORDS.good)
    scores = [shl.likelihood_sentiment(tiny_model, TEXTS, "en", frame=f, progress=False) for f in (WORDS, turned)]
    torch.testing.assert_close(scores[0], -scores[1])


def test_a_blank_text_is_not_judged(tiny_model):
    found = shl.likelihood_sentiment(tiny_model, ["dog", " "], "en", frame=WORDS, progress=False)
    assert found.isnan().tolist() == [False, True]


BAD = {
    "unequal numbers": (lambda m: perplexity(m, ["dog"], ["cat", "cat"]), "each of 1 prompts, got 2"),
    "one text": (lambda m: perplexity(m, "dog", "cat"), "put it into a list"),
    "foreign token": (lambda m: perplexity(m, ["dog"], [[69]]), "id 69 is outside"),
    "past the context": (lambda m: perplexity(m, ["dog"], [[5] * 63]), "65 tokens"),
    "a hook behind the last block": (
        lambda m: damage(m, "dog", [("unembed.hook_out", lambda activation, hook: None)]),
        "come after the last block",
    ),
    "an unknown hook": (lambda m: damage(m, "dog", steer(1.0, layer=7)), "no hook point"),
    "a position that is not there": (lambda m: damage(m, "dog", steer(1.0), read_at=9), "past the end"),
    "no positions": (lambda m: damage(m, ["dog"], steer(1.0), read_at=[[]]), "one or more positions"),
    "a language without frame": (lambda m: shl.likelihood_sentiment(m, "dog", "eo"), "only for en, fr, es, de, zh"),
    "a word of several tokens": (lambda m: shl.likelihood_sentiment(m, "dog", "en"), "not a single token"),
    "a word on both sides": (
        lambda m: shl.likelihood_sentiment(m, "dog", "en", frame=SentimentFrame(" is", ("red",), ("blue", "red"))),
        "on both sides",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_the_model_runs(tiny_model, case, monkeypatch):
    call, message = BAD[case]
    monkeypatch.setattr("semhub_lens.scores.final_states.prompt_states", None)
    with pytest.raises(ValueError, match=message):
        call(tiny_model)


def test_continuations_of_other_prompts_are_refused(tiny_model):
    written = shl.generate(tiny_model, ["dog", "cat"], max_new_tokens=2, progress=False)
    with pytest.raises(ValueError, match="generated from other prompts: 'dog', not 'cat'"):
        perplexity(tiny_model, ["cat", "dog"], written)


@pytest.mark.real
@pytest.mark.slow
def test_gemma_finds_the_rest_of_a_sentence_less_surprising_than_that_of_another(one_gemma):
    halves = [text.split(" ", 5) for text in sentences()["en"][:40] if text.count(" ") > 6]
    prompts, rest = [" ".join(half[:5]) for half in halves], [" " + half[5] for half in halves]
    own, other = perplexity(one_gemma, prompts, rest), perplexity(one_gemma, prompts, rest[1:] + rest[:1])
    assert (own < other).float().mean() > 0.8


@pytest.mark.real
@pytest.mark.slow
def test_gemma_sees_more_damage_the_stronger_the_steering(one_gemma):
    vector = torch.randn(one_gemma.cfg.d_model, generator=torch.Generator().manual_seed(0))
    texts = sentences()["en"][:8]
    scores = [damage(one_gemma, texts, at(10, shl.hooks.add(vector, strength=s))) for s in (0.0, 10.0, 100.0)]
    assert torch.equal(scores[0], torch.zeros(8))
    assert bool((scores[1] > 0).all()) and bool((scores[2] > scores[1]).all())


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_gemma_judges_praise_better_than_blame(one_gemma, language):
    rows = [row for row in sentiments() if row.language == language]
    rows = [*rows[:20], *rows[-20:]]
    scores = shl.likelihood_sentiment(one_gemma, [row.text for row in rows], language, progress=False)
    positive = torch.tensor([row.positive for row in rows])
    assert positive.sum() == 20
    auc = (scores[positive][:, None] > scores[~positive]).float().mean()
    assert auc > 0.7  # .5 and two standard errors (.09) of a score that knows nothing
