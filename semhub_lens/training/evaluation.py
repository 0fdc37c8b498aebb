r"""How often the language model gives the right name after a spoke's prompt, over its full vocabulary.

The rank of an item is read at the last position of a prompt such as `<image> This is a picture of a`. It is the number
of tokens with a higher logit than the best of its accepted tokens. **First-token rule**: the first tokens of all names
of the item in the prompt's language are accepted, with and without a leading space. They count as written, in lower
case and capitalized; `single` marks items whose first name is one token. There are three chance levels. `blind` uses
the same prompt with the mean vectors of all items, which measures the template alone. `mismatched` uses the right
tokens of another item. The third is a projector trained on shuffled pairs (`TrainingSettings.shuffle_pairs`), which
needs its own training.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, Unfit
from semhub_lens.base.results import Result, check_finite
from semhub_lens.base.rng import derangement, generator
from semhub_lens.data.media.items import MediaItem
from semhub_lens.evidence.stats import Interval, grouped_bootstrap_mean
from semhub_lens.inputs.tokens import Speller, encode, is_single_token, printable, spellings
from semhub_lens.model.facts import Model, provenance_of, require_model
from semhub_lens.model.readout import Readout
from semhub_lens.spokes.layout import layout, require_templates
from semhub_lens.spokes.projector import Projector
from semhub_lens.training.frozen import FrozenModel, frozen, padded
from semhub_lens.training.sampler import GLUED

BATCH = 16
LEVELS = ("rank", "blind", "mismatched")


@dataclass(frozen=True, eq=False)
class SpokeEvaluation(Result):
    """Rank of the right name of every item."""

    rank: Float[Tensor, " item"]
    """Number of tokens before the best accepted one; 0 is top-1."""
    blind: Float[Tensor, " item"]
    """The same with the mean vectors in place of the item's vectors."""
    mismatched: Float[Tensor, " item"]
    """Rank of another item's accepted tokens (of another concept) in this item's prediction."""
    single: Bool[Tensor, " item"]
    """Whether the item's first name is a single token."""
    keys: tuple[str, ...] = field(kw_only=True)
    splits: tuple[str, ...] = field(kw_only=True)
    styles: tuple[str, ...] = field(kw_only=True)
    concepts: tuple[str, ...] = field(kw_only=True)
    names: tuple[str, ...] = field(kw_only=True)
    predicted: tuple[str, ...] = field(kw_only=True)
    """The most probable token."""
    languages: tuple[str, ...] = field(kw_only=True)
    """The language of each item's prompt."""
    seed: int = field(kw_only=True, default=0)

    def accuracy(
        self,
        k: int,
        split: str,
        *,
        style: str | None = None,
        language: str | None = None,
        level: str = "rank",
        single: bool = False,
    ) -> Interval:
        """Share of items with an accepted token among the k most probable, with a 95 % bootstrap over concepts.

        Args:
            k: 1 for top-1.
            split: "train", "new_item", "new_style", "new_concept" or "choosing" (see `Split`).
            style: only items of that style.
            language: only items with a prompt in that language.
            level: "rank", or the chance levels "blind" and "mismatched".
            single: only items whose name is one token.

        Raises:
            SemhubError: the level is unknown, or there are no such items.
        """
        if level not in LEVELS:
            raise SemhubError(f"Unknown level {level!r}; expected one of {', '.join(LEVELS)}.")
        chosen = self._chosen(split, style, language, single)
        return self._mean((getattr(self, level)[chosen] < k).float(), chosen)

    def beyond(
        self,
        other: "SpokeEvaluation",
        k: int,
        split: str,
        *,
        style: str | None = None,
        language: str | None = None,
        single: bool = False,
    ) -> Interval:
        """Accuracy minus that of another evaluation (such as the null's), paired over the same items.

        Raises:
            SemhubError: there are no such items, or the other evaluation lacks some.
        """
        chosen = self._chosen(split, style, language, single)
        place = {key: i for i, key in enumerate(other.keys)}
        missing = [self.keys[i] for i in chosen if self.keys[i] not in place]
        if missing:
            raise SemhubError(
                f"The other evaluation lacks {len(missing)} of {len(chosen)} items, such as {missing[0]!r}."
            )
        theirs = other.rank[[place[self.keys[i]] for i in chosen]]
        return self._mean((self.rank[chosen] < k).float() - (theirs < k).float(), chosen)

    def _chosen(self, split: str, style: str | None, language: str | None, single: bool) -> list[int]:
        wanted = (split, style, language, True if single else None)
        marks = zip(self.splits, self.styles, self.languages, self.single.tolist(), strict=True)
        chosen = [i for i, own in enumerate(marks) if all(w in (None, o) for w, o in zip(wanted, own, strict=True))]
        if not chosen:
            raise SemhubError(
                f"There are no items in the split {split!r}"
                + "".join(f", {what} {value!r}" for what, value in (("style", style), ("language", language)) if value)
                + "."
            )
        return chosen

    def _mean(self, values: Float[Tensor, " chosen"], chosen: Sequence[int]) -> Interval:
        listed = sorted({self.concepts[i] for i in chosen})
        groups = torch.tensor([listed.index(self.concepts[i]) for i in chosen])
        return grouped_bootstrap_mean(values[None], groups, seed=self.seed)

    def to_frame(self) -> pd.DataFrame:
        """A table with one row for each item."""
        columns = {name: getattr(self, name).numpy() for name in (*LEVELS, "single")}
        listed = ("keys", "splits", "styles", "languages", "concepts", "names", "predicted")
        texts = {name: getattr(self, name) for name in listed}
        return pd.DataFrame(texts | columns)

    def summary(self) -> pd.DataFrame:
        """Top-1 and top-5 by split, style and language, with intervals and chance levels."""
        marks = list(zip(self.splits, self.styles, self.languages, strict=True))
        sets = {(split, style, None) for split, style, _ in marks} | {(split, None, code) for split, _, code in marks}
        sets |= {(split, None, None) for split, _, _ in marks}
        rows = []
        for split, style, language in sorted(sets, key=lambda one: tuple(part or "" for part in one)):
            which = {"style": style or "all", "language": language or "all"}
            count = len(self._chosen(split, style, language, False))
            for k in (1, 5):
                found = {
                    level: self.accuracy(k, split, style=style, language=language, level=level) for level in LEVELS
                }
                own = found.pop("rank")
                row = {"accuracy": own.mean, "low": own.low, "high": own.high} | {n: v.mean for n, v in found.items()}
                row = {name: float(value) for name, value in row.items()} | {"items": count}
                rows.append({"split": split} | which | {"k": k} | row)
        return pd.DataFrame(rows)


def accepted(model: Model, names: Iterable[str]) -> tuple[int, ...]:
    """First tokens of all spellings of names, without blank and unknown tokens."""
    tokenizer, found = model.tokenizer, {}
    speller = Speller(tokenizer)
    for name in names:
        for text in spellings(name):
            first = encode(tokenizer, text)[0]
            if first != tokenizer.unk_token_id and (speller.content(first) or b"").strip():
                found[first] = text
    if not found:
        raise Unfit(f"In this model's vocabulary, no token starts any of the names {tuple(names)}.")
    return tuple(found)


def asked_in(item: MediaItem) -> str:
    """The language of an item's prompt: English if it has an English name, else its first language."""
    return "en" if "en" in item.names else next(iter(item.names))


@checked
def evaluate(
    model: Model,
    projector: Projector,
    features: Float[Tensor, "item chunk d"],
    items: Sequence[MediaItem],
    splits: Sequence[str],
    *,
    templates: Mapping[str, str],
    modality: str,
    seed: int = 0,
) -> SpokeEvaluation:
    """Rank the names of items in the language model's own predictions.

    Args:
        model: the language model.
        projector: a trained projector.
        features: features of the unchanged items.
        items: pictures or sounds with names.
        splits: the split of each item, such as "new_concept".
        templates: by language, a text with a placeholder. An item's prompt is in English if it has an English name,
            else in the first of its languages.
        modality: "image" or "audio".
        seed: seed of the mismatched pairs and the bootstrap.

    Raises:
        SemhubError: the numbers of items, features and splits differ, there are fewer than two items, an item has no
            name or no template, or the projector does not take the features.

    Example:
        >>> ask = {"modality": "image", "templates": {"en": "<image> This is a picture of a"}}  # doctest: +SKIP
        >>> tested = evaluate(model, projector, seen[:, 0], items, splits, **ask)  # doctest: +SKIP
    """
    if not len(items) == len(features) == len(splits) or len(items) < 2:
        raise SemhubError(
            f"Expected features and a split for each of at least 2 items, got {len(items)} items, {len(features)} "
            f"features, {len(splits)} splits."
        )
    require_model(model)
    require_templates({code: [text] for code, text in templates.items()}, modality)
    shape = projector.shape
    if features.shape[1:] != (shape.chunks, shape.d_in):
        raise SemhubError(
            f"The projector takes features [item chunk d] with {shape.chunks} chunks of {shape.d_in} numbers, got the "
            f"shape {tuple(features.shape)}."
        )
    check_finite(features, "features=")
    if nameless := [item.key for item in items if not any(item.names.values())]:
        raise SemhubError(f"Every item needs a name; {nameless[0]!r} has none.")
    languages = [asked_in(item) for item in items]
    if missing := sorted(set(languages) - set(templates)):
        raise SemhubError(
            f"templates= has {', '.join(templates) or 'none'}, but items have names in {', '.join(missing)}."
        )
    right = [accepted(model, item.names[code]) for item, code in zip(items, languages, strict=True)]
    other = derangement(len(items), generator(seed))
    with torch.no_grad():
        vectors = projector(features.float())
        texts = [templates[code] for code in languages]
        ranks, tops = _ranks(model, vectors, texts, modality, [right, [right[i] for i in other]])
        blind = _blind(model, vectors.mean(0), texts, modality, right)
    alike = torch.tensor([items[i].concept == items[int(j)].concept for i, j in enumerate(other)])
    single = [
        is_single_token(model.tokenizer, name if text.endswith(GLUED) else f" {name}", "exact")
        for name, text in ((item.names[code][0], t) for item, code, t in zip(items, languages, texts, strict=True))
    ]
    return SpokeEvaluation(
        ranks[0],
        blind,
        ranks[1].masked_fill(alike, torch.nan),
        torch.tensor(single),
        keys=tuple(item.key for item in items),
        splits=tuple(splits),
        styles=tuple(item.style for item in items),
        concepts=tuple(item.concept for item in items),
        names=tuple(item.names[code][0] for item, code in zip(items, languages, strict=True)),
        predicted=tuple(printable(model.tokenizer, tops)),
        languages=tuple(languages),
        seed=seed,
        provenance=provenance_of(model, norm="final", data=f"{modality} items", seed=seed),
    )


def _ranks(
    model: Model,
    vectors: Float[Tensor, "item k d_model"],
    texts: Sequence[str],
    modality: str,
    targets: Sequence[Sequence[tuple[int, ...]]],
) -> tuple[list[Float[Tensor, " item"]], Int[Tensor, " item"]]:
    """For each list of targets, the rank of every item's best token, and the top-1 tokens."""
    readout = Readout(model)
    ranks: list[list[float]] = [[] for _ in targets]
    tops: list[int] = []
    with frozen(model) as lm:
        for start in range(0, len(texts), BATCH):
            chosen = slice(start, start + BATCH)
            logits = _last_logits(lm, readout, model, vectors[chosen], texts[chosen], modality)
            tops += logits.argmax(-1).tolist()
            for found, wanted in zip(ranks, targets, strict=True):
                found += [_rank(row, ids) for row, ids in zip(logits, wanted[chosen], strict=True)]
    return [torch.tensor(found) for found in ranks], torch.tensor(tops)


def _blind(
    model: Model,
    vectors: Float[Tensor, "k d_model"],
    texts: Sequence[str],
    modality: str,
    targets: Sequence[tuple[int, ...]],
) -> Float[Tensor, " item"]:
    """Rank of every item's best token if all texts contain the same vectors, which needs one prediction per text."""
    listed, readout = list(dict.fromkeys(texts)), Readout(model)
    with frozen(model) as lm:
        logits = _last_logits(lm, readout, model, vectors.expand(len(listed), -1, -1), listed, modality)
    rows = [logits[listed.index(text)] for text in texts]
    return torch.tensor([_rank(row, ids) for row, ids in zip(rows, targets, strict=True)])


def _rank(logits: Float[Tensor, " vocab"], accepted: tuple[int, ...]) -> float:
    """Number of tokens before the best accepted one."""
    return float((logits > logits[list(accepted)].max()).sum())


def _last_logits(
    lm: FrozenModel, readout: Readout, model: Model, vectors: Tensor, texts: Sequence[str], modality: str
) -> Tensor:
    rows = [layout(model, text, modality, vectors.shape[1]) for text in texts]
    tokens = padded([ids for ids, _, _ in rows], rows[0][0][0])
    states = lm(tokens, vectors.to(readout.device), torch.tensor([list(places) for _, places, _ in rows]))
    ends = torch.tensor([len(ids) - 1 for ids, _, _ in rows])
    last = states[torch.arange(len(rows)), ends]
    check_finite(last, "The last residual state")  # no logit is above NaN, so every rank would be 0
    return readout(last)
