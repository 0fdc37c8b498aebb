"""The training set of a projector, and the loss of a batch; see `training`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.stats import beta
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, is_index
from semhub_lens.base.fingerprints import fingerprint, values_fingerprint
from semhub_lens.base.results import check_finite
from semhub_lens.base.rng import derangement, generator
from semhub_lens.inputs.tokens import encode
from semhub_lens.model.facts import Model, output_transform
from semhub_lens.model.readout import Readout
from semhub_lens.model.weights import unembedding, unembedding_bias
from semhub_lens.spokes.layout import layout, require_templates
from semhub_lens.spokes.projector import Projector
from semhub_lens.training.frozen import FrozenModel, device_of, padded

EXPECTED = 500
"""Tokens that the model expects after each template, among the candidates."""
GLUED = ("：", "“")
"""Languages whose names follow without a space."""
Row = tuple[list[int], tuple[int, ...], int]
"""Token ids of a template with a name, the positions of the vectors, and where the name begins."""
PRIME = 1_000_003
"""Keeps the generators of different seeds apart."""


@checked
@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Features with names, from which a projector learns.

    Args:
        features: several views of every item.
        names: for every item, pairs of language and name.
        templates: texts with a placeholder, by language; a name follows with its space (none after Chinese).
        modality: "image" or "audio".

    Raises:
        SemhubError: names, templates or features that are missing or wrong.
    """

    features: Float[Tensor, "item view chunk d"]
    names: Sequence[Sequence[tuple[str, str]]]
    templates: Mapping[str, Sequence[str]]
    modality: str

    def __post_init__(self) -> None:
        if len(self.names) != len(self.features) or not len(self.names):
            raise SemhubError(f"Expected names for each of {len(self.features)} items, got {len(self.names)}.")
        for listed in self.names:
            if not listed or not all(code in self.templates and name.strip() for code, name in listed):
                raise SemhubError(
                    f"Every item needs a name, and every name's language a template. An item has the names {listed}; "
                    f"templates= has {', '.join(self.templates) or 'none'}."
                )
        require_templates(self.templates, self.modality)
        check_finite(self.features, "features=")

    @property
    def classes(self) -> list[tuple[str, str]]:
        """The items' different first names."""
        return sorted({listed[0] for listed in self.names})

    @property
    def hash(self) -> str:
        """Hash of features, names and templates."""
        each = [values_fingerprint(one) for one in self.features]  # item by item: a copy of all would be large
        return fingerprint([each, [list(n) for n in self.names], {k: list(v) for k, v in self.templates.items()}])


COUNT, SIZE = "a whole number, 0 or more", "a whole number, at least 1"
FITTING: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("steps", "batch", "candidates"), (SIZE, lambda value: is_index(value) and value >= 1)),
    **dict.fromkeys(("warmup", "regions", "pretraining"), (COUNT, lambda value: is_index(value) and value >= 0)),
    "folds": ("0, or a whole number of at least 2", lambda value: is_index(value) and (value == 0 or value >= 2)),
    "learning_rate": ("a finite number above 0", lambda value: 0 < value < math.inf),
    **dict.fromkeys(("weight_decay", "mixup"), ("a finite number, 0 or more", lambda value: 0 <= value < math.inf)),
    "dropout": ("a share below 1", lambda value: 0 <= value < 1),
    "english": ("a share from 0 to 1", lambda value: 0 <= value <= 1),
}
"""What settings may be, in words and as a test."""


@checked
@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training: all that the weights depend on besides the training set and the model.

    Raises:
        SemhubError: a number that nothing can be trained with, such as no steps or a dropout of 1.
    """

    steps: int = 2000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    dropout: float = 0.2
    candidates: int = 8000
    english: float = 0.5
    """Share of English names, if an item has names in several languages; share of English items, if each has one
    language.
    """
    regions: int = 0
    """Above 0: a step shows only this many of a picture's vectors, drawn at random, which shortens prompts (Liu et al.
    2023, PatchDropout). It needs a projector that is not joint. The last fifth of the steps shows all vectors; the
    pretraining never does.
    """
    mixup: float = 0.0
    """Above 0: the features of two items are mixed, with a share from Beta(mixup, mixup), and the name is that of one
    of them with the same odds (Zhang et al. 2018)."""
    summed: bool = False
    """Learn the log-likelihood of the whole name, the sum over its tokens. With their mean, the first token, the most
    informative one, weighs less in longer names. Losses are recorded as means in both cases.
    """
    pretraining: int = 0
    """First steps, in which the hidden layer learns to tell the names apart without the language model; see
    `pretraining`.
    """
    folds: int = 0
    """Above 1, with codes: the number of folds. In every second step the codes learn from classifiers that have not
    seen the item, one for each fold; see `stacking`.
    """
    seed: int = 0
    shuffle_pairs: bool = False
    """Train on names of other items: the null. Its results contain no knowledge of the pictures."""

    def __post_init__(self) -> None:
        for name, (wanted, fits) in FITTING.items():
            if not fits(getattr(self, name)):
                raise SemhubError(f"{name}={getattr(self, name)!r} is no setting to train with: expected {wanted}.")
        generator(self.seed)


class Batch(NamedTuple):
    """The data of one step."""

    features: Float[Tensor, "batch chunk d"]
    items: Int[Tensor, " batch"]
    rows: list[Row]


class Sampler:
    """Batches and their loss for one model and one training set."""

    def __init__(self, model: Model, training_set: TrainingSet, settings: TrainingSettings, count: int) -> None:
        self.model, self.training_set, self.settings = model, training_set, settings
        self._rows: dict[tuple[str, str, int], Row] = {}
        self._count = count
        items = len(training_set.names)
        order = derangement(items, generator(settings.seed)) if settings.shuffle_pairs else torch.arange(items)
        self.named = [training_set.names[int(i)] for i in order]
        self._odds = self._item_odds()
        self.fold = self._dealt()

    def _dealt(self) -> Int[Tensor, " item"]:
        """The fold of each item: the items of one name go to the folds in turn; -1 for the only item of a name."""
        fold = torch.full((len(self.named),), -1)
        if self.settings.folds:
            rng = generator(self.settings.seed)
            own: dict[tuple[str, str], list[int]] = {}
            for i in torch.randperm(len(self.named), generator=rng).tolist():
                own.setdefault(self.named[i][0], []).append(i)
            for count, items in enumerate(own.values()):
                if len(items) > 1:
                    fold[items] = (torch.arange(len(items)) + count) % self.settings.folds
        return fold

    def _item_odds(self) -> Tensor:
        """Relative frequency of each item in the draws."""
        english = torch.tensor([any(code == "en" for code, _ in listed) for listed in self.named])
        if english.all() or not english.any():
            return torch.ones(len(english), dtype=torch.float32)
        share = self.settings.english
        return torch.where(english, share / english.sum(), (1 - share) / (~english).sum())

    def stacked(self, step: int) -> bool:
        """Whether a step learns from classifiers that have not seen its items."""
        return bool(self.settings.folds) and step % 2 == 1

    def shown(self, step: int) -> list[int]:
        """The vectors that a step shows."""
        if step >= 0.8 * self.settings.steps:
            return list(range(self._count))
        return self.some(generator(self.settings.seed * PRIME - step - 1))

    def some(self, rng: torch.Generator) -> list[int]:
        """`TrainingSettings.regions` of the vectors, drawn at random; all if the setting does not apply."""
        few = self.settings.regions
        if not 0 < few < self._count:
            return list(range(self._count))
        return sorted(torch.randperm(self._count, generator=rng)[:few].tolist())

    def row(self, template: str, name: str, count: int | None = None) -> Row:
        """Token ids of a template with a name, the positions of `count` vectors and where the name begins."""
        count = self._count if count is None else count
        key = (template, name, count)
        if key not in self._rows:
            ids, positions, _ = layout(self.model, template, self.training_set.modality, count)
            target = encode(self.model.tokenizer, name if template.endswith(GLUED) else f" {name}")
            self._rows[key] = (ids + target, positions, len(ids))
        return self._rows[key]

    def draw(self, step: int) -> Batch:
        """The batch of a step: features, the items' indices and token rows."""
        rng = generator(self.settings.seed * PRIME + step)
        features, items = self.sample(rng, self.settings.batch, mixed=not self.stacked(step))
        count = len(self.shown(step))
        chance = torch.rand(self.settings.batch, 3, generator=rng, dtype=torch.float32).tolist()
        rows = []
        for item, (a, b, c) in zip(items.tolist(), chance, strict=True):
            english = [pair for pair in self.named[item] if pair[0] == "en"]
            pool = english if english and a < self.settings.english else self.named[item]
            language, name = pool[int(b * len(pool))]
            templates = self.training_set.templates[language]
            rows.append(self.row(templates[int(c * len(templates))], name, count))
        return Batch(features, items, rows)

    def sample(
        self, rng: torch.Generator, count: int, *, mixed: bool = True, without: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features of items drawn at random, one view each, and the items' indices.

        Args:
            rng: generator of the draw.
            count: number of items.
            mixed: whether `TrainingSettings.mixup` applies.
            without: a fold whose items are left out.
        """
        odds = self._odds if without is None else self._odds * (self.fold != without)
        items = torch.multinomial(odds, count, replacement=True, generator=rng)
        views = torch.randint(self.training_set.features.shape[1], items.shape, generator=rng)
        features = self.training_set.features[items, views].float()
        return self._mixed(features, items, rng) if mixed and self.settings.mixup > 0 else (features, items)

    def _mixed(self, features: Tensor, items: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mix every row with the next one; the name comes from one of the two."""
        alpha = self.settings.mixup
        share = torch.rand(len(items), generator=rng, dtype=torch.float32)
        share = torch.from_numpy(beta.ppf(share.double().numpy(), alpha, alpha)).float()
        mixed = share[:, None, None] * features + (1 - share[:, None, None]) * features.roll(1, 0)
        first = torch.rand(len(items), generator=rng, dtype=torch.float32) < share
        return mixed, torch.where(first, items, items.roll(1))

    def mask(self, step: int, projector: Projector) -> Tensor | None:
        """Dropout of the projector's hidden layer; none after classifiers that have not seen the item."""
        rate, shape = self.settings.dropout, projector.shape
        if rate == 0 or self.stacked(step):
            return None
        size = (self.settings.batch, shape.hidden) if shape.joint else (self.settings.batch, shape.chunks, shape.hidden)
        rng = generator(self.settings.seed * PRIME - step - 1)
        return (torch.rand(size, generator=rng, dtype=torch.float32) >= rate).float() / (1 - rate)

    def candidates(self) -> Int[Tensor, " candidate"]:
        """Token ids that the loss compares."""
        pairs = {(language, name) for listed in self.named for language, name in listed}
        found = {
            token
            for language, name in pairs
            for template in self.training_set.templates[language]
            for token in self.row(template, name)[0][self.row(template, name)[2] :]
        } | set(self._expected())
        rest = (token for token in range(int(self.model.cfg.d_vocab)) if token not in found)
        found |= {token for token, _ in zip(rest, range(self.settings.candidates - len(found)), strict=False)}
        return torch.tensor(sorted(found))

    def _expected(self) -> list[int]:
        ids: set[int] = set()
        with torch.no_grad():
            for template in (text for listed in self.training_set.templates.values() for text in listed):
                row = torch.tensor([layout(self.model, template, self.training_set.modality, 1)[0]])
                logits = self.model(row.to(device_of(self.model)), return_type="logits")[0, -1]
                ids |= set(logits.float().topk(min(EXPECTED, len(logits))).indices.tolist())
        return list(ids)


class Head:
    """Cross-entropy over candidate tokens, through the model's final norm and unembedding."""

    def __init__(self, model: Model, candidates: Int[Tensor, " candidate"]) -> None:
        self._model, self._readout = model, Readout(model, dtype="model")
        self._index = torch.full((int(model.cfg.d_vocab),), -1)
        self._index[candidates] = torch.arange(len(candidates))
        weight, bias = unembedding(model).detach(), unembedding_bias(model)
        self._weight = weight[:, candidates.to(weight.device)].T.contiguous().T
        self._bias = bias.detach()[candidates.to(bias.device)] if bias is not None else None

    def knows(self, tokens: Sequence[int]) -> bool:
        """Whether all tokens are candidates."""
        return bool((self._index[list(tokens)] >= 0).all())

    def __call__(self, states: Float[Tensor, "n d_model"], tokens: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Loss of each token, read from the state before it."""
        logits = self._readout.normed(states) @ self._weight
        logits = output_transform(self._model, logits if self._bias is None else logits + self._bias).float()
        return torch.nn.functional.cross_entropy(logits, self._index[tokens].to(logits.device), reduction="none")


def batch_loss(
    lm: FrozenModel, head: Head, vectors: Float[Tensor, "batch k d_model"], rows: Sequence[Row]
) -> Float[Tensor, " batch"]:
    """Mean loss of each row's name."""
    tokens = padded([ids for ids, _, _ in rows], rows[0][0][0])
    read = tokens[:, :-1]  # nothing is predicted after the last one
    positions = torch.tensor([list(places) for _, places, _ in rows])
    states = lm(read, vectors, positions)
    cells = [(i, j) for i, (ids, _, start) in enumerate(rows) for j in range(start, len(ids))]
    row, column = torch.tensor(cells).T
    losses = head(states[row, column - 1], tokens[row, column])
    sums = torch.zeros(len(rows), device=losses.device, dtype=torch.float32).index_add(0, row.to(losses.device), losses)
    return sums / torch.tensor([len(ids) - start for ids, _, start in rows], device=losses.device)
