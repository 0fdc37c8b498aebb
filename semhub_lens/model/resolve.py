"""What a user passes as prompts, turned into prompts that fit the model."""

from collections.abc import Sequence
from dataclasses import replace

from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.inputs.framing import opens, require_unpadded
from semhub_lens.inputs.prompts import Prompt
from semhub_lens.model.facts import Model, require_media, require_model


def as_prompts(model: Model, prompts: "str | Prompt | Sequence[str | Prompt]") -> list[Prompt]:
    """Turn what a user passes (a text, a `Prompt`, or several) into prompts.

    Raises:
        SemhubError: an empty list, an entry that is neither text nor `Prompt`, token ids with padding.
    """
    require_model(model)
    if not isinstance(prompts, str | Prompt | Sequence):
        raise SemhubError(f"Expected a text, a Prompt or a list of them, got {type(prompts).__name__}.")
    listed = [prompts] if isinstance(prompts, str | Prompt) else list(prompts)
    if not listed:
        raise SemhubError("The list of prompts is empty; give at least one text or Prompt.")
    for entry in listed:
        if not isinstance(entry, str | Prompt):
            raise SemhubError(
                f"A prompt must be a str or a Prompt, got {type(entry).__name__}; for token ids use Prompt.from_ids."
            )
    built = [entry if isinstance(entry, Prompt) else Prompt.from_text(model, entry) for entry in listed]
    for prompt in built:
        _check_fits(model, prompt)
    return [prompt if prompt.bos is not None else _looked_at(model, prompt) for prompt in built]


def _looked_at(model: Model, prompt: Prompt) -> Prompt:
    return replace(prompt, bos=opens(getattr(model, "tokenizer", None), int(model.cfg.d_vocab), int(prompt.ids[0])))


def _check_fits(model: Model, prompt: Prompt) -> None:
    vocabulary, context = int(model.cfg.d_vocab), int(model.cfg.n_ctx)
    outside = prompt.ids[(prompt.ids < 0) | (prompt.ids >= vocabulary)]
    if len(outside):
        raise SemhubError(f"Token id {int(outside[0])} is outside the model's vocabulary of {vocabulary}.")
    if len(prompt) > context:
        raise Unfit(f"The prompt has {len(prompt)} tokens, the model's context holds {context}; shorten it.")
    if prompt.text is None and prompt.media is None and getattr(model, "tokenizer", None) is not None:
        require_unpadded(model.tokenizer, prompt.ids.tolist())
    if prompt.media is not None:
        require_media(model)
    for name, vectors in prompt.embeddings.items():
        if vectors.shape[1] != int(model.cfg.d_model):
            raise SemhubError(
                f"The embeddings {name!r} have {vectors.shape[1]} entries, the model's states {model.cfg.d_model}: "
                "they were made for another model."
            )
