r"""Training a projector: the language model's own loss on names, through its frozen blocks.

For a picture x with a name of tokens $t_1 \dots t_m$ after a template,

$$\mathcal L = -\frac1m \sum_j \log \frac{\exp z_{t_j}}{\sum_{c \in C} \exp z_c}$$

with the model's logits z at the position before each token and candidate tokens C. These are all tokens of the training
names, the tokens that the model itself expects after the templates, and the most common tokens of its vocabulary. With
`TrainingSettings.summed` the gradient is that of the sum over the name's tokens, without 1/m. The full vocabulary would
cost as much as the model. The loss is read at the name, after all blocks. So training does not directly plant the words
that a lens reads at the picture's positions.

Every step draws its batch from its own generator (seed and step). So a resumed run gives the same weights to the last
bit, on the same machine and number of threads.
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError, require_size
from semhub_lens.base.files import require_place, user_path
from semhub_lens.base.fingerprints import fingerprint
from semhub_lens.base.progress import tqdm
from semhub_lens.base.results import Result
from semhub_lens.model.facts import Model, provenance_of, require_model
from semhub_lens.model.weights import content_of
from semhub_lens.spokes.projector import Projector, Shape
from semhub_lens.training.checkpoints import restore, save
from semhub_lens.training.frozen import FrozenModel, device_of, frozen, input_norm
from semhub_lens.training.pretraining import pretrain
from semhub_lens.training.sampler import Head, Sampler, TrainingSet, TrainingSettings, batch_loss
from semhub_lens.training.stacking import OutOfFold


@dataclass(frozen=True, eq=False)
class TrainingCurve(Result):
    """Loss of every training step, and of checks on items outside the training."""

    losses: Float[Tensor, " step"]
    checks: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """By split: (step, loss). It is only watched; nothing is chosen by it."""
    window: int = 50

    @property
    def smooth(self) -> Float[Tensor, " step"]:
        """Mean over the last `window` steps (fewer at the start)."""
        sums = torch.cat([torch.zeros(1, dtype=torch.float32), self.losses.cumsum(0)])
        ends = torch.arange(1, len(sums))
        starts = (ends - self.window).clamp(min=0)
        return (sums[ends] - sums[starts]) / (ends - starts)

    def to_frame(self) -> pd.DataFrame:
        """A table with one row for each step and split."""
        train = pd.DataFrame({"step": range(1, len(self.losses) + 1), "split": "train", "loss": self.losses.numpy()})
        rows = [(step, split, loss) for split, points in self.checks.items() for step, loss in points]
        return pd.concat([train, pd.DataFrame(rows, columns=["step", "split", "loss"])], ignore_index=True)


def rate(settings: TrainingSettings, step: int) -> float:
    """Learning rate of a step: a linear warm-up, then a cosine down to a hundredth."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


@checked
def train(
    model: Model,
    training_set: TrainingSet,
    settings: TrainingSettings,
    *,
    hidden: int = 512,
    embeddings: int = 4,
    joint: bool = True,
    standardised: bool = True,
    codes: bool = False,
    rank: int = 0,
    folder: str | Path | None = None,
    checks: Mapping[str, TrainingSet] | None = None,
    every: int = 100,
    progress: bool = True,
) -> tuple[Projector, TrainingCurve]:
    """Train a projector through a frozen language model.

    Args:
        model: any TransformerLens model; bfloat16 weights make a step several times faster on processors with bfloat16
            arithmetic.
        training_set: features and names to learn from.
        settings: settings of the training.
        hidden: size of the projector's hidden layer.
        embeddings: vectors of one picture or clip in the prompt.
        joint: see `Shape`.
        standardised: see `Shape`.
        codes: whether vectors are mixtures of codes, one for each name. Then only the codes learn through the language
            model; telling the names apart comes from the pretraining alone.
        rank: see `Shape`.
        folder: folder of the checkpoint, from which a stopped run resumes; None writes none.
        checks: training sets whose loss is watched, by split.
        every: steps between checkpoints and checks.
        progress: whether to show a bar.

    Returns:
        The projector, with weights rounded to half precision as in its file, and the curve.

    Raises:
        SemhubError: the folder has a checkpoint of other settings, a loss is not finite, `regions` comes with a joint
            projector, `codes` without pretraining, folds without codes, or checks have other features.

    Example:
        >>> items = plan.training_set(plan.split.train)  # doctest: +SKIP
        >>> projector, curve = train(model, items, TrainingSettings(steps=200), folder="runs/vision")  # doctest: +SKIP
    """
    require_model(model)
    require_size("every", every)
    checks = dict(checks or {})
    for split, held in checks.items():
        if held.features.shape[2:] != training_set.features.shape[2:]:
            shapes = f"{tuple(held.features.shape)} and {tuple(training_set.features.shape)}"
            raise SemhubError(f"checks= has {split!r} with other features than the training set: the shapes {shapes}.")
    if folder is not None:
        require_place(user_path(folder))
    if joint and settings.regions:
        raise SemhubError(f"regions={settings.regions} needs a projector with one vector for each region: joint=False.")
    if codes and not settings.pretraining:
        raise SemhubError(
            "codes=True needs pretraining steps (pretraining=), because nothing else teaches the codes to tell names "
            "apart."
        )
    if settings.folds and (settings.folds < 2 or not codes):
        raise SemhubError(f"folds={settings.folds}: stacking needs at least 2 folds and codes=True.")
    _, _, chunks, d_in = training_set.features.shape
    shape = Shape(chunks, d_in, int(model.cfg.d_model), hidden, embeddings, joint, standardised)
    shape = replace(shape, codes=len(training_set.classes) if codes else 0, rank=rank)
    scale = input_norm(model, [text.replace(f"<{training_set.modality}>", "") for text in training_set.templates["en"]])
    projector = Projector(shape, scale, settings.seed).to(device_of(model))
    if standardised:
        projector.standardise(training_set.features[:, 0])
    told = {"norm", "enter", "code"} if codes else set()
    moved = [parameter for name, parameter in projector.named_parameters() if name.partition(".")[0] not in told]
    optimiser = torch.optim.AdamW(moved, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    sampler = Sampler(model, training_set, settings, embeddings)
    identity = _identity(model, training_set, settings, shape, every, checks)
    start = deepcopy(projector)
    history = restore(folder, identity, projector, optimiser)
    steps = range(len(history["train"]), settings.steps)
    if not steps:  # killed after its last step
        return projector.rounded().cpu(), _curve(model, history, settings, every, training_set)
    out_of_fold = OutOfFold(start, sampler, progress=progress) if settings.folds else None
    if not steps.start:
        pretrain(projector, sampler, progress=progress)
    for parameter in projector.parameters():
        parameter.requires_grad_(any(parameter is one for one in moved))
    head = Head(model, sampler.candidates())
    with frozen(model) as lm, tqdm(total=settings.steps, initial=steps.start, disable=not progress) as bar:
        for step in steps:
            history["train"].append(_step(lm, head, sampler, projector, out_of_fold, optimiser, step))
            bar.update()
            bar.set_postfix(loss=f"{history['train'][-1]:.2f}", refresh=False)
            if (step + 1) % every == 0 or step + 1 == settings.steps:
                for split, held in checks.items():
                    history.setdefault(split, []).append(_check(lm, head, model, held, settings, projector))
                save(folder, identity, projector, optimiser, history)
    return projector.rounded().cpu(), _curve(model, history, settings, every, training_set)


def _step(
    lm: FrozenModel,
    head: Head,
    sampler: Sampler,
    projector: Projector,
    out_of_fold: OutOfFold | None,
    optimiser: Any,
    step: int,
) -> float:
    batch = sampler.draw(step)
    features = batch.features.to(next(projector.parameters()).device)
    mask = sampler.mask(step, projector)
    for group in optimiser.param_groups:
        group["lr"] = rate(sampler.settings, step)
    if out_of_fold is not None and sampler.stacked(step):
        vectors = projector.vectors(out_of_fold.shares(features, batch.items))
    else:
        vectors = projector(features, mask if mask is None else mask.to(features.device))
    losses = batch_loss(lm, head, vectors[:, sampler.shown(step)], batch.rows)
    lengths = torch.tensor([len(ids) - first for ids, _, first in batch.rows], device=losses.device)
    loss = (losses * lengths if sampler.settings.summed else losses).mean()
    if not math.isfinite(value := float(losses.detach().mean())):
        raise SemhubError(f"The loss of step {step} is {value}. Lower the learning rate or use float32.")
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
    optimiser.step()
    return value


@torch.no_grad()
def _check(
    lm: FrozenModel, head: Head, model: Model, held: TrainingSet, settings: TrainingSettings, projector: Projector
) -> float:
    sampler = Sampler(model, held, settings, projector.shape.embeddings)
    device = next(projector.parameters()).device
    rows = [sampler.row(held.templates[pairs[0][0]][0], pairs[0][1]) for pairs in held.names]
    losses = []
    for start in range(0, len(rows), settings.batch):
        chosen = slice(start, start + settings.batch)
        vectors = projector(held.features[chosen, 0].float().to(device))
        known = [head.knows(ids[first:]) for ids, _, first in rows[chosen]]
        losses.append(batch_loss(lm, head, vectors[known], [r for r, k in zip(rows[chosen], known, strict=True) if k]))
    return float(torch.cat(losses).mean())


def _identity(
    model: Model,
    training_set: TrainingSet,
    settings: TrainingSettings,
    shape: Shape,
    every: int,
    checks: Mapping[str, TrainingSet],
) -> str:
    provenance = provenance_of(model)
    return fingerprint(
        [
            content_of(model),
            provenance.dtype,
            provenance.device,
            training_set.hash,
            asdict(settings),
            asdict(shape),
            every,
            {split: held.hash for split, held in checks.items()},
        ]
    )


def _curve(
    model: Model, history: dict[str, list[float]], settings: TrainingSettings, every: int, training_set: TrainingSet
) -> TrainingCurve:
    ends = [*range(every, settings.steps + 1, every)]
    ends += [settings.steps] if settings.steps % every else []
    checks = {k: tuple(zip(ends, v, strict=True)) for k, v in history.items() if k != "train"}
    provenance = provenance_of(
        model, data=f"{training_set.modality} training set", data_hash=training_set.hash, seed=settings.seed
    )
    return TrainingCurve(torch.tensor(history["train"], dtype=torch.float32), checks, provenance=provenance)
