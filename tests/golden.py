"""Values of every measure on Gemma 3 270M, by a plain reference: Hugging Face's model in float64, and formulas.

`python tests/golden.py` writes `tests/golden.json` anew (two minutes; needs the packaged weights). Nothing of the
library is used but the packaged folder, the table of scripts and the seeds of what has no formula.
"""

import json
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from golden_concepts import concept_patch
from golden_paths import curves, long, paths
from golden_probes import FRAMES, probe, texts, transfer
from semhub_lens.model.sources import resolve

FILE = Path(__file__).with_name("golden.json")
PROMPTS = ["El color del cielo es", "Three plus two is", "猫在垫子上"]
WORDS = [" blue", " azul", " five"]
CLEAN, CORRUPTED = "The capital of France is", "The capital of Spain is"
RIGHT, WRONG = " Paris", " Madrid"
PAIRS = [
    ("The dog sleeps.", "El perro duerme."), ("I drink water.", "Bebo agua."),
    ("The house is red.", "La casa es roja."), ("She reads a book.", "Ella lee un libro."),
    ("It rains today.", "Hoy llueve."), ("We eat bread.", "Comemos pan."),
]  # fmt: skip
LABELLED = [
    *(f"number {i}" for i in range(6)),
    *(f"colour {c}" for c in ("red", "blue", "green", "black", "white", "grey")),
]
LABELS = ["number"] * 6 + ["colour"] * 6
LAYERS = [0, 6, 12, 18]
CELLS = [(4, 4), (12, 4), (17, 5)]
ENTRY, STRENGTH = 9, 300.0
"""Where steering adds the unembedding row of " blue", and how much of it."""
NEW = 8
READING, SLOT, SCOPED = "dog is dog. cat is cat. sky is", 9, [3, 9, 15]
"""A reading prompt, the position that a state is put into, and the entries that it comes from and goes to."""
FRAME, GOOD, BAD = " All in all, this is", ("good", "great"), ("bad", "terrible")
JUDGED = ["The soup was delicious.", "The soup was cold."]


class Plain:
    """Hugging Face's model in float64; a residual entry is the input of a block, or the last one's output."""

    def __init__(self):
        folder, _ = resolve("gemma-3-270m")
        self.hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.blocks, self.known = self.hf.model.layers, {}

    def ids(self, text):
        return torch.tensor(
            [[self.tokenizer.bos_token_id, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]]
        )

    def token(self, word):
        (only,) = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return only

    @torch.no_grad()
    def run(self, ids, edits=None):
        """What `_run` gives, made once for a plain run."""
        key = tuple(ids[0].tolist())
        if edits:
            return self._run(ids, edits)
        if key not in self.known:
            self.known[key] = self._run(ids, {})
        return self.known[key]

    def _run(self, ids, edits):
        """States `[entry pos d_model]` and log-probabilities `[pos vocab]`; edits are functions by residual entry."""
        kept, handles = {}, []

        def at(entry, state):
            state = edits.get(entry, lambda states: states)(state)
            kept[entry] = state[0]
            return state

        for entry, block in enumerate(self.blocks):
            take = lambda module, args, entry=entry: (at(entry, args[0]), *args[1:])  # noqa: E731
            handles.append(block.register_forward_pre_hook(take))

        def last(module, args, out):
            return (at(len(self.blocks), out[0]), *out[1:]) if isinstance(out, tuple) else at(len(self.blocks), out)

        handles.append(self.blocks[-1].register_forward_hook(last))
        try:
            logits = self.hf(ids, use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack([kept[entry] for entry in range(len(self.blocks) + 1)]), logits.double().log_softmax(-1)

    @torch.no_grad()
    def read(self, states):
        """Log-probabilities of residual states."""
        return self.hf.lm_head(self.hf.model.norm(states)).double().log_softmax(-1)


def divergence(p, q):
    return (p.exp() * (p - q)).sum(-1)


def lens(plain):
    found = []
    for text in PROMPTS:
        states, final = plain.run(plain.ids(text))
        read = plain.read(states[LAYERS, -1])
        top = read.topk(5)
        found.append(
            {
                "top_ids": top.indices, "top_logprobs": top.values, "entropy": -(read.exp() * read).sum(-1),
                "kl_to_final": divergence(final[-1], read), "targets": read[:, [plain.token(word) for word in WORDS]],
            }
        )  # fmt: skip
    return found


def mass(plain, table):
    """Language mass by the table of scripts: mean over all positions but BOS."""
    states, _ = plain.run(plain.ids(PROMPTS[0]))
    return torch.stack([(plain.read(states[layer, 1:]).exp() @ table.double()).mean(0) for layer in LAYERS])


def last_states(plain, texts):
    return torch.stack([plain.run(plain.ids(text))[0][LAYERS, -1] for text in texts], 1)


def similarity(plain):
    a, b = (last_states(plain, [pair[side] for pair in PAIRS])[1:] for side in (0, 1))  # all end in one token
    one, two = (torch.nn.functional.normalize(states, dim=-1) for states in (a, b))
    cosines = one @ two.transpose(1, 2)
    off = ~torch.eye(len(PAIRS), dtype=torch.bool)
    own, other = (torch.nn.functional.normalize(states - states.mean(1, keepdim=True), dim=-1) for states in (a, b))
    centred = own @ other.transpose(1, 2)
    partner = centred.diagonal(dim1=1, dim2=2)
    return {
        "matched": cosines.diagonal(dim1=1, dim2=2), "baseline": cosines[:, off].mean(1),
        "spread": cosines[:, off].std(1, correction=0), "rank_ab": ((centred >= partner[:, :, None]).sum(2) - 1),
        "rank_ba": ((centred >= partner[:, None, :]).sum(1) - 1),
        "centred": partner - centred[:, off].mean(1, keepdim=True),
        "cka": torch.stack([cka(x, y) for x, y in zip(a, b, strict=True)]),
    }  # fmt: skip


def cka(x, y):
    """Debiased linear CKA (Song et al. 2012) of centred states."""

    def hsic(a, b):
        n = len(a)
        a, b = a - torch.diag(a.diag()), b - torch.diag(b.diag())
        cross = a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a.sum(0) * b.sum(0)).sum()
        return ((a * b).sum() + cross) / (n * (n - 3))

    one, other = x @ x.T, y @ y.T
    return hsic(one, other) / (hsic(one, one) * hsic(other, other)).sqrt()


def cosine(plain):
    references = last_states(plain, ["blue", "five"])
    states, _ = plain.run(plain.ids(PROMPTS[0]))
    return torch.nn.functional.cosine_similarity(states[LAYERS, -1][:, None], references, dim=-1)


def patches(plain):
    """The metric of the clean, the corrupted and patched runs: the logit difference at the last position."""
    right, wrong = plain.token(RIGHT), plain.token(WRONG)
    clean, good = plain.run(plain.ids(CLEAN))
    _, bad = plain.run(plain.ids(CORRUPTED))
    found = [good[-1, right] - good[-1, wrong], bad[-1, right] - bad[-1, wrong]]
    for entry, position in CELLS:

        def patched(states, entry=entry, position=position):
            states = states.clone()
            states[0, position] = clean[entry, position]
            return states

        _, read = plain.run(plain.ids(CORRUPTED), {entry: patched})
        found.append(read[-1, right] - read[-1, wrong])
    return torch.stack(found)


def attribution(plain):
    """The metric of the same cells to first order: of the corrupted run, with its gradient along the clean state."""
    right, wrong = plain.token(RIGHT), plain.token(WRONG)
    clean, held = plain.run(plain.ids(CLEAN))[0], {}

    def holding(entry):
        def hold(states):
            held[entry] = states if entry else states.detach().requires_grad_()
            return held[entry]

        return hold

    _, read = plain._run(plain.ids(CORRUPTED), {entry: holding(entry) for entry in range(len(plain.blocks))})
    own = [held[entry] for entry, _ in CELLS]
    metric = read[-1, right] - read[-1, wrong]
    cells = zip(CELLS, own, torch.autograd.grad(metric, own), strict=True)
    effects = [(clean[e, p] - states[0, p].detach()) @ gradient[0, p] for (e, p), states, gradient in cells]
    return metric.detach() + torch.stack(effects)


@torch.no_grad()
def writes(plain):
    """What embedding, attentions and MLPs wrote of a token's logit: through the final norm at its own scale."""
    kept = []
    handles = [
        norm.register_forward_hook(lambda module, args, out: kept.append(out[0, -1]))
        for block in plain.blocks
        for norm in (block.post_attention_layernorm, block.post_feedforward_layernorm)
    ]
    states, _ = plain._run(plain.ids(CLEAN), {})
    for handle in handles:
        handle.remove()
    final, norm = states[-1, -1], plain.hf.model.norm
    gain = (1 + norm.weight) * (final.square().mean() + norm.eps).rsqrt()
    parts = torch.stack([states[0, -1], *kept]) @ (gain * plain.hf.lm_head.weight[plain.token(RIGHT)])
    return {"embedding": parts[0], "attention": parts[1::2], "mlp": parts[2::2], "logit": parts.sum()}


def scope(plain):
    """Words at the end of a reading prompt, with the last state of the first prompt in its slot."""
    states, _ = plain.run(plain.ids(PROMPTS[0]))
    found = []
    for entry in SCOPED:

        def filled(own, entry=entry):
            own = own.clone()
            own[0, SLOT] = states[entry, -1]
            return own

        _, read = plain.run(plain.ids(READING), {entry: filled})
        found.append(read[-1, [plain.token(word) for word in WORDS]])
    return torch.stack(found)


def praise(plain):
    """Log-odds of words of praise and of blame, each with a blank in front and without where that is one token."""
    sides = []
    for words in (GOOD, BAD):
        spelled = [plain.tokenizer(text, add_special_tokens=False)["input_ids"] for w in words for text in (w, f" {w}")]
        sides.append([ids[0] for ids in spelled if len(ids) == 1])
    reads = [plain.run(plain.ids(text + FRAME))[1][-1] for text in JUDGED]
    return torch.stack([read[sides[0]].logsumexp(0) - read[sides[1]].logsumexp(0) for read in reads])


def damage(plain):
    """KL of the steered from the clean run: mean over all positions but BOS."""
    vector = plain.hf.lm_head.weight[plain.token(WORDS[0])].detach()
    found = []
    for text in PROMPTS:
        _, clean = plain.run(plain.ids(text))
        _, steered = plain.run(plain.ids(text), {ENTRY: lambda states: states + STRENGTH * vector})
        found.append(divergence(clean[1:], steered[1:]).mean())
    return torch.stack(found)


def written(plain):
    found = []
    for text in PROMPTS:
        ids = plain.ids(text)
        for _ in range(NEW):
            ids = torch.cat([ids, plain.run(ids)[1][-1].argmax()[None, None]], 1)
        found.append(ids[0, -NEW:])
    return torch.stack(found)


def perplexity(plain):
    """Log-perplexity of " azul" behind the first prompt, and of " five" behind the second."""
    found = []
    for text, word in zip(PROMPTS[:2], WORDS[1:], strict=True):
        found.append(-plain.run(plain.ids(text))[1][-1, plain.token(word)])
    return torch.stack(found)


def values(table):
    plain = Plain()
    numbers = torch.tensor([float(label == "number") for label in LABELS]).double()
    return {
        "lens": lens(plain), "mass": mass(plain, table), "similarity": similarity(plain),
        "probe": probe(last_states(plain, LABELLED), numbers),
        "cosine": cosine(plain), "patches": patches(plain), "damage": damage(plain), "written": written(plain),
        "perplexity": perplexity(plain), "attribution": attribution(plain), "writes": writes(plain),
        "scope": scope(plain), "praise": praise(plain), "curves": curves(plain, plain.ids(PROMPTS[0])),
        "paths": paths(plain, [plain.ids(text) for text in PROMPTS]),
        "long": long(plain, LAYERS), "concepts": [concept_patch(plain, whole) for whole in (False, True)],
        "transfer": transfer({language: last_states(plain, texts(language)) for language in FRAMES}),
    }  # fmt: skip


@cache
def golden():
    return json.loads(FILE.read_text(encoding="utf-8"))


def plain_lists(value):
    if isinstance(value, torch.Tensor):
        return plain_lists(value.tolist())
    if isinstance(value, dict):
        return {name: plain_lists(entry) for name, entry in value.items()}
    return (
        [plain_lists(entry) for entry in value]
        if isinstance(value, list)
        else value
        if isinstance(value, int)
        else float(f"{value:.9g}")
    )


if __name__ == "__main__":
    import semhub_lens as shl

    weights = shl.script_table(shl.load("gemma-3-270m", check=False)).weights
    FILE.write_text(json.dumps(plain_lists(values(weights))) + "\n", encoding="utf-8")
