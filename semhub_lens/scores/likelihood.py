r"""Scores of continuations by the model itself: their perplexity, and the sentiment words that would follow them.

$$\log \mathrm{PPL}(c \mid x) = -\frac{1}{|c|} \sum_t \log p(c_t \mid x, c_{<t})$$

`continuation_perplexity` is low for text that the model finds ordinary, so also for endless repetition: read the texts.
`likelihood_sentiment` uses the judgement of the model that wrote the text, with all its blind spots. Use the unsteered
model for both, with no hooks attached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.inputs.given import Prompts
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.inputs.tokens import encode_behind, target_ids
from semhub_lens.lens.kernel import reduce_logits
from semhub_lens.model.facts import Model, require_model
from semhub_lens.model.generation import Generation
from semhub_lens.model.readout import Readout
from semhub_lens.model.reads import read_positions
from semhub_lens.model.resolve import as_prompts
from semhub_lens.scores.final_states import last_states, log_probs_of
from semhub_lens.scores.inputs import as_texts


@checked
def continuation_perplexity(
    model: Model,
    prompts: Prompts,
    continuations: Generation | Sequence[str] | Sequence[Sequence[int]],
    *,
    progress: bool = True,
) -> Float[Tensor, " item"]:
    r"""Return the log-perplexity of each continuation given its prompt: mean negative log-likelihood in nats per token.

    $-\frac1n \sum_{t=1}^{n} \log p(c_t \mid x, c_{<t})$ for a prompt x and the tokens $c_1, \dots, c_n$ after it. Its
    `exp` is the perplexity. The prompt's own tokens do not count; a generated end-of-sequence token does. The value
    does not depend on the other prompts. Low perplexity is not quality: repetitive text has low perplexity.

    Args:
        model: the unsteered model, without hooks.
        prompts: texts, `Prompt`s, token ids or chat messages.
        continuations: a `Generation` from these prompts (its tokens are used), or token ids for each prompt, or texts.
            Texts are tokenised separately and put after the prompt. Put the blank between the two at the start of the
            continuation (" two"), not at the end of the prompt. There, most tokenizers make it a separate token, and
            models rarely see a word after such a token.
        progress: show a progress bar.

    Returns:
        Log-perplexities in nats; NaN for an empty continuation.

    Raises:
        SemhubError: empty input, unequal numbers of prompts and continuations, a `Generation` from other prompts, or
            more tokens than the model's context allows.

    Example:
        >>> written = generate(tiny_model, ["three plus", "dog"], max_new_tokens=4, progress=False)
        >>> bool((continuation_perplexity(tiny_model, ["three plus", "dog"], written, progress=False) > 0).all())
        True
    """
    listed = as_prompts(model, prompts)
    ids = _continuation_ids(model, listed, continuations)
    whole = [prompt.continued(new) for prompt, new in zip(listed, ids, strict=True)]
    used = [item for item, new in enumerate(ids) if len(new)]
    out = torch.full((len(listed),), torch.nan, dtype=torch.float32)
    if not used:
        return out
    joined = as_prompts(model, [whole[item] for item in used])
    before = [range(len(listed[item]) - 1, len(whole[item]) - 1) for item in used]
    readout = Readout(model)
    states = last_states(model, joined, before, (), progress)
    tokens = torch.tensor([token for item in used for token in ids[item]])
    log_probs = log_probs_of(readout, states, tokens)
    pieces = log_probs.split([len(ids[item]) for item in used])
    out[used] = torch.stack([-piece.mean() for piece in pieces])
    return out


def _continuation_ids(
    model: Model, prompts: list[Prompt], continuations: Generation | Sequence[str] | Sequence[Sequence[int]]
) -> list[list[int]]:
    if isinstance(continuations, str):
        raise SemhubError("Expected a continuation for each prompt, got one text; put it into a list.")
    listed = continuations.token_ids if isinstance(continuations, Generation) else list(continuations)
    if len(listed) != len(prompts):
        raise SemhubError(f"Expected a continuation for each of {len(prompts)} prompts, got {len(listed)}.")
    if isinstance(continuations, Generation):
        for prompt, text in zip(prompts, continuations.prompts, strict=True):
            if prompt.text and text and prompt.text != text:
                raise SemhubError(
                    f"The continuations were generated from other prompts: {text!r}, not {prompt.text!r}."
                )
    if any(isinstance(new, str) for new in listed) and model.tokenizer is None:
        raise Unfit("The model has no tokenizer; pass the continuations as token ids.")
    return [encode_behind(model.tokenizer, new) if isinstance(new, str) else [int(i) for i in new] for new in listed]


@checked
@dataclass(frozen=True)
class SentimentFrame:
    """A short text that makes the model judge a text with the next word, and words for either judgement.

    `likelihood_sentiment` takes it.
    """

    frame: str
    good: tuple[str, ...]
    bad: tuple[str, ...]


FRAMES: Mapping[str, SentimentFrame] = {
    "en": SentimentFrame(" All in all, this is", ("good", "great", "excellent"), ("bad", "terrible", "awful")),
    "fr": SentimentFrame(" Dans l'ensemble, c'est", ("bon", "bien", "excellent"), ("mauvais", "nul", "horrible")),
    "es": SentimentFrame(" En conjunto, esto es", ("bueno", "genial", "excelente"), ("malo", "terrible", "horrible")),
    "de": SentimentFrame(" Insgesamt ist das", ("gut", "toll"), ("schlecht", "mies")),
    "zh": SentimentFrame("总的来说，这很", ("好", "棒", "精彩"), ("差", "糟", "糟糕")),
}
"""Chosen before any measurement: plain words of judgement that are single tokens in a large multilingual vocabulary."""


@checked
def likelihood_sentiment(
    model: Model,
    texts: str | Sequence[str],
    language: str,
    *,
    frame: SentimentFrame | None = None,
    progress: bool = True,
) -> Float[Tensor, " item"]:
    r"""Return the log odds of words of praise against words of blame after each text, in nats.

    $$s(x) = \log \sum_{w \in \text{good}} p(w \mid x, f) - \log \sum_{w \in \text{bad}} p(w \mid x, f)$$

    f is a short frame in the text's language ("All in all, this is"). The zero point is arbitrary: it depends on frame
    and words. So compare only texts in the same language.

    Args:
        model: the unsteered model, without hooks.
        texts: the texts.
        language: selects frame and words; en, fr, es, de or zh.
        frame: your own frame and words, in place of those in `FRAMES`.
        progress: show a progress bar.

    Returns:
        Differences of log-probabilities; NaN for a blank text.

    Raises:
        SemhubError: no texts, a language without frame, a word that is not a single token of the model, or one token on
            both sides.

    Example:
        >>> words = SentimentFrame(" is", good=("red",), bad=("blue",))
        >>> likelihood_sentiment(tiny_model, "dog", "en", frame=words, progress=False).shape
        torch.Size([1])
    """
    require_model(model)
    listed = as_texts(texts)
    if frame is None and language not in FRAMES:
        raise SemhubError(
            f"There is no frame for {language!r}, only for {', '.join(FRAMES)}. Pass your own with frame=."
        )
    chosen = frame or FRAMES[language]
    good, bad = (target_ids(model.tokenizer, words, variants="space") for words in (chosen.good, chosen.bad))
    if both := set(good) & set(bad):
        raise SemhubError(
            f"Tokens {sorted(both)} belong to words on both sides, {chosen.good} and {chosen.bad}. Take other words."
        )
    used = [item for item, text in enumerate(listed) if text.strip()]
    out = torch.full((len(listed),), torch.nan, dtype=torch.float32)
    if used:
        framed = as_prompts(model, [listed[item].rstrip() + chosen.frame for item in used])
        last = [read_positions(prompt, "last") for prompt in framed]
        readout = Readout(model)
        states = last_states(model, framed, last, (), progress)
        log_probs = reduce_logits(readout, states[None], ["targets"], targets=[[good, bad]] * len(used))["targets"][0]
        out[used] = log_probs[:, 0] - log_probs[:, 1]
    return out
