"""Steered generation: one ragged batch against a loop over prompts with `model.generate` under `model.hooks`.

Both write the same tokens greedily; that they do is checked on the prompts that the peer runs.
"""

import torch

import semhub_lens as shl
from benchmarks.table import Row, as_transformer_lens_makes_it, in_turn
from semhub_lens import Prompt
from semhub_lens.data.text.texts import sentences

PROMPTS, NEW_TOKENS, PEER_PROMPTS = 64, 24, 4
STRENGTH = 20.0


def prompts(model) -> list[Prompt]:
    """The beginnings of bundled sentences in five languages, of 3 to 8 words or characters."""
    texts = [text for column in zip(*sentences().values(), strict=True) for text in column][:PROMPTS]
    cut = [text[: 4 + i % 6] if i % 5 == 4 else " ".join(text.split()[: 3 + i % 6]) for i, text in enumerate(texts)]
    return [Prompt.from_text(model, text) for text in cut]


def steering(model) -> list:
    """An added direction at the first two positions of a middle block."""
    vector = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0))
    fn = shl.hooks.add(vector / vector.norm(), strength=STRENGTH, positions=slice(0, 2))
    return shl.at(model.cfg.n_layers // 2, fn)


def peer(model, prompt: Prompt) -> tuple[int, ...]:
    """TransformerLens's own greedy generation of one prompt, steered, with its KV cache."""
    with torch.no_grad(), model.hooks(fwd_hooks=steering(model)):
        tokens = model.generate(
            prompt.ids[None], max_new_tokens=NEW_TOKENS, do_sample=False, return_type="tokens", verbose=False
        )
    return tuple(tokens[0, len(prompt) :].tolist())


def ours(model, listed: list[Prompt]) -> shl.Generation:
    """The same for all prompts."""
    return shl.generate(model, listed, hooks=steering(model), max_new_tokens=NEW_TOKENS, progress=False)


def measure(model=None) -> list[Row]:
    """Time both on Gemma 3 270M; the peer runs every eighth prompt, and its time is scaled to all of them."""
    model = as_transformer_lens_makes_it(shl.load("gemma-3-270m")) if model is None else model
    listed = prompts(model)
    sample = list(range(0, PROMPTS, PROMPTS // PEER_PROMPTS))
    theirs: list[tuple[int, ...]] = []
    found: list[shl.Generation] = []

    def run_theirs() -> None:
        theirs[:] = [peer(model, listed[i]) for i in sample]

    took = in_turn({"ours": lambda: found.append(ours(model, listed)), "peer": run_theirs}, 1)
    same = sum(found[-1].token_ids[i] == tokens for i, tokens in zip(sample, theirs, strict=True))
    lengths = sorted(map(len, listed))
    note = (
        f"{PROMPTS} prompts of {lengths[0]} to {lengths[-1]} tokens, {NEW_TOKENS} new ones; peer: model.generate under "
        f"model.hooks one by one, timed on {len(sample)} prompts and scaled; same tokens on {same} of these; "
        f"{torch.get_num_threads()} threads"
    )
    return [
        Row("steered generation", took["ours"], took["peer"].times(PROMPTS / len(sample)), bar="3 times", note=note)
    ]
