"""Plain linear probes for `golden.py`: Newton's method in float64, and folds by the public rule."""

import torch
from sklearn.model_selection import StratifiedGroupKFold

C = 0.01
SEED, FOLDS = 3, 3
CLEAR = 1e-3
"""A prediction counts if its margin is larger, so that rounding cannot change it."""
FRAMES = {"en": "The next word is", "es": "La siguiente palabra es"}
NUMBERS = {
    "en": ("two", "three", "four", "five", "six", "seven"),
    "es": ("dos", "tres", "cuatro", "cinco", "seis", "siete"),
}
COLOURS = {
    "en": ("red", "blue", "green", "black", "white", "grey"),
    "es": ("rojo", "azul", "verde", "negro", "blanco", "gris"),
}
KINDS = ["number"] * 6 + ["colour"] * 6


def texts(language):
    """Twelve texts of a language; the same place means the same in both languages."""
    return [f"{FRAMES[language]} {word}" for word in (*NUMBERS[language], *COLOURS[language])]


def fitted(states, truth, steps=200):
    r"""Margins of a standardised, ridge-penalised logistic regression as a function of (centred) states.

    Two classes have the weights u and -u, so the margin is 2 u z, and the penalty of 2 u is 1 / (4 C).
    """
    mean, spread = states.mean(0), states.std(0, correction=0)
    spread = torch.where(spread > 0, spread, 1)
    z = (states - mean) / spread
    gram, bias, alpha = z @ z.T, torch.zeros(1).double(), torch.zeros(len(z)).double()
    for _ in range(steps):
        p = torch.sigmoid(gram @ alpha + bias)
        weight = p * (1 - p)
        top = torch.cat([gram * weight[:, None] + torch.eye(len(z)) / (2 * C), weight[:, None]], 1)
        bottom = torch.cat([weight @ gram, weight.sum()[None]])[None]
        step = torch.linalg.solve(
            torch.cat([top, bottom]), torch.cat([truth - p - alpha / (2 * C), (truth - p).sum()[None]])
        )
        alpha, bias = alpha + step[:-1], bias + step[-1]

    def margins(others, mean=mean):
        return (others - mean) / spread @ z.T @ alpha + bias

    return margins


def probe(states, truth, others=None):
    """Log-probabilities of both classes, for the items of the training or for `others`; one row of states a layer."""
    found = []
    for own, asked in zip(states, states if others is None else others, strict=True):
        margin = fitted(own, truth)(asked)
        found.append(torch.stack([torch.nn.functional.logsigmoid(-margin), torch.nn.functional.logsigmoid(margin)], 1))
    return torch.stack(found)


def folds(truth, groups):
    """The fold of every item: scikit-learn's stratified folds over groups in a random order."""
    order = torch.randperm(len(groups.unique()), generator=torch.Generator().manual_seed(SEED))[groups]
    found, plain = torch.zeros(len(truth), dtype=torch.long), truth.numpy()
    for number, (_, held) in enumerate(StratifiedGroupKFold(FOLDS).split(plain, plain, order.numpy())):
        found[torch.as_tensor(held)] = number
    return found


def predicted(states, truth, others, fold, other_fold, *, own_mean):
    """Classes (0 or 1) `[layer item]`, each by the probe that was fitted without the item's fold."""
    found = torch.zeros(len(states), others.shape[1], dtype=torch.long)
    for layer, (own, asked) in enumerate(zip(states, others, strict=True)):
        for number in range(FOLDS):
            held = other_fold == number
            margins = fitted(own[fold != number], truth[fold != number])
            own_centre = {"mean": asked[~held].mean(0)} if own_mean else {}
            margin = margins(asked[held], **own_centre)
            if margin.abs().min() < CLEAR:
                raise ValueError(f"A margin of {float(margin.abs().min()):.1e} at row {layer}: choose other texts.")
            found[layer, held] = (margin > 0).long()
    return found


def transfer(states):
    """Held-out predictions within and between two languages, and of the language itself.

    `states` are by language `[layer item d_model]`; class 0 is "colour", class 1 is "number".
    """
    truth = torch.tensor([float(kind == "number") for kind in KINDS]).double()
    groups, found = torch.arange(len(truth)), {}
    fold = folds(truth, groups)
    for mean in ("none", "own"):
        found[mean] = [
            [predicted(states[a], truth, states[b], fold, fold, own_mean=mean == "own") for b in FRAMES] for a in FRAMES
        ]
    both, language = torch.cat([states[name] for name in FRAMES], 1), torch.tensor([0.0, 1.0]).repeat_interleave(12)
    of_type = folds(language, groups.repeat(2))
    found["type"] = predicted(both, language.double(), both, of_type, of_type, own_mean=False)
    found["across"] = probe(states["en"], truth, states["es"])
    return found
