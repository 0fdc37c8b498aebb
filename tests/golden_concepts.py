"""Plain concept patches for `golden.py`: states of one prompt, written into another at an entry and all later ones."""

import torch

from semhub_lens.interventions.direction import SALT

SEED, FIRST = 5, [0, 9, 17]
"""FIRST: the first patched entries."""
ITEMS = [
    {
        "sources": [
            ("Français: eau - Deutsch: Wasser\nFrançais: le livre - Deutsch:", "le livre"),
            ("Español: casa - Deutsch: Haus\nEspañol: el libro - Deutsch:", "el libro"),
        ],
        "target": ("Français: rouge - English: red\nFrançais: le chien - English:", "le chien"),
        "words": [" Buch", " book", " Hund", " dog"],
    },
    {
        "sources": [("Français: noir - Deutsch: schwarz\nFrançais: eau - Deutsch:", "eau")],
        "target": ("Français: eau - English: water\nFrançais: la maison rouge - English:", "la maison rouge"),
        "words": [" Wasser", " water", " Haus", " house"],
    },
]
"""Prompts with the words to patch; sources of one item have words of equally many tokens."""
CONDITIONS = ("patch", "random source", "random states", "no patch")


def place(text, words):
    """Where the words begin and end in the text."""
    start = text.rindex(words)
    return start, start + len(words)


def positions(plain, text, words):
    """Positions of the words' tokens, by the tokenizer's offsets; BOS is position 0."""
    start, end = place(text, words)
    offsets = plain.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [1 + i for i, (first, last) in enumerate(offsets) if first < end and last > start]


def mean_states(plain, sources, whole):
    """The mean over sources of the states at the words, or at their last token: `[entry k d_model]`."""
    found = []
    for text, words in sources:
        places = positions(plain, text, words)
        found.append(plain.run(plain.ids(text))[0][:, places if whole else places[-1:]])
    return torch.stack(found).mean(0)


def over(states, count):
    """The states over `count` positions: one by one, or their mean at each."""
    return states if states.shape[1] == count else states.mean(1, keepdim=True).expand(-1, count, -1)


def random_like(states, widest):
    """Random states of the same norms; as the library draws them, in float32 and padded to the widest item."""
    shape = (len(states[0]), len(states), widest, states[0].shape[-1])
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(SEED + SALT)).double()
    norms = [item.norm(dim=-1, keepdim=True) / drawn[:, i, : item.shape[1]].norm(dim=-1, keepdim=True)
             for i, item in enumerate(states)]  # fmt: skip
    return [drawn[:, i, : item.shape[1]] * scale for i, (item, scale) in enumerate(zip(states, norms, strict=True))]


def read(plain, item, states, places, first):
    """Log-probabilities of the item's words at the end, patched at the entry `first` and all later ones."""

    def written(entry):
        def write(own):
            own = own.clone()
            own[0, places] = states[entry]
            return own

        return write

    edits = {entry: written(entry) for entry in range(first, len(plain.blocks) + 1)} if states is not None else {}
    _, log_probs = plain.run(plain.ids(item["target"][0]), edits)
    return log_probs[-1, [plain.token(word) for word in item["words"]]]


def concept_patch(plain, whole):
    """By condition, `[first item word]`."""
    places = [positions(plain, *item["target"]) for item in ITEMS]
    places = places if whole else [own[-1:] for own in places]
    concepts = [mean_states(plain, item["sources"], whole) for item in ITEMS]
    states = [over(own, len(own_places)) for own, own_places in zip(concepts, places, strict=True)]
    others = [over(own, len(own_places)) for own, own_places in zip(concepts[::-1], places, strict=True)]
    patches = (states, others, random_like(states, max(map(len, places))), [None] * len(ITEMS))
    return {
        name: torch.stack(
            [
                torch.stack([read(plain, *one, first) for one in zip(ITEMS, patch, places, strict=True)])
                for first in FIRST
            ]
        )
        for name, patch in zip(CONDITIONS, patches, strict=True)
    }
