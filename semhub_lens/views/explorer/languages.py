"""Whose language a token is, and in which order languages get their colours: the same on page, picture and terminal."""

import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.lens.language_tables import SCRIPTS, UNKNOWN, script
from semhub_lens.lens.logit_lens import LensResult

NOT_LETTERS = ("<", "U+")
"""The start of `printable`'s text if it names a token in place of spelling it."""
ALL_SCRIPTS = (*dict.fromkeys(SCRIPTS.values()), "other")
TELLING = frozenset(ALL_SCRIPTS) - {"latin", "other"}
"""Scripts that are shown where the language is not known. Latin would say little."""
FIRST = ("en", "latin")
"""These have the first colour."""


def groups_of(result: LensResult) -> tuple[list[str], Float[Tensor, "token group"]]:
    """The languages of a lens's tokens, with the script in place of "unknown" where it tells something."""
    texts = [text for _, text in result.vocabulary]
    scripts = [UNKNOWN if not text or text.startswith(NOT_LETTERS) else script(text) for text in texts]
    if result.token_languages is None:
        names = sorted({*scripts})
        return names, _one_hot(scripts, names)
    languages, weights = list(result.languages), result.token_languages
    if UNKNOWN not in languages:
        return languages, weights
    told = [one if one in TELLING and one not in languages else UNKNOWN for one in scripts]
    others = sorted({*told} - {UNKNOWN})
    rest = weights[:, languages.index(UNKNOWN), None] * _one_hot(told, [*others, UNKNOWN])
    known = [i for i, name in enumerate(languages) if name != UNKNOWN]
    names = [*(languages[i] for i in known), *others, UNKNOWN]
    return names, torch.cat([weights[:, known], rest], 1)


def kind_of(result: LensResult) -> str:
    """What the groups are: "language", or "script" without a table or with one of scripts."""
    return "script" if {*result.languages} <= {*ALL_SCRIPTS, UNKNOWN} else "language"


def ordered(result: LensResult) -> tuple[list[str], Float[Tensor, "token group"]]:
    """The groups that some stored token has, in the order of their colours, "unknown" last.

    English comes first, then the others by their share of the stored probability.
    """
    names, weights = groups_of(result)
    if "top_ids" in result.measured:
        place = {token: i for i, (token, _) in enumerate(result.vocabulary)}
        rows = torch.tensor([place[token] for token in result.top_ids.flatten().tolist()])
        shares = torch.ones(len(rows))
        if "top_logprobs" in result.measured:
            shares = result.top_logprobs.exp().flatten().nan_to_num(0.0)
        mass = (shares @ weights[rows]).tolist()
    else:
        mass = weights.sum(0).tolist()
    used = [i for i in range(len(names)) if bool((weights[:, i] > 0).any())]
    order = sorted(used, key=lambda i: (names[i] == UNKNOWN, names[i] not in FIRST, -mass[i]))
    return [names[i] for i in order], weights[:, order]


def leading(result: LensResult) -> dict[int, str]:
    """The group of each stored token that has at least half of it; none for "unknown"."""
    names, weights = groups_of(result)
    if not names:
        return {}
    share, which = weights.max(1)
    found = zip(result.vocabulary, share.tolist(), which.tolist(), strict=True)
    return {token: names[i] for (token, _), most, i in found if most >= 0.5 and names[i] != UNKNOWN}


def _one_hot(values: list[str], names: list[str]) -> Float[Tensor, "token group"]:
    rows = [[value == name for name in names] for value in values]
    return torch.tensor(rows).float().reshape(len(values), len(names))
