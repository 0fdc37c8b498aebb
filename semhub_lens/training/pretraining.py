"""Pretraining without the language model: the hidden layer learns to tell names apart.

A linear classifier over all training names reads the projector's hidden layer. Both are trained together. Then the
classifier is discarded, or kept as the codes of a projector that has them. A step costs a hundredth of one through the
language model and is computed in bfloat16 if that model is. The language model is not involved, so this step does not
plant the words that a lens later reads at the vectors' positions.
"""

import math

import torch
from torch import nn

from semhub_lens.base.arguments import checked
from semhub_lens.base.errors import SemhubError
from semhub_lens.base.progress import tqdm
from semhub_lens.base.rng import generator
from semhub_lens.spokes.projector import Projector
from semhub_lens.training.sampler import PRIME, Sampler

BATCH = 128
WARMUP = 0.1
"""Share of the steps in which the learning rate rises; then it falls along a cosine."""


@checked
def pretrain(projector: Projector, sampler: Sampler, *, without: int | None = None, progress: bool = True) -> float:
    """Train the hidden layer as a classifier of names for `TrainingSettings.pretraining` steps.

    Args:
        projector: its norm, first layer and codes change in place.
        sampler: draws the items; with shuffled pairs, names are those of other items here too.
        without: a fold of the items to leave out; None takes all.
        progress: whether to show a bar.

    Returns:
        Mean cross-entropy of the last 50 steps, in nats; 0 without steps.

    Raises:
        SemhubError: a loss is not finite, an unknown fold, or features that the projector does not take.

    Example:
        >>> loss = pretrain(projector, sampler)  # doctest: +SKIP
    """
    settings = sampler.settings
    if without is not None and not 0 <= without < settings.folds:
        raise SemhubError(f"without={without} is no fold: the sampler has {settings.folds}, counted from 0.")
    given, taken = tuple(sampler.training_set.features.shape[2:]), (projector.shape.chunks, projector.shape.d_in)
    if given != taken:
        raise SemhubError(
            f"The projector takes features [chunk d] of the shape {taken}, but the sampler's have {given}."
        )
    classes = {name: i for i, name in enumerate(sampler.training_set.classes)}
    targets = torch.tensor([classes[listed[0]] for listed in sampler.named])
    device = next(projector.parameters()).device
    head = projector.code or _classifier(projector.shape.hidden, len(classes), settings.seed).to(device)
    learned = [*projector.norm.parameters(), *projector.enter.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    brief = next(sampler.model.parameters()).dtype == torch.bfloat16
    losses: list[float] = []
    for step in tqdm(range(settings.pretraining), desc="telling apart", disable=not progress, unit="step"):
        rng = generator(settings.seed * PRIME + PRIME // 2 + step)
        features, items = sampler.sample(rng, BATCH, without=without)
        shown = sampler.some(rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=brief):
            hidden = projector.hidden(features.to(device), shown)
            if settings.dropout:
                hidden = hidden * _mask(hidden.shape, settings.dropout, rng).to(device)
            logits = head(hidden if projector.shape.joint else hidden.mean(1))
        loss = nn.functional.cross_entropy(logits.float(), targets[items].to(device))
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise SemhubError(f"The loss of step {step} of the pretraining is {losses[-1]}. Lower the learning rate.")
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _share(step, settings.pretraining)
        optimiser.step()
    optimiser.zero_grad()  # gradients left here would count where the training clips its own
    return sum(losses[-50:]) / max(1, len(losses[-50:]))


def _classifier(hidden: int, classes: int, seed: int) -> nn.Linear:
    head = nn.Linear(hidden, classes, dtype=torch.float32)
    with torch.no_grad():
        head.weight.normal_(0.0, hidden**-0.5, generator=generator(seed))
        head.bias.zero_()
    return head


def _mask(size: torch.Size, rate: float, rng: torch.Generator) -> torch.Tensor:
    return (torch.rand(size, generator=rng, dtype=torch.float32) >= rate).float() / (1 - rate)


def _share(step: int, steps: int) -> float:
    """Share of the peak learning rate: up over a tenth of the steps, then down along a cosine."""
    rising = (step + 1) / (WARMUP * steps)
    falling = max(0.0, (step / steps - WARMUP) / (1 - WARMUP))
    return rising if rising < 1 else 0.5 * (1 + math.cos(math.pi * falling))
