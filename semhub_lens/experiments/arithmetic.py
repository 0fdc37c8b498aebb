"""Arithmetic: expressions in symbols against words, and number words in the lens."""

import torch

from semhub_lens.activations import residual_stream
from semhub_lens.data import data_hash
from semhub_lens.data.arithmetic import number_word, products, sums
from semhub_lens.experiments.items import sample
from semhub_lens.experiments.shared import Wording, preference_legs
from semhub_lens.legs import ExperimentResult, Leg, make_leg
from semhub_lens.logit_lens import target_lens
from semhub_lens.models import Model, provenance
from semhub_lens.similarity import cosine_matrix
from semhub_lens.stats import FEWEST_ITEMS, paired_contrast

NUMBER_WORDS = Wording(
    data_type="arithmetic",
    control="number words exchanged",
    over_own=("number word over digit", "the lens prefers the English number word over the digit that comes next"),
    over_wrong=("right word over wrong words", "the lens prefers the right number word over other number words"),
    own="digit",
    matched="its number word",
    wrong="other number words",
)


def run_similarity(model: Model, n: int, seed: int, progress: bool = True) -> ExperimentResult:
    """Eq. 1 on "3+2" against "three plus two".

    The exact pair, and other expressions of the same result, are set against different results.
    """
    legs: list[Leg] = []
    for name, every in (("sums", sums()), ("products", products())):
        items = [every[i] for i in sample(len(every), n, seed)]
        symbols = residual_stream(model, [e.symbols for e in items], progress=progress)
        words = residual_stream(model, [e.words for e in items], progress=progress)
        where = provenance(model, data=f"generated {name}", data_hash=data_hash([e.symbols for e in items]), seed=seed)
        matrix = cosine_matrix(symbols, words)
        results = torch.tensor([e.result for e in items])
        same = results[:, None] == results[None]
        exact = torch.eye(len(items), dtype=torch.bool)
        different = mean_where(matrix, ~same)
        curves = {
            "exact pair": matrix[:, exact].mean(1),
            "same result": mean_where(matrix, same & ~exact).nanmean(1),
            "different result": different.mean(1),
        }
        settings = {
            "data_type": "arithmetic",
            "kind": "similarity",
            "unit": "cosine",
            "curves": curves,
            "curve_unit": "cosine",
            "provenance": where,
            "seed": seed,
        }
        effect, draw = paired_contrast(matrix, torch.arange(len(items)), different)
        legs.append(
            make_leg(
                effect,
                draw,
                title=f"{name}: the same expression",
                control="partners exchanged at random",
                claim="an expression lies closer to its own words than to words of another result",
                **settings,
            )
        )
        paired = (same & ~exact).any(1)
        if int(paired.sum()) < FEWEST_ITEMS:
            continue
        values = results[paired].unique()
        key = torch.searchsorted(values, results[paired])
        others = torch.stack(
            [mean_where(matrix[:, paired], ((results == value)[None] & ~exact[paired])) for value in values], -1
        )
        effect, draw = paired_contrast(others, key, different[:, paired])
        legs.append(
            make_leg(
                effect,
                draw,
                title=f"{name}: another expression of the same result",
                control="results exchanged at random",
                claim="an expression lies closer to words of its result than of another",
                **settings,
            )
        )
    notes = (
        "Expressions that share an operand share words and digits: only the second leg of each kind is free of the "
        "exact overlap.",
    )
    return ExperimentResult(
        "arithmetic.similarity", "symbols against words", tuple(legs), notes, provenance=legs[0].provenance
    )


def mean_where(matrix: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of each row's masked entries, `[layer item]`; NaN where a row has none."""
    return (matrix * mask).sum(-1) / mask.sum(-1)


def run_logit_lens(model: Model, n: int, seed: int, progress: bool = True) -> ExperimentResult:
    """Eq. 2 on "5=3+": does the lens prefer the number word " two" over the digit "2", and over other number words?"""
    every = sums()
    items = [every[i] for i in sample(len(every), n, seed)]
    prompts = [f"{e.result}={e.first}+" for e in items]
    digits = [str(e.second) for e in items]
    words = [number_word(number) for number in range(1, 10)]
    found = target_lens(model, prompts, [[digit, *words] for digit in digits], progress=progress).log_probs
    own, listed = found[..., 0], found[..., 1:]
    key = torch.tensor([e.second - 1 for e in items])
    where = provenance(model, norm="final", data="generated sums", data_hash=data_hash(prompts), seed=seed)
    legs = preference_legs(own, listed, key, NUMBER_WORDS, where, seed)
    notes = ("The right answer's word can only be preferred where the model can add: compare the digit's own curve.",)
    return ExperimentResult(
        "arithmetic.logit_lens", f"{len(items)} sums with the answer missing", legs, notes, provenance=where
    )
