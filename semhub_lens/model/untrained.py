"""A model of the same shape with random weights: the baseline for what an architecture does without training."""

import copy

import torch

from semhub_lens.base.rng import generator
from semhub_lens.model.facts import Model, require_model


@torch.no_grad()
def untrained(model: Model, *, seed: int) -> Model:
    """Copy a model and draw its weights anew.

    Every matrix, the embedding and the unembedding included, is replaced by Gaussian noise with the mean and standard
    deviation of the trained one; norm gains and biases are kept. So states keep their scale, and what the weights
    learned is gone.

    Args:
        model: any TransformerLens model; it is left as it is. The copy needs as much memory again.
        seed: of the noise.

    Raises:
        SemhubError: not a TransformerLens model.

    Example:
        >>> random = untrained(tiny_model, seed=0)
        >>> bool((random.W_U == tiny_model.W_U).all())
        False
    """
    require_model(model)
    tokenizer = getattr(model, "tokenizer", None)
    drawn = copy.deepcopy(model, {id(tokenizer): tokenizer})
    for index, parameter in enumerate(drawn.parameters()):
        if parameter.ndim < 2 or parameter.std() == 0:
            continue
        exact = parameter.double()  # so that the float32 values do not depend on the number of threads
        noise = torch.randn(parameter.shape, generator=generator(seed + 7919 * index))
        parameter.copy_((noise * exact.std().float().cpu() + exact.mean().float().cpu()).to(parameter))
    drawn.cfg.model_name = f"{model.cfg.model_name} (random weights)"
    return drawn
